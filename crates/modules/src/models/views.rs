//! What `models` shows.

use alloy_primitives::{B256, U256, keccak256};
use assay_abi::{IErrors, IModels};
use assay_storage::Storage;

use super::{LineageRecord, Models};
use crate::clock;
use crate::error::{Ruling, require};

impl Models {
    pub(super) fn view(&self, storage: &mut dyn Storage, model_id: B256) -> Ruling<IModels::Model> {
        let facts = self.facts(storage, model_id)?;
        let record = self.models.at(&model_id);
        Ok(IModels::Model {
            modelId: model_id,
            lineage: facts.lineage,
            versionNumber: record.version.read(storage)?,
            graphRoot: record.graph_root.read(storage)?,
            tablesRoot: facts.tables_root,
            weightsRoot: facts.weights_root,
            nodeCount: record.node_count.read(storage)?,
            maxSeq: facts.max_seq,
            semantics: facts.semantics,
            singleShot: record.single_shot.read(storage)?,
            price: record.price.read(storage)?,
            registeredAt: record.registered_at.read(storage)?,
            structureHash: facts.structure,
            uri: record.uri.read_string(storage)?,
        })
    }

    pub(super) fn view_lineage(
        &self,
        storage: &mut dyn Storage,
        lineage: B256,
    ) -> Ruling<IModels::Lineage> {
        let known = self.is_lineage(storage, lineage)?;
        require(known, || IModels::UnknownLineage { lineage })?;
        let record = self.lineages.at(&lineage);
        let now = clock::now(storage)?;
        let pending_from = record.pending_from.read(storage)?;
        let waiting = pending_from > now;
        Ok(IModels::Lineage {
            lineage,
            name: record.name.read_string(storage)?,
            maker: record.maker.read(storage)?,
            commissionBps: self.commission_at(storage, &record, now)?,
            pendingCommissionBps: if waiting {
                record.pending_bps.read(storage)?
            } else {
                0
            },
            commissionFrom: if waiting { pending_from } else { 0 },
            versions: u32::try_from(record.versions.len(storage)?).unwrap_or(u32::MAX),
            latest: self.latest(storage, &record)?,
        })
    }

    pub(super) fn latest(&self, storage: &mut dyn Storage, record: &LineageRecord) -> Ruling<B256> {
        let last = record.versions.len(storage)?.saturating_sub(1);
        Ok(record.versions.at(last).read(storage)?)
    }

    pub(super) fn by_name(&self, storage: &mut dyn Storage, name: &str) -> Ruling<IModels::Model> {
        let lineage = keccak256(name.as_bytes());
        let model_id = self.view_lineage(storage, lineage)?.latest;
        self.view(storage, model_id)
    }

    pub(super) fn version_of(
        &self,
        storage: &mut dyn Storage,
        lineage: B256,
        number: u32,
    ) -> Ruling<B256> {
        let record = self.lineages.at(&lineage);
        let count = record.versions.len(storage)?;
        let value = U256::from(number);
        let high = U256::from(count);
        let bounds = || IErrors::OutOfBounds {
            what: "version".to_string(),
            value,
            low: U256::ONE,
            high,
        };
        require(number >= 1 && u64::from(number) <= count, bounds)?;
        Ok(record
            .versions
            .at(u64::from(number).saturating_sub(1))
            .read(storage)?)
    }
}

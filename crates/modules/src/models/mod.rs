//! `models`: registry by content hash.
//!
//! A model is named by the hash of its graph, tables and weights, which the arbiter computes from the structure after
//! checking its caps; nobody chooses a model id. A name founds a lineage owned by its maker; later registrations under
//! the name are its versions and feed the same staking pool. Old versions stay callable by id.

pub(crate) mod dispatch;
mod keys;
mod parts;
mod views;

use alloy_primitives::{Address, B256, U256, keccak256};
use alloy_sol_types::SolEvent;
use assay_abi::{IErrors, IModels, MODELS};
use assay_storage::{BytesLike, Cursor, List, Mapping, Place, Slot, Storage, layout};

use crate::error::{Ruling, require, revert};
use crate::parameters::Parameters;
use crate::{Arbiter, RunSize, clock};

pub(crate) use keys::read_statement;

/// Longest name, bytes. Names are lower-case letters, digits, and `-`, `_`, `.`, `/`, `:`.
pub const MAX_NAME: usize = 96;
/// Longest uri, bytes.
pub const MAX_URI: usize = 512;
/// Longest page of a list.
pub const MAX_PAGE: u64 = 256;
/// Gas of inspecting one byte of a structure (decoding and bounds; a bound, not yet a benchmark).
pub const INSPECT_GAS_PER_BYTE: u64 = 100;
/// Highest maker's commission, basis points.
pub const MAX_COMMISSION: u64 = 6_000;

layout! {
    /// A registered model.
    pub struct ModelRecord {
        /// keccak256 of the lineage's name; zero for unknown models.
        pub lineage: Slot<B256>,
        /// Root over nodes.
        pub graph_root: Slot<B256>,
        /// Root over tables.
        pub tables_root: Slot<B256>,
        /// Root over weights.
        pub weights_root: Slot<B256>,
        /// Position in the lineage, from 1.
        pub version: Slot<u32>,
        /// Nodes of the graph.
        pub node_count: Slot<u32>,
        /// Most positions of a run.
        pub max_seq: Slot<u32>,
        /// Version of operator semantics.
        pub semantics: Slot<u32>,
        /// Every block can be recomputed whole in one transaction.
        pub single_shot: Slot<bool>,
        /// Chain milliseconds.
        pub registered_at: Slot<u64>,
        /// usd base units per call.
        pub price: Slot<u128>,
        /// Key into `structures`.
        pub structure: Slot<B256>,
        /// Licence, manifest, or where the weights are.
        pub uri: BytesLike,
    }
}

layout! {
    /// A lineage of versions under one name.
    pub struct LineageRecord {
        /// Owner; zero for unknown lineages.
        pub maker: Slot<Address>,
        /// Maker's part of the model share.
        pub commission_bps: Slot<u16>,
        /// Higher commission to come.
        pub pending_bps: Slot<u16>,
        /// Chain milliseconds from which it holds; 0 if none is pending.
        pub pending_from: Slot<u64>,
        /// Its name.
        pub name: BytesLike,
        /// Model ids in order of registration.
        pub versions: List<Slot<B256>>,
    }
}

layout! {
    /// A model's proof key. Its bytes are kept outside of slots, part by part.
    pub struct ProofKeyRecord {
        /// Hash of the key; zero if none is set or announced.
        pub key_id: Slot<B256>,
        /// Bytes of the key.
        pub length: Slot<u32>,
        /// Parts that are not here.
        pub missing: Slot<u32>,
        /// Chain milliseconds at which the last part came; 0 before.
        pub set_at: Slot<u64>,
        /// Bit i: part i is here.
        pub here: Slot<U256>,
        /// keccak256 of each part.
        pub hashes: Mapping<u64, Slot<B256>>,
    }
}

layout! {
    /// Storage of the module.
    pub struct Models {
        /// Models by id.
        pub models: Mapping<B256, ModelRecord>,
        /// Lineages by keccak256 of their name.
        pub lineages: Mapping<B256, LineageRecord>,
        /// Canonical structures by their keccak256, stored once.
        pub structures: Mapping<B256, BytesLike>,
        /// Leaves of the committed tree by model and size of the run (`nIn * 2^32 + nOut`), as the arbiter counted them;
        /// 0 if never asked.
        pub leaves: Mapping<B256, Mapping<u64, Slot<u64>>>,
        /// All model ids in order of registration.
        pub all: List<Slot<B256>>,
        /// All lineages in order of founding.
        pub all_lineages: List<Slot<B256>>,
        /// Proof keys as they were before they had parts; not read any more.
        pub former_proof_keys: Mapping<B256, Slot<B256>>,
        /// Key id to operator to its word that it made this key from the weights.
        pub attested: Mapping<B256, Mapping<Address, Slot<bool>>>,
        /// Number of those operators.
        pub attesters: Mapping<B256, Slot<u32>>,
        /// Proof keys by model.
        pub proof_keys: Mapping<B256, ProofKeyRecord>,
    }
}

/// What claims and disputes need of a model.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ModelFacts {
    pub(crate) lineage: B256,
    pub(crate) tables_root: B256,
    pub(crate) weights_root: B256,
    pub(crate) semantics: u32,
    pub(crate) max_seq: u32,
    pub(crate) structure: B256,
}

fn emit(storage: &mut dyn Storage, event: &impl SolEvent) -> Ruling<()> {
    Ok(storage.emit(MODELS, event.encode_log_data())?)
}

fn check_name(name: &str) -> Ruling<()> {
    let allowed = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit() || b"-_./:".contains(&c);
    let good = !name.is_empty() && name.len() <= MAX_NAME && name.bytes().all(allowed);
    require(good, || IModels::BadName {
        length: U256::from(name.len()),
        limit: U256::from(MAX_NAME),
    })
}

fn check_uri(uri: &str) -> Ruling<()> {
    let (length, limit) = (U256::from(uri.len()), U256::from(MAX_URI));
    require(length <= limit, || IModels::UriTooLong { length, limit })
}

impl Models {
    /// At its address.
    pub fn new() -> Self {
        Self::place(&mut Cursor::new(MODELS))
    }

    fn register(
        &self,
        storage: &mut dyn Storage,
        arbiter: &dyn Arbiter,
        caller: Address,
        call: &IModels::registerCall,
    ) -> Ruling<B256> {
        check_name(&call.name)?;
        check_uri(&call.uri)?;
        let limit = Parameters::new().max_structure_bytes.read(storage)?;
        let length = call.structure.len() as u64;
        require(length <= limit, || IModels::StructureTooLong {
            length: U256::from(length),
            limit: U256::from(limit),
        })?;
        storage.charge(length.saturating_mul(INSPECT_GAS_PER_BYTE))?;
        let info = arbiter
            .inspect(&call.structure, call.tablesRoot, call.weightsRoot)
            .map_err(|reason| revert(IModels::ModelRefused { reason }))?;
        let model_id = info.model_id;
        let record = self.models.at(&model_id);
        require(record.lineage.read(storage)?.is_zero(), || {
            IModels::ModelExists { modelId: model_id }
        })?;
        let lineage = keccak256(call.name.as_bytes());
        let version = self.enter_lineage(storage, lineage, caller, &call.name, model_id)?;
        let structure = keccak256(&call.structure);
        let stored = self.structures.at(&structure);
        if stored.is_empty(storage)? {
            stored.write(storage, &call.structure)?;
        }
        record.lineage.write(storage, lineage)?;
        record.graph_root.write(storage, info.graph_root)?;
        record.tables_root.write(storage, call.tablesRoot)?;
        record.weights_root.write(storage, call.weightsRoot)?;
        record.version.write(storage, version)?;
        record.node_count.write(storage, info.node_count)?;
        record.max_seq.write(storage, info.max_seq)?;
        record.semantics.write(storage, info.semantics)?;
        record.single_shot.write(storage, info.single_shot)?;
        let now = clock::now(storage)?;
        record.registered_at.write(storage, now)?;
        record.price.write(storage, call.price)?;
        record.structure.write(storage, structure)?;
        record.uri.write(storage, call.uri.as_bytes())?;
        self.all.append(storage, model_id)?;
        let event = IModels::ModelRegistered {
            modelId: model_id,
            lineage,
            versionNumber: version,
            price: call.price,
            uri: call.uri.clone(),
        };
        emit(storage, &event)?;
        Ok(model_id)
    }

    /// Founds the lineage or checks that the caller owns it; returns the new version's number.
    fn enter_lineage(
        &self,
        storage: &mut dyn Storage,
        lineage: B256,
        caller: Address,
        name: &str,
        model_id: B256,
    ) -> Ruling<u32> {
        let record = self.lineages.at(&lineage);
        let maker = record.maker.read(storage)?;
        if maker.is_zero() {
            let commission = Parameters::new().default_commission_bps.read(storage)?;
            let commission = u16::try_from(commission).unwrap_or(u16::MAX);
            record.maker.write(storage, caller)?;
            record.commission_bps.write(storage, commission)?;
            record.name.write(storage, name.as_bytes())?;
            self.all_lineages.append(storage, lineage)?;
            let event = IModels::LineageCreated {
                lineage,
                maker: caller,
                name: name.to_string(),
                commissionBps: commission,
            };
            emit(storage, &event)?;
        } else {
            require(maker == caller, || IModels::NameTaken {
                name: name.to_string(),
                maker,
            })?;
        }
        record.versions.append(storage, model_id)?;
        let version = record.versions.len(storage)?;
        u32::try_from(version).map_err(|_| {
            revert(IErrors::Overflow {
                operation: "versions".to_string(),
            })
        })
    }

    fn owned_model(
        &self,
        storage: &mut dyn Storage,
        model_id: B256,
        caller: Address,
    ) -> Ruling<ModelRecord> {
        let record = self.models.at(&model_id);
        let lineage = record.lineage.read(storage)?;
        require(!lineage.is_zero(), || IModels::UnknownModel {
            modelId: model_id,
        })?;
        self.owned_lineage(storage, lineage, caller)?;
        Ok(record)
    }

    fn owned_lineage(
        &self,
        storage: &mut dyn Storage,
        lineage: B256,
        caller: Address,
    ) -> Ruling<LineageRecord> {
        let record = self.lineages.at(&lineage);
        let owner = record.maker.read(storage)?;
        require(!owner.is_zero(), || IModels::UnknownLineage { lineage })?;
        require(owner == caller, || IErrors::Unauthorized { caller, owner })?;
        Ok(record)
    }

    fn set_price(
        &self,
        storage: &mut dyn Storage,
        caller: Address,
        model_id: B256,
        price: u128,
    ) -> Ruling<()> {
        self.owned_model(storage, model_id, caller)?
            .price
            .write(storage, price)?;
        emit(
            storage,
            &IModels::PriceChanged {
                modelId: model_id,
                price,
            },
        )
    }

    fn set_uri(
        &self,
        storage: &mut dyn Storage,
        caller: Address,
        model_id: B256,
        uri: &str,
    ) -> Ruling<()> {
        check_uri(uri)?;
        self.owned_model(storage, model_id, caller)?
            .uri
            .write(storage, uri.as_bytes())?;
        emit(
            storage,
            &IModels::UriChanged {
                modelId: model_id,
                uri: uri.to_string(),
            },
        )
    }

    fn set_maker(
        &self,
        storage: &mut dyn Storage,
        caller: Address,
        lineage: B256,
        maker: Address,
    ) -> Ruling<()> {
        let record = self.owned_lineage(storage, lineage, caller)?;
        require(!maker.is_zero(), || IErrors::Unauthorized {
            caller: maker,
            owner: caller,
        })?;
        record.maker.write(storage, maker)?;
        emit(storage, &IModels::MakerChanged { lineage, maker })
    }

    /// A lower commission holds at once; a higher one, by one step at most, after the notice, so that stakers may leave.
    fn set_commission(
        &self,
        storage: &mut dyn Storage,
        caller: Address,
        lineage: B256,
        want: u16,
    ) -> Ruling<()> {
        let record = self.owned_lineage(storage, lineage, caller)?;
        let high = U256::from(MAX_COMMISSION);
        let bounds = || IErrors::OutOfBounds {
            what: "commissionBps".to_string(),
            value: U256::from(want),
            low: U256::ZERO,
            high,
        };
        require(u64::from(want) <= MAX_COMMISSION, bounds)?;
        let now = clock::now(storage)?;
        let have = self.commission_at(storage, &record, now)?;
        record.commission_bps.write(storage, have)?;
        record.pending_bps.write(storage, 0)?;
        record.pending_from.write(storage, 0)?;
        let mut from = now;
        if want <= have {
            record.commission_bps.write(storage, want)?;
        } else {
            let step = Parameters::new().commission_step_bps.read(storage)?;
            let step = u16::try_from(step).unwrap_or(u16::MAX);
            require(want <= have.saturating_add(step), || {
                IModels::CommissionStep {
                    have,
                    want,
                    maxStep: step,
                }
            })?;
            from = now.saturating_add(Parameters::new().commission_notice_ms.read(storage)?);
            record.pending_bps.write(storage, want)?;
            record.pending_from.write(storage, from)?;
        }
        emit(
            storage,
            &IModels::CommissionChanged {
                lineage,
                commissionBps: want,
                from,
            },
        )
    }

    fn commission_at(
        &self,
        storage: &mut dyn Storage,
        record: &LineageRecord,
        now: u64,
    ) -> Ruling<u16> {
        let from = record.pending_from.read(storage)?;
        let slot = if from != 0 && now >= from {
            record.pending_bps
        } else {
            record.commission_bps
        };
        Ok(slot.read(storage)?)
    }

    /// Maker and its commission now.
    pub(crate) fn maker(&self, storage: &mut dyn Storage, lineage: B256) -> Ruling<(Address, u16)> {
        let record = self.lineages.at(&lineage);
        let now = clock::now(storage)?;
        let commission = self.commission_at(storage, &record, now)?;
        Ok((record.maker.read(storage)?, commission))
    }

    pub(crate) fn is_lineage(&self, storage: &mut dyn Storage, lineage: B256) -> Ruling<bool> {
        Ok(!self.lineages.at(&lineage).maker.read(storage)?.is_zero())
    }

    pub(crate) fn facts(&self, storage: &mut dyn Storage, model_id: B256) -> Ruling<ModelFacts> {
        let record = self.models.at(&model_id);
        let lineage = record.lineage.read(storage)?;
        require(!lineage.is_zero(), || IModels::UnknownModel {
            modelId: model_id,
        })?;
        Ok(ModelFacts {
            lineage,
            tables_root: record.tables_root.read(storage)?,
            weights_root: record.weights_root.read(storage)?,
            semantics: record.semantics.read(storage)?,
            max_seq: record.max_seq.read(storage)?,
            structure: record.structure.read(storage)?,
        })
    }

    pub(crate) fn structure(&self, storage: &mut dyn Storage, key: B256) -> Ruling<Vec<u8>> {
        Ok(self.structures.at(&key).read(storage)?)
    }

    /// Leaves of the committed tree of a run: counted by the arbiter once, then remembered.
    pub(crate) fn committed_leaves(
        &self,
        storage: &mut dyn Storage,
        arbiter: &dyn Arbiter,
        model_id: B256,
        facts: &ModelFacts,
        size: RunSize,
    ) -> Ruling<u64> {
        let key = (u64::from(size.n_in) << 32) | u64::from(size.n_out);
        let slot = self.leaves.at(&model_id).at(&key);
        let known = slot.read(storage)?;
        if known > 0 {
            return Ok(known);
        }
        let structure = self.structure(storage, facts.structure)?;
        storage.charge((structure.len() as u64).saturating_mul(INSPECT_GAS_PER_BYTE))?;
        let counted = arbiter
            .committed_leaves(&structure, size)
            .map_err(|reason| revert(assay_abi::IDisputes::ArbiterRefused { reason }))?;
        slot.write(storage, counted)?;
        Ok(counted)
    }
}

impl Default for Models {
    fn default() -> Self {
        Self::new()
    }
}

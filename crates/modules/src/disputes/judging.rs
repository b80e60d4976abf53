//! Where the arbiter is asked: segments, one element, one block.

use alloy_primitives::{Address, B256, U256};
use assay_abi::IDisputes;
use assay_storage::Storage;

use super::moves::{check_length, check_list};
use super::{Disputes, MAX_BLOCK_EVIDENCE, MAX_EVIDENCE, MAX_FLAT, Table, emit, stage};
use crate::Arbiter;
use crate::arbiter::{Case, RunSize, SegmentInfo, Verdict};
use crate::claims::{ClaimRecord, Claims};
use crate::error::{Ruling, require, revert};
use crate::models::{INSPECT_GAS_PER_BYTE, ModelFacts, Models};

/// The disputed leaf and what the sides supplied.
struct Exhibit<'a> {
    segment: Option<(u32, B256)>,
    leaf: u64,
    leaf_hash: B256,
    block: Option<&'a [u8]>,
    evidence: &'a [u8],
}

fn size_of(storage: &mut dyn Storage, claim: &ClaimRecord) -> Ruling<RunSize> {
    Ok(RunSize {
        n_in: claim.n_in.read(storage)?,
        n_out: claim.n_out.read(storage)?,
    })
}

impl Disputes {
    fn model_of(
        &self,
        storage: &mut dyn Storage,
        claim: &ClaimRecord,
    ) -> Ruling<(ModelFacts, Vec<u8>)> {
        let model_id = claim.model_id.read(storage)?;
        let facts = Models::new().facts(storage, model_id)?;
        let structure = Models::new().structure(storage, facts.structure)?;
        storage.charge((structure.len() as u64).saturating_mul(INSPECT_GAS_PER_BYTE))?;
        Ok((facts, structure))
    }

    /// The segment that a committed leaf closes.
    pub(super) fn segment_of(
        &self,
        storage: &mut dyn Storage,
        arbiter: &dyn Arbiter,
        claim: &ClaimRecord,
        leaf: u64,
    ) -> Ruling<SegmentInfo> {
        let (_, structure) = self.model_of(storage, claim)?;
        let size = size_of(storage, claim)?;
        arbiter
            .segment_of(&structure, size, leaf)
            .map_err(|reason| revert(IDisputes::ArbiterRefused { reason }))
    }

    fn judge(
        &self,
        storage: &mut dyn Storage,
        arbiter: &dyn Arbiter,
        claim: &ClaimRecord,
        exhibit: &Exhibit<'_>,
    ) -> Ruling<Verdict> {
        let (facts, structure) = self.model_of(storage, claim)?;
        storage.charge(arbiter.gas(&structure, exhibit.evidence))?;
        let case = Case {
            structure: &structure,
            tables_root: facts.tables_root,
            weights_root: facts.weights_root,
            size: size_of(storage, claim)?,
            sampling_hash: claim.sampling_hash.read(storage)?,
            mask_root: claim.mask_root.read(storage)?,
            input_commit: claim.input_commit.read(storage)?,
            output_commit: claim.output_commit.read(storage)?,
            trace_root: claim.trace_root.read(storage)?,
            segment: exhibit.segment,
            leaf: exhibit.leaf,
            leaf_hash: exhibit.leaf_hash,
            block: exhibit.block,
            evidence: exhibit.evidence,
        };
        arbiter
            .judge(&case)
            .map_err(|reason| revert(IDisputes::BadEvidence { reason }))
    }

    /// The disputed leaf is the output commitment, which is judged without an opening.
    fn is_output_leaf(&self, storage: &mut dyn Storage, table: &Table) -> Ruling<bool> {
        let last = table.claim.n_leaves.read(storage)?.saturating_sub(1);
        let in_segment = table.dispute.in_segment.read(storage)?;
        Ok(!in_segment && table.dispute.committed_leaf.read(storage)? == last)
    }

    /// Challenger: evidence for one element of the opened block. The verdict closes the dispute.
    pub(super) fn prove_element(
        &self,
        storage: &mut dyn Storage,
        arbiter: &dyn Arbiter,
        caller: Address,
        id: U256,
        block: &[u8],
        evidence: &[u8],
    ) -> Ruling<()> {
        let table = self.begin_move(storage, id, caller, stage::PROVE)?;
        check_length("evidence", evidence.len(), MAX_EVIDENCE)?;
        let block = if self.is_output_leaf(storage, &table)? {
            check_length("block", block.len(), 0)?;
            None
        } else {
            self.check_block(storage, &table, block)?;
            Some(block)
        };
        let dispute = &table.dispute;
        let segment = if dispute.in_segment.read(storage)? {
            Some((dispute.segment.read(storage)?, dispute.root.read(storage)?))
        } else {
            None
        };
        let (leaf, leaf_hash) = (dispute.index.read(storage)?, dispute.node.read(storage)?);
        let exhibit = Exhibit {
            segment,
            leaf,
            leaf_hash,
            block,
            evidence,
        };
        let verdict = self.judge(storage, arbiter, &table.claim, &exhibit)?;
        self.decide(storage, &table, verdict == Verdict::AsserterWrong)
    }

    /// Anyone: one wrong block of a flat trace, recomputed whole. No bond: a false accusation reverts.
    pub(super) fn prove_block(
        &self,
        storage: &mut dyn Storage,
        arbiter: &dyn Arbiter,
        caller: Address,
        call: &IDisputes::proveBlockCall,
    ) -> Ruling<()> {
        let claims = Claims::new();
        let claim = claims.challengeable(storage, call.claimId)?;
        check_length("evidence", call.evidence.len(), MAX_BLOCK_EVIDENCE)?;
        let (count, root) = (
            claim.n_leaves.read(storage)?,
            claim.trace_root.read(storage)?,
        );
        require(count <= MAX_FLAT, || IDisputes::NotSingleShot {
            leaves: count,
            limit: MAX_FLAT,
            segmentNodes: 0,
        })?;
        check_list(storage, &call.leaves, count, root)?;
        let leaf = call.leaf;
        let hash = usize::try_from(leaf)
            .ok()
            .and_then(|leaf| call.leaves.get(leaf))
            .copied();
        let hash = hash.ok_or_else(|| {
            revert(IDisputes::LeafOutOfRange {
                leaf,
                leaves: count,
            })
        })?;
        let wrong = if leaf == 0 {
            hash != claim.input_commit.read(storage)?
        } else if leaf.saturating_add(1) == count && hash != claim.output_commit.read(storage)? {
            true
        } else {
            if leaf.saturating_add(1) < count {
                let segment = self.segment_of(storage, arbiter, &claim, leaf)?;
                let nodes = segment.nodes;
                require(nodes <= 1, || IDisputes::NotSingleShot {
                    leaves: count,
                    limit: MAX_FLAT,
                    segmentNodes: nodes,
                })?;
            }
            let exhibit = Exhibit {
                segment: None,
                leaf,
                leaf_hash: hash,
                block: None,
                evidence: &call.evidence,
            };
            self.judge(storage, arbiter, &claim, &exhibit)? == Verdict::AsserterWrong
        };
        require(wrong, || IDisputes::AsserterIsRight {
            claimId: call.claimId,
            leaf,
        })?;
        emit(
            storage,
            &IDisputes::ProvenWrong {
                claimId: call.claimId,
                challenger: caller,
                leaf,
            },
        )?;
        claims.reject(storage, call.claimId, Some(caller))?;
        Ok(())
    }
}

//! The moves of a descent. Everything a side supplies is checked by hash against what the other side is bound to.

use alloy_primitives::{Address, B256, U256};
use assay_abi::IDisputes;
use assay_storage::Storage;

use super::{
    DisputeRecord, Disputes, MAX_BLOCK, MAX_FLAT, REVEAL_LEVELS, Table, emit, overflow, stage,
};
use crate::Arbiter;
use crate::claims::Claims;
use crate::error::{Ruling, require, revert};
use crate::tree::{self, hash_gas, root_from_path, root_hash, root_of, top_of};

fn charge_tree(storage: &mut dyn Storage, leaves: usize) -> Ruling<()> {
    let nodes = (leaves as u64).saturating_mul(2);
    Ok(storage.charge(hash_gas(64).saturating_mul(nodes))?)
}

/// A flat list has the right length and root.
pub(super) fn check_list(
    storage: &mut dyn Storage,
    leaves: &[B256],
    count: u64,
    root: B256,
) -> Ruling<()> {
    let have = leaves.len() as u64;
    require(have == count && have <= MAX_FLAT, || IDisputes::LeafCount {
        have,
        want: count,
    })?;
    charge_tree(storage, leaves.len())?;
    let own = root_of(leaves);
    require(own == root, || IDisputes::NotHonestList {
        root: own,
        want: root,
    })
}

/// `children` are the descendants of the node reached, `levels` below it.
fn check_children(
    storage: &mut dyn Storage,
    dispute: &DisputeRecord,
    children: &[B256],
) -> Ruling<u8> {
    let levels = dispute.height.read(storage)?.min(REVEAL_LEVELS);
    let (have, want) = (children.len(), 1usize << levels);
    require(have == want, || IDisputes::ChildCount {
        have: U256::from(have),
        want: U256::from(want),
    })?;
    charge_tree(storage, have)?;
    let top = top_of(children);
    let at_root = dispute.at_root.read(storage)?;
    let have = if at_root {
        root_hash(dispute.leaves.read(storage)?, &top)
    } else {
        top
    };
    let want = dispute.node.read(storage)?;
    require(have == want, || IDisputes::ChildrenMismatch { have, want })?;
    Ok(levels)
}

impl Disputes {
    /// Asserter: the root of a trace that the receipt did not carry; the first one posted holds for all disputes.
    pub(super) fn trace(
        &self,
        storage: &mut dyn Storage,
        caller: Address,
        id: U256,
        root: B256,
    ) -> Ruling<()> {
        let table = self.begin_move(storage, id, caller, stage::TRACE)?;
        let known = table.claim.trace_root.read(storage)?;
        let fixed = !root.is_zero() && (known.is_zero() || known == root);
        require(fixed, || IDisputes::NotHonestList { root, want: known })?;
        Claims::new().set_trace(storage, table.claim_id, root)?;
        let leaves = table.claim.n_leaves.read(storage)?;
        emit(storage, &IDisputes::TracePosted { id, root, leaves })?;
        let next = self.enter_tree(storage, &table.dispute, root, leaves)?;
        self.end_move(storage, &table, next)
    }

    /// Asserter: all leaves of a small tree.
    pub(super) fn post_leaves(
        &self,
        storage: &mut dyn Storage,
        caller: Address,
        id: U256,
        leaves: Vec<B256>,
    ) -> Ruling<()> {
        let table = self.begin_move(storage, id, caller, stage::LEAVES)?;
        let (count, root) = (
            table.dispute.leaves.read(storage)?,
            table.dispute.root.read(storage)?,
        );
        check_list(storage, &leaves, count, root)?;
        if !table.dispute.in_segment.read(storage)? {
            let want = table.claim.input_commit.read(storage)?;
            let have = leaves.first().copied().unwrap_or_default();
            require(have == want, || IDisputes::InputLeafMismatch { have, want })?;
            let want = table.claim.output_commit.read(storage)?;
            let have = leaves.last().copied().unwrap_or_default();
            require(have == want, || IDisputes::OutputLeafMismatch {
                have,
                want,
            })?;
        }
        emit(storage, &IDisputes::LeavesPosted { id, leaves })?;
        self.end_move(storage, &table, stage::NAME)
    }

    /// Challenger: the first wrong leaf of a posted list.
    pub(super) fn name(
        &self,
        storage: &mut dyn Storage,
        arbiter: &dyn Arbiter,
        caller: Address,
        id: U256,
        leaves: &[B256],
        leaf: u64,
    ) -> Ruling<()> {
        let table = self.begin_move(storage, id, caller, stage::NAME)?;
        let (count, root) = (
            table.dispute.leaves.read(storage)?,
            table.dispute.root.read(storage)?,
        );
        check_list(storage, leaves, count, root)?;
        let hash = usize::try_from(leaf)
            .ok()
            .and_then(|leaf| leaves.get(leaf))
            .copied();
        let hash = hash.ok_or_else(|| {
            revert(IDisputes::LeafOutOfRange {
                leaf,
                leaves: count,
            })
        })?;
        table.dispute.height.write(storage, 0)?;
        table.dispute.at_root.write(storage, false)?;
        emit(storage, &IDisputes::Named { id, leaf, hash })?;
        self.reach_leaf(storage, arbiter, &table, leaf, hash)
    }

    /// Asserter: the descendants of the node reached.
    pub(super) fn reveal(
        &self,
        storage: &mut dyn Storage,
        caller: Address,
        id: U256,
        children: Vec<B256>,
    ) -> Ruling<()> {
        let table = self.begin_move(storage, id, caller, stage::REVEAL)?;
        check_children(storage, &table.dispute, &children)?;
        let (height, index) = (
            table.dispute.height.read(storage)?,
            table.dispute.index.read(storage)?,
        );
        emit(
            storage,
            &IDisputes::Revealed {
                id,
                height,
                index,
                children,
            },
        )?;
        self.end_move(storage, &table, stage::PICK)
    }

    /// Challenger: the first descendant that is wrong.
    pub(super) fn pick(
        &self,
        storage: &mut dyn Storage,
        arbiter: &dyn Arbiter,
        caller: Address,
        id: U256,
        children: &[B256],
        j: u8,
    ) -> Ruling<()> {
        let table = self.begin_move(storage, id, caller, stage::PICK)?;
        let levels = check_children(storage, &table.dispute, children)?;
        let node = children.get(usize::from(j)).copied();
        let range = || {
            revert(IDisputes::ChildOutOfRange {
                j: U256::from(j),
                count: U256::from(children.len()),
            })
        };
        let node = node.ok_or_else(range)?;
        let index = table.dispute.index.read(storage)?;
        let index = index
            .checked_mul(1 << levels)
            .and_then(|first| first.checked_add(j.into()));
        let index = index.ok_or_else(|| overflow("leaf index"))?;
        let height = table.dispute.height.read(storage)?.saturating_sub(levels);
        table.dispute.node.write(storage, node)?;
        table.dispute.index.write(storage, index)?;
        table.dispute.height.write(storage, height)?;
        table.dispute.at_root.write(storage, false)?;
        emit(
            storage,
            &IDisputes::Picked {
                id,
                height,
                index,
                node,
            },
        )?;
        if height > 0 {
            return self.end_move(storage, &table, stage::REVEAL);
        }
        self.reach_leaf(storage, arbiter, &table, index, node)
    }

    /// A leaf is reached: decided at once if nothing need be computed, else segment, open or prove.
    fn reach_leaf(
        &self,
        storage: &mut dyn Storage,
        arbiter: &dyn Arbiter,
        table: &Table,
        leaf: u64,
        hash: B256,
    ) -> Ruling<()> {
        let dispute = &table.dispute;
        let leaves = dispute.leaves.read(storage)?;
        if leaf >= leaves {
            return self.decide(storage, table, hash != tree::padding());
        }
        dispute.node.write(storage, hash)?;
        dispute.index.write(storage, leaf)?;
        if dispute.in_segment.read(storage)? {
            return self.end_move(storage, table, stage::OPEN);
        }
        dispute.committed_leaf.write(storage, leaf)?;
        dispute.committed_hash.write(storage, hash)?;
        if leaf == 0 {
            let wrong = hash != table.claim.input_commit.read(storage)?;
            return self.decide(storage, table, wrong);
        }
        if leaf.saturating_add(1) == leaves {
            if hash != table.claim.output_commit.read(storage)? {
                return self.decide(storage, table, true);
            }
            return self.end_move(storage, table, stage::PROVE);
        }
        let segment = self.segment_of(storage, arbiter, &table.claim, leaf)?;
        let next = if segment.nodes > 1 {
            stage::SEGMENT
        } else {
            stage::OPEN
        };
        self.end_move(storage, table, next)
    }

    /// Asserter: the root of the disputed segment's tree, whose end is the disputed committed leaf.
    pub(super) fn segment(
        &self,
        storage: &mut dyn Storage,
        arbiter: &dyn Arbiter,
        caller: Address,
        id: U256,
        root: B256,
        path: &[B256],
    ) -> Ruling<()> {
        let table = self.begin_move(storage, id, caller, stage::SEGMENT)?;
        let leaf = table.dispute.committed_leaf.read(storage)?;
        let segment = self.segment_of(storage, arbiter, &table.claim, leaf)?;
        let (have, want) = (path.len(), usize::from(tree::depth(segment.leaves)));
        require(have == want, || IDisputes::PathLength {
            have: U256::from(have),
            want: U256::from(want),
        })?;
        charge_tree(storage, path.len())?;
        let hash = table.dispute.committed_hash.read(storage)?;
        let have = root_from_path(segment.leaves, segment.index, hash, path).unwrap_or_default();
        require(have == root, || IDisputes::SegmentMismatch {
            have,
            want: root,
        })?;
        table.dispute.in_segment.write(storage, true)?;
        table.dispute.segment.write(storage, segment.segment)?;
        let (number, leaves) = (segment.segment, segment.leaves);
        emit(
            storage,
            &IDisputes::SegmentPosted {
                id,
                segment: number,
                root,
                leaves,
            },
        )?;
        let next = self.enter_tree(storage, &table.dispute, root, leaves)?;
        self.end_move(storage, &table, next)
    }

    /// Asserter: the bytes of the disputed leaf.
    pub(super) fn open(
        &self,
        storage: &mut dyn Storage,
        caller: Address,
        id: U256,
        block: &[u8],
    ) -> Ruling<()> {
        let table = self.begin_move(storage, id, caller, stage::OPEN)?;
        self.check_block(storage, &table, block)?;
        emit(
            storage,
            &IDisputes::BlockOpened {
                id,
                blockBytes: block.to_vec().into(),
            },
        )?;
        self.end_move(storage, &table, stage::PROVE)
    }

    /// The bytes are those of the disputed leaf.
    pub(super) fn check_block(
        &self,
        storage: &mut dyn Storage,
        table: &Table,
        block: &[u8],
    ) -> Ruling<()> {
        check_length("block", block.len(), MAX_BLOCK)?;
        storage.charge(hash_gas(block.len()))?;
        let (have, want) = (tree::leaf_hash(block), table.dispute.node.read(storage)?);
        require(have == want, || IDisputes::BlockMismatch { have, want })
    }
}

pub(super) fn check_length(what: &str, length: usize, limit: usize) -> Ruling<()> {
    let error = || IDisputes::TooLong {
        what: what.to_string(),
        length: U256::from(length),
        limit: U256::from(limit),
    };
    require(length <= limit, error)
}

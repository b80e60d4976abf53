//! `disputes`: a one-sided descent of the asserter's own trace tree to the first wrong leaf, then one element of it
//! recomputed by the chain.
//!
//! | stage | to move | call | next |
//! |---|---|---|---|
//! | trace | asserter | `trace` | leaves or reveal |
//! | leaves (tree of at most 1,024) | asserter | `postLeaves` | name |
//! | name | challenger | `name` | leaf reached |
//! | reveal | asserter | `reveal` | pick |
//! | pick | challenger | `pick` | reveal, or leaf reached |
//! | segment | asserter | `segment` | leaves or reveal, in the segment's tree |
//! | open | asserter | `open` | prove |
//! | prove | challenger | `proveElement` | closed |
//!
//! A reached leaf is decided at once where no computation is needed (padding, input commitment, a wrong output
//! commitment); else it leads to segment, open, or (output commitment) prove. Each side has one clock that runs on its
//! turn; whoever lets it run out loses. Disputes of one claim run in parallel and share nothing but the claim.

mod closing;
pub(crate) mod dispatch;
mod judging;
mod moves;

use alloy_primitives::{Address, B256, U256};
use alloy_sol_types::SolEvent;
use assay_abi::{DISPUTES, IDisputes, IErrors};
use assay_storage::{Cursor, List, Mapping, Place, Queue, Slot, Storage, layout};

use crate::claims::{ClaimRecord, Claims, state};
use crate::clock;
use crate::error::{Ruling, require, revert};
use crate::parameters::{Parameters, to_stake};
use crate::tree;

/// Most leaves of a flat list.
pub const MAX_FLAT: u64 = 1_024;
/// Levels that one reveal opens.
pub const REVEAL_LEVELS: u8 = 4;
/// Longest opened block, bytes.
pub const MAX_BLOCK: usize = 65_536;
/// Longest evidence, bytes (64 KiB of slices and rows, and their paths).
pub const MAX_EVIDENCE: usize = 131_072;
/// Longest evidence of a one-shot proof, bytes (256 KiB and paths).
pub const MAX_BLOCK_EVIDENCE: usize = 524_288;

/// Stages, as the ABI numbers them.
pub mod stage {
    /// Unknown.
    pub const NONE: u8 = 0;
    /// Asserter posts the trace root.
    pub const TRACE: u8 = 1;
    /// Asserter posts all leaves.
    pub const LEAVES: u8 = 2;
    /// Asserter reveals descendants.
    pub const REVEAL: u8 = 3;
    /// Challenger picks one.
    pub const PICK: u8 = 4;
    /// Challenger names a leaf.
    pub const NAME: u8 = 5;
    /// Asserter posts the segment's root.
    pub const SEGMENT: u8 = 6;
    /// Asserter opens the leaf.
    pub const OPEN: u8 = 7;
    /// Challenger proves an element.
    pub const PROVE: u8 = 8;
    /// Closed.
    pub const ASSERTER_WON: u8 = 9;
    /// Closed.
    pub const CHALLENGER_WON: u8 = 10;
    /// Closed because another dispute rejected the claim.
    pub const CANCELLED: u8 = 11;
}

/// Whose clock runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Side {
    /// Nobody's: closed.
    Nobody = 0,
    /// Operator of the claim.
    Asserter = 1,
    /// Who opened the dispute.
    Challenger = 2,
}

/// Side to move at a stage.
pub const fn side_of(at: u8) -> Side {
    match at {
        stage::TRACE | stage::LEAVES | stage::REVEAL | stage::SEGMENT | stage::OPEN => {
            Side::Asserter
        }
        stage::PICK | stage::NAME | stage::PROVE => Side::Challenger,
        _ => Side::Nobody,
    }
}

layout! {
    /// A dispute.
    pub struct DisputeRecord {
        /// The claim.
        pub claim_id: Slot<B256>,
        /// Who challenges.
        pub challenger: Slot<Address>,
        /// See [`stage`].
        pub stage: Slot<u8>,
        /// The tree walked is a segment's.
        pub in_segment: Slot<bool>,
        /// `node` is the root itself, nothing revealed yet.
        pub at_root: Slot<bool>,
        /// Levels from `node` to the leaves.
        pub height: Slot<u8>,
        /// Segment walked.
        pub segment: Slot<u32>,
        /// Wei held.
        pub bond: Slot<u128>,
        /// Chain milliseconds at which the turn began.
        pub turn_start: Slot<u64>,
        /// Milliseconds on the asserter's clock at the start of its turn.
        pub asserter_left: Slot<u64>,
        /// Milliseconds on the challenger's clock.
        pub challenger_left: Slot<u64>,
        /// Leaves of the tree walked.
        pub leaves: Slot<u64>,
        /// Position of `node` in its level.
        pub index: Slot<u64>,
        /// Disputed leaf of the committed tree.
        pub committed_leaf: Slot<u64>,
        /// Root of the tree walked.
        pub root: Slot<B256>,
        /// Node reached.
        pub node: Slot<B256>,
        /// Hash of the disputed committed leaf.
        pub committed_hash: Slot<B256>,
    }
}

layout! {
    /// Storage of the module.
    pub struct Disputes {
        /// Disputes ever opened; ids are 1 to this.
        pub count: Slot<u64>,
        /// Wei of all open bonds.
        pub held: Slot<u128>,
        /// Disputes by id.
        pub disputes: Mapping<u64, DisputeRecord>,
        /// Ids by claim.
        pub by_claim: Mapping<B256, List<Slot<U256>>>,
        /// Rejected and proven claims whose open disputes are still to be closed.
        pub ended: Queue<Slot<B256>>,
        /// Disputes of an ended claim that are closed already.
        pub closed: Mapping<B256, Slot<u64>>,
    }
}

fn emit(storage: &mut dyn Storage, event: &impl SolEvent) -> Ruling<()> {
    Ok(storage.emit(DISPUTES, event.encode_log_data())?)
}

fn overflow(operation: &str) -> crate::Fault {
    revert(IErrors::Overflow {
        operation: operation.to_string(),
    })
}

/// A dispute together with its claim, as a move finds them.
#[derive(Clone, Copy, Debug)]
struct Table {
    id: u64,
    dispute: DisputeRecord,
    claim: ClaimRecord,
    claim_id: B256,
}

impl Table {
    fn number(&self) -> U256 {
        U256::from(self.id)
    }
}

impl Disputes {
    /// At its address.
    pub fn new() -> Self {
        Self::place(&mut Cursor::new(DISPUTES))
    }

    fn find(&self, storage: &mut dyn Storage, id: U256) -> Ruling<Table> {
        let count = self.count.read(storage)?;
        let number = u64::try_from(id)
            .ok()
            .filter(|number| (1..=count).contains(number));
        let number = number.ok_or_else(|| revert(IDisputes::UnknownDispute { id }))?;
        let dispute = self.disputes.at(&number);
        let claim_id = dispute.claim_id.read(storage)?;
        Ok(Table {
            id: number,
            dispute,
            claim: Claims::new().claims.at(&claim_id),
            claim_id,
        })
    }

    /// Clock of each side: enough for every move of two descents and one replay.
    fn clock_of(&self, storage: &mut dyn Storage, leaves: u64) -> Ruling<u64> {
        let parameters = Parameters::new();
        let rounds = u64::from(tree::depth(leaves).div_ceil(REVEAL_LEVELS));
        let moves = rounds.saturating_add(2).saturating_mul(2);
        let needed = moves.saturating_mul(parameters.move_ms.read(storage)?);
        let needed = needed.saturating_add(parameters.replay_ms.read(storage)?);
        Ok(needed.max(parameters.dispute_clock_ms.read(storage)?))
    }

    /// Bond of a challenger: what a full dispute costs the other side, times the resource ratio.
    fn bond_of(&self, storage: &mut dyn Storage, claim: &ClaimRecord) -> Ruling<u128> {
        let parameters = Parameters::new();
        let rounds = u128::from(tree::depth(claim.n_leaves.read(storage)?).div_ceil(REVEAL_LEVELS));
        let price = parameters.bond_gas_price.read(storage)?;
        let gas = u128::from(parameters.move_gas.read(storage)?);
        let moves = rounds
            .checked_add(2)
            .and_then(|moves| moves.checked_mul(gas)?.checked_mul(price));
        let fee = claim.fee.read(storage)?;
        let replay = to_stake(storage, fee)?;
        let ratio = u128::from(parameters.bond_ratio.read(storage)?);
        let bond = moves.and_then(|moves| moves.checked_add(replay)?.checked_mul(ratio));
        let least = parameters.min_challenge_bond.read(storage)?;
        bond.map(|bond| bond.max(least))
            .ok_or_else(|| overflow("bond"))
    }

    fn challenge(
        &self,
        storage: &mut dyn Storage,
        challenger: Address,
        value: U256,
        claim_id: B256,
    ) -> Ruling<U256> {
        let claims = Claims::new();
        let claim = claims.challengeable(storage, claim_id)?;
        let bond = self.bond_of(storage, &claim)?;
        let need = U256::from(bond);
        require(value == need, || IDisputes::WrongBond { have: value, need })?;
        let id = self
            .count
            .read(storage)?
            .checked_add(1)
            .ok_or_else(|| overflow("disputes"))?;
        self.count.write(storage, id)?;
        let held = self
            .held
            .read(storage)?
            .checked_add(bond)
            .ok_or_else(|| overflow("bonds"))?;
        self.held.write(storage, held)?;
        self.by_claim
            .at(&claim_id)
            .append(storage, U256::from(id))?;
        let dispute = self.disputes.at(&id);
        let leaves = claim.n_leaves.read(storage)?;
        let (now, clock) = (clock::now(storage)?, self.clock_of(storage, leaves)?);
        dispute.claim_id.write(storage, claim_id)?;
        dispute.challenger.write(storage, challenger)?;
        dispute.bond.write(storage, bond)?;
        dispute.turn_start.write(storage, now)?;
        dispute.asserter_left.write(storage, clock)?;
        dispute.challenger_left.write(storage, clock)?;
        let root = claim.trace_root.read(storage)?;
        let first = if root.is_zero() {
            dispute.stage.write(storage, stage::TRACE)?;
            stage::TRACE
        } else {
            self.enter_tree(storage, &dispute, root, leaves)?
        };
        claims.challenged(storage, claim_id)?;
        let deadline = now.saturating_add(clock);
        let id = U256::from(id);
        emit(
            storage,
            &IDisputes::Opened {
                id,
                claimId: claim_id,
                challenger,
                bond: need,
                stage: first,
                deadline,
            },
        )?;
        Ok(id)
    }

    /// Starts at the root of a tree; returns the stage.
    fn enter_tree(
        &self,
        storage: &mut dyn Storage,
        dispute: &DisputeRecord,
        root: B256,
        leaves: u64,
    ) -> Ruling<u8> {
        let next = if leaves <= MAX_FLAT {
            stage::LEAVES
        } else {
            stage::REVEAL
        };
        dispute.root.write(storage, root)?;
        dispute.node.write(storage, root)?;
        dispute.at_root.write(storage, true)?;
        dispute.leaves.write(storage, leaves)?;
        dispute.height.write(storage, tree::depth(leaves))?;
        dispute.index.write(storage, 0)?;
        dispute.stage.write(storage, next)?;
        Ok(next)
    }

    /// Chain time at which the side to move loses.
    fn deadline(
        &self,
        storage: &mut dyn Storage,
        dispute: &DisputeRecord,
        side: Side,
    ) -> Ruling<u64> {
        let left = match side {
            Side::Asserter => dispute.asserter_left.read(storage)?,
            Side::Challenger => dispute.challenger_left.read(storage)?,
            Side::Nobody => return Ok(0),
        };
        Ok(dispute.turn_start.read(storage)?.saturating_add(left))
    }

    /// Admits a move: the right stage, the right caller, time on the clock, claim still challenged. Stops the clock.
    fn begin_move(
        &self,
        storage: &mut dyn Storage,
        id: U256,
        caller: Address,
        want: u8,
    ) -> Ruling<Table> {
        let table = self.find(storage, id)?;
        let have = table.dispute.stage.read(storage)?;
        require(have == want, || IDisputes::WrongStage { have, want })?;
        let claim_state = table.claim.state.read(storage)?;
        let open = claim_state == state::CHALLENGED;
        require(open, || IDisputes::ClaimNotOpen {
            claimId: table.claim_id,
            state: claim_state,
        })?;
        let side = side_of(have);
        let mover = match side {
            Side::Asserter => table.claim.operator.read(storage)?,
            _ => table.dispute.challenger.read(storage)?,
        };
        require(caller == mover, || IDisputes::NotYourTurn { caller, mover })?;
        let (now, deadline) = (
            clock::now(storage)?,
            self.deadline(storage, &table.dispute, side)?,
        );
        require(now < deadline, || IErrors::Expired { deadline, now })?;
        let left = deadline.saturating_sub(now);
        let slot = if side == Side::Asserter {
            table.dispute.asserter_left
        } else {
            table.dispute.challenger_left
        };
        slot.write(storage, left)?;
        table.dispute.turn_start.write(storage, now)?;
        Ok(table)
    }

    /// Passes the turn to whoever moves at `next`.
    fn end_move(&self, storage: &mut dyn Storage, table: &Table, next: u8) -> Ruling<()> {
        table.dispute.stage.write(storage, next)?;
        let side = side_of(next);
        let deadline = self.deadline(storage, &table.dispute, side)?;
        emit(
            storage,
            &IDisputes::Turn {
                id: table.number(),
                stage: next,
                turn: side as u8,
                deadline,
            },
        )
    }

    fn view(&self, storage: &mut dyn Storage, id: U256) -> Ruling<IDisputes::Dispute> {
        let dispute = self.find(storage, id)?.dispute;
        let at = dispute.stage.read(storage)?;
        let side = side_of(at);
        let in_segment = dispute.in_segment.read(storage)?;
        let root = dispute.root.read(storage)?;
        Ok(IDisputes::Dispute {
            claimId: dispute.claim_id.read(storage)?,
            challenger: dispute.challenger.read(storage)?,
            stage: at,
            turn: side as u8,
            bond: U256::from(dispute.bond.read(storage)?),
            deadline: self.deadline(storage, &dispute, side)?,
            turnStart: dispute.turn_start.read(storage)?,
            asserterLeft: dispute.asserter_left.read(storage)?,
            challengerLeft: dispute.challenger_left.read(storage)?,
            inSegment: in_segment,
            segment: dispute.segment.read(storage)?,
            segmentRoot: if in_segment { root } else { B256::ZERO },
            root,
            leaves: dispute.leaves.read(storage)?,
            node: dispute.node.read(storage)?,
            height: dispute.height.read(storage)?,
            index: dispute.index.read(storage)?,
            committedLeaf: dispute.committed_leaf.read(storage)?,
            committedHash: dispute.committed_hash.read(storage)?,
        })
    }
}

impl Default for Disputes {
    fn default() -> Self {
        Self::new()
    }
}

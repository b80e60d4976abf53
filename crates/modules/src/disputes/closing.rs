//! How a dispute ends, and where its bond goes.

use alloy_primitives::{B256, U256};
use assay_abi::{DISPUTES, IDisputes};
use assay_storage::Storage;

use super::{Disputes, Side, Table, emit, overflow, side_of, stage};
use crate::burn::{Burn, Cause, pay};
use crate::claims::{Claims, state};
use crate::clock;
use crate::error::{Ruling, require};

/// Disputes that `end_block` closes at most.
pub const CLOSED_PER_BLOCK: u64 = 64;

impl Disputes {
    /// Ends a dispute by its merits.
    pub(super) fn decide(
        &self,
        storage: &mut dyn Storage,
        table: &Table,
        asserter_wrong: bool,
    ) -> Ruling<()> {
        if asserter_wrong {
            self.challenger_wins(storage, table)
        } else {
            self.asserter_wins(storage, table)
        }
    }

    /// Takes the bond out of escrow.
    fn release(&self, storage: &mut dyn Storage, table: &Table, end: u8) -> Ruling<u128> {
        let bond = table.dispute.bond.read(storage)?;
        table.dispute.bond.write(storage, 0)?;
        table.dispute.stage.write(storage, end)?;
        let held = self
            .held
            .read(storage)?
            .checked_sub(bond)
            .ok_or_else(|| overflow("bonds"))?;
        self.held.write(storage, held)?;
        Ok(bond)
    }

    fn announce(
        &self,
        storage: &mut dyn Storage,
        table: &Table,
        end: u8,
        bond: [u128; 3],
    ) -> Ruling<()> {
        let [to_challenger, to_asserter, burnt] = bond.map(U256::from);
        let event = IDisputes::Closed {
            id: table.number(),
            claimId: table.claim_id,
            stage: end,
            bondToChallenger: to_challenger,
            bondToAsserter: to_asserter,
            bondBurnt: burnt,
        };
        emit(storage, &event)
    }

    /// Bond back, claim rejected.
    fn challenger_wins(&self, storage: &mut dyn Storage, table: &Table) -> Ruling<()> {
        let bond = self.release(storage, table, stage::CHALLENGER_WON)?;
        let challenger = table.dispute.challenger.read(storage)?;
        pay(storage, DISPUTES, challenger, bond)?;
        self.announce(storage, table, stage::CHALLENGER_WON, [bond, 0, 0])?;
        Claims::new().reject(storage, table.claim_id, Some(challenger))
    }

    /// The challenger loses its bond; the claim stays open until its window ends.
    fn asserter_wins(&self, storage: &mut dyn Storage, table: &Table) -> Ruling<()> {
        self.forfeit(storage, table)?;
        Claims::new().defended(storage, table.claim_id)
    }

    /// Half of the bond to the asserter, half burnt.
    fn forfeit(&self, storage: &mut dyn Storage, table: &Table) -> Ruling<()> {
        let bond = self.release(storage, table, stage::ASSERTER_WON)?;
        let half = bond / 2;
        let burnt = bond.saturating_sub(half);
        let operator = table.claim.operator.read(storage)?;
        pay(storage, DISPUTES, operator, half)?;
        Burn::new().burn_native(storage, DISPUTES, burnt, Cause::Bond, table.claim_id)?;
        self.announce(storage, table, stage::ASSERTER_WON, [0, half, burnt])
    }

    /// Ends a dispute whose side to move has no time left.
    pub(super) fn timeout(&self, storage: &mut dyn Storage, id: U256) -> Ruling<()> {
        let table = self.find(storage, id)?;
        let at = table.dispute.stage.read(storage)?;
        let side = side_of(at);
        let claim_state = table.claim.state.read(storage)?;
        let live = side != Side::Nobody && claim_state == state::CHALLENGED;
        require(live, || IDisputes::NothingToClose { id, stage: at })?;
        let (now, deadline) = (
            clock::now(storage)?,
            self.deadline(storage, &table.dispute, side)?,
        );
        require(now >= deadline, || IDisputes::StillRunning {
            deadline,
            now,
        })?;
        self.decide(storage, &table, side == Side::Asserter)
    }

    /// Closes a dispute whose claim was rejected by another, or proven.
    pub(super) fn close(&self, storage: &mut dyn Storage, id: U256) -> Ruling<()> {
        let table = self.find(storage, id)?;
        let at = table.dispute.stage.read(storage)?;
        let proven = table.claim.proven.read(storage)?;
        let ended = proven || table.claim.state.read(storage)? == state::REJECTED;
        let open = ended && side_of(at) != Side::Nobody;
        require(open, || IDisputes::NothingToClose { id, stage: at })?;
        self.sweep(storage, &table)
    }

    /// Ends an open dispute of a claim that has ended: lost if the answer was proven, void if the claim was rejected.
    fn sweep(&self, storage: &mut dyn Storage, table: &Table) -> Ruling<()> {
        if table.claim.proven.read(storage)? {
            return self.forfeit(storage, table);
        }
        let bond = self.release(storage, table, stage::CANCELLED)?;
        let challenger = table.dispute.challenger.read(storage)?;
        pay(storage, DISPUTES, challenger, bond)?;
        self.announce(storage, table, stage::CANCELLED, [bond, 0, 0])
    }

    /// Remembers a claim that was rejected or proven, so that its open disputes end without anyone asking.
    pub(crate) fn on_ended(&self, storage: &mut dyn Storage, claim_id: B256) -> Ruling<()> {
        if self.by_claim.at(&claim_id).is_empty(storage)? {
            return Ok(());
        }
        Ok(self.ended.push(storage)?.write(storage, claim_id)?)
    }

    /// Closes disputes of ended claims, at most [`CLOSED_PER_BLOCK`] looked at in one block.
    pub(crate) fn end_block(&self, storage: &mut dyn Storage) -> Ruling<()> {
        for _ in 0..CLOSED_PER_BLOCK {
            let waiting = self.ended.range(storage)?;
            if waiting.is_empty() {
                return Ok(());
            }
            let entry = self.ended.at(waiting.start);
            let claim_id = entry.read(storage)?;
            let list = self.by_claim.at(&claim_id);
            let cursor = self.closed.at(&claim_id);
            let next = cursor.read(storage)?;
            if next >= list.len(storage)? {
                entry.write(storage, B256::ZERO)?;
                self.ended.advance(storage)?;
                continue;
            }
            cursor.write(storage, next.saturating_add(1))?;
            let id = list.at(next).read(storage)?;
            let table = self.find(storage, id)?;
            if side_of(table.dispute.stage.read(storage)?) != Side::Nobody {
                self.sweep(storage, &table)?;
            }
        }
        Ok(())
    }
}

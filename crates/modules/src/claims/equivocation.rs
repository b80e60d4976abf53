//! Two answers for one place in a line.

use alloy_primitives::{Address, B256};
use assay_abi::{IClaims, Receipt};
use assay_storage::Storage;

use super::assertion::check_slashable_key;
use super::{Claims, emit, line_id, state};
use crate::error::{Fault, Ruling, require};
use crate::parameters::to_stake;
use crate::staking::{Slash, Staking};

impl Claims {
    /// Slashes an operator that signed two different receipts for one (line, seq), and rejects those that are open.
    pub(super) fn equivocation(
        &self,
        storage: &mut dyn Storage,
        reporter: Address,
        first: (&Receipt, &[u8]),
        second: (&Receipt, &[u8]),
    ) -> Ruling<()> {
        let (a, b) = (first.0, second.0);
        let (first_id, second_id) = (a.struct_hash(), b.struct_hash());
        let same = a.operator == b.operator && a.line_id == b.line_id && a.seq == b.seq;
        require(
            same && first_id != second_id,
            || IClaims::NotEquivocation {},
        )?;
        let line = line_id(a.operator, a.requester);
        let shown = self.equivocations.at(&a.line_id).at(&a.seq);
        let known = shown.read(storage)?;
        require(!known, || IClaims::AlreadyReported {
            lineId: a.line_id,
            seq: a.seq,
        })?;
        check_slashable_key(storage, a, first.1)?;
        check_slashable_key(storage, b, second.1)?;
        shown.write(storage, true)?;
        let most = most_for_buyer(storage, a.value_at_risk.max(b.value_at_risk))?;
        let buyer =
            (a.line_id == line && a.requester == b.requester).then_some((a.requester, most));
        let slash = Slash {
            reporter: Some(reporter),
            buyer,
            reference: first_id,
        };
        Staking::new().slash_equivocation(storage, a.operator, slash)?;
        for claim_id in [first_id, second_id] {
            self.reject_if_open(storage, claim_id)?;
        }
        let event = IClaims::Equivocated {
            operator: a.operator,
            lineId: a.line_id,
            seq: a.seq,
            first: first_id,
            second: second_id,
            reporter,
        };
        emit(storage, &event)
    }

    fn reject_if_open(&self, storage: &mut dyn Storage, claim_id: B256) -> Ruling<()> {
        let have = self.claims.at(&claim_id).state.read(storage)?;
        if have == state::ASSERTED || have == state::CHALLENGED {
            self.reject(storage, claim_id, None)?;
        }
        Ok(())
    }
}

/// A declared value too large for any stake must not make the equivocation unreportable: it means no limit.
fn most_for_buyer(storage: &mut dyn Storage, value_at_risk: u128) -> Ruling<u128> {
    match to_stake(storage, value_at_risk) {
        Err(Fault::Revert(_)) => Ok(u128::MAX),
        other => other,
    }
}

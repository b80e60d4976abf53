//! Taking stake: for a rejected claim, and for equivocation.

use alloy_primitives::{Address, B256, U256};
use assay_abi::{IErrors, IStaking, STAKING};
use assay_storage::Storage;

use super::{OperatorRecord, Staking, emit, minus, plus};
use crate::amount::mul_div_floor;
use crate::burn::{Burn, Cause, pay};
use crate::error::{Ruling, revert};
use crate::parameters::{BPS, Parameters};

/// Who receives what of a slash.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Slash {
    /// First valid challenger; `None` if the claim fell without one.
    pub(crate) reporter: Option<Address>,
    /// Requester and the most it may receive (its value at risk in stake).
    pub(crate) buyer: Option<(Address, u128)>,
    /// Claim or other name of the cause.
    pub(crate) reference: B256,
}

impl Staking {
    /// Slashes the locked stake of one rejected claim. Returns what was taken: nothing if an equivocation took it before.
    pub(crate) fn slash_locked(
        &self,
        storage: &mut dyn Storage,
        operator: Address,
        amount: u128,
        generation: u32,
        slash: Slash,
    ) -> Ruling<u128> {
        if !self.unlock(storage, operator, amount, generation)? {
            return Ok(0);
        }
        let record = self.records.at(&operator);
        let bonded = minus(record.bonded.read(storage)?, amount)?;
        record.bonded.write(storage, bonded)?;
        self.distribute(storage, operator, amount, slash)?;
        Ok(amount)
    }

    /// Slashes all locked stake, the first time at least the smallest bond, reaching free and unbonding stake; jails the
    /// operator. A jailed operator locks nothing any more, so later reports about it take nothing.
    pub(crate) fn slash_equivocation(
        &self,
        storage: &mut dyn Storage,
        operator: Address,
        slash: Slash,
    ) -> Ruling<u128> {
        let record = self.records.at(&operator);
        let floor = if record.jailed.read(storage)? {
            0
        } else {
            Parameters::new().min_operator_bond.read(storage)?
        };
        let penalty = record.locked.read(storage)?.max(floor);
        let bonded = record.bonded.read(storage)?;
        let from_bond = penalty.min(bonded);
        record.bonded.write(storage, minus(bonded, from_bond)?)?;
        record.locked.write(storage, 0)?;
        let from_unbonding = self.take_unbonding(storage, &record, minus(penalty, from_bond)?)?;
        let generation = record.generation.read(storage)?.saturating_add(1);
        record.generation.write(storage, generation)?;
        record.jailed.write(storage, true)?;
        emit(
            storage,
            &IStaking::Jailed {
                operator,
                generation,
            },
        )?;
        let taken = plus(from_bond, from_unbonding)?;
        self.distribute(storage, operator, taken, slash)?;
        Ok(taken)
    }

    /// Takes up to `wanted` of unbonding stake, youngest entries last; the queue is bounded.
    fn take_unbonding(
        &self,
        storage: &mut dyn Storage,
        record: &OperatorRecord,
        wanted: u128,
    ) -> Ruling<u128> {
        let mut taken = 0u128;
        for number in record.unbondings.range(storage)? {
            let entry = record.unbondings.at(number);
            let amount = entry.amount.read(storage)?;
            let part = amount.min(minus(wanted, taken)?);
            entry.amount.write(storage, minus(amount, part)?)?;
            taken = plus(taken, part)?;
        }
        let unbonding = minus(record.unbonding.read(storage)?, taken)?;
        record.unbonding.write(storage, unbonding)?;
        Ok(taken)
    }

    /// Pays reporter and buyer their shares, rounded down, and burns the rest: at least half, by the bounds of the shares.
    fn distribute(
        &self,
        storage: &mut dyn Storage,
        operator: Address,
        amount: u128,
        slash: Slash,
    ) -> Ruling<()> {
        let parameters = Parameters::new();
        let overflow = || {
            revert(IErrors::Overflow {
                operation: "slash".to_string(),
            })
        };
        let share = |bps: u64| mul_div_floor(amount, bps.into(), BPS).ok_or_else(overflow);
        let reporter_share = share(parameters.slash_challenger_bps.read(storage)?)?;
        let buyer_share = share(parameters.slash_buyer_bps.read(storage)?)?;
        let mut rest = amount;
        let mut to_reporter = 0;
        if let Some(reporter) = slash.reporter {
            to_reporter = reporter_share;
            rest = minus(rest, to_reporter)?;
            pay(storage, STAKING, reporter, to_reporter)?;
        }
        let mut to_buyer = 0;
        if let Some((buyer, most)) = slash.buyer {
            to_buyer = buyer_share.min(most);
            rest = minus(rest, to_buyer)?;
            pay(storage, STAKING, buyer, to_buyer)?;
        }
        let held = minus(self.held.read(storage)?, amount)?;
        self.held.write(storage, held)?;
        Burn::new().burn_native(storage, STAKING, rest, Cause::Slash, slash.reference)?;
        let event = IStaking::Slashed {
            operator,
            amount: U256::from(amount),
            toReporter: U256::from(to_reporter),
            toBuyer: U256::from(to_buyer),
            burnt: U256::from(rest),
        };
        emit(storage, &event)
    }
}

//! The share pool (economics, section b): deposits, fees, unbonding, slashes, generations. No money moves here.
//!
//! Fees never enter the share price, so nobody can move it by donating. A slash rounds against the pool, reaches
//! unbonding stake of the right age, and retires a pool whose shares have become worth next to nothing.

use alloy_primitives::{Address, U256};
use assay_abi::{IErrors, IPools};
use assay_storage::{List, Mapping, Queue, Slot, Storage, layout};

use crate::amount::{mul_div_ceil, mul_div_floor};
use crate::error::{Ruling, require, revert};
use crate::parameters::BPS;

/// Scale of fees per share: 10^27.
pub const RAY: u128 = 1_000_000_000_000_000_000_000_000_000;
/// A pool retires when a share is worth less than `2^-32` base units.
const RETIRE_BITS: u32 = 32;
/// Buckets that one withdrawal or slash may touch.
pub const MAX_BUCKETS: u64 = 128;

layout! {
    /// A pool.
    pub struct PoolRecord {
        /// Shares of the current generation.
        pub shares: Slot<u128>,
        /// Native coin behind them, wei.
        pub assets: Slot<u128>,
        /// Native coin in buckets, wei.
        pub unbonding: Slot<u128>,
        /// Native coin deposited ever.
        pub deposited: Slot<u128>,
        /// Native coin withdrawn ever.
        pub withdrawn: Slot<u128>,
        /// Native coin slashed or retired ever.
        pub slashed: Slot<u128>,
        /// usd received ever.
        pub income: Slot<u128>,
        /// usd paid out ever.
        pub paid: Slot<u128>,
        /// usd burnt for want of shares.
        pub burned: Slot<u128>,
        /// Current generation.
        pub generation: Slot<u32>,
        /// Slashes so far; closes buckets.
        pub slashes: Slot<u32>,
        /// Fees per share times RAY.
        pub accumulated: Slot<U256>,
        /// What did not divide, carried to the next fee.
        pub remainder: Slot<U256>,
        /// `accumulated` at the end of each past generation.
        pub generation_end: Mapping<u32, Slot<U256>>,
        /// Stakers.
        pub users: Mapping<Address, UserRecord>,
        /// Unbonding stake in order of (epoch, slashes).
        pub buckets: List<BucketRecord>,
    }
}

layout! {
    /// A staker of a pool.
    pub struct UserRecord {
        /// Shares in `generation`.
        pub shares: Slot<u128>,
        /// usd earned and not claimed.
        pub credit: Slot<u128>,
        /// `accumulated` when last touched.
        pub debt: Slot<U256>,
        /// Generation of `shares`.
        pub generation: Slot<u32>,
        /// Buckets with a part of this staker, oldest first.
        pub buckets: Queue<Slot<u64>>,
    }
}

layout! {
    /// Stake that began to unbond in one epoch, between two slashes.
    pub struct BucketRecord {
        /// Epoch of unbonding.
        pub epoch: Slot<u64>,
        /// Slashes of the pool at that time.
        pub slashes: Slot<u32>,
        /// Sum of `owners`.
        pub shares: Slot<u128>,
        /// Wei left behind them.
        pub assets: Slot<u128>,
        /// Entry is 1:1, so a share is a wei that began to unbond.
        pub owners: Mapping<Address, Slot<u128>>,
    }
}

/// What a slash took, wei.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cut {
    /// Of active stake.
    pub active: u128,
    /// Of unbonding stake.
    pub unbonding: u128,
    /// Burnt with the generation that it ended.
    pub retired: u128,
}

fn overflow(operation: &str) -> crate::Fault {
    revert(IErrors::Overflow {
        operation: operation.to_string(),
    })
}

fn add(storage: &mut dyn Storage, slot: Slot<u128>, amount: u128) -> Ruling<()> {
    let sum = slot
        .read(storage)?
        .checked_add(amount)
        .ok_or_else(|| overflow("pool sum"))?;
    Ok(slot.write(storage, sum)?)
}

fn sub(storage: &mut dyn Storage, slot: Slot<u128>, amount: u128) -> Ruling<()> {
    let rest = slot
        .read(storage)?
        .checked_sub(amount)
        .ok_or_else(|| overflow("pool difference"))?;
    Ok(slot.write(storage, rest)?)
}

impl PoolRecord {
    /// Fees earned since the user was last touched, without writing.
    fn pending(&self, storage: &mut dyn Storage, user: &UserRecord) -> Ruling<u128> {
        let generation = user.generation.read(storage)?;
        let current = self.generation.read(storage)?;
        let end = if generation == current {
            self.accumulated
        } else {
            self.generation_end.at(&generation)
        };
        let per_share = end.read(storage)?.saturating_sub(user.debt.read(storage)?);
        let product = per_share.checked_mul(U256::from(user.shares.read(storage)?));
        let earned = product.and_then(|product| product.checked_div(U256::from(RAY)));
        earned
            .and_then(|earned| u128::try_from(earned).ok())
            .ok_or_else(|| overflow("pool credit"))
    }

    /// Brings a user's credit up to date; shares of a past generation are gone.
    fn touch(&self, storage: &mut dyn Storage, account: Address) -> Ruling<UserRecord> {
        let user = self.users.at(&account);
        let earned = self.pending(storage, &user)?;
        add(storage, user.credit, earned)?;
        let current = self.generation.read(storage)?;
        if user.generation.read(storage)? != current {
            user.shares.write(storage, 0)?;
            user.generation.write(storage, current)?;
        }
        let accumulated = self.accumulated.read(storage)?;
        user.debt.write(storage, accumulated)?;
        Ok(user)
    }

    /// Shares and claimable usd of an account.
    pub(super) fn standing(
        &self,
        storage: &mut dyn Storage,
        account: Address,
    ) -> Ruling<(u128, u128)> {
        let user = self.users.at(&account);
        let current = user.generation.read(storage)? == self.generation.read(storage)?;
        let shares = if current {
            user.shares.read(storage)?
        } else {
            0
        };
        let credit = user
            .credit
            .read(storage)?
            .checked_add(self.pending(storage, &user)?);
        Ok((shares, credit.ok_or_else(|| overflow("pool credit"))?))
    }

    /// Wei that `shares` are worth.
    pub(super) fn worth(&self, storage: &mut dyn Storage, shares: u128) -> Ruling<u128> {
        let total = self.shares.read(storage)?;
        if total == 0 {
            return Ok(0);
        }
        mul_div_floor(shares, self.assets.read(storage)?, total)
            .ok_or_else(|| overflow("pool worth"))
    }

    /// Adds `amount` wei; returns the shares issued, rounded down.
    pub(super) fn deposit(
        &self,
        storage: &mut dyn Storage,
        account: Address,
        amount: u128,
    ) -> Ruling<u128> {
        require(amount > 0, || IErrors::ZeroAmount {})?;
        let user = self.touch(storage, account)?;
        let (shares, assets) = (self.shares.read(storage)?, self.assets.read(storage)?);
        let issued = if shares == 0 {
            Some(amount)
        } else {
            mul_div_floor(amount, shares, assets)
        };
        let issued = issued.ok_or_else(|| overflow("pool shares"))?;
        require(issued > 0, || IPools::ZeroShares {
            assets: U256::from(amount),
        })?;
        add(storage, user.shares, issued)?;
        add(storage, self.shares, issued)?;
        add(storage, self.assets, amount)?;
        add(storage, self.deposited, amount)?;
        Ok(issued)
    }

    /// Credits a fee in usd to the shares; false if there are none, and the fee is to be burnt.
    pub(super) fn fee(&self, storage: &mut dyn Storage, amount: u128) -> Ruling<bool> {
        add(storage, self.income, amount)?;
        let shares = U256::from(self.shares.read(storage)?);
        if shares.is_zero() {
            add(storage, self.burned, amount)?;
            return Ok(false);
        }
        let carried = self.remainder.read(storage)?;
        let total = U256::from(amount)
            .checked_mul(U256::from(RAY))
            .and_then(|scaled| scaled.checked_add(carried));
        let total = total.ok_or_else(|| overflow("pool fee"))?;
        let (per_share, rest) = total.div_rem(shares);
        let accumulated = self.accumulated.read(storage)?.checked_add(per_share);
        self.accumulated
            .write(storage, accumulated.ok_or_else(|| overflow("pool fee"))?)?;
        self.remainder.write(storage, rest)?;
        Ok(true)
    }

    /// Takes an account's credit out; returns usd to pay.
    pub(super) fn claim(&self, storage: &mut dyn Storage, account: Address) -> Ruling<u128> {
        let user = self.touch(storage, account)?;
        let credit = user.credit.read(storage)?;
        user.credit.write(storage, 0)?;
        add(storage, self.paid, credit)?;
        Ok(credit)
    }

    /// Moves `shares` into the bucket of `epoch`; returns their wei, rounded down.
    pub(super) fn unbond(
        &self,
        storage: &mut dyn Storage,
        account: Address,
        shares: u128,
        epoch: u64,
    ) -> Ruling<u128> {
        let user = self.touch(storage, account)?;
        let have = user.shares.read(storage)?;
        let enough = shares > 0 && shares <= have;
        require(enough, || IPools::InsufficientShares {
            have: U256::from(have),
            need: U256::from(shares),
        })?;
        let amount = self.worth(storage, shares)?;
        require(amount > 0, || IErrors::ZeroAmount {})?;
        sub(storage, user.shares, shares)?;
        sub(storage, self.shares, shares)?;
        sub(storage, self.assets, amount)?;
        add(storage, self.unbonding, amount)?;
        let (number, bucket) = self.open_bucket(storage, epoch)?;
        add(storage, bucket.shares, amount)?;
        add(storage, bucket.assets, amount)?;
        let own = bucket.owners.at(&account);
        if own.read(storage)? == 0 {
            user.buckets.push(storage)?.write(storage, number)?;
        }
        add(storage, own, amount)?;
        Ok(amount)
    }

    /// The last bucket if it is of this epoch and no slash came after it, else a new one.
    fn open_bucket(&self, storage: &mut dyn Storage, epoch: u64) -> Ruling<(u64, BucketRecord)> {
        let count = self.buckets.len(storage)?;
        let slashes = self.slashes.read(storage)?;
        if let Some(last) = count.checked_sub(1) {
            let bucket = self.buckets.at(last);
            if bucket.epoch.read(storage)? == epoch && bucket.slashes.read(storage)? == slashes {
                return Ok((last, bucket));
            }
        }
        let bucket = self.buckets.push(storage)?;
        bucket.epoch.write(storage, epoch)?;
        bucket.slashes.write(storage, slashes)?;
        Ok((count, bucket))
    }

    /// Pays every bucket with `epoch + delay <= now`; returns (wei to pay, dust to burn).
    pub(super) fn withdraw(
        &self,
        storage: &mut dyn Storage,
        account: Address,
        now: u64,
        delay: u64,
    ) -> Ruling<(u128, u128)> {
        let user = self.users.at(&account);
        let (mut total, mut dust) = (0u128, 0u128);
        let range = user.buckets.range(storage)?;
        let end = range.end.min(range.start.saturating_add(MAX_BUCKETS));
        for position in range.start..end {
            let entry = user.buckets.at(position);
            let bucket = self.buckets.at(entry.read(storage)?);
            if bucket.epoch.read(storage)?.saturating_add(delay) > now {
                break;
            }
            let (paid, burnt) = self.leave_bucket(storage, &bucket, account)?;
            total = total
                .checked_add(paid)
                .ok_or_else(|| overflow("pool withdrawal"))?;
            dust = dust
                .checked_add(burnt)
                .ok_or_else(|| overflow("pool withdrawal"))?;
            entry.write(storage, 0)?;
            user.buckets.advance(storage)?;
        }
        add(storage, self.withdrawn, total)?;
        add(storage, self.slashed, dust)?;
        let out = total
            .checked_add(dust)
            .ok_or_else(|| overflow("pool withdrawal"))?;
        sub(storage, self.unbonding, out)?;
        Ok((total, dust))
    }

    fn leave_bucket(
        &self,
        storage: &mut dyn Storage,
        bucket: &BucketRecord,
        account: Address,
    ) -> Ruling<(u128, u128)> {
        let own = bucket.owners.at(&account);
        let mine = own.read(storage)?;
        let (shares, assets) = (bucket.shares.read(storage)?, bucket.assets.read(storage)?);
        let paid = mul_div_floor(mine, assets, shares).ok_or_else(|| overflow("bucket share"))?;
        own.write(storage, 0)?;
        sub(storage, bucket.shares, mine)?;
        sub(storage, bucket.assets, paid)?;
        if mine < shares {
            return Ok((paid, 0));
        }
        let dust = bucket.assets.read(storage)?;
        bucket.assets.write(storage, 0)?;
        Ok((paid, dust))
    }

    /// Wei of an account in buckets.
    pub(super) fn leaving(&self, storage: &mut dyn Storage, account: Address) -> Ruling<u128> {
        let user = self.users.at(&account);
        let range = user.buckets.range(storage)?;
        let end = range.end.min(range.start.saturating_add(MAX_BUCKETS));
        let mut total = 0u128;
        for position in range.start..end {
            let bucket = self.buckets.at(user.buckets.at(position).read(storage)?);
            let mine = bucket.owners.at(&account).read(storage)?;
            let part = mul_div_floor(
                mine,
                bucket.assets.read(storage)?,
                bucket.shares.read(storage)?,
            );
            total = total.saturating_add(part.unwrap_or(0));
        }
        Ok(total)
    }

    /// Takes `bps` of active stake and of stake that began to unbond in or after `offence_epoch`, rounded up.
    ///
    /// Looks back over the last [`MAX_BUCKETS`] buckets.
    pub(super) fn slash(
        &self,
        storage: &mut dyn Storage,
        bps: u128,
        offence_epoch: u64,
    ) -> Ruling<Cut> {
        let cut_of = |amount: u128| -> Ruling<u128> {
            let cut = mul_div_ceil(amount, bps, BPS).ok_or_else(|| overflow("pool slash"))?;
            Ok(cut.min(amount))
        };
        let active = cut_of(self.assets.read(storage)?)?;
        sub(storage, self.assets, active)?;
        let mut unbonding = 0u128;
        let count = self.buckets.len(storage)?;
        for number in (count.saturating_sub(MAX_BUCKETS)..count).rev() {
            let bucket = self.buckets.at(number);
            if bucket.epoch.read(storage)? < offence_epoch {
                break;
            }
            let part = cut_of(bucket.assets.read(storage)?)?;
            sub(storage, bucket.assets, part)?;
            unbonding = unbonding
                .checked_add(part)
                .ok_or_else(|| overflow("pool slash"))?;
        }
        sub(storage, self.unbonding, unbonding)?;
        let slashes = self.slashes.read(storage)?.saturating_add(1);
        self.slashes.write(storage, slashes)?;
        add(storage, self.slashed, active)?;
        add(storage, self.slashed, unbonding)?;
        let retired = self.retire(storage)?;
        Ok(Cut {
            active,
            unbonding,
            retired,
        })
    }

    /// Ends the generation if its shares are worth next to nothing; returns the wei left to burn.
    fn retire(&self, storage: &mut dyn Storage) -> Ruling<u128> {
        let (shares, assets) = (self.shares.read(storage)?, self.assets.read(storage)?);
        if U256::from(shares) <= U256::from(assets).wrapping_shl(RETIRE_BITS as usize) {
            return Ok(0);
        }
        let generation = self.generation.read(storage)?;
        let accumulated = self.accumulated.read(storage)?;
        self.generation_end
            .at(&generation)
            .write(storage, accumulated)?;
        self.generation
            .write(storage, generation.saturating_add(1))?;
        self.shares.write(storage, 0)?;
        self.assets.write(storage, 0)?;
        add(storage, self.slashed, assets)?;
        Ok(assets)
    }
}

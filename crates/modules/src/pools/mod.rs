//! `pools`: stake on model lineages. Stakers vouch for a model, earn their part of its fees in usd, and are slashed for
//! what they vouched for.
//!
//! The rules of a pool are those of [`PoolRecord`]; here money moves with them.

pub(crate) mod dispatch;
mod rules;
#[cfg(test)]
mod tests;

use alloy_primitives::{Address, B256, U256};
use alloy_sol_types::SolEvent;
use assay_abi::{CLAIMS, IErrors, IModels, IPools, POOLS};
use assay_storage::{Cursor, Mapping, Place, Slot, Storage, layout};

use crate::burn::{Burn, Cause, pay};
use crate::clock;
use crate::error::{Ruling, require, revert};
use crate::models::Models;
use crate::parameters::Parameters;
use crate::usd::Usd;

pub use rules::{BucketRecord, Cut, MAX_BUCKETS, PoolRecord, RAY, UserRecord};

layout! {
    /// Storage of the module.
    pub struct Pools {
        /// Wei held for all pools.
        pub held: Slot<u128>,
        /// usd held for all pools, base units.
        pub held_usd: Slot<u128>,
        /// Pools by lineage.
        pub pools: Mapping<B256, PoolRecord>,
    }
}

fn emit(storage: &mut dyn Storage, event: &impl SolEvent) -> Ruling<()> {
    Ok(storage.emit(POOLS, event.encode_log_data())?)
}

fn shift(storage: &mut dyn Storage, slot: Slot<u128>, plus: u128, minus: u128) -> Ruling<()> {
    let next = slot
        .read(storage)?
        .checked_add(plus)
        .and_then(|sum| sum.checked_sub(minus));
    let next = next.ok_or_else(|| {
        revert(IErrors::Overflow {
            operation: "pool escrow".to_string(),
        })
    })?;
    Ok(slot.write(storage, next)?)
}

fn wei(value: U256) -> Ruling<u128> {
    u128::try_from(value).map_err(|_| {
        revert(IErrors::Overflow {
            operation: "amount".to_string(),
        })
    })
}

/// Economic epoch now.
pub(crate) fn epoch(storage: &mut dyn Storage) -> Ruling<u64> {
    let length = Parameters::new().epoch_ms.read(storage)?.max(1);
    Ok(clock::now(storage)?.checked_div(length).unwrap_or_default())
}

impl Pools {
    /// At its address.
    pub fn new() -> Self {
        Self::place(&mut Cursor::new(POOLS))
    }

    fn deposit(
        &self,
        storage: &mut dyn Storage,
        account: Address,
        lineage: B256,
        value: U256,
    ) -> Ruling<U256> {
        let known = Models::new().is_lineage(storage, lineage)?;
        require(known, || IModels::UnknownLineage { lineage })?;
        let amount = wei(value)?;
        let shares = U256::from(self.pools.at(&lineage).deposit(storage, account, amount)?);
        shift(storage, self.held, amount, 0)?;
        emit(
            storage,
            &IPools::Deposited {
                lineage,
                account,
                assets: value,
                shares,
            },
        )?;
        Ok(shares)
    }

    /// Takes a fee in usd from module `claims`; burns it if the pool has no shares. True if it was burnt.
    pub(crate) fn fee(
        &self,
        storage: &mut dyn Storage,
        lineage: B256,
        amount: u128,
        reference: B256,
    ) -> Ruling<bool> {
        if amount == 0 {
            return Ok(false);
        }
        let credited = self.pools.at(&lineage).fee(storage, amount)?;
        if credited {
            Usd::new().move_tokens(storage, CLAIMS, POOLS, U256::from(amount))?;
            shift(storage, self.held_usd, amount, 0)?;
        } else {
            Burn::new().reserve_usd(storage, CLAIMS, amount, Cause::EmptyRole, reference)?;
        }
        emit(
            storage,
            &IPools::FeeReceived {
                lineage,
                amount: U256::from(amount),
                burnt: !credited,
            },
        )?;
        Ok(!credited)
    }

    fn claim(&self, storage: &mut dyn Storage, account: Address, lineage: B256) -> Ruling<U256> {
        let credit = self.pools.at(&lineage).claim(storage, account)?;
        require(credit > 0, || IPools::NothingToClaim {})?;
        shift(storage, self.held_usd, 0, credit)?;
        let amount = U256::from(credit);
        Usd::new().move_tokens(storage, POOLS, account, amount)?;
        emit(
            storage,
            &IPools::Claimed {
                lineage,
                account,
                amount,
            },
        )?;
        Ok(amount)
    }

    fn unbond(
        &self,
        storage: &mut dyn Storage,
        account: Address,
        lineage: B256,
        shares: U256,
    ) -> Ruling<U256> {
        let epoch = epoch(storage)?;
        let amount = self
            .pools
            .at(&lineage)
            .unbond(storage, account, wei(shares)?, epoch)?;
        let assets = U256::from(amount);
        emit(
            storage,
            &IPools::UnbondingStarted {
                lineage,
                account,
                shares,
                assets,
                epoch,
            },
        )?;
        Ok(assets)
    }

    fn withdraw(&self, storage: &mut dyn Storage, account: Address, lineage: B256) -> Ruling<U256> {
        let epoch = epoch(storage)?;
        let delay = Parameters::new().pool_unbonding_epochs.read(storage)?;
        let (paid, dust) = self
            .pools
            .at(&lineage)
            .withdraw(storage, account, epoch, delay)?;
        require(paid > 0 || dust > 0, || IPools::NothingMature { epoch })?;
        shift(storage, self.held, 0, paid)?;
        shift(storage, self.held, 0, dust)?;
        pay(storage, POOLS, account, paid)?;
        Burn::new().burn_native(storage, POOLS, dust, Cause::PoolDust, lineage)?;
        let assets = U256::from(paid);
        emit(
            storage,
            &IPools::Withdrawn {
                lineage,
                account,
                assets,
            },
        )?;
        Ok(assets)
    }

    /// Slashes a pool for an objective fault; everything taken is burnt.
    #[cfg_attr(
        not(test),
        expect(
            dead_code,
            reason = "no fault of a model, as opposed to an operator, is judged on chain yet"
        )
    )]
    pub(crate) fn slash(
        &self,
        storage: &mut dyn Storage,
        lineage: B256,
        bps: u64,
        offence_epoch: u64,
    ) -> Ruling<Cut> {
        let pool = self.pools.at(&lineage);
        let delay = Parameters::new().pool_unbonding_epochs.read(storage)?;
        let oldest = epoch(storage)?.saturating_sub(delay);
        let cut = pool.slash(storage, bps.into(), offence_epoch.max(oldest))?;
        for (amount, cause) in [
            (cut.active, Cause::Slash),
            (cut.unbonding, Cause::Slash),
            (cut.retired, Cause::PoolDust),
        ] {
            shift(storage, self.held, 0, amount)?;
            Burn::new().burn_native(storage, POOLS, amount, cause, lineage)?;
        }
        let (active, unbonding) = (U256::from(cut.active), U256::from(cut.unbonding));
        emit(
            storage,
            &IPools::Slashed {
                lineage,
                offenceEpoch: offence_epoch,
                active,
                unbonding,
            },
        )?;
        if cut.retired > 0 || pool.shares.read(storage)? == 0 {
            let generation = pool.generation.read(storage)?;
            emit(
                storage,
                &IPools::Retired {
                    lineage,
                    generation,
                    burnt: U256::from(cut.retired),
                },
            )?;
        }
        Ok(cut)
    }

    fn view(&self, storage: &mut dyn Storage, lineage: B256) -> Ruling<IPools::Pool> {
        let pool = self.pools.at(&lineage);
        Ok(IPools::Pool {
            shares: U256::from(pool.shares.read(storage)?),
            assets: U256::from(pool.assets.read(storage)?),
            unbonding: U256::from(pool.unbonding.read(storage)?),
            accumulated: pool.accumulated.read(storage)?,
            remainder: pool.remainder.read(storage)?,
            generation: pool.generation.read(storage)?,
            slashes: pool.slashes.read(storage)?,
            income: U256::from(pool.income.read(storage)?),
            paid: U256::from(pool.paid.read(storage)?),
            burned: U256::from(pool.burned.read(storage)?),
            deposited: U256::from(pool.deposited.read(storage)?),
            withdrawn: U256::from(pool.withdrawn.read(storage)?),
            slashed: U256::from(pool.slashed.read(storage)?),
        })
    }

    fn view_stake(
        &self,
        storage: &mut dyn Storage,
        lineage: B256,
        account: Address,
    ) -> Ruling<IPools::Stake> {
        let pool = self.pools.at(&lineage);
        let (shares, claimable) = pool.standing(storage, account)?;
        Ok(IPools::Stake {
            shares: U256::from(shares),
            assets: U256::from(pool.worth(storage, shares)?),
            claimable: U256::from(claimable),
            unbonding: U256::from(pool.leaving(storage, account)?),
        })
    }
}

impl Default for Pools {
    fn default() -> Self {
        Self::new()
    }
}

//! `burn`: ledger of what leaves circulation.
//!
//! Burnt native coin lies on this module's account, from which nothing ever moves it, so the supply identity stays
//! checkable: sum of all balances is constant, circulating = sum - balance of this account. usd is never destroyed;
//! the burnt part of a fee waits here to buy native coin.

pub(crate) mod dispatch;

use alloy_primitives::{Address, B256, U256};
use assay_abi::{BURN, IBurn, IErrors};
use assay_storage::{Cursor, Mapping, Place, Slot, Storage, layout};

use crate::error::{Ruling, require, revert};
use crate::usd::Usd;

/// Why something was burnt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Cause {
    /// Burnt part of a fee.
    Fee = 0,
    /// Share of a role that nobody fills.
    EmptyRole = 1,
    /// Slashed stake.
    Slash = 2,
    /// Dust of a pool.
    PoolDust = 3,
    /// Half of a lost bond.
    Bond = 4,
}

/// Number of causes.
pub const CAUSES: u8 = 5;

layout! {
    /// Storage of the module.
    pub struct Burn {
        /// Native coin burnt, wei.
        pub native: Slot<u128>,
        /// usd in reserve, base units.
        pub usd: Slot<u128>,
        /// Native coin by cause.
        pub native_by: Mapping<u8, Slot<u128>>,
        /// usd by cause.
        pub usd_by: Mapping<u8, Slot<u128>>,
    }
}

fn add(storage: &mut dyn Storage, slot: Slot<u128>, amount: u128) -> Ruling<()> {
    let sum = slot.read(storage)?.checked_add(amount);
    let sum = sum.ok_or_else(|| {
        revert(IErrors::Overflow {
            operation: "burn".to_string(),
        })
    })?;
    Ok(slot.write(storage, sum)?)
}

impl Burn {
    /// At its address.
    pub fn new() -> Self {
        Self::place(&mut Cursor::new(BURN))
    }

    /// Burns native coin held by module `from`. Zero is no event.
    pub(crate) fn burn_native(
        &self,
        storage: &mut dyn Storage,
        from: Address,
        amount: u128,
        cause: Cause,
        reference: B256,
    ) -> Ruling<()> {
        if amount == 0 {
            return Ok(());
        }
        pay(storage, from, BURN, amount)?;
        add(storage, self.native, amount)?;
        add(storage, self.native_by.at(&(cause as u8)), amount)?;
        let event = IBurn::Burned {
            cause: cause as u8,
            r#ref: reference,
            amount: U256::from(amount),
        };
        Ok(storage.emit(BURN, alloy_sol_types::SolEvent::encode_log_data(&event))?)
    }

    /// Sets aside usd held by module `from`. Zero is no event.
    pub(crate) fn reserve_usd(
        &self,
        storage: &mut dyn Storage,
        from: Address,
        amount: u128,
        cause: Cause,
        reference: B256,
    ) -> Ruling<()> {
        if amount == 0 {
            return Ok(());
        }
        Usd::new().move_tokens(storage, from, BURN, U256::from(amount))?;
        add(storage, self.usd, amount)?;
        add(storage, self.usd_by.at(&(cause as u8)), amount)?;
        let event = IBurn::UsdReserved {
            cause: cause as u8,
            r#ref: reference,
            amount: U256::from(amount),
        };
        Ok(storage.emit(BURN, alloy_sol_types::SolEvent::encode_log_data(&event))?)
    }
}

impl Default for Burn {
    fn default() -> Self {
        Self::new()
    }
}

/// Pays native coin out of a module's account.
///
/// # Errors
/// `Insolvent` if the account holds less, which the invariants exclude.
pub(crate) fn pay(
    storage: &mut dyn Storage,
    module: Address,
    to: Address,
    amount: u128,
) -> Ruling<()> {
    if amount == 0 {
        return Ok(());
    }
    let need = U256::from(amount);
    let paid = storage.transfer(module, to, need)?;
    let have = if paid { need } else { storage.balance(module)? };
    require(paid, || IErrors::Insolvent { module, have, need })
}

//! Identities that hold after every block.

use alloy_primitives::{Address, U256};
use assay_abi::{BURN, CLAIMS, DISPUTES, POOLS, STAKING};
use assay_storage::{Storage, StorageError};

use crate::burn::{Burn, CAUSES};
use crate::claims::Claims;
use crate::disputes::Disputes;
use crate::models::Models;
use crate::pools::Pools;
use crate::staking::{Staking, plus_all};
use crate::usd::Usd;

/// Records looked at in one page.
const PAGE: u64 = 256;

fn at_least(what: &str, have: U256, need: u128) -> Result<(), String> {
    if have >= U256::from(need) {
        Ok(())
    } else {
        Err(format!("{what} holds {have}, owes {need}"))
    }
}

fn equal(what: &str, left: u128, right: u128) -> Result<(), String> {
    if left == right {
        Ok(())
    } else {
        Err(format!("{what}: {left} differs from {right}"))
    }
}

fn text(error: StorageError) -> String {
    error.to_string()
}

/// Every module holds what it owes (anyone may send it more), and the parts of each sum add up.
pub(crate) fn check(storage: &mut dyn Storage) -> Result<(), String> {
    check_native(storage)?;
    check_usd(storage)?;
    check_burn(storage)?;
    check_operators(storage)?;
    check_pools(storage)
}

fn check_native(storage: &mut dyn Storage) -> Result<(), String> {
    let owed: [(&str, Address, u128); 4] = [
        (
            "staking",
            STAKING,
            Staking::new().held.read(storage).map_err(text)?,
        ),
        (
            "pools",
            POOLS,
            Pools::new().held.read(storage).map_err(text)?,
        ),
        (
            "disputes",
            DISPUTES,
            Disputes::new().held.read(storage).map_err(text)?,
        ),
        (
            "burn",
            BURN,
            Burn::new().native.read(storage).map_err(text)?,
        ),
    ];
    for (name, module, need) in owed {
        let have = storage.balance(module).map_err(text)?;
        at_least(name, have, need)?;
    }
    Ok(())
}

fn check_usd(storage: &mut dyn Storage) -> Result<(), String> {
    let claims = Claims::new();
    let balances = claims.total_balances.read(storage).map_err(text)?;
    let fees = claims.total_fees.read(storage).map_err(text)?;
    let owed = balances
        .checked_add(fees)
        .ok_or("usd of claims overflows")?;
    let pooled = Pools::new().held_usd.read(storage).map_err(text)?;
    let reserve = Burn::new().usd.read(storage).map_err(text)?;
    let usd = Usd::new();
    for (name, module, need) in [
        ("claims", CLAIMS, owed),
        ("pools", POOLS, pooled),
        ("burn", BURN, reserve),
    ] {
        let have = usd.balances.at(&module).read(storage).map_err(text)?;
        at_least(name, U256::from(have), need)?;
    }
    Ok(())
}

fn check_burn(storage: &mut dyn Storage) -> Result<(), String> {
    let burn = Burn::new();
    let (mut native, mut usd) = (0u128, 0u128);
    for cause in 0..CAUSES {
        native = native.saturating_add(burn.native_by.at(&cause).read(storage).map_err(text)?);
        usd = usd.saturating_add(burn.usd_by.at(&cause).read(storage).map_err(text)?);
    }
    equal(
        "burnt native coin by cause",
        native,
        burn.native.read(storage).map_err(text)?,
    )?;
    equal(
        "usd reserve by cause",
        usd,
        burn.usd.read(storage).map_err(text)?,
    )
}

fn check_operators(storage: &mut dyn Storage) -> Result<(), String> {
    let staking = Staking::new();
    let count = staking.operators.len(storage).map_err(text)?;
    let (mut total, mut offset) = (0u128, 0u64);
    while offset < count {
        for operator in staking
            .operators
            .page(storage, offset, PAGE)
            .map_err(text)?
        {
            let record = staking.records.at(&operator);
            let bonded = record.bonded.read(storage).map_err(text)?;
            let locked = record.locked.read(storage).map_err(text)?;
            if locked > bonded {
                return Err(format!(
                    "operator {operator} has {locked} locked of {bonded} bonded"
                ));
            }
            let leaving = staking
                .sum_unbonding(storage, operator)
                .map_err(|fault| fault.to_string())?;
            equal(
                "unbonding stake",
                leaving,
                record.unbonding.read(storage).map_err(text)?,
            )?;
            total = plus_all(&[total, bonded, leaving]).ok_or("stake overflows")?;
        }
        offset = offset.saturating_add(PAGE);
    }
    equal(
        "stake held",
        total,
        staking.held.read(storage).map_err(text)?,
    )
}

fn check_pools(storage: &mut dyn Storage) -> Result<(), String> {
    let (pools, models) = (Pools::new(), Models::new());
    let count = models.all_lineages.len(storage).map_err(text)?;
    let (mut total, mut offset) = (0u128, 0u64);
    while offset < count {
        for lineage in models
            .all_lineages
            .page(storage, offset, PAGE)
            .map_err(text)?
        {
            let pool = pools.pools.at(&lineage);
            let assets = pool.assets.read(storage).map_err(text)?;
            let unbonding = pool.unbonding.read(storage).map_err(text)?;
            let withdrawn = pool.withdrawn.read(storage).map_err(text)?;
            let slashed = pool.slashed.read(storage).map_err(text)?;
            let sum = plus_all(&[assets, unbonding, withdrawn, slashed]).ok_or("pool overflows")?;
            equal(
                "pool deposits",
                sum,
                pool.deposited.read(storage).map_err(text)?,
            )?;
            if assets == 0 && pool.shares.read(storage).map_err(text)? != 0 {
                return Err(format!("pool {lineage} has shares without assets"));
            }
            total = plus_all(&[total, assets, unbonding]).ok_or("pools overflow")?;
        }
        offset = offset.saturating_add(PAGE);
    }
    equal(
        "native coin of pools",
        total,
        pools.held.read(storage).map_err(text)?,
    )
}

//! Staking on a model through the ABI: money follows the rules.

mod common;

use alloy_primitives::{U256, keccak256};
use assay_abi::{IErrors, IModels, IPools, POOLS};
use common::*;

#[test]
fn stake_goes_in_and_comes_out_after_its_epochs() {
    let mut w = World::ready(Shape::flat(6));
    let lineage = keccak256("tiny");
    let (first, second) = (account(12).address, account(13).address);
    let deposit = IPools::depositCall { lineage };
    let unknown = IPools::depositCall {
        lineage: keccak256("none"),
    };
    assert_error::<IModels::UnknownLineage, _>(w.pay(first, POOLS, 1, &unknown));
    assert_error::<IErrors::ZeroAmount, _>(w.call(first, POOLS, &deposit));
    let had = w.native(first);
    w.pay(first, POOLS, 300, &deposit).unwrap();
    w.pay(second, POOLS, 700, &deposit).unwrap();
    w.check();
    let shares = |amount: u64| IPools::unbondCall {
        lineage,
        shares: U256::from(amount),
    };
    assert_error::<IPools::InsufficientShares, _>(w.call(first, POOLS, &shares(301)));
    assert_eq!(w.call(first, POOLS, &shares(200)), Ok(U256::from(200)));
    w.check();
    let stake = w.view(
        POOLS,
        &IPools::stakeCall {
            lineage,
            account: first,
        },
    );
    assert_eq!(
        (stake.shares, stake.assets, stake.unbonding),
        (U256::from(100), U256::from(100), U256::from(200))
    );
    let withdraw = IPools::withdrawCall { lineage };
    w.advance(4 * 60_000);
    assert_error::<IPools::NothingMature, _>(w.call(first, POOLS, &withdraw));
    w.advance(60_000);
    assert_eq!(w.call(first, POOLS, &withdraw), Ok(U256::from(200)));
    assert_error::<IPools::NothingMature, _>(w.call(first, POOLS, &withdraw));
    assert_eq!(had - w.native(first), 100);
    let escrow = w.view(POOLS, &IPools::escrowTotalCall {});
    assert_eq!((escrow.native, escrow.usd), (U256::from(800), U256::ZERO));
    let pool = w.view(POOLS, &IPools::poolCall { lineage });
    assert_eq!(
        (pool.deposited, pool.withdrawn, pool.assets),
        (U256::from(1_000), U256::from(200), U256::from(800))
    );
    assert_error::<IPools::NothingToClaim, _>(w.call(first, POOLS, &IPools::claimCall { lineage }));
    w.check();
}

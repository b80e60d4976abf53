//! Operators: bonds, keys, leaving.

mod common;

use alloy_primitives::{Address, U256};
use assay_abi::{IErrors, IStaking, STAKING};
use common::*;

fn register(key: u8) -> IStaking::registerCall {
    IStaking::registerCall {
        receiptKey: account(key).address,
        endpoint: "https://operator.example".to_string(),
    }
}

#[test]
fn registration_takes_a_bond_a_fresh_key_and_a_short_endpoint() {
    let mut w = World::new();
    let operator = account(1).address;
    let low: IStaking::BondTooSmall =
        assert_error(w.pay(operator, STAKING, 100 * ASSAY - 1, &register(2)));
    assert_eq!(low.minimum, U256::from(100 * ASSAY));
    let long = IStaking::registerCall {
        endpoint: "x".repeat(257),
        ..register(2)
    };
    assert_error::<IStaking::EndpointTooLong, _>(w.pay(operator, STAKING, 100 * ASSAY, &long));
    let keyless = IStaking::registerCall {
        receiptKey: Address::ZERO,
        ..register(2)
    };
    assert_error::<IStaking::KeyTaken, _>(w.pay(operator, STAKING, 100 * ASSAY, &keyless));
    w.pay(operator, STAKING, 100 * ASSAY, &register(2)).unwrap();
    assert_error::<IStaking::AlreadyRegistered, _>(w.pay(
        operator,
        STAKING,
        100 * ASSAY,
        &register(5),
    ));
    let stolen: IStaking::KeyTaken =
        assert_error(w.pay(account(6).address, STAKING, 100 * ASSAY, &register(2)));
    assert_eq!(stolen.operator, operator);
    let view = w.view(STAKING, &IStaking::operatorCall { account: operator });
    assert_eq!(
        (view.bonded, view.receiptKey),
        (U256::from(100 * ASSAY), account(2).address)
    );
    assert_eq!(view.endpoint, "https://operator.example");
    let page = w.view(
        STAKING,
        &IStaking::operatorsCall {
            offset: U256::ZERO,
            limit: U256::MAX,
        },
    );
    assert_eq!((page.page, page.total), (vec![operator], U256::ONE));
    assert_error::<IStaking::UnknownOperator, _>(w.pay(
        account(6).address,
        STAKING,
        1,
        &IStaking::bondCall {},
    ));
    w.call(
        operator,
        STAKING,
        &IStaking::setEndpointCall {
            endpoint: String::new(),
        },
    )
    .unwrap();
    w.check();
}

#[test]
fn stake_leaves_after_its_time_in_order() {
    let mut w = World::new();
    let operator = account(1).address;
    w.pay(operator, STAKING, 500 * ASSAY, &register(2)).unwrap();
    w.pay(operator, STAKING, 500 * ASSAY, &IStaking::bondCall {})
        .unwrap();
    let had = w.native(operator);
    assert_error::<IErrors::ZeroAmount, _>(w.call(
        operator,
        STAKING,
        &IStaking::unbondCall { amount: U256::ZERO },
    ));
    w.call(
        operator,
        STAKING,
        &IStaking::unbondCall {
            amount: U256::from(300 * ASSAY),
        },
    )
    .unwrap();
    w.advance(1_000);
    w.call(
        operator,
        STAKING,
        &IStaking::unbondCall {
            amount: U256::from(200 * ASSAY),
        },
    )
    .unwrap();
    let waiting = w.view(STAKING, &IStaking::unbondingsCall { account: operator });
    assert_eq!(waiting.len(), 2);
    assert_error::<IStaking::NothingMature, _>(w.call(
        operator,
        STAKING,
        &IStaking::withdrawCall {},
    ));
    w.check();
    w.advance(9_000_000 - 1_000);
    assert_eq!(
        w.call(operator, STAKING, &IStaking::withdrawCall {}),
        Ok(U256::from(300 * ASSAY))
    );
    w.advance(1_000);
    assert_eq!(
        w.call(operator, STAKING, &IStaking::withdrawCall {}),
        Ok(U256::from(200 * ASSAY))
    );
    assert_eq!(w.native(operator) - had, 500 * ASSAY);
    assert_eq!(
        w.view(STAKING, &IStaking::freeStakeCall { account: operator }),
        U256::from(500 * ASSAY)
    );
    for _ in 0..32 {
        w.call(
            operator,
            STAKING,
            &IStaking::unbondCall { amount: U256::ONE },
        )
        .unwrap();
    }
    let more = IStaking::unbondCall { amount: U256::ONE };
    assert_error::<IStaking::TooManyUnbondings, _>(w.call(operator, STAKING, &more));
    w.check();
}

#[test]
fn one_rotation_at_a_time() {
    let mut w = World::new();
    let operator = account(1).address;
    w.pay(operator, STAKING, 100 * ASSAY, &register(2)).unwrap();
    let rotate = |key: u8| IStaking::rotateKeyCall {
        receiptKey: account(key).address,
    };
    w.call(operator, STAKING, &rotate(5)).unwrap();
    assert_error::<IStaking::RotationPending, _>(w.call(operator, STAKING, &rotate(6)));
    let view = w.view(STAKING, &IStaking::operatorCall { account: operator });
    assert_eq!(
        (view.receiptKey, view.pendingKey),
        (account(2).address, account(5).address)
    );
    w.advance(1_000);
    w.call(operator, STAKING, &rotate(6)).unwrap();
    let old = w.view(
        STAKING,
        &IStaking::keyCall {
            receiptKey: account(5).address,
        },
    );
    assert_eq!(old.operator, operator);
    assert_eq!(old.until - old.from, 1_000);
}

//! What holds for every function of every module.

mod common;

use alloy_primitives::{Address, Bytes, U256};
use alloy_sol_types::{SolCall, SolError, SolInterface};
use assay_abi::*;
use assay_modules::{Modules, Outcome};
use common::*;

fn selectors<I: SolInterface>() -> Vec<[u8; 4]> {
    I::selectors().collect()
}

fn interfaces() -> Vec<(Address, Vec<[u8; 4]>)> {
    vec![
        (USD, selectors::<IUsd::IUsdCalls>()),
        (STAKING, selectors::<IStaking::IStakingCalls>()),
        (MODELS, selectors::<IModels::IModelsCalls>()),
        (CLAIMS, selectors::<IClaims::IClaimsCalls>()),
        (DISPUTES, selectors::<IDisputes::IDisputesCalls>()),
        (CLOCK, selectors::<IClock::IClockCalls>()),
        (BURN, selectors::<IBurn::IBurnCalls>()),
        (POOLS, selectors::<IPools::IPoolsCalls>()),
        (PARAMETERS, selectors::<IParameters::IParametersCalls>()),
    ]
}

#[test]
fn every_module_is_listed_once() {
    let listed: Vec<Address> = interfaces()
        .into_iter()
        .map(|(address, _)| address)
        .collect();
    let mut known = Modules::addresses().to_vec();
    assert_eq!(
        MODULES
            .map(|(_, _, _, address)| address)
            .iter()
            .filter(|a| known.contains(a))
            .count(),
        known.len()
    );
    known.sort();
    let mut sorted = listed;
    sorted.sort();
    assert_eq!(known, sorted);
    assert!(!Modules::is_module(&Address::ZERO));
}

#[test]
fn every_selector_is_dispatched_and_no_two_collide() {
    let mut w = World::ready(Shape::flat(6));
    for (target, selectors) in interfaces() {
        let mut seen = selectors.clone();
        seen.sort_unstable();
        seen.dedup();
        assert_eq!(seen.len(), selectors.len(), "selectors of {target} collide");
        for selector in selectors {
            let outcome = w.raw(account(15).address, target, 0, &selector);
            assert_ne!(
                outcome,
                Outcome::Revert(Bytes::new()),
                "{target} does not know {selector:02x?}"
            );
        }
    }
}

#[test]
fn unknown_selectors_and_short_calldata_revert_without_data() {
    let mut w = World::new();
    let before = w.storage.slots().count();
    for (target, _) in interfaces() {
        for input in [
            &[][..],
            &[1],
            &[1, 2, 3],
            &[0xde, 0xad, 0xbe, 0xef],
            &[0xff; 68],
        ] {
            assert_eq!(
                w.raw(account(15).address, target, 0, input),
                Outcome::Revert(Bytes::new())
            );
        }
    }
    assert_eq!(w.storage.slots().count(), before);
}

#[test]
fn trailing_bytes_and_dirty_words_revert() {
    let mut w = World::new();
    let call = IUsd::transferCall {
        to: account(4).address,
        amount: U256::ONE,
    }
    .abi_encode();
    let sender = w.buyer.address;
    let refused = |w: &mut World, input: &[u8]| match w.raw(sender, USD, 0, input) {
        Outcome::Revert(data) => IErrors::BadCalldata::abi_decode_validate(&data).expect("typed"),
        other => panic!("{other:?}"),
    };
    let mut long = call.clone();
    long.push(0);
    assert_eq!(refused(&mut w, &long).length, U256::from(69));
    refused(&mut w, &call[..67]);
    let mut dirty = call.clone();
    dirty[4] = 1;
    refused(&mut w, &dirty);
    // An offset that skips a word decodes, but is not the canonical encoding.
    let name = IParameters::parameterCall {
        name: "x".to_string(),
    }
    .abi_encode();
    let mut moved = name.clone();
    moved[35] = 0x40;
    moved.splice(36..36, [0; 32]);
    let outcome = w.raw(sender, PARAMETERS, 0, &moved);
    assert!(
        matches!(outcome, Outcome::Revert(data) if IErrors::BadCalldata::abi_decode_validate(&data).is_ok())
    );
}

#[test]
fn only_four_functions_take_native_coin() {
    let mut w = World::ready(Shape::flat(6));
    let payable = [
        IStaking::registerCall::SELECTOR,
        IStaking::bondCall::SELECTOR,
        IPools::depositCall::SELECTOR,
        IDisputes::challengeCall::SELECTOR,
    ];
    for (target, selectors) in interfaces() {
        for selector in selectors {
            // Enough zero words for every static signature; dynamic ones are refused as calldata.
            for words in 0..12 {
                let mut input = selector.to_vec();
                input.resize(4 + 32 * words, 0);
                if let Outcome::Return(_) = w.raw(account(15).address, target, 1, &input) {
                    assert!(
                        payable.contains(&selector),
                        "{target} {selector:02x?} took value"
                    );
                }
            }
        }
    }
    let outcome = w.raw(
        account(15).address,
        USD,
        7,
        &IUsd::totalSupplyCall {}.abi_encode(),
    );
    let Outcome::Revert(data) = outcome else {
        panic!("{outcome:?}")
    };
    assert_eq!(
        IErrors::NotPayable::abi_decode_validate(&data)
            .expect("typed")
            .value,
        U256::from(7)
    );
}

#[test]
fn static_calls_change_nothing() {
    let mut w = World::ready(Shape::flat(6));
    let before: Vec<_> = w
        .storage
        .slots()
        .map(|(key, value)| (*key, *value))
        .collect();
    w.storage.is_static = true;
    for (target, selectors) in interfaces() {
        for selector in selectors {
            for words in 0..12 {
                let mut input = selector.to_vec();
                input.resize(4 + 32 * words, 0);
                let call = assay_modules::Call {
                    target,
                    caller: account(3).address,
                    value: U256::ZERO,
                    input: &input,
                };
                let outcome = w.modules.call(&mut w.storage, call);
                assert!(
                    !matches!(outcome, Outcome::Fatal(_) | Outcome::OutOfGas),
                    "{outcome:?}"
                );
            }
        }
    }
    let transfer = IUsd::transferCall {
        to: account(4).address,
        amount: U256::ONE,
    }
    .abi_encode();
    let call = assay_modules::Call {
        target: USD,
        caller: account(3).address,
        value: U256::ZERO,
        input: &transfer,
    };
    assert_eq!(
        w.modules.call(&mut w.storage, call),
        Outcome::StaticViolation
    );
    let after: Vec<_> = w
        .storage
        .slots()
        .map(|(key, value)| (*key, *value))
        .collect();
    assert_eq!(before, after);
}

#[test]
fn gas_that_runs_out_ends_the_call_and_undoes_it() {
    let mut w = World::ready(Shape::flat(6));
    let (receipt, request) = w.draft(&Shape::flat(6), &honest_leaves(&Shape::flat(6)));
    let input = w.signed(&receipt, &request).abi_encode();
    let before: Vec<_> = w
        .storage
        .slots()
        .map(|(key, value)| (*key, *value))
        .collect();
    w.storage.gas = 3_500;
    assert_eq!(
        w.raw(account(15).address, CLAIMS, 0, &input),
        Outcome::OutOfGas
    );
    let after: Vec<_> = w
        .storage
        .slots()
        .map(|(key, value)| (*key, *value))
        .collect();
    assert_eq!(before, after);
}

/// Random bytes behind every selector: an outcome, never a panic, never a broken invariant.
#[test]
fn junk_behind_every_selector_is_survived() {
    let mut w = World::ready(Shape::flat(6));
    let mut state = 0x9E37_79B9_7F4A_7C15u64;
    let mut random = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    for (target, selectors) in interfaces() {
        for selector in selectors {
            for _ in 0..40 {
                let mut input = selector.to_vec();
                for _ in 0..random() % 40 {
                    let mut word = [0u8; 32];
                    match random() % 4 {
                        0 => {}
                        1 => word[31] = (random() % 256) as u8,
                        2 => word[24..].copy_from_slice(&(random() % 2_048).to_be_bytes()),
                        _ => word.iter_mut().for_each(|byte| *byte = random() as u8),
                    }
                    input.extend(word);
                }
                let outcome = w.raw(account(3).address, target, 0, &input);
                assert!(
                    !matches!(outcome, Outcome::Fatal(_)),
                    "{target} {selector:02x?}: {outcome:?}"
                );
            }
        }
    }
    w.check();
}

//! Proof keys in parts: announced by their maker, uploaded by anyone, checked when the last part is here.

mod common;

use alloy_primitives::{B256, U256, keccak256};
use alloy_sol_types::SolCall;
use assay_abi::{
    IErrors, IModels, MAX_PROOF_KEY, MAX_PROOF_KEY_AT_ONCE, MODELS, PROOF_KEY_PART, proof_key_parts,
};
use assay_modules::Outcome;
use assay_storage::MemoryStorage;
use common::proofs::*;
use common::*;

fn shape() -> Shape {
    Shape::flat(6)
}

/// A key of so many bytes, no two parts of which are equal.
fn key(length: usize, tag: u8) -> Vec<u8> {
    let mut tail: Vec<u8> = (0..length - 58).map(|i| (i / 1000) as u8).collect();
    tail[0] = tag;
    key_of(&shape(), &tail)
}

const LONG: usize = 2 * PROOF_KEY_PART + 777;

fn blobs(w: &World) -> usize {
    w.storage.blobs().count()
}

/// Everything that a refused call may have changed.
fn state(w: &World) -> impl PartialEq + std::fmt::Debug + use<> {
    let slots: Vec<_> = w.storage.slots().map(|(k, v)| (*k, *v)).collect();
    let hash =
        |s: &MemoryStorage| -> Vec<_> { s.blobs().map(|(at, b)| (*at, keccak256(b))).collect() };
    (slots, hash(&w.storage))
}

fn parts(key: &[u8]) -> Vec<Vec<u8>> {
    proof_key_parts(key).map(<[u8]>::to_vec).collect()
}

fn upload(w: &mut World, key: &[u8]) -> u32 {
    let key_id = keccak256(key);
    let mut missing = u32::MAX;
    for (index, part) in (0..).zip(parts(key)) {
        missing = w.add_part(&shape(), key_id, index, &part).unwrap();
    }
    missing
}

#[test]
fn a_long_key_is_set_with_its_last_part_in_whatever_order() {
    let mut genesis = genesis();
    genesis.params.proof_key_notice_ms = 100_000;
    let mut w = World::with(genesis);
    w.prepare(shape());
    let (maker, operator) = (w.maker.address, w.operator.address);
    let key = key(LONG, 1);
    let parts = parts(&key);
    assert_eq!(parts.len(), 3);
    let key_id = w.announce(maker, &shape(), &key).unwrap();
    let view = w.key_view(&shape());
    assert_eq!(
        (view.keyId, view.length, view.missing),
        (key_id, LONG as u32, 3)
    );
    assert_eq!((view.setAt, view.usableFrom, view.usable), (0, 0, false));
    for (index, missing) in [(2, 2), (0, 1)] {
        let left = w.add_part(&shape(), key_id, index, &parts[index as usize]);
        assert_eq!(left.unwrap(), missing);
        // nobody's word counts, nothing is read, and time does not run
        let error =
            assert_error::<IModels::ProofKeyIncomplete, _>(w.attest(operator, &shape(), key_id));
        assert_eq!(error.missing, missing);
        w.advance(200_000);
    }
    let call = IModels::proofKeyPartsCall {
        modelId: shape().model_id(),
    };
    let found = w.view(MODELS, &call);
    assert_eq!(found.here, [true, false, true]);
    let hashes: Vec<B256> = parts.iter().map(keccak256).collect();
    assert_eq!(found.hashes, hashes);
    assert_eq!(w.add_part(&shape(), key_id, 1, &parts[1]).unwrap(), 0);
    let view = w.key_view(&shape());
    assert_eq!(view.usableFrom, view.setAt + 100_000);
    assert_eq!(w.key_bytes(&shape()), key);
    w.attest(operator, &shape(), key_id).unwrap();
    assert!(!w.key_view(&shape()).usable);
    w.advance(100_000);
    assert!(w.key_view(&shape()).usable);
    // proofs are checked with these bytes, and the key never changes
    let claim_id = w.answer(&shape(), &honest_leaves(&shape()));
    let proof = w.proof_of(claim_id, key_id);
    w.prove(claim_id, &proof).unwrap();
    assert_error::<IModels::ProofKeyFixed, _>(w.announce(maker, &shape(), &key));
    assert_error::<IModels::ProofKeyPartKnown, _>(w.add_part(&shape(), key_id, 1, &parts[1]));
    w.check();
}

#[test]
fn a_key_is_announced_by_its_maker_with_as_many_parts_as_it_has() {
    let mut w = World::ready(shape());
    let maker = w.maker.address;
    let before = state(&w);
    let key = key(LONG, 1);
    let stranger = w.operator.address;
    assert_error::<IErrors::Unauthorized, _>(w.announce(stranger, &shape(), &key));
    let hashes: Vec<B256> = parts(&key).iter().map(keccak256).collect();
    let call = |length: usize, hashes: &[B256], id: B256| IModels::announceProofKeyCall {
        modelId: shape().model_id(),
        keyId: id,
        length: length as u32,
        hashes: hashes.to_vec(),
    };
    let id = keccak256(&key);
    for (length, hashes) in [
        (LONG, &hashes[..2]),
        (2 * PROOF_KEY_PART, &hashes[..]),
        (3 * PROOF_KEY_PART + 1, &hashes[..]),
        (LONG, &[]),
    ] {
        let error = assert_error::<IModels::ProofKeyParts, _>(w.call(
            maker,
            MODELS,
            &call(length, hashes, id),
        ));
        assert_eq!(error.have, U256::from(hashes.len()));
    }
    let many = vec![B256::ZERO; 97];
    let error = assert_error::<IModels::ProofKeyTooLong, _>(w.call(
        maker,
        MODELS,
        &call(MAX_PROOF_KEY + 1, &many, id),
    ));
    assert_eq!(error.limit, U256::from(MAX_PROOF_KEY));
    assert_error::<IModels::ProofKeyRefused, _>(w.call(maker, MODELS, &call(0, &[], id)));
    let none = call(LONG, &hashes, B256::ZERO);
    assert_error::<IModels::ProofKeyRefused, _>(w.call(maker, MODELS, &none));
    assert_error::<IModels::NoProofKey, _>(w.add_part(&shape(), id, 0, &parts(&key)[0]));
    assert_eq!(state(&w), before);
    w.call(maker, MODELS, &call(MAX_PROOF_KEY, &many[..96], id))
        .unwrap();
    assert_eq!(w.key_view(&shape()).missing, 96);
}

#[test]
fn a_part_must_be_the_announced_one() {
    let mut w = World::ready(shape());
    let maker = w.maker.address;
    let key = key(LONG, 1);
    let parts = parts(&key);
    let key_id = w.announce(maker, &shape(), &key).unwrap();
    w.add_part(&shape(), key_id, 1, &parts[1]).unwrap();
    let before = state(&w);
    // of another key, at another place, twice, beyond the end, cut off, longer, changed, empty
    let wrong = B256::repeat_byte(1);
    let error =
        assert_error::<IModels::WrongProofKey, _>(w.add_part(&shape(), wrong, 0, &parts[0]));
    assert_eq!((error.have, error.want), (wrong, key_id));
    assert_error::<IModels::ProofKeyPartHash, _>(w.add_part(&shape(), key_id, 0, &parts[1]));
    assert_error::<IModels::ProofKeyPartKnown, _>(w.add_part(&shape(), key_id, 1, &parts[1]));
    for index in [3, 96, 255, 256, u32::MAX] {
        let refused = w.add_part(&shape(), key_id, index, &parts[2]);
        assert_error::<IErrors::OutOfBounds, _>(refused);
    }
    assert_error::<IModels::ProofKeyPartLength, _>(w.add_part(&shape(), key_id, 0, &parts[2]));
    assert_error::<IModels::ProofKeyPartLength, _>(w.add_part(&shape(), key_id, 2, &parts[0]));
    assert_error::<IModels::ProofKeyPartLength, _>(w.add_part(&shape(), key_id, 0, &[]));
    let longer = [parts[2].as_slice(), &[0]].concat();
    assert_error::<IModels::ProofKeyPartLength, _>(w.add_part(&shape(), key_id, 2, &longer));
    let mut changed = parts[0].clone();
    changed[40_000] ^= 1;
    assert_error::<IModels::ProofKeyPartHash, _>(w.add_part(&shape(), key_id, 0, &changed));
    let other = Shape { tag: 9, ..shape() };
    assert_error::<IModels::UnknownModel, _>(w.add_part(&other, key_id, 0, &parts[0]));
    assert_eq!(state(&w), before);
}

#[test]
fn what_the_parts_add_up_to_is_checked_with_the_last_one() {
    let mut w = World::ready(shape());
    let maker = w.maker.address;
    let other = Shape { tag: 9, ..shape() };
    let tail = vec![3; LONG - 58];
    let stranger = key_of(&other, &tail);
    let mut spliced = key(LONG, 1);
    spliced[33] = 9;
    let mut twisted = key(LONG, 1);
    let end = twisted.len() - 13;
    twisted[end..].copy_from_slice(b"not canonical");
    for (bad, words) in [
        (stranger, None),
        (spliced, Some("structure")),
        (twisted, Some("canonical")),
    ] {
        let key_id = w.announce(maker, &shape(), &bad).unwrap();
        let parts = parts(&bad);
        w.add_part(&shape(), key_id, 0, &parts[0]).unwrap();
        w.add_part(&shape(), key_id, 1, &parts[1]).unwrap();
        let before = state(&w);
        let refused = w.add_part(&shape(), key_id, 2, &parts[2]);
        match words {
            None => assert_eq!(
                assert_error::<IModels::ProofKeyModel, _>(refused).have,
                other.model_id()
            ),
            Some(words) => {
                let error = assert_error::<IModels::ProofKeyRefused, _>(refused);
                assert!(error.reason.contains(words), "{}", error.reason);
            }
        }
        assert_eq!(state(&w), before);
        assert_eq!(w.key_view(&shape()).missing, 1);
    }
    // announced under an id that is not its own
    let good = key(LONG, 1);
    let call = IModels::announceProofKeyCall {
        modelId: shape().model_id(),
        keyId: B256::repeat_byte(5),
        length: LONG as u32,
        hashes: parts(&good).iter().map(keccak256).collect(),
    };
    w.call(maker, MODELS, &call).unwrap();
    let parts = parts(&good);
    w.add_part(&shape(), call.keyId, 0, &parts[0]).unwrap();
    w.add_part(&shape(), call.keyId, 1, &parts[1]).unwrap();
    let error =
        assert_error::<IModels::WrongProofKey, _>(w.add_part(&shape(), call.keyId, 2, &parts[2]));
    assert_eq!((error.have, error.want), (keccak256(&good), call.keyId));
    // the maker says it right
    w.announce(maker, &shape(), &good).unwrap();
    assert_eq!(upload(&mut w, &good), 0);
}

#[test]
fn a_replaced_key_leaves_nothing_behind() {
    let mut w = World::ready(shape());
    let (maker, operator) = (w.maker.address, w.operator.address);
    let (first, second) = (key(LONG, 1), key(5 * PROOF_KEY_PART, 2));
    let empty = blobs(&w);
    let key_id = w.announce(maker, &shape(), &first).unwrap();
    w.add_part(&shape(), key_id, 0, &parts(&first)[0]).unwrap();
    w.add_part(&shape(), key_id, 2, &parts(&first)[2]).unwrap();
    assert_eq!(blobs(&w), empty + 2);
    // while it is uploaded
    w.announce(maker, &shape(), &second).unwrap();
    assert_eq!(blobs(&w), empty);
    assert_error::<IModels::WrongProofKey, _>(w.add_part(&shape(), key_id, 1, &parts(&first)[1]));
    upload(&mut w, &second);
    assert_eq!(blobs(&w), empty + 5);
    // after, and before it is usable; the same key again begins anew
    w.announce(maker, &shape(), &second).unwrap();
    assert_eq!((blobs(&w), w.key_view(&shape()).missing), (empty, 5));
    upload(&mut w, &second);
    let slots = w.storage.slots().count();
    // by a short one
    let short = key_of(&shape(), b"tail");
    let short_id = w.set_key(maker, &shape(), &short).unwrap();
    assert_eq!(blobs(&w), empty + 1);
    assert!(w.storage.slots().count() < slots);
    assert_eq!(w.key_bytes(&shape()), short);
    // a short one by a long one
    w.announce(maker, &shape(), &first).unwrap();
    assert_eq!(blobs(&w), empty);
    assert_error::<IModels::ProofKeyIncomplete, _>(w.attest(operator, &shape(), short_id));
}

#[test]
fn words_for_a_key_that_was_replaced_do_not_help_an_unfinished_one() {
    let mut w = World::ready(shape());
    let (maker, operator) = (w.maker.address, w.operator.address);
    let long = key(LONG, 1);
    let key_id = w.announce(maker, &shape(), &long).unwrap();
    upload(&mut w, &long);
    w.set_key(maker, &shape(), &key_of(&shape(), b"tail"))
        .unwrap();
    w.announce(maker, &shape(), &long).unwrap();
    upload_but_last(&mut w, &long);
    assert_error::<IModels::ProofKeyIncomplete, _>(w.attest(operator, &shape(), key_id));
    assert!(!w.key_view(&shape()).usable);
    let claim_id = w.answer(&shape(), &honest_leaves(&shape()));
    let proof = w.proof_of(claim_id, key_id);
    assert_error::<IModels::ProofKeyIncomplete, _>(w.prove(claim_id, &proof));
    let call = IModels::verifyProofCall {
        proof: proof.encode(),
    };
    let check = w.view(MODELS, &call);
    assert!(
        !check.ok && check.reason.contains("no usable"),
        "{}",
        check.reason
    );
}

fn upload_but_last(w: &mut World, key: &[u8]) {
    let all = parts(key);
    for (index, part) in (0..).zip(&all[..all.len() - 1]) {
        w.add_part(&shape(), keccak256(key), index, part).unwrap();
    }
}

#[test]
fn any_range_of_a_key_is_shown() {
    let mut w = World::ready(shape());
    let maker = w.maker.address;
    let key = key(LONG, 1);
    w.announce(maker, &shape(), &key).unwrap();
    upload(&mut w, &key);
    let part = PROOF_KEY_PART as u64;
    let length = LONG as u64;
    let cases = [
        (0, 0, 0..0),
        (0, 1, 0..1),
        (part - 1, 2, part - 1..part + 1),
        (part, part, part..2 * part),
        (0, u64::MAX, 0..MAX_PROOF_KEY_AT_ONCE as u64),
        (2 * part, u64::MAX, 2 * part..length),
        (length - 1, 100, length - 1..length),
        (length, 1, 0..0),
        (u64::MAX, u64::MAX, 0..0),
    ];
    for (offset, count, want) in cases {
        let call = IModels::proofKeyBytesCall {
            modelId: shape().model_id(),
            offset: U256::from(offset),
            count: U256::from(count),
        };
        let have = w.view(MODELS, &call);
        assert_eq!(
            have,
            key[want.start as usize..want.end as usize],
            "{offset}"
        );
    }
}

#[test]
fn a_part_is_paid_for_wherever_the_gas_ends() {
    let mut w = World::ready(shape());
    let maker = w.maker.address;
    let key = key(LONG, 1);
    let parts = parts(&key);
    let key_id = w.announce(maker, &shape(), &key).unwrap();
    upload_but_last(&mut w, &key);
    let before = state(&w);
    // hash of the part, and inspection of the whole key
    let needed = (777u64.div_ceil(32)) * 6 + LONG as u64;
    for gas in [0, needed - 1] {
        w.storage.gas = gas;
        let call = IModels::addProofKeyPartCall {
            modelId: shape().model_id(),
            keyId: key_id,
            index: 2,
            part: parts[2].clone().into(),
        };
        let outcome = w.raw(maker, MODELS, 0, &call.abi_encode());
        assert_eq!(outcome, Outcome::OutOfGas);
        assert_eq!(state(&w), before);
    }
    w.storage.gas = needed;
    assert_eq!(w.add_part(&shape(), key_id, 2, &parts[2]).unwrap(), 0);
    assert_eq!(w.storage.gas, 0);
}

//! Proof keys, claims that end by a proof, and claims of tier zk, with a verifier that believes proofs in clear.

mod common;

use alloy_primitives::{B256, Bytes, U256};
use alloy_sol_types::SolCall;
use assay_abi::{
    CLAIMS, DISPUTES, IClaims, IDisputes, IErrors, IModels, IStaking, MAX_PROOF_BYTES,
    MAX_PROOF_KEY_AT_ONCE, MODELS, Receipt, STAKING, claim_context, receipt_domain, zk_evidence,
};
use assay_modules::{GenesisParams, Outcome};
use common::proofs::*;
use common::*;

const FINAL: u8 = 3;
const REJECTED: u8 = 4;
const REFUNDED: u8 = 6;

fn shape() -> Shape {
    Shape::flat(6)
}

fn is_proven(w: &mut World, claim_id: B256) -> bool {
    w.view(CLAIMS, &IClaims::isProvenCall { claimId: claim_id })
}

fn key_view(w: &mut World) -> IModels::ProofKey {
    w.key_view(&shape())
}

#[test]
fn a_key_is_its_models_and_its_makers() {
    let mut w = World::ready(shape());
    let (maker, operator) = (w.maker.address, w.operator.address);
    let key = key_of(&shape(), b"one");
    assert_error::<IErrors::Unauthorized, _>(w.set_key(operator, &shape(), &key));
    assert_error::<IModels::ProofKeyRefused, _>(w.set_key(maker, &shape(), &key[..57]));
    let other = Shape { tag: 9, ..shape() };
    let error = assert_error::<IModels::ProofKeyModel, _>(w.set_key(
        maker,
        &shape(),
        &key_of(&other, b"one"),
    ));
    assert_eq!(error.have, other.model_id());
    // the right model id over another structure
    let mut liar = key.clone();
    liar[32 + 1] = 9;
    let error = assert_error::<IModels::ProofKeyRefused, _>(w.set_key(maker, &shape(), &liar));
    assert!(error.reason.contains("structure"), "{}", error.reason);
    let long = key_of(&shape(), &vec![1; MAX_PROOF_KEY_AT_ONCE - 57]);
    assert_error::<IModels::ProofKeyTooLong, _>(w.set_key(maker, &shape(), &long));
    assert_error::<IModels::ProofKeyRefused, _>(w.set_key(maker, &shape(), &[]));
    assert_error::<IModels::UnknownModel, _>(w.set_key(maker, &other, &key_of(&other, b"")));
    assert!(key_view(&mut w).keyId.is_zero());

    let first = w.set_key(maker, &shape(), &key).unwrap();
    let view = key_view(&mut w);
    assert_eq!(view.keyId, first);
    assert_eq!(w.key_bytes(&shape()), key);
    assert!(!view.usable);
    // not usable yet: the maker may correct it
    let longest = key_of(&shape(), &vec![7; MAX_PROOF_KEY_AT_ONCE - 58]);
    let second = w.set_key(maker, &shape(), &longest).unwrap();
    assert_eq!(w.key_bytes(&shape()), longest);
    assert_error::<IModels::WrongProofKey, _>(w.attest(operator, &shape(), first));
    w.attest(operator, &shape(), second).unwrap();
    assert!(key_view(&mut w).usable);
    // usable: fixed for ever
    let error = assert_error::<IModels::ProofKeyFixed, _>(w.set_key(maker, &shape(), &key));
    assert_eq!(error.keyId, second);
    assert_error::<IModels::AlreadyAttested, _>(w.attest(operator, &shape(), second));
}

#[test]
fn a_key_counts_after_notice_and_enough_bonded_words() {
    let mut genesis = genesis();
    genesis.params.proof_key_notice_ms = 100_000;
    genesis.params.proof_key_attesters = 2;
    let mut w = World::with(genesis);
    w.prepare(shape());
    let (maker, operator) = (w.maker.address, w.operator.address);
    let key = key_of(&shape(), b"tail");
    let claim_id = w.answer(&shape(), &honest_leaves(&shape()));
    let key_id = w.set_key(maker, &shape(), &key).unwrap();
    let proof = w.proof_of(claim_id, key_id);
    assert_error::<IModels::ProofKeyNotUsable, _>(w.prove(claim_id, &proof));
    // nobody's word counts without a bond, nor a jailed operator's
    assert_error::<IStaking::UnknownOperator, _>(w.attest(maker, &shape(), key_id));
    let leaver = w.bonded(17);
    let unbond = IStaking::unbondCall {
        amount: U256::from(9_950 * ASSAY),
    };
    w.call(leaver, STAKING, &unbond).unwrap();
    assert_error::<IStaking::BondTooSmall, _>(w.attest(leaver, &shape(), key_id));
    w.attest(operator, &shape(), key_id).unwrap();
    w.advance(100_000);
    let error = assert_error::<IModels::ProofKeyNotUsable, _>(w.prove(claim_id, &proof));
    assert_eq!((error.attesters, error.needed), (1, 2));
    let second = w.bonded(18);
    w.attest(second, &shape(), key_id).unwrap();
    assert!(key_view(&mut w).usable);
    w.prove(claim_id, &proof).unwrap();
    assert!(is_proven(&mut w, claim_id));
    w.check();
}

#[test]
fn a_replaced_key_begins_its_notice_anew() {
    let mut genesis = genesis();
    genesis.params.proof_key_notice_ms = 100_000;
    let mut w = World::with(genesis);
    w.prepare(shape());
    let (maker, operator) = (w.maker.address, w.operator.address);
    let first = w.set_key(maker, &shape(), &key_of(&shape(), b"a")).unwrap();
    w.attest(operator, &shape(), first).unwrap();
    w.advance(99_999);
    // swapped in the last moment: the false key has no word for it and all of the notice before it
    let second = w.set_key(maker, &shape(), &key_of(&shape(), b"b")).unwrap();
    w.advance(1);
    let view = key_view(&mut w);
    assert_eq!(
        (view.keyId, view.attesters, view.usable),
        (second, 0, false)
    );
    w.advance(99_999);
    assert!(!key_view(&mut w).usable);
    w.set_key(maker, &shape(), &key_of(&shape(), b"a")).unwrap();
    assert_eq!(key_view(&mut w).attesters, 1);
    w.advance(99_999);
    assert!(!key_view(&mut w).usable);
    w.advance(1);
    assert!(key_view(&mut w).usable);
}

#[test]
fn a_proof_ends_a_claim_at_once_and_pays_as_ever() {
    let (mut w, key_id) = World::provable(shape());
    let (operator, maker) = (w.operator.address, w.maker.address);
    let claim_id = w.answer(&shape(), &honest_leaves(&shape()));
    assert!(!is_proven(&mut w, claim_id));
    let (before, made) = (w.usd(operator), w.usd(maker));
    let proof = w.proof_of(claim_id, key_id);
    assert_eq!(proof.context, claim_context(CHAIN, claim_id));
    w.prove(claim_id, &proof).unwrap();
    assert_eq!(w.claim(claim_id).state, FINAL);
    assert!(is_proven(&mut w, claim_id));
    assert!(w.usd(operator) > before && w.usd(maker) > made);
    let locked = w
        .view(STAKING, &IStaking::operatorCall { account: operator })
        .locked;
    assert_eq!(locked, U256::ZERO);
    w.check();
    // answered twice, finalised, challenged: it is over
    assert_error::<IDisputes::ClaimNotOpen, _>(w.prove(claim_id, &proof));
    w.advance(700_000);
    assert_error::<IErrors::WrongState, _>(w.call(
        operator,
        CLAIMS,
        &IClaims::finalizeCall { claimId: claim_id },
    ));
    let challenger = w.challengers[0].address;
    assert_error::<IDisputes::ClaimNotOpen, _>(w.challenge(challenger, claim_id));
}

#[test]
fn a_proof_of_anything_else_changes_nothing() {
    let (mut w, key_id) = World::provable(shape());
    let honest = honest_leaves(&shape());
    let (claim_id, other) = (w.answer(&shape(), &honest), w.answer(&shape(), &honest));
    let good = w.proof_of(claim_id, key_id);
    let before: Vec<_> = w.storage.slots().map(|(k, v)| (*k, *v)).collect();
    let wrong = B256::repeat_byte(9);
    let mismatch = |w: &mut World, proof: &FakeProof| {
        assert_error::<IClaims::ProofMismatch, _>(w.prove(claim_id, proof)).field
    };
    let cases = [
        (
            "modelId",
            FakeProof {
                model_id: wrong,
                ..good.clone()
            },
        ),
        (
            "keyId",
            FakeProof {
                key_id: wrong,
                ..good.clone()
            },
        ),
        (
            "runs",
            FakeProof {
                runs: 2,
                ..good.clone()
            },
        ),
        (
            "input",
            FakeProof {
                input_commit: wrong,
                ..good.clone()
            },
        ),
        (
            "output",
            FakeProof {
                output_commit: wrong,
                ..good.clone()
            },
        ),
        (
            "context",
            FakeProof {
                context: w.proof_of(other, key_id).context,
                ..good.clone()
            },
        ),
        (
            "context",
            FakeProof {
                context: claim_context(CHAIN + 1, claim_id).to_vec(),
                ..good.clone()
            },
        ),
        (
            "context",
            FakeProof {
                context: Vec::new(),
                ..good.clone()
            },
        ),
    ];
    for (field, proof) in cases {
        assert_eq!(mismatch(&mut w, &proof), field);
    }
    let refused = [
        FakeProof {
            committed: false,
            ..good.clone()
        },
        FakeProof {
            valid: false,
            ..good.clone()
        },
        FakeProof {
            n_in: 3,
            ..good.clone()
        },
    ];
    for proof in refused {
        assert_error::<IClaims::ProofRefused, _>(w.prove(claim_id, &proof));
    }
    let salted = w.prove_with(claim_id, wrong, good.encode());
    assert_eq!(
        assert_error::<IClaims::ProofMismatch, _>(salted).field,
        "salt"
    );
    let short = Bytes::copy_from_slice(&good.encode()[..100]);
    assert_error::<IClaims::ProofRefused, _>(w.prove_with(claim_id, salt(), short));
    let long = Bytes::from(vec![1; MAX_PROOF_BYTES + 1]);
    assert_error::<IClaims::ProofTooLong, _>(w.prove_with(claim_id, salt(), long));
    assert_error::<IClaims::UnknownClaim, _>(w.prove(wrong, &good));
    let after: Vec<_> = w.storage.slots().map(|(k, v)| (*k, *v)).collect();
    assert_eq!(before, after);
    w.prove(claim_id, &good).unwrap();
}

#[test]
fn a_model_without_a_key_has_no_proofs() {
    let mut w = World::ready(shape());
    let claim_id = w.answer(&shape(), &honest_leaves(&shape()));
    let proof = w.proof_of(claim_id, B256::repeat_byte(1));
    assert_error::<IModels::NoProofKey, _>(w.prove(claim_id, &proof));
    let call = IModels::verifyProofCall {
        proof: proof.encode(),
    };
    let check = w.view(MODELS, &call);
    assert!(!check.ok && check.reason.contains("no usable"));
}

#[test]
fn two_open_disputes_are_lost_by_their_challengers() {
    let (mut w, key_id) = World::provable(shape());
    let claim_id = w.answer(&shape(), &honest_leaves(&shape()));
    let (a, b) = (w.challengers[0].address, w.challengers[1].address);
    let supply = w.storage.supply();
    let rich = [w.native(a), w.native(b)];
    let bond = w.bond(claim_id);
    let first = w.challenge(a, claim_id).unwrap();
    let second = w.challenge(b, claim_id).unwrap();
    let operator = w.operator.address;
    let before = w.native(operator);
    let proof = w.proof_of(claim_id, key_id);
    w.prove(claim_id, &proof).unwrap();
    assert_eq!(w.claim(claim_id).state, FINAL);
    assert_eq!(w.claim(claim_id).openDisputes, 0);
    w.check();
    // one is closed by hand, the other at the end of the block
    let close = IDisputes::closeCall { id: second };
    w.call(b, DISPUTES, &close).unwrap();
    assert_error::<IDisputes::NothingToClose, _>(w.call(b, DISPUTES, &close));
    let timeout = IDisputes::timeoutCall { id: first };
    assert_error::<IDisputes::NothingToClose, _>(w.call(a, DISPUTES, &timeout));
    w.advance(1_000);
    for (id, who, had) in [(first, a, rich[0]), (second, b, rich[1])] {
        assert_eq!(w.dispute(id).stage, 9);
        assert_eq!(w.native(who), had - bond);
    }
    assert_eq!(w.native(operator), before + 2 * (bond / 2));
    assert_eq!(w.storage.supply(), supply);
    assert_eq!(w.native(DISPUTES), 0);
    w.check();
}

#[test]
fn a_dispute_won_before_the_proof_stays_won() {
    let (mut w, key_id) = World::provable(shape());
    let claim_id = w.answer(&shape(), &honest_leaves(&shape()));
    let proof = w.proof_of(claim_id, key_id);
    let challenger = w.challengers[0].address;
    let id = w.challenge(challenger, claim_id).unwrap();
    w.advance(10_000_000);
    w.call(challenger, DISPUTES, &IDisputes::timeoutCall { id })
        .unwrap();
    assert_eq!(w.claim(claim_id).state, REJECTED);
    assert_error::<IDisputes::ClaimNotOpen, _>(w.prove(claim_id, &proof));
    assert!(!is_proven(&mut w, claim_id));
    w.check();
}

#[test]
fn an_equivocator_is_not_paid_for_a_proof() {
    let (mut w, key_id) = World::provable(shape());
    let honest = honest_leaves(&shape());
    let claim_id = w.answer(&shape(), &honest);
    let (first, _) = w.draft(&shape(), &honest);
    let second = Receipt { fee: 7, ..first };
    let domain = receipt_domain(CHAIN, CLAIMS);
    let call = IClaims::equivocationCall {
        first: first.to_words(),
        firstSignature: sign(&w.key, first.signing_hash(&domain)),
        second: second.to_words(),
        secondSignature: sign(&w.key, second.signing_hash(&domain)),
    };
    w.call(account(15).address, CLAIMS, &call).unwrap();
    let buyer = w.buyer.address;
    let escrow = w.escrow(buyer);
    let proof = w.proof_of(claim_id, key_id);
    w.prove(claim_id, &proof).unwrap();
    assert_eq!(w.claim(claim_id).state, REFUNDED);
    assert_eq!(w.escrow(buyer), escrow + 1_000_000);
    assert!(is_proven(&mut w, claim_id));
    w.check();
}

/// A receipt of tier zk: exposure for the fee alone, the key's id as evidence, no trace.
fn zk(w: &mut World, key_id: B256) -> (Receipt, assay_abi::Request) {
    let (receipt, mut request) = w.draft(&shape(), &honest_leaves(&shape()));
    request.tierMask = 1 << 4;
    let exposure = receipt.fee * ASSAY / 1_000_000;
    let receipt = Receipt {
        tier: 4,
        evidence_hash: zk_evidence(key_id),
        trace_root: B256::ZERO,
        cum_exposure: receipt.cum_exposure - receipt.exposure + exposure,
        exposure,
        request_hash: alloy_sol_types::SolStruct::eip712_hash_struct(&request),
        ..receipt
    };
    (receipt, request)
}

#[test]
fn a_zk_receipt_names_a_usable_key_and_covers_its_fee() {
    let mut w = World::ready(shape());
    let wrong = B256::repeat_byte(3);
    let (receipt, request) = zk(&mut w, wrong);
    assert_error::<IModels::NoProofKey, _>(w.assert(&receipt, &request));
    let (mut w, key_id) = World::provable(shape());
    let (receipt, request) = zk(&mut w, wrong);
    assert_error::<IClaims::UnexpectedEvidence, _>(w.assert(&receipt, &request));
    let (receipt, request) = zk(&mut w, key_id);
    let bare = Receipt {
        evidence_hash: B256::ZERO,
        ..receipt
    };
    assert_error::<IClaims::UnexpectedEvidence, _>(w.assert(&bare, &request));
    let poor = Receipt {
        exposure: receipt.exposure - 1,
        cum_exposure: receipt.cum_exposure - 1,
        ..receipt
    };
    assert_error::<IClaims::ExposureTooSmall, _>(w.assert(&poor, &request));
    w.assert(&receipt, &request).unwrap();
    w.check();
}

#[test]
fn a_zk_claim_is_paid_for_a_proof_and_for_nothing_else() {
    let (mut w, key_id) = World::provable(shape());
    let (receipt, request) = zk(&mut w, key_id);
    let claim_id = w.assert(&receipt, &request).unwrap();
    let (operator, challenger) = (w.operator.address, w.challengers[0].address);
    assert_error::<IClaims::ProofRequired, _>(w.challenge(challenger, claim_id));
    let finalize = IClaims::finalizeCall { claimId: claim_id };
    assert_error::<IClaims::ProofRequired, _>(w.call(operator, CLAIMS, &finalize));
    let expire = IClaims::expireCall { claimId: claim_id };
    assert_error::<IClaims::NotFinal, _>(w.call(operator, CLAIMS, &expire));
    let proof = w.proof_of(claim_id, key_id);
    assert_eq!(proof.context, claim_context(CHAIN, receipt.body_id()));
    assert_ne!(receipt.body_id(), claim_id);
    // a proof that names the claim instead of the body does not count
    let context = claim_context(CHAIN, claim_id).to_vec();
    let named = FakeProof {
        context,
        ..proof.clone()
    };
    assert_error::<IClaims::ProofMismatch, _>(w.prove(claim_id, &named));
    w.advance(599_999);
    w.prove(claim_id, &proof).unwrap();
    assert_eq!(w.claim(claim_id).state, FINAL);
    w.advance(1);
    assert_error::<IErrors::WrongState, _>(w.call(operator, CLAIMS, &expire));
    w.check();
}

#[test]
fn a_zk_claim_without_a_proof_gives_the_fee_back() {
    let (mut w, key_id) = World::provable(shape());
    let (buyer, operator) = (w.buyer.address, w.operator.address);
    let escrow = w.escrow(buyer);
    let supply = w.storage.supply();
    let bonded = |w: &mut World| {
        w.view(STAKING, &IStaking::operatorCall { account: operator })
            .bonded
    };
    let had = bonded(&mut w);
    let (receipt, request) = zk(&mut w, key_id);
    let claim_id = w.assert(&receipt, &request).unwrap();
    let proof = w.proof_of(claim_id, key_id);
    w.advance(600_000);
    let finalize = IClaims::finalizeCall { claimId: claim_id };
    assert_error::<IClaims::ProofRequired, _>(w.call(operator, CLAIMS, &finalize));
    let many = IClaims::finalizeManyCall {
        claimIds: vec![claim_id],
    };
    assert_eq!(w.call(operator, CLAIMS, &many).unwrap(), U256::ZERO);
    assert_error::<IErrors::Expired, _>(w.prove(claim_id, &proof));
    let expire = IClaims::expireCall { claimId: claim_id };
    w.call(account(15).address, CLAIMS, &expire).unwrap();
    assert_eq!(w.claim(claim_id).state, REJECTED);
    assert_eq!(w.escrow(buyer), escrow);
    assert_eq!(bonded(&mut w), had - U256::from(receipt.exposure));
    assert!(!is_proven(&mut w, claim_id));
    assert_error::<IDisputes::ClaimNotOpen, _>(w.prove(claim_id, &proof));
    assert_eq!(w.storage.supply(), supply);
    // other tiers do not expire
    let plain = w.answer(&shape(), &honest_leaves(&shape()));
    w.advance(600_000);
    let expire = IClaims::expireCall { claimId: plain };
    assert_error::<IClaims::UnsupportedTier, _>(w.call(operator, CLAIMS, &expire));
    w.check();
}

#[test]
fn contracts_may_ask_for_the_check_of_any_proof() {
    let (mut w, key_id) = World::provable(shape());
    let good = FakeProof {
        committed: true,
        valid: true,
        runs: 3,
        model_id: shape().model_id(),
        key_id,
        input_commit: B256::repeat_byte(1),
        output_commit: B256::repeat_byte(2),
        n_in: 4,
        context: b"mine".to_vec(),
    };
    let check = |w: &mut World, proof: Bytes| w.view(MODELS, &IModels::verifyProofCall { proof });
    let found = check(&mut w, good.encode());
    assert!(found.ok && found.reason.is_empty());
    assert_eq!((found.runs, found.bits, found.keyId), (3, 100, key_id));
    assert_eq!(found.outputHash, B256::repeat_byte(2));
    assert_eq!(found.context.as_ref(), b"mine");
    for proof in [
        FakeProof {
            valid: false,
            ..good.clone()
        },
        FakeProof {
            committed: false,
            ..good.clone()
        },
        FakeProof {
            key_id: B256::ZERO,
            ..good.clone()
        },
        FakeProof {
            model_id: B256::ZERO,
            ..good.clone()
        },
    ] {
        let found = check(&mut w, proof.encode());
        assert!(!found.ok && found.bits == 0 && !found.reason.is_empty());
    }
    assert!(!check(&mut w, Bytes::new()).ok);
    let call = IModels::verifyProofCall {
        proof: vec![0; MAX_PROOF_BYTES + 1].into(),
    };
    let outcome = w.call(account(15).address, MODELS, &call);
    assert_error::<IModels::ProofTooLong, _>(outcome);
}

#[test]
fn a_proof_is_paid_for_before_it_is_verified() {
    let (mut w, key_id) = World::provable(shape());
    let claim_id = w.answer(&shape(), &honest_leaves(&shape()));
    let proof = w.proof_of(claim_id, key_id);
    let call = IClaims::answerWithProofCall {
        claimId: claim_id,
        salt: salt(),
        proof: FakeProof {
            valid: false,
            ..proof
        }
        .encode(),
    };
    let whole = w.storage.gas;
    let outcome = w.raw(account(16).address, CLAIMS, 0, &call.abi_encode());
    assert!(matches!(outcome, Outcome::Revert(_)));
    let used = whole - w.storage.gas;
    assert!(used > PROOF_GAS, "{used}");
    w.storage.gas = PROOF_GAS;
    let outcome = w.raw(account(16).address, CLAIMS, 0, &call.abi_encode());
    assert_eq!(outcome, Outcome::OutOfGas);
}

#[test]
fn a_network_without_a_verifier_takes_no_keys() {
    let mut w = World::with(GenesisParams {
        usd: genesis().usd,
        ..GenesisParams::dev()
    });
    w.modules = assay_modules::Modules::new(std::sync::Arc::new(FakeArbiter));
    w.prepare(shape());
    let maker = w.maker.address;
    let key = key_of(&shape(), b"tail");
    assert_error::<IModels::ProofKeyRefused, _>(w.set_key(maker, &shape(), &key));
}

//! From a signed receipt to money, and every way in which a receipt is refused.

mod common;

use alloy_primitives::{Address, B256, U256};
use alloy_sol_types::{SolCall, SolStruct};
use assay_abi::{
    BURN, CLAIMS, IBurn, IClaims, IErrors, IPools, IStaking, POOLS, STAKING, receipt_domain,
};
use common::*;

fn shape() -> Shape {
    Shape::flat(6)
}

fn world() -> (World, Vec<B256>) {
    (World::ready(shape()), honest_leaves(&shape()))
}

#[test]
fn an_answer_is_paid_after_its_window_to_the_last_unit() {
    let (mut w, leaves) = world();
    let lineage = alloy_primitives::keccak256("tiny");
    let staker = account(12).address;
    w.pay(staker, POOLS, 10 * ASSAY, &IPools::depositCall { lineage })
        .unwrap();
    let id = w.answer(&shape(), &leaves);
    let claim = w.claim(id);
    assert_eq!((claim.state, claim.fee, claim.nLeaves), (1, 1_000_000, 6));
    assert_eq!(w.escrow(w.buyer.address), 999_000_000);
    w.check();
    w.advance(600_000);
    w.call(
        account(13).address,
        CLAIMS,
        &IClaims::finalizeCall { claimId: id },
    )
    .unwrap();
    assert_eq!(w.claim(id).state, 3);
    // 70 % operator, 12 % model (30 % of it the maker), data and verifiers absent, 7 % treasury and burn.
    assert_eq!(w.usd(w.operator.address), 700_000);
    assert_eq!(w.usd(w.maker.address), 36_000);
    assert_eq!(w.usd(w.treasury.address), 30_000);
    assert_eq!(
        w.view(BURN, &IBurn::usdReserveCall {}),
        U256::from(40_000 + 60_000 + 50_000)
    );
    let earned = w
        .call(staker, POOLS, &IPools::claimCall { lineage })
        .unwrap();
    assert_eq!(earned, U256::from(84_000));
    assert_eq!(
        w.view(
            STAKING,
            &IStaking::operatorCall {
                account: w.operator.address
            }
        )
        .locked,
        U256::ZERO
    );
    w.check();
}

#[test]
fn without_stakers_their_part_is_burnt() {
    let (mut w, leaves) = world();
    let id = w.answer(&shape(), &leaves);
    w.advance(600_000);
    w.call(
        w.buyer.address,
        CLAIMS,
        &IClaims::finalizeCall { claimId: id },
    )
    .unwrap();
    assert_eq!(
        w.view(BURN, &IBurn::usdReserveCall {}),
        U256::from(150_000 + 84_000)
    );
    w.check();
}

#[test]
fn finality_waits_for_the_window_and_happens_once() {
    let (mut w, leaves) = world();
    let id = w.answer(&shape(), &leaves);
    let finalize = IClaims::finalizeCall { claimId: id };
    w.advance(599_999);
    let early: IClaims::NotFinal = assert_error(w.call(w.operator.address, CLAIMS, &finalize));
    assert_eq!(early.deadline - early.now, 1);
    w.advance(1);
    w.call(w.operator.address, CLAIMS, &finalize).unwrap();
    let twice: IErrors::WrongState = assert_error(w.call(w.operator.address, CLAIMS, &finalize));
    assert_eq!((twice.have, twice.want), (3, 1));
    let unknown = IClaims::finalizeCall {
        claimId: B256::repeat_byte(1),
    };
    assert_error::<IClaims::UnknownClaim, _>(w.call(w.operator.address, CLAIMS, &unknown));
}

#[test]
fn finalize_many_skips_what_is_not_ready() {
    let (mut w, leaves) = world();
    let first = w.answer(&shape(), &leaves);
    w.advance(300_000);
    let second = w.answer(&shape(), &leaves);
    w.advance(300_000);
    let call = IClaims::finalizeManyCall {
        claimIds: vec![second, first, first, B256::ZERO],
    };
    assert_eq!(w.call(w.buyer.address, CLAIMS, &call).unwrap(), U256::ONE);
    assert_eq!((w.claim(first).state, w.claim(second).state), (3, 1));
    w.check();
}

#[test]
fn a_receipt_is_asserted_once() {
    let (mut w, leaves) = world();
    let (receipt, request) = w.draft(&shape(), &leaves);
    w.assert(&receipt, &request).unwrap();
    assert_error::<IClaims::ClaimExists, _>(w.assert(&receipt, &request));
}

#[test]
fn lines_have_no_gaps_and_sum_up_their_exposure() {
    let (mut w, leaves) = world();
    let (mut receipt, mut request) = w.draft(&shape(), &leaves);
    receipt.seq = 2;
    request.seq = 2;
    receipt.request_hash = request.eip712_hash_struct();
    let gap: IClaims::SeqGap = assert_error(w.assert(&receipt, &request));
    assert_eq!((gap.have, gap.want), (2, 1));
    let (mut receipt, request) = w.draft(&shape(), &leaves);
    receipt.cum_exposure += 1;
    assert_error::<IClaims::CumExposureMismatch, _>(w.assert(&receipt, &request));
}

#[test]
fn an_open_request_takes_any_place_once() {
    let (mut w, leaves) = world();
    let draft = |w: &mut World| {
        let (mut receipt, mut request) = w.draft(&shape(), &leaves);
        request.seq = 0;
        receipt.request_hash = request.eip712_hash_struct();
        (receipt, request)
    };
    let (receipt, request) = draft(&mut w);
    w.assert(&receipt, &request).unwrap();
    let (mut again, _) = w.draft(&shape(), &leaves);
    again.request_hash = receipt.request_hash;
    let spent: IClaims::RequestSpent = assert_error(w.assert(&again, &request));
    assert_eq!(spent.requestHash, receipt.request_hash);
    // Another request, in places of the line that nobody named before.
    w.advance(1_000);
    for _ in 0..2 {
        let (receipt, request) = draft(&mut w);
        w.assert(&receipt, &request).unwrap();
        w.advance(1_000);
    }
    w.check();
}

#[test]
fn a_receipt_of_another_statement_is_not_paid() {
    let (mut w, leaves) = world();
    let (mut receipt, mut request) = w.draft(&shape(), &leaves);
    request.samplingHash = B256::repeat_byte(1);
    receipt.request_hash = request.eip712_hash_struct();
    receipt.sampling_hash = B256::repeat_byte(2);
    assert_error::<IClaims::RequestMismatch, _>(w.assert(&receipt, &request));
    // Nor does it help to put the statement that was asked beside it.
    receipt.ext_hash = request.samplingHash;
    assert_error::<IClaims::RequestMismatch, _>(w.assert(&receipt, &request));
    receipt.sampling_hash = request.samplingHash;
    w.assert(&receipt, &request).unwrap();
}

#[test]
fn exposure_cannot_be_oversold() {
    let (mut w, leaves) = world();
    let (receipt, request) = w.draft(&shape(), &leaves);
    let mut low = receipt;
    low.exposure -= 1;
    low.cum_exposure -= 1;
    assert_error::<IClaims::ExposureTooSmall, _>(w.assert(&low, &request));
    let mut high = receipt;
    high.exposure = 10_000 * ASSAY + 1;
    high.cum_exposure = high.exposure;
    let short: IStaking::InsufficientFreeStake = assert_error(w.assert(&high, &request));
    assert_eq!(short.free, U256::from(10_000 * ASSAY));
    // Two lines share one stake.
    high.exposure = 10_000 * ASSAY;
    high.cum_exposure = high.exposure;
    w.assert(&high, &request).unwrap();
    let (next, request) = w.draft(&shape(), &leaves);
    assert_error::<IStaking::InsufficientFreeStake, _>(w.assert(&next, &request));
    let unbond = IStaking::unbondCall { amount: U256::ONE };
    assert_error::<IStaking::InsufficientFreeStake, _>(w.call(
        w.operator.address,
        STAKING,
        &unbond,
    ));
    w.check();
}

#[test]
fn signatures_have_one_form_and_one_signer() {
    let (mut w, leaves) = world();
    let (receipt, request) = w.draft(&shape(), &leaves);
    let good = w.signed(&receipt, &request);
    let sender = w.operator.address;
    // Another key.
    let mut call = good.clone();
    call.signature = sign(
        &w.buyer,
        receipt.signing_hash(&receipt_domain(CHAIN, CLAIMS)),
    );
    assert_error::<IClaims::WrongSigner, _>(w.call(sender, CLAIMS, &call));
    // Another chain, another contract.
    for domain in [
        receipt_domain(CHAIN + 1, CLAIMS),
        receipt_domain(CHAIN, STAKING),
    ] {
        let mut call = good.clone();
        call.signature = sign(&w.key, receipt.signing_hash(&domain));
        assert_error::<IClaims::WrongSigner, _>(w.call(sender, CLAIMS, &call));
        let mut call = good.clone();
        call.requestSignature = sign(&w.buyer, request.eip712_signing_hash(&domain));
        assert_error::<IClaims::WrongSigner, _>(w.call(sender, CLAIMS, &call));
    }
    // v of 0 and 1, short, long, high s.
    for change in 0..4 {
        let mut bytes = good.signature.to_vec();
        match change {
            0 => bytes[64] -= 27,
            1 => bytes.push(0),
            2 => drop(bytes.pop()),
            _ => {
                let order = U256::from_str_radix(
                    "fffffffffffffffffffffffffffffffebaaedce6af48a03bbfd25e8cd0364141",
                    16,
                )
                .unwrap();
                let s = U256::from_be_slice(&bytes[32..64]);
                bytes[32..64].copy_from_slice(&(order - s).to_be_bytes::<32>());
                bytes[64] = 27 + (28 - bytes[64]);
            }
        }
        let mut call = good.clone();
        call.signature = bytes.into();
        assert_error::<IErrors::BadSignature, _>(w.call(sender, CLAIMS, &call));
    }
    // A stranger's request.
    let mut call = good.clone();
    call.requestSignature = sign(
        &account(15),
        request.eip712_signing_hash(&receipt_domain(CHAIN, CLAIMS)),
    );
    assert_error::<IClaims::WrongSigner, _>(w.call(sender, CLAIMS, &call));
    w.call(sender, CLAIMS, &good).unwrap();
}

#[test]
fn every_byte_of_a_receipt_is_bound() {
    let (mut w, leaves) = world();
    let (receipt, request) = w.draft(&shape(), &leaves);
    let good = w.signed(&receipt, &request).abi_encode();
    let sender = w.operator.address;
    // 4 bytes of selector, then 27 words of the receipt.
    for byte in 4..4 + 27 * 32 {
        let mut bad = good.clone();
        bad[byte] ^= 1;
        let outcome = w.raw(sender, CLAIMS, 0, &bad);
        assert!(
            matches!(outcome, assay_modules::Outcome::Revert(_)),
            "byte {byte}: {outcome:?}"
        );
    }
    assert!(matches!(
        w.raw(sender, CLAIMS, 0, &good),
        assay_modules::Outcome::Return(_)
    ));
}

#[test]
fn a_receipt_stays_within_its_request() {
    let (mut w, leaves) = world();
    let (receipt, request) = w.draft(&shape(), &leaves);
    let try_request = |w: &mut World, change: &dyn Fn(&mut assay_abi::Request)| {
        let mut request = request.clone();
        change(&mut request);
        let mut receipt = receipt;
        receipt.request_hash = request.eip712_hash_struct();
        w.assert(&receipt, &request)
    };
    let fields: [&dyn Fn(&mut assay_abi::Request); 9] = [
        &|r| r.lineId = B256::ZERO,
        &|r| r.seq = 9,
        &|r| r.modelId = B256::ZERO,
        &|r| r.semantics = 2,
        &|r| r.inputCommit = B256::ZERO,
        &|r| r.samplingHash = B256::repeat_byte(1),
        &|r| r.maxOut = 0,
        &|r| r.valueAtRisk += 1,
        &|r| r.window = 601,
    ];
    for change in fields {
        assert_error::<IClaims::RequestMismatch, _>(try_request(&mut w, change));
    }
    assert_error::<IClaims::FeeAboveMax, _>(try_request(&mut w, &|r| r.maxFee = 999_999));
    assert_error::<IClaims::TierNotRequested, _>(try_request(&mut w, &|r| r.tierMask = 1));
    assert_error::<IClaims::RequestExpired, _>(try_request(&mut w, &|r| r.expiry -= 61));
    let mut other = receipt;
    other.request_hash = B256::ZERO;
    assert_error::<IClaims::RequestHashMismatch, _>(w.assert(&other, &request));
}

#[test]
fn a_receipt_has_bounds() {
    let (mut w, leaves) = world();
    let (receipt, request) = w.draft(&shape(), &leaves);
    let try_receipt = |w: &mut World, change: &dyn Fn(&mut assay_abi::Receipt)| {
        let mut receipt = receipt;
        change(&mut receipt);
        w.assert(&receipt, &request)
    };
    assert_error::<IClaims::UnsupportedVersion, _>(try_receipt(&mut w, &|r| r.version = 2));
    assert_error::<IClaims::UnsupportedTier, _>(try_receipt(&mut w, &|r| r.tier = 2));
    assert_error::<IClaims::BadFlags, _>(try_receipt(&mut w, &|r| r.flags = 16));
    assert_error::<IClaims::WrongLine, _>(try_receipt(&mut w, &|r| {
        r.operator = Address::repeat_byte(1)
    }));
    assert_error::<IClaims::UnexpectedEvidence, _>(try_receipt(&mut w, &|r| {
        r.evidence_hash.0[0] = 1
    }));
    assert_error::<IClaims::MissingTrace, _>(try_receipt(&mut w, &|r| r.trace_root = B256::ZERO));
    assert_error::<IClaims::WindowRange, _>(try_receipt(&mut w, &|r| r.window = 9));
    assert_error::<IClaims::WindowRange, _>(try_receipt(&mut w, &|r| r.window = 3_601));
    assert_error::<IClaims::AuditBelowBase, _>(try_receipt(&mut w, &|r| r.audit_ppm = 79_999));
    assert_error::<IErrors::OutOfBounds, _>(try_receipt(&mut w, &|r| r.audit_ppm = 1_000_001));
    assert_error::<IClaims::IncludeByRange, _>(try_receipt(&mut w, &|r| {
        r.include_by = r.issued_at + 601
    }));
    assert_error::<IClaims::IncludeByRange, _>(try_receipt(&mut w, &|r| {
        r.include_by = r.issued_at - 1
    }));
    assert_error::<IClaims::SeqTooLong, _>(try_receipt(&mut w, &|r| r.n_in = 9));
    assert_error::<IClaims::SeqTooLong, _>(try_receipt(&mut w, &|r| r.n_in = 0));
    assert_error::<IClaims::LeafCountMismatch, _>(try_receipt(&mut w, &|r| r.n_leaves = 7));
}

#[test]
fn a_late_receipt_is_refused_and_its_line_goes_on() {
    let (mut w, leaves) = world();
    let (receipt, request) = w.draft(&shape(), &leaves);
    let signature = w.signed(&receipt, &request).signature;
    let skip = IClaims::skipCall {
        receipt: receipt.to_words(),
        signature,
    };
    assert_error::<IErrors::TooEarly, _>(w.call(w.buyer.address, CLAIMS, &skip));
    w.advance(61_000);
    assert_error::<IClaims::IncludeByPassed, _>(w.assert(&receipt, &request));
    w.call(w.buyer.address, CLAIMS, &skip).unwrap();
    assert_eq!(w.claim(receipt.struct_hash()).state, 5);
    assert_error::<IClaims::SeqGap, _>(w.call(w.buyer.address, CLAIMS, &skip));
    let id = w.answer(&shape(), &leaves);
    assert_eq!(w.claim(id).seq, 2);
    w.check();
}

#[test]
fn a_buyer_pays_only_what_it_deposited() {
    let (mut w, leaves) = world();
    let all = U256::from(1_000_000_000u64);
    let buyer = w.buyer.address;
    let over = IClaims::withdrawCall {
        amount: all + U256::ONE,
    };
    assert_error::<IClaims::InsufficientBalance, _>(w.call(buyer, CLAIMS, &over));
    w.call(
        buyer,
        CLAIMS,
        &IClaims::withdrawCall {
            amount: all - U256::from(999_999),
        },
    )
    .unwrap();
    let (receipt, request) = w.draft(&shape(), &leaves);
    assert_error::<IClaims::InsufficientBalance, _>(w.assert(&receipt, &request));
    w.call(
        buyer,
        CLAIMS,
        &IClaims::depositForCall {
            buyer,
            amount: U256::ONE,
        },
    )
    .unwrap();
    w.assert(&receipt, &request).unwrap();
    w.check();
}

#[test]
fn rotated_keys_sign_in_their_time_only() {
    let (mut w, leaves) = world();
    let operator = w.operator.address;
    let next = account(16);
    w.call(
        operator,
        STAKING,
        &IStaking::rotateKeyCall {
            receiptKey: next.address,
        },
    )
    .unwrap();
    let old = w.key;
    let (receipt, request) = w.draft(&shape(), &leaves);
    w.key = next;
    assert_error::<IClaims::KeyNotValid, _>(w.assert(&receipt, &request));
    w.key = old;
    w.assert(&receipt, &request).unwrap();
    w.advance(5_000);
    let (receipt, request) = w.draft(&shape(), &leaves);
    assert_error::<IClaims::KeyNotValid, _>(w.assert(&receipt, &request));
    w.key = next;
    w.assert(&receipt, &request).unwrap();
    let view = w.view(STAKING, &IStaking::operatorCall { account: operator });
    assert_eq!(
        (view.receiptKey, view.pendingKey),
        (next.address, Address::ZERO)
    );
    // A key serves one operator, once.
    let taken = IStaking::rotateKeyCall {
        receiptKey: old.address,
    };
    assert_error::<IStaking::KeyTaken, _>(w.call(operator, STAKING, &taken));
}

#[test]
fn leaves_posted_with_the_assertion_must_be_the_trace() {
    let (mut w, leaves) = world();
    let (receipt, request) = w.draft(&shape(), &leaves);
    let signed = w.signed(&receipt, &request);
    let mut call = IClaims::assertWithLeavesCall {
        receipt: signed.receipt,
        signature: signed.signature,
        request: signed.request,
        requestSignature: signed.requestSignature,
        leaves: leaves.clone(),
    };
    call.leaves[2] = B256::ZERO;
    let sender = w.operator.address;
    assert_error::<IClaims::LeavesMismatch, _>(w.call(sender, CLAIMS, &call));
    call.leaves = leaves[1..].to_vec();
    assert_error::<IClaims::LeafCountMismatch, _>(w.call(sender, CLAIMS, &call));
    call.leaves = leaves;
    w.call(sender, CLAIMS, &call).unwrap();
}

#[test]
fn equivocation_costs_the_stake_and_every_open_fee() {
    let (mut w, leaves) = world();
    let honest = w.answer(&shape(), &leaves);
    let (receipt, request) = w.draft(&shape(), &leaves);
    let asserted = w.assert(&receipt, &request).unwrap();
    let mut other = receipt;
    other.output_commit = B256::repeat_byte(9);
    // A value that no stake covers must not make it unreportable.
    other.value_at_risk = u128::MAX;
    let domain = receipt_domain(CHAIN, CLAIMS);
    let report = IClaims::equivocationCall {
        first: receipt.to_words(),
        firstSignature: sign(&w.key, receipt.signing_hash(&domain)),
        second: other.to_words(),
        secondSignature: sign(&w.key, other.signing_hash(&domain)),
    };
    let same = IClaims::equivocationCall {
        second: report.first,
        secondSignature: report.firstSignature.clone(),
        ..report.clone()
    };
    let reporter = account(13).address;
    assert_error::<IClaims::NotEquivocation, _>(w.call(reporter, CLAIMS, &same));
    let locked = w
        .view(
            STAKING,
            &IStaking::operatorCall {
                account: w.operator.address,
            },
        )
        .locked
        .to::<u128>();
    let penalty = locked.max(100 * ASSAY);
    let supply = w.storage.supply();
    let (reporter_had, buyer_had) = (w.native(reporter), w.native(w.buyer.address));
    w.call(reporter, CLAIMS, &report).unwrap();
    assert_error::<IClaims::AlreadyReported, _>(w.call(reporter, CLAIMS, &report));
    let gains = w.native(reporter) - reporter_had + w.native(w.buyer.address) - buyer_had;
    assert_eq!(w.native(reporter) - reporter_had, penalty * 3 / 10);
    assert!(gains * 2 <= penalty);
    assert_eq!(
        w.view(BURN, &IBurn::burnedCall {}).to::<u128>(),
        penalty - gains
    );
    assert_eq!(w.storage.supply(), supply);
    assert_eq!(w.claim(asserted).state, 4);
    // Its other open claims are refunded instead of paid.
    w.advance(600_000);
    w.call(reporter, CLAIMS, &IClaims::finalizeCall { claimId: honest })
        .unwrap();
    assert_eq!(w.claim(honest).state, 6);
    assert_eq!(w.escrow(w.buyer.address), 1_000_000_000);
    assert_eq!(w.usd(w.operator.address), 0);
    let (receipt, request) = w.draft(&shape(), &leaves);
    assert_error::<IStaking::OperatorJailed, _>(w.assert(&receipt, &request));
    w.check();
}

#[test]
fn a_signed_authorisation_deposits_for_its_signer_only() {
    alloy_sol_types::sol! {
        struct ReceiveWithAuthorization { address from; address to; uint256 value; uint256 validAfter; uint256 validBefore; bytes32 nonce; }
    }
    let mut w = World::new();
    let buyer = w.buyer;
    let (value, nonce) = (U256::from(77), B256::repeat_byte(1));
    let message = ReceiveWithAuthorization {
        from: buyer.address,
        to: CLAIMS,
        value,
        validAfter: U256::ZERO,
        validBefore: U256::MAX,
        nonce,
    };
    let signature = sign(
        &buyer,
        message.eip712_signing_hash(&assay_modules::usd::domain(CHAIN)),
    );
    let call = IClaims::depositWithAuthorizationCall {
        from: buyer.address,
        value,
        validAfter: U256::ZERO,
        validBefore: U256::MAX,
        nonce,
        signature,
    };
    let sender = account(15).address;
    let redirected = IClaims::depositWithAuthorizationCall {
        from: sender,
        ..call.clone()
    };
    assert_error::<assay_abi::IUsd::AuthorizationInvalidSigner, _>(w.call(
        sender,
        CLAIMS,
        &redirected,
    ));
    w.call(sender, CLAIMS, &call).unwrap();
    assert_eq!((w.escrow(buyer.address), w.escrow(sender)), (77, 0));
    assert_error::<assay_abi::IUsd::AuthorizationAlreadyUsed, _>(w.call(sender, CLAIMS, &call));
    w.check();
}

#[test]
fn where_there_is_a_delay_a_buyer_cannot_leave_between_answer_and_assertion() {
    let mut chosen = genesis();
    chosen.params.withdrawal_delay_ms = 600_000;
    let mut w = World::with(chosen);
    w.prepare(shape());
    let leaves = honest_leaves(&shape());
    let buyer = w.buyer.address;
    let all = U256::from(1_000_000_000u64);
    let withdraw = IClaims::withdrawCall { amount: all };
    assert_error::<IClaims::WithdrawalNotReady, _>(w.call(buyer, CLAIMS, &withdraw));
    let (receipt, request) = w.draft(&shape(), &leaves);
    w.call(
        buyer,
        CLAIMS,
        &IClaims::announceWithdrawalCall { amount: all },
    )
    .unwrap();
    w.advance(60_000);
    let early: IClaims::WithdrawalNotReady = assert_error(w.call(buyer, CLAIMS, &withdraw));
    assert_eq!(early.readyAt - early.now, 540_000);
    w.assert(&receipt, &request)
        .expect("the announced amount is still chargeable");
    w.advance(540_000);
    assert_error::<IClaims::InsufficientBalance, _>(w.call(buyer, CLAIMS, &withdraw));
    w.call(
        buyer,
        CLAIMS,
        &IClaims::withdrawCall {
            amount: U256::from(999_000_000u64),
        },
    )
    .unwrap();
    let rest = w.view(CLAIMS, &IClaims::withdrawalOfCall { buyer });
    assert_eq!(rest.amount, U256::from(1_000_000));
    w.call(
        buyer,
        CLAIMS,
        &IClaims::depositCall {
            amount: U256::from(2_000_000),
        },
    )
    .unwrap();
    let over = IClaims::withdrawCall {
        amount: U256::from(1_000_001),
    };
    assert_error::<IClaims::WithdrawalNotReady, _>(w.call(buyer, CLAIMS, &over));
    w.check();
}

#[test]
fn a_line_remembers_what_it_carried_and_what_is_open() {
    let (mut w, leaves) = world();
    let line_id = assay_modules::claims::line_id(w.operator.address, w.buyer.address);
    let call = IClaims::lineIdOfCall {
        operator: w.operator.address,
        requester: w.buyer.address,
    };
    assert_eq!(w.view(CLAIMS, &call), line_id);
    let line = |w: &mut World| {
        let line = w.view(CLAIMS, &IClaims::lineCall { lineId: line_id });
        (line.assertedSeq, line.cumExposure, line.outstanding)
    };
    let first = w.answer(&shape(), &leaves);
    let exposure = w.claim(first).exposure;
    assert_eq!(line(&mut w), (1, exposure, exposure));
    w.answer(&shape(), &leaves);
    assert_eq!(line(&mut w), (2, 2 * exposure, 2 * exposure));
    w.advance(600_000);
    w.call(
        w.buyer.address,
        CLAIMS,
        &IClaims::finalizeCall { claimId: first },
    )
    .unwrap();
    assert_eq!(line(&mut w), (2, 2 * exposure, exposure));
}

#[test]
fn an_authorised_key_signs_requests_until_its_time() {
    let (mut w, leaves) = world();
    let (buyer, agent) = (w.buyer, account(17));
    let now = w.now_seconds();
    let try_as_agent = |w: &mut World| {
        let (receipt, request) = w.draft(&shape(), &leaves);
        let mut call = w.signed(&receipt, &request);
        let digest = request.eip712_signing_hash(&receipt_domain(CHAIN, CLAIMS));
        call.requestSignature = sign(&agent, digest);
        w.call(account(15).address, CLAIMS, &call)
    };
    assert_error::<IClaims::WrongSigner, _>(try_as_agent(&mut w));
    let allow = |until| IClaims::authorizeSignerCall {
        signer: agent.address,
        until,
    };
    // Nobody authorises for another.
    w.call(agent.address, CLAIMS, &allow(now + 100)).unwrap();
    assert_error::<IClaims::WrongSigner, _>(try_as_agent(&mut w));
    w.call(buyer.address, CLAIMS, &allow(now + 100)).unwrap();
    let id = try_as_agent(&mut w).unwrap();
    assert_eq!(w.claim(id).requester, buyer.address);
    w.advance(100_000);
    assert_error::<IClaims::WrongSigner, _>(try_as_agent(&mut w));
    w.call(buyer.address, CLAIMS, &allow(u64::MAX)).unwrap();
    try_as_agent(&mut w).unwrap();
    w.call(buyer.address, CLAIMS, &allow(0)).unwrap();
    assert_error::<IClaims::WrongSigner, _>(try_as_agent(&mut w));
    w.check();
}

#[test]
fn a_retired_key_is_slashable_for_the_unbonding_time_and_no_longer() {
    let (mut w, leaves) = world();
    let (operator, old, reporter) = (w.operator.address, w.key, account(13).address);
    let (receipt, _) = w.draft(&shape(), &leaves);
    let mut other = receipt;
    other.output_commit = B256::repeat_byte(9);
    let domain = receipt_domain(CHAIN, CLAIMS);
    let report = |key: &Account| IClaims::equivocationCall {
        first: receipt.to_words(),
        firstSignature: sign(key, receipt.signing_hash(&domain)),
        second: other.to_words(),
        secondSignature: sign(key, other.signing_hash(&domain)),
    };
    // Another's key proves nothing about this operator.
    assert_error::<IClaims::WrongSigner, _>(w.call(reporter, CLAIMS, &report(&account(15))));
    w.call(
        operator,
        STAKING,
        &IStaking::rotateKeyCall {
            receiptKey: account(16).address,
        },
    )
    .unwrap();
    w.advance(1_000);
    w.advance(9_000_000 - 1);
    let before = w.storage.clone();
    w.call(reporter, CLAIMS, &report(&old)).unwrap();
    w.storage = before;
    w.advance(1);
    assert_error::<IClaims::KeyNotValid, _>(w.call(reporter, CLAIMS, &report(&old)));
}

#[test]
fn equivocation_reaches_stake_that_is_leaving() {
    let (mut w, leaves) = world();
    let operator = w.operator.address;
    w.call(
        operator,
        STAKING,
        &IStaking::unbondCall {
            amount: U256::from(9_950 * ASSAY),
        },
    )
    .unwrap();
    let (receipt, _) = w.draft(&shape(), &leaves);
    let other = assay_abi::Receipt { fee: 1, ..receipt };
    let domain = receipt_domain(CHAIN, CLAIMS);
    let report = IClaims::equivocationCall {
        first: receipt.to_words(),
        firstSignature: sign(&w.key, receipt.signing_hash(&domain)),
        second: other.to_words(),
        secondSignature: sign(&w.key, other.signing_hash(&domain)),
    };
    w.call(account(13).address, CLAIMS, &report).unwrap();
    let view = w.view(STAKING, &IStaking::operatorCall { account: operator });
    // 100 are due: 50 were bonded, 50 more come out of the queue.
    assert_eq!(
        (view.bonded, view.unbonding),
        (U256::ZERO, U256::from(9_900 * ASSAY))
    );
    assert!(view.jailed);
    w.check();
    w.advance(9_000_000);
    let paid = w
        .call(operator, STAKING, &IStaking::withdrawCall {})
        .unwrap();
    assert_eq!(paid, U256::from(9_900 * ASSAY));
    w.check();
}

//! Laws of the format: one encoding, nothing ignored, nothing normalised.

mod common;

use alloy_primitives::{Address, B256, U256, keccak256};
use assay_receipt::{
    Bundle, CANONICAL_BYTES, Domain, Receipt, ReceiptError, ReceiptSignature, Request, recover,
};
use common::{DOMAIN, INPUT, OUTPUT, SALT, key, receipt, request};
use proptest::prelude::*;

fn hash() -> impl Strategy<Value = B256> {
    any::<[u8; 32]>().prop_map(B256::from)
}

prop_compose! {
    fn any_receipt()(
        hashes in proptest::collection::vec(hash(), 8),
        addresses in any::<([u8; 20], [u8; 20])>(),
        seq in 1u64..,
        exposures in any::<(u64, u64)>(),
        numbers in any::<(u32, u32, u32, u64, u128, u128)>(),
        audit_ppm in 0u32..=1_000_000,
        window in 1u32..=604_800,
        issued_at in any::<u64>(),
        delay in 0u64..=3_600,
        flags in 0u16..16,
    ) -> Receipt {
        Receipt {
            seq,
            flags,
            line_id: hashes[0],
            request_hash: hashes[1],
            model_id: hashes[2],
            input_commit: hashes[3],
            output_commit: hashes[4],
            sampling_hash: hashes[5],
            trace_root: hashes[6],
            ext_hash: hashes[7],
            requester: Address::from(addresses.0),
            operator: Address::from(addresses.1),
            exposure: exposures.0.into(),
            cum_exposure: u128::from(exposures.0) + u128::from(exposures.1),
            n_in: numbers.0,
            n_out: numbers.1,
            semantics: numbers.2,
            n_leaves: numbers.3,
            fee: numbers.4,
            value_at_risk: numbers.5,
            audit_ppm,
            window,
            issued_at,
            include_by: issued_at.saturating_add(delay),
            ..receipt()
        }
    }
}

proptest! {
    #[test]
    fn bytes_and_json_round_trip(receipt in any_receipt()) {
        let bytes = receipt.encode();
        prop_assert_eq!(bytes.len(), CANONICAL_BYTES);
        prop_assert_eq!(&Receipt::decode(&bytes).unwrap(), &receipt);
        let json = receipt.to_json().unwrap();
        let back = Receipt::from_json(&json).unwrap();
        prop_assert_eq!(&back, &receipt);
        prop_assert_eq!(back.to_json().unwrap(), json);
    }

    #[test]
    fn decoder_survives_any_bytes(bytes in proptest::collection::vec(any::<u8>(), 0..1_000)) {
        let _ = Receipt::decode(&bytes);
    }

    #[test]
    fn decoder_accepts_only_what_it_would_write(
        words in proptest::collection::vec(prop_oneof![Just(B256::ZERO), hash(), (0u64..100_000).prop_map(|n| B256::from(U256::from(n)))], 27)
    ) {
        let mut bytes = vec![1u8];
        words.iter().for_each(|word| bytes.extend_from_slice(word.as_slice()));
        if let Ok(receipt) = Receipt::decode(&bytes) {
            prop_assert_eq!(receipt.encode(), bytes);
        }
    }
}

#[test]
fn each_changed_byte_is_refused_or_gives_another_claim() {
    let receipt = receipt();
    let bytes = receipt.encode();
    for index in 0..bytes.len() {
        for bit in 0..8 {
            let mut changed = bytes.clone();
            changed[index] ^= 1 << bit;
            if let Ok(other) = Receipt::decode(&changed) {
                assert_ne!(
                    other.claim_id(),
                    receipt.claim_id(),
                    "byte {index} bit {bit}"
                );
            }
        }
    }
}

#[test]
fn refuses_other_lengths_and_prefixes() {
    let mut bytes = receipt().encode();
    bytes.push(0);
    assert!(matches!(
        Receipt::decode(&bytes),
        Err(ReceiptError::Length { have: 866, .. })
    ));
    assert!(matches!(
        Receipt::decode(&bytes[..864]),
        Err(ReceiptError::Length { have: 864, .. })
    ));
    assert!(Receipt::decode(&[]).is_err());
    bytes.pop();
    bytes[0] = 2;
    assert_eq!(Receipt::decode(&bytes), Err(ReceiptError::Prefix(2)));
}

#[test]
fn refuses_broken_rules() {
    let broken: Vec<(&str, Receipt)> = vec![
        (
            "version",
            Receipt {
                version: 2,
                ..receipt()
            },
        ),
        (
            "tier",
            Receipt {
                tier: 7,
                ..receipt()
            },
        ),
        (
            "flags",
            Receipt {
                flags: 16,
                ..receipt()
            },
        ),
        (
            "seq",
            Receipt {
                seq: 0,
                ..receipt()
            },
        ),
        (
            "traceRoot",
            Receipt {
                trace_root: B256::ZERO,
                ..receipt()
            },
        ),
        (
            "evidenceHash",
            Receipt {
                evidence_hash: B256::repeat_byte(1),
                ..receipt()
            },
        ),
        (
            "evidenceHash",
            Receipt {
                tier: 3,
                ..receipt()
            },
        ),
        (
            "cumExposure",
            Receipt {
                cum_exposure: 1,
                ..receipt()
            },
        ),
        (
            "auditPpm",
            Receipt {
                audit_ppm: 1_000_001,
                ..receipt()
            },
        ),
        (
            "window",
            Receipt {
                window: 0,
                ..receipt()
            },
        ),
        (
            "window",
            Receipt {
                window: 604_801,
                ..receipt()
            },
        ),
        (
            "includeBy",
            Receipt {
                include_by: 1_799_999_999,
                ..receipt()
            },
        ),
        (
            "includeBy",
            Receipt {
                include_by: 1_800_003_601,
                ..receipt()
            },
        ),
    ];
    for (field, receipt) in broken {
        let error = Receipt::decode(&receipt.encode()).expect_err(field);
        assert!(error.to_string().contains(field), "{field}: {error}");
    }
}

#[test]
fn json_has_one_form() {
    let json = receipt().to_json().unwrap();
    assert!(
        json.starts_with(r#"{"version":"1","tier":"1","flags":"2","lineId":"0x"#),
        "{json}"
    );
    for (from, to) in [
        (r#""seq":"7""#, r#""seq":7"#),
        (r#""seq":"7""#, r#""seq":"07""#),
        (r#""seq":"7""#, r#""seq":"+7""#),
        (r#""seq":"7""#, r#""seq":"0x7""#),
        (r#""seq":"7""#, r#""seq":"7","extra":"1""#),
        (r#""seq":"7""#, r#""seq":"7","seq":"7""#),
        (r#""seq":"7","#, ""),
        ("0x2222", "0X2222"),
        ("0x2222", "2222"),
        ("0x5", "0x"),
    ] {
        let changed = json.replacen(from, to, 1);
        if changed != json {
            assert!(Receipt::from_json(&changed).is_err(), "{to}");
        }
    }
    assert!(Receipt::from_json(&json.replace("0x70997970c", "0x70997970C")).is_err());
    assert!(Receipt::from_json("").is_err());
}

#[test]
fn signature_is_checked_and_never_normalised() {
    let receipt = receipt();
    let signature = receipt.sign(&DOMAIN, &key(1));
    assert_eq!(
        receipt.verify(&DOMAIN, &signature, key(1).address()),
        Ok(())
    );
    assert!(matches!(
        receipt.verify(&DOMAIN, &signature, key(3).address()),
        Err(ReceiptError::WrongSigner { .. })
    ));
    let digest = receipt.digest(&DOMAIN);
    for index in 0..65 {
        for bit in 0..8 {
            let mut changed = signature;
            changed.0[index] ^= 1 << bit;
            assert_ne!(
                recover(digest, &changed),
                Ok(key(1).address()),
                "byte {index} bit {bit}"
            );
        }
    }
    for v in [0, 1, 26, 29, 255] {
        let mut changed = signature;
        changed.0[64] = v;
        assert_eq!(
            recover(digest, &changed),
            Err(ReceiptError::RecoveryByte(v))
        );
    }
    let order = U256::from_str_radix(
        "fffffffffffffffffffffffffffffffebaaedce6af48a03bbfd25e8cd0364141",
        16,
    )
    .unwrap();
    let mut high = signature;
    let s = U256::from_be_slice(&high.0[32..64]);
    high.0[32..64].copy_from_slice(&(order - s).to_be_bytes::<32>());
    high.0[64] ^= 27 ^ 28;
    assert_eq!(recover(digest, &high), Err(ReceiptError::HighS));
    assert!(ReceiptSignature::try_from(&signature.0[..64]).is_err());
}

#[test]
fn signature_is_bound_to_chain_and_module() {
    let receipt = receipt();
    let signature = receipt.sign(&DOMAIN, &key(1));
    for other in [
        Domain::new(1, DOMAIN.claims),
        Domain::new(DOMAIN.chain_id, Address::repeat_byte(9)),
    ] {
        assert!(
            receipt
                .verify(&other, &signature, key(1).address())
                .is_err()
        );
    }
}

#[test]
fn body_ignores_evidence_and_nothing_else() {
    let tee = Receipt {
        tier: 3,
        evidence_hash: B256::repeat_byte(1),
        ..receipt()
    };
    let other = Receipt {
        evidence_hash: B256::repeat_byte(2),
        ..tee.clone()
    };
    assert_eq!(tee.body_id(), other.body_id());
    assert_ne!(tee.claim_id(), other.claim_id());
    assert_eq!(receipt().body_id(), receipt().claim_id());
    assert_ne!(
        Receipt {
            seq: 8,
            ..tee.clone()
        }
        .body_id(),
        tee.body_id()
    );
}

#[test]
fn an_open_request_is_answered_at_any_place_and_a_statement_by_the_same() {
    let answer_to = |request: &Request, change: &dyn Fn(&mut Receipt)| {
        let mut receipt = Receipt {
            request_hash: request.struct_hash(),
            ..receipt()
        };
        change(&mut receipt);
        receipt.check_answers(request)
    };
    let open = Request {
        seq: 0,
        ..request()
    };
    assert_eq!(open.check(), Ok(()));
    assert_eq!(answer_to(&open, &|r| r.seq = 99), Ok(()));
    let sampled = Request {
        sampling_hash: B256::repeat_byte(3),
        ..request()
    };
    assert!(answer_to(&sampled, &|_| ()).is_err());
    assert!(answer_to(&sampled, &|r| r.ext_hash = sampled.sampling_hash).is_err());
    assert!(answer_to(&sampled, &|r| r.sampling_hash = sampled.sampling_hash).is_ok());
}

#[test]
fn answers_only_what_was_requested() {
    assert_eq!(receipt().check_answers(&request()), Ok(()));
    let others: Vec<(&str, Receipt)> = vec![
        (
            "requestHash",
            Receipt {
                request_hash: B256::ZERO,
                ..receipt()
            },
        ),
        (
            "modelId",
            Receipt {
                model_id: B256::ZERO,
                ..receipt()
            },
        ),
        (
            "inputCommit",
            Receipt {
                input_commit: B256::ZERO,
                ..receipt()
            },
        ),
        (
            "fee",
            Receipt {
                fee: 2_501,
                ..receipt()
            },
        ),
        (
            "tier",
            Receipt {
                tier: 0,
                ..receipt()
            },
        ),
        (
            "window",
            Receipt {
                window: 3_599,
                ..receipt()
            },
        ),
        (
            "issuedAt",
            Receipt {
                issued_at: 1_800_000_601,
                ..receipt()
            },
        ),
    ];
    for (field, receipt) in others {
        assert_eq!(
            receipt.check_answers(&request()),
            Err(ReceiptError::NotRequested { field })
        );
    }
}

#[test]
fn abi_crate_names_the_same_fields() {
    assert_eq!(assay_abi::RECEIPT_TYPE, Receipt::TYPE);
    assert_eq!(assay_abi::RECEIPT_WORDS, Receipt::FIELDS);
    assert_eq!(
        assay_abi::receipt_domain(DOMAIN.chain_id, DOMAIN.claims).separator(),
        DOMAIN.separator()
    );
    use alloy_sol_types::SolStruct;
    let abi = request().to_abi();
    assert_eq!(abi.eip712_type_hash(), keccak256(Request::TYPE));
    assert_eq!(abi.eip712_hash_struct(), request().struct_hash());
}

#[test]
fn bundle_round_trips() {
    let signature = receipt().sign(&DOMAIN, &key(1));
    let bundle = Bundle::new(DOMAIN, receipt(), signature);
    assert_eq!(
        Bundle::from_json(&bundle.to_json().unwrap()),
        Ok(bundle.clone())
    );
    let full = bundle
        .with_opening(SALT, INPUT.to_vec(), OUTPUT.to_vec())
        .with_request(request(), request().sign(&DOMAIN, &key(2)));
    assert_eq!(Bundle::from_json(&full.to_json().unwrap()), Ok(full));
}

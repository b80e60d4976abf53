//! Each fact of a verification, shown, false and not shown.

mod common;

use alloy_primitives::{Address, B256};
use assay_graph::Sampling;
use assay_receipt::{
    Bundle, ChainClaim, ChainKey, ChainView, Receipt, ReplayOutcome, Salt, Status, Tier, ViewError,
    grammar_hash, sampling_hash, verify_bundle,
};
use common::{DOMAIN, INPUT, OUTPUT, SALT, key, receipt, request};

struct Chain {
    key: Address,
    state: &'static str,
}

impl ChainView for Chain {
    fn receipt_key(&self, operator: Address, key: Address, _: u64) -> Result<ChainKey, ViewError> {
        assert_eq!(operator, common::OPERATOR);
        Ok(if key == self.key {
            ChainKey::Registered
        } else {
            ChainKey::NotRegistered
        })
    }

    fn claim(&self, _: B256) -> Result<ChainClaim, ViewError> {
        if self.state == "down" {
            return Err("connection refused".into());
        }
        Ok(ChainClaim {
            state: self.state.into(),
            deadline: Some(9),
            source: "block 5".into(),
        })
    }
}

fn bundle() -> Bundle {
    Bundle::new(DOMAIN, receipt(), receipt().sign(&DOMAIN, &key(1)))
        .with_opening(SALT, INPUT.to_vec(), OUTPUT.to_vec())
        .with_request(request(), request().sign(&DOMAIN, &key(2)))
}

fn outcome() -> ReplayOutcome {
    ReplayOutcome {
        model_id: receipt().model_id,
        output: OUTPUT.to_vec(),
        trace_root: receipt().trace_root,
        n_leaves: receipt().n_leaves,
        mask_root: B256::ZERO,
    }
}

fn status(
    bundle: &Bundle,
    chain: Option<&Chain>,
    outcome: Option<ReplayOutcome>,
    name: &str,
) -> Status {
    let replay = outcome.map(|outcome| {
        move |_: &Bundle, _: B256, _: &[u8]| -> Result<ReplayOutcome, ViewError> {
            Ok(outcome.clone())
        }
    });
    let report = verify_bundle(
        bundle,
        chain.map(|chain| chain as &dyn ChainView),
        replay.as_ref().map(|replay| replay as _),
    )
    .expect("well formed");
    report.fact(name).expect("always reported").status
}

#[test]
fn everything_shown() {
    let chain = Chain {
        key: key(1).address(),
        state: "final",
    };
    for name in [
        "signature",
        "registered_key",
        "request",
        "input",
        "output",
        "claim_state",
        "evidence",
        "replay",
    ] {
        assert_eq!(
            status(&bundle(), Some(&chain), Some(outcome()), name),
            Status::Shown,
            "{name}"
        );
    }
}

#[test]
fn missing_evidence_is_not_shown() {
    let bare = Bundle::new(DOMAIN, receipt(), receipt().sign(&DOMAIN, &key(1)));
    let report = verify_bundle(&bare, None, None).unwrap();
    assert_eq!(
        report.not_shown(),
        [
            "registered_key",
            "request",
            "input",
            "output",
            "claim_state",
            "replay"
        ]
    );
    assert!(!report.is_contradicted());
    assert!(report.to_string().contains(Tier::Optimistic.statement()));
    assert!(report.to_string().contains("not checked: registered_key"));
}

#[test]
fn false_evidence_is_named() {
    let chain = Chain {
        key: key(1).address(),
        state: "asserted",
    };
    let other_key = Chain {
        key: key(9).address(),
        state: "rejected",
    };
    assert_eq!(
        status(&bundle(), Some(&other_key), None, "registered_key"),
        Status::False
    );
    assert_eq!(
        status(&bundle(), Some(&other_key), None, "claim_state"),
        Status::False
    );
    let down = Chain {
        key: key(1).address(),
        state: "down",
    };
    assert_eq!(
        status(&bundle(), Some(&down), None, "claim_state"),
        Status::NotShown
    );
    let unknown = Chain {
        key: key(1).address(),
        state: "unknown",
    };
    assert_eq!(
        status(&bundle(), Some(&unknown), None, "claim_state"),
        Status::NotShown
    );
    assert_eq!(
        status(&bundle(), Some(&chain), None, "claim_state"),
        Status::Shown
    );

    let input = Bundle {
        input: Some(b"other".to_vec()),
        ..bundle()
    };
    assert_eq!(status(&input, None, None, "input"), Status::False);
    assert_eq!(
        status(&input, None, Some(outcome()), "replay"),
        Status::NotShown
    );
    let salt = Bundle {
        salt: Some(Salt(B256::ZERO)),
        ..bundle()
    };
    assert_eq!(status(&salt, None, None, "output"), Status::False);
    let request_signature = Some(request().sign(&DOMAIN, &key(3)));
    let stranger = Bundle {
        request_signature,
        ..bundle()
    };
    assert_eq!(status(&stranger, None, None, "request"), Status::False);
    let mut high_s = bundle();
    high_s.signature.0[32] = 0xff;
    assert_eq!(status(&high_s, None, None, "signature"), Status::False);
    let other_chain = Bundle {
        chain_id: 1,
        ..bundle()
    };
    assert_eq!(
        status(&other_chain, Some(&chain), None, "registered_key"),
        Status::False
    );
}

#[test]
fn replay_tells_output_trace_and_model_apart() {
    let output = ReplayOutcome {
        output: b"other".to_vec(),
        ..outcome()
    };
    assert_eq!(
        status(&bundle(), None, Some(output), "replay"),
        Status::False
    );
    let trace = ReplayOutcome {
        trace_root: B256::ZERO,
        ..outcome()
    };
    assert_eq!(
        status(&bundle(), None, Some(trace), "replay"),
        Status::False
    );
    let model = ReplayOutcome {
        model_id: B256::ZERO,
        ..outcome()
    };
    assert_eq!(
        status(&bundle(), None, Some(model), "replay"),
        Status::NotShown
    );
}

/// A bundle of an answer of three tokens to `statement`, changed, signed anew.
fn sampled(
    statement: &Sampling,
    tokens: &[u32],
    change: &dyn Fn(&mut Bundle),
) -> assay_receipt::Report {
    let output: Vec<u8> = tokens.iter().flat_map(|t| t.to_le_bytes()).collect();
    let bytes = statement.encode();
    let mut bundle = bundle();
    bundle.receipt.sampling_hash = sampling_hash(&bytes);
    bundle.receipt.n_out = tokens.len() as u32;
    bundle.receipt.output_commit = assay_receipt::output_commit(SALT, &output);
    bundle.output = Some(output);
    bundle.sampling = Some(bytes);
    change(&mut bundle);
    bundle.signature = bundle.receipt.sign(&DOMAIN, &key(1));
    verify_bundle(&bundle, None, None).unwrap()
}

#[test]
fn an_answer_ends_with_its_stop_token_or_with_the_most_tokens_asked() {
    let statement = Sampling {
        max_out: 3,
        stop: vec![9],
        ..Sampling::default()
    };
    for (tokens, status) in [
        (&[1u32, 2, 3][..], Status::Shown),
        (&[1, 9], Status::Shown),
        (&[9], Status::Shown),
        (&[1, 2, 9], Status::Shown),
        (&[1, 2], Status::NotShown),
        (&[1, 9, 3], Status::False),
        (&[1, 2, 3, 4], Status::False),
    ] {
        let report = sampled(&statement, tokens, &|_| ());
        assert_eq!(report.fact("length").unwrap().status, status, "{tokens:?}");
        assert_eq!(report.fact("sampling").unwrap().status, Status::Shown);
        assert!(report.fact("grammar").is_none());
    }
    let cut = sampled(&statement, &[1, 2, 3], &|b| b.receipt.n_out = 2);
    assert_eq!(cut.fact("length").unwrap().status, Status::False);
    let bare = sampled(&statement, &[1, 2, 3], &|b| b.sampling = None);
    for name in ["sampling", "length"] {
        assert_eq!(bare.fact(name).unwrap().status, Status::NotShown);
    }
    let junk = sampled(&statement, &[1, 2, 3], &|b| {
        b.sampling = Some(b"junk".to_vec());
        b.receipt.sampling_hash = sampling_hash(b"junk");
    });
    assert_eq!(junk.fact("sampling").unwrap().status, Status::False);
}

#[test]
fn the_grammar_is_the_one_that_the_statement_names() {
    let statement = Sampling {
        max_out: 1,
        mask_root: grammar_hash(b"json").0,
        ..Sampling::default()
    };
    for (grammar, status) in [
        (Some(b"json".to_vec()), Status::Shown),
        (Some(b"other".to_vec()), Status::False),
        (None, Status::NotShown),
    ] {
        let report = sampled(&statement, &[1], &|b| b.grammar = grammar.clone());
        assert_eq!(report.fact("grammar").unwrap().status, status);
    }
}

#[test]
fn a_replay_with_other_masks_contradicts_the_receipt() {
    let mut bundle = bundle();
    bundle.receipt.sampling_hash = B256::repeat_byte(1);
    bundle.receipt.ext_hash = B256::repeat_byte(2);
    bundle.signature = bundle.receipt.sign(&DOMAIN, &key(1));
    assert_eq!(
        status(&bundle, None, Some(outcome()), "replay"),
        Status::False
    );
    let same = ReplayOutcome {
        mask_root: B256::repeat_byte(2),
        ..outcome()
    };
    assert_eq!(status(&bundle, None, Some(same), "replay"), Status::Shown);
}

#[test]
fn malformed_receipt_has_no_report() {
    let bad = Bundle {
        receipt: Receipt {
            window: 0,
            ..receipt()
        },
        ..bundle()
    };
    assert!(verify_bundle(&bad, None, None).is_err());
}

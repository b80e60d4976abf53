//! What an operator refuses, and what it answers again.

mod support;

use alloy_primitives::B256;
use assay_receipt::{Domain, Salt};
use assay_wallet::dev_key;
use serde_json::json;
use support::{Network, block, input, perceptron};

#[tokio::test(flavor = "multi_thread")]
async fn each_false_request_is_refused_by_name() {
    let network = Network::start(perceptron(1, 96, 8, true), None).await;
    block(|| {
        let good = network.request(1, &input(1, 1));
        let resigned = |change: &dyn Fn(&mut assay_operator::RunRequest)| {
            let mut body = good.clone();
            change(&mut body);
            body.request_signature = body
                .request
                .sign(&network.domain, network.buyer.receipt_key());
            network.run(&body)
        };
        let refusals = [
            (resigned(&|b| b.model_id = B256::ZERO), 404, "unknown_model"),
            (
                resigned(&|b| b.request.model_id = B256::ZERO),
                400,
                "other_model",
            ),
            (resigned(&|b| b.request.semantics = 9), 400, "semantics"),
            (
                resigned(&|b| b.salt = Salt(B256::ZERO)),
                400,
                "input_commitment",
            ),
            (resigned(&|b| b.request.tier_mask = 1), 400, "tier"),
            (resigned(&|b| b.request.window = 604_800), 400, "terms"),
            (resigned(&|b| b.request.seq = 2), 409, "sequence"),
            (resigned(&|b| b.request.version = 2), 400, "malformed"),
            (resigned(&|b| b.request.expiry = 1), 400, "expired"),
            (resigned(&|b| b.request.max_fee = 1), 402, "price"),
            (
                resigned(&|b| b.request.value_at_risk = u128::MAX / 4),
                400,
                "terms",
            ),
            (
                resigned(&|b| b.request.value_at_risk = 1_000_000_000_000),
                503,
                "stake",
            ),
            (resigned(&|b| b.request.line_id = B256::ZERO), 401, "line"),
        ];
        for ((status, body), want, code) in refusals {
            assert_eq!(
                (status, body["code"].as_str()),
                (want, Some(code)),
                "{body}"
            );
            assert!(!body["message"].as_str().unwrap().is_empty());
        }
        // Other key, other chain: the recovered requester is somebody else, whose line this is not.
        for signature in [
            good.request
                .sign(&network.domain, dev_key(9).unwrap().receipt_key()),
            good.request.sign(
                &Domain::new(1, network.domain.claims),
                network.buyer.receipt_key(),
            ),
        ] {
            let mut body = good.clone();
            body.request_signature = signature;
            assert_eq!(network.run(&body).1["code"], "line");
        }
        let mut high = good.clone();
        high.request_signature.0[32] = 0xff;
        assert_eq!(network.run(&high).1["code"], "malformed");
        let wrong = network.request(1, &[0; 63]);
        assert_eq!(network.run(&wrong).1["code"], "input");
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn junk_bodies_are_refused_without_harm() {
    let network = Network::start(perceptron(1, 96, 8, true), None).await;
    block(|| {
        for body in [
            json!(null),
            json!([]),
            json!({}),
            json!({"modelId": "0x12"}),
            json!("x".repeat(1_000)),
        ] {
            let (status, answer) = network.post(&body);
            assert!((400..500).contains(&status), "{status} {answer}");
        }
        let (status, _) = network.post(&json!("x".repeat(300_000)));
        assert_eq!(status, 413);
        network.ask(1, &input(1, 1));
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_request_gets_the_same_receipt_also_after_a_restart() {
    let mut network = Network::start(perceptron(1, 96, 8, true), None).await;
    let body = block(|| network.request(1, &input(1, 1)));
    let first = block(|| network.run(&body));
    assert_eq!(first.0, 200);
    assert_eq!(block(|| network.run(&body)), first);
    let other = block(|| network.request(1, &input(2, 1)));
    assert_eq!(block(|| network.run(&other)).1["code"], "taken");
    network.operator.take().unwrap().stop().await;
    network.start_operator(None).await;
    assert_eq!(block(|| network.run(&body)), first);
    assert_eq!(block(|| network.run(&other)).1["code"], "taken");
    block(|| network.ask(2, &input(3, 1)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_line_goes_on_over_many_claims() {
    let network = Network::start(perceptron(1, 96, 8, true), None).await;
    block(|| {
        let answers: Vec<_> = (1..=20)
            .map(|seq| network.ask(seq, &input(seq, 1)))
            .collect();
        for answer in &answers {
            network.wait_for(answer.claim_id, &[1]);
        }
        network.client.increase_time(3_700).unwrap();
        for answer in &answers {
            network.wait_for(answer.claim_id, &[3]);
        }
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn a_model_is_downloaded_by_its_hash() {
    use assay_watcher::{HttpModels, ModelSource};
    let network = Network::start(perceptron(1, 96, 8, true), None).await;
    block(|| {
        let source = HttpModels {
            urls: vec![
                "http://127.0.0.1:1".into(),
                network.operator.as_ref().unwrap().url(),
            ],
            limit: 1 << 20,
            timeout: std::time::Duration::from_secs(5),
        };
        let graph = source.graph(network.graph.model_id().into()).unwrap();
        assert_eq!(graph.model_id(), network.graph.model_id());
        assert!(source.graph(B256::ZERO).is_err());
        let small = HttpModels {
            limit: 100,
            ..source
        };
        assert!(small.graph(network.graph.model_id().into()).is_err());
    });
}

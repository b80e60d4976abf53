//! A buyer's whole way over a node in this process, and what strangers send.

mod support;

use std::sync::Arc;

use assay_operator::Fault;
use assay_receipt::{Bundle, Status, verify_bundle};
use serde_json::json;
use support::{MODEL, Network, POOR, RICH, block, config, embed, get, perceptron, post_as, start};

async fn network() -> Network {
    Network::start(perceptron(1, 96, 64, true), None).await
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_is_paid_for_after_its_window_and_its_bundle_verifies() {
    let network = network().await;
    let gateway = start(config(&network)).await;
    block(|| {
        let before = network.escrow(&network.buyer);
        let reply = embed(&gateway, json!({"model": MODEL, "input": "hello world"}));
        assert_eq!(reply.status, 200, "{}", reply.body);
        let claim = reply.headers["assay-receipt"].to_str().unwrap().to_owned();
        assert_eq!(reply.body["assay"]["receipts"][0], claim.as_str());
        assert_eq!(reply.headers["assay-fee"], "0.002000");
        let claim_id = claim.parse().unwrap();
        network.wait_for(claim_id, &[1]);
        network.client.increase_time(3_700).unwrap();
        network.wait_for(claim_id, &[3]);
        assert_eq!(
            before - network.escrow(&network.buyer),
            alloy_primitives::U256::from(2_000)
        );

        let reply = get(&gateway, &format!("/v1/receipts/{claim}"));
        assert_eq!(reply.body["claim"]["state"], "final");
        let source = reply.body["claim"]["source"].as_str().unwrap();
        assert!(
            source.starts_with("storage proof against state root 0x"),
            "{source}"
        );
        let proven = network.client.proven_claim(claim_id).unwrap();
        assert_eq!(proven.deadline, network.claim(claim_id).deadline);
        assert_eq!(
            network
                .client
                .proven_claim(alloy_primitives::B256::ZERO)
                .unwrap()
                .state,
            0
        );
        let bundle = Bundle::from_json(&reply.body["bundle"].to_string()).unwrap();
        let report = verify_bundle(&bundle, Some(&network.client), None).unwrap();
        for name in [
            "signature",
            "registered_key",
            "request",
            "input",
            "output",
            "claim_state",
        ] {
            assert_eq!(report.fact(name).unwrap().status, Status::Shown, "{report}");
        }
        // A receipt belongs to its buyer.
        let other = support::agent()
            .get(format!("http://{}/v1/receipts/{claim}", gateway.address()))
            .header("authorization", format!("Bearer {POOR}"))
            .call()
            .unwrap();
        assert_eq!(other.status(), 404);
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restarted_gateway_goes_on_in_the_same_lines() {
    let network = network().await;
    let question = json!({"model": MODEL, "input": ["a", "b"]});
    let gateway = start(config(&network)).await;
    block(|| assert_eq!(embed(&gateway, question.clone()).status, 200));
    gateway.stop().await;
    let gateway = start(config(&network)).await;
    block(|| assert_eq!(embed(&gateway, question.clone()).status, 200));
    gateway.stop().await;
    std::fs::remove_dir_all(network.folder.path().join("gateway")).unwrap();
    let gateway = start(config(&network)).await;
    block(|| assert_eq!(embed(&gateway, question).status, 200));
}

#[tokio::test(flavor = "multi_thread")]
async fn each_error_has_its_shape() {
    let network = network().await;
    let mut config = config(&network);
    config.max_body = 10_000;
    let gateway = start(config).await;
    block(|| {
        let good = json!({"model": MODEL, "input": "x"}).to_string();
        let post = |kind: &str, body: &str| {
            post_as(&gateway, RICH, kind, "/v1/embeddings", body.as_bytes())
        };
        let text = "application/json";
        let cases = [
            (post(text, "{"), 400, "invalid_value"),
            (post(text, "[]"), 400, "invalid_value"),
            (post(text, "{}"), 400, "invalid_value"),
            (
                post(text, &json!({"model": MODEL}).to_string()),
                400,
                "invalid_value",
            ),
            (
                post(text, &json!({"model": MODEL, "input": {}}).to_string()),
                400,
                "invalid_value",
            ),
            (
                post(
                    text,
                    &json!({"model": MODEL, "input": [1, "x"]}).to_string(),
                ),
                400,
                "invalid_value",
            ),
            (
                post(text, &json!({"model": MODEL, "input": [-1]}).to_string()),
                400,
                "invalid_value",
            ),
            (
                post(text, &json!({"model": "nope", "input": "x"}).to_string()),
                404,
                "model_not_found",
            ),
            (post(text, &"x".repeat(20_000)), 413, "body_too_large"),
            (get(&gateway, "/v1/nothing"), 404, "not_found"),
            (get(&gateway, "/v1/embeddings"), 405, "method_not_allowed"),
            (get(&gateway, "/v1/models/nope"), 404, "model_not_found"),
            (get(&gateway, "/v1/receipts/0x12"), 404, "not_found"),
            (
                post_as(
                    &gateway,
                    "sk-nobody",
                    text,
                    "/v1/embeddings",
                    good.as_bytes(),
                ),
                401,
                "invalid_api_key",
            ),
            (
                post_as(&gateway, POOR, text, "/v1/embeddings", good.as_bytes()),
                402,
                "insufficient_balance",
            ),
            (
                post_as(&gateway, RICH, text, "/v1/infer", b"{}"),
                400,
                "invalid_value",
            ),
            (
                post_as(
                    &gateway,
                    RICH,
                    "multipart/form-data; boundary=x",
                    "/v1/infer",
                    b"junk",
                ),
                400,
                "invalid_value",
            ),
        ];
        for (reply, status, code) in cases {
            assert_eq!(
                (reply.status, reply.body["error"]["code"].as_str()),
                (status, Some(code)),
                "{}",
                reply.body
            );
            assert!(
                reply.body["error"]["message"]
                    .as_str()
                    .is_some_and(|message| !message.is_empty())
            );
        }
        let foreign = support::agent()
            .get(format!("http://{}/v1/models", gateway.address()))
            .header("host", "evil.example")
            .call()
            .unwrap();
        assert_eq!(foreign.status(), 403);
        let metrics = get(&gateway, "/metrics");
        assert!(
            metrics
                .body
                .as_str()
                .unwrap()
                .contains("assay_gateway_calls_total{path=\"embeddings\",status=\"402\"} 1")
        );
        assert_eq!(get(&gateway, "/health").body["status"], "ok");
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_queue_says_when_to_come_back() {
    let network = network().await;
    let mut config = config(&network);
    config.queue = 0;
    let gateway = start(config).await;
    block(|| {
        let reply = embed(&gateway, json!({"model": MODEL, "input": "x"}));
        assert_eq!(reply.status, 429);
        assert_eq!(reply.headers["retry-after"], "1");
        assert_eq!(reply.headers["x-should-retry"], "true");
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn without_an_operator_the_answer_is_503_and_nothing_is_charged() {
    let mut network = network().await;
    let gateway = start(config(&network)).await;
    network.operator.take().unwrap().stop().await;
    block(|| {
        let reply = embed(&gateway, json!({"model": MODEL, "input": "x"}));
        assert_eq!(
            (reply.status, reply.body["error"]["code"].as_str()),
            (503, Some("no_operator"))
        );
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lying_operator_is_caught_and_the_buyer_gets_the_fee_back() {
    let graph = perceptron(3, 96, 64, true);
    let fault = Fault::FlipActivation {
        node: 4,
        element: 1,
        xor: 32,
    };
    let network = Network::start(Arc::clone(&graph), Some(fault)).await;
    let gateway = start(config(&network)).await;
    block(|| {
        let before = network.escrow(&network.buyer);
        let reply = embed(&gateway, json!({"model": MODEL, "input": "hello"}));
        assert_eq!(reply.status, 200, "{}", reply.body);
        let claim = reply.headers["assay-receipt"].to_str().unwrap().to_owned();
        let (watcher, _) = network.watcher(true);
        let running = watcher.start().unwrap();
        network.wait_for(claim.parse().unwrap(), &[4]);
        running.stop();
        assert_eq!(network.escrow(&network.buyer), before);
        let reply = get(&gateway, &format!("/v1/receipts/{claim}"));
        assert_eq!(reply.body["claim"]["state"], "rejected");
        let facts = reply.body["report"]["facts"].as_array().unwrap();
        assert!(
            facts
                .iter()
                .any(|fact| fact["name"] == "claim_state" && fact["status"] == "false")
        );
    });
}

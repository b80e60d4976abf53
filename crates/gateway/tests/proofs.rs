//! Answers that are proven: later, at once, and as the answer to a challenge.

mod support;

use std::sync::Arc;
use std::time::{Duration, Instant};

use alloy_primitives::B256;
use assay_abi::{CLAIMS, DISPUTES, IClaims, IDisputes, IModels, MODELS, claim_context};
use assay_engine::EngineOptions;
use assay_gateway::Running;
use assay_graph::Sampling;
use assay_operator::{DefendBy, HonestModel, LanguageModel, Ledger, OperatorConfig, ProofState};
use assay_proof::{Key, Proof, ProvingKey, verify};
use assay_receipt::{Bundle, ProofFile, Status, verify_bundle};
use assay_wallet::dev_key;
use serde_json::json;
use support::network::language::{Call, prompt, sampling, speaker};
use support::{
    MODEL, Network, POOR, RICH, Reply, block, config, embed, get, perceptron, post_as, start,
};

async fn network(change: impl FnOnce(&mut OperatorConfig)) -> Network {
    let graph = perceptron(1, 32, 8, true);
    let model = HonestModel::new(Arc::clone(&graph), EngineOptions::default()).unwrap();
    Network::with_model(graph, Box::new(model), change).await
}

fn prove(gateway: &Running, key: &str, claim: &str) -> Reply {
    let path = format!("/v1/receipts/{claim}/prove");
    post_as(gateway, key, "application/json", &path, b"")
}

fn ask(gateway: &Running) -> String {
    let reply = embed(gateway, json!({"model": MODEL, "input": "hello world"}));
    assert_eq!(reply.status, 200, "{}", reply.body);
    reply.headers["assay-receipt"].to_str().unwrap().to_owned()
}

/// The proof file, as bytes.
fn file(gateway: &Running, claim: &str) -> Vec<u8> {
    let url = format!("http://{}/v1/receipts/{claim}/proof", gateway.address());
    let start = Instant::now();
    loop {
        let request = support::agent().get(&url);
        let mut reply = request
            .header("authorization", format!("Bearer {RICH}"))
            .call()
            .unwrap();
        let status = reply.status().as_u16();
        let bytes = reply
            .body_mut()
            .with_config()
            .limit(64 << 20)
            .read_to_vec()
            .unwrap();
        if status == 200 {
            return bytes;
        }
        let words = String::from_utf8_lossy(&bytes).into_owned();
        assert_eq!(status, 202, "{words}");
        assert!(start.elapsed() < Duration::from_secs(60), "{words}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Sets the model's key as its maker, and waits until the operator has attested it.
fn register_key(network: &Network) {
    let key = ProvingKey::new(Arc::clone(&network.graph)).unwrap();
    let call = IModels::setProofKeyCall {
        modelId: network.graph.model_id().into(),
        key: key.key().encode().into(),
    };
    let maker = dev_key(4).unwrap();
    network.client.send(&maker, MODELS, &call).unwrap();
    wait("the key is attested", || {
        let call = IModels::proofKeyCall {
            modelId: network.graph.model_id().into(),
        };
        network.client.call(MODELS, &call).unwrap().usable
    });
}

fn wait(what: &str, mut done: impl FnMut() -> bool) {
    let start = Instant::now();
    while !done() {
        assert!(
            start.elapsed() < Duration::from_secs(60),
            "not in time: {what}"
        );
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn is_proven(network: &Network, claim_id: B256) -> bool {
    let call = IClaims::isProvenCall { claimId: claim_id };
    network.client.call(CLAIMS, &call).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_buyer_gets_a_proof_of_an_answer_it_has() {
    let network = network(|_| ()).await;
    let gateway = start(config(&network)).await;
    block(|| {
        let claim = ask(&gateway);
        let reply = get(&gateway, &format!("/v1/receipts/{claim}/proof"));
        assert_eq!(
            (reply.status, &reply.body["error"]["code"]),
            (404, &json!("no_proof"))
        );
        assert_eq!(prove(&gateway, POOR, &claim).status, 404, "somebody else's");
        let reply = prove(&gateway, RICH, &claim);
        assert!(matches!(reply.status, 200 | 202), "{}", reply.body);
        let bytes = file(&gateway, &claim);
        // The same again.
        let reply = prove(&gateway, RICH, &claim);
        assert_eq!(
            (reply.status, &reply.body["state"]),
            (200, &json!("done")),
            "{}",
            reply.body
        );
        assert!(
            reply.body["bits"].as_f64().unwrap() >= 100.0,
            "{}",
            reply.body
        );
        assert_eq!(file(&gateway, &claim), bytes);

        let file = ProofFile::decode(&bytes).unwrap();
        let proof = Proof::decode(&file.proof).unwrap();
        verify(&Key::decode(&file.key).unwrap(), &proof).unwrap();
        let own = ProvingKey::new(Arc::clone(&network.graph)).unwrap();
        assert_eq!(own.key().encode(), file.key);
        let reply = get(&gateway, &format!("/v1/receipts/{claim}"));
        let bundle = Bundle::from_json(&reply.body["bundle"].to_string()).unwrap();
        let run = &proof.statement.runs[0];
        assert_eq!(Some(run.input.as_slice()), bundle.input.as_deref());
        assert_eq!(Some(run.output.as_slice()), bundle.output.as_deref());
        let context = claim_context(network.domain.chain_id, bundle.receipt.body_id());
        assert_eq!(proof.statement.context, context);
        let unknown = B256::repeat_byte(7);
        assert_eq!(prove(&gateway, RICH, &unknown.to_string()).status, 404);
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_queue_refuses_and_what_was_asked_for_survives_a_restart() {
    let mut network = network(|config| config.proofs.queue = 0).await;
    let gateway = start(config(&network)).await;
    let claim = block(|| {
        let claim = ask(&gateway);
        let reply = prove(&gateway, RICH, &claim);
        assert_eq!(
            (reply.status, &reply.body["error"]["code"]),
            (429, &json!("proofs_full")),
            "{}",
            reply.body
        );
        claim
    });
    network.operator.take().unwrap().stop().await;
    let claim_id: B256 = claim.parse().unwrap();
    block(|| {
        let mut ledger = Ledger::open(network.folder.path().join("operator")).unwrap();
        let ticket = ledger.next_ticket();
        ledger
            .set_proof(claim_id, ProofState::Queued { ticket })
            .unwrap();
        assert_eq!(ledger.queued_proofs(), [claim_id]);
    });
    let model = HonestModel::new(Arc::clone(&network.graph), EngineOptions::default()).unwrap();
    network.serve(Box::new(model), |_| ()).await;
    let url = network.operator.as_ref().unwrap().url();
    block(|| {
        let url = format!("{url}/v1/receipts/{claim}/proof");
        wait("the proof is made", || {
            support::agent().get(&url).call().unwrap().status() == 200
        });
    });
    // And once more: it is not made again.
    network.operator.take().unwrap().stop().await;
    block(|| {
        let ledger = Ledger::open(network.folder.path().join("operator")).unwrap();
        assert!(ledger.queued_proofs().is_empty());
        let job = ledger.job(claim_id).unwrap();
        assert!(matches!(job.proof, Some(ProofState::Done { .. })));
        ProofFile::decode(&ledger.proof_file(claim_id).unwrap()).unwrap();
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operator_that_offers_no_proofs_says_so() {
    let network = network(|config| config.proofs.offered = false).await;
    let gateway = start(config(&network)).await;
    block(|| {
        let claim = ask(&gateway);
        let reply = prove(&gateway, RICH, &claim);
        assert_eq!(
            (reply.status, &reply.body["error"]["code"]),
            (403, &json!("proofs_off"))
        );
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_of_tier_zk_is_final_as_soon_as_it_is_proven() {
    let network = network(|_| ()).await;
    let gateway = start(config(&network)).await;
    block(|| {
        let question = json!({"model": MODEL, "input": "hello", "tier": "zk"});
        let reply = embed(&gateway, question.clone());
        assert_eq!(
            (reply.status, &reply.body["error"]["code"]),
            (422, &json!("not_provable"))
        );
        let other = json!({"model": MODEL, "input": "hello", "tier": "tee"});
        assert_eq!(embed(&gateway, other).status, 400);
        register_key(&network);
        let mut reply = embed(&gateway, question.clone());
        wait("the operator sells proofs", || {
            if reply.status != 200 {
                std::thread::sleep(Duration::from_millis(200));
                reply = embed(&gateway, question.clone());
            }
            reply.status == 200
        });
        assert_eq!(reply.body["assay"]["tier"], "zk");
        let claim = reply.headers["assay-receipt"].to_str().unwrap().to_owned();
        let claim_id = claim.parse().unwrap();
        let settled = network.wait_for(claim_id, &[3]);
        assert!(is_proven(&network, claim_id));
        assert!(settled.deadline > network.client.chain_millis().unwrap());
        let reply = get(&gateway, &format!("/v1/receipts/{claim}"));
        let bundle = Bundle::from_json(&reply.body["bundle"].to_string()).unwrap();
        let report = verify_bundle(&bundle, Some(&network.client), None).unwrap();
        assert_eq!(
            report.fact("evidence").unwrap().status,
            Status::Shown,
            "{report}"
        );
        assert_eq!(report.tier, "zk");
        file(&gateway, &claim);
        // Others go on as before.
        let claim_id = ask(&gateway).parse().unwrap();
        network.wait_for(claim_id, &[1]);
        assert!(!is_proven(&network, claim_id));
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn a_challenge_is_answered_by_a_proof() {
    let network = network(|config| config.proofs.defend_by = DefendBy::Proof).await;
    let gateway = start(config(&network)).await;
    block(|| {
        register_key(&network);
        std::thread::sleep(Duration::from_millis(1_500));
        let claim_id: B256 = ask(&gateway).parse().unwrap();
        network.wait_for(claim_id, &[1]);
        let call = IDisputes::bondOfCall { claimId: claim_id };
        let bond = network.client.call(DISPUTES, &call).unwrap();
        let call = IDisputes::challengeCall { claimId: claim_id };
        let challenger = &network.watcher_key;
        network
            .client
            .send_value(challenger, DISPUTES, &call, bond)
            .unwrap();
        network.wait_for(claim_id, &[3]);
        assert!(is_proven(&network, claim_id));
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn sampled_and_greedy_answers_are_taken_into_the_line() {
    let graph = speaker(5, 1);
    let model = LanguageModel::new(Arc::clone(&graph), EngineOptions::default()).unwrap();
    let network = Network::with_model(graph, Box::new(model), |_| ()).await;
    let url = network.operator.as_ref().unwrap().url();
    let asked = |claim: B256| {
        let url = format!("{url}/v1/receipts/{claim}/prove");
        let mut reply = support::agent().post(&url).send_empty().unwrap();
        let status = reply.status().as_u16();
        (status, reply.body_mut().read_to_string().unwrap())
    };
    block(|| {
        // Where a seed decides, and where none does.
        let drawn = Call::new(prompt(7), sampling(5)).answer(&network);
        let greedy = Sampling {
            max_out: 5,
            temperature: 0,
            ..Sampling::default()
        };
        let greedy = Call::new(prompt(7), greedy).salted(9).answer(&network);
        for answer in [drawn, greedy] {
            let (status, words) = asked(answer.claim_id);
            assert_eq!(status, 202, "{words}");
        }
    });
}

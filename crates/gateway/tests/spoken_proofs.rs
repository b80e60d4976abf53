//! Proofs of a language model through the whole network: its key in parts, answers of tier zk, a challenge that a proof ends.

mod support;

use std::sync::Arc;
use std::time::{Duration, Instant};

use alloy_primitives::{B256, keccak256};
use assay_abi::{
    CLAIMS, DISPUTES, IClaims, IDisputes, IModels, MODELS, PROOF_KEY_PART, claim_context,
    proof_key_parts,
};
use assay_engine::EngineOptions;
use assay_gateway::{CodecError, Decoded, Language, ModelCodec, ModelKind, Running};
use assay_graph::Graph;
use assay_operator::{DefendBy, LanguageModel};
use assay_proof::{Key, Proof, ProvingKey, verify};
use assay_receipt::{Bundle, ProofFile, Status, verify_bundle};
use assay_text::{Tokenizer, Vocabulary};
use assay_wallet::dev_key;
use serde_json::{Value, json};
use support::network::language::{MAX_SEQ, VOCABULARY, provable_speaker};
use support::{Network, RICH, Reply, block, config, get, post_as, start};

const NAME: &str = "speaker";
const PATIENCE: Duration = Duration::from_secs(60);

/// A model of bytes, of which it knows the first.
struct Speaker {
    model_id: B256,
    language: Language,
}

impl Speaker {
    fn new(graph: &Graph) -> Self {
        let tokenizer = Tokenizer::from_vocabulary(&Vocabulary::bytes("gpt-2")).unwrap();
        Self {
            model_id: graph.model_id().into(),
            language: Language::new(tokenizer, None, Vec::new(), MAX_SEQ, VOCABULARY).unwrap(),
        }
    }
}

impl ModelCodec for Speaker {
    fn model_id(&self) -> B256 {
        self.model_id
    }

    fn name(&self) -> &str {
        NAME
    }

    fn kind(&self) -> ModelKind {
        ModelKind::Language
    }

    fn max_tokens(&self) -> u32 {
        MAX_SEQ
    }

    fn language(&self) -> Option<&Language> {
        Some(&self.language)
    }

    fn decode(&self, _output: &[u8]) -> Result<Decoded, CodecError> {
        Err(CodecError::Unsupported("decoding"))
    }
}

fn wait(what: &str, mut done: impl FnMut() -> bool) {
    let start = Instant::now();
    while !done() {
        assert!(start.elapsed() < PATIENCE, "not in time: {what}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// Uploads the model's key as its maker, and waits until the operator has attested it.
fn publish(network: &Network, key: &Key) {
    let (model_id, key_id) = (B256::from(key.model_id()), B256::from(key.id()));
    let bytes = key.encode();
    assert!(bytes.len() > PROOF_KEY_PART, "{} bytes", bytes.len());
    let maker = dev_key(4).unwrap();
    let announce = IModels::announceProofKeyCall {
        modelId: model_id,
        keyId: key_id,
        length: bytes.len() as u32,
        hashes: proof_key_parts(&bytes).map(keccak256).collect(),
    };
    network.client.send(&maker, MODELS, &announce).unwrap();
    // parts are anybody's to upload
    for (index, part) in (0u32..).zip(proof_key_parts(&bytes)) {
        let call = IModels::addProofKeyPartCall {
            modelId: model_id,
            keyId: key_id,
            index,
            part: part.to_vec().into(),
        };
        let anyone = &network.watcher_key;
        network.client.send(anyone, MODELS, &call).unwrap();
    }
    wait("the key is attested", || {
        let call = IModels::proofKeyCall { modelId: model_id };
        network.client.call(MODELS, &call).unwrap().usable
    });
}

fn complete(gateway: &Running, more: &Value) -> Reply {
    let mut body = json!({
        "model": NAME, "max_tokens": 4, "temperature": 0, "prompt": [1, 7, 30, 2, 66],
    });
    for (name, value) in more.as_object().unwrap() {
        body[name] = value.clone();
    }
    let kind = "application/json";
    let bytes = serde_json::to_vec(&body).unwrap();
    post_as(gateway, RICH, kind, "/v1/completions", &bytes)
}

fn claim_of(reply: &Reply) -> B256 {
    assert_eq!(reply.status, 200, "{}", reply.body);
    let claim = reply.headers["assay-receipt"].to_str().unwrap();
    claim.parse().unwrap()
}

fn is_proven(network: &Network, claim_id: B256) -> bool {
    let call = IClaims::isProvenCall { claimId: claim_id };
    network.client.call(CLAIMS, &call).unwrap()
}

/// Bytes of the proof file once it is made.
fn file(gateway: &Running, claim_id: B256) -> Vec<u8> {
    let url = format!("http://{}/v1/receipts/{claim_id}/proof", gateway.address());
    let start = Instant::now();
    loop {
        let request = support::agent().get(&url);
        let mut reply = request
            .header("authorization", format!("Bearer {RICH}"))
            .call()
            .unwrap();
        let status = reply.status().as_u16();
        let body = reply.body_mut().with_config().limit(64 << 20);
        let bytes = body.read_to_vec().unwrap();
        if status == 200 {
            return bytes;
        }
        let words = String::from_utf8_lossy(&bytes).into_owned();
        // it is asked for when the challenge is seen
        assert!(matches!(status, 202 | 404), "{status}: {words}");
        assert!(start.elapsed() < PATIENCE, "{words}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

fn is_final_by_proof(network: &Network, gateway: &Running, claim_id: B256) {
    let made = file(gateway, claim_id);
    println!("{} bytes of proof file", made.len());
    wait("the claim is final", || {
        let call = IClaims::claimCall { claimId: claim_id };
        network.client.call(CLAIMS, &call).unwrap().state == 3
    });
    assert!(is_proven(network, claim_id));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_language_models_answers_are_proven_on_the_chain() {
    let graph = Arc::new(provable_speaker(7));
    let speaker = LanguageModel::new(Arc::clone(&graph), EngineOptions::default()).unwrap();
    let network = Network::with_model(Arc::clone(&graph), Box::new(speaker), |config| {
        config.proofs.defend_by = DefendBy::Proof;
    })
    .await;
    let mut settings = config(&network);
    settings.models = vec![Arc::new(Speaker::new(&graph))];
    let gateway = start(settings).await;
    block(|| {
        let zk = json!({"tier": "zk"});
        // no key, no such tier
        let reply = complete(&gateway, &zk);
        let code = |reply: &Reply| (reply.status, reply.body["error"]["code"].clone());
        assert_eq!(code(&reply), (422, "not_provable".into()), "{}", reply.body);
        assert_eq!(complete(&gateway, &json!({"tier": "tee"})).status, 400);

        let own = ProvingKey::new(Arc::clone(&graph)).unwrap();
        publish(&network, own.key());
        let listed = get(&gateway, &format!("/v1/models/{NAME}"));
        assert_eq!(listed.body["assay"]["tiers"], json!(["optimistic", "zk"]));
        let mut reply = complete(&gateway, &zk);
        wait("the operator sells proofs", || {
            if reply.status != 200 {
                std::thread::sleep(Duration::from_millis(200));
                reply = complete(&gateway, &zk);
            }
            reply.status == 200
        });
        assert_eq!(reply.body["assay"]["tier"], "zk");
        let claim_id = claim_of(&reply);
        is_final_by_proof(&network, &gateway, claim_id);

        // what the buyer keeps says so, and the proof holds without the chain
        let kept = get(&gateway, &format!("/v1/receipts/{claim_id}"));
        let bundle = Bundle::from_json(&kept.body["bundle"].to_string()).unwrap();
        let report = verify_bundle(&bundle, Some(&network.client), None).unwrap();
        let evidence = report.fact("evidence").unwrap();
        assert_eq!(evidence.status, Status::Shown, "{report}");
        let file = ProofFile::decode(&file(&gateway, claim_id)).unwrap();
        assert_eq!(file.key, own.key().encode());
        let proof = Proof::decode(&file.proof).unwrap();
        verify(own.key(), &proof).unwrap();
        let run = &proof.statement.runs[0];
        assert_eq!(Some(run.output.as_slice()), bundle.output.as_deref());
        let context = claim_context(network.domain.chain_id, bundle.receipt.body_id());
        assert_eq!(proof.statement.context, context);

        // a seed decides, and the proof says how
        let drawn = json!({"tier": "zk", "temperature": 1, "top_p": 0.9, "seed": 3});
        let drawn = claim_of(&complete(&gateway, &drawn));
        is_final_by_proof(&network, &gateway, drawn);

        // an answer that anyone may challenge, and somebody does
        let challenged = claim_of(&complete(&gateway, &json!({"max_tokens": 3})));
        network.wait_for(challenged, &[1]);
        let call = IDisputes::bondOfCall {
            claimId: challenged,
        };
        let bond = network.client.call(DISPUTES, &call).unwrap();
        let call = IDisputes::challengeCall {
            claimId: challenged,
        };
        let sender = &network.watcher_key;
        network
            .client
            .send_value(sender, DISPUTES, &call, bond)
            .unwrap();
        is_final_by_proof(&network, &gateway, challenged);
        // and others go on as before
        let other = claim_of(&complete(&gateway, &json!({"temperature": 1, "seed": 3})));
        network.wait_for(other, &[1]);
        assert!(!is_proven(&network, other));
    });
}

//! Proofs of language models and proofs of receipts, by command line: a small model of random weights, from its file to its key on a chain.

use alloy_primitives::{B256, keccak256};
use assay_abi::{IModels, MODELS, proof_key_parts};
use assay_import::Model;
use assay_import::language::sample::Sample;
use assay_proof::ProvingKey;
use assay_wallet::{ChainClient, dev_key};

use crate::support::{Home, Service, fact, repository, text, wait};

const TINY: &str = "tiny";

/// A home with a small language model in its store.
fn home() -> Home {
    let home = Home::new();
    let sample = Sample {
        layers: 1,
        feed: 32,
        heads: 2,
        context: 32,
        seed: 3,
        ..Sample::default()
    };
    std::fs::write(home.path("tiny.gguf"), sample.gguf()).unwrap();
    home.run(&["model", "import", "tiny.gguf", "--name", TINY])
        .exits(0);
    home
}

fn up(home: &Home, model: &str) -> Service {
    home.serve(&[
        "up",
        "--offline",
        "--json",
        "--check-invariants",
        "--model",
        model,
        "--gateway",
        "127.0.0.1:0",
        "--rpc=127.0.0.1:0",
    ])
}

#[test]
fn what_has_no_proof_is_refused_before_anything_is_made() {
    let home = home();
    let prove = |rest: &[&str]| {
        let args = ["prove", TINY, "--json", "--max-tokens", "3"];
        home.run(&[&args[..], rest].concat())
    };
    for (args, words) in [
        (["--input", "hi", "--temperature", "3"], "temperature"),
        (["--tokens", "70000,1", "--seed", "1"], "70000"),
    ] {
        let error = prove(&args).exits(1).error();
        let message = error["message"].as_str().unwrap();
        assert!(message.contains(words), "{message}");
    }
    assert!(!home.path("cache").join("assay/keys").exists());
    home.run(&["prove", TINY]).exits(2);
    home.run(&["prove", TINY, "--input", "hi", "--tokens", "1"])
        .exits(2);
    let seven = repository("models/digits/samples/7.png");
    let done = home.run(&[
        "prove",
        "digits",
        "--input",
        text(&seven),
        "--raw",
        "--json",
    ]);
    let error = done.exits(1).error();
    let message = error["message"].as_str().unwrap();
    assert!(message.contains("no language model"), "{message}");
}

/// Announces the model's key and uploads one part of it, as if the upload had been interrupted.
fn half_upload(home: &Home, chain: &ChainClient) -> u32 {
    let model = Model::load(&home.path("data").join("assay/models").join(TINY)).unwrap();
    let key = ProvingKey::new(model.graph).unwrap().key().clone();
    let bytes = key.encode();
    let (model_id, key_id) = (B256::from(key.model_id()), B256::from(key.id()));
    let maker = dev_key(0).unwrap();
    let call = IModels::announceProofKeyCall {
        modelId: model_id,
        keyId: key_id,
        length: bytes.len() as u32,
        hashes: proof_key_parts(&bytes).map(keccak256).collect(),
    };
    chain.send(&maker, MODELS, &call).unwrap();
    let call = IModels::addProofKeyPartCall {
        modelId: model_id,
        keyId: key_id,
        index: 1,
        part: proof_key_parts(&bytes).nth(1).unwrap().to_vec().into(),
    };
    chain.send(&maker, MODELS, &call).unwrap();
    proof_key_parts(&bytes).len() as u32
}

#[test]
fn a_long_key_is_uploaded_where_it_was_left() {
    let home = home();
    let up = up(&home, TINY);
    let (gateway, rpc) = (up.at("gateway").to_owned(), up.at("rpc").to_owned());
    let ask = |rest: &[&str]| {
        let args = ["ask", TINY, "hi", "--gateway", &gateway, "--json"];
        home.run(&[&args[..], &["--max-tokens", "2"], rest].concat())
    };
    let refused = ask(&["--tier", "zk"]).exits(1).error();
    let message = refused["message"].as_str().unwrap();
    assert!(message.contains("no proof key"), "{message}");

    let chain = ChainClient::new(&rpc);
    let parts = half_upload(&home, &chain);
    let maker = dev_key(0).unwrap().address();
    let before = chain.nonce(maker).unwrap();
    let key = ["model", "key", TINY, "--dev", "0", "--rpc", &rpc, "--json"];
    let set = home.run(&key).exits(0).json();
    assert!(set["bytes"].as_u64().unwrap() > 131_072, "{set}");
    // not announced again, and one part less than all
    let sent = chain.nonce(maker).unwrap() - before;
    assert_eq!(sent, u64::from(parts) - 1);
    let again = home.run(&key).exits(0).json();
    assert_eq!(again["proof_key"], set["proof_key"]);
    wait("the operator attests the key", || {
        home.run(&key).exits(0).json()["usable"] == true
    });
    let tier = ask(&["--tier", "tee"]);
    tier.exits(2);

    up.interrupt();
}

#[test]
fn a_receipts_answer_is_proven_later() {
    let home = Home::new();
    let up = up(&home, "digits");
    let gateway = up.at("gateway").to_owned();
    let seven = repository("models/digits/samples/7.png");
    let ask = ["ask", "digits", text(&seven), "--gateway", &gateway];
    let mut sold = home.run(&[&ask[..], &["--tier", "zk", "--json"]].concat());
    wait("the operator sells proofs", || {
        if sold.status.code() != Some(0) {
            sold = home.run(&[&ask[..], &["--tier", "zk", "--json"]].concat());
        }
        sold.status.code() == Some(0)
    });
    let sold = sold.json();
    assert_eq!(sold["answer"]["assay"]["tier"], "zk", "{sold}");
    let kept = ["receipt", "prove", "last", "--gateway", &gateway, "--json"];
    let kept = home.run(&kept).exits(0).json();
    assert_eq!(kept["receipt"], sold["receipt"]);
    let asked = home.run(&[&ask[..], &["--receipt", "r", "--json"]].concat());
    let asked = asked.exits(0).json();
    let prove = |receipt: &str, out: &str| {
        let args = ["receipt", "prove", receipt, "--gateway", &gateway];
        home.run(&[&args[..], &["--out", out, "--json"]].concat())
    };
    let made = prove("r", "p").exits(0).json();
    assert_eq!(made["receipt"], asked["receipt"]);
    assert!(made["bits"].as_f64().unwrap() >= 100.0, "{made}");
    let report = home.run(&["verify", "p", "--json"]).exits(0).json();
    assert_eq!(fact(&report, "context"), "shown", "{report}");
    // by its whole id, the same file again
    let id = asked["receipt"].as_str().unwrap();
    prove(id, "q").exits(0);
    let read = |name: &str| std::fs::read(home.path(name)).unwrap();
    assert_eq!(read("p"), read("q"));
    // what nobody has
    let none = format!("0x{}", "07".repeat(32));
    prove(&none, "n").exits(4);
    prove("0x1234567", "n").exits(4);
    assert!(!home.path("n").exists());
    let settings = ["--max-tokens", "3"];
    home.run(&[&ask[..], &settings].concat()).exits(1);
    up.interrupt();
}

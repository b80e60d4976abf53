//! A real language model, fetched, served, asked by the official clients and by our own commands, replayed. One network
//! for all of it; skipped, visibly, where the model can't be fetched.

use std::io::{Read, Write as _};
use std::process::Command;

use assay_import::pull::Cache;
use serde_json::{Value, json};

use crate::clients;
use crate::support::{Home, fact, wait};

const MODEL: &str = "smollm2";

/// A home with the model in its cache, or why there is none.
fn home() -> Result<Home, String> {
    let cache = Cache::from_environment().map_err(|e| e.to_string())?;
    let home = Home::with_cache(cache.root());
    let done = home.run(&["pull", MODEL, "--json"]);
    match done.status.code() {
        Some(0) => Ok(home),
        Some(75) => Err(done.stderr),
        code => panic!("{code:?}: {}", done.stderr),
    }
}

/// Runs a script of an official client.
fn official(command: &mut Command, gateway: &str) {
    let output = command
        .env("BASE_URL", gateway)
        .env("MODEL", MODEL)
        .env("API_KEY", "dev")
        .env_remove("SCRIPTED")
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{text}\n{errors}");
    println!("{text}");
}

#[test]
fn a_language_model_is_served_asked_and_replayed() {
    let home = match home() {
        Ok(home) => home,
        Err(reason) => return clients::skipped("a_language_model_is_served", &reason),
    };
    let up = home.serve(&[
        "up",
        "--model",
        "digits",
        "--model",
        MODEL,
        "--json",
        "--gateway",
        "127.0.0.1:0",
        "--rpc",
        "127.0.0.1:0",
    ]);
    let gateway = up.at("gateway").to_owned();
    scripts_get_the_same_words_for_the_same_seed(&home, up.at("rpc"));
    a_pipe_has_a_memory(&home);
    answers_are_held_to_a_schema(&home);
    an_interrupted_answer_is_not_charged(&home);
    match clients::python() {
        Ok(python) => {
            official(
                Command::new(python).arg(clients::scripts().join("language.py")),
                &gateway,
            );
        }
        Err(reason) => clients::skipped("python client", &reason),
    }
    match clients::node() {
        Ok(folder) => {
            let script = clients::scripts().join("language.mjs");
            std::fs::copy(script, folder.join("language.mjs")).unwrap();
            let mut command = Command::new("node");
            official(command.arg("language.mjs").current_dir(&folder), &gateway);
        }
        Err(reason) => clients::skipped("node client", &reason),
    }
    up.interrupt();

    // Without a gateway that runs, a network comes up for the time of the answer, and goes on where the last one was.
    let args = [
        "run",
        MODEL,
        "Say hello.",
        "--max-tokens",
        "8",
        "--seed",
        "1",
        "--json",
    ];
    let told = home.run(&args).exits(0).json();
    assert_eq!(told["fee"], "0.01", "{told}");
    let report = home.run(&["verify", "last", "--json"]).exits(0).json();
    assert_eq!(fact(&report, "replay"), "shown", "{report}");
}

/// The gateway that `up` announced is found without being named.
fn run(home: &Home, rest: &[&str]) -> Value {
    let args = ["run", MODEL, "--json", "--max-tokens", "16"];
    home.run(&[&args[..], rest].concat()).exits(0).json()
}

fn scripts_get_the_same_words_for_the_same_seed(home: &Home, rpc: &str) {
    let question = "Name three colours.";
    let first = run(home, &["--seed", "7", "--temperature", "1", question]);
    let again = run(home, &["--seed", "7", "--temperature", "1", question]);
    let other = run(home, &["--seed", "8", "--temperature", "1", question]);
    assert_eq!(first["answer"], again["answer"]);
    assert_ne!(first["answer"], other["answer"]);
    assert_ne!(first["receipt"], again["receipt"]);
    let file = first["receipt_file"].as_str().unwrap();
    wait("the claim is on the chain", || {
        let report = home
            .run(&["verify", file, "--rpc", rpc, "--json"])
            .exits(0)
            .json();
        fact(&report, "claim_state") == "shown"
    });
    let id = first["receipt"].as_str().unwrap();
    let report = home
        .run(&["verify", &id[..12], "--rpc", rpc, "--json"])
        .exits(0)
        .json();
    for name in [
        "signature",
        "input",
        "output",
        "sampling",
        "length",
        "replay",
    ] {
        assert_eq!(fact(&report, name), "shown", "{report}");
    }
    // Another token in the answer, another statement: false.
    let whole: Value = serde_json::from_slice(&std::fs::read(file).unwrap()).unwrap();
    for field in ["output", "sampling"] {
        let mut bundle = whole.clone();
        let hex = bundle[field].as_str().unwrap().to_owned();
        let other = if &hex[2..3] == "0" { "1" } else { "0" };
        bundle[field] = json!(format!("0x{other}{}", &hex[3..]));
        std::fs::write(home.path("changed"), bundle.to_string()).unwrap();
        home.run(&["verify", "changed", "--json"]).exits(3);
    }
    let listed = home.run(&["ps", "--json"]).exits(0).json();
    let names: Vec<_> = listed["models"]
        .as_array()
        .unwrap()
        .iter()
        .map(|m| m["name"].as_str().unwrap())
        .collect();
    assert_eq!(names, ["digits", MODEL]);
    let said = home.run(&["ask", MODEL, "Say hello."]).exits(0);
    assert!(said.stdout.trim().len() > 1, "{}", said.stdout);
    let shown = home.run(&["model", "show", MODEL]).exits(0).stdout;
    for words in [
        "llama",
        "parameters",
        "context",
        "Apache-2.0",
        "accuracy",
        "model id",
    ] {
        assert!(shown.contains(words), "{words}: {shown}");
    }
}

fn a_pipe_has_a_memory(home: &Home) {
    let mut child = home
        .command(&[
            "chat",
            MODEL,
            "--json",
            "-q",
            "--temperature",
            "0",
            "--max-tokens",
            "24",
        ])
        .stdin(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let turns = "My name is Robin. Please remember it.\n/set seed 3\nWhat is my name?\n/bye\n";
    child
        .stdin
        .take()
        .unwrap()
        .write_all(turns.as_bytes())
        .unwrap();
    let output = child.wait_with_output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let told: Vec<Value> = text
        .lines()
        .map(|l| serde_json::from_str(l).unwrap())
        .collect();
    assert_eq!(told.len(), 2);
    let prompts = told
        .iter()
        .map(|t| t["usage"]["prompt_tokens"].as_u64().unwrap());
    let prompts: Vec<u64> = prompts.collect();
    assert!(prompts[1] > prompts[0] + 10, "{prompts:?}");
    println!("{}", told[1]["answer"]);
}

fn answers_are_held_to_a_schema(home: &Home) {
    let schema = json!({
        "type": "object",
        "properties": { "name": { "enum": ["red", "green", "blue"] }, "warm": { "type": "boolean" } },
        "required": ["name", "warm"],
        "additionalProperties": false,
    });
    std::fs::write(home.path("schema.json"), schema.to_string()).unwrap();
    let told = home
        .run(&[
            "run",
            MODEL,
            "A colour, please.",
            "--json",
            "--format",
            "schema.json",
            "--max-tokens",
            "64",
            "--temperature",
            "0",
        ])
        .exits(0)
        .json();
    let answer: Value = serde_json::from_str(told["answer"].as_str().unwrap()).unwrap();
    assert!(
        answer["warm"].is_boolean() && answer["name"].is_string(),
        "{answer}"
    );
    let file = told["receipt_file"].as_str().unwrap();
    let report = home.run(&["verify", file, "--json"]).exits(0).json();
    for name in ["grammar", "replay"] {
        assert_eq!(fact(&report, name), "shown", "{report}");
    }
}

fn an_interrupted_answer_is_not_charged(home: &Home) {
    let receipts = || {
        std::fs::read_dir(home.path("data/assay/receipts"))
            .unwrap()
            .count()
    };
    let before = receipts();
    let mut child = home
        .command(&[
            "run",
            MODEL,
            "Tell a very long story.",
            "--max-tokens",
            "1000",
        ])
        .spawn()
        .unwrap();
    let mut first = [0u8; 8];
    child
        .stdout
        .as_mut()
        .unwrap()
        .read_exact(&mut first)
        .unwrap();
    let id = child.id().to_string();
    assert!(
        Command::new("kill")
            .args(["-INT", &id])
            .status()
            .unwrap()
            .success()
    );
    let output = child.wait_with_output().unwrap();
    assert_eq!(
        output.status.code(),
        Some(130),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    assert_eq!(receipts(), before);
    wait("nothing is in work", || {
        home.run(&["ps", "--json"]).exits(0).json()["health"]["waiting"] == 0
    });
}

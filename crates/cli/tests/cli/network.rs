//! Networks of one process and of many.

use std::path::Path;

use assay_wallet::ChainClient;
use serde_json::{Value, json};

use crate::support::{Home, closed_port, fact, repository, text, wait};

fn seven() -> String {
    text(&repository("models/digits/samples/7.png")).to_owned()
}

/// Asks what digit the picture shows; the receipt goes to `receipt`.
fn ask(home: &Home, gateway: &str, receipt: &Path) {
    let args = ["ask", "digits", &seven(), "--gateway", gateway];
    let rest = ["--receipt", text(receipt), "--json"];
    let reply = home.run(&[&args[..], &rest[..]].concat()).exits(0).json();
    let best = &reply["answer"]["classes"][0]["label"];
    assert_eq!(best, "7", "{reply}");
    assert_eq!(reply["receipt_file"], text(receipt));
}

fn verify(home: &Home, receipt: &Path, rpc: &str, code: i32) -> Value {
    let args = ["verify", text(receipt), "--rpc", rpc, "--json"];
    home.run(&args).exits(code).json()
}

/// Waits until the claim of a receipt is on the chain, and checks everything that is known about it.
fn is_asserted(home: &Home, receipt: &Path, rpc: &str) {
    wait("the claim is on the chain", || {
        fact(&verify(home, receipt, rpc, 0), "claim_state") == "shown"
    });
    let report = verify(home, receipt, rpc, 0);
    for name in [
        "signature",
        "registered_key",
        "request",
        "input",
        "output",
        "replay",
    ] {
        assert_eq!(fact(&report, name), "shown", "{report}");
    }
}

const UP: [&str; 7] = [
    "up",
    "--offline",
    "--json",
    "--check-invariants",
    "--gateway",
    "127.0.0.1:0",
    "--rpc=127.0.0.1:0",
];

#[test]
fn a_local_network_answers_survives_a_crash_and_stops_in_order() {
    let home = Home::new();
    let up = home.serve(&UP);
    assert_eq!(up.ready["models"][0]["name"], "digits");
    assert_eq!(up.ready["accounts"].as_array().unwrap().len(), 10);
    let (gateway, rpc) = (up.at("gateway").to_owned(), up.at("rpc").to_owned());
    let receipt = home.path("f");
    ask(&home, &gateway, &receipt);
    is_asserted(&home, &receipt, &rpc);

    // For people: the answer on stdout, the rest on stderr.
    let said = home.run(&["ask", "digits", &seven(), "--gateway", &gateway]);
    let said = said.exits(0);
    assert!(said.stdout.starts_with("7 ("), "{}", said.stdout);
    assert!(said.stderr.contains("assay verify"), "{}", said.stderr);

    // What cannot be asked.
    let unknown = home.run(&["ask", "digit", &seven(), "--gateway", &gateway]);
    let unknown = unknown.exits(4).stderr;
    assert!(unknown.contains("digits"), "{unknown}");
    home.run(&["ask", "digits", "none.png", "--gateway", &gateway])
        .exits(4);
    home.run(&["ask", "digits", "seven", "--gateway", &gateway])
        .exits(1);

    let client = ChainClient::new(&rpc);
    let height = client.block_number().unwrap();
    up.kill();
    let down = home.run(&["ask", "digits", &seven(), "--gateway", &gateway]);
    let down = down.exits(75).stderr;
    assert!(down.contains("assay up"), "{down}");

    let up = home.serve(&UP);
    let (gateway, rpc) = (up.at("gateway").to_owned(), up.at("rpc").to_owned());
    let client = ChainClient::new(&rpc);
    assert!(client.block_number().unwrap() >= height);
    is_asserted(&home, &receipt, &rpc);
    let second = home.path("second");
    ask(&home, &gateway, &second);
    is_asserted(&home, &second, &rpc);
    up.interrupt();

    // And once more after an orderly end.
    let up = home.serve(&UP);
    is_asserted(&home, &second, up.at("rpc"));
    up.interrupt();
}

#[test]
fn a_changed_receipt_is_false() {
    let home = Home::new();
    let up = home.serve(&UP);
    let receipt = home.path("f");
    ask(&home, up.at("gateway"), &receipt);
    let rpc = up.at("rpc").to_owned();
    let whole: Value = serde_json::from_slice(&std::fs::read(&receipt).unwrap()).unwrap();
    let changed = home.path("changed");
    let write = |bundle: &Value| std::fs::write(&changed, bundle.to_string()).unwrap();
    write(&whole);
    verify(&home, &changed, &rpc, 0);

    // One hex digit of each field that is a commitment, a signature or an opening.
    for field in ["output", "input", "salt", "signature", "requestSignature"] {
        let mut bundle = whole.clone();
        let hex = bundle[field].as_str().unwrap().to_owned();
        let last = hex.chars().nth(9).unwrap();
        let other = if last == '0' { '1' } else { '0' };
        bundle[field] = json!(format!("{}{other}{}", &hex[..9], &hex[10..]));
        write(&bundle);
        let args = ["verify", text(&changed), "--rpc", &rpc, "--json"];
        let done = home.run(&args).exits(3);
        assert!(done.error()["message"].is_string(), "{field}");
        if field == "output" {
            assert_eq!(fact(&done.json(), "output"), "false");
            assert_eq!(fact(&done.json(), "signature"), "shown");
        }
    }

    // Not shown is not false.
    let mut bundle = whole.clone();
    for field in ["input", "output", "salt"] {
        bundle.as_object_mut().unwrap().remove(field);
    }
    write(&bundle);
    let report = verify(&home, &changed, &rpc, 0);
    assert_eq!(fact(&report, "replay"), "not_shown");

    // What is no receipt contradicts nothing either.
    std::fs::write(&changed, "{}").unwrap();
    home.run(&["verify", text(&changed)]).exits(1);
    let down = format!("http://127.0.0.1:{}", closed_port());
    let report = home.run(&["verify", text(&receipt), "--rpc", &down, "--json"]);
    let report = report.exits(0).json();
    assert_eq!(fact(&report, "claim_state"), "not_shown");
    up.interrupt();
}

#[test]
fn separate_processes_find_each_other() {
    let home = Home::new();
    let node = home.serve(&[
        "node",
        "--dev",
        "--check-invariants",
        "--rpc",
        "127.0.0.1:0",
        "--json",
    ]);
    let rpc = node.at("rpc").to_owned();
    let serve = |args: &[&str]| home.serve(&[args, &["--rpc", &rpc, "--json"]].concat());
    let run = |args: &[&str], code: i32| {
        home.run(&[args, &["--rpc", &rpc, "--json"]].concat())
            .exits(code)
    };

    // Nothing is registered yet: both say what to do.
    let early = run(
        &[
            "operator",
            "--dev",
            "1",
            "--listen",
            "127.0.0.1:0",
            "--bond",
            "1000",
        ],
        4,
    );
    assert!(
        early.error()["hint"]
            .as_str()
            .unwrap()
            .contains("model register")
    );
    run(&["gateway", "--dev", "4", "--listen", "127.0.0.1:0"], 4);
    let new = run(
        &[
            "model", "register", "digits", "--price", "0.02", "--dev", "0",
        ],
        0,
    );
    assert_eq!(new.json()["registered"], true);
    let again = run(&["model", "register", "digits", "--dev", "0"], 0);
    assert_eq!(again.json()["registered"], false);

    // An operator without stake is refused.
    let poor = run(&["operator", "--dev", "1", "--listen", "127.0.0.1:0"], 1);
    assert!(poor.error()["hint"].as_str().unwrap().contains("--bond"));
    let operator = serve(&[
        "operator",
        "--dev",
        "1",
        "--listen",
        "127.0.0.1:0",
        "--bond",
        "1000",
    ]);
    assert_eq!(operator.ready["models"], 1);
    let watcher = serve(&["watcher", "--dev", "5"]);
    let gateway = serve(&["gateway", "--dev", "4", "--listen", "127.0.0.1:0"]);
    assert_eq!(gateway.ready["models"], json!(["digits"]));
    let url = gateway.at("gateway").to_owned();

    // Without a deposit nothing is answered.
    let unpaid = home.run(&["ask", "digits", &seven(), "--gateway", &url]);
    let unpaid = unpaid.exits(5).stderr;
    assert!(unpaid.contains("wallet deposit"), "{unpaid}");
    run(&["wallet", "deposit", "10", "--dev", "4"], 0);
    let receipt = home.path("f");
    wait("the gateway sees the deposit", || {
        let args = [
            "ask",
            "digits",
            &seven(),
            "--gateway",
            &url,
            "--receipt",
            text(&receipt),
        ];
        home.run(&args).status.success()
    });
    ask(&home, &url, &receipt);
    is_asserted(&home, &receipt, &rpc);
    watcher.says("equal bit for bit");

    // An operator that comes back elsewhere is found again.
    operator.interrupt();
    let operator = serve(&["operator", "--dev", "1", "--listen", "127.0.0.1:0"]);
    let again = home.path("again");
    wait("the gateway finds the operator", || {
        let args = [
            "ask",
            "digits",
            &seven(),
            "--gateway",
            &url,
            "--receipt",
            text(&again),
        ];
        home.run(&args).status.success()
    });
    is_asserted(&home, &again, &rpc);
    for service in [gateway, watcher, operator, node] {
        service.interrupt();
    }
}

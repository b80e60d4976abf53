//! The `assay` binary from outside: exit codes, what goes to stdout, restarts, services that find each other.
#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

#[path = "../../../gateway/tests/support/official.rs"]
mod clients;
mod language;
mod models;
mod network;
mod proofs;
mod spoken_proofs;
mod support;

use support::Home;

#[test]
fn the_demonstration_holds() {
    let home = Home::new();
    let done = home.run(&["demo", "--offline", "--json"]).exits(0);
    let told = done.json();
    assert_eq!(told["held"], true);
    assert_eq!(told["failures"].as_array().unwrap().len(), 0);
    let names: Vec<_> = told["steps"]
        .as_array()
        .unwrap()
        .iter()
        .map(|step| step["name"].as_str().unwrap())
        .collect();
    let all = [
        "network",
        "models",
        "operator",
        "stakes",
        "answers",
        "speech",
        "verification",
        "settlement",
        "proof",
        "cheater",
        "caught",
        "supply",
    ];
    assert_eq!(names, all);
    assert!(told["seconds"].as_f64().unwrap() > 0.0);
    assert!(
        !home.path("data").exists(),
        "it works in a temporary folder"
    );
}

#[test]
fn every_command_explains_itself() {
    let home = Home::new();
    let mut open: Vec<Vec<String>> = vec![Vec::new()];
    let mut seen = 0;
    while let Some(path) = open.pop() {
        let mut args: Vec<&str> = path.iter().map(String::as_str).collect();
        args.push("--help");
        let done = home.run(&args).exits(0);
        assert!(done.stdout.contains("Usage: assay"), "{path:?}");
        assert!(done.stdout.contains("--json"), "{path:?}");
        assert_eq!(done.stderr, "", "{path:?}");
        seen += 1;
        let listed = done.stdout.lines().skip_while(|line| *line != "Commands:");
        for line in listed.skip(1).take_while(|line| !line.is_empty()) {
            // Continuation lines are indented further.
            let Some(entry) = line.strip_prefix("  ").filter(|l| !l.starts_with(' ')) else {
                continue;
            };
            let (name, about) = entry.split_once(' ').unwrap();
            assert!(!about.trim().is_empty(), "{name} is not explained");
            if name != "help" {
                let mut deeper = path.clone();
                deeper.push(name.to_owned());
                open.push(deeper);
            }
        }
    }
    assert!(seen > 25, "{seen}");
    let version = home.run(&["--version"]).exits(0).stdout;
    assert!(version.starts_with("assay "), "{version}");
}

#[test]
fn shells_get_completions() {
    let home = Home::new();
    for (shell, sign) in [
        ("bash", "complete -F _assay"),
        ("zsh", "#compdef assay"),
        ("fish", "complete -c assay"),
    ] {
        let script = home.run(&["completions", shell]).exits(0).stdout;
        assert!(script.contains(sign), "{shell}");
        assert!(script.contains("watcher"), "{shell}");
    }
}

#[test]
fn wrong_usage_is_told_from_failure() {
    let home = Home::new();
    home.run(&["ask"]).exits(2);
    home.run(&["no-such-command"]).exits(2);
    home.run(&["model", "show", "digits", "--port"]).exits(2);
    // Files and accounts that do not exist.
    let done = home.run(&["verify", "none.json", "--json"]).exits(4);
    assert!(done.error()["hint"].is_string());
    let done = home
        .run(&["wallet", "balance", "--account", "nobody", "--json"])
        .exits(4);
    assert!(
        done.error()["hint"]
            .as_str()
            .unwrap()
            .contains("wallet new")
    );
    // No chain there: try again later.
    let rpc = format!("http://127.0.0.1:{}", support::closed_port());
    home.run(&["wallet", "balance", "--dev", "0", "--rpc", &rpc])
        .exits(75);
}

#[test]
fn a_wallet_keeps_its_keys() {
    let home = Home::new();
    std::fs::write(home.path("word"), "correct horse\n").unwrap();
    std::fs::write(home.path("other"), "wrong horse\n").unwrap();
    let made = home
        .run(&[
            "wallet",
            "new",
            "anna",
            "--passphrase-file",
            "word",
            "--json",
        ])
        .exits(0)
        .json();
    let address = made["address"].as_str().unwrap().to_owned();
    home.run(&["wallet", "new", "anna", "--passphrase-file", "word"])
        .exits(1);
    let listed = home.run(&["wallet", "ls", "--json"]).exits(0).stdout;
    assert!(listed.to_lowercase().contains(&address.to_lowercase()));
    let node = home.serve(&["node", "--dev", "--rpc", "127.0.0.1:0", "--json"]);
    let rpc = node.at("rpc").to_owned();
    let send = |word: &str, code: i32| {
        let sink = "0x00000000000000000000000000000000000000aa";
        let args = ["wallet", "send", sink, "1", "--account", "anna"];
        let rest = ["--passphrase-file", word, "--rpc", &rpc];
        home.run(&[&args[..], &rest[..]].concat()).exits(code)
    };
    send("other", 1);
    home.run(&["wallet", "send", &address, "5", "--dev", "0", "--rpc", &rpc])
        .exits(0);
    send("word", 0);
    let args = [
        "wallet",
        "balance",
        "--account",
        "anna",
        "--rpc",
        &rpc,
        "--json",
    ];
    let left = home.run(&args).exits(0).json();
    let left: u128 = left["coin"].as_str().unwrap().parse().unwrap();
    let coin = 10u128.pow(18);
    assert!((3 * coin..4 * coin).contains(&left), "{left}");
    node.interrupt();
}

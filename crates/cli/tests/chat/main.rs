//! `assay chat` and `assay run` against a gateway that says what the test wants: streaming, cancelling, commands, terminals.
#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

mod gateway;
#[path = "../cli/support.rs"]
#[allow(dead_code, reason = "shared with the tests of the other commands")]
mod support;
mod terminal;

use std::io::Write as _;

use gateway::{Gateway, Script};
use serde_json::{Value, json};
use support::Home;

/// Runs a command with `input` on its standard input.
fn piped(home: &Home, args: &[&str], input: &str) -> support::Done {
    let mut command = home.command(args);
    command.stdin(std::process::Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let input = input.to_owned();
    let writer = std::thread::spawn(move || drop(stdin.write_all(input.as_bytes())));
    let output = child.wait_with_output().unwrap();
    writer.join().unwrap();
    support::Done {
        status: output.status,
        stdout: String::from_utf8(output.stdout).unwrap(),
        stderr: String::from_utf8(output.stderr).unwrap(),
    }
}

fn contents(request: &Value) -> Vec<(String, String)> {
    let messages = request["messages"].as_array().unwrap().iter();
    messages
        .map(|m| {
            let text = |name: &str| m[name].as_str().unwrap().to_owned();
            (text("role"), text("content"))
        })
        .collect()
}

fn pairs(want: &[(&str, &str)]) -> Vec<(String, String)> {
    want.iter()
        .map(|(a, b)| ((*a).to_owned(), (*b).to_owned()))
        .collect()
}

#[test]
fn a_pipe_is_a_conversation() {
    let home = Home::new();
    let gateway = Gateway::start(vec![
        Script::words("Good day."),
        Script::words("Grüße, 世界."),
    ]);
    let input =
        "hello\n/set temperature 0.5\n/set seed 7\n\n\"\"\"two\nlines\"\"\"\n/bye\nnot asked\n";
    let args = [
        "chat",
        "toy",
        "--gateway",
        &gateway.url,
        "--system",
        "Be brief.",
    ];
    let done = piped(&home, &args, input).exits(0);
    assert_eq!(done.stdout, "Good day.\nGrüße, 世界.\n");
    assert!(done.stderr.contains("tokens"), "{}", done.stderr);
    assert!(done.stderr.contains("receipt 0x"), "{}", done.stderr);
    let asked = gateway.requests();
    assert_eq!(asked.len(), 2);
    let system = ("system", "Be brief.");
    assert_eq!(contents(&asked[0]), pairs(&[system, ("user", "hello")]));
    let second = [
        system,
        ("user", "hello"),
        ("assistant", "Good day."),
        ("user", "two\nlines"),
    ];
    assert_eq!(contents(&asked[1]), pairs(&second));
    assert_eq!(asked[0]["stream"], true);
    assert_eq!(asked[0]["temperature"], json!(0.7));
    assert_eq!(
        (&asked[1]["temperature"], &asked[1]["seed"]),
        (&json!(0.5), &json!(7))
    );
}

#[test]
fn clearing_forgets_and_retrying_asks_again() {
    let home = Home::new();
    let gateway = Gateway::start(
        (1..=4)
            .map(|n| Script::words(&format!("answer {n}")))
            .collect(),
    );
    let input = "one\n/retry\n/clear\n/retry\ntwo\n/history\n/set\n/show\n/nonsense\n/help\n";
    let args = ["chat", "toy", "--gateway", &gateway.url];
    let done = piped(&home, &args, input).exits(0);
    assert_eq!(done.stdout, "answer 1\nanswer 2\nanswer 3\n");
    let asked: Vec<_> = gateway.requests().iter().map(contents).collect();
    let want = [[("user", "one")], [("user", "one")], [("user", "two")]];
    assert_eq!(asked, want.map(|w| pairs(&w)));
    for words in [
        "nothing to ask again",
        ">>> two\nanswer 3",
        "/set temperature",
        "model id",
        "no command `/nonsense`",
        "/clear",
    ] {
        assert!(done.stderr.contains(words), "{words}: {}", done.stderr);
    }
}

#[test]
fn machines_get_a_document_for_each_answer() {
    let home = Home::new();
    let gateway = Gateway::start(vec![Script::words("one"), Script::words("two")]);
    let args = ["chat", "toy", "--gateway", &gateway.url, "--json", "-q"];
    let done = piped(&home, &args, "a\nb\n").exits(0);
    let told: Vec<Value> = done
        .stdout
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(told[0]["answer"], "one");
    assert_eq!(told[1]["answer"], "two");
    assert_eq!(told[1]["usage"]["completion_tokens"], 3);
    assert_eq!(told[1]["seed"], 4242);
    assert!(told[1]["receipt"].as_str().unwrap().starts_with("0x"));
    assert_eq!(done.stderr, "");
}

#[test]
fn errors_are_told_with_their_exit_codes() {
    for (script, code, words) in [
        (
            Script::refuse(
                400,
                "context_length_exceeded",
                "maximum context length is 9",
            ),
            1,
            "context length is 9",
        ),
        (
            Script::refuse(402, "insufficient_balance", "the balance is 0"),
            5,
            "wallet deposit",
        ),
        (
            Script::refuse(429, "queue_full", "too many"),
            75,
            "too many",
        ),
        (Script::breaks("half an ans"), 75, "broke off"),
        (
            Script::error_after("half", "the operator is gone"),
            1,
            "the operator is gone",
        ),
    ] {
        let home = Home::new();
        let gateway = Gateway::start(vec![script]);
        let args = ["run", "toy", "hello", "--gateway", &gateway.url];
        let done = piped(&home, &args, "").exits(code);
        assert!(done.stderr.contains(words), "{words}: {}", done.stderr);
    }
    let home = Home::new();
    let gateway = Gateway::start(Vec::new());
    let args = ["run", "other", "hello", "--gateway", &gateway.url];
    let done = piped(&home, &args, "").exits(4);
    assert!(done.stderr.contains("no model"), "{}", done.stderr);
    let nobody = format!("http://127.0.0.1:{}", support::closed_port());
    piped(&home, &["run", "toy", "hello", "--gateway", &nobody], "").exits(75);
    piped(&home, &["run", "toy", "--gateway", &gateway.url], "").exits(1);
    piped(
        &home,
        &["run", "toy", "x", "--gateway", &nobody, "--ephemeral"],
        "",
    )
    .exits(2);
}

#[test]
fn scripts_get_the_answer_and_nothing_else() {
    let home = Home::new();
    let gateway = Gateway::start((0..4).map(|_| Script::words("Forty two.")).collect());
    let at = ["--gateway", gateway.url.as_str()];
    let done = piped(
        &home,
        &[&["run", "toy", "What?", "-q"], &at[..]].concat(),
        "",
    )
    .exits(0);
    assert_eq!(
        (done.stdout.as_str(), done.stderr.as_str()),
        ("Forty two.\n", "")
    );
    let done = piped(
        &home,
        &[&["run", "toy"], &at[..]].concat(),
        "from a\npipe\n",
    )
    .exits(0);
    assert_eq!(done.stdout, "Forty two.\n");
    let rest = [
        "--json",
        "--seed",
        "-7",
        "--max-tokens",
        "9",
        "--stop",
        "END",
    ];
    let args = [&["run", "toy", "-"], &at[..], &rest[..]].concat();
    let told = piped(&home, &args, "dash").exits(0).json();
    assert_eq!(told["answer"], "Forty two.");
    assert_eq!(told["finish_reason"], "stop");
    assert!(told["fee"].as_str().unwrap().parse::<f64>().unwrap() > 0.0);
    std::fs::write(home.path("schema.json"), r#"{"type": "object"}"#).unwrap();
    let args = [&["run", "toy", "x", "--format", "schema.json"], &at[..]].concat();
    piped(&home, &args, "").exits(0);
    let asked = gateway.requests();
    assert_eq!(contents(&asked[1]), pairs(&[("user", "from a\npipe")]));
    assert_eq!(asked[2]["seed"], -7);
    assert_eq!(asked[2]["max_tokens"], 9);
    assert_eq!(asked[2]["stop"], json!(["END"]));
    assert_eq!(
        asked[3]["response_format"]["json_schema"]["schema"],
        json!({"type": "object"})
    );
    piped(&home, &["run", "toy", "x", "--format", "none.json"], "").exits(4);
}

#[test]
fn an_interrupted_script_cancels_its_answer() {
    let home = Home::new();
    let gateway = Gateway::start(vec![Script::endless("word ")]);
    let child = home
        .command(&["run", "toy", "go on", "--gateway", &gateway.url])
        .spawn()
        .unwrap();
    gateway.has_said(10);
    let id = child.id().to_string();
    assert!(
        std::process::Command::new("kill")
            .args(["-INT", &id])
            .status()
            .unwrap()
            .success()
    );
    let output = child.wait_with_output_in_time();
    assert_eq!(output.status.code(), Some(130));
    assert!(String::from_utf8_lossy(&output.stdout).starts_with("word word"));
    assert!(String::from_utf8_lossy(&output.stderr).contains("nothing was charged"));
    gateway.was_left();
}

#[test]
fn a_reader_that_goes_away_cancels_the_answer() {
    let home = Home::new();
    let gateway = Gateway::start(vec![Script::endless("word ")]);
    let mut child = home
        .command(&["run", "toy", "go on", "--gateway", &gateway.url])
        .spawn()
        .unwrap();
    gateway.has_said(3);
    drop(child.stdout.take());
    let output = child.wait_with_output_in_time();
    assert_eq!(output.status.code(), Some(130));
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
    gateway.was_left();
}

/// Ends of children that may not come.
trait InTime {
    fn wait_with_output_in_time(self) -> std::process::Output;
}

impl InTime for std::process::Child {
    fn wait_with_output_in_time(mut self) -> std::process::Output {
        let start = std::time::Instant::now();
        while self.try_wait().unwrap().is_none() {
            if start.elapsed() > support::PATIENCE {
                self.kill().unwrap();
                panic!("it does not end");
            }
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
        self.wait_with_output().unwrap()
    }
}

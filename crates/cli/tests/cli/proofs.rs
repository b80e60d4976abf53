//! `assay prove`, and `assay verify` of its files.

use serde_json::Value;

use crate::support::{Home, closed_port, fact, repository, text};

fn sample(name: &str) -> String {
    text(&repository(&format!("models/digits/samples/{name}.png"))).to_owned()
}

fn status(home: &Home, args: &[&str], code: i32) -> Value {
    let args = [&["verify", "--json"][..], args].concat();
    home.run(&args).exits(code).json()
}

#[test]
fn an_answer_is_proven_and_checked_alone() {
    let home = Home::new();
    let seven = sample("7");
    let made = home.run(&["prove", "digits", "--input", &seven, "--out", "f", "--json"]);
    let made = made.exits(0).json();
    assert!(
        made["answers"][0]["output_words"]
            .as_str()
            .unwrap()
            .starts_with("7 ("),
        "{made}"
    );
    assert!(made["bits"].as_f64().unwrap() >= 100.0, "{made}");
    assert!(
        made["peak_memory_bytes"].as_u64().unwrap() > 1 << 20,
        "{made}"
    );
    let report = status(&home, &["f", "--input", &seven], 0);
    for name in ["proof", "statement", "input", "key"] {
        assert_eq!(fact(&report, name), "shown", "{report}");
    }
    for name in ["context", "registered"] {
        assert_eq!(fact(&report, name), "not_shown", "{report}");
    }
    assert_eq!(report["runs"], made["answers"]);
    // Another picture is not what was proven.
    let report = status(&home, &["f", "--input", &sample("3")], 3);
    assert_eq!(fact(&report, "input"), "false");
    // The key was kept, and is made again where it was not.
    assert!(
        home.path("cache")
            .join("assay/keys")
            .read_dir()
            .unwrap()
            .count()
            == 1
    );
    let other = Home::new();
    std::fs::copy(home.path("f"), other.path("f")).unwrap();
    assert_eq!(fact(&status(&other, &["f"], 0), "key"), "shown");
    let report = status(&other, &["f", "--no-replay"], 0);
    assert_eq!(fact(&report, "key"), "not_shown");
    // A chain that does not answer shows nothing.
    let down = format!("http://127.0.0.1:{}", closed_port());
    let report = status(&home, &["f", "--rpc", &down], 0);
    assert_eq!(fact(&report, "registered"), "not_shown");
    // For people.
    let said = home.run(&["verify", "f"]).exits(0).stdout;
    for words in ["it holds", "bits", "7 (", "rests on: The answer is right"] {
        assert!(said.contains(words), "{words}: {said}");
    }
    // The proof is bound to what it was told.
    let context = [
        "prove",
        "digits",
        "--input",
        &seven,
        "--out",
        "g",
        "--context",
    ];
    home.run(&[&context[..], &["0x0102"]].concat()).exits(0);
    let report = status(&home, &["g"], 0);
    assert_eq!(
        (fact(&report, "context"), &report["context"]),
        ("shown", &"0x0102".into())
    );
    home.run(&[&context[..], &["xyz"]].concat()).exits(1);
}

#[test]
fn an_input_is_hidden() {
    let home = Home::new();
    let seven = sample("7");
    let args = ["prove", "digits", "--hide", "--input", &seven];
    let made = home.run(&[&args[..], &["--out", "f", "--json"]].concat());
    let made = made.exits(0).json();
    let answer = &made["answers"][0];
    assert!(
        answer["output_words"].as_str().unwrap().starts_with("7 ("),
        "{made}"
    );
    assert_eq!(answer["input"], Value::Null);
    let report = status(&home, &["f", "--input", &seven], 0);
    assert_eq!(report["mode"], "hiding");
    for name in ["proof", "statement", "key"] {
        assert_eq!(fact(&report, name), "shown", "{report}");
    }
    assert_eq!(fact(&report, "input"), "not_shown");
    assert_eq!(report["runs"], made["answers"]);
    // a proof for those who hold the weights hides nothing
    home.run(&[&args[..], &["--direct"]].concat()).exits(2);
}

#[test]
fn a_changed_byte_is_found_wherever_it_is() {
    let home = Home::new();
    let made = home.run(&["prove", "digits", "--input", &sample("7"), "--out", "f"]);
    made.exits(0);
    let whole = std::fs::read(home.path("f")).unwrap();
    let n = whole.len();
    for at in [
        0,
        8,
        11,
        20,
        60,
        n / 8,
        n / 4,
        n / 2,
        3 * n / 4,
        n - 200,
        n - 1,
    ] {
        let mut bytes = whole.clone();
        bytes[at] ^= 1;
        std::fs::write(home.path("g"), bytes).unwrap();
        let done = home.run(&["verify", "g", "--json"]);
        let code = done.status.code();
        assert!(
            matches!(code, Some(1 | 3)),
            "byte {at}: {code:?} {}",
            done.stdout
        );
        assert!(done.error()["message"].is_string(), "byte {at}");
    }
    std::fs::write(home.path("g"), &whole[..n - 1]).unwrap();
    home.run(&["verify", "g"]).exits(1);
    let longer = [&whole[..], &[0]].concat();
    std::fs::write(home.path("g"), longer).unwrap();
    home.run(&["verify", "g"]).exits(1);
}

#[test]
fn a_direct_proof_needs_the_model() {
    let home = Home::new();
    let args = [
        "prove", "digits", "--direct", "--out", "f", "--json", "--input",
    ];
    let inputs = [&sample("7")[..], &sample("3")[..]];
    let made = home.run(&[&args[..], &inputs[..]].concat()).exits(0).json();
    assert_eq!(made["answers"].as_array().unwrap().len(), 2, "{made}");
    assert_eq!(made["key_bytes"], 0);
    let report = status(&home, &["f"], 0);
    assert_eq!(fact(&report, "proof"), "shown");
    assert_eq!(report["mode"], "direct");
    // Another model, of the same shape or not, is not the one of the proof.
    let fixture = repository("crates/import/tests/data/fixtures/keras_mlp.onnx");
    let import = ["model", "import", text(&fixture), "--name", "mlp"];
    home.run(&import).exits(0);
    let folder = home.path("data").join("assay/models/mlp");
    let done = home.run(&["verify", "f", "--model", text(&folder), "--json"]);
    let done = done.exits(3);
    assert_eq!(fact(&done.json(), "proof"), "false");
    // With a key, the proof itself still holds; the key is not this model's.
    home.run(&["prove", "digits", "--out", "g", "--input", &sample("7")])
        .exits(0);
    let report = status(&home, &["g", "--model", text(&folder)], 3);
    assert_eq!(
        (fact(&report, "proof"), fact(&report, "key")),
        ("shown", "false")
    );
    home.run(&["prove", "none", "--input", "x"]).exits(4);
    home.run(&["prove", "digits", "--input", "none.png"])
        .exits(4);
    home.run(&["prove", "digits", "--input", "[1, 2]"]).exits(1);
}

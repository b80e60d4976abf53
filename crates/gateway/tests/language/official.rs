//! The official clients over scripted operators. Skipped, visibly, where they cannot be installed.

#[path = "../support/official.rs"]
mod clients;

use std::path::PathBuf;
use std::process::Command;

use super::{Behaviour, MODEL, RICH, Step, World};

/// Answers that fit what the scripts ask for.
fn play(world: &World) {
    let language = world.language.clone();
    let text = world.turn("Hello, wörld! One two three.");
    let json = world.turn(r#"{"city": "Rome", "people": 3}"#);
    let call = world.turn(
        "<tool_call>\n{\"name\": \"weather\", \"arguments\": {\"city\": \"Paris\"}}\n</tool_call>",
    );
    world.play(move |asked| {
        let prompt = language.tokenizer().decode(&asked.prompt());
        let calls = prompt.contains("call the tool");
        if asked.grammar.is_some() {
            let ids = if calls { &call } else { &json };
            return World::constrained(&language, asked, ids.clone());
        }
        Behaviour {
            steps: vec![Step::Say(if calls { call.clone() } else { text.clone() })],
            ..Behaviour::default()
        }
    });
}

async fn run(mut command: Command, world: &World) {
    command
        .env("BASE_URL", &world.base)
        .env("MODEL", MODEL)
        .env("API_KEY", RICH)
        .env("SCRIPTED", "1");
    let output = tokio::task::block_in_place(|| command.output()).unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{text}\n{errors}");
    println!("{text}");
}

async fn world() -> World {
    let world = World::start().await;
    play(&world);
    world
}

#[tokio::test(flavor = "multi_thread")]
async fn python_client() {
    match tokio::task::block_in_place(clients::python) {
        Err(reason) => clients::skipped("python_client", &reason),
        Ok(python) => {
            let mut command = Command::new(python);
            command.arg(clients::scripts().join("language.py"));
            run(command, &world().await).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn node_client() {
    match tokio::task::block_in_place(clients::node) {
        Err(reason) => clients::skipped("node_client", &reason),
        Ok(folder) => {
            // Node looks for packages beside the script.
            let script: PathBuf = folder.join("language.mjs");
            std::fs::copy(clients::scripts().join("language.mjs"), script).unwrap();
            let mut command = Command::new("node");
            command.arg("language.mjs").current_dir(&folder);
            run(command, &world().await).await;
        }
    }
}

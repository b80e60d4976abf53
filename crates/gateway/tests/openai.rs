//! The official OpenAI clients, unmodified, as black boxes. Skipped, visibly, where they cannot be installed.

mod support;

#[path = "support/official.rs"]
mod official;

use std::process::Command;

use assay_gateway::Running;
use official::{node, python, scripts, skipped};
use support::{MODEL, Network, POOR, RICH, block, config, perceptron, start};

fn run(command: &mut Command, gateway: &Running) {
    let output = command
        .env("BASE_URL", gateway.base_url())
        .env("MODEL", MODEL)
        .env("API_KEY", RICH)
        .env("POOR_KEY", POOR)
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success(),
        "{text}\n{}",
        String::from_utf8_lossy(&output.stderr)
    );
    println!("{text}");
}

async fn gateway() -> (Network, Running) {
    let network = Network::start(perceptron(1, 96, 64, true), None).await;
    let gateway = start(config(&network)).await;
    (network, gateway)
}

#[tokio::test(flavor = "multi_thread")]
async fn python_client() {
    match block(python) {
        Err(reason) => skipped("python_client", &reason),
        Ok(python) => {
            let (_network, gateway) = gateway().await;
            block(|| {
                run(
                    Command::new(python).arg(scripts().join("embeddings.py")),
                    &gateway,
                )
            });
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn node_client() {
    match block(node) {
        Err(reason) => skipped("node_client", &reason),
        Ok(folder) => {
            let (_network, gateway) = gateway().await;
            block(|| {
                // Node looks for packages beside the script.
                std::fs::copy(
                    scripts().join("embeddings.mjs"),
                    folder.join("embeddings.mjs"),
                )
                .unwrap();
                run(
                    Command::new("node")
                        .arg("embeddings.mjs")
                        .current_dir(&folder),
                    &gateway,
                );
            });
        }
    }
}

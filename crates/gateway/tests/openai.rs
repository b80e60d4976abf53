//! The official OpenAI clients, unmodified, as black boxes. Skipped, visibly, where they cannot be installed.

mod support;

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

use assay_gateway::Running;
use support::{MODEL, Network, POOR, RICH, block, config, perceptron, start};

const PYTHON: &str = "openai==3.52.0";
const NODE: &str = "openai@7.55.0";

fn scripts() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/clients/openai")
}

fn done(command: &mut Command) -> Result<(), String> {
    let output = command.output().map_err(|error| error.to_string())?;
    if output.status.success() {
        return Ok(());
    }
    Err(String::from_utf8_lossy(&output.stderr)
        .lines()
        .rev()
        .take(3)
        .collect::<Vec<_>>()
        .join(" | "))
}

/// Interpreter of a virtual environment with the client.
fn python() -> Result<PathBuf, String> {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("openai-python-3.52.0");
    let python = folder.join("bin/python");
    let import = |python: &Path| done(Command::new(python).args(["-c", "import openai"]));
    if import(&python).is_err() {
        done(Command::new("python3").args(["-m", "venv"]).arg(&folder))?;
        done(Command::new(&python).args(["-m", "pip", "install", "--quiet", PYTHON])).or_else(
            |_| done(Command::new(&python).args(["-m", "pip", "install", "--quiet", "openai"])),
        )?;
    }
    import(&python)?;
    Ok(python)
}

/// Folder with the client in `node_modules`.
fn node() -> Result<PathBuf, String> {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("openai-node-7.55.0");
    if !folder.join("node_modules/openai/package.json").exists() {
        std::fs::create_dir_all(&folder).map_err(|error| error.to_string())?;
        std::fs::write(folder.join("package.json"), r#"{"private":true}"#)
            .map_err(|error| error.to_string())?;
        let install = |package| {
            let arguments = [
                "install",
                "--no-audit",
                "--no-fund",
                "--ignore-scripts",
                package,
            ];
            done(Command::new("npm").args(arguments).current_dir(&folder))
        };
        install(NODE).or_else(|_| install("openai"))?;
    }
    Ok(folder)
}

/// Tells it past the capture of the test harness, so that a skip is seen.
fn skipped(test: &str, reason: &str) {
    let _ = writeln!(std::io::stderr(), "SKIPPED {test}: {reason}");
}

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

//! The official ethers and viem packages against a node: transfer, deployment, events, custom errors, modules,
//! EIP-7702, proofs verified in JavaScript, filters, WebSocket subscriptions.
//!
//! Needs node and npm; without them, or without a package registry, the test says so and passes.

mod support;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use assay_node::{Genesis, Node};
use support::{Account, config};

const FLOWS: [&str; 2] = ["ethers.mjs", "viem.mjs"];
const PATIENCE: Duration = Duration::from_secs(120);

fn main() {
    if std::env::args().any(|it| it == "--list") {
        println!("clients: test");
        return;
    }
    let directory = match install() {
        Ok(directory) => directory,
        Err(reason) => {
            println!("clients: SKIPPED, {reason}");
            return;
        }
    };
    let runtime = tokio::runtime::Runtime::new().expect("runtime");
    runtime.block_on(async {
        for (seed, flow) in (10u64..).zip(FLOWS) {
            let account = Account::new(seed);
            run(&directory, flow, &account).await;
            println!("clients: {flow} passed");
        }
    });
}

/// Copies the flows into the target directory and installs the pinned packages there, once.
fn install() -> Result<PathBuf, String> {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/clients");
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).join("clients");
    std::fs::create_dir_all(&target).map_err(|error| error.to_string())?;
    let manifest = source.join("package.json");
    let installed = target.join("package.json");
    let same = std::fs::read(&manifest).ok() == std::fs::read(&installed).ok();
    for file in ["package.json", "contract.mjs", "ethers.mjs", "viem.mjs"] {
        std::fs::copy(source.join(file), target.join(file)).map_err(|error| error.to_string())?;
    }
    if same && target.join("node_modules/viem").is_dir() {
        return Ok(target);
    }
    let output = Command::new("npm")
        .args([
            "install",
            "--no-audit",
            "--no-fund",
            "--ignore-scripts",
            "--loglevel=error",
        ])
        .current_dir(&target)
        .output()
        .map_err(|error| format!("npm does not run: {error}"))?;
    if !output.status.success() {
        let _ = std::fs::remove_file(&installed);
        let text = String::from_utf8_lossy(&output.stderr);
        return Err(format!(
            "npm cannot install: {}",
            text.lines().next().unwrap_or_default()
        ));
    }
    Ok(target)
}

async fn run(directory: &Path, flow: &str, account: &Account) {
    let mut config = config(&[]);
    let address = account.address;
    config.genesis = Box::new(move |sequencer| {
        let mut params = support::params();
        params.usd = vec![(address, 1_000_000_000)];
        Genesis::local(sequencer, &[address], params)
    });
    let node = Node::open(config).await.expect("node");
    let mut command = Command::new("node");
    command
        .arg(flow)
        .args([node.rpc_url(), account.key_hex()])
        .current_dir(directory);
    let output = tokio::task::spawn_blocking(move || command.output());
    let output = tokio::time::timeout(PATIENCE, output)
        .await
        .unwrap_or_else(|_| panic!("{flow} did not end in {PATIENCE:?}"))
        .expect("thread")
        .expect("node runs");
    let text = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{flow}: {text}{errors}");
    node.shutdown().await.expect("shutdown");
}

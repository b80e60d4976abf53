//! The official OpenAI clients, installed once, unmodified.
#![allow(dead_code, reason = "each test binary uses a part")]

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

const PYTHON: &str = "openai==3.52.0";
const NODE: &str = "openai@7.55.0";

pub fn scripts() -> PathBuf {
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
pub fn python() -> Result<PathBuf, String> {
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
pub fn node() -> Result<PathBuf, String> {
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
pub fn skipped(test: &str, reason: &str) {
    let _ = writeln!(std::io::stderr(), "SKIPPED {test}: {reason}");
}

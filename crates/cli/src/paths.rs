//! Where files live: XDG, each overridable.

use std::path::PathBuf;

use crate::exit::{Exit, stop};

fn base(own: &str, xdg: &str, fallback: &str) -> anyhow::Result<PathBuf> {
    let set = |name: &str| {
        std::env::var_os(name)
            .filter(|v| !v.is_empty())
            .map(PathBuf::from)
    };
    if let Some(dir) = set(own) {
        return Ok(dir);
    }
    if let Some(dir) = set(xdg) {
        return Ok(dir.join("assay"));
    }
    match set("HOME") {
        Some(home) => Ok(home.join(fallback).join("assay")),
        None => stop(
            Exit::Failed,
            format!("neither {own}, {xdg} nor HOME is set"),
        ),
    }
}

/// `$ASSAY_DATA_DIR`, `$XDG_DATA_HOME/assay` or `~/.local/share/assay`: keys, networks, receipts, imported models.
pub(crate) fn data() -> anyhow::Result<PathBuf> {
    base("ASSAY_DATA_DIR", "XDG_DATA_HOME", ".local/share")
}

/// Folder of the local model store.
pub(crate) fn models() -> anyhow::Result<PathBuf> {
    Ok(data()?.join("models"))
}

/// Folder of the encrypted keys.
pub(crate) fn keystore() -> anyhow::Result<PathBuf> {
    Ok(data()?.join("keystore"))
}

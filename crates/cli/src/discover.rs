//! Which gateway to talk to: the one that was named, else the one that runs on this machine.

use std::{path::PathBuf, time::Duration};

use serde_json::{Value, json};

use crate::paths;

/// Where `assay up` listens unless told otherwise.
pub(crate) const DEFAULT_GATEWAY: &str = "http://127.0.0.1:8080";

/// A gateway and, where known, the chain behind it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    /// Without `/v1`.
    pub(crate) gateway: String,
    pub(crate) rpc: Option<String>,
}

/// The file that says where a local network listens.
fn file() -> anyhow::Result<PathBuf> {
    Ok(paths::data()?.join("running.json"))
}

/// A local network's entry, removed when this is dropped.
#[derive(Debug)]
pub(crate) struct Announced(PathBuf);

/// Says where a local network listens, for other commands of this user.
///
/// # Errors
/// When the data folder can't be written.
pub(crate) fn announce(gateway: &str, rpc: &str) -> anyhow::Result<Announced> {
    let path = file()?;
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder)?;
    }
    let entry = json!({ "gateway": bare(gateway), "rpc": rpc, "pid": std::process::id() });
    let aside = path.with_extension(format!("{}.part", std::process::id()));
    std::fs::write(&aside, entry.to_string())?;
    std::fs::rename(&aside, &path)?;
    Ok(Announced(path))
}

impl Drop for Announced {
    fn drop(&mut self) {
        // another network may have taken the place meanwhile
        let own = read(&self.0)
            .and_then(|e| e.get("pid").and_then(Value::as_u64))
            .is_some_and(|pid| pid == u64::from(std::process::id()));
        if own {
            let _ = std::fs::remove_file(&self.0);
        }
    }
}

fn read(path: &std::path::Path) -> Option<Value> {
    serde_json::from_slice(&std::fs::read(path).ok()?).ok()
}

fn bare(url: &str) -> String {
    url.trim_end_matches('/').trim_end_matches("/v1").to_owned()
}

/// The gateway that runs on this machine, if one answers.
pub(crate) fn running() -> Option<Place> {
    let entry = file().ok().and_then(|path| read(&path));
    let text = |name: &str| entry.as_ref()?.get(name)?.as_str().map(str::to_owned);
    if let Some(gateway) = text("gateway")
        && answers(&gateway)
    {
        let rpc = text("rpc");
        return Some(Place { gateway, rpc });
    }
    answers(DEFAULT_GATEWAY).then(|| Place {
        gateway: DEFAULT_GATEWAY.into(),
        rpc: None,
    })
}

/// The named gateway, or the one that runs here, or the default address (which then refuses in words).
pub(crate) fn gateway(named: Option<&str>) -> Place {
    match named {
        Some(url) => Place {
            gateway: bare(url),
            rpc: None,
        },
        None => running().unwrap_or_else(|| Place {
            gateway: DEFAULT_GATEWAY.into(),
            rpc: None,
        }),
    }
}

/// Whether a gateway of this network listens there; whatever else uses the port says something else.
fn answers(gateway: &str) -> bool {
    let agent: ureq::Agent = ureq::Agent::config_builder()
        .timeout_global(Some(Duration::from_secs(2)))
        .build()
        .into();
    let health = agent
        .get(format!("{gateway}/health"))
        .call()
        .ok()
        .and_then(|mut r| r.body_mut().read_json::<Value>().ok());
    health.is_some_and(|h| h.get("chain_id").is_some() && h.get("operators").is_some())
}

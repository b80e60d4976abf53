//! What a watcher is told at its start.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use assay_engine::EngineOptions;
use assay_wallet::Key;

use crate::models::ModelSource;

/// Settings of a watcher. `Debug` shows addresses of keys, never secrets.
#[derive(Clone, Debug)]
pub struct WatcherConfig {
    /// Folder for the state file.
    pub data_dir: PathBuf,
    /// JSON-RPC of the chain.
    pub chain_url: String,
    /// Pays bonds, receives bounties.
    pub key: Key,
    /// Where graphs of registered models come from.
    pub models: Arc<dyn ModelSource>,
    /// Share of claims that are audited, parts per million. Which ones depends on the claim id and the key.
    pub audit_ppm: u32,
    /// Whether to challenge; without, mismatches are only reported.
    pub challenge: bool,
    /// Whether to prove a whole block in one transaction where that is possible.
    pub one_shot: bool,
    /// Time between two looks at the chain.
    pub poll: Duration,
    /// Longest time for one answer of an operator.
    pub fetch_timeout: Duration,
    /// How engines run.
    pub engine: EngineOptions,
}

impl WatcherConfig {
    /// Defaults: every claim is audited, mismatches are challenged, one look each quarter of a second.
    pub fn new(
        data_dir: impl Into<PathBuf>,
        chain_url: impl Into<String>,
        key: Key,
        models: Arc<dyn ModelSource>,
    ) -> Self {
        Self {
            data_dir: data_dir.into(),
            chain_url: chain_url.into(),
            key,
            models,
            audit_ppm: 1_000_000,
            challenge: true,
            one_shot: true,
            poll: Duration::from_millis(250),
            fetch_timeout: Duration::from_secs(10),
            engine: EngineOptions::default(),
        }
    }
}

//! What a watcher keeps over a restart.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use alloy_primitives::{B256, U256};
use assay_wallet::LogCursor;
use serde::{Deserialize, Serialize};

use crate::WatcherError;
use crate::audit::JobData;
use assay_operator::Masks;
use assay_receipt::{Receipt, Salt};

/// A dispute that this watcher opened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct OpenDispute {
    pub(crate) claim_id: B256,
    pub(crate) opened_at: u64,
    pub(crate) receipt: Receipt,
    pub(crate) input: alloy_primitives::Bytes,
    pub(crate) salt: Salt,
    pub(crate) output: alloy_primitives::Bytes,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) sampling: Option<alloy_primitives::Bytes>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) grammar: Option<alloy_primitives::Bytes>,
    #[serde(default, skip_serializing_if = "Masks::is_empty")]
    pub(crate) masks: Masks,
}

impl OpenDispute {
    pub(crate) fn job(&self) -> JobData {
        JobData {
            input: self.input.to_vec(),
            salt: self.salt.0,
            output: self.output.to_vec(),
            sampling: self.sampling.as_ref().map(|bytes| bytes.to_vec()),
            grammar: self.grammar.as_ref().map(|bytes| bytes.to_vec()),
            masks: self.masks.clone(),
        }
    }
}

/// Contents of `watcher.json`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct State {
    /// First block whose receipts have not been read.
    pub(crate) cursor: LogCursor,
    /// Claims that still have to be audited.
    pub(crate) pending: BTreeMap<B256, Receipt>,
    /// Blocks at which the pending claims' receipts were posted.
    #[serde(default)]
    pub(crate) posted: BTreeMap<B256, u64>,
    /// Claims that end by a proof or by its absence.
    #[serde(default)]
    pub(crate) owed: BTreeSet<B256>,
    /// Disputes of this watcher, by id.
    pub(crate) disputes: BTreeMap<U256, OpenDispute>,
}

fn path_in(folder: &Path) -> PathBuf {
    folder.join("watcher.json")
}

impl State {
    /// Forgets a claim that needs no audit any more.
    pub(crate) fn done(&mut self, claim_id: B256) {
        self.pending.remove(&claim_id);
        self.posted.remove(&claim_id);
    }

    /// Reads the state file; a missing one is an empty state.
    pub(crate) fn load(folder: &Path) -> Result<Self, WatcherError> {
        let path = path_in(folder);
        match fs::read(&path) {
            Ok(bytes) => serde_json::from_slice(&bytes).map_err(|error| WatcherError::State {
                path,
                reason: error.to_string(),
            }),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Self::default()),
            Err(source) => Err(WatcherError::Disk { path, source }),
        }
    }

    /// Writes the state file in one step.
    pub(crate) fn store(&self, folder: &Path) -> Result<(), WatcherError> {
        let path = path_in(folder);
        let temporary = path.with_extension("new");
        let disk = |source| WatcherError::Disk {
            path: path.clone(),
            source,
        };
        let bytes = serde_json::to_vec(self).map_err(|error| WatcherError::State {
            path: path.clone(),
            reason: error.to_string(),
        })?;
        fs::create_dir_all(folder).map_err(disk)?;
        let mut file = fs::File::create(&temporary).map_err(disk)?;
        file.write_all(&bytes).map_err(disk)?;
        file.sync_data().map_err(disk)?;
        fs::rename(&temporary, &path).map_err(disk)
    }
}

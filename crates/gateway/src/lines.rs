//! The next place in each exposure line, kept over restarts.
//!
//! Losing this file loses nothing of value: an operator refuses a place that is taken and says which one it expects.

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use alloy_primitives::B256;
use parking_lot::Mutex;

use crate::GatewayError;

/// Next places, by line. A line is locked while a request of it is under way, so that places stay in order.
#[derive(Debug)]
pub(crate) struct Lines {
    path: PathBuf,
    known: Mutex<BTreeMap<B256, u64>>,
    locks: Mutex<HashMap<B256, Arc<Mutex<()>>>>,
}

impl Lines {
    pub(crate) fn open(folder: &Path) -> Result<Self, GatewayError> {
        let path = folder.join("lines.json");
        let known = match fs::read(&path) {
            Ok(bytes) => serde_json::from_slice(&bytes).map_err(|error| GatewayError::File {
                path: path.clone(),
                reason: error.to_string(),
            })?,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => BTreeMap::new(),
            Err(source) => return Err(GatewayError::Disk { path, source }),
        };
        Ok(Self {
            path,
            known: Mutex::new(known),
            locks: Mutex::new(HashMap::new()),
        })
    }

    /// The lock of a line.
    pub(crate) fn lock(&self, line_id: B256) -> Arc<Mutex<()>> {
        Arc::clone(self.locks.lock().entry(line_id).or_default())
    }

    /// Next place of a line, if it is known.
    pub(crate) fn next(&self, line_id: B256) -> Option<u64> {
        self.known.lock().get(&line_id).copied()
    }

    /// Notes the next place and writes the file. A failed write is logged: the operator's answer repairs it.
    pub(crate) fn set_next(&self, line_id: B256, seq: u64) {
        let mut known = self.known.lock();
        known.insert(line_id, seq);
        if let Err(error) = self.store(&known) {
            tracing::warn!(target: "assay::gateway", %error, path = %self.path.display(), "lines not stored");
        }
    }

    fn store(&self, known: &BTreeMap<B256, u64>) -> std::io::Result<()> {
        let temporary = self.path.with_extension("new");
        fs::write(&temporary, serde_json::to_vec(known)?)?;
        fs::rename(&temporary, &self.path)
    }
}

//! The data directory: lock, sequencer key, state file.

use std::fs::{File, OpenOptions};
use std::io::{Read as _, Seek as _, Write as _};
use std::path::{Path, PathBuf};

use alloy_primitives::hex;
use assay_types::SealingKey;
use fs2::FileExt as _;

use crate::NodeError;

/// Name of the database inside the directory.
pub const STATE_FILE: &str = "state.redb";
/// Name of the lock file; holds the process id of the holder.
const LOCK_FILE: &str = "lock";
/// Name of the sequencer key; 64 hex digits, readable by the owner only.
const KEY_FILE: &str = "sequencer.key";

/// A locked data directory; the lock ends with this value or with the process.
#[derive(Debug)]
pub struct DataDirectory {
    path: PathBuf,
    // Held for its lock.
    _lock: File,
}

impl DataDirectory {
    /// Creates the directory if needed and locks it.
    ///
    /// # Errors
    /// [`NodeError::InUse`] with the holder's process id, [`NodeError::File`].
    pub fn open(path: &Path) -> Result<Self, NodeError> {
        std::fs::create_dir_all(path).map_err(|source| file_error(path, source))?;
        let lock_path = path.join(LOCK_FILE);
        let mut lock = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&lock_path)
            .map_err(|source| file_error(&lock_path, source))?;
        if lock.try_lock_exclusive().is_err() {
            let mut holder = String::new();
            let _ = lock.read_to_string(&mut holder);
            let holder = match holder.trim() {
                "" => "unknown".to_owned(),
                pid => pid.to_owned(),
            };
            return Err(NodeError::InUse {
                path: path.to_owned(),
                holder,
            });
        }
        lock.set_len(0)
            .and_then(|()| lock.rewind())
            .and_then(|()| write!(lock, "{}", std::process::id()))
            .map_err(|source| file_error(&lock_path, source))?;
        Ok(Self {
            path: path.to_owned(),
            _lock: lock,
        })
    }

    /// Path of the database.
    pub fn state_file(&self) -> PathBuf {
        self.path.join(STATE_FILE)
    }

    /// Reads the sequencer key, creating it on first use.
    ///
    /// # Errors
    /// [`NodeError::Key`] for a damaged file, [`NodeError::File`].
    pub fn sealing_key(&self) -> Result<SealingKey, NodeError> {
        let path = self.path.join(KEY_FILE);
        match std::fs::read_to_string(&path) {
            Ok(text) => {
                let bytes: [u8; 32] =
                    hex::decode_to_array(text.trim()).map_err(|error| NodeError::Key {
                        path,
                        detail: error.to_string(),
                    })?;
                Ok(SealingKey::from_bytes(bytes)?)
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                let (key, bytes) = fresh_key()?;
                self.write_key(&path, &bytes)
                    .map_err(|source| file_error(&path, source))?;
                Ok(key)
            }
            Err(source) => Err(file_error(&path, source)),
        }
    }

    /// Written aside and renamed, so that a crash leaves the whole key or none.
    fn write_key(&self, path: &Path, bytes: &[u8; 32]) -> std::io::Result<()> {
        let draft = self.path.join("sequencer.key.new");
        let mut options = OpenOptions::new();
        options.write(true).create(true).truncate(true);
        #[cfg(unix)]
        {
            use std::os::unix::fs::OpenOptionsExt as _;
            options.mode(0o600);
        }
        let mut file = options.open(&draft)?;
        writeln!(file, "{}", hex::encode(bytes))?;
        file.sync_all()?;
        std::fs::rename(&draft, path)?;
        File::open(&self.path)?.sync_all()
    }
}

/// A key from the operating system's randomness.
pub(crate) fn fresh_key() -> Result<(SealingKey, [u8; 32]), NodeError> {
    loop {
        let mut bytes = [0u8; 32];
        getrandom::fill(&mut bytes).map_err(|error| NodeError::Key {
            path: PathBuf::new(),
            detail: error.to_string(),
        })?;
        // Fails with probability 2^-128.
        if let Ok(key) = SealingKey::from_bytes(bytes) {
            return Ok((key, bytes));
        }
    }
}

fn file_error(path: &Path, source: std::io::Error) -> NodeError {
    NodeError::File {
        path: path.to_owned(),
        source,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn second_holder_is_refused_with_the_process_id() {
        let directory = tempfile::tempdir().unwrap();
        let first = DataDirectory::open(directory.path()).unwrap();
        let refused = DataDirectory::open(directory.path())
            .unwrap_err()
            .to_string();
        assert!(
            refused.contains(&std::process::id().to_string()),
            "{refused}"
        );
        let key = first.sealing_key().unwrap().address();
        drop(first);
        let again = DataDirectory::open(directory.path()).unwrap();
        assert_eq!(again.sealing_key().unwrap().address(), key);
    }
}

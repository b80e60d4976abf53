//! Copying with size and sha256 checked on the way.

use std::{
    fs::{self, File},
    io::{Read, Write},
    path::Path,
};

use sha2::{Digest, Sha256};

use super::Progress;
use crate::{catalogue::FileEntry, error::ImportError};

/// Hash and length of what has been written so far.
#[derive(Clone, Debug, Default)]
pub struct Checked {
    hash: Sha256,
    bytes: u64,
}

impl Checked {
    /// Continues with bytes that are already there.
    ///
    /// # Errors
    /// [`ImportError::Io`].
    pub fn resume(path: &Path) -> Result<Self, ImportError> {
        let mut file = File::open(path).map_err(ImportError::io(path))?;
        let mut checked = Self::default();
        let mut buffer = vec![0; 1 << 16];
        loop {
            let n = file.read(&mut buffer).map_err(ImportError::io(path))?;
            let Some(part) = buffer.get(..n).filter(|p| !p.is_empty()) else {
                return Ok(checked);
            };
            checked.update(part);
        }
    }

    fn update(&mut self, part: &[u8]) {
        self.hash.update(part);
        self.bytes += part.len() as u64;
    }

    /// Bytes so far.
    pub const fn bytes(&self) -> u64 {
        self.bytes
    }
}

/// Copies `reader` to the end of `part`, verifies, and renames to `target`. At most `file.size` + 1 bytes are read. On a mismatch `part` is deleted.
///
/// # Errors
/// [`ImportError::Size`], [`ImportError::Hash`], [`ImportError::Io`] (the part stays, to be resumed).
pub fn copy_checked(
    reader: &mut dyn Read,
    mut checked: Checked,
    part: &Path,
    target: &Path,
    file: &FileEntry,
    progress: &mut dyn Progress,
) -> Result<(), ImportError> {
    let mut out = File::options()
        .create(true)
        .append(true)
        .open(part)
        .map_err(ImportError::io(part))?;
    let mut reader = reader.take((file.size + 1).saturating_sub(checked.bytes));
    let mut buffer = vec![0; 1 << 16];
    loop {
        let n = reader.read(&mut buffer).map_err(ImportError::io(part))?;
        let Some(bytes) = buffer.get(..n).filter(|b| !b.is_empty()) else {
            break;
        };
        out.write_all(bytes).map_err(ImportError::io(part))?;
        checked.update(bytes);
        progress.advance(n as u64);
    }
    out.sync_all().map_err(ImportError::io(part))?;
    drop(out);
    let name = file.name.to_owned();
    if checked.bytes != file.size {
        fs::remove_file(part).map_err(ImportError::io(part))?;
        return Err(ImportError::Size {
            file: name,
            want: file.size,
            have: checked.bytes,
        });
    }
    let have = hex::encode(checked.hash.finalize());
    if have != file.sha256 {
        fs::remove_file(part).map_err(ImportError::io(part))?;
        return Err(ImportError::Hash {
            file: name,
            want: file.sha256.to_owned(),
            have,
        });
    }
    fs::rename(part, target).map_err(ImportError::io(target))
}

//! The log that stands between a receipt and its signature.
//!
//! One record of 80 bytes for each place in a line: `lineId || seq u64 BE || claimId || checksum`, synced before the
//! call returns. A torn record at the end was never followed by a signature and is cut off; damage anywhere else is
//! fatal, because a lost record could turn into equivocation.

use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use alloy_primitives::{B256, keccak256};

use crate::OperatorError;

/// Bytes of one record.
const RECORD: usize = 80;

/// Append-only log of `(lineId, seq, claimId)`.
#[derive(Debug)]
pub struct WriteAheadLog {
    path: PathBuf,
    file: File,
    entries: HashMap<(B256, u64), B256>,
    broken: bool,
}

fn encode(line_id: B256, seq: u64, claim_id: B256) -> [u8; RECORD] {
    let mut record = [0u8; RECORD];
    let (body, sum) = record.split_at_mut(72);
    let (line, rest) = body.split_at_mut(32);
    let (number, claim) = rest.split_at_mut(8);
    line.copy_from_slice(line_id.as_slice());
    number.copy_from_slice(&seq.to_be_bytes());
    claim.copy_from_slice(claim_id.as_slice());
    sum.copy_from_slice(checksum(body).as_slice());
    record
}

fn checksum(body: &[u8]) -> [u8; 8] {
    let mut sum = [0u8; 8];
    for (to, from) in sum.iter_mut().zip(keccak256(body)) {
        *to = from;
    }
    sum
}

fn decode(record: &[u8; RECORD]) -> Option<((B256, u64), B256)> {
    let (body, sum) = record.split_at(72);
    if checksum(body) != sum {
        return None;
    }
    let (line, rest) = body.split_at(32);
    let (number, claim) = rest.split_at(8);
    let seq = u64::from_be_bytes(number.try_into().ok()?);
    Some(((B256::from_slice(line), seq), B256::from_slice(claim)))
}

impl WriteAheadLog {
    /// Opens or creates the log and reads all of it.
    ///
    /// # Errors
    /// [`OperatorError::Disk`], [`OperatorError::DamagedLog`], [`OperatorError::Equivocation`] when it holds two
    /// receipts for one place.
    pub fn open(path: impl Into<PathBuf>) -> Result<Self, OperatorError> {
        let path = path.into();
        let disk = |source| OperatorError::Disk {
            path: path.clone(),
            source,
        };
        let created = !path.exists();
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path)
            .map_err(disk)?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes).map_err(disk)?;
        let (records, torn) = bytes.as_chunks::<RECORD>();
        let mut entries = HashMap::new();
        let mut good = 0usize;
        for record in records {
            let Some((place, claim_id)) = decode(record) else {
                break;
            };
            insert(&mut entries, place, claim_id)?;
            good += 1;
        }
        let unread = records.len() - good;
        if unread > 1 || (unread == 1 && !torn.is_empty()) {
            return Err(OperatorError::DamagedLog {
                path,
                record: good as u64,
            });
        }
        if good * RECORD != bytes.len() {
            file.set_len((good * RECORD) as u64).map_err(disk)?;
            file.sync_all().map_err(disk)?;
        }
        file.seek(SeekFrom::End(0)).map_err(disk)?;
        if created {
            sync_parent(&path)?;
        }
        Ok(Self {
            path,
            file,
            entries,
            broken: false,
        })
    }

    /// The receipt that holds a place in a line, if any.
    pub fn get(&self, line_id: B256, seq: u64) -> Option<B256> {
        self.entries.get(&(line_id, seq)).copied()
    }

    /// All records, in no order.
    pub fn entries(&self) -> impl Iterator<Item = (B256, u64, B256)> + '_ {
        self.entries
            .iter()
            .map(|((line_id, seq), claim_id)| (*line_id, *seq, *claim_id))
    }

    /// Makes the record durable. Returns only when it is on disk; only then may the receipt be signed.
    ///
    /// # Errors
    /// [`OperatorError::Equivocation`] when the place is taken by another receipt, [`OperatorError::Disk`], and
    /// [`OperatorError::LogBroken`] ever after a failed write.
    pub fn append(&mut self, line_id: B256, seq: u64, claim_id: B256) -> Result<(), OperatorError> {
        if self.broken {
            return Err(OperatorError::LogBroken(self.path.clone()));
        }
        if let Some(logged) = self.get(line_id, seq) {
            return check_same((line_id, seq), logged, claim_id);
        }
        let record = encode(line_id, seq, claim_id);
        let written = self
            .file
            .write_all(&record)
            .and_then(|()| self.file.sync_data());
        if let Err(source) = written {
            self.broken = true;
            return Err(OperatorError::Disk {
                path: self.path.clone(),
                source,
            });
        }
        self.entries.insert((line_id, seq), claim_id);
        Ok(())
    }
}

fn check_same(place: (B256, u64), logged: B256, other: B256) -> Result<(), OperatorError> {
    if logged == other {
        return Ok(());
    }
    Err(OperatorError::Equivocation {
        line_id: place.0,
        seq: place.1,
        logged,
        other,
    })
}

fn insert(
    entries: &mut HashMap<(B256, u64), B256>,
    place: (B256, u64),
    claim_id: B256,
) -> Result<(), OperatorError> {
    match entries.insert(place, claim_id) {
        Some(logged) => check_same(place, logged, claim_id),
        None => Ok(()),
    }
}

/// Makes a new directory entry durable.
pub(crate) fn sync_parent(path: &Path) -> Result<(), OperatorError> {
    let Some(parent) = path.parent() else {
        return Ok(());
    };
    File::open(parent)
        .and_then(|folder| folder.sync_all())
        .map_err(|source| OperatorError::Disk {
            path: parent.to_owned(),
            source,
        })
}

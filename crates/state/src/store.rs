//! The database file: opening, snapshots, and reading blocks back.

use std::path::Path;

use alloy_consensus::Header;
use alloy_primitives::{Address, B256, Bytes};
use alloy_rlp::Decodable;
use assay_types::StoredReceipt;
use parking_lot::Mutex;
use redb::{Database, ReadTransaction, ReadableDatabase};

use crate::commit::TrieCache;
use crate::rows::log_key;
use crate::{StateError, View, history, tables};

/// Bytes of page cache that redb may hold.
const CACHE_BYTES: usize = 64 * 1024 * 1024;

/// Newest durable block.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Head {
    /// keccak256 of the header.
    pub hash: B256,
    /// Header.
    pub header: Header,
}

/// Everything stored about one block besides the state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredBlock {
    /// keccak256 of the header.
    pub hash: B256,
    /// Header.
    pub header: Header,
    /// RLP of the body, see `assay_types::Block`.
    pub body: Bytes,
    /// Receipts in order.
    pub receipts: Vec<StoredReceipt>,
    /// Events of begin_block and end_block.
    pub system_logs: Vec<alloy_primitives::Log>,
}

/// Receipts row: receipts and system logs.
#[derive(alloy_rlp::RlpEncodable, alloy_rlp::RlpDecodable)]
pub(crate) struct ReceiptsRow {
    pub(crate) receipts: Vec<StoredReceipt>,
    pub(crate) system_logs: Vec<alloy_primitives::Log>,
}

/// The embedded database of one chain. One writer at a time, any number of readers.
pub struct Store {
    pub(crate) database: Database,
    pub(crate) cache: Mutex<TrieCache>,
}

fn builder() -> redb::Builder {
    let mut builder = Database::builder();
    builder.set_cache_size(CACHE_BYTES);
    builder
}

/// Makes an empty store at `path`, all of it or nothing.
fn create_whole(path: &Path) -> Result<(), StateError> {
    let draft = path.with_added_extension("new");
    let failed = |error: std::io::Error| StateError::Database(error.to_string());
    match std::fs::remove_file(&draft) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(failed(error)),
        _ => {}
    }
    drop(Store::prepare(builder().create(&draft)?)?);
    std::fs::rename(&draft, path).map_err(failed)?;
    match path.parent().filter(|it| !it.as_os_str().is_empty()) {
        Some(folder) => std::fs::File::open(folder)
            .and_then(|it| it.sync_all())
            .map_err(failed),
        None => Ok(()),
    }
}

impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Store").finish_non_exhaustive()
    }
}

impl Store {
    /// Opens or creates the file at `path`.
    ///
    /// After an unclean shutdown redb checks its trees; a torn file is an error, never repaired silently. A new file
    /// is made aside and renamed when it is whole: redb writes its magic number last, so a process killed in between
    /// would leave a file that nothing can open. Two processes must not create the same store at once: the caller
    /// holds the lock of the directory.
    ///
    /// # Errors
    /// [`StateError::Database`] when the file is locked, damaged or cannot be created; [`StateError::Corrupt`] for
    /// another schema version.
    pub fn open(path: &Path) -> Result<Self, StateError> {
        if !path.exists() {
            create_whole(path)?;
        }
        Self::prepare(builder().open(path)?)
    }

    /// A store in memory, for tests and for re-execution.
    ///
    /// # Errors
    /// [`StateError::Database`] when tables cannot be created.
    pub fn in_memory() -> Result<Self, StateError> {
        let backend = redb::backends::InMemoryBackend::new();
        Self::prepare(builder().create_with_backend(backend)?)
    }

    fn prepare(database: Database) -> Result<Self, StateError> {
        let known = {
            let read = database.begin_read()?;
            match read.open_table(tables::META) {
                Ok(meta) => meta
                    .get(tables::META_SCHEMA)?
                    .map(|row| row.value().to_vec()),
                Err(redb::TableError::TableDoesNotExist(_)) => None,
                Err(error) => return Err(error.into()),
            }
        };
        match known {
            Some(version) if version == tables::SCHEMA.to_be_bytes() => {}
            Some(version) => {
                return Err(StateError::Corrupt {
                    table: "meta",
                    detail: format!("schema {version:?}, this program reads {}", tables::SCHEMA),
                });
            }
            None => {
                let write = database.begin_write()?;
                write.open_table(tables::ACCOUNT)?;
                write.open_table(tables::SLOT)?;
                write.open_table(tables::CODE)?;
                write.open_table(tables::NODE)?;
                write.open_table(tables::HEADER)?;
                write.open_table(tables::BODY)?;
                write.open_table(tables::RECEIPTS)?;
                write.open_table(tables::CERTIFICATE)?;
                write.open_table(tables::NUMBER)?;
                write.open_table(tables::TRANSACTION)?;
                write.open_table(tables::LOG_INDEX)?;
                write.open_table(tables::UNDO)?;
                write
                    .open_table(tables::META)?
                    .insert(tables::META_SCHEMA, tables::SCHEMA.to_be_bytes().as_slice())?;
                write.commit()?;
            }
        }
        Ok(Self {
            database,
            cache: Mutex::new(TrieCache::default()),
        })
    }

    /// Newest durable block, `None` before genesis.
    ///
    /// # Errors
    /// Database errors.
    pub fn head(&self) -> Result<Option<Head>, StateError> {
        let read = self.database.begin_read()?;
        let Some(number) = head_number(&read)? else {
            return Ok(None);
        };
        header_at(&read, number)
    }

    /// The state of the newest block.
    ///
    /// # Errors
    /// Database errors.
    pub fn view(&self) -> Result<View, StateError> {
        let read = self.database.begin_read()?;
        let number = head_number(&read)?.unwrap_or(0);
        View::new(read, number)
    }

    /// The state after block `number`, for the last [`crate::HISTORY_BLOCKS`] blocks.
    ///
    /// # Errors
    /// [`StateError::NotAvailable`] outside that range; database errors.
    pub fn view_at(&self, number: u64) -> Result<View, StateError> {
        let read = self.database.begin_read()?;
        let head = head_number(&read)?.unwrap_or(0);
        if number == head {
            return View::new(read, number);
        }
        let oldest = history::oldest(&read, head)?;
        if number > head || number < oldest {
            return Err(StateError::NotAvailable {
                asked: number,
                oldest,
                newest: head,
            });
        }
        let overlay = history::overlay(&read, number, head)?;
        let mut view = View::new(read, number)?;
        view.overlay = Some(overlay);
        Ok(view)
    }

    /// Account and storage proof against the state root of block `number`.
    ///
    /// # Errors
    /// [`StateError::NotAvailable`] for pruned blocks; database errors.
    pub fn prove(
        &self,
        number: u64,
        address: Address,
        slots: &[alloy_primitives::U256],
    ) -> Result<crate::AccountProof, StateError> {
        let view = self.view_at(number)?;
        let head = head_number(&view.transaction)?.unwrap_or(0);
        let root_of = |number| {
            header_at(&view.transaction, number)?
                .map(|head| head.header.state_root)
                .ok_or_else(|| StateError::Corrupt {
                    table: "header",
                    detail: format!("no header of block {number}"),
                })
        };
        view.prove(address, slots, root_of(head)?, root_of(number)?)
    }

    /// Header and hash of block `number`.
    ///
    /// # Errors
    /// Database errors.
    pub fn header(&self, number: u64) -> Result<Option<Head>, StateError> {
        header_at(&self.database.begin_read()?, number)
    }

    /// Number of the block with this hash.
    ///
    /// # Errors
    /// Database errors.
    pub fn number_of(&self, hash: &B256) -> Result<Option<u64>, StateError> {
        let read = self.database.begin_read()?;
        let table = read.open_table(tables::NUMBER)?;
        Ok(table.get(hash.0)?.map(|row| row.value()))
    }

    /// Block, receipts and system logs.
    ///
    /// # Errors
    /// Database errors.
    pub fn block(&self, number: u64) -> Result<Option<StoredBlock>, StateError> {
        let read = self.database.begin_read()?;
        let Some(Head { hash, header }) = header_at(&read, number)? else {
            return Ok(None);
        };
        let bodies = read.open_table(tables::BODY)?;
        let receipts = read.open_table(tables::RECEIPTS)?;
        let (Some(body), Some(row)) = (bodies.get(number)?, receipts.get(number)?) else {
            return Err(StateError::Corrupt {
                table: "body",
                detail: format!("block {number} has a header but no body or receipts"),
            });
        };
        let row = ReceiptsRow::decode(&mut row.value()).map_err(|error| StateError::Corrupt {
            table: "receipts",
            detail: error.to_string(),
        })?;
        Ok(Some(StoredBlock {
            hash,
            header,
            body: Bytes::copy_from_slice(body.value()),
            receipts: row.receipts,
            system_logs: row.system_logs,
        }))
    }

    /// Encoded certificate of block `number`.
    ///
    /// # Errors
    /// Database errors.
    pub fn certificate(&self, number: u64) -> Result<Option<Bytes>, StateError> {
        let read = self.database.begin_read()?;
        let table = read.open_table(tables::CERTIFICATE)?;
        Ok(table
            .get(number)?
            .map(|row| Bytes::copy_from_slice(row.value())))
    }

    /// Block number and index of a mined transaction.
    ///
    /// # Errors
    /// Database errors.
    pub fn transaction(&self, hash: &B256) -> Result<Option<(u64, u32)>, StateError> {
        let read = self.database.begin_read()?;
        let table = read.open_table(tables::TRANSACTION)?;
        Ok(table.get(hash.0)?.map(|row| {
            let bytes = row.value();
            let fold = |part: &[u8]| {
                part.iter()
                    .fold(0u64, |n, byte| (n << 8) | u64::from(*byte))
            };
            let (number, index) = bytes.split_at(8);
            (fold(number), fold(index) as u32)
        }))
    }

    /// Numbers of blocks in `from..=to` with a log of `address` whose first topic is `topic`, ascending.
    ///
    /// At most `limit` numbers are returned.
    ///
    /// # Errors
    /// Database errors.
    pub fn blocks_with_log(
        &self,
        address: &Address,
        topic: &B256,
        from: u64,
        to: u64,
        limit: usize,
    ) -> Result<Vec<u64>, StateError> {
        let read = self.database.begin_read()?;
        let table = read.open_table(tables::LOG_INDEX)?;
        let range = log_key(address, topic, from)..=log_key(address, topic, to);
        let mut numbers = Vec::new();
        for row in table.range(range)?.take(limit) {
            let (key, ()) = row.map(|(key, value)| (key, value.value()))?;
            let mut number = [0u8; 8];
            number.copy_from_slice(&key.value()[52..]);
            numbers.push(u64::from_be_bytes(number));
        }
        Ok(numbers)
    }

    /// Oldest block whose state can still be read.
    ///
    /// # Errors
    /// Database errors.
    pub fn oldest_state(&self) -> Result<u64, StateError> {
        let read = self.database.begin_read()?;
        let head = head_number(&read)?.unwrap_or(0);
        history::oldest(&read, head)
    }
}

pub(crate) fn head_number(read: &ReadTransaction) -> Result<Option<u64>, StateError> {
    let meta = read.open_table(tables::META)?;
    let Some(row) = meta.get(tables::META_HEAD)? else {
        return Ok(None);
    };
    let bytes: [u8; 8] = row.value().try_into().map_err(|_| StateError::Corrupt {
        table: "meta",
        detail: format!("head of {} bytes", row.value().len()),
    })?;
    Ok(Some(u64::from_be_bytes(bytes)))
}

pub(crate) fn header_at(read: &ReadTransaction, number: u64) -> Result<Option<Head>, StateError> {
    let table = read.open_table(tables::HEADER)?;
    let Some(row) = table.get(number)? else {
        return Ok(None);
    };
    let corrupt = |detail: String| StateError::Corrupt {
        table: "header",
        detail,
    };
    let (hash, mut rlp) = row
        .value()
        .split_at_checked(32)
        .ok_or_else(|| corrupt(format!("{} bytes", row.value().len())))?;
    let header = Header::decode(&mut rlp).map_err(|error| corrupt(error.to_string()))?;
    Ok(Some(Head {
        hash: B256::from_slice(hash),
        header,
    }))
}

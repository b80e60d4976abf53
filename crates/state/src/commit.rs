//! From a diff to a root ([`Store::stage`]) and from there to disk ([`Store::commit`]).

use std::collections::HashMap;

use alloy_primitives::{Address, B256, Bytes, Log, U256, keccak256};
use alloy_rlp::Encodable;
use alloy_trie::EMPTY_ROOT_HASH;
use assay_types::{StateDiff, StoredReceipt};
use redb::{ReadableDatabase, WriteTransaction};

use crate::rows::{AccountRow, Undo, UndoAccount, UndoSlot, log_key, slot_key};
use crate::store::{ReceiptsRow, head_number};
use crate::trie::{NodeChanges, SparseTrie};
use crate::view::{StoredNodes, node_key};
use crate::{HISTORY_BLOCKS, StateError, Store, tables};

/// Nodes kept in memory between blocks; above it the lower levels are forgotten (about 150 bytes per node).
const CACHED_NODES: usize = 150_000;
/// Nibbles of the account trie kept when pruning: 16^4 paths.
const KEPT_DEPTH: usize = 4;
/// Blocks between two counts of the nodes in memory.
const COUNT_EVERY: u64 = 32;
/// Storage tries kept in memory.
const CACHED_STORAGE_TRIES: usize = 1_024;
/// Below this many changed accounts hashing stays on one thread.
const PARALLEL_FROM: usize = 64;

/// Tries of the head, sparse; empty means "load from disk".
#[derive(Debug, Default)]
pub(crate) struct TrieCache {
    accounts: Option<SparseTrie>,
    storage: HashMap<Address, SparseTrie>,
    commits: u64,
}

/// A root and the writes that lead to it, computed on one head and valid for the next block only.
#[derive(Debug)]
pub struct Staged {
    root: B256,
    parent: Option<u64>,
    diff: StateDiff,
    /// New rows; `None` deletes.
    rows: Vec<(Address, Option<AccountRow>)>,
    account_nodes: NodeChanges,
    storage_nodes: Vec<(B256, NodeChanges)>,
    wiped: Vec<Address>,
}

impl Staged {
    /// State root after the diff.
    pub const fn root(&self) -> B256 {
        self.root
    }
}

/// A block as it is written; the header row holds `hash` and `header_rlp`.
#[derive(Clone, Debug)]
pub struct BlockRecord<'a> {
    /// Height.
    pub number: u64,
    /// keccak256 of the header.
    pub hash: B256,
    /// RLP of the header.
    pub header_rlp: Vec<u8>,
    /// RLP of the body.
    pub body: Vec<u8>,
    /// Hashes of the transactions in order.
    pub transactions: Vec<B256>,
    /// Receipts in order.
    pub receipts: &'a [StoredReceipt],
    /// Events of begin_block and end_block.
    pub system_logs: &'a [Log],
    /// Encoded certificate.
    pub certificate: Bytes,
}

impl Store {
    /// Computes the state root after `diff` on top of the head.
    ///
    /// The in-memory tries move on to the new root; [`Store::discard`] takes that back when the block is not
    /// committed after all.
    ///
    /// Cost: one keccak per changed key and per changed trie node.
    ///
    /// # Errors
    /// Database errors; the tries are then reloaded on the next call.
    pub fn stage(&self, diff: StateDiff) -> Result<Staged, StateError> {
        let mut cache = self.cache.lock();
        let result = self.stage_on(&mut cache, diff);
        if result.is_err() {
            *cache = TrieCache::default();
        }
        result
    }

    fn stage_on(&self, cache: &mut TrieCache, diff: StateDiff) -> Result<Staged, StateError> {
        let read = self.database.begin_read()?;
        let parent = head_number(&read)?;
        let accounts = read.open_table(tables::ACCOUNT)?;
        let mut trie = match cache.accounts.take() {
            Some(trie) => trie,
            None => {
                let root = match parent {
                    Some(number) => crate::store::header_at(&read, number)?
                        .map_or(EMPTY_ROOT_HASH, |head| head.header.state_root),
                    None => EMPTY_ROOT_HASH,
                };
                SparseTrie::with_root(root)
            }
        };
        let source = StoredNodes::accounts(read.open_table(tables::NODE)?);
        let mut rows = Vec::with_capacity(diff.accounts.len());
        let mut storage_nodes = Vec::new();
        let mut wiped = Vec::new();
        for (address, change) in &diff.accounts {
            let hashed = keccak256(address);
            let known = accounts
                .get(address.0.0)?
                .map(|row| AccountRow::decode(&row.value()));
            let Some(record) = change.account.filter(|record| !record.is_empty()) else {
                if known.is_some() {
                    trie.remove(hashed, &source)?;
                    wiped.push(*address);
                    cache.storage.remove(address);
                }
                rows.push((*address, None));
                continue;
            };
            let mut storage_root = known.map_or(EMPTY_ROOT_HASH, |row| row.storage_root);
            if change.wiped && storage_root != EMPTY_ROOT_HASH {
                wiped.push(*address);
                cache.storage.remove(address);
                storage_root = EMPTY_ROOT_HASH;
            }
            if !change.slots.is_empty() {
                let nodes = StoredNodes::storage(read.open_table(tables::NODE)?, &hashed);
                let storage = cache
                    .storage
                    .entry(*address)
                    .or_insert_with(|| SparseTrie::with_root(storage_root));
                for (slot, value) in &change.slots {
                    let key = keccak256(slot.to_be_bytes::<32>());
                    if value.is_zero() {
                        storage.remove(key, &nodes)?;
                    } else {
                        storage.insert(key, alloy_rlp::encode(value), &nodes)?;
                    }
                }
                let (root, changes) = storage.commit(change.slots.len() >= PARALLEL_FROM);
                storage_root = root;
                storage_nodes.push((hashed, changes));
            }
            let row = AccountRow {
                record,
                storage_root,
            };
            trie.insert(hashed, row.leaf(), &source)?;
            rows.push((*address, Some(row)));
        }
        let (root, account_nodes) = trie.commit(diff.accounts.len() >= PARALLEL_FROM);
        cache.accounts = Some(trie);
        Ok(Staged {
            root,
            parent,
            diff,
            rows,
            account_nodes,
            storage_nodes,
            wiped,
        })
    }

    /// Forgets a staged root that will not be committed.
    pub fn discard(&self, staged: Staged) {
        drop(staged);
        *self.cache.lock() = TrieCache::default();
    }

    /// Writes a block and its state in one durable transaction (fsync before it returns).
    ///
    /// # Errors
    /// [`StateError::Stale`] when the head moved since [`Store::stage`]; database errors. Nothing is written then.
    pub fn commit(&self, staged: Staged, block: &BlockRecord<'_>) -> Result<(), StateError> {
        let mut cache = self.cache.lock();
        let result = self.write(&staged, block);
        if result.is_err() {
            *cache = TrieCache::default();
            return result;
        }
        cache.commits = cache.commits.wrapping_add(1);
        // Counting walks all nodes, so it is done now and then.
        let nodes = if cache.commits.is_multiple_of(COUNT_EVERY) {
            cache
                .accounts
                .iter()
                .chain(cache.storage.values())
                .map(SparseTrie::loaded)
                .fold(0usize, usize::saturating_add)
        } else {
            0
        };
        if nodes > CACHED_NODES || cache.storage.len() > CACHED_STORAGE_TRIES {
            cache.storage.clear();
            if let Some(trie) = &mut cache.accounts {
                trie.prune(KEPT_DEPTH);
            }
        }
        result
    }

    fn write(&self, staged: &Staged, block: &BlockRecord<'_>) -> Result<(), StateError> {
        let head = head_number(&self.database.begin_read()?)?;
        let expected = head.map_or(0, |head| head.saturating_add(1));
        if head != staged.parent || block.number != expected {
            return Err(StateError::Stale {
                staged: staged.parent,
                head,
            });
        }
        let write = self.database.begin_write()?;
        let undo = write_state(&write, staged)?;
        write_nodes(&write, staged)?;
        write_block(&write, block)?;
        {
            let mut table = write.open_table(tables::UNDO)?;
            if block.number > 0 {
                let mut row = Vec::with_capacity(undo.length());
                undo.encode(&mut row);
                table.insert(block.number, row.as_slice())?;
            }
            if let Some(old) = block.number.checked_sub(HISTORY_BLOCKS) {
                table.remove(old)?;
            }
        }
        write
            .open_table(tables::META)?
            .insert(tables::META_HEAD, block.number.to_be_bytes().as_slice())?;
        write.commit()?;
        Ok(())
    }
}

/// Accounts, words and code; returns what they were before.
fn write_state(write: &WriteTransaction, staged: &Staged) -> Result<Undo, StateError> {
    let mut accounts = write.open_table(tables::ACCOUNT)?;
    let mut slots = write.open_table(tables::SLOT)?;
    let mut undo = Undo::default();
    for (address, row) in &staged.rows {
        let before = match row {
            Some(row) => accounts.insert(address.0.0, row.encode())?,
            None => accounts.remove(address.0.0)?,
        };
        let before = before.map_or_else(Bytes::new, |row| Bytes::copy_from_slice(&row.value()));
        let mut old = Vec::new();
        let wiped = staged.wiped.contains(address);
        if wiped {
            let range = slot_key(address, &U256::ZERO)..=slot_key(address, &U256::MAX);
            for entry in slots.extract_from_if(range, |_, _| true)? {
                let (key, value) = entry?;
                old.push(UndoSlot {
                    slot: U256::from_be_slice(&key.value()[20..]),
                    value: U256::from_be_bytes(value.value()),
                });
            }
        }
        if row.is_some()
            && let Some(change) = staged.diff.accounts.get(address)
        {
            for (slot, value) in &change.slots {
                let key = slot_key(address, slot);
                let before = if value.is_zero() {
                    slots.remove(key)?
                } else {
                    slots.insert(key, value.to_be_bytes::<32>())?
                };
                let before = before.map_or(U256::ZERO, |word| U256::from_be_bytes(word.value()));
                // A wiped word was recorded above, with its value from before the block.
                let known = wiped && old.iter().any(|known: &UndoSlot| known.slot == *slot);
                if !known {
                    old.push(UndoSlot {
                        slot: *slot,
                        value: before,
                    });
                }
            }
        }
        undo.accounts.push(UndoAccount {
            address: *address,
            row: before,
            slots: old,
        });
    }
    let mut codes = write.open_table(tables::CODE)?;
    for (hash, code) in &staged.diff.code {
        codes.insert(hash.0, code.as_ref())?;
    }
    Ok(undo)
}

fn write_nodes(write: &WriteTransaction, staged: &Staged) -> Result<(), StateError> {
    let mut table = write.open_table(tables::NODE)?;
    for address in &staged.wiped {
        let mut start = vec![1];
        start.extend_from_slice(keccak256(address).as_slice());
        let mut end = start.clone();
        // No nibble is 0xff, so this is above every node of the trie.
        end.push(0xff);
        table.retain_in(start.as_slice()..end.as_slice(), |_, _| false)?;
    }
    let mut apply = |prefix: &[u8], changes: &NodeChanges| -> Result<(), StateError> {
        for path in &changes.removed {
            table.remove(node_key(prefix, path).as_slice())?;
        }
        for (path, rlp) in &changes.written {
            table.insert(node_key(prefix, path).as_slice(), rlp.as_slice())?;
        }
        Ok(())
    };
    for (hashed, changes) in &staged.storage_nodes {
        let mut prefix = vec![1];
        prefix.extend_from_slice(hashed.as_slice());
        apply(&prefix, changes)?;
    }
    apply(&[0], &staged.account_nodes)
}

fn write_block(write: &WriteTransaction, block: &BlockRecord<'_>) -> Result<(), StateError> {
    let mut header = block.hash.to_vec();
    header.extend_from_slice(&block.header_rlp);
    write
        .open_table(tables::HEADER)?
        .insert(block.number, header.as_slice())?;
    write
        .open_table(tables::BODY)?
        .insert(block.number, block.body.as_slice())?;
    let row = ReceiptsRow {
        receipts: block.receipts.to_vec(),
        system_logs: block.system_logs.to_vec(),
    };
    let mut bytes = Vec::with_capacity(row.length());
    row.encode(&mut bytes);
    write
        .open_table(tables::RECEIPTS)?
        .insert(block.number, bytes.as_slice())?;
    write
        .open_table(tables::CERTIFICATE)?
        .insert(block.number, block.certificate.as_ref())?;
    write
        .open_table(tables::NUMBER)?
        .insert(block.hash.0, block.number)?;
    let mut transactions = write.open_table(tables::TRANSACTION)?;
    for (index, hash) in (0u32..).zip(&block.transactions) {
        let mut place = [0u8; 12];
        place[..8].copy_from_slice(&block.number.to_be_bytes());
        place[8..].copy_from_slice(&index.to_be_bytes());
        transactions.insert(hash.0, place)?;
    }
    let mut logs = write.open_table(tables::LOG_INDEX)?;
    let all = row
        .receipts
        .iter()
        .flat_map(|receipt| &receipt.logs)
        .chain(&row.system_logs);
    for log in all {
        let topic = log.topics().first().copied().unwrap_or_default();
        logs.insert(log_key(&log.address, &topic, block.number), ())?;
    }
    Ok(())
}

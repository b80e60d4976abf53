//! The mempool: admitted transactions by sender and nonce (specification chain.md section 9.2).

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

use alloy_consensus::Transaction as _;
use alloy_primitives::{Address, B256, U256};
use assay_evm::{InvalidReason, intrinsic_gas};
use assay_types::{AccountRecord, Decoded, Recovered};

use crate::{FEE_FLOOR, PoolError};

/// Bounds of the pool.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PoolLimits {
    /// Transactions in all.
    pub transactions: usize,
    /// Bytes in all.
    pub bytes: usize,
    /// Transactions of one sender.
    pub per_sender: usize,
    /// Transactions of one sender behind a nonce gap.
    pub queued_per_sender: usize,
    /// How long a transaction may wait.
    pub lifetime: Duration,
}

impl Default for PoolLimits {
    fn default() -> Self {
        Self {
            transactions: 16_384,
            bytes: 32 * 1024 * 1024,
            per_sender: 64,
            queued_per_sender: 16,
            lifetime: Duration::from_secs(3 * 3_600),
        }
    }
}

/// Counts for `txpool_status`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PoolStatus {
    /// Transactions that could be in the next block.
    pub pending: usize,
    /// Transactions behind a nonce gap.
    pub queued: usize,
}

#[derive(Clone, Debug)]
struct Entry {
    transaction: Arc<Recovered>,
    arrival: u64,
    since: Instant,
}

#[derive(Debug, Default)]
struct Queue {
    /// Next nonce of the account in the newest block.
    next: u64,
    entries: BTreeMap<u64, Entry>,
}

impl Queue {
    /// First nonce that is neither mined nor pooled.
    fn end(&self) -> u64 {
        let mut end = self.next;
        for nonce in self.entries.range(self.next..).map(|(nonce, _)| *nonce) {
            if nonce != end {
                break;
            }
            end = end.saturating_add(1);
        }
        end
    }
}

/// Admitted transactions. Not thread safe by itself; the chain holds it in a mutex.
#[derive(Debug)]
pub struct Pool {
    limits: PoolLimits,
    gas_limit: u64,
    queues: HashMap<Address, Queue>,
    hashes: HashMap<B256, (Address, u64)>,
    bytes: usize,
    arrivals: u64,
}

impl Pool {
    /// An empty pool; `gas_limit` is the block's.
    pub fn new(limits: PoolLimits, gas_limit: u64) -> Self {
        Self {
            limits,
            gas_limit,
            queues: HashMap::new(),
            hashes: HashMap::new(),
            bytes: 0,
            arrivals: 0,
        }
    }

    /// Checks that need neither the sender nor the state, before the signature is recovered.
    ///
    /// # Errors
    /// [`PoolError`] for fees below the floor, too little gas, or more gas than a block has.
    pub fn check_static(transaction: &Decoded, gas_limit: u64) -> Result<(), PoolError> {
        let cap = transaction.max_fee_per_gas();
        if cap < u128::from(FEE_FLOOR) {
            return Err(PoolError::Underpriced {
                cap,
                minimum: u128::from(FEE_FLOOR),
            });
        }
        if transaction.gas_limit() > gas_limit {
            return Err(PoolError::BlockGas {
                gas: transaction.gas_limit(),
                limit: gas_limit,
            });
        }
        Ok(())
    }

    /// Admits a transaction whose sender has the state `account`.
    ///
    /// `delegated` says that the sender's code is an EIP-7702 designator. `local` transactions (of the node's own
    /// services) are never refused for their price.
    ///
    /// # Errors
    /// [`PoolError`], in the order of the specification.
    pub fn add(
        &mut self,
        transaction: Arc<Recovered>,
        account: &AccountRecord,
        delegated: bool,
        local: bool,
    ) -> Result<(), PoolError> {
        let sender = transaction.sender();
        let nonce = transaction.nonce();
        self.check_fees(&transaction)?;
        if self.hashes.contains_key(&transaction.hash()) {
            return Err(PoolError::AlreadyKnown(transaction.hash()));
        }
        if nonce < account.nonce {
            return Err(PoolError::NonceTooLow {
                next: account.nonce,
                nonce,
            });
        }
        let cost = transaction.max_cost().unwrap_or(U256::MAX);
        if account.balance < cost {
            return Err(PoolError::InsufficientFunds {
                balance: account.balance,
                cost,
            });
        }
        if !account.is_empty()
            && account.code_hash != alloy_primitives::KECCAK256_EMPTY
            && !delegated
        {
            return Err(InvalidReason::SenderHasCode { sender }.into());
        }
        self.check_queue(&transaction, account, delegated)?;
        let size = transaction.raw().len();
        let replaced = self
            .queues
            .get(&sender)
            .and_then(|queue| queue.entries.get(&nonce))
            .map(|entry| Arc::clone(&entry.transaction));
        if let Some(old) = &replaced {
            let enough = |old: u128, new: u128| new >= old.saturating_add(old.div_ceil(10));
            if !enough(old.max_fee_per_gas(), transaction.max_fee_per_gas())
                || !enough(priority(old), priority(&transaction))
            {
                return Err(PoolError::ReplacementUnderpriced);
            }
        } else {
            self.make_room(size, &transaction, local)?;
        }
        if let Some(old) = replaced {
            self.drop_entry(&sender, old.nonce());
        }
        self.arrivals = self.arrivals.saturating_add(1);
        self.bytes = self.bytes.saturating_add(size);
        self.hashes.insert(transaction.hash(), (sender, nonce));
        let queue = self.queues.entry(sender).or_default();
        queue.next = queue.next.max(account.nonce);
        queue.entries.insert(
            nonce,
            Entry {
                transaction,
                arrival: self.arrivals,
                since: Instant::now(),
            },
        );
        Ok(())
    }

    fn check_fees(&self, transaction: &Recovered) -> Result<(), PoolError> {
        let (intrinsic, floor) = intrinsic_gas(transaction);
        let gas = transaction.gas_limit();
        if gas < intrinsic {
            return Err(InvalidReason::IntrinsicGas {
                gas,
                minimum: intrinsic,
            }
            .into());
        }
        if gas < floor {
            return Err(InvalidReason::FloorGas {
                gas,
                minimum: floor,
            }
            .into());
        }
        if transaction
            .max_priority_fee_per_gas()
            .is_some_and(|tip| tip > transaction.max_fee_per_gas())
        {
            return Err(InvalidReason::TipAboveFeeCap {
                sender: transaction.sender(),
                cap: transaction.max_fee_per_gas(),
            }
            .into());
        }
        Ok(())
    }

    fn check_queue(
        &self,
        transaction: &Recovered,
        account: &AccountRecord,
        delegated: bool,
    ) -> Result<(), PoolError> {
        let sender = transaction.sender();
        let nonce = transaction.nonce();
        let queue = self.queues.get(&sender);
        let known = queue.is_some_and(|queue| queue.entries.contains_key(&nonce));
        let count = queue.map_or(0, |queue| queue.entries.len());
        if known {
            return Ok(());
        }
        if delegated && count > 0 {
            return Err(PoolError::Delegated);
        }
        if count >= self.limits.per_sender {
            return Err(PoolError::AccountLimit { sender, count });
        }
        let end = queue.map_or(account.nonce, Queue::end).max(account.nonce);
        if nonce > end {
            let behind = queue.map_or(0, |queue| queue.entries.range(end..).count());
            let limit = self.limits.queued_per_sender;
            if behind >= limit {
                return Err(PoolError::NonceGap {
                    next: end,
                    nonce,
                    limit,
                });
            }
        }
        Ok(())
    }

    /// Drops the lowest paying tails until `size` more bytes fit.
    fn make_room(
        &mut self,
        size: usize,
        transaction: &Recovered,
        local: bool,
    ) -> Result<(), PoolError> {
        while self.hashes.len() >= self.limits.transactions
            || self.bytes.saturating_add(size) > self.limits.bytes
        {
            // Only the last nonce of a sender may go: an earlier one would block the rest.
            let worst = self
                .queues
                .iter()
                .filter_map(|(sender, queue)| {
                    let (nonce, entry) = queue.entries.last_key_value()?;
                    Some((
                        priority(&entry.transaction),
                        Reverse(entry.arrival),
                        *sender,
                        *nonce,
                    ))
                })
                .min();
            let full = PoolError::Full {
                count: self.hashes.len(),
                bytes: self.bytes,
            };
            let Some((price, _, sender, nonce)) = worst else {
                return Err(full);
            };
            if sender == transaction.sender() || (!local && price >= priority(transaction)) {
                return Err(full);
            }
            self.drop_entry(&sender, nonce);
        }
        Ok(())
    }

    fn drop_entry(&mut self, sender: &Address, nonce: u64) {
        let Some(queue) = self.queues.get_mut(sender) else {
            return;
        };
        if let Some(entry) = queue.entries.remove(&nonce) {
            self.bytes = self.bytes.saturating_sub(entry.transaction.raw().len());
            self.hashes.remove(&entry.transaction.hash());
        }
        if queue.entries.is_empty() {
            self.queues.remove(sender);
        }
    }

    /// Transactions for the next block: by effective tip, then arrival, in nonce order per sender; at most
    /// `max_bytes` of them.
    pub fn select(&self, base_fee: u64, max_bytes: usize) -> Vec<Arc<Recovered>> {
        let mut heads = BinaryHeap::new();
        for (sender, queue) in &self.queues {
            push_head(&mut heads, sender, queue, queue.next, base_fee);
        }
        let mut chosen = Vec::new();
        let mut bytes = 0usize;
        while let Some((_, _, sender, nonce)) = heads.pop() {
            let Some(queue) = self.queues.get(&sender) else {
                continue;
            };
            let Some(entry) = queue.entries.get(&nonce) else {
                continue;
            };
            bytes = bytes.saturating_add(entry.transaction.raw().len());
            if bytes > max_bytes {
                break;
            }
            chosen.push(Arc::clone(&entry.transaction));
            push_head(
                &mut heads,
                &sender,
                queue,
                nonce.saturating_add(1),
                base_fee,
            );
        }
        chosen
    }

    /// Whether a block at `base_fee` would contain anything.
    pub fn has_pending(&self, base_fee: u64) -> bool {
        self.queues.values().any(|queue| {
            queue
                .entries
                .get(&queue.next)
                .is_some_and(|entry| entry.transaction.tip(base_fee).is_some())
        })
    }

    /// Accounts changed: their next nonces are these now.
    pub fn advance(&mut self, nonces: impl IntoIterator<Item = (Address, u64)>) {
        for (sender, next) in nonces {
            let Some(queue) = self.queues.get_mut(&sender) else {
                continue;
            };
            queue.next = next;
            let stale: Vec<u64> = queue
                .entries
                .range(..next)
                .map(|(nonce, _)| *nonce)
                .collect();
            for nonce in stale {
                self.drop_entry(&sender, nonce);
            }
        }
    }

    /// Drops transactions that can never be mined.
    pub fn remove(&mut self, hash: &B256) {
        if let Some((sender, nonce)) = self.hashes.get(hash).copied() {
            self.drop_entry(&sender, nonce);
        }
    }

    /// Drops what has waited longer than the lifetime.
    pub fn expire(&mut self, now: Instant) {
        let lifetime = self.limits.lifetime;
        let old: Vec<(Address, u64)> = self
            .queues
            .iter()
            .flat_map(|(sender, queue)| {
                queue
                    .entries
                    .iter()
                    .filter(|(_, entry)| now.saturating_duration_since(entry.since) > lifetime)
                    .map(|(nonce, _)| (*sender, *nonce))
            })
            .collect();
        for (sender, nonce) in old {
            self.drop_entry(&sender, nonce);
        }
    }

    /// First nonce of `sender` that is neither mined nor pooled without a gap; `None` when it has nothing pooled.
    pub fn next_nonce(&self, sender: &Address) -> Option<u64> {
        self.queues.get(sender).map(Queue::end)
    }

    /// Whether this transaction is in the pool.
    pub fn contains(&self, hash: &B256) -> bool {
        self.hashes.contains_key(hash)
    }

    /// A pooled transaction.
    pub fn get(&self, hash: &B256) -> Option<Arc<Recovered>> {
        let (sender, nonce) = self.hashes.get(hash)?;
        let entry = self.queues.get(sender)?.entries.get(nonce)?;
        Some(Arc::clone(&entry.transaction))
    }

    /// Gas limit that transactions are checked against.
    pub const fn gas_limit(&self) -> u64 {
        self.gas_limit
    }

    /// Counts.
    pub fn status(&self) -> PoolStatus {
        let mut status = PoolStatus::default();
        for queue in self.queues.values() {
            let ready = queue.entries.range(queue.next..queue.end()).count();
            status.pending = status.pending.saturating_add(ready);
            status.queued = status
                .queued
                .saturating_add(queue.entries.len().saturating_sub(ready));
        }
        status
    }
}

type Heads = BinaryHeap<(u128, Reverse<u64>, Address, u64)>;

fn push_head(heads: &mut Heads, sender: &Address, queue: &Queue, nonce: u64, base_fee: u64) {
    if let Some(entry) = queue.entries.get(&nonce)
        && let Some(tip) = entry.transaction.tip(base_fee)
    {
        heads.push((tip, Reverse(entry.arrival), *sender, nonce));
    }
}

/// Wei per gas that the sender offers the proposer: the tip, or the price of older types.
fn priority(transaction: &Recovered) -> u128 {
    transaction
        .max_priority_fee_per_gas()
        .unwrap_or_else(|| transaction.max_fee_per_gas())
}

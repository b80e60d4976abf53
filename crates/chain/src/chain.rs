//! A running chain: database, mempool, sealing key, subscribers.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use alloy_consensus::Header;
use alloy_primitives::{Address, B256, Bytes, Log};
use assay_evm::{BlockContext, BlockExecutor, InvalidReason};
use assay_modules::Modules;
use assay_state::{BlockRecord, Store, View};
use assay_types::{AccountRecord, Block, Decoded, Recovered, SealingKey, StateView, StoredReceipt};
use parking_lot::{Condvar, Mutex, RwLock};
use tokio::sync::broadcast;

use crate::execute::{Inspect, assemble, execute, sealed_header_rlp};
use crate::{
    ChainClock, ChainError, Genesis, Pool, PoolError, PoolLimits, PoolStatus,
    accepts_large_calldata, next_base_fee,
};

/// Blocks kept in memory with their receipts.
const RECENT_BLOCKS: usize = 32;
/// Transactions kept in memory with their blocks; bounds the memory of [`RECENT_BLOCKS`].
const RECENT_TRANSACTIONS: usize = 20_000;
/// Events a slow subscriber may lag behind before it loses some.
const EVENT_QUEUE: usize = 1_024;
/// Transaction bytes in a block (specification chain.md section 9.4).
const BLOCK_TRANSACTION_BYTES: usize = 5 * 1024 * 1024;

/// What a chain is opened with.
#[derive(Clone, Debug)]
pub struct ChainConfig {
    /// Block 0.
    pub genesis: Genesis,
    /// Key of the solo sequencer that genesis names.
    pub key: SealingKey,
    /// Bounds of the mempool.
    pub pool: PoolLimits,
    /// Check the invariants of all modules after each block, before it is written.
    pub check_invariants: bool,
}

/// A durable block with everything that came of it.
#[derive(Clone, Debug)]
pub struct MinedBlock {
    /// Block.
    pub block: Block,
    /// One per transaction.
    pub receipts: Vec<StoredReceipt>,
    /// Events of begin_block and end_block.
    pub system_logs: Vec<Log>,
}

/// What subscribers are told.
#[derive(Clone, Debug)]
pub enum ChainEvent {
    /// A block is durable.
    Block(Arc<MinedBlock>),
    /// A transaction entered the pool.
    Pending(Arc<Recovered>),
}

/// Newest block and its state.
pub(crate) struct Tip {
    pub(crate) header: Header,
    pub(crate) hash: B256,
    pub(crate) timestamp_ms: u64,
    pub(crate) view: View,
}

/// A chain that one sequencer drives. All methods are thread safe.
pub struct Chain {
    pub(crate) store: Store,
    pub(crate) modules: Arc<Modules>,
    pub(crate) chain_id: u64,
    sequencer: Address,
    key: SealingKey,
    clock: ChainClock,
    check_invariants: bool,
    pub(crate) pool: Mutex<Pool>,
    pub(crate) tip: RwLock<Arc<Tip>>,
    pub(crate) recent: RwLock<VecDeque<Arc<MinedBlock>>>,
    events: broadcast::Sender<ChainEvent>,
    producing: Mutex<Option<String>>,
    stopped: AtomicBool,
    pub(crate) wake: (Mutex<Wake>, Condvar),
}

/// What the sequencer thread waits for.
#[derive(Debug, Default)]
pub(crate) struct Wake {
    pub(crate) pending: bool,
    pub(crate) stop: bool,
}

impl std::fmt::Debug for Chain {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Chain")
            .field("chain_id", &self.chain_id)
            .field("sequencer", &self.sequencer)
            .finish_non_exhaustive()
    }
}

impl Chain {
    /// Opens the chain in `store`, writing block 0 when it is empty.
    ///
    /// # Errors
    /// [`ChainError::GenesisMismatch`] when the store holds another chain, [`ChainError::WrongKey`] when the key is
    /// not its sequencer; database errors.
    pub fn open(
        store: Store,
        modules: Arc<Modules>,
        config: ChainConfig,
    ) -> Result<Arc<Self>, ChainError> {
        let ChainConfig {
            genesis,
            key,
            pool,
            check_invariants,
        } = config;
        if key.address() != genesis.sequencer {
            return Err(ChainError::WrongKey {
                key: key.address(),
                sequencer: genesis.sequencer,
            });
        }
        let head = match store.head()? {
            None => {
                let block = genesis.write(&modules, &store)?;
                (block.header, block.hash)
            }
            Some(head) => {
                let stored = store.header(0)?.map_or(B256::ZERO, |head| head.hash);
                let configured = genesis.block(&modules)?.hash;
                if stored != configured {
                    return Err(ChainError::GenesisMismatch { stored, configured });
                }
                (head.header, head.hash)
            }
        };
        let (header, hash) = head;
        let tip = Tip {
            timestamp_ms: timestamp_ms(&header),
            view: store.view()?,
            header,
            hash,
        };
        let clock = ChainClock::default();
        clock.catch_up(tip.timestamp_ms);
        Ok(Arc::new(Self {
            store,
            modules,
            chain_id: genesis.chain_id,
            sequencer: genesis.sequencer,
            key,
            clock,
            check_invariants,
            pool: Mutex::new(Pool::new(pool, genesis.gas_limit)),
            tip: RwLock::new(Arc::new(tip)),
            recent: RwLock::new(VecDeque::new()),
            events: broadcast::channel(EVENT_QUEUE).0,
            producing: Mutex::new(None),
            stopped: AtomicBool::new(false),
            wake: (Mutex::new(Wake::default()), Condvar::new()),
        }))
    }

    /// EIP-155 chain id.
    pub const fn chain_id(&self) -> u64 {
        self.chain_id
    }

    /// Address whose key seals the blocks.
    pub const fn sequencer(&self) -> Address {
        self.sequencer
    }

    /// The clock, to move time forward in development.
    pub const fn clock(&self) -> &ChainClock {
        &self.clock
    }

    /// Height of the newest durable block.
    pub fn number(&self) -> u64 {
        self.tip().header.number
    }

    /// Header and hash of the newest durable block.
    pub fn head(&self) -> assay_state::Head {
        let tip = self.tip();
        assay_state::Head {
            hash: tip.hash,
            header: tip.header.clone(),
        }
    }

    /// Milliseconds since the Unix epoch at which the newest block says it was made.
    pub fn timestamp_ms(&self) -> u64 {
        self.tip().timestamp_ms
    }

    pub(crate) fn tip(&self) -> Arc<Tip> {
        Arc::clone(&self.tip.read())
    }

    /// Blocks and pool entries from now on. A subscriber that lags 1,024 events loses the oldest.
    pub fn subscribe(&self) -> broadcast::Receiver<ChainEvent> {
        self.events.subscribe()
    }

    /// Admits a signed transaction given as EIP-2718 bytes; returns its hash.
    ///
    /// The sender is recovered here, once. Cost: about 50 us, no disk write.
    ///
    /// # Errors
    /// [`PoolError`]; its text begins as geth's does.
    pub fn submit(&self, raw: Bytes) -> Result<B256, PoolError> {
        self.admit(raw, false)
    }

    /// As [`Chain::submit`], for the node's own services: never refused for its price.
    ///
    /// # Errors
    /// [`PoolError`].
    pub fn submit_local(&self, raw: Bytes) -> Result<B256, PoolError> {
        self.admit(raw, true)
    }

    fn admit(&self, raw: Bytes, local: bool) -> Result<B256, PoolError> {
        if self.stopped.load(Ordering::Relaxed) {
            return Err(PoolError::Stopped);
        }
        let gas_limit = self.tip().header.gas_limit;
        let decoded = Decoded::decode(raw, self.chain_id, accepts_large_calldata)?;
        let hash = decoded.hash();
        if self.pool.lock().contains(&hash) {
            return Err(PoolError::AlreadyKnown(hash));
        }
        Pool::check_static(&decoded, gas_limit)?;
        let transaction = Arc::new(decoded.recover()?);
        {
            let mut pool = self.pool.lock();
            // The newest state changes only under this lock, so nonce and balance cannot be outdated when the
            // transaction enters: an outdated nonce would look like a gap that nothing closes.
            let tip = self.tip();
            let account = tip.view.account(&transaction.sender())?.unwrap_or_default();
            let delegated = self.is_delegated(&tip.view, &account)?;
            pool.add(Arc::clone(&transaction), &account, delegated, local)?;
        }
        if self.events.receiver_count() > 0 {
            let _ = self.events.send(ChainEvent::Pending(transaction));
        }
        self.notify();
        Ok(hash)
    }

    fn is_delegated(&self, view: &View, account: &AccountRecord) -> Result<bool, PoolError> {
        if account.code_hash == alloy_primitives::KECCAK256_EMPTY {
            return Ok(false);
        }
        let code = view.code(&account.code_hash)?;
        Ok(code.len() == 23 && code.starts_with(&[0xef, 0x01, 0x00]))
    }

    fn notify(&self) {
        let (lock, condition) = &self.wake;
        let mut wake = lock.lock();
        if !wake.pending {
            wake.pending = true;
            condition.notify_all();
        }
    }

    /// A transaction that waits in the pool.
    pub fn pooled(&self, hash: &B256) -> Option<Arc<Recovered>> {
        self.pool.lock().get(hash)
    }

    /// Counts of the pool.
    pub fn pool_status(&self) -> PoolStatus {
        self.pool.lock().status()
    }

    /// Next nonce of an account, counting pooled transactions.
    ///
    /// # Errors
    /// [`ChainError::State`].
    pub fn pending_nonce(&self, address: &Address) -> Result<u64, ChainError> {
        let mined = self.account(address)?.nonce;
        let pooled = self.pool.lock().next_nonce(address);
        Ok(pooled.unwrap_or(mined).max(mined))
    }

    /// An account in the newest block; empty when it does not exist.
    ///
    /// # Errors
    /// [`ChainError::State`].
    pub fn account(&self, address: &Address) -> Result<AccountRecord, ChainError> {
        let account = self
            .tip()
            .view
            .account(address)
            .map_err(|error| ChainError::Execution(error.into()))?;
        Ok(account.unwrap_or_default())
    }

    /// Whether the next block would contain a transaction.
    pub fn has_pending(&self) -> bool {
        let base_fee = next_base_fee(&self.tip().header);
        self.pool.lock().has_pending(base_fee)
    }

    /// Context of the next block, as calls on pending state see it.
    pub fn next_context(&self) -> BlockContext {
        let tip = self.tip();
        self.context_after(&tip, self.clock.now_ms().max(tip.timestamp_ms))
    }

    fn context_after(&self, tip: &Tip, timestamp_ms: u64) -> BlockContext {
        BlockContext {
            number: tip.header.number.saturating_add(1),
            timestamp_ms,
            gas_limit: tip.header.gas_limit,
            base_fee: next_base_fee(&tip.header),
            prevrandao: tip.header.mix_hash,
            beneficiary: self.sequencer,
            chain_id: self.chain_id,
        }
    }

    /// Builds, executes, seals and durably writes the next block from what is pooled.
    ///
    /// Returns after fsync. Without `allow_empty` nothing happens when no transaction can be included.
    ///
    /// # Errors
    /// Any [`ChainError`] stops the chain: later calls return [`ChainError::Stopped`].
    pub fn produce(&self, allow_empty: bool) -> Result<Option<Arc<MinedBlock>>, ChainError> {
        let mut stopped = self.producing.lock();
        if let Some(reason) = &*stopped {
            return Err(ChainError::Stopped(reason.clone()));
        }
        let result = self.produce_next(allow_empty);
        if let Err(error) = &result {
            tracing::error!(target: "assay::chain", %error, "block production stopped");
            *stopped = Some(error.to_string());
            self.stopped.store(true, Ordering::Relaxed);
        }
        result
    }

    fn produce_next(&self, allow_empty: bool) -> Result<Option<Arc<MinedBlock>>, ChainError> {
        let tip = self.tip();
        let base_fee = next_base_fee(&tip.header);
        let candidates = {
            let mut pool = self.pool.lock();
            pool.expire(Instant::now());
            pool.select(base_fee, BLOCK_TRANSACTION_BYTES)
        };
        if candidates.is_empty() && !allow_empty {
            return Ok(None);
        }
        let context = self.context_after(&tip, self.clock.block_time(tip.timestamp_ms));
        let inspect = |executor: &mut BlockExecutor<'_>| executor.check_invariants();
        let inspect: Option<Inspect<'_>> = self.check_invariants.then_some(&inspect);
        let executed = execute(
            &self.modules,
            &tip.view,
            &context,
            candidates,
            false,
            inspect,
        )?;
        self.drop_refused(&executed.refused);
        if executed.transactions.is_empty() && !allow_empty {
            return Ok(None);
        }
        let nonces: Vec<(Address, u64)> = executed
            .diff
            .accounts
            .iter()
            .map(|(address, change)| (*address, change.account.map_or(0, |account| account.nonce)))
            .collect();
        let mut executed = executed;
        let staged = self.store.stage(std::mem::take(&mut executed.diff))?;
        let reveal = self.key.reveal(self.chain_id, 0, context.number);
        let header = assemble(
            &tip.header,
            tip.hash,
            &context,
            &executed,
            staged.root(),
            &reveal,
        );
        let block = Block::new(header, executed.transactions, reveal);
        let certificate = self.key.seal(self.chain_id, block.hash);
        self.store.commit(
            staged,
            &BlockRecord {
                number: context.number,
                hash: block.hash,
                header_rlp: sealed_header_rlp(&block.header),
                body: block.encode_body(),
                transactions: block.transactions.iter().map(|it| it.hash()).collect(),
                receipts: &executed.receipts,
                system_logs: &executed.system_logs,
                certificate: certificate.encode().into(),
            },
        )?;
        let mined = Arc::new(MinedBlock {
            block,
            receipts: executed.receipts,
            system_logs: executed.system_logs,
        });
        self.publish(&mined, nonces)?;
        Ok(Some(mined))
    }

    /// Makes a durable block visible: state first, then the pool, then subscribers.
    fn publish(
        &self,
        mined: &Arc<MinedBlock>,
        nonces: Vec<(Address, u64)>,
    ) -> Result<(), ChainError> {
        let tip = Tip {
            header: mined.block.header.clone(),
            hash: mined.block.hash,
            timestamp_ms: mined.block.timestamp().get(),
            view: self.store.view()?,
        };
        {
            let mut recent = self.recent.write();
            recent.push_back(Arc::clone(mined));
            let mut held: usize = recent.iter().map(|it| it.receipts.len()).sum();
            while recent.len() > RECENT_BLOCKS || (held > RECENT_TRANSACTIONS && recent.len() > 1) {
                let dropped = recent.pop_front().map_or(0, |it| it.receipts.len());
                held = held.saturating_sub(dropped);
            }
        }
        {
            let mut pool = self.pool.lock();
            *self.tip.write() = Arc::new(tip);
            pool.advance(nonces);
        }
        tracing::debug!(
            target: "assay::chain",
            number = mined.block.number(),
            transactions = mined.receipts.len(),
            gas = mined.block.header.gas_used,
            "block"
        );
        let _ = self.events.send(ChainEvent::Block(Arc::clone(mined)));
        Ok(())
    }

    fn drop_refused(&self, refused: &[(Arc<Recovered>, InvalidReason)]) {
        let mut pool = self.pool.lock();
        for (transaction, reason) in refused {
            // These wait for their turn, everything else can never be mined.
            let waits = matches!(
                reason,
                InvalidReason::NonceTooHigh { .. }
                    | InvalidReason::BlockGas { .. }
                    | InvalidReason::FeeCapTooLow { .. }
            );
            if !waits {
                tracing::debug!(target: "assay::chain", hash = %transaction.hash(), %reason, "dropped");
                pool.remove(&transaction.hash());
            }
        }
    }
}

pub(crate) fn timestamp_ms(header: &Header) -> u64 {
    Block::new(header.clone(), Vec::new(), Bytes::new())
        .timestamp()
        .get()
}

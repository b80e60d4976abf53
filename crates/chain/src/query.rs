//! Reading: blocks, receipts, logs, calls, proofs.

use std::collections::BTreeSet;
use std::sync::Arc;

use alloy_primitives::{Address, B256, Bytes, Log, U256};
use assay_evm::Caller;
use assay_state::{AccountProof, Head, StoredBlock, View};
use assay_types::{Block, BlockError, Decoded, Recovered, StateView, StoredReceipt};

use crate::chain::timestamp_ms;
use crate::fees::percentiles;
use crate::{BlockContext, Chain, ChainError, FeeHistory, MinedBlock, next_base_fee};

/// Which block a question is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BlockRef {
    /// Newest durable block; in solo mode it is final.
    Latest,
    /// The newest block with what is pooled; reads treat it as the newest block.
    Pending,
    /// Height.
    Number(u64),
    /// Hash.
    Hash(B256),
}

/// Which logs are asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LogFilter {
    /// First block.
    pub from: u64,
    /// Last block.
    pub to: u64,
    /// Emitting addresses; empty for any.
    pub addresses: Vec<Address>,
    /// Per position the allowed topics; empty for any.
    pub topics: Vec<Vec<B256>>,
}

impl LogFilter {
    /// Whether a log passes, whatever its block.
    pub fn matches(&self, log: &Log) -> bool {
        if !self.addresses.is_empty() && !self.addresses.contains(&log.address) {
            return false;
        }
        self.topics.iter().enumerate().all(|(at, allowed)| {
            allowed.is_empty()
                || log
                    .topics()
                    .get(at)
                    .is_some_and(|topic| allowed.contains(topic))
        })
    }

    fn may_match(&self, bloom: &alloy_primitives::Bloom) -> bool {
        use alloy_primitives::BloomInput;
        let any_address = self.addresses.is_empty()
            || self
                .addresses
                .iter()
                .any(|address| bloom.contains_input(BloomInput::Raw(address.as_slice())));
        any_address
            && self.topics.iter().all(|allowed| {
                allowed.is_empty()
                    || allowed
                        .iter()
                        .any(|topic| bloom.contains_input(BloomInput::Raw(topic.as_slice())))
            })
    }
}

/// Bounds of a log query.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogLimits {
    /// Blocks in the range.
    pub blocks: u64,
    /// Logs returned.
    pub results: usize,
}

impl Default for LogLimits {
    fn default() -> Self {
        Self {
            blocks: 10_000,
            results: 10_000,
        }
    }
}

/// A log with its place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FoundLog {
    /// Log.
    pub log: Log,
    /// Height.
    pub number: u64,
    /// Hash of the block.
    pub block_hash: B256,
    /// Seconds since the Unix epoch.
    pub timestamp: u64,
    /// Transaction; zero for an event of a system call.
    pub transaction_hash: B256,
    /// Position of the transaction; the number of transactions for an event of a system call.
    pub transaction_index: u64,
    /// Position in the block.
    pub log_index: u64,
}

impl MinedBlock {
    /// All events in order, those of system calls last.
    pub fn logs(&self) -> impl Iterator<Item = FoundLog> + '_ {
        let transactions = self.block.transactions.iter().map(|it| it.hash());
        let found = |log: &Log, transaction_hash: B256, transaction_index: u64| FoundLog {
            log: log.clone(),
            number: self.block.number(),
            block_hash: self.block.hash,
            timestamp: self.block.header.timestamp,
            transaction_hash,
            transaction_index,
            log_index: 0,
        };
        let own = (0u64..).zip(transactions.zip(&self.receipts)).flat_map(
            move |(index, (hash, receipt))| {
                receipt.logs.iter().map(move |log| found(log, hash, index))
            },
        );
        let system = self
            .system_logs
            .iter()
            .map(move |log| found(log, B256::ZERO, self.receipts.len() as u64));
        (0u64..).zip(own.chain(system)).map(|(index, mut log)| {
            log.log_index = index;
            log
        })
    }
}

impl Chain {
    /// Height of the block that `block` names; `None` when there is no such block.
    ///
    /// # Errors
    /// Database errors.
    pub fn resolve(&self, block: BlockRef) -> Result<Option<u64>, ChainError> {
        let newest = self.number();
        Ok(match block {
            BlockRef::Latest | BlockRef::Pending => Some(newest),
            BlockRef::Number(number) => (number <= newest).then_some(number),
            BlockRef::Hash(hash) => self.store.number_of(&hash)?,
        })
    }

    /// Block `number` with receipts; `None` beyond the newest.
    ///
    /// # Errors
    /// Database errors.
    pub fn block(&self, number: u64) -> Result<Option<Arc<MinedBlock>>, ChainError> {
        if let Some(found) = self
            .recent
            .read()
            .iter()
            .rev()
            .find(|it| it.block.number() == number)
        {
            return Ok(Some(Arc::clone(found)));
        }
        if number > self.number() {
            return Ok(None);
        }
        let Some(stored) = self.store.block(number)? else {
            return Ok(None);
        };
        let mined = self
            .restore(stored)
            .map_err(|source| ChainError::Block { number, source })?;
        Ok(Some(Arc::new(mined)))
    }

    /// Senders come from the receipts, so nothing is recovered again.
    fn restore(&self, stored: StoredBlock) -> Result<MinedBlock, BlockError> {
        let (raw, reveal) = Block::split_body(&stored.body)?;
        let transactions = raw
            .into_iter()
            .zip(&stored.receipts)
            .enumerate()
            .map(|(index, (bytes, receipt))| {
                Decoded::decode(bytes, self.chain_id, |_| true)
                    .map(|it| Arc::new(it.with_sender(receipt.sender)))
                    .map_err(|source| BlockError::Transaction { index, source })
            })
            .collect::<Result<Vec<Arc<Recovered>>, _>>()?;
        Ok(MinedBlock {
            block: Block {
                header: stored.header,
                hash: stored.hash,
                transactions,
                reveal,
            },
            receipts: stored.receipts,
            system_logs: stored.system_logs,
        })
    }

    /// Header of block `number`.
    ///
    /// # Errors
    /// Database errors.
    pub fn header(&self, number: u64) -> Result<Option<Head>, ChainError> {
        if number > self.number() {
            return Ok(None);
        }
        Ok(self.store.header(number)?)
    }

    /// Block and position of a mined transaction; only durable blocks count.
    ///
    /// # Errors
    /// Database errors.
    pub fn mined(&self, hash: &B256) -> Result<Option<(Arc<MinedBlock>, usize)>, ChainError> {
        let Some((number, index)) = self.store.transaction(hash)? else {
            return Ok(None);
        };
        let index = usize::try_from(index).unwrap_or(usize::MAX);
        Ok(self.block(number)?.map(|block| (block, index)))
    }

    /// Whether a transaction is in a block that is held in memory, or not mined at all, so that looking it up is
    /// cheap.
    pub fn is_at_hand(&self, hash: &B256) -> bool {
        match self.store.transaction(hash) {
            Ok(None) => true,
            Ok(Some((number, _))) => self
                .recent
                .read()
                .iter()
                .any(|it| it.block.number() == number),
            Err(_) => false,
        }
    }

    /// Receipt of a mined transaction.
    ///
    /// # Errors
    /// Database errors.
    pub fn receipt(&self, hash: &B256) -> Result<Option<StoredReceipt>, ChainError> {
        Ok(self
            .mined(hash)?
            .and_then(|(block, index)| block.receipts.get(index).cloned()))
    }

    /// Encoded certificate of block `number`.
    ///
    /// # Errors
    /// Database errors.
    pub fn certificate(&self, number: u64) -> Result<Option<Bytes>, ChainError> {
        Ok(self.store.certificate(number)?)
    }

    /// State after block `number`.
    ///
    /// # Errors
    /// [`assay_state::StateError::NotAvailable`] for blocks older than 256.
    pub fn state_at(&self, number: u64) -> Result<View, ChainError> {
        Ok(self.store.view_at(number)?)
    }

    /// Runs `read` on the state after the block that `block` names.
    ///
    /// # Errors
    /// As for [`Chain::state_at`]; `Ok(None)` when there is no such block.
    pub fn with_state<T>(
        &self,
        block: BlockRef,
        read: impl FnOnce(&View) -> Result<T, ChainError>,
    ) -> Result<Option<T>, ChainError> {
        let tip = self.tip();
        let Some(number) = self.resolve(block)? else {
            return Ok(None);
        };
        if number == tip.header.number {
            return read(&tip.view).map(Some);
        }
        let view = self.state_at(number)?;
        read(&view).map(Some)
    }

    /// Runs `call` on the state after the block that `block` names, as if inside that block (for the newest and
    /// pending: inside the next one).
    ///
    /// # Errors
    /// As for [`Chain::with_state`].
    pub fn with_caller<T>(
        &self,
        block: BlockRef,
        call: impl FnOnce(&mut Caller<'_>) -> T,
    ) -> Result<Option<T>, ChainError> {
        let context = match block {
            BlockRef::Latest | BlockRef::Pending => self.next_context(),
            BlockRef::Number(_) | BlockRef::Hash(_) => {
                let Some(number) = self.resolve(block)? else {
                    return Ok(None);
                };
                match self.header(number)? {
                    Some(head) => self.context_of(&head),
                    None => return Ok(None),
                }
            }
        };
        self.with_state(block, |view| {
            let mut caller = Caller::new(Arc::clone(&self.modules), view, context);
            Ok(call(&mut caller))
        })
    }

    fn context_of(&self, head: &Head) -> BlockContext {
        BlockContext {
            number: head.header.number,
            timestamp_ms: timestamp_ms(&head.header),
            gas_limit: head.header.gas_limit,
            base_fee: head.header.base_fee_per_gas.unwrap_or_default(),
            prevrandao: head.header.mix_hash,
            beneficiary: head.header.beneficiary,
            chain_id: self.chain_id,
        }
    }

    /// Word of an account's storage in the newest block.
    ///
    /// # Errors
    /// Database errors.
    pub fn slot(&self, address: &Address, slot: &U256) -> Result<U256, ChainError> {
        self.tip()
            .view
            .slot(address, slot)
            .map_err(|error| ChainError::Execution(error.into()))
    }

    /// EIP-1186 proof under the state root of block `number`.
    ///
    /// # Errors
    /// [`assay_state::StateError::NotAvailable`] for blocks older than 256.
    pub fn prove(
        &self,
        number: u64,
        address: Address,
        slots: &[U256],
    ) -> Result<AccountProof, ChainError> {
        Ok(self.store.prove(number, address, slots)?)
    }

    /// Logs that pass `filter`, in order; `Err(n)` when more than `limits.results` do.
    ///
    /// # Errors
    /// Database errors. The caller checks the width of the range.
    pub fn logs(
        &self,
        filter: &LogFilter,
        limits: LogLimits,
    ) -> Result<Result<Vec<FoundLog>, usize>, ChainError> {
        let mut found = Vec::new();
        for number in self.candidate_blocks(filter)? {
            let Some(block) = self.block(number)? else {
                continue;
            };
            for log in block.logs() {
                if filter.matches(&log.log) {
                    if found.len() >= limits.results {
                        return Ok(Err(limits.results));
                    }
                    found.push(log);
                }
            }
        }
        Ok(Ok(found))
    }

    /// Blocks that may contain a matching log: by index when address and first topic are given, else by bloom.
    fn candidate_blocks(&self, filter: &LogFilter) -> Result<Vec<u64>, ChainError> {
        let to = filter.to.min(self.number());
        let first = filter.topics.first().filter(|topics| !topics.is_empty());
        if let Some(topics) = first
            && !filter.addresses.is_empty()
        {
            let mut numbers = BTreeSet::new();
            for address in &filter.addresses {
                for topic in topics {
                    numbers.extend(self.store.blocks_with_log(
                        address,
                        topic,
                        filter.from,
                        to,
                        usize::MAX,
                    )?);
                }
            }
            return Ok(numbers.into_iter().collect());
        }
        let mut numbers = Vec::new();
        for number in filter.from..=to {
            if let Some(head) = self.header(number)?
                && filter.may_match(&head.header.logs_bloom)
            {
                numbers.push(number);
            }
        }
        Ok(numbers)
    }

    /// Base fees, fullness and tips of the `count` blocks up to `newest`.
    ///
    /// `percent` holds percentiles in hundredths of a percent, ascending.
    ///
    /// # Errors
    /// Database errors.
    pub fn fee_history(
        &self,
        count: u64,
        newest: u64,
        percent: &[u32],
    ) -> Result<FeeHistory, ChainError> {
        let oldest = newest.saturating_add(1).saturating_sub(count.max(1));
        let mut history = FeeHistory {
            oldest,
            ..FeeHistory::default()
        };
        let mut last = None;
        for number in oldest..=newest {
            let Some(head) = self.header(number)? else {
                break;
            };
            history
                .base_fees
                .push(head.header.base_fee_per_gas.unwrap_or_default());
            history
                .gas
                .push((head.header.gas_used, head.header.gas_limit));
            if !percent.is_empty() {
                history.rewards.push(self.tips(&head, percent)?);
            }
            last = Some(head.header);
        }
        if let Some(header) = last {
            history.base_fees.push(next_base_fee(&header));
        }
        Ok(history)
    }

    fn tips(&self, head: &Head, percent: &[u32]) -> Result<Vec<u128>, ChainError> {
        let base_fee = head.header.base_fee_per_gas.unwrap_or_default();
        let mut tips: Vec<(u128, u64)> = Vec::new();
        if head.header.gas_used > 0
            && let Some(block) = self.block(head.header.number)?
        {
            for (transaction, receipt) in block.block.transactions.iter().zip(&block.receipts) {
                tips.push((transaction.tip(base_fee).unwrap_or(0), receipt.gas_used));
            }
        }
        Ok(percentiles(&mut tips, percent))
    }

    /// Tip in wei per gas that was enough lately: the median of the newest block with transactions, at most 20
    /// blocks back, at least 1.
    ///
    /// # Errors
    /// Database errors.
    pub fn suggested_tip(&self) -> Result<u128, ChainError> {
        let newest = self.number();
        for number in (newest.saturating_sub(20)..=newest).rev() {
            let Some(head) = self.header(number)? else {
                continue;
            };
            if head.header.gas_used > 0 {
                let tip = self.tips(&head, &[5_000])?;
                return Ok(tip.first().copied().unwrap_or(1).max(1));
            }
        }
        Ok(1)
    }
}

//! Events: filters, and a cursor that survives restarts.

use alloy_primitives::{Address, B256, Bytes, U64};
use alloy_sol_types::SolEvent;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::{ChainClient, ClientError};

/// Blocks asked for in one request.
const CHUNK: u64 = 2_000;

/// One event of the chain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChainLog {
    /// Contract that emitted it.
    pub address: Address,
    /// Signature hash and indexed arguments.
    pub topics: Vec<B256>,
    /// The other arguments.
    pub data: Bytes,
    /// Height of its block.
    pub block: u64,
    /// Position among the events of its block.
    pub index: u64,
    /// Transaction that caused it.
    pub transaction: B256,
}

impl ChainLog {
    /// The event as `E`, if it is one and well formed.
    pub fn decode<E: SolEvent>(&self) -> Option<E> {
        E::decode_raw_log(self.topics.iter().copied(), &self.data).ok()
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct RawLog {
    address: Address,
    topics: Vec<B256>,
    data: Bytes,
    #[serde(default)]
    block_number: Option<U64>,
    #[serde(default)]
    log_index: Option<U64>,
    #[serde(default)]
    transaction_hash: Option<B256>,
    #[serde(default)]
    removed: bool,
}

impl RawLog {
    /// `None` for events of no block and of blocks that were taken back.
    pub(crate) fn into_log(self) -> Option<ChainLog> {
        if self.removed {
            return None;
        }
        Some(ChainLog {
            address: self.address,
            topics: self.topics,
            data: self.data,
            block: self.block_number?.to(),
            index: self.log_index?.to(),
            transaction: self.transaction_hash?,
        })
    }
}

/// Which events: of one contract, with any of some signatures, with given indexed arguments.
#[derive(Clone, Debug)]
pub struct LogFilter {
    /// Contract.
    pub address: Address,
    /// Signature hashes, any of them; empty for all.
    pub signatures: Vec<B256>,
    /// First indexed argument, if it matters.
    pub topic1: Option<B256>,
    /// Second indexed argument, if it matters.
    pub topic2: Option<B256>,
}

impl LogFilter {
    /// All events of `address` with any of `signatures`.
    pub fn new(address: Address, signatures: impl Into<Vec<B256>>) -> Self {
        Self {
            address,
            signatures: signatures.into(),
            topic1: None,
            topic2: None,
        }
    }

    fn topics(&self) -> Value {
        let first = if self.signatures.is_empty() {
            Value::Null
        } else {
            json!(self.signatures)
        };
        match (self.topic1, self.topic2) {
            (None, None) => json!([first]),
            (one, None) => json!([first, one]),
            (one, two) => json!([first, one, two]),
        }
    }
}

/// Where a follower of events stands. Store it after the events before it have been dealt with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogCursor {
    /// First block that has not been read.
    pub next_block: u64,
}

impl ChainClient {
    /// Events of blocks `from` to `to`, both included, in order.
    ///
    /// # Errors
    /// See [`ChainClient::request`].
    pub fn logs(
        &self,
        filter: &LogFilter,
        from: u64,
        to: u64,
    ) -> Result<Vec<ChainLog>, ClientError> {
        let query = json!([{
            "address": filter.address,
            "topics": filter.topics(),
            "fromBlock": U64::from(from),
            "toBlock": U64::from(to),
        }]);
        let raw: Vec<RawLog> = self.read("eth_getLogs", query)?;
        let mut logs: Vec<ChainLog> = raw.into_iter().filter_map(RawLog::into_log).collect();
        logs.sort_by_key(|log| (log.block, log.index));
        Ok(logs)
    }

    /// Events since `cursor` and the cursor after them; at most a few thousand blocks at once, so call again while
    /// the cursor moves.
    ///
    /// # Errors
    /// See [`ChainClient::request`].
    pub fn poll_logs(
        &self,
        filter: &LogFilter,
        cursor: LogCursor,
    ) -> Result<(Vec<ChainLog>, LogCursor), ClientError> {
        let head = self.block_number()?;
        let from = cursor.next_block;
        if head < from {
            return Ok((Vec::new(), cursor));
        }
        let to = head.min(from.saturating_add(CHUNK - 1));
        let logs = self.logs(filter, from, to)?;
        Ok((
            logs,
            LogCursor {
                next_block: to.saturating_add(1),
            },
        ))
    }
}

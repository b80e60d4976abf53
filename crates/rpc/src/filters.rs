//! Polled filters: `eth_newFilter` and its family.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use alloy_rpc_types_eth::Filter;
use assay_chain::{BlockRef, ChainEvent, LogFilter};
use serde_json::{Value, json};
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::TryRecvError;

use crate::format::quantity;
use crate::params::Params;
use crate::reads::Count;
use crate::{Api, RpcError, code};

/// A filter that nobody polls for this long is removed.
const LIFETIME: Duration = Duration::from_secs(300);

enum Kind {
    Logs(LogFilter),
    Blocks,
    Pending(Receiver<ChainEvent>),
}

struct Installed {
    kind: Kind,
    /// First block that has not been reported.
    next: u64,
    polled: Instant,
}

/// Installed filters.
pub(crate) struct Filters {
    installed: HashMap<u64, Installed>,
    last: u64,
    limit: usize,
}

impl std::fmt::Debug for Filters {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Filters")
            .field("installed", &self.installed.len())
            .finish_non_exhaustive()
    }
}

impl Filters {
    pub(crate) fn new(limit: usize) -> Self {
        Self {
            installed: HashMap::new(),
            last: 0,
            limit,
        }
    }

    fn install(&mut self, kind: Kind, next: u64) -> Result<u64, RpcError> {
        let now = Instant::now();
        self.installed
            .retain(|_, it| now.saturating_duration_since(it.polled) < LIFETIME);
        if self.installed.len() >= self.limit {
            return Err(RpcError::limit(format!("{} filters installed", self.limit)));
        }
        self.last = self.last.saturating_add(1);
        let filter = Installed {
            kind,
            next,
            polled: now,
        };
        self.installed.insert(self.last, filter);
        Ok(self.last)
    }
}

fn unknown() -> RpcError {
    RpcError::new(code::SERVER, "filter not found")
}

impl Api {
    pub(crate) fn new_filter(&self, mut params: Params) -> Result<Value, RpcError> {
        let raw: Filter = params.required(0)?;
        let open_end = raw.block_option.get_to_block().is_none();
        let mut filter = self.log_filter(raw)?;
        if open_end {
            filter.to = u64::MAX;
        }
        let next = self.chain.number().saturating_add(1).max(filter.from);
        let id = self.filters.lock().install(Kind::Logs(filter), next)?;
        Ok(quantity(id))
    }

    pub(crate) fn new_block_filter(&self) -> Result<Value, RpcError> {
        let next = self.chain.number().saturating_add(1);
        Ok(quantity(self.filters.lock().install(Kind::Blocks, next)?))
    }

    pub(crate) fn new_pending_filter(&self) -> Result<Value, RpcError> {
        let kind = Kind::Pending(self.chain.subscribe());
        Ok(quantity(self.filters.lock().install(kind, 0)?))
    }

    pub(crate) fn uninstall_filter(&self, mut params: Params) -> Result<Value, RpcError> {
        let id = params.required::<Count>(0)?.get()?;
        Ok(json!(self.filters.lock().installed.remove(&id).is_some()))
    }

    pub(crate) fn get_filter_logs(&self, mut params: Params) -> Result<Value, RpcError> {
        let id = params.required::<Count>(0)?.get()?;
        let filter = {
            let mut filters = self.filters.lock();
            let installed = filters.installed.get_mut(&id).ok_or_else(unknown)?;
            installed.polled = Instant::now();
            match &installed.kind {
                Kind::Logs(filter) => filter.clone(),
                Kind::Blocks | Kind::Pending(_) => return Err(unknown()),
            }
        };
        self.find_logs(&filter)
    }

    pub(crate) fn get_filter_changes(&self, mut params: Params) -> Result<Value, RpcError> {
        let id = params.required::<Count>(0)?.get()?;
        let newest = self.chain.number();
        let (first, logs) = {
            let mut filters = self.filters.lock();
            let installed = filters.installed.get_mut(&id).ok_or_else(unknown)?;
            installed.polled = Instant::now();
            let first = installed.next;
            match &mut installed.kind {
                Kind::Pending(events) => return Ok(drain(events)),
                Kind::Blocks => {
                    installed.next = newest.saturating_add(1).max(first);
                    (first, None)
                }
                Kind::Logs(filter) => {
                    installed.next = newest.saturating_add(1).max(first);
                    (first, Some(filter.clone()))
                }
            }
        };
        if first > newest {
            return Ok(json!([]));
        }
        match logs {
            Some(mut filter) => {
                filter.from = filter.from.max(first);
                filter.to = filter.to.min(newest);
                if filter.from > filter.to {
                    return Ok(json!([]));
                }
                self.find_logs(&filter)
            }
            None => {
                let from = first.max(newest.saturating_sub(self.config.log_blocks));
                let mut hashes = Vec::new();
                for number in from..=newest {
                    if self.chain.resolve(BlockRef::Number(number))?.is_some()
                        && let Some(head) = self.chain.header(number)?
                    {
                        hashes.push(json!(head.hash));
                    }
                }
                Ok(Value::Array(hashes))
            }
        }
    }
}

fn drain(events: &mut Receiver<ChainEvent>) -> Value {
    let mut hashes = Vec::new();
    loop {
        match events.try_recv() {
            Ok(ChainEvent::Pending(transaction)) => hashes.push(json!(transaction.hash())),
            Ok(ChainEvent::Block(_)) | Err(TryRecvError::Lagged(_)) => {}
            Err(TryRecvError::Empty | TryRecvError::Closed) => return Value::Array(hashes),
        }
    }
}

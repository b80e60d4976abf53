//! `eth_getLogs`, and the conversion of filters.

use alloy_rpc_types_eth::{Filter, FilterBlockOption};
use assay_chain::{BlockRef, LogFilter, LogLimits};
use serde_json::Value;

use crate::params::{Params, tag_ref};
use crate::{Api, RpcError, code, format};

impl Api {
    pub(crate) fn get_logs(&self, mut params: Params) -> Result<Value, RpcError> {
        let filter = self.log_filter(params.required(0)?)?;
        self.find_logs(&filter)
    }

    pub(crate) fn find_logs(&self, filter: &LogFilter) -> Result<Value, RpcError> {
        let newest = self.chain.number();
        let width = filter.to.min(newest).saturating_sub(filter.from);
        if width >= self.config.log_blocks {
            return Err(RpcError::limit(format!(
                "query exceeds max block range {}",
                self.config.log_blocks
            )));
        }
        let limits = LogLimits {
            blocks: self.config.log_blocks,
            results: self.config.log_results,
        };
        match self.chain.logs(filter, limits)? {
            Ok(found) => Ok(Value::Array(found.iter().map(format::log).collect())),
            Err(limit) => Err(RpcError::limit(format!(
                "query exceeds max results {limit}"
            ))),
        }
    }

    /// A filter with its blocks resolved.
    pub(crate) fn log_filter(&self, filter: Filter) -> Result<LogFilter, RpcError> {
        let number = |block: BlockRef| {
            self.chain
                .resolve(block)?
                .ok_or_else(|| RpcError::new(code::SERVER, format!("unknown block: {block:?}")))
        };
        let newest = self.chain.number();
        let bound = |tag: Option<_>| match tag.map(tag_ref) {
            None => Ok(newest),
            // A bound may lie in the future.
            Some(BlockRef::Number(number)) => Ok(number),
            Some(other) => number(other),
        };
        let (from, to) = match filter.block_option {
            FilterBlockOption::Range {
                from_block,
                to_block,
            } => (bound(from_block)?, bound(to_block)?),
            FilterBlockOption::AtBlockHash(hash) => {
                let at = number(BlockRef::Hash(hash))?;
                (at, at)
            }
        };
        if from > to {
            return Err(RpcError::params(format!(
                "invalid block range params: from {from} to {to}"
            )));
        }
        Ok(LogFilter {
            from,
            to,
            addresses: filter.address.iter().copied().collect(),
            topics: filter
                .topics
                .iter()
                .map(|allowed| allowed.iter().copied().collect())
                .collect(),
        })
    }
}

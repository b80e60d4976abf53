//! Limits and switches.

use std::net::SocketAddr;

/// How the RPC server behaves. All limits are inclusive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RpcConfig {
    /// Where to listen; port 0 takes a free one.
    pub address: SocketAddr,
    /// Requests in one batch.
    pub batch: usize,
    /// Bytes of a request body.
    pub request_bytes: usize,
    /// Bytes of a response body.
    pub response_bytes: usize,
    /// Blocks that one log query may cover.
    pub log_blocks: u64,
    /// Logs that one query may return.
    pub log_results: usize,
    /// Gas of a call or estimate.
    pub call_gas: u64,
    /// Installed filters, and subscriptions of one WebSocket connection.
    pub filters: usize,
    /// Calls, estimates, proofs and log queries that run at the same time.
    pub parallel_calls: usize,
    /// Whether `evm_*` methods exist, for peers on this machine.
    pub development: bool,
    /// Names besides `localhost` and IP addresses that a `Host` header may carry.
    pub hosts: Vec<String>,
    /// Origins besides pages served from this machine that browsers may call from; `*` allows all.
    pub origins: Vec<String>,
    /// Answer of `web3_clientVersion`.
    pub version: String,
}

impl Default for RpcConfig {
    fn default() -> Self {
        Self {
            address: SocketAddr::from(([127, 0, 0, 1], 0)),
            batch: 100,
            request_bytes: 10 * 1024 * 1024,
            response_bytes: 10 * 1024 * 1024,
            log_blocks: 10_000,
            log_results: 10_000,
            call_gas: 60_000_000,
            filters: 1_000,
            parallel_calls: 16,
            development: false,
            hosts: Vec::new(),
            origins: Vec::new(),
            version: concat!("assay/v", env!("CARGO_PKG_VERSION")).into(),
        }
    }
}

//! What a gateway is told at its start.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crate::{Account, ModelCodec};

/// Settings of a gateway.
#[derive(Clone)]
pub struct GatewayConfig {
    /// Folder for receipts.
    pub data_dir: PathBuf,
    /// Where it listens; port 0 picks a free one.
    pub listen: SocketAddr,
    /// JSON-RPC of the chain.
    pub chain_url: String,
    /// Models on offer.
    pub models: Vec<Arc<dyn ModelCodec>>,
    /// Accounts by API key.
    pub accounts: Vec<Account>,
    /// Account of requests without an API key; `None` answers them with 401.
    pub anonymous: Option<Account>,
    /// Harm of a wrong answer that requests declare, `usd` base units (10^-6).
    pub value_at_risk: u128,
    /// Audit probability that requests ask for, parts per million.
    pub audit_ppm: u32,
    /// Challenge window that requests ask for, seconds.
    pub window: u32,
    /// Highest fee of one call, `usd` base units.
    pub max_fee: u128,
    /// Largest request body, bytes.
    pub max_body: usize,
    /// Longest time for reading a request body.
    pub body_timeout: Duration,
    /// Most inputs of one embeddings call.
    pub max_inputs: usize,
    /// Calls that wait or run; more get 429.
    pub queue: usize,
    /// Longest time for one answer of an operator.
    pub operator_timeout: Duration,
    /// Longest time for one answer of a language model; requests are signed to be valid a minute longer.
    pub answer_timeout: Duration,
    /// Most tokens of an answer when a call does not say.
    pub default_max_tokens: u32,
    /// Most answers of one call (`n`, times the prompts of `/v1/completions`).
    pub max_choices: u32,
    /// Time after which a stream that has nothing to say sends a comment.
    pub ping: Duration,
    /// How long a client may leave its stream unread while there is something to read.
    pub stall: Duration,
    /// How long the list of operators is used before it is read again.
    pub refresh: Duration,
    /// Host names accepted besides loopback ones; `*` accepts all.
    pub hosts: Vec<String>,
    /// Origins that browsers may call from; empty for none.
    pub cors: Vec<String>,
}

impl GatewayConfig {
    /// Defaults: loopback on any port, no accounts, a value at risk of 0.10 usd, audits of 8 %, a window of an hour.
    pub fn new(data_dir: impl Into<PathBuf>, chain_url: impl Into<String>) -> Self {
        Self {
            data_dir: data_dir.into(),
            listen: SocketAddr::from(([127, 0, 0, 1], 0)),
            chain_url: chain_url.into(),
            models: Vec::new(),
            accounts: Vec::new(),
            anonymous: None,
            value_at_risk: 100_000,
            audit_ppm: 80_000,
            window: 3_600,
            max_fee: 10_000_000,
            max_body: 8 << 20,
            body_timeout: Duration::from_secs(30),
            max_inputs: 256,
            queue: 64,
            operator_timeout: Duration::from_secs(120),
            answer_timeout: Duration::from_secs(540),
            default_max_tokens: 2_048,
            max_choices: 16,
            ping: Duration::from_secs(10),
            stall: Duration::from_secs(60),
            refresh: Duration::from_secs(5),
            hosts: Vec::new(),
            cors: Vec::new(),
        }
    }
}

impl std::fmt::Debug for GatewayConfig {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let models: Vec<_> = self.models.iter().map(|model| model.name()).collect();
        f.debug_struct("GatewayConfig")
            .field("listen", &self.listen)
            .field("chain_url", &self.chain_url)
            .field("models", &models)
            .field("accounts", &self.accounts)
            .finish_non_exhaustive()
    }
}

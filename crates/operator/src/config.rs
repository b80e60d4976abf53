//! What an operator is told at its start.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use assay_wallet::Key;

/// Settings of an operator. `Debug` shows addresses of keys, never secrets.
#[derive(Clone, Debug)]
pub struct OperatorConfig {
    /// Folder for the log and the jobs.
    pub data_dir: PathBuf,
    /// Where the HTTP API listens; port 0 picks a free one.
    pub listen: SocketAddr,
    /// JSON-RPC of the chain.
    pub chain_url: String,
    /// Staking identity: sends transactions and is slashed.
    pub operator: Key,
    /// Key registered in `staking` that signs receipts.
    pub receipt_key: Key,
    /// Challenge window offered when the request asks for less, seconds.
    pub window: u32,
    /// Longest window offered, seconds.
    pub max_window: u32,
    /// Audit probability offered when the request asks for less, parts per million.
    pub audit_ppm: u32,
    /// Seconds from signing to the promised inclusion.
    pub include_within: u64,
    /// Jobs that run at the same time.
    pub workers: usize,
    /// Jobs that wait or run; more are refused.
    pub queue: usize,
    /// Time between two looks at the chain.
    pub poll: Duration,
    /// How long jobs are kept after they are final, chain seconds.
    pub retain: u64,
    /// Whether and how answers are proven.
    pub proofs: ProofConfig,
}

/// How a claim of a provable model is defended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DefendBy {
    /// By a proof where one is at hand or will be in time, else move by move.
    #[default]
    Cheapest,
    /// By a proof wherever the model has a key on the chain.
    Proof,
    /// Move by move.
    Descent,
}

/// Settings of the background prover.
#[derive(Clone, Debug)]
pub struct ProofConfig {
    /// Whether anyone may ask for proofs of answers, and answers of tier zk are sold.
    pub offered: bool,
    /// Proofs that wait; more are refused. One is made at a time.
    pub queue: usize,
    /// Threads of a proof, at the lowest priority; 0 is half of the cores.
    pub threads: usize,
    /// Most bytes of proving keys that are kept in memory; a key that was dropped is made again.
    pub key_memory: u64,
    /// Longest pause between two steps of a proof while answers are waiting.
    pub yield_for: Duration,
    /// How challenged claims are defended.
    pub defend_by: DefendBy,
}

impl Default for ProofConfig {
    fn default() -> Self {
        Self {
            offered: true,
            queue: 64,
            threads: 0,
            key_memory: 4 << 30,
            yield_for: Duration::from_secs(2),
            defend_by: DefendBy::default(),
        }
    }
}

impl OperatorConfig {
    /// Defaults: loopback, any port, window of an hour, audit probability 8 %, inclusion within a minute, one job at
    /// a time, 64 in the queue, jobs kept a day after they are final.
    pub fn new(
        data_dir: impl Into<PathBuf>,
        chain_url: impl Into<String>,
        operator: Key,
        receipt_key: Key,
    ) -> Self {
        Self {
            data_dir: data_dir.into(),
            listen: SocketAddr::from(([127, 0, 0, 1], 0)),
            chain_url: chain_url.into(),
            operator,
            receipt_key,
            window: 3_600,
            max_window: 86_400,
            audit_ppm: 80_000,
            include_within: 60,
            workers: 1,
            queue: 64,
            poll: Duration::from_millis(250),
            retain: 86_400,
            proofs: ProofConfig::default(),
        }
    }
}

//! Puts a chain together: directory, lock, keys, database, sequencer, RPC. Runs in-process or as `assay node`.
//!
//! Threat model: the data directory is ours; everything that comes over RPC is hostile and is handled below.
//!
//! Depends on `chain` and `rpc`. Start reading at [`Node::open`].
//!
//! ```no_run
//! # async fn run(modules: assay_chain::GenesisParams, arbiter: std::sync::Arc<dyn assay_chain::Arbiter>)
//! # -> Result<(), assay_node::NodeError> {
//! use assay_node::{Node, NodeConfig};
//! let node = Node::open(NodeConfig::local("/tmp/assay", &[], modules, arbiter)).await?;
//! println!("{}", node.rpc_url());
//! node.shutdown().await?;
//! # Ok(())
//! # }
//! ```

mod arbiter;
mod config;
mod directory;
mod error;
mod handle;
mod node;
mod proofs;

pub use arbiter::GraphArbiter;
pub use assay_chain::{
    Arbiter, BlockMode, BlockRef, CallOutcome, CallRequest, Chain, ChainEvent, Genesis,
    GenesisAccount, GenesisParams, MinedBlock, PoolError, PoolLimits, ProofVerifier,
};
pub use assay_rpc::RpcConfig;
pub use assay_types::StoredReceipt;
pub use config::{GenesisSource, NodeConfig};
pub use directory::{DataDirectory, STATE_FILE};
pub use error::NodeError;
pub use handle::{NodeHandle, TransactionError, WaitError};
pub use node::Node;
pub use proofs::GraphProofs;

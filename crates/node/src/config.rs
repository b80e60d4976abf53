//! What a node is opened with.

use std::path::PathBuf;
use std::sync::Arc;

use alloy_primitives::Address;
use assay_chain::{Arbiter, BlockMode, Genesis, GenesisParams, PoolLimits, ProofVerifier};
use assay_rpc::RpcConfig;

use crate::GraphProofs;

/// Makes the genesis once the sequencer's address is known, which is when its key has been read or created.
pub type GenesisSource = Box<dyn FnOnce(Address) -> Genesis + Send>;

/// Configuration of a node.
pub struct NodeConfig {
    /// Directory for state, key and lock; created when missing. `None` keeps everything in memory.
    pub data_dir: Option<PathBuf>,
    /// Block 0, given the sequencer's address.
    pub genesis: GenesisSource,
    /// When blocks are made.
    pub block_mode: BlockMode,
    /// RPC server; `None` for none.
    pub rpc: Option<RpcConfig>,
    /// Bounds of the mempool.
    pub pool: PoolLimits,
    /// Judge of integer graphs for the modules.
    pub arbiter: Arc<dyn Arbiter>,
    /// Checker of proofs for the modules.
    pub proofs: Arc<dyn ProofVerifier>,
    /// Check all module invariants after each block.
    pub check_invariants: bool,
}

impl std::fmt::Debug for NodeConfig {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("NodeConfig")
            .field("data_dir", &self.data_dir)
            .field("block_mode", &self.block_mode)
            .field("rpc", &self.rpc)
            .field("check_invariants", &self.check_invariants)
            .finish_non_exhaustive()
    }
}

impl NodeConfig {
    /// A local network in `data_dir`: instant blocks, development methods, RPC on a free loopback port.
    pub fn local(
        data_dir: impl Into<PathBuf>,
        funded: &[Address],
        modules: GenesisParams,
        arbiter: Arc<dyn Arbiter>,
    ) -> Self {
        let mut config = Self::in_memory(funded, modules, arbiter);
        config.data_dir = Some(data_dir.into());
        config
    }

    /// As [`NodeConfig::local`], with nothing on disk.
    pub fn in_memory(
        funded: &[Address],
        modules: GenesisParams,
        arbiter: Arc<dyn Arbiter>,
    ) -> Self {
        let funded = funded.to_vec();
        Self {
            data_dir: None,
            genesis: Box::new(move |sequencer| Genesis::local(sequencer, &funded, modules)),
            block_mode: BlockMode::Instant,
            rpc: Some(RpcConfig {
                development: true,
                ..RpcConfig::default()
            }),
            pool: PoolLimits::default(),
            arbiter,
            proofs: Arc::new(GraphProofs::default()),
            check_invariants: false,
        }
    }
}

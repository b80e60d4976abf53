//! Opening a node.

use std::sync::Arc;

use assay_chain::{Chain, ChainConfig, Modules, Sequencer, Store};
use assay_rpc::{Api, serve};

use crate::directory::fresh_key;
use crate::{DataDirectory, NodeConfig, NodeError, NodeHandle};

/// Opens nodes.
#[derive(Debug)]
pub struct Node;

impl Node {
    /// Locks the directory, opens (or creates) the chain, starts the sequencer and the RPC server.
    ///
    /// Must be called inside a tokio runtime. After an unclean end the chain continues at its last durable block.
    ///
    /// # Errors
    /// [`NodeError`].
    pub async fn open(config: NodeConfig) -> Result<NodeHandle, NodeError> {
        let NodeConfig {
            data_dir,
            genesis,
            block_mode,
            rpc,
            pool,
            arbiter,
            proofs,
            check_invariants,
        } = config;
        let (directory, store, key) = match data_dir {
            Some(path) => {
                let directory = DataDirectory::open(&path)?;
                let store = Store::open(&directory.state_file())?;
                let key = directory.sealing_key()?;
                (Some(directory), store, key)
            }
            None => (None, Store::in_memory()?, fresh_key()?.0),
        };
        let config = ChainConfig {
            genesis: genesis(key.address()),
            key,
            pool,
            check_invariants,
        };
        let chain = Chain::open(store, Arc::new(Modules { arbiter, proofs }), config)?;
        let server = match rpc {
            None => None,
            Some(rpc) => {
                let address = rpc.address;
                let api = Arc::new(Api::new(Arc::clone(&chain), rpc));
                let server = serve(api)
                    .await
                    .map_err(|source| NodeError::Rpc { address, source })?;
                Some(server)
            }
        };
        let sequencer =
            Sequencer::start(Arc::clone(&chain), block_mode).map_err(NodeError::Thread)?;
        tracing::info!(
            target: "assay::node",
            chain_id = chain.chain_id(),
            number = chain.number(),
            sequencer = %chain.sequencer(),
            "node open"
        );
        Ok(NodeHandle::new(chain, sequencer, server, directory))
    }
}

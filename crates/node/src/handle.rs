//! A running node, for services in the same process.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use alloy_primitives::{Address, B256, Bytes, U256};
use assay_chain::{
    BlockRef, CallRequest, Chain, ChainError, ChainEvent, ExecutionError, PoolError, Sequencer,
    TransactionOutcome,
};
use assay_rpc::Server;
use assay_types::StoredReceipt;
use thiserror::Error;
use tokio::sync::broadcast;

use crate::{DataDirectory, NodeError};

/// Why a call or transaction in this process failed.
#[derive(Debug, Error)]
pub enum TransactionError {
    /// Not admitted to the pool.
    #[error(transparent)]
    Pool(#[from] PoolError),
    /// The chain or its database failed.
    #[error(transparent)]
    Chain(#[from] ChainError),
    /// The call could not start.
    #[error(transparent)]
    Execution(#[from] ExecutionError),
    /// The call reverted or halted.
    #[error("call reverted with {}", .0.output)]
    Reverted(Box<TransactionOutcome>),
}

/// Why no receipt came.
#[derive(Debug, Error)]
pub enum WaitError {
    /// Not admitted to the pool.
    #[error(transparent)]
    Pool(#[from] PoolError),
    /// The chain or its database failed.
    #[error(transparent)]
    Chain(#[from] ChainError),
    /// Not mined in time; it may be mined later.
    #[error("transaction {hash} was not mined within {waited:?}")]
    Timeout {
        /// Transaction.
        hash: B256,
        /// How long was waited.
        waited: Duration,
    },
}

/// A running node. Dropping it stops the sequencer; [`NodeHandle::shutdown`] also drains the server.
#[derive(Debug)]
pub struct NodeHandle {
    chain: Arc<Chain>,
    sequencer: Sequencer,
    server: Option<Server>,
    // Last, so that the lock outlives everything that writes.
    _directory: Option<DataDirectory>,
}

impl NodeHandle {
    pub(crate) const fn new(
        chain: Arc<Chain>,
        sequencer: Sequencer,
        server: Option<Server>,
        directory: Option<DataDirectory>,
    ) -> Self {
        Self {
            chain,
            sequencer,
            server,
            _directory: directory,
        }
    }

    /// The chain: submit, call, receipts, logs, proofs, subscriptions, clock.
    pub const fn chain(&self) -> &Arc<Chain> {
        &self.chain
    }

    /// Where RPC listens; `None` without a server.
    pub fn rpc_address(&self) -> Option<SocketAddr> {
        self.server.as_ref().map(Server::address)
    }

    /// URL for clients on this machine; empty without a server.
    pub fn rpc_url(&self) -> String {
        self.rpc_address()
            .map_or_else(String::new, |address| format!("http://{address}"))
    }

    /// Admits a signed transaction (EIP-2718 bytes) and waits until it is in a durable block.
    ///
    /// # Errors
    /// [`WaitError`].
    pub async fn send(&self, raw: Bytes, patience: Duration) -> Result<StoredReceipt, WaitError> {
        let mut events = self.chain.subscribe();
        let hash = self.chain.submit_local(raw)?;
        self.wait_on(&mut events, hash, patience).await
    }

    /// Waits until a transaction is in a durable block.
    ///
    /// # Errors
    /// [`WaitError`].
    pub async fn wait(&self, hash: B256, patience: Duration) -> Result<StoredReceipt, WaitError> {
        let mut events = self.chain.subscribe();
        self.wait_on(&mut events, hash, patience).await
    }

    async fn wait_on(
        &self,
        events: &mut broadcast::Receiver<ChainEvent>,
        hash: B256,
        patience: Duration,
    ) -> Result<StoredReceipt, WaitError> {
        let search = async {
            loop {
                if let Some(receipt) = self.chain.receipt(&hash)? {
                    return Ok(receipt);
                }
                // Any event, also a lag, is a reason to look again.
                while let Ok(ChainEvent::Pending(_)) = events.recv().await {}
            }
        };
        tokio::time::timeout(patience, search)
            .await
            .unwrap_or(Err(WaitError::Timeout {
                hash,
                waited: patience,
            }))
    }

    /// Calls a contract or module on the newest state; nothing is kept.
    ///
    /// # Errors
    /// [`TransactionError::Reverted`] with the revert data when the call fails.
    pub fn call(&self, from: Address, to: Address, data: Bytes) -> Result<Bytes, TransactionError> {
        let request = CallRequest {
            from,
            to: Some(to),
            gas: 60_000_000,
            value: U256::ZERO,
            data,
            ..CallRequest::default()
        };
        let outcome = self
            .chain
            .with_caller(BlockRef::Latest, |caller| caller.call(&request))?
            .ok_or_else(|| ChainError::Stopped("no newest block".into()))??;
        if outcome.result.success {
            Ok(outcome.result.output)
        } else {
            Err(TransactionError::Reverted(Box::new(outcome.result)))
        }
    }

    /// Moves the chain's clock forward and makes a block with the new time (development, tests, demonstrations).
    ///
    /// # Errors
    /// [`ChainError`].
    pub fn advance_time(&self, by: Duration) -> Result<(), ChainError> {
        let by = u64::try_from(by.as_millis()).unwrap_or(u64::MAX);
        self.chain.clock().advance_ms(by);
        self.chain.produce(true).map(|_| ())
    }

    /// Stops the server, finishes the block in progress and releases the directory.
    ///
    /// # Errors
    /// What made a part stop earlier, if anything.
    pub async fn shutdown(self) -> Result<(), NodeError> {
        let Self {
            chain,
            sequencer,
            server,
            _directory,
        } = self;
        if let Some(server) = server {
            let address = server.address();
            server
                .close()
                .await
                .map_err(|source| NodeError::Rpc { address, source })?;
        }
        sequencer.stop()?;
        drop(chain);
        Ok(())
    }
}

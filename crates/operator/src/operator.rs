//! The operator: models, ledger, chain, HTTP, all in one place.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::JoinHandle;

use alloy_primitives::B256;
use assay_receipt::Domain;
use assay_wallet::ChainClient;
use parking_lot::Mutex;
use tokio::sync::{Semaphore, watch};

use crate::in_flight::InFlight;
use crate::ledger::Ledger;
use crate::model::ModelRunner;
use crate::prover::{self, Prover};
use crate::{OperatorConfig, OperatorError, api, chain};

/// Longest wait for a proof that is being made when the operator stops.
const LAST_PROOF: std::time::Duration = std::time::Duration::from_secs(5);

/// What the HTTP threads and the chain thread share.
pub(crate) struct Shared {
    pub(crate) config: OperatorConfig,
    pub(crate) domain: Domain,
    pub(crate) client: ChainClient,
    pub(crate) models: BTreeMap<B256, Box<dyn ModelRunner>>,
    pub(crate) ledger: Mutex<Ledger>,
    pub(crate) running: Semaphore,
    pub(crate) waiting: AtomicUsize,
    pub(crate) stop: AtomicBool,
    pub(crate) in_flight: Arc<InFlight>,
    pub(crate) prover: Prover,
    /// Becomes true at the end: answers under way are given up.
    pub(crate) stopping: watch::Sender<bool>,
}

/// An operator that is ready to serve.
pub struct Operator {
    shared: Arc<Shared>,
}

impl Operator {
    /// Opens the data folder and asks the chain for its id. Blocks; nothing is served yet.
    ///
    /// # Errors
    /// [`OperatorError::Chain`], [`OperatorError::Disk`], [`OperatorError::DamagedLog`].
    pub fn open(
        config: OperatorConfig,
        models: Vec<Box<dyn ModelRunner>>,
    ) -> Result<Self, OperatorError> {
        let client = ChainClient::new(&config.chain_url);
        let domain = client.domain()?;
        let ledger = Ledger::open(&config.data_dir)?;
        let prover = Prover::new(&config.proofs, ledger.queued_proofs());
        let models = models.into_iter().map(|model| (model.model_id(), model));
        let shared = Shared {
            running: Semaphore::new(config.workers.max(1)),
            models: models.collect(),
            config,
            domain,
            client,
            ledger: Mutex::new(ledger),
            waiting: AtomicUsize::new(0),
            stop: AtomicBool::new(false),
            in_flight: Arc::default(),
            prover,
            stopping: watch::Sender::new(false),
        };
        Ok(Self {
            shared: Arc::new(shared),
        })
    }

    /// Listens, and starts the thread that settles and defends.
    ///
    /// # Errors
    /// [`OperatorError::Listen`].
    pub async fn start(self) -> Result<Running, OperatorError> {
        let shared = self.shared;
        let listen = |source| OperatorError::Listen {
            address: shared.config.listen.to_string(),
            source,
        };
        let listener = tokio::net::TcpListener::bind(shared.config.listen)
            .await
            .map_err(listen)?;
        let address = listener.local_addr().map_err(listen)?;
        let router = api::router(Arc::clone(&shared));
        let (stop_http, stopped) = tokio::sync::oneshot::channel::<()>();
        let http = tokio::spawn(async move {
            let wait = async {
                // A dropped sender stops the server as well.
                let _ = stopped.await;
            };
            let served = axum::serve(listener, router)
                .with_graceful_shutdown(wait)
                .await;
            if let Err(error) = served {
                tracing::error!(target: "assay::operator", %error, "http server ended");
            }
        });
        let worker = Arc::clone(&shared);
        let chain = std::thread::Builder::new()
            .name("operator-chain".into())
            .spawn(move || chain::follow(&worker))
            .map_err(|source| OperatorError::Listen {
                address: address.to_string(),
                source,
            })?;
        let prover = prover::start(&shared).map_err(listen)?;
        tracing::info!(target: "assay::operator", %address, models = shared.models.len(), "operator serves");
        Ok(Running {
            address,
            shared,
            stop_http: Some(stop_http),
            http: Some(http),
            chain: Some(chain),
            prover: Some(prover),
        })
    }
}

/// An operator that serves. Dropping it stops it.
pub struct Running {
    address: SocketAddr,
    shared: Arc<Shared>,
    stop_http: Option<tokio::sync::oneshot::Sender<()>>,
    http: Option<tokio::task::JoinHandle<()>>,
    chain: Option<JoinHandle<()>>,
    prover: Option<JoinHandle<()>>,
}

impl Running {
    /// Where it listens.
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// The URL to register as endpoint in `staking`.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Answers signed and not settled yet, and all answers that are kept.
    pub fn job_counts(&self) -> (usize, usize) {
        let ledger = self.shared.ledger.lock();
        let open = ledger
            .jobs()
            .filter(|(_, job)| job.state.settled_at().is_none());
        (open.count(), ledger.jobs().count())
    }

    /// Stops serving and waits until both threads have ended.
    pub async fn stop(mut self) {
        self.signal();
        if let Some(http) = self.http.take() {
            // The task ends by itself; an error would only say that it was cancelled.
            let _ = http.await;
        }
        if let Some(chain) = self.chain.take() {
            let _ = tokio::task::spawn_blocking(move || chain.join()).await;
        }
        // A long proof is not waited for: its thread notes nothing any more, and the next start makes it anew.
        if let Some(prover) = self.prover.take() {
            let begin = std::time::Instant::now();
            while !prover.is_finished() && begin.elapsed() < LAST_PROOF {
                tokio::time::sleep(std::time::Duration::from_millis(20)).await;
            }
        }
    }

    fn signal(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        self.shared.stopping.send_replace(true);
        drop(self.stop_http.take());
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.signal();
    }
}

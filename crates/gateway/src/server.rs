//! The gateway: what handlers share, how it starts and stops.

use std::collections::{HashMap, HashSet};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;

use assay_receipt::Domain;
use assay_wallet::ChainClient;
use tokio::sync::watch;

use crate::buy::Memory;
use crate::lang::upstream::Upstream;
use crate::metrics::Metrics;
use crate::operators::Operators;
use crate::receipts::Receipts;
use crate::{Account, GatewayConfig, GatewayError, HttpError, ModelCodec, http, names};

pub(crate) struct Shared {
    pub(crate) config: GatewayConfig,
    pub(crate) domain: Domain,
    pub(crate) client: ChainClient,
    pub(crate) agent: ureq::Agent,
    pub(crate) upstream: Upstream,
    pub(crate) accounts: HashMap<String, Account>,
    pub(crate) receipts: Receipts,
    pub(crate) operators: Operators,
    pub(crate) memory: Memory,
    pub(crate) metrics: Metrics,
    pub(crate) waiting: AtomicUsize,
    /// Becomes true when the gateway stops.
    pub(crate) stopping: watch::Sender<bool>,
}

impl Shared {
    /// The model called `name`, by its name or its id.
    pub(crate) fn model(&self, name: &str) -> Result<Arc<dyn ModelCodec>, HttpError> {
        let named = |model: &&Arc<dyn ModelCodec>| {
            model.name() == name || model.model_id().to_string() == name
        };
        if let Some(model) = self.config.models.iter().find(named) {
            return Ok(Arc::clone(model));
        }
        let near = names::nearest(name, self.config.models.iter().map(|model| model.name()));
        let shown: String = name.chars().take(80).collect();
        Err(HttpError::ModelNotFound(if near.is_empty() {
            format!("no model `{shown}`; this gateway offers none")
        } else {
            format!("no model `{shown}`; near names: {}", near.join(", "))
        }))
    }
}

/// A gateway that is ready to serve.
pub struct Gateway {
    shared: Arc<Shared>,
}

fn check_names(config: &GatewayConfig) -> Result<HashMap<String, Account>, GatewayError> {
    let allowed = |byte: u8| {
        byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-' || byte == b'_'
    };
    let twice = |what, name: &str| GatewayError::Twice {
        what,
        name: name.to_owned(),
    };
    let mut names = HashSet::new();
    let mut keys = HashMap::new();
    for account in config.accounts.iter().chain(&config.anonymous) {
        let name = &account.name;
        if name.is_empty() || name.len() > 64 || !name.bytes().all(allowed) {
            return Err(GatewayError::AccountName(name.clone()));
        }
    }
    for account in &config.accounts {
        if !names.insert(account.name.clone()) {
            return Err(twice("account", &account.name));
        }
        if keys
            .insert(account.api_key.clone(), account.clone())
            .is_some()
        {
            return Err(twice("API key of account", &account.name));
        }
    }
    let mut models = HashSet::new();
    match config
        .models
        .iter()
        .find(|model| !models.insert(model.name().to_owned()))
    {
        Some(model) => Err(twice("model", model.name())),
        None => Ok(keys),
    }
}

impl Gateway {
    /// Opens the data folder and asks the chain for its id. Blocks; nothing is served yet.
    ///
    /// # Errors
    /// [`GatewayError`].
    pub fn open(config: GatewayConfig) -> Result<Self, GatewayError> {
        let accounts = check_names(&config)?;
        let client = ChainClient::new(&config.chain_url);
        let domain = client.domain()?;
        let receipts = Receipts::open(config.data_dir.join("receipts"))?;
        let agent = ureq::Agent::config_builder()
            .timeout_global(Some(config.operator_timeout))
            .http_status_as_error(false)
            .max_redirects(0)
            .build()
            .new_agent();
        let shared = Shared {
            operators: Operators::new(config.refresh),
            config,
            domain,
            client,
            agent,
            upstream: Upstream::new(),
            accounts,
            receipts,
            memory: Memory::default(),
            metrics: Metrics::new(),
            waiting: AtomicUsize::new(0),
            stopping: watch::Sender::new(false),
        };
        Ok(Self {
            shared: Arc::new(shared),
        })
    }

    /// Listens and serves.
    ///
    /// # Errors
    /// [`GatewayError::Listen`].
    pub async fn start(self) -> Result<Running, GatewayError> {
        let listen = |source| GatewayError::Listen {
            address: self.shared.config.listen.to_string(),
            source,
        };
        let listener = tokio::net::TcpListener::bind(self.shared.config.listen)
            .await
            .map_err(listen)?;
        let address = listener.local_addr().map_err(listen)?;
        let router = http::router(Arc::clone(&self.shared));
        let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
        let shared = self.shared;
        let server = tokio::spawn(async move {
            let wait = async move {
                // A dropped sender stops the server as well.
                let _ = stopped.await;
                // Answers may take minutes: they end now, the server waits for connections only.
                shared.stopping.send_replace(true);
            };
            if let Err(error) = axum::serve(listener, router)
                .with_graceful_shutdown(wait)
                .await
            {
                tracing::error!(target: "assay::gateway", %error, "http server ended");
            }
        });
        tracing::info!(target: "assay::gateway", %address, "gateway serves");
        Ok(Running {
            address,
            stop: Some(stop),
            server: Some(server),
        })
    }
}

/// A gateway that serves. Dropping it stops it.
pub struct Running {
    address: SocketAddr,
    stop: Option<tokio::sync::oneshot::Sender<()>>,
    server: Option<tokio::task::JoinHandle<()>>,
}

impl Running {
    /// Where it listens.
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Base URL for clients, with `/v1`.
    pub fn base_url(&self) -> String {
        format!("http://{}/v1", self.address)
    }

    /// Stops serving. Answers of language models under way end with an error, other calls are waited for.
    pub async fn stop(mut self) {
        drop(self.stop.take());
        if let Some(server) = self.server.take() {
            // The task ends by itself; an error would only say that it was cancelled.
            let _ = server.await;
        }
    }
}

//! A whole network in one process, as `up` and `demo` run it, and the parts that single commands share.

use std::{collections::HashMap, net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};

use alloy_primitives::{Address, U256};
use assay_abi::{IModels, IStaking, MODELS, STAKING};
use assay_node::{BlockMode, GenesisParams, GraphArbiter, NodeConfig, RpcConfig};
use assay_wallet::{ChainClient, Key, dev_key};

use crate::local::Loaded;

/// usd that each development account starts with, base units.
const DEV_USD: u128 = 1_000_000_000_000;

/// Who is who among the development accounts.
#[derive(Clone, Debug)]
pub(crate) struct Cast {
    /// Registers models and earns the maker's part.
    pub(crate) maker: Key,
    /// Serves honestly.
    pub(crate) operator: Key,
    /// Stake on models.
    pub(crate) stakers: [Key; 2],
    /// Asks.
    pub(crate) buyer: Key,
    /// Replays and challenges.
    pub(crate) watcher: Key,
    /// Serves something else than what is registered (demo only).
    pub(crate) cheater: Key,
    /// Receives the treasury's part of fees.
    pub(crate) treasury: Address,
    /// Signs receipts of the operator.
    pub(crate) operator_receipts: Key,
    /// Signs receipts of the cheater.
    pub(crate) cheater_receipts: Key,
}

impl Cast {
    /// # Errors
    /// Never in practice: the phrase is a constant.
    pub(crate) fn new() -> anyhow::Result<Self> {
        Ok(Self {
            maker: dev_key(0)?,
            operator: dev_key(1)?,
            stakers: [dev_key(2)?, dev_key(3)?],
            buyer: dev_key(4)?,
            watcher: dev_key(5)?,
            cheater: dev_key(6)?,
            treasury: dev_key(7)?.address(),
            operator_receipts: dev_key(8)?,
            cheater_receipts: dev_key(9)?,
        })
    }

    /// Role and address of every account, in the order of their index.
    pub(crate) fn roles(&self) -> [(&'static str, Address); 10] {
        [
            ("maker", self.maker.address()),
            ("operator", self.operator.address()),
            ("staker", self.stakers[0].address()),
            ("staker", self.stakers[1].address()),
            ("buyer", self.buyer.address()),
            ("watcher", self.watcher.address()),
            ("second operator", self.cheater.address()),
            ("treasury", self.treasury),
            ("receipt key", self.operator_receipts.address()),
            ("receipt key", self.cheater_receipts.address()),
        ]
    }
}

/// How a local chain is opened.
#[derive(Debug)]
pub(crate) struct ChainOptions {
    pub(crate) data: Option<PathBuf>,
    pub(crate) rpc: SocketAddr,
    pub(crate) check_invariants: bool,
}

/// Longest time without a block. Receipts are dated by the newest block and have to be on the chain soon after: on a chain that stood still for a
/// minute of thinking, the next one would be late before it is sent.
const HEARTBEAT: Duration = Duration::from_secs(10);

/// Configuration of a local chain: development genesis, blocks on demand and a heartbeat.
///
/// # Errors
/// As [`Cast::new`].
pub(crate) fn chain_config(options: ChainOptions) -> anyhow::Result<NodeConfig> {
    let cast = Cast::new()?;
    let funded: Vec<Address> = cast.roles().iter().map(|(_, address)| *address).collect();
    let mut modules = GenesisParams::dev();
    modules.treasury = cast.treasury;
    modules.usd = funded.iter().map(|address| (*address, DEV_USD)).collect();
    let mut config = NodeConfig::in_memory(&funded, modules, Arc::new(GraphArbiter));
    config.data_dir = options.data;
    config.block_mode = BlockMode::Timer {
        delay: Duration::ZERO,
        heartbeat: Some(HEARTBEAT),
    };
    config.check_invariants = options.check_invariants;
    config.rpc = Some(RpcConfig {
        address: options.rpc,
        development: true,
        version: format!("assay/{}", env!("CARGO_PKG_VERSION")),
        ..RpcConfig::default()
    });
    Ok(config)
}

/// A runtime for the services; commands' own code stays on the main thread.
///
/// # Errors
/// When threads can't be started.
pub(crate) fn runtime() -> std::io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(4)
        .enable_all()
        .build()
}

/// Waits for Ctrl-C or SIGTERM.
pub(crate) async fn until_interrupted() {
    let interrupt = tokio::signal::ctrl_c();
    #[cfg(unix)]
    {
        use tokio::signal::unix::{SignalKind, signal};
        match signal(SignalKind::terminate()) {
            Ok(mut terminate) => {
                tokio::select! { _ = interrupt => {}, _ = terminate.recv() => {} }
            }
            Err(_) => drop(interrupt.await),
        }
    }
    #[cfg(not(unix))]
    drop(interrupt.await);
}

/// The operator's entry, if it is registered.
///
/// # Errors
/// Those of the chain's client.
pub(crate) fn operator(
    chain: &ChainClient,
    account: Address,
) -> anyhow::Result<Option<IStaking::Operator>> {
    match chain.call(STAKING, &IStaking::operatorCall { account }) {
        Ok(known) => Ok(Some(known)),
        Err(e) if e.module_error() == Some("UnknownOperator") => Ok(None),
        Err(e) => Err(e.into()),
    }
}

/// Bonds `amount` and registers receipt key and endpoint; when the operator is registered already, only moves a changed endpoint.
///
/// # Errors
/// Those of the chain's client.
pub(crate) fn enrol(
    chain: &ChainClient,
    key: &Key,
    receipts: &Key,
    endpoint: &str,
    amount: U256,
) -> anyhow::Result<bool> {
    let endpoint = endpoint.to_owned();
    match operator(chain, key.address())? {
        Some(known) if known.endpoint == endpoint => Ok(false),
        Some(_) => {
            chain.send(key, STAKING, &IStaking::setEndpointCall { endpoint })?;
            Ok(false)
        }
        None => {
            let call = IStaking::registerCall {
                receiptKey: receipts.address(),
                endpoint,
            };
            chain.send_value(key, STAKING, &call, amount)?;
            Ok(true)
        }
    }
}

/// Registers a model unless it is on the chain already.
///
/// # Errors
/// Those of the chain's client.
pub(crate) fn register_model(
    chain: &ChainClient,
    maker: &Key,
    graph: &assay_graph::Graph,
    name: &str,
    price: u128,
    uri: &str,
) -> anyhow::Result<bool> {
    let identity = graph.identity();
    if chain.call(
        MODELS,
        &IModels::existsCall {
            modelId: identity.model_id.into(),
        },
    )? {
        return Ok(false);
    }
    let call = IModels::registerCall {
        structure: graph.structure().to_bytes().into(),
        tablesRoot: identity.tables_root.into(),
        weightsRoot: identity.weights_root.into(),
        name: name.to_owned(),
        price,
        uri: uri.to_owned(),
    };
    chain.send(maker, MODELS, &call)?;
    Ok(true)
}

/// The services of a local network around an open chain. Stops them in order when asked to.
pub(crate) struct Services {
    pub(crate) chain: ChainClient,
    pub(crate) cast: Cast,
    pub(crate) dir: PathBuf,
    operators: Vec<assay_operator::Running>,
    /// Where operators of a name listened: one that comes back is found again.
    addresses: HashMap<String, SocketAddr>,
    watcher: Option<assay_watcher::Running>,
    gateway: Option<assay_gateway::Running>,
}

/// Challenge window of a local network's receipts, seconds.
pub(crate) const WINDOW: u32 = 600;
/// API key of the local network's buyer.
pub(crate) const API_KEY: &str = "dev";

impl Services {
    /// # Errors
    /// As [`Cast::new`].
    pub(crate) fn new(rpc: &str, dir: PathBuf) -> anyhow::Result<Self> {
        Ok(Self {
            chain: ChainClient::new(rpc),
            cast: Cast::new()?,
            dir,
            operators: Vec::new(),
            addresses: HashMap::new(),
            watcher: None,
            gateway: None,
        })
    }

    /// Starts an operator and bonds its stake. Returns its URL.
    ///
    /// # Errors
    /// Those of the operator and of the chain's client.
    pub(crate) async fn add_operator(
        &mut self,
        name: &str,
        operator: &Key,
        receipts: &Key,
        runners: Vec<Box<dyn assay_operator::ModelRunner>>,
        bond: U256,
    ) -> anyhow::Result<String> {
        let mut config = assay_operator::OperatorConfig::new(
            self.dir.join(name),
            self.chain.url(),
            operator.clone(),
            receipts.clone(),
        );
        config.window = WINDOW;
        config.poll = Duration::from_millis(100);
        if let Some(address) = self.addresses.get(name) {
            config.listen = *address;
        }
        let running = assay_operator::Operator::open(config, runners)?
            .start()
            .await?;
        let url = running.url();
        if let Ok(address) = url.trim_start_matches("http://").parse() {
            self.addresses.insert(name.to_owned(), address);
        }
        self.operators.push(running);
        enrol(&self.chain, operator, receipts, &url, bond)?;
        Ok(url)
    }

    /// Stops the operator that was started first.
    pub(crate) async fn stop_first_operator(&mut self) {
        if !self.operators.is_empty() {
            self.operators.remove(0).stop().await;
        }
    }

    /// Starts the watcher over `models`; its events go to `events`.
    ///
    /// # Errors
    /// Those of the watcher.
    pub(crate) fn start_watcher(
        &mut self,
        models: Vec<assay_import::Model>,
        events: Option<std::sync::mpsc::Sender<assay_watcher::WatcherEvent>>,
    ) -> anyhow::Result<()> {
        let mut config = assay_watcher::WatcherConfig::new(
            self.dir.join("watcher"),
            self.chain.url(),
            self.cast.watcher.clone(),
            Arc::new(Loaded(models)),
        );
        config.poll = Duration::from_millis(100);
        self.watcher = Some(assay_watcher::Watcher::open(config, events)?.start()?);
        Ok(())
    }

    /// Starts the gateway on `listen`. Returns its base URL, with `/v1`.
    ///
    /// # Errors
    /// Those of the gateway.
    pub(crate) async fn start_gateway(
        &mut self,
        listen: SocketAddr,
        models: Vec<Arc<dyn assay_gateway::ModelCodec>>,
    ) -> anyhow::Result<String> {
        let mut config =
            assay_gateway::GatewayConfig::new(self.dir.join("gateway"), self.chain.url());
        let account = assay_gateway::Account {
            name: "buyer".into(),
            api_key: API_KEY.into(),
            key: self.cast.buyer.clone(),
        };
        config.listen = listen;
        config.models = models;
        config.accounts = vec![account.clone()];
        config.anonymous = Some(account);
        config.window = WINDOW;
        config.refresh = std::time::Duration::from_secs(1);
        let running = assay_gateway::Gateway::open(config)?.start().await?;
        let url = running.base_url();
        self.gateway = Some(running);
        Ok(url)
    }

    /// Stops gateway, operators and watcher, in this order, and waits for them.
    pub(crate) async fn stop(mut self) {
        if let Some(gateway) = self.gateway.take() {
            gateway.stop().await;
        }
        for operator in self.operators.drain(..) {
            operator.stop().await;
        }
        if let Some(watcher) = self.watcher.take() {
            let _ = tokio::task::spawn_blocking(move || watcher.stop()).await;
        }
    }
}

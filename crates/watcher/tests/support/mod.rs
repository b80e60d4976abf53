//! A network in this process: node, registered model, operator (honest or not), buyer.
#![allow(dead_code, reason = "each test binary uses a part")]

pub mod language;

use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use alloy_primitives::{B256, Bytes, U256};
use assay_abi::{CLAIMS, IClaims, IModels, IStaking, MODELS, STAKING};
use assay_engine::EngineOptions;
use assay_graph::{DType, Dim, Graph, GraphBuilder, Header, Op, Requant, TensorType, WeightRow};
use assay_node::{GenesisParams, GraphArbiter, Node, NodeConfig, NodeHandle};
use assay_operator::{
    Fault, FaultyModel, HonestModel, ModelRunner, Operator, OperatorConfig, RunRequest,
    RunResponse, Running,
};
use assay_receipt::{Domain, Request, Salt, input_commit, line_id};
use assay_wallet::{ChainClient, Key, dev_key};
use assay_watcher::{Watcher, WatcherConfig, WatcherEvent};

pub const PRICE: u128 = 2_000;
pub const SALT: B256 = B256::repeat_byte(0x33);

/// Seeded numbers for weights.
pub struct Rng(pub u64);

impl Rng {
    pub fn range(&mut self, low: i32, high: i32) -> i32 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        let next = self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33;
        low + (next % (high - low + 1) as u64) as i32
    }
}

fn requant(dtype: DType) -> Requant {
    let (lo, hi) = match dtype {
        DType::I8 => (-127, 127),
        _ => (-32_767, 32_767),
    };
    Requant {
        shift: 0,
        dtype,
        lo,
        hi,
    }
}

fn rows(rng: &mut Rng, rows: usize, cols: usize) -> Vec<WeightRow> {
    let row = |rng: &mut Rng| WeightRow {
        shift: 7,
        bias: rng.range(-500, 500),
        values: (0..cols).map(|_| rng.range(-60, 60)).collect(),
    };
    (0..rows).map(|_| row(rng)).collect()
}

/// `[seq, 64]` to `[seq, 16]` over a hidden layer of `hidden` values.
///
/// With `every` false only the first hidden layer and the ends are checkpoints, so the second half is one segment.
pub fn perceptron(seed: u64, hidden: usize, max_seq: u32, every: bool) -> Arc<Graph> {
    let mut rng = Rng(seed);
    let mut builder = GraphBuilder::new(Header {
        max_seq,
        block_bits: 10,
    });
    let shape = vec![Dim::Seq, Dim::Fixed(64)];
    let input = TensorType {
        dtype: DType::I8,
        shape,
        lo: -128,
        hi: 127,
    };
    let x = builder.input(input).unwrap();
    let weights = builder
        .weights(DType::I8, &rows(&mut rng, hidden, 64))
        .unwrap();
    let out = requant(DType::I16);
    let x = builder
        .push("up", Op::Linear { weights, out }, &[x], true)
        .unwrap();
    let out = Requant {
        shift: 3,
        ..requant(DType::I8)
    };
    let x = builder
        .push("narrow", Op::Requant { out }, &[x], every)
        .unwrap();
    let relu: Vec<i32> = (-128..128).map(|v: i32| v.max(v / 8)).collect();
    let table = builder.table(DType::I8, &relu).unwrap();
    let x = builder
        .push("act", Op::Lookup { table }, &[x], every)
        .unwrap();
    let weights = builder
        .weights(DType::I8, &rows(&mut rng, 16, hidden))
        .unwrap();
    let out = requant(DType::I8);
    builder
        .push("down", Op::Linear { weights, out }, &[x], true)
        .unwrap();
    Arc::new(builder.finish().unwrap())
}

/// Canonical input of `positions` rows.
pub fn input(seed: u64, positions: usize) -> Vec<u8> {
    let mut rng = Rng(seed);
    (0..positions * 64)
        .map(|_| rng.range(-100, 100) as i8 as u8)
        .collect()
}

pub struct Network {
    pub node: NodeHandle,
    pub client: ChainClient,
    pub domain: Domain,
    pub graph: Arc<Graph>,
    pub operator_key: Key,
    pub buyer: Key,
    pub watcher_key: Key,
    pub operator: Option<Running>,
    pub folder: tempfile::TempDir,
}

pub fn block<T>(work: impl FnOnce() -> T) -> T {
    tokio::task::block_in_place(work)
}

impl Network {
    pub async fn start(graph: Arc<Graph>, fault: Option<Fault>) -> Self {
        let options = EngineOptions::default();
        let model: Box<dyn ModelRunner> = match fault {
            None => Box::new(HonestModel::new(Arc::clone(&graph), options).unwrap()),
            Some(fault) => Box::new(FaultyModel::new(&graph, fault, options).unwrap()),
        };
        Self::with_model(graph, model, |_| ()).await
    }

    pub async fn with_model(
        graph: Arc<Graph>,
        model: Box<dyn ModelRunner>,
        change: impl FnOnce(&mut OperatorConfig),
    ) -> Self {
        let keys: Vec<Key> = (0..5).map(|index| dev_key(index).unwrap()).collect();
        let funded: Vec<_> = keys.iter().map(Key::address).collect();
        let buyer = keys[1].clone();
        let mut modules = GenesisParams::dev();
        modules.usd = vec![(buyer.address(), 1_000_000_000)];
        let config = NodeConfig::in_memory(&funded, modules, Arc::new(GraphArbiter));
        let node = Node::open(config).await.unwrap();
        let client = ChainClient::new(node.rpc_url());
        let folder = tempfile::tempdir().unwrap();
        let mut network = Self {
            domain: block(|| client.domain().unwrap()),
            node,
            client,
            graph,
            operator_key: keys[2].clone(),
            buyer,
            watcher_key: keys[3].clone(),
            operator: None,
            folder,
        };
        network.serve(model, change).await;
        block(|| network.register(&keys[4]));
        network
    }

    pub async fn start_operator(&mut self, fault: Option<Fault>) {
        let options = EngineOptions::default();
        let model: Box<dyn ModelRunner> = match fault {
            None => Box::new(HonestModel::new(Arc::clone(&self.graph), options).unwrap()),
            Some(fault) => Box::new(FaultyModel::new(&self.graph, fault, options).unwrap()),
        };
        self.serve(model, |_| ()).await;
    }

    pub async fn serve(
        &mut self,
        model: Box<dyn ModelRunner>,
        change: impl FnOnce(&mut OperatorConfig),
    ) {
        let mut config = OperatorConfig::new(
            self.folder.path().join("operator"),
            self.node.rpc_url(),
            self.operator_key.clone(),
            Key::from_bytes([0x77; 32]).unwrap(),
        );
        config.poll = Duration::from_millis(20);
        change(&mut config);
        let operator = block(|| Operator::open(config, vec![model])).unwrap();
        self.operator = Some(operator.start().await.unwrap());
    }

    fn register(&self, maker: &Key) {
        let trees = assay_graph::identity::ConstTrees::new(self.graph.consts());
        let call = IModels::registerCall {
            structure: self.graph.structure().to_bytes().into(),
            tablesRoot: trees.tables_root().into(),
            weightsRoot: trees.weights_root().into(),
            name: "test".into(),
            price: PRICE,
            uri: String::new(),
        };
        self.client.send(maker, MODELS, &call).unwrap();
        let call = IStaking::registerCall {
            receiptKey: Key::from_bytes([0x77; 32]).unwrap().address(),
            endpoint: self.operator.as_ref().unwrap().url(),
        };
        let bond = U256::from(1_000u64) * U256::from(10u64).pow(U256::from(18));
        self.client
            .send_value(&self.operator_key, STAKING, &call, bond)
            .unwrap();
        let call = IClaims::depositCall {
            amount: U256::from(100_000_000),
        };
        self.client.send(&self.buyer, CLAIMS, &call).unwrap();
    }

    /// A signed request as a buyer makes it.
    pub fn request(&self, seq: u64, input: &[u8]) -> RunRequest {
        let request = Request {
            version: 1,
            line_id: line_id(self.operator_key.address(), self.buyer.address()),
            seq,
            model_id: self.graph.model_id().into(),
            semantics: 1,
            input_commit: input_commit(SALT, input),
            sampling_hash: B256::ZERO,
            max_out: 1,
            max_fee: PRICE,
            value_at_risk: 1_000_000,
            tier_mask: 2,
            audit_ppm: 80_000,
            window: 600,
            expiry: self.client.chain_seconds().unwrap() + 600,
        };
        RunRequest {
            model_id: request.model_id,
            input: Bytes::copy_from_slice(input),
            salt: Salt(SALT),
            request_signature: request.sign(&self.domain, self.buyer.receipt_key()),
            request,
        }
    }

    /// Status and body of `POST /v1/run`.
    pub fn run(&self, body: &RunRequest) -> (u16, serde_json::Value) {
        self.post(&serde_json::to_value(body).unwrap())
    }

    pub fn post(&self, body: &serde_json::Value) -> (u16, serde_json::Value) {
        let url = format!("{}/v1/run", self.operator.as_ref().unwrap().url());
        let agent = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .build()
            .new_agent();
        let mut response = agent.post(&url).send_json(body).unwrap();
        let status = response.status().as_u16();
        let text = response.body_mut().read_to_string().unwrap();
        (
            status,
            serde_json::from_str(&text).unwrap_or(serde_json::Value::String(text)),
        )
    }

    pub fn health(&self) -> serde_json::Value {
        let url = format!("{}/health", self.operator.as_ref().unwrap().url());
        let mut response = ureq::get(&url).call().unwrap();
        serde_json::from_str(&response.body_mut().read_to_string().unwrap()).unwrap()
    }

    /// Asks, and checks the answer as a buyer would.
    pub fn ask(&self, seq: u64, input: &[u8]) -> RunResponse {
        let body = self.request(seq, input);
        let (status, answer) = self.run(&body);
        assert_eq!(status, 200, "{answer}");
        let answer: RunResponse = serde_json::from_value(answer).unwrap();
        answer.receipt.check_answers(&body.request).unwrap();
        assert_eq!(answer.claim_id, answer.receipt.claim_id());
        answer
    }

    pub fn claim(&self, claim_id: B256) -> IClaims::Claim {
        self.client
            .call(CLAIMS, &IClaims::claimCall { claimId: claim_id })
            .unwrap()
    }

    /// Waits until the claim is in one of `states`, at most half a minute.
    #[track_caller]
    pub fn wait_for(&self, claim_id: B256, states: &[u8]) -> IClaims::Claim {
        let start = Instant::now();
        loop {
            let call = IClaims::claimCall { claimId: claim_id };
            if let Ok(claim) = self.client.call(CLAIMS, &call)
                && states.contains(&claim.state)
            {
                return claim;
            }
            assert!(
                start.elapsed() < Duration::from_secs(30),
                "claim {claim_id} is not in {states:?}"
            );
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    pub fn watcher(&self, one_shot: bool) -> (Watcher, Receiver<WatcherEvent>) {
        self.watcher_with(|config| config.one_shot = one_shot)
    }

    pub fn watcher_with(
        &self,
        change: impl FnOnce(&mut WatcherConfig),
    ) -> (Watcher, Receiver<WatcherEvent>) {
        let models = Arc::new(vec![Arc::clone(&self.graph)]);
        let mut config = WatcherConfig::new(
            self.folder.path().join("watcher"),
            self.node.rpc_url(),
            self.watcher_key.clone(),
            models,
        );
        config.poll = Duration::from_millis(20);
        change(&mut config);
        let (sender, receiver) = channel();
        (Watcher::open(config, Some(sender)).unwrap(), receiver)
    }

    pub fn wei(&self, key: &Key) -> U256 {
        self.client.balance(key.address()).unwrap()
    }

    pub fn escrow(&self, key: &Key) -> U256 {
        self.client
            .call(
                CLAIMS,
                &IClaims::balanceOfCall {
                    buyer: key.address(),
                },
            )
            .unwrap()
    }
}

/// Names of the moves that were made, in order.
pub fn moves(events: &Receiver<WatcherEvent>) -> Vec<&'static str> {
    let moves = events.try_iter().filter_map(|event| match event {
        WatcherEvent::Moved { call, .. } => Some(call),
        _ => None,
    });
    moves.collect()
}

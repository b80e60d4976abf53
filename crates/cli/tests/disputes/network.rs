//! One chain, one lying operator, one buyer, one watcher; and what became of each claim, read from the chain.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use alloy_primitives::{B256, Bytes, U256};
use alloy_sol_types::{SolCall, SolEvent};
use assay_abi::{CLAIMS, DISPUTES, IClaims, IDisputes, IModels, IStaking, MODELS, STAKING};
use assay_graph::Graph;
use assay_node::{GenesisParams, GraphArbiter, Node, NodeConfig, NodeHandle};
use assay_operator::{ModelRunner, Operator, OperatorConfig, RunRequest, RunResponse};
use assay_receipt::{Domain, Request, Salt, input_commit, line_id};
use assay_wallet::{ChainClient, Key, LogFilter, dev_key};
use assay_watcher::{Watcher, WatcherConfig, WatcherEvent};
use serde_json::{Value, json};

use crate::lies::{Lie, SALT};

pub const PRICE: u128 = 2_000;
const ASSERTED: u8 = 1;
const REJECTED: u8 = 4;
/// Longest time for one batch of lies.
const PATIENCE: Duration = Duration::from_secs(120);

pub struct Network {
    node: NodeHandle,
    client: ChainClient,
    domain: Domain,
    operator_key: Key,
    receipt_key: Key,
    buyer: Key,
    watcher_key: Key,
    models: Arc<Vec<Arc<Graph>>>,
    operator: assay_operator::Running,
    watcher: Option<(assay_watcher::Running, Receiver<WatcherEvent>)>,
    next: u64,
    folder: tempfile::TempDir,
}

/// How a claim fell.
#[derive(Clone, Debug, Default)]
pub struct Fall {
    /// Successful calls of both sides after the challenge, in order.
    pub moves: Vec<&'static str>,
    /// Bytes of the evidence that decided.
    pub evidence: usize,
}

impl Fall {
    /// How the committed tree was walked, then how the segment's was: `flat` or `descent`; or `one shot`, `timeout`.
    pub fn form(&self) -> String {
        let way = |moves: &[&'static str]| {
            let known = [
                ("timeout", "timeout"),
                ("proveBlock", "one shot"),
                ("reveal", "descent"),
            ];
            let found = known.iter().find(|(call, _)| moves.contains(call));
            found.map_or("flat", |(_, word)| *word)
        };
        match self.moves.iter().position(|call| *call == "segment") {
            None => way(&self.moves).to_owned(),
            Some(at) => {
                let (tree, segment) = self.moves.split_at(at);
                format!("{}, segment {}", way(tree), way(segment))
            }
        }
    }
}

impl Network {
    pub async fn start(
        graphs: Vec<(Arc<Graph>, &str)>,
        runners: Vec<Box<dyn ModelRunner>>,
    ) -> Self {
        let keys: Vec<Key> = (0..6).map(|index| dev_key(index).unwrap()).collect();
        let funded: Vec<_> = keys.iter().map(Key::address).collect();
        let [maker, buyer, operator_key, watcher_key, receipt_key, _] =
            <[Key; 6]>::try_from(keys).unwrap();
        let mut modules = GenesisParams::dev();
        modules.usd = vec![(buyer.address(), 1_000_000_000)];
        let mut config = NodeConfig::in_memory(&funded, modules, Arc::new(GraphArbiter));
        config.check_invariants = true;
        let node = Node::open(config).await.unwrap();
        let client = ChainClient::new(node.rpc_url());
        let folder = tempfile::tempdir().unwrap();
        let mut config = OperatorConfig::new(
            folder.path().join("operator"),
            node.rpc_url(),
            operator_key.clone(),
            receipt_key.clone(),
        );
        config.poll = Duration::from_millis(10);
        let operator = block(|| Operator::open(config, runners)).unwrap();
        let network = Self {
            domain: block(|| client.domain().unwrap()),
            operator: operator.start().await.unwrap(),
            node,
            client,
            operator_key,
            receipt_key,
            buyer,
            watcher_key,
            models: Arc::new(graphs.iter().map(|(graph, _)| Arc::clone(graph)).collect()),
            watcher: None,
            next: 1,
            folder,
        };
        block(|| network.register(&maker, &graphs));
        network
    }

    fn register(&self, maker: &Key, graphs: &[(Arc<Graph>, &str)]) {
        for (graph, name) in graphs {
            let identity = graph.identity();
            let call = IModels::registerCall {
                structure: graph.structure().to_bytes().into(),
                tablesRoot: identity.tables_root.into(),
                weightsRoot: identity.weights_root.into(),
                name: (*name).into(),
                price: PRICE,
                uri: String::new(),
            };
            self.client.send(maker, MODELS, &call).unwrap();
        }
        let call = IStaking::registerCall {
            receiptKey: self.receipt_key.address(),
            endpoint: self.operator.url(),
        };
        let bond = U256::from(100_000u64) * U256::from(10u64).pow(U256::from(18));
        self.client
            .send_value(&self.operator_key, STAKING, &call, bond)
            .unwrap();
        let call = IClaims::depositCall {
            amount: U256::from(100_000_000),
        };
        self.client.send(&self.buyer, CLAIMS, &call).unwrap();
    }

    /// Lets a watcher loose; the one before goes home. The new one goes on where the old one was.
    pub fn watch(&mut self, one_shot: bool) {
        self.unwatch();
        let mut config = WatcherConfig::new(
            self.folder.path().join("watcher"),
            self.node.rpc_url(),
            self.watcher_key.clone(),
            Arc::clone(&self.models) as _,
        );
        config.poll = Duration::from_millis(10);
        config.one_shot = one_shot;
        let (sender, events) = channel();
        let running = Watcher::open(config, Some(sender))
            .unwrap()
            .start()
            .unwrap();
        self.watcher = Some((running, events));
    }

    pub fn unwatch(&mut self) {
        if let Some((running, _)) = self.watcher.take() {
            running.stop();
        }
    }

    pub async fn stop(mut self) {
        block(|| self.unwatch());
        self.operator.stop().await;
        self.node.shutdown().await.unwrap();
    }

    /// A signed request to the operator, as a buyer sends it; the answer is checked as a buyer would.
    fn ask(&mut self, lie: &Lie) -> B256 {
        let request = Request {
            version: 1,
            line_id: line_id(self.operator_key.address(), self.buyer.address()),
            seq: self.next,
            model_id: lie.model,
            semantics: 1,
            input_commit: input_commit(SALT, &lie.input),
            sampling_hash: B256::ZERO,
            max_out: 1,
            max_fee: PRICE,
            value_at_risk: 1_000_000,
            tier_mask: 2,
            audit_ppm: 80_000,
            window: 600,
            expiry: self.client.chain_seconds().unwrap() + 600,
        };
        self.next += 1;
        let body = RunRequest {
            model_id: lie.model,
            input: Bytes::copy_from_slice(&lie.input),
            salt: Salt(SALT),
            request_signature: request.sign(&self.domain, self.buyer.receipt_key()),
            request,
        };
        let agent = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .build()
            .new_agent();
        let url = format!("{}/v1/run", self.operator.url());
        let mut response = agent.post(&url).send_json(&body).unwrap();
        let text = response.body_mut().read_to_string().unwrap();
        assert_eq!(response.status().as_u16(), 200, "{}: {text}", lie.what);
        let answer: RunResponse = serde_json::from_str(&text).unwrap();
        answer.receipt.check_answers(&body.request).unwrap();
        answer.claim_id
    }

    /// Asks for all lies, lets the watcher find them, and checks every settlement to the last unit.
    ///
    /// `hurry`: chain seconds to jump at each look, for disputes that end by a clock.
    pub fn settle(&mut self, lies: &[Lie], hurry: u64) -> Vec<Fall> {
        let escrow = self.escrow();
        let bonded = self.bonded();
        let first = self.client.block_number().unwrap() + 1;
        let claims: Vec<B256> = lies.iter().map(|lie| self.ask(lie)).collect();
        self.wait(lies, &claims, hurry);
        let last = self.client.block_number().unwrap();
        let slashed = self.rejections(lies, &claims, first, last);
        assert_eq!(bonded - self.bonded(), slashed, "the operator is slashed");
        assert_eq!(self.escrow(), escrow, "the buyer has all fees back");
        let falls = self.falls(first, last);
        let fall = |claim| falls.get(claim).cloned().unwrap_or_default();
        claims.iter().map(fall).collect()
    }

    fn wait(&self, lies: &[Lie], claims: &[B256], hurry: u64) {
        let start = Instant::now();
        let mut open: Vec<usize> = (0..claims.len()).collect();
        while !open.is_empty() {
            open.retain(|index| {
                let call = IClaims::claimCall {
                    claimId: claims[*index],
                };
                let claim = self.client.call(CLAIMS, &call);
                !claim.is_ok_and(|claim| claim.state == REJECTED)
            });
            if start.elapsed() > PATIENCE {
                let names: Vec<_> = open.iter().map(|index| &lies[*index].what).collect();
                panic!("false claims survive: {names:?}; {}", self.said());
            }
            if hurry > 0 && open.iter().all(|index| self.is_asserted(claims[*index])) {
                self.client.increase_time(hurry).unwrap();
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn is_asserted(&self, claim: B256) -> bool {
        let call = IClaims::claimCall { claimId: claim };
        let state = self.client.call(CLAIMS, &call).map(|claim| claim.state);
        state.is_ok_and(|state| state > ASSERTED)
    }

    /// What the watcher said, for a failure.
    fn said(&self) -> String {
        let events = self.watcher.as_ref().map(|(_, events)| events.try_iter());
        let events: Vec<_> = events.into_iter().flatten().collect();
        let from = events.len().saturating_sub(20);
        format!("the watcher's last words: {:?}", &events[from..])
    }

    /// Stake that was taken, after checking that each claim lost its exposure and gave its fee back.
    fn rejections(&self, lies: &[Lie], claims: &[B256], first: u64, last: u64) -> U256 {
        let filter = LogFilter::new(CLAIMS, [IClaims::Rejected::SIGNATURE_HASH]);
        let logs = self.client.logs(&filter, first, last).unwrap();
        let rejected: BTreeMap<B256, IClaims::Rejected> = logs
            .iter()
            .filter_map(|log| log.decode::<IClaims::Rejected>())
            .map(|event| (event.claimId, event))
            .collect();
        let mut sum = U256::ZERO;
        for (lie, id) in lies.iter().zip(claims) {
            let event = &rejected[id];
            let claim = self
                .client
                .call(CLAIMS, &IClaims::claimCall { claimId: *id })
                .unwrap();
            assert_eq!(event.refunded, PRICE, "{}", lie.what);
            assert_eq!(event.slashed, U256::from(claim.exposure), "{}", lie.what);
            assert_eq!(event.challenger, self.watcher_key.address(), "{}", lie.what);
            assert!(claim.exposure > 0, "{}", lie.what);
            sum += event.slashed;
        }
        sum
    }

    /// The moves of both sides by claim, from the transactions of the blocks.
    fn falls(&self, first: u64, last: u64) -> BTreeMap<B256, Fall> {
        let filter = LogFilter::new(DISPUTES, [IDisputes::Opened::SIGNATURE_HASH]);
        let opened = self.client.logs(&filter, first, last).unwrap();
        let opened = opened
            .iter()
            .filter_map(|log| log.decode::<IDisputes::Opened>());
        let claims: BTreeMap<U256, B256> = opened.map(|event| (event.id, event.claimId)).collect();
        let mut falls: BTreeMap<B256, Fall> = BTreeMap::new();
        for number in first..=last {
            let mined = self.node.chain().block(number).unwrap().unwrap();
            if mined.receipts.is_empty() {
                continue;
            }
            let height = format!("{number:#x}");
            let shown: Value = self
                .client
                .request("eth_getBlockByNumber", json!([height, true]))
                .unwrap();
            let transactions = shown["transactions"].as_array().unwrap();
            for (transaction, receipt) in transactions.iter().zip(&mined.receipts) {
                let to = transaction["to"].as_str().unwrap_or_default();
                if !receipt.success || !to.eq_ignore_ascii_case(&DISPUTES.to_string()) {
                    continue;
                }
                let input: Bytes = transaction["input"].as_str().unwrap().parse().unwrap();
                let Some((dispute, call, evidence)) = read(&input) else {
                    continue;
                };
                let claim = match dispute {
                    Named::Claim(claim) => Some(&claim).copied(),
                    Named::Dispute(id) => claims.get(&id).copied(),
                };
                if let Some(claim) = claim {
                    let fall = falls.entry(claim).or_default();
                    fall.moves.push(call);
                    fall.evidence = fall.evidence.max(evidence);
                }
            }
        }
        falls
    }

    fn escrow(&self) -> U256 {
        let buyer = self.buyer.address();
        self.client
            .call(CLAIMS, &IClaims::balanceOfCall { buyer })
            .unwrap()
    }

    fn bonded(&self) -> U256 {
        let account = self.operator_key.address();
        let operator = self
            .client
            .call(STAKING, &IStaking::operatorCall { account });
        operator.unwrap().bonded
    }
}

enum Named {
    Claim(B256),
    Dispute(U256),
}

/// A move in a dispute: which, what, and the bytes of its evidence. `None` for the challenge itself.
fn read(input: &[u8]) -> Option<(Named, &'static str, usize)> {
    let selector: [u8; 4] = input.get(..4)?.try_into().ok()?;
    if selector == IDisputes::challengeCall::SELECTOR {
        return None;
    }
    if selector == IDisputes::proveBlockCall::SELECTOR {
        let call = IDisputes::proveBlockCall::abi_decode(input).unwrap();
        return Some((
            Named::Claim(call.claimId),
            "proveBlock",
            call.evidence.len(),
        ));
    }
    let names = [
        (IDisputes::traceCall::SELECTOR, "trace"),
        (IDisputes::postLeavesCall::SELECTOR, "postLeaves"),
        (IDisputes::nameCall::SELECTOR, "name"),
        (IDisputes::revealCall::SELECTOR, "reveal"),
        (IDisputes::pickCall::SELECTOR, "pick"),
        (IDisputes::segmentCall::SELECTOR, "segment"),
        (IDisputes::openCall::SELECTOR, "open"),
        (IDisputes::proveElementCall::SELECTOR, "proveElement"),
        (IDisputes::timeoutCall::SELECTOR, "timeout"),
    ];
    let (_, name) = names.iter().find(|(known, _)| *known == selector)?;
    let evidence = if *name == "proveElement" {
        let call = IDisputes::proveElementCall::abi_decode(input).unwrap();
        call.evidence.len()
    } else {
        0
    };
    // The dispute's number is the first argument of all of them.
    let id = U256::from_be_slice(input.get(4..36)?);
    Some((Named::Dispute(id), name, evidence))
}

pub fn block<T>(work: impl FnOnce() -> T) -> T {
    tokio::task::block_in_place(work)
}

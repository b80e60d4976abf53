//! Real proofs on a chain: the bundled digit reader, its key, claims that end by a proof, and proofs of something else.

mod support;

use std::collections::HashMap;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use alloy_consensus::TxEip1559;
use alloy_primitives::{Address, B256, Bytes, U256, keccak256};
use alloy_sol_types::{SolCall, SolError, SolEvent, SolStruct};
use assay_abi::{
    CLAIMS, CLOCK, DISPUTES, IClaims, IClock, IDisputes, IModels, IStaking, MODELS, Receipt,
    Request, STAKING, claim_context, receipt_domain, zk_evidence,
};
use assay_graph::{
    DType, Data, Dim, Graph, GraphBuilder, Header, Op, Requant, Tensor, TensorType, WeightRow,
    eval, trace,
};
use assay_modules::{Arbiter, RunSize};
use assay_node::{GenesisParams, GraphArbiter, Node, NodeConfig, NodeHandle, TransactionError};
use assay_proof::{Input, Proof, ProvingKey, prove};
use assay_types::StoredReceipt;
use support::{Account, CHAIN_ID, transfer};

const PATIENCE: Duration = Duration::from_secs(60);
const ASSAY: u128 = 1_000_000_000_000_000_000;
const SALT: [u8; 32] = [3; 32];
const FINAL: u8 = 3;
const REJECTED: u8 = 4;

/// The model and its proving key, made once.
fn model() -> &'static ProvingKey {
    static KEY: OnceLock<ProvingKey> = OnceLock::new();
    KEY.get_or_init(|| ProvingKey::new(graph()).unwrap())
}

fn graph() -> Arc<Graph> {
    Arc::clone(&assay_import::digits().unwrap().graph)
}

/// Another, much smaller model.
fn tiny() -> ProvingKey {
    let header = Header {
        max_seq: 1,
        block_bits: 10,
    };
    let mut b = GraphBuilder::new(header);
    let ty = TensorType {
        dtype: DType::I8,
        shape: vec![Dim::Fixed(4)],
        lo: -8,
        hi: 8,
    };
    let x = b.input(ty).unwrap();
    let row = WeightRow {
        shift: 0,
        bias: 1,
        values: vec![1, -2, 3, -4],
    };
    let weights = b.weights(DType::I8, &[row]).unwrap();
    let out = Requant {
        shift: 0,
        dtype: DType::I8,
        lo: -127,
        hi: 127,
    };
    b.push("y", Op::Linear { weights, out }, &[x], true)
        .unwrap();
    ProvingKey::new(Arc::new(b.finish().unwrap())).unwrap()
}

fn input(seed: i32) -> Tensor {
    let graph = graph();
    let ty = graph.input_type().unwrap();
    let (lo, hi) = (i64::from(ty.lo), i64::from(ty.hi));
    let values: Vec<i32> = (0..ty.len(1))
        .map(|i| (lo + (i as i64 * 7919 + i64::from(seed)) % (hi - lo + 1)) as i32)
        .collect();
    Tensor::new(ty.dims(1), Data::from_i32(ty.dtype, &values).unwrap()).unwrap()
}

fn output(input: &Tensor) -> Vec<u8> {
    let all = eval::run(&graph(), input).unwrap();
    all.last().unwrap().data.to_bytes()
}

fn asked(tensor: &Tensor) -> Input {
    Input {
        tensor: tensor.clone(),
        out: 1,
        sampling: None,
    }
}

fn proof(input: &Tensor, context: &[u8]) -> Proof {
    let inputs = [asked(input)];
    prove(model(), &inputs, context, &mut |_| {}).unwrap()
}

/// A chain, a model with a maker, an operator with stake, a buyer with money.
struct Net {
    node: NodeHandle,
    operator: Account,
    receipt_key: Account,
    buyer: Account,
    maker: Account,
    watchers: [Account; 2],
    nonces: HashMap<Address, u64>,
    model_id: B256,
}

impl Net {
    async fn new() -> Self {
        let accounts: Vec<Account> = (1..=6).map(Account::new).collect();
        let funded: Vec<Address> = accounts.iter().map(|a| a.address).collect();
        let [operator, receipt_key, buyer, maker, w1, w2] =
            <[Account; 6]>::try_from(accounts).ok().unwrap();
        let mut params = GenesisParams::dev();
        params.usd = vec![(buyer.address, 1_000_000_000)];
        let mut config = NodeConfig::in_memory(&funded, params, Arc::new(GraphArbiter));
        config.check_invariants = true;
        config.rpc = None;
        let node = Node::open(config).await.unwrap();
        let mut net = Self {
            node,
            operator,
            receipt_key,
            buyer,
            maker,
            watchers: [w1, w2],
            nonces: HashMap::new(),
            model_id: model().key().model_id().into(),
        };
        net.register().await;
        net
    }

    async fn register(&mut self) {
        let (structure, identity) = (graph().structure().to_bytes(), graph().identity());
        let call = IModels::registerCall {
            structure: structure.into(),
            tablesRoot: identity.tables_root.into(),
            weightsRoot: identity.weights_root.into(),
            name: "digits".into(),
            price: 1_000,
            uri: String::new(),
        };
        self.ok(&self.maker.clone(), MODELS, 0, &call).await;
        let call = IStaking::registerCall {
            receiptKey: self.receipt_key.address,
            endpoint: String::new(),
        };
        let operator = self.operator.clone();
        self.ok(&operator, STAKING, 10_000 * ASSAY, &call).await;
        let call = IClaims::depositCall {
            amount: U256::from(100_000_000),
        };
        self.ok(&self.buyer.clone(), CLAIMS, 0, &call).await;
    }

    async fn send<C: SolCall>(
        &mut self,
        from: &Account,
        to: Address,
        value: u128,
        call: &C,
    ) -> StoredReceipt {
        let nonce = self.nonces.entry(from.address).or_default();
        let raw = from.sign(TxEip1559 {
            input: call.abi_encode().into(),
            gas_limit: 59_000_000,
            value: U256::from(value),
            ..transfer(*nonce, to, 0)
        });
        *nonce += 1;
        self.node.send(raw, PATIENCE).await.unwrap()
    }

    async fn ok<C: SolCall>(
        &mut self,
        from: &Account,
        to: Address,
        value: u128,
        call: &C,
    ) -> StoredReceipt {
        let receipt = self.send(from, to, value, call).await;
        assert!(receipt.success, "{}", C::SIGNATURE);
        receipt
    }

    fn view<C: SolCall>(&self, to: Address, call: &C) -> C::Return {
        self.attempt(self.buyer.address, to, call).unwrap()
    }

    /// A throw-away call; revert data if it fails.
    fn attempt<C: SolCall>(
        &self,
        from: Address,
        to: Address,
        call: &C,
    ) -> Result<C::Return, Bytes> {
        match self.node.call(from, to, call.abi_encode().into()) {
            Ok(output) => Ok(C::abi_decode_returns_validate(&output).unwrap()),
            Err(TransactionError::Reverted(outcome)) => {
                assert_eq!(outcome.halt, None);
                Err(outcome.output)
            }
            Err(other) => panic!("{other}"),
        }
    }

    /// Sets the model's key and has it attested.
    async fn publish(&mut self) -> B256 {
        let call = IModels::setProofKeyCall {
            modelId: self.model_id,
            key: model().key().encode().into(),
        };
        let (maker, operator) = (self.maker.clone(), self.operator.clone());
        let receipt = self.ok(&maker, MODELS, 0, &call).await;
        println!("setProofKey: {} gas", receipt.gas_used);
        let key_id = B256::from(model().key().id());
        let call = IModels::attestProofKeyCall {
            modelId: self.model_id,
            keyId: key_id,
        };
        self.ok(&operator, MODELS, 0, &call).await;
        key_id
    }

    fn claim(&self, claim_id: B256) -> IClaims::Claim {
        self.view(CLAIMS, &IClaims::claimCall { claimId: claim_id })
    }

    /// Asserts that `input` gives `output`, in a tier with its evidence.
    async fn assert(
        &mut self,
        input: &Tensor,
        output: &[u8],
        tier: u8,
        evidence: B256,
    ) -> (B256, Receipt) {
        let (operator, buyer) = (self.operator.clone(), self.buyer.clone());
        let line_id = self.view(
            CLAIMS,
            &IClaims::lineIdOfCall {
                operator: operator.address,
                requester: buyer.address,
            },
        );
        let line = self.view(CLAIMS, &IClaims::lineCall { lineId: line_id });
        let now = self.view(CLOCK, &IClock::nowSecondsCall {});
        let size = RunSize { n_in: 1, n_out: 1 };
        let structure = graph().structure().to_bytes();
        let request = Request {
            version: 1,
            lineId: line_id,
            seq: line.assertedSeq + 1,
            modelId: self.model_id,
            semantics: 1,
            inputCommit: trace::input_commit(&SALT, &input.data.to_bytes()).into(),
            maxOut: 1,
            maxFee: 2_000_000,
            valueAtRisk: 1_000_000,
            tierMask: 1 << tier,
            auditPpm: 80_000,
            window: 600,
            expiry: now + 600,
            ..Default::default()
        };
        let fee = 1_000_000u128;
        let exposure = if tier == 4 {
            fee * ASSAY / 1_000_000
        } else {
            self.view(
                CLAIMS,
                &IClaims::requiredExposureCall {
                    fee,
                    valueAtRisk: request.valueAtRisk,
                    auditPpm: 80_000,
                },
            )
        };
        let receipt = Receipt {
            version: 1,
            tier,
            line_id,
            seq: request.seq,
            cum_exposure: line.cumExposure + exposure,
            requester: buyer.address,
            operator: operator.address,
            request_hash: request.eip712_hash_struct(),
            model_id: self.model_id,
            semantics: 1,
            input_commit: request.inputCommit,
            output_commit: trace::output_commit(&SALT, output).into(),
            n_in: 1,
            n_out: 1,
            n_leaves: GraphArbiter.committed_leaves(&structure, size).unwrap(),
            evidence_hash: evidence,
            fee,
            value_at_risk: request.valueAtRisk,
            exposure,
            audit_ppm: 80_000,
            window: 600,
            issued_at: now,
            include_by: now + 60,
            ..Default::default()
        };
        let domain = receipt_domain(CHAIN_ID, CLAIMS);
        let sign = |account: &Account, hash: B256| -> Bytes {
            account.sign_hash(hash).as_bytes().to_vec().into()
        };
        let call = IClaims::assertSingleCall {
            receipt: receipt.to_words(),
            signature: sign(&self.receipt_key, receipt.signing_hash(&domain)),
            requestSignature: sign(&buyer, request.eip712_signing_hash(&domain)),
            request,
        };
        self.ok(&operator, CLAIMS, 0, &call).await;
        (receipt.struct_hash(), receipt)
    }
}

fn answer(claim_id: B256, salt: [u8; 32], proof: impl Into<Bytes>) -> IClaims::answerWithProofCall {
    IClaims::answerWithProofCall {
        claimId: claim_id,
        salt: salt.into(),
        proof: proof.into(),
    }
}

fn error<E: SolError>(result: Result<impl Sized, Bytes>) -> E {
    let data = result.err().expect("the call must revert");
    E::abi_decode_validate(&data)
        .unwrap_or_else(|_| panic!("expected {}, got {data}", E::SIGNATURE))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_must_belong_to_the_model() {
    let mut net = Net::new().await;
    let good = model().key().encode();
    let set = |key: Vec<u8>| IModels::setProofKeyCall {
        modelId: net.model_id,
        key: key.into(),
    };
    let maker = net.maker.address;
    // two versions of one byte each, then the model id
    let mut other = good.clone();
    other[2] ^= 1;
    let refused = net.attempt(maker, MODELS, &set(other.clone()));
    error::<IModels::ProofKeyModel>(refused);
    // a key of another structure that claims our id
    let mut spliced = tiny().key().encode();
    spliced[2..34].copy_from_slice(net.model_id.as_slice());
    let refused = net.attempt(maker, MODELS, &set(spliced));
    let refused = error::<IModels::ProofKeyRefused>(refused);
    assert!(refused.reason.contains("structure"), "{}", refused.reason);
    for bytes in [&good[..good.len() - 1], &good[..40], &[]] {
        let refused = net.attempt(maker, MODELS, &set(bytes.to_vec()));
        error::<IModels::ProofKeyRefused>(refused);
    }
    let longer = [good.as_slice(), &[0]].concat();
    error::<IModels::ProofKeyRefused>(net.attempt(maker, MODELS, &set(longer)));
    let refused = net.attempt(maker, MODELS, &set(vec![0xff; 100_000]));
    error::<IModels::ProofKeyRefused>(refused);
    let key_id = net.publish().await;
    let call = IModels::proofKeyCall {
        modelId: net.model_id,
    };
    let key = net.view(MODELS, &call);
    assert_eq!((key.keyId, key.length as usize), (key_id, good.len()));
    assert!(key.usable);
    let call = IModels::proofKeyBytesCall {
        modelId: net.model_id,
        offset: U256::ZERO,
        count: U256::from(good.len()),
    };
    assert_eq!(net.view(MODELS, &call).to_vec(), good);
    net.node.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_proven_answer_is_final_and_others_are_refused() {
    let mut net = Net::new().await;
    let (question, stranger) = (input(1), net.watchers[0].address);
    let right = output(&question);
    let (claim_id, _) = net.assert(&question, &right, 0, B256::ZERO).await;
    let (second, _) = net.assert(&question, &right, 0, B256::ZERO).await;
    let mut wrong_output = right.clone();
    wrong_output[0] ^= 1;
    let (lie, _) = net.assert(&question, &wrong_output, 0, B256::ZERO).await;
    let context = claim_context(CHAIN_ID, claim_id);
    let good = proof(&question, &context);
    let attempt = |net: &Net, claim: B256, bytes: Vec<u8>| {
        net.attempt(stranger, CLAIMS, &answer(claim, SALT, bytes))
    };
    error::<IModels::NoProofKey>(attempt(&net, claim_id, good.encode()));
    let key_id = net.publish().await;

    let field = |result| error::<IClaims::ProofMismatch>(result).field;
    assert_eq!(field(attempt(&net, second, good.encode())), "context");
    let elsewhere = proof(&question, &claim_context(CHAIN_ID + 1, claim_id));
    assert_eq!(
        field(attempt(&net, claim_id, elsewhere.encode())),
        "context"
    );
    let another = proof(&input(2), &context);
    assert_eq!(field(attempt(&net, claim_id, another.encode())), "input");
    let salted = answer(claim_id, [4; 32], good.encode());
    assert_eq!(field(net.attempt(stranger, CLAIMS, &salted)), "input");
    let mut moved = good.clone();
    moved.statement.key_id[0] ^= 1;
    assert_eq!(field(attempt(&net, claim_id, moved.encode())), "keyId");
    let mut moved = good.clone();
    moved.statement.model_id[0] ^= 1;
    assert_eq!(field(attempt(&net, claim_id, moved.encode())), "modelId");
    let four = Tensor::new(vec![4], Data::from_i32(DType::I8, &[1, 2, 3, 4]).unwrap()).unwrap();
    let inputs = [asked(&four)];
    let other = prove(&tiny(), &inputs, &context, &mut |_| {}).unwrap();
    assert_eq!(field(attempt(&net, claim_id, other.encode())), "modelId");
    let mut twice = good.clone();
    twice.statement.runs.push(twice.statement.runs[0].clone());
    assert_eq!(field(attempt(&net, claim_id, twice.encode())), "runs");
    let mut stretched = good.clone();
    stretched.statement.seq = 2;
    assert_eq!(
        field(attempt(&net, claim_id, stretched.encode())),
        "positions"
    );
    // the lie: its commitment opens, its proof does not exist
    let honest = proof(&question, &claim_context(CHAIN_ID, lie));
    assert_eq!(field(attempt(&net, lie, honest.encode())), "output");
    let mut forged = honest;
    forged.statement.runs[0].output = wrong_output;
    error::<IClaims::ProofRefused>(attempt(&net, lie, forged.encode()));
    // not for a chain, cut off, changed, longer
    let bare = ProvingKey::direct(graph()).unwrap();
    let inputs = [asked(&question)];
    let direct = prove(&bare, &inputs, &context, &mut |_| {}).unwrap();
    error::<IClaims::ProofRefused>(attempt(&net, claim_id, direct.encode()));
    let bytes = good.encode();
    for end in [0, 10, 100, bytes.len() / 2, bytes.len() - 1] {
        error::<IClaims::ProofRefused>(attempt(&net, claim_id, bytes[..end].to_vec()));
    }
    let body = bytes.len() - good.body.len();
    for place in (body..bytes.len()).step_by(good.body.len() / 9) {
        let mut changed = bytes.clone();
        changed[place] ^= 0x10;
        error::<IClaims::ProofRefused>(attempt(&net, claim_id, changed));
    }
    let longer = [bytes.as_slice(), &[0]].concat();
    error::<IClaims::ProofRefused>(attempt(&net, claim_id, longer));

    let sender = net.watchers[0].clone();
    let call = answer(claim_id, SALT, bytes.clone());
    let receipt = net.ok(&sender, CLAIMS, 0, &call).await;
    println!("proof of {} bytes: {} gas", bytes.len(), receipt.gas_used);
    let events: Vec<B256> = receipt.logs.iter().map(|log| log.topics()[0]).collect();
    assert!(events.contains(&IClaims::Proven::SIGNATURE_HASH));
    assert!(events.contains(&IClaims::FeeSplit::SIGNATURE_HASH));
    let proven = IClaims::Proven::decode_log_data(&receipt.logs[0].data).unwrap();
    assert_eq!((proven.claimId, proven.keyId), (claim_id, key_id));
    assert!(proven.bits >= 100);
    assert_eq!(net.claim(claim_id).state, FINAL);
    assert!(net.view(CLAIMS, &IClaims::isProvenCall { claimId: claim_id }));
    error::<IDisputes::ClaimNotOpen>(attempt(&net, claim_id, bytes.clone()));

    let check = net.view(
        MODELS,
        &IModels::verifyProofCall {
            proof: bytes.into(),
        },
    );
    assert!(check.ok && check.bits >= 100, "{}", check.reason);
    assert_eq!(check.outputHash, keccak256(&right));
    assert_eq!(check.context.as_ref(), context);
    net.node.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_proof_ends_two_open_disputes() {
    let mut net = Net::new().await;
    net.publish().await;
    let question = input(5);
    let (claim_id, _) = net
        .assert(&question, &output(&question), 0, B256::ZERO)
        .await;
    let bond: U256 = net.view(DISPUTES, &IDisputes::bondOfCall { claimId: claim_id });
    let bond: u128 = bond.to();
    for watcher in net.watchers.clone() {
        let call = IDisputes::challengeCall { claimId: claim_id };
        net.ok(&watcher, DISPUTES, bond, &call).await;
    }
    assert_eq!(net.claim(claim_id).openDisputes, 2);
    let bytes = proof(&question, &claim_context(CHAIN_ID, claim_id)).encode();
    let operator = net.operator.clone();
    net.ok(&operator, CLAIMS, 0, &answer(claim_id, SALT, bytes))
        .await;
    assert_eq!(net.claim(claim_id).state, FINAL);
    for id in [1, 2] {
        let call = IDisputes::disputeCall { id: U256::from(id) };
        assert_eq!(net.view(DISPUTES, &call).stage, 9);
    }
    let held = net.node.chain().account(&DISPUTES).unwrap().balance;
    assert_eq!(held, U256::ZERO);
    net.node.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_zk_claim_is_proven_or_refunded() {
    let mut net = Net::new().await;
    let key_id = net.publish().await;
    let question = input(7);
    let right = output(&question);
    let evidence = zk_evidence(key_id);
    let (claim_id, receipt) = net.assert(&question, &right, 4, evidence).await;
    let named = proof(&question, &claim_context(CHAIN_ID, claim_id)).encode();
    let stranger = net.buyer.address;
    let refused = net.attempt(stranger, CLAIMS, &answer(claim_id, SALT, named));
    error::<IClaims::ProofMismatch>(refused);
    let good = proof(&question, &claim_context(CHAIN_ID, receipt.body_id())).encode();
    let operator = net.operator.clone();
    net.ok(&operator, CLAIMS, 0, &answer(claim_id, SALT, good))
        .await;
    assert_eq!(net.claim(claim_id).state, FINAL);

    let (late, _) = net.assert(&question, &right, 4, evidence).await;
    let buyer = net.buyer.address;
    let before = net.view(CLAIMS, &IClaims::balanceOfCall { buyer });
    net.node.advance_time(Duration::from_secs(601)).unwrap();
    let finalize = IClaims::finalizeCall { claimId: late };
    error::<IClaims::ProofRequired>(net.attempt(stranger, CLAIMS, &finalize));
    let expire = IClaims::expireCall { claimId: late };
    net.ok(&net.buyer.clone(), CLAIMS, 0, &expire).await;
    assert_eq!(net.claim(late).state, REJECTED);
    let after = net.view(CLAIMS, &IClaims::balanceOfCall { buyer });
    assert_eq!(after, before + U256::from(1_000_000));
    net.node.shutdown().await.unwrap();
}

/// The largest transaction there is, full of junk behind a statement that is right: refused in bounded time, and paid for.
#[tokio::test(flavor = "multi_thread")]
async fn a_megabyte_of_junk_is_paid_for() {
    let mut net = Net::new().await;
    net.publish().await;
    let question = input(9);
    let (claim_id, _) = net
        .assert(&question, &output(&question), 0, B256::ZERO)
        .await;
    let mut junk = proof(&question, &claim_context(CHAIN_ID, claim_id));
    junk.body.resize(1024 * 1024 - 8_192, 0);
    let sender = net.watchers[0].clone();
    let call = answer(claim_id, SALT, junk.encode());
    let start = Instant::now();
    let receipt = net.send(&sender, CLAIMS, 0, &call).await;
    println!("junk: {:?}, {} gas", start.elapsed(), receipt.gas_used);
    assert!(!receipt.success);
    assert!(receipt.gas_used > 2_000_000, "{}", receipt.gas_used);
    let all = answer(claim_id, SALT, vec![0x5a; 1024 * 1024 - 8_192]);
    let receipt = net.send(&sender, CLAIMS, 0, &all).await;
    assert!(!receipt.success);
    assert_eq!(net.claim(claim_id).state, 1);
    net.node.shutdown().await.unwrap();
}

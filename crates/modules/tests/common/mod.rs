//! A world in memory: modules, accounts, an arbiter that knows the honest trace, and receipts signed like real ones.
#![allow(dead_code, reason = "each test binary uses its own part of the world")]

pub mod proofs;

use std::sync::Arc;

use alloy_primitives::{Address, B256, Bytes, U256, keccak256};
use alloy_sol_types::{SolCall, SolError, SolStruct};
use assay_abi::{
    CLAIMS, DISPUTES, IClaims, IDisputes, IModels, IStaking, IUsd, MODELS, Receipt, Request,
    STAKING, USD, receipt_domain,
};
use assay_modules::tree::{leaf_hash, node_hash, padding, root_of};
use assay_modules::{
    Arbiter, Call, Case, GenesisParams, ModelInfo, Modules, Outcome, RunSize, SegmentInfo, Verdict,
};
use assay_storage::{MemoryStorage, Storage};
use secp256k1::{Message, SECP256K1, SecretKey};

pub const ASSAY: u128 = 1_000_000_000_000_000_000;
pub const CHAIN: u64 = 31_337;
pub const START_MS: u64 = 1_700_000_000_000;

/// A key and its address.
#[derive(Clone, Copy)]
pub struct Account {
    pub key: SecretKey,
    pub address: Address,
}

pub fn account(number: u8) -> Account {
    let key = SecretKey::from_byte_array([number.max(1); 32]).expect("small numbers are keys");
    let public = key.public_key(SECP256K1).serialize_uncompressed();
    Account {
        key,
        address: Address::from_word(keccak256(&public[1..])),
    }
}

pub fn sign(account: &Account, digest: B256) -> Bytes {
    let signature = SECP256K1.sign_ecdsa_recoverable(Message::from_digest(digest.0), &account.key);
    let (recovery, compact) = signature.serialize_compact();
    let v = 27 + u8::try_from(i32::from(recovery)).expect("0 or 1");
    [compact.as_slice(), &[v]].concat().into()
}

/// Shape of a fake model; its bytes are the "structure".
#[derive(Clone, Copy)]
pub struct Shape {
    pub max_seq: u32,
    pub leaves: u64,
    pub segment_nodes: u32,
    pub segment_leaves: u64,
    pub tag: u8,
}

impl Shape {
    pub fn flat(leaves: u64) -> Self {
        Self {
            max_seq: 8,
            leaves,
            segment_nodes: 1,
            segment_leaves: 1,
            tag: 0,
        }
    }

    pub fn segmented(leaves: u64, segment_leaves: u64) -> Self {
        Self {
            segment_nodes: 3,
            segment_leaves,
            ..Self::flat(leaves)
        }
    }

    pub fn encode(&self) -> Vec<u8> {
        let mut out = vec![0xA5, self.tag];
        out.extend(self.max_seq.to_le_bytes());
        out.extend(self.leaves.to_le_bytes());
        out.extend(self.segment_nodes.to_le_bytes());
        out.extend(self.segment_leaves.to_le_bytes());
        out
    }

    pub fn decode(bytes: &[u8]) -> Result<Self, String> {
        if bytes.len() != 26 || bytes[0] != 0xA5 {
            return Err(format!("{} bytes are no structure", bytes.len()));
        }
        Ok(Self {
            tag: bytes[1],
            max_seq: u32::from_le_bytes(bytes[2..6].try_into().unwrap()),
            leaves: u64::from_le_bytes(bytes[6..14].try_into().unwrap()),
            segment_nodes: u32::from_le_bytes(bytes[14..18].try_into().unwrap()),
            segment_leaves: u64::from_le_bytes(bytes[18..26].try_into().unwrap()),
        })
    }

    pub fn model_id(&self) -> B256 {
        keccak256(self.encode())
    }
}

pub fn input_commit() -> B256 {
    keccak256("honest input")
}

pub fn output_commit() -> B256 {
    keccak256("honest output")
}

pub fn block(leaf: u64) -> Vec<u8> {
    format!("block {leaf}").into_bytes()
}

/// Where a committed leaf lies in its segment's tree: last, or (tag 5) followed by another block of its node.
pub fn segment_index(shape: &Shape) -> u64 {
    shape.segment_leaves - if shape.tag == 5 { 2 } else { 1 }
}

/// Blocks of the segment of committed leaf `leaf`, whose own block is `own`.
pub fn segment_blocks(shape: &Shape, leaf: u64, own: Vec<u8>) -> Vec<Vec<u8>> {
    let mut blocks: Vec<Vec<u8>> = (0..shape.segment_leaves)
        .map(|i| format!("segment {leaf} block {i}").into_bytes())
        .collect();
    blocks[segment_index(shape) as usize] = own;
    blocks
}

pub fn honest_leaves(shape: &Shape) -> Vec<B256> {
    let mut leaves: Vec<B256> = (0..shape.leaves)
        .map(|leaf| leaf_hash(&block(leaf)))
        .collect();
    leaves[0] = input_commit();
    *leaves.last_mut().unwrap() = output_commit();
    leaves
}

/// All levels of a padded tree, leaves first.
pub fn levels(leaves: &[B256]) -> Vec<Vec<B256>> {
    let mut level = leaves.to_vec();
    level.resize(level.len().next_power_of_two(), padding());
    let mut out = vec![level];
    while out.last().unwrap().len() > 1 {
        let next = out
            .last()
            .unwrap()
            .chunks(2)
            .map(|pair| node_hash(&pair[0], &pair[1]))
            .collect();
        out.push(next);
    }
    out
}

pub fn path(leaves: &[B256], mut index: usize) -> Vec<B256> {
    let levels = levels(leaves);
    let mut out = Vec::new();
    for level in &levels[..levels.len() - 1] {
        out.push(level[index ^ 1]);
        index >>= 1;
    }
    out
}

/// Judges against the honest blocks; evidence must be `ok`.
pub struct FakeArbiter;

impl Arbiter for FakeArbiter {
    fn inspect(&self, structure: &[u8], _: B256, _: B256) -> Result<ModelInfo, String> {
        let shape = Shape::decode(structure)?;
        Ok(ModelInfo {
            model_id: shape.model_id(),
            graph_root: B256::repeat_byte(7),
            node_count: 3,
            max_seq: shape.max_seq,
            semantics: 1,
            single_shot: shape.segment_nodes == 1,
        })
    }

    fn committed_leaves(&self, structure: &[u8], _: RunSize) -> Result<u64, String> {
        Ok(Shape::decode(structure)?.leaves)
    }

    fn segment_of(&self, structure: &[u8], _: RunSize, leaf: u64) -> Result<SegmentInfo, String> {
        let shape = Shape::decode(structure)?;
        let (nodes, leaves) = (shape.segment_nodes, shape.segment_leaves);
        Ok(SegmentInfo {
            segment: leaf as u32,
            nodes,
            leaves,
            index: segment_index(&shape),
        })
    }

    fn judge(&self, case: &Case<'_>) -> Result<Verdict, String> {
        if case.evidence != b"ok" {
            return Err("evidence is not `ok`".to_string());
        }
        let shape = Shape::decode(case.structure)?;
        let honest = match case.segment {
            Some((segment, _)) => {
                let blocks = segment_blocks(&shape, segment.into(), block(segment.into()));
                leaf_hash(&blocks[case.leaf as usize])
            }
            None => honest_leaves(&shape)[case.leaf as usize],
        };
        Ok(if honest == case.leaf_hash {
            Verdict::AsserterRight
        } else {
            Verdict::AsserterWrong
        })
    }

    fn gas(&self, _: &[u8], evidence: &[u8]) -> u64 {
        evidence.len() as u64
    }
}

pub struct World {
    pub storage: MemoryStorage,
    pub modules: Modules,
    pub operator: Account,
    pub key: Account,
    pub buyer: Account,
    pub maker: Account,
    pub treasury: Account,
    pub challengers: Vec<Account>,
}

pub fn genesis() -> GenesisParams {
    let mut genesis = GenesisParams::dev();
    genesis.treasury = account(9).address;
    genesis.usd = vec![
        (account(3).address, 1_000_000_000_000),
        (account(5).address, 50),
    ];
    genesis
}

impl World {
    pub fn new() -> Self {
        Self::with(genesis())
    }

    pub fn with(genesis: GenesisParams) -> Self {
        let mut storage = MemoryStorage::default();
        storage.env.chain_id = CHAIN;
        storage.env.timestamp_ms = START_MS;
        let proofs = Arc::new(proofs::FakeProofs);
        let modules = Modules::with_proofs(Arc::new(FakeArbiter), proofs);
        modules.genesis(&mut storage, &genesis).expect("genesis");
        for number in 1..=20 {
            storage.set_balance(account(number).address, U256::from(1_000_000 * ASSAY));
        }
        Self {
            storage,
            modules,
            operator: account(1),
            key: account(2),
            buyer: account(3),
            maker: account(4),
            treasury: account(9),
            challengers: (10..=14).map(account).collect(),
        }
    }

    /// With an operator, a funded buyer, and a model of this shape.
    pub fn ready(shape: Shape) -> Self {
        let mut world = Self::new();
        world.prepare(shape);
        world
    }

    pub fn prepare(&mut self, shape: Shape) {
        let (operator, buyer, maker) = (
            self.operator.address,
            self.buyer.address,
            self.maker.address,
        );
        let register = IStaking::registerCall {
            receiptKey: self.key.address,
            endpoint: "http://here".to_string(),
        };
        self.pay(operator, STAKING, 10_000 * ASSAY, &register)
            .expect("register");
        self.call(
            buyer,
            CLAIMS,
            &IClaims::depositCall {
                amount: U256::from(1_000_000_000u64),
            },
        )
        .expect("deposit");
        self.register_model(maker, "tiny", shape).expect("model");
    }

    pub fn register_model(
        &mut self,
        maker: Address,
        name: &str,
        shape: Shape,
    ) -> Result<B256, Bytes> {
        let call = IModels::registerCall {
            structure: shape.encode().into(),
            tablesRoot: B256::repeat_byte(1),
            weightsRoot: B256::repeat_byte(2),
            name: name.to_string(),
            price: 1_000,
            uri: "MIT".to_string(),
        };
        self.call(maker, MODELS, &call)
    }

    pub fn raw(&mut self, caller: Address, target: Address, value: u128, input: &[u8]) -> Outcome {
        let checkpoint = self.storage.checkpoint();
        let value = U256::from(value);
        assert!(
            self.storage
                .transfer(caller, target, value)
                .expect("transfer"),
            "caller lacks native coin"
        );
        let outcome = self.modules.call(
            &mut self.storage,
            Call {
                target,
                caller,
                value,
                input,
            },
        );
        match outcome {
            Outcome::Return(_) => self.storage.commit_to(checkpoint),
            _ => self.storage.revert_to(checkpoint),
        }
        outcome
    }

    pub fn pay<C: SolCall>(
        &mut self,
        caller: Address,
        target: Address,
        value: u128,
        call: &C,
    ) -> Result<C::Return, Bytes> {
        match self.raw(caller, target, value, &call.abi_encode()) {
            Outcome::Return(output) => {
                Ok(C::abi_decode_returns_validate(&output).expect("canonical returns"))
            }
            Outcome::Revert(data) => Err(data),
            other => panic!("unexpected outcome {other:?}"),
        }
    }

    pub fn call<C: SolCall>(
        &mut self,
        caller: Address,
        target: Address,
        call: &C,
    ) -> Result<C::Return, Bytes> {
        self.pay(caller, target, 0, call)
    }

    pub fn view<C: SolCall>(&mut self, target: Address, call: &C) -> C::Return {
        self.storage.is_static = true;
        let outcome = self.modules.call(
            &mut self.storage,
            Call {
                target,
                caller: Address::ZERO,
                value: U256::ZERO,
                input: &call.abi_encode(),
            },
        );
        self.storage.is_static = false;
        match outcome {
            Outcome::Return(output) => {
                C::abi_decode_returns_validate(&output).expect("canonical returns")
            }
            other => panic!("view failed: {other:?}"),
        }
    }

    /// Ends a block and begins the next one `ms` later.
    pub fn advance(&mut self, ms: u64) {
        self.modules
            .end_block(&mut self.storage)
            .expect("end of block");
        self.storage.env.number += 1;
        self.storage.env.timestamp_ms += ms;
        self.modules
            .begin_block(&mut self.storage)
            .expect("begin of block");
    }

    pub fn now_seconds(&self) -> u64 {
        self.storage.env.timestamp_ms / 1_000
    }

    pub fn check(&mut self) {
        self.modules
            .check_invariants(&mut self.storage)
            .expect("invariants");
    }

    pub fn usd(&mut self, owner: Address) -> u128 {
        self.view(USD, &IUsd::balanceOfCall { owner }).to()
    }

    pub fn native(&mut self, owner: Address) -> u128 {
        self.storage.balance(owner).expect("balance").to()
    }

    pub fn escrow(&mut self, buyer: Address) -> u128 {
        self.view(CLAIMS, &IClaims::balanceOfCall { buyer }).to()
    }

    pub fn claim(&mut self, claim_id: B256) -> IClaims::Claim {
        self.view(CLAIMS, &IClaims::claimCall { claimId: claim_id })
    }

    pub fn dispute(&mut self, id: U256) -> IDisputes::Dispute {
        self.view(DISPUTES, &IDisputes::disputeCall { id })
    }

    /// Next request and receipt of the line between buyer and operator.
    pub fn draft(&mut self, shape: &Shape, leaves: &[B256]) -> (Receipt, Request) {
        let line_id = assay_modules::claims::line_id(self.operator.address, self.buyer.address);
        let line = self.view(CLAIMS, &IClaims::lineCall { lineId: line_id });
        let (fee, value) = (1_000_000u128, 5_000_000u128);
        let call = IClaims::requiredExposureCall {
            fee,
            valueAtRisk: value,
            auditPpm: 80_000,
        };
        let exposure = self.view(CLAIMS, &call);
        let now = self.now_seconds();
        let request = Request {
            version: 1,
            lineId: line_id,
            seq: line.assertedSeq + 1,
            modelId: shape.model_id(),
            semantics: 1,
            inputCommit: input_commit(),
            samplingHash: B256::ZERO,
            maxOut: 1,
            maxFee: 2_000_000,
            valueAtRisk: value,
            tierMask: 0b11,
            auditPpm: 80_000,
            window: 600,
            expiry: now + 60,
        };
        let receipt = Receipt {
            version: 1,
            tier: 1,
            line_id,
            seq: request.seq,
            cum_exposure: line.cumExposure + exposure,
            requester: self.buyer.address,
            operator: self.operator.address,
            request_hash: request.eip712_hash_struct(),
            model_id: request.modelId,
            semantics: 1,
            input_commit: leaves[0],
            output_commit: *leaves.last().unwrap(),
            n_in: 4,
            n_out: 1,
            trace_root: root_of(leaves),
            n_leaves: leaves.len() as u64,
            fee,
            value_at_risk: value,
            exposure,
            audit_ppm: 80_000,
            window: 600,
            issued_at: now,
            include_by: now + 60,
            ..Default::default()
        };
        (receipt, request)
    }

    pub fn signed(&self, receipt: &Receipt, request: &Request) -> IClaims::assertSingleCall {
        let domain = receipt_domain(CHAIN, CLAIMS);
        IClaims::assertSingleCall {
            receipt: receipt.to_words(),
            signature: sign(&self.key, receipt.signing_hash(&domain)),
            request: request.clone(),
            requestSignature: sign(&self.buyer, request.eip712_signing_hash(&domain)),
        }
    }

    pub fn assert(&mut self, receipt: &Receipt, request: &Request) -> Result<B256, Bytes> {
        let call = self.signed(receipt, request);
        self.call(self.operator.address, CLAIMS, &call)
    }

    /// Asserts an answer with this trace.
    pub fn answer(&mut self, shape: &Shape, leaves: &[B256]) -> B256 {
        let (receipt, request) = self.draft(shape, leaves);
        self.assert(&receipt, &request).expect("assert")
    }

    pub fn bond(&mut self, claim_id: B256) -> u128 {
        self.view(DISPUTES, &IDisputes::bondOfCall { claimId: claim_id })
            .to()
    }

    pub fn challenge(&mut self, challenger: Address, claim_id: B256) -> Result<U256, Bytes> {
        let bond = self.bond(claim_id);
        self.pay(
            challenger,
            DISPUTES,
            bond,
            &IDisputes::challengeCall { claimId: claim_id },
        )
    }
}

pub fn assert_error<E: SolError + core::fmt::Debug, T: core::fmt::Debug>(
    result: Result<T, Bytes>,
) -> E {
    let data = result.expect_err("the call must revert");
    E::abi_decode_validate(&data)
        .unwrap_or_else(|_| panic!("expected `{}`, got {data}", E::SIGNATURE))
}

//! A proof key of several parts on a chain: uploaded, undone, kept over a restart, and verified with.

mod support;

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use alloy_consensus::TxEip1559;
use alloy_primitives::{Address, B256, Bytes, U256, keccak256};
use alloy_sol_types::SolCall;
use assay_abi::{IModels, IStaking, MODELS, PROOF_KEY_PART, STAKING, proof_key_parts};
use assay_graph::{
    DType, Data, Dim, Graph, GraphBuilder, Header, Op, Requant, Tensor, TensorType, WeightRow,
};
use assay_modules::{ProofVerifier as _, StoredKey};
use assay_node::{GenesisParams, GraphArbiter, GraphProofs, Node, NodeConfig, NodeHandle};
use assay_proof::{Input, Proof, ProvingKey, prove};
use assay_types::StoredReceipt;
use support::{Account, transfer};

const PATIENCE: Duration = Duration::from_secs(60);
const BLOCK_GAS: u64 = 59_000_000;

/// A model with a table of 65,536 values: they are facts of its key.
fn graph() -> Arc<Graph> {
    let header = Header {
        max_seq: 1,
        block_bits: 10,
    };
    let mut b = GraphBuilder::new(header);
    let ty = TensorType {
        dtype: DType::I8,
        shape: vec![Dim::Fixed(4)],
        lo: -127,
        hi: 127,
    };
    let x = b.input(ty).unwrap();
    let row = WeightRow {
        shift: 0,
        bias: 1,
        values: vec![100, -99, 31, -28],
    };
    let weights = b.weights(DType::I8, &[row]).unwrap();
    let out = Requant {
        shift: 0,
        dtype: DType::I16,
        lo: -32768,
        hi: 32767,
    };
    let y = b
        .push("y", Op::Linear { weights, out }, &[x], false)
        .unwrap();
    let values: Vec<i32> = (0..65_536i64)
        .map(|i| (i * 40_503 % 65_536 - 32_768) as i32)
        .collect();
    let table = b.table(DType::I16, &values).unwrap();
    b.push("z", Op::Lookup { table }, &[y], true).unwrap();
    Arc::new(b.finish().unwrap())
}

fn proof(key: &ProvingKey) -> Proof {
    let data = Data::from_i32(DType::I8, &[5, -6, 7, 127]).unwrap();
    let input = Input {
        tensor: Tensor::new(vec![4], data).unwrap(),
        out: 1,
        sampling: None,
    };
    prove(key, &[input], b"context", &mut |_| {}).unwrap()
}

struct Net {
    node: NodeHandle,
    maker: Account,
    operator: Account,
    nonces: HashMap<Address, u64>,
    key: ProvingKey,
    model_id: B256,
}

impl Net {
    async fn open(folder: &Path) -> Self {
        let (maker, operator) = (Account::new(1), Account::new(2));
        let funded = [maker.address, operator.address];
        let arbiter = Arc::new(GraphArbiter);
        let mut config = NodeConfig::local(folder, &funded, GenesisParams::dev(), arbiter);
        config.check_invariants = true;
        config.rpc = None;
        let key = ProvingKey::new(graph()).unwrap();
        Self {
            node: Node::open(config).await.unwrap(),
            maker,
            operator,
            nonces: HashMap::new(),
            model_id: key.key().model_id().into(),
            key,
        }
    }

    async fn send<C: SolCall>(
        &mut self,
        from: &Account,
        to: Address,
        gas_limit: u64,
        call: &C,
    ) -> StoredReceipt {
        let coin = if to == STAKING { 10_000u128 } else { 0 };
        let nonce = self.nonces.entry(from.address).or_default();
        let raw = from.sign(TxEip1559 {
            input: call.abi_encode().into(),
            gas_limit,
            value: U256::from(coin * 1_000_000_000_000_000_000),
            ..transfer(*nonce, to, 0)
        });
        *nonce += 1;
        self.node.send(raw, PATIENCE).await.unwrap()
    }

    async fn models<C: SolCall>(&mut self, call: &C) -> StoredReceipt {
        let maker = self.maker.clone();
        self.send(&maker, MODELS, BLOCK_GAS, call).await
    }

    fn view<C: SolCall>(&self, call: &C) -> C::Return {
        let input = call.abi_encode().into();
        let output = self.node.call(self.maker.address, MODELS, input).unwrap();
        C::abi_decode_returns_validate(&output).unwrap()
    }

    fn key_view(&self) -> IModels::ProofKey {
        self.view(&IModels::proofKeyCall {
            modelId: self.model_id,
        })
    }

    fn key_bytes(&self) -> Vec<u8> {
        let (mut out, length) = (Vec::new(), self.key_view().length as usize);
        while out.len() < length {
            let call = IModels::proofKeyBytesCall {
                modelId: self.model_id,
                offset: U256::from(out.len()),
                count: U256::from(PROOF_KEY_PART),
            };
            out.extend_from_slice(&self.view(&call));
        }
        out
    }

    fn announcement(&self, key: &[u8]) -> IModels::announceProofKeyCall {
        IModels::announceProofKeyCall {
            modelId: self.model_id,
            keyId: self.key.key().id().into(),
            length: key.len() as u32,
            hashes: proof_key_parts(key).map(keccak256).collect(),
        }
    }

    fn part(&self, key: &[u8], index: u32) -> IModels::addProofKeyPartCall {
        let part = proof_key_parts(key).nth(index as usize).unwrap();
        IModels::addProofKeyPartCall {
            modelId: self.model_id,
            keyId: self.key.key().id().into(),
            index,
            part: Bytes::copy_from_slice(part),
        }
    }

    async fn register(&mut self) {
        let graph = graph();
        let identity = graph.identity();
        let call = IModels::registerCall {
            structure: graph.structure().to_bytes().into(),
            tablesRoot: identity.tables_root.into(),
            weightsRoot: identity.weights_root.into(),
            name: "table".into(),
            price: 1_000,
            uri: String::new(),
        };
        assert!(self.models(&call).await.success);
        let operator = self.operator.clone();
        let call = IStaking::registerCall {
            receiptKey: operator.address,
            endpoint: String::new(),
        };
        assert!(
            self.send(&operator, STAKING, BLOCK_GAS, &call)
                .await
                .success
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_in_parts_is_kept_undone_and_verified_with() {
    let folder = tempfile::tempdir().unwrap();
    let mut net = Net::open(folder.path()).await;
    net.register().await;
    let key = net.key.key().encode();
    let parts = proof_key_parts(&key).len() as u32;
    assert!(parts > 2, "{} bytes", key.len());
    let announcement = net.announcement(&key);
    let announced = net.models(&announcement).await;
    assert!(announced.success);
    let mut most = 0;
    for index in 0..parts - 1 {
        let call = net.part(&key, index);
        let receipt = net.models(&call).await;
        assert!(receipt.success);
        most = most.max(receipt.gas_used);
    }
    // the gas ends behind the write of the last part: nothing is left of it
    let last = net.part(&key, parts - 1);
    let maker = net.maker.clone();
    let bytes = last.part.len() as u64;
    let gas = 21_000 + 32_000 + 150_000 + bytes * 216;
    let receipt = net.send(&maker, MODELS, gas, &last).await;
    assert!(!receipt.success);
    assert_eq!(net.key_view().missing, 1);
    // it ends before, between and behind the removals of parts: they are still there, until all of them go
    let call = IModels::proofKeyPartsCall {
        modelId: net.model_id,
    };
    let here = net.view(&call).here;
    let mut gas = 45_000;
    while !net.send(&maker, MODELS, gas, &announcement).await.success {
        assert_eq!(net.view(&call).here, here, "{gas} gas");
        gas += 5_000;
    }
    assert!(gas > 60_000, "{gas}");
    assert_eq!(net.key_view().missing, parts);
    for index in 0..parts - 1 {
        let call = net.part(&key, index);
        assert!(net.models(&call).await.success);
    }
    let receipt = net.models(&last).await;
    assert!(receipt.success);
    println!(
        "key of {} bytes: announced for {} gas, a part {most}, the last one of {bytes} bytes {}",
        key.len(),
        announced.gas_used,
        receipt.gas_used
    );
    assert_eq!(net.key_bytes(), key);

    let (operator, key_id) = (net.operator.clone(), net.key.key().id().into());
    let call = IModels::attestProofKeyCall {
        modelId: net.model_id,
        keyId: key_id,
    };
    assert!(net.send(&operator, MODELS, BLOCK_GAS, &call).await.success);
    assert!(net.key_view().usable);
    let good = IModels::verifyProofCall {
        proof: proof(&net.key).encode().into(),
    };
    let check = net.view(&good);
    assert!(check.ok, "{}", check.reason);
    assert_eq!(check.keyId, key_id);
    // remembered or not, it is the same key
    assert!(net.view(&good).ok);
    let nonces = net.nonces.clone();
    net.node.shutdown().await.unwrap();

    let mut net = Net::open(folder.path()).await;
    net.nonces = nonces;
    assert_eq!(net.key_bytes(), key);
    assert!(net.view(&good).ok);
    assert!(!net.models(&announcement).await.success);
    net.node.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dropped_key_is_gone_from_the_state_and_comes_again() {
    let folder = tempfile::tempdir().unwrap();
    let mut net = Net::open(folder.path()).await;
    net.register().await;
    let key = net.key.key().encode();
    let announcement = net.announcement(&key);
    for _ in 0..2 {
        assert!(net.models(&announcement).await.success);
        assert_eq!(net.key_view().missing, announcement.hashes.len() as u32);
        for index in 0..announcement.hashes.len() as u32 {
            let call = net.part(&key, index);
            assert!(net.models(&call).await.success);
        }
        assert_eq!(net.key_bytes(), key);
    }
    // parts that hash to what was announced and are no key
    let mut bad = key.clone();
    let at = bad.len() - 1;
    bad[at] ^= 1;
    let announcement = net.announcement(&bad);
    assert!(net.models(&announcement).await.success);
    let last = announcement.hashes.len() as u32 - 1;
    for index in 0..last {
        let call = net.part(&bad, index);
        assert!(net.models(&call).await.success);
    }
    let call = net.part(&bad, last);
    assert!(!net.models(&call).await.success);
    assert_eq!(net.key_view().missing, 1);
    net.node.shutdown().await.unwrap();
}

#[test]
fn keys_are_remembered_by_their_id() {
    let proofs = GraphProofs::default();
    let key = ProvingKey::new(graph()).unwrap();
    let (bytes, proof) = (key.key().encode(), proof(&key).encode());
    let stored = StoredKey {
        key_id: key.key().id().into(),
        bytes: &bytes,
    };
    assert!(proofs.verify(stored, &proof).unwrap() >= 100);
    // a second look reads no bytes
    let remembered = StoredKey {
        bytes: &[],
        ..stored
    };
    assert!(proofs.verify(remembered, &proof).unwrap() >= 100);
    // as many keys as there is room for push it out
    for i in 0..128u64 {
        let other = StoredKey {
            key_id: B256::from(U256::from(i)),
            ..stored
        };
        proofs.verify(other, &proof).unwrap();
    }
    assert!(proofs.verify(remembered, &proof).is_err());
    assert!(proofs.verify(stored, &proof).is_ok());
}

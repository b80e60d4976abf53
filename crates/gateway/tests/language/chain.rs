//! A chain that answers the calls a gateway makes, without blocks: fixed price, one buyer with money, operators by hand.

use std::collections::HashMap;
use std::sync::Arc;

use alloy_primitives::{Address, Bytes, U256};
use alloy_sol_types::SolCall;
use assay_abi::{CLAIMS, CLOCK, IClaims, IClock, IModels, IStaking, MODELS, STAKING};
use axum::routing::post;
use axum::{Json, Router};
use parking_lot::Mutex;
use serde_json::{Value, json};

pub const CHAIN_ID: u64 = 31_337;
pub const PRICE: u128 = 2_000;
pub const NOW: u64 = 1_800_000_000;
pub const EXPOSURE: u128 = 1_000_000;

#[derive(Default)]
pub struct State {
    /// Operator, endpoint, receipt key.
    pub operators: Mutex<Vec<(Address, String, Address)>>,
    pub balances: Mutex<HashMap<Address, u128>>,
}

fn answer(state: &State, to: Address, data: &[u8]) -> Option<Vec<u8>> {
    let selector: [u8; 4] = data.get(..4)?.try_into().ok()?;
    Some(match (to, selector) {
        (CLOCK, IClock::nowSecondsCall::SELECTOR) => {
            IClock::nowSecondsCall::abi_encode_returns(&NOW)
        }
        (MODELS, IModels::modelCall::SELECTOR) => {
            let model = IModels::Model {
                modelId: IModels::modelCall::abi_decode(data).ok()?.modelId,
                price: PRICE,
                ..empty_model()
            };
            IModels::modelCall::abi_encode_returns(&model)
        }
        (CLAIMS, IClaims::balanceOfCall::SELECTOR) => {
            let buyer = IClaims::balanceOfCall::abi_decode(data).ok()?.buyer;
            let balance = state.balances.lock().get(&buyer).copied().unwrap_or(0);
            IClaims::balanceOfCall::abi_encode_returns(&U256::from(balance))
        }
        (CLAIMS, IClaims::requiredExposureCall::SELECTOR) => {
            IClaims::requiredExposureCall::abi_encode_returns(&EXPOSURE)
        }
        (STAKING, IStaking::operatorsCall::SELECTOR) => {
            let offset = IStaking::operatorsCall::abi_decode(data).ok()?.offset;
            let all = state.operators.lock();
            let page = all.iter().skip(offset.to()).map(|one| one.0).collect();
            IStaking::operatorsCall::abi_encode_returns(&IStaking::operatorsReturn {
                page,
                total: U256::from(all.len()),
            })
        }
        (STAKING, IStaking::operatorCall::SELECTOR) => {
            let account = IStaking::operatorCall::abi_decode(data).ok()?.account;
            let all = state.operators.lock();
            let (_, endpoint, key) = all.iter().find(|one| one.0 == account)?;
            IStaking::operatorCall::abi_encode_returns(&IStaking::Operator {
                bonded: U256::from(1),
                locked: U256::ZERO,
                unbonding: U256::ZERO,
                receiptKey: *key,
                pendingKey: Address::ZERO,
                pendingFrom: 0,
                jailed: false,
                generation: 0,
                endpoint: endpoint.clone(),
            })
        }
        (STAKING, IStaking::keyCall::SELECTOR) => {
            let wanted = IStaking::keyCall::abi_decode(data).ok()?.receiptKey;
            let all = state.operators.lock();
            let owner = all.iter().find(|one| one.2 == wanted);
            IStaking::keyCall::abi_encode_returns(&IStaking::Key {
                operator: owner.map_or(Address::ZERO, |one| one.0),
                from: 0,
                until: 0,
            })
        }
        _ => return None,
    })
}

fn empty_model() -> IModels::Model {
    IModels::Model {
        modelId: Default::default(),
        lineage: Default::default(),
        versionNumber: 1,
        graphRoot: Default::default(),
        tablesRoot: Default::default(),
        weightsRoot: Default::default(),
        nodeCount: 1,
        maxSeq: 64,
        semantics: 1,
        singleShot: false,
        price: 0,
        registeredAt: 0,
        structureHash: Default::default(),
        uri: String::new(),
    }
}

fn rpc(state: &State, body: &Value) -> Value {
    let result = match body["method"].as_str().unwrap_or("") {
        "eth_chainId" => json!(format!("{CHAIN_ID:#x}")),
        "eth_blockNumber" => json!("0x1"),
        "eth_call" => {
            let call = &body["params"][0];
            let to: Address = call["to"].as_str().unwrap().parse().unwrap();
            let data: Bytes = call["data"].as_str().unwrap().parse().unwrap();
            match answer(state, to, &data) {
                Some(data) => json!(Bytes::from(data)),
                None => {
                    let error = json!({"code": -32000, "message": "not in this chain"});
                    return json!({"jsonrpc": "2.0", "id": body["id"], "error": error});
                }
            }
        }
        _ => {
            let error = json!({"code": -32601, "message": "not in this chain"});
            return json!({"jsonrpc": "2.0", "id": body["id"], "error": error});
        }
    };
    json!({"jsonrpc": "2.0", "id": body["id"], "result": result})
}

/// Serves the chain; its URL.
pub async fn serve(state: Arc<State>) -> String {
    let router = Router::new().route(
        "/",
        post(move |Json(body): Json<Value>| {
            let state = Arc::clone(&state);
            async move { Json(rpc(&state, &body)) }
        }),
    );
    super::listen(router).await
}

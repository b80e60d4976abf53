//! Transfers, module calls, contracts, errors and time over RPC, on a node in this process.

mod support;

use std::time::Duration;

use alloy_primitives::{Address, Bytes, U256, address, bytes, hex};
use alloy_sol_types::{SolCall, sol};
use assay_abi::{MODULES, USD};
use assay_node::{BlockMode, Node};
use serde_json::{Value, json};
use support::{Account, Client, config, transfer};

sol! {
    interface Token {
        function transfer(address to, uint256 amount) external returns (bool);
        function balanceOf(address owner) external view returns (uint256);
        function decimals() external view returns (uint8);
    }
}

const PATIENCE: Duration = Duration::from_secs(20);
const BOB: Address = address!("00000000000000000000000000000000000000b0");

fn with_money(alice: &Account) -> assay_node::NodeConfig {
    let mut config = config(&[alice.address]);
    let (alice, funded) = (alice.address, vec![alice.address]);
    config.genesis = Box::new(move |sequencer| {
        let mut params = support::params();
        params.usd = vec![(alice, 1_000_000_000)];
        assay_node::Genesis::local(sequencer, &funded, params)
    });
    config
}

#[tokio::test(flavor = "multi_thread")]
async fn transfer_and_module_call_are_mined_and_readable() {
    let alice = Account::new(1);
    let node = Node::open(with_money(&alice)).await.unwrap();
    let receipt = node
        .send(alice.transfer(0, BOB, 5), PATIENCE)
        .await
        .unwrap();
    assert!(receipt.success);
    assert_eq!(receipt.gas_used, 21_000);
    assert_eq!(node.chain().account(&BOB).unwrap().balance, U256::from(5));

    let data = Token::transferCall {
        to: BOB,
        amount: U256::from(7_000_000),
    }
    .abi_encode();
    let receipt = node
        .send(alice.invoke(1, USD, data), PATIENCE)
        .await
        .unwrap();
    assert!(receipt.success);
    assert_eq!(receipt.logs.len(), 1);
    assert_eq!(receipt.logs[0].address, USD);

    let data = Token::balanceOfCall { owner: BOB }.abi_encode();
    let output = node.call(BOB, USD, data.clone().into()).unwrap();
    assert_eq!(U256::from_be_slice(&output), U256::from(7_000_000));

    let address = node.rpc_address().unwrap();
    tokio::task::spawn_blocking(move || {
        let mut rpc = Client::connect(address).unwrap();
        assert_eq!(rpc.ok("eth_chainId", json!([])), json!("0xa55a"));
        let call = json!([{"to": USD, "data": hex::encode_prefixed(data)}, "latest"]);
        let word = rpc.ok("eth_call", call);
        assert!(word.as_str().unwrap().ends_with("6acfc0"), "{word}");
        let logs = rpc.ok("eth_getLogs", json!([{"address": USD, "fromBlock": "0x0"}]));
        assert_eq!(logs.as_array().unwrap().len(), 1);
        let receipts = rpc.ok("eth_getBlockReceipts", json!(["latest"]));
        assert_eq!(receipts[0]["to"], json!(USD));
        assert_eq!(receipts[0]["status"], json!("0x1"));
    })
    .await
    .unwrap();
    node.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn every_module_account_survives_eip_161() {
    let alice = Account::new(1);
    let directory = tempfile::tempdir().unwrap();
    let mut first = config(&[alice.address]);
    first.data_dir = Some(directory.path().into());
    let node = Node::open(first).await.unwrap();
    // Touching an empty account removes it; a value-less transfer touches.
    for (nonce, (_, _, _, module)) in (0u64..).zip(MODULES) {
        let receipt = node
            .send(alice.invoke(nonce, module, Bytes::new()), PATIENCE)
            .await
            .unwrap();
        assert!(!receipt.success, "an unknown selector reverts");
    }
    node.shutdown().await.unwrap();

    let mut again = config(&[alice.address]);
    again.data_dir = Some(directory.path().into());
    let node = Node::open(again).await.unwrap();
    let address = node.rpc_address().unwrap();
    tokio::task::spawn_blocking(move || {
        let mut rpc = Client::connect(address).unwrap();
        for (name, _, _, module) in MODULES {
            assert_eq!(
                rpc.ok("eth_getCode", json!([module, "latest"])),
                json!("0xfe"),
                "{name}"
            );
            let nonce = rpc.ok("eth_getTransactionCount", json!([module, "latest"]));
            assert_eq!(nonce, json!("0x1"), "{name}");
        }
        let proof = rpc.ok(
            "eth_getProof",
            json!([assay_abi::PARAMETERS, ["0x0"], "latest"]),
        );
        assert!(proof["accountProof"].as_array().unwrap().len() > 1);
    })
    .await
    .unwrap();
    node.shutdown().await.unwrap();
}

/// Runtime that forwards its calldata after the first 20 bytes (an address) by the opcode in `kind`, and returns
/// success as one word.
fn forwarder(kind: u8) -> Vec<u8> {
    // calldatacopy(0, 20, calldatasize - 20)
    let mut code = hex!("601436036014600037").to_vec();
    // Arguments: out length 0, out offset 0, in length, in offset 0, [value 0], address, gas.
    code.extend(hex!("60006000601436036000"));
    if matches!(kind, 0xf1 | 0xf2) {
        code.extend(hex!("34"));
    }
    code.extend(hex!("60003560601c"));
    code.extend([0x5a, kind]);
    code.extend(hex!("60005260206000f3"));
    // Init code: return the runtime.
    let length = u8::try_from(code.len()).unwrap();
    let mut init = vec![
        0x60, length, 0x80, 0x60, 0x0b, 0x60, 0x00, 0x39, 0x60, 0x00, 0xf3,
    ];
    init.extend(code);
    init
}

#[tokio::test(flavor = "multi_thread")]
async fn delegatecall_static_and_value_matrix() {
    let alice = Account::new(1);
    let node = Node::open(with_money(&alice)).await.unwrap();
    let mutate = Token::transferCall {
        to: BOB,
        amount: U256::ZERO,
    }
    .abi_encode();
    let view = Token::decimalsCall {}.abi_encode();
    // (opcode, name, view succeeds, mutation succeeds)
    let matrix = [
        (0xf1u8, "CALL", true, true),
        (0xf2, "CALLCODE", false, false),
        (0xf4, "DELEGATECALL", false, false),
        (0xfa, "STATICCALL", true, false),
    ];
    for (nonce, (kind, name, may_view, may_mutate)) in (0u64..).zip(matrix) {
        let receipt = node
            .send(alice.deploy(nonce, forwarder(kind)), PATIENCE)
            .await
            .unwrap();
        let contract = receipt
            .contract_address()
            .unwrap_or_else(|| panic!("{name} deployed"));
        for (data, expected) in [(&view, may_view), (&mutate, may_mutate)] {
            let mut input = USD.to_vec();
            input.extend(data);
            let output = node.call(alice.address, contract, input.into()).unwrap();
            assert_eq!(output.last() == Some(&1), expected, "{name}");
        }
    }
    // The refusal of a delegated call is the custom error.
    // Value sent to a function that takes none reverts.
    let data: Bytes = mutate.into();
    let tx = alloy_consensus::TxEip1559 {
        input: data,
        gas_limit: 1_000_000,
        ..transfer(4, USD, 1)
    };
    let receipt = node.send(alice.sign(tx), PATIENCE).await.unwrap();
    assert!(!receipt.success);
    assert_eq!(node.chain().account(&USD).unwrap().balance, U256::ZERO);
    node.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn estimate_is_the_smallest_gas_that_succeeds() {
    let alice = Account::new(1);
    let node = Node::open(with_money(&alice)).await.unwrap();
    let data: Bytes = Token::transferCall {
        to: BOB,
        amount: U256::from(3),
    }
    .abi_encode()
    .into();
    let address = node.rpc_address().unwrap();
    let request = json!({"from": alice.address, "to": USD, "data": data});
    let gas = tokio::task::spawn_blocking(move || {
        let mut rpc = Client::connect(address).unwrap();
        let estimate = rpc.ok("eth_estimateGas", json!([request]));
        u64::from_str_radix(&estimate.as_str().unwrap()[2..], 16).unwrap()
    })
    .await
    .unwrap();
    let with_gas = |nonce, gas_limit| {
        alice.sign(alloy_consensus::TxEip1559 {
            input: data.clone(),
            gas_limit,
            ..transfer(nonce, USD, 0)
        })
    };
    // Out of gas one below, and nothing is changed by it.
    let short = node.send(with_gas(0, gas - 1), PATIENCE).await.unwrap();
    assert!(!short.success);
    assert_eq!(short.gas_used, gas - 1);
    let exact = node.send(with_gas(1, gas), PATIENCE).await.unwrap();
    assert!(exact.success);
    // The same call again costs less or equal (the slot exists now) and is monotone in nothing but state.
    let again = node.send(with_gas(2, gas), PATIENCE).await.unwrap();
    assert!(again.success && again.gas_used <= exact.gas_used);
    node.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn pool_errors_are_worded_as_geth_does() {
    let alice = Account::new(1);
    let poor = Account::new(99);
    let mut config = config(&[alice.address]);
    config.block_mode = BlockMode::Manual;
    let node = Node::open(config).await.unwrap();
    node.chain().submit(alice.transfer(0, BOB, 1)).unwrap();
    node.chain().produce(false).unwrap();
    node.chain().submit(alice.transfer(1, BOB, 1)).unwrap();
    let text = |raw: Bytes| node.chain().submit(raw).unwrap_err().to_string();
    let starts = |raw: Bytes, want: &str| {
        let found = text(raw);
        assert!(
            found.starts_with(want),
            "{found} does not start with {want}"
        );
    };
    starts(alice.transfer(0, BOB, 9), "nonce too low");
    starts(alice.transfer(1, BOB, 1), "already known");
    starts(
        alice.transfer(1, BOB, 2),
        "replacement transaction underpriced",
    );
    starts(
        poor.transfer(0, BOB, 1),
        "insufficient funds for gas * price + value",
    );
    let with = |change: fn(&mut alloy_consensus::TxEip1559)| {
        let mut tx = transfer(2, BOB, 1);
        change(&mut tx);
        alice.sign(tx)
    };
    starts(with(|tx| tx.gas_limit = 20_999), "intrinsic gas too low");
    starts(
        with(|tx| tx.gas_limit = 60_000_001),
        "exceeds block gas limit",
    );
    starts(with(|tx| tx.chain_id = 1), "invalid chain id for signer");
    starts(with(|tx| tx.max_fee_per_gas = 6), "transaction underpriced");
    starts(
        with(|tx| tx.max_priority_fee_per_gas = 100_000_000_001),
        "max priority fee per gas higher than max fee per gas",
    );
    starts(
        Bytes::from_static(&[3, 0xc0]),
        "transaction type not supported",
    );
    starts(bytes!("02c0"), "rlp");
    // A replacement with both caps 10 % higher is taken.
    let better = alice.sign(alloy_consensus::TxEip1559 {
        max_fee_per_gas: 110_000_000_000,
        max_priority_fee_per_gas: 2,
        ..transfer(1, BOB, 2)
    });
    node.chain().submit(better).unwrap();
    assert_eq!(node.chain().pool_status().pending, 1);
    node.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn time_moves_when_told_and_blocks_can_be_made_by_hand() {
    let node = Node::open(config(&[])).await.unwrap();
    let before = node.chain().timestamp_ms();
    node.advance_time(Duration::from_secs(7_200)).unwrap();
    assert!(node.chain().timestamp_ms() >= before + 7_200_000);
    let address = node.rpc_address().unwrap();
    tokio::task::spawn_blocking(move || {
        let mut rpc = Client::connect(address).unwrap();
        for seconds in [json!(u64::MAX), json!("0xffffffffffff")] {
            let (code, words) = rpc.error("evm_increaseTime", json!([seconds]));
            assert!(
                code == -32602 && words.contains("at most"),
                "{code} {words}"
            );
        }
        rpc.ok("evm_increaseTime", json!([60]));
        rpc.ok("evm_mine", json!([]));
        let block = rpc.ok("eth_getBlockByNumber", json!(["latest", false]));
        assert_eq!(block["number"], json!("0x2"));
        let at = u64::from_str_radix(&block["timestamp"].as_str().unwrap()[2..], 16).unwrap();
        rpc.ok("evm_setNextBlockTimestamp", json!([at + 1_000]));
        rpc.ok("evm_mine", json!([]));
        let block = rpc.ok("eth_getBlockByNumber", json!(["latest", false]));
        assert_eq!(block["timestamp"], json!(format!("{:#x}", at + 1_000)));
    })
    .await
    .unwrap();
    node.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn malformed_requests_get_errors_and_the_node_lives() {
    let node = Node::open(config(&[])).await.unwrap();
    let address = node.rpc_address().unwrap();
    tokio::task::spawn_blocking(move || {
        let mut rpc = Client::connect(address).unwrap();
        let nested = format!("{}{}", "[".repeat(5_000), "]".repeat(5_000));
        let bodies = [
            ("", -32_700),
            ("{", -32_700),
            (nested.as_str(), -32_700),
            ("\u{1}", -32_700),
            ("[]", -32_600),
            ("42", -32_600),
            ("null", -32_600),
            ("{}", -32_600),
            (r#"{"id":{},"method":"eth_chainId"}"#, -32_600),
            (r#"{"id":1,"method":7}"#, -32_600),
            (r#"{"id":1,"jsonrpc":"1.0","method":"eth_chainId"}"#, -32_600),
            (r#"{"id":1,"method":"eth_fillTransaction","params":[]}"#, -32_601),
            (r#"{"id":1,"method":"nope"}"#, -32_601),
            (r#"{"id":1,"method":"eth_getBalance"}"#, -32_602),
            (r#"{"id":1,"method":"eth_getBalance","params":{}}"#, -32_602),
            (r#"{"id":1,"method":"eth_getBalance","params":["0x12"]}"#, -32_602),
            (r#"{"id":1,"method":"eth_getBalance","params":[null,null]}"#, -32_602),
            (r#"{"id":1,"method":"eth_call","params":[{"gas":"0xzz"}]}"#, -32_602),
            (r#"{"id":1,"method":"eth_getStorageAt","params":["0x00000000000000000000000000000000000000b0","0x"]}"#, -32_602),
            (r#"{"id":1,"method":"eth_sendRawTransaction","params":["0x"]}"#, -32_602),
            (r#"{"id":1,"method":"eth_sendRawTransaction","params":["0xff"]}"#, -32_602),
            (r#"{"id":1,"method":"eth_getFilterChanges","params":["0x99"]}"#, -32_000),
            (r#"{"id":1,"method":"eth_feeHistory","params":["0x1","latest",[101]]}"#, -32_602),
            (r#"{"id":1,"method":"eth_getLogs","params":[{"fromBlock":"0x5","toBlock":"0x1"}]}"#, -32_602),
        ];
        for (body, code) in bodies {
            let (_, text) = rpc.post(body).unwrap();
            let answer: Value = serde_json::from_str(&text).unwrap_or_else(|_| panic!("{body}: {text}"));
            assert_eq!(answer["error"]["code"], json!(code), "{body}: {text}");
        }
        let many: Vec<Value> = (0..101)
            .map(|id| json!({"id": id, "method": "eth_chainId"}))
            .collect();
        let (_, text) = rpc.post(&Value::Array(many[..100].to_vec()).to_string()).unwrap();
        assert_eq!(serde_json::from_str::<Value>(&text).unwrap().as_array().unwrap().len(), 100);
        let (_, text) = rpc.post(&Value::Array(many).to_string()).unwrap();
        assert!(text.contains("-32005"), "{text}");
        let (status, _) = rpc.post(r#"{"method":"eth_chainId"}"#).unwrap();
        assert_eq!(status, 204, "a notification has no answer");
        assert_eq!(rpc.ok("eth_blockNumber", json!([])), json!("0x0"));
    })
    .await
    .unwrap();
    node.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn timer_mode_collects_transactions_and_beats_when_idle() {
    let alice = Account::new(1);
    let mut config = config(&[alice.address]);
    config.block_mode = BlockMode::Timer {
        delay: Duration::from_millis(30),
        heartbeat: Some(Duration::from_millis(200)),
    };
    let node = Node::open(config).await.unwrap();
    let mut events = node.chain().subscribe();
    for nonce in 0..5 {
        node.chain().submit(alice.transfer(nonce, BOB, 1)).unwrap();
    }
    let mut sizes = Vec::new();
    while sizes.len() < 3 {
        let event = tokio::time::timeout(PATIENCE, events.recv()).await.unwrap();
        if let assay_node::ChainEvent::Block(mined) = event.unwrap() {
            sizes.push(mined.receipts.len());
        }
    }
    assert_eq!(sizes.iter().sum::<usize>(), 5);
    assert_eq!(sizes.last(), Some(&0), "a heartbeat is empty");
    node.shutdown().await.unwrap();
}

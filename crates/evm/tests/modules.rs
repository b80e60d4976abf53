//! Modules through the EVM: gas is exact and monotone, running out of it anywhere changes nothing, and the journal
//! behaves as the in-memory storage that the modules are tested on.

use std::collections::BTreeMap;
use std::sync::Arc;

use alloy_consensus::{SignableTransaction, TxEip1559, TxEnvelope};
use alloy_eips::eip2718::Encodable2718;
use alloy_primitives::{Address, B256, Bytes, Signature, TxKind, U256, address, keccak256};
use alloy_sol_types::{SolCall, SolInterface, sol};
use assay_abi::{MODULES, USD};
use assay_evm::{
    BlockContext, BlockExecutor, CallRequest, Caller, DIRECT_CALL_ONLY, GenesisBuilder,
    MODULE_CODE, TransactionOutcome,
};
use assay_modules::{
    Arbiter, Call, Case, GenesisParams, ModelInfo, Modules, Outcome, RunSize, SegmentInfo, Verdict,
};
use assay_storage::MemoryStorage;
use assay_types::{AccountRecord, Decoded, Recovered, StateDiff, StateView, ViewError};
use proptest::prelude::*;

sol! {
    interface Token {
        function transfer(address to, uint256 amount) external returns (bool);
        function approve(address spender, uint256 amount) external returns (bool);
        function transferFrom(address from, address to, uint256 amount) external returns (bool);
        function balanceOf(address owner) external view returns (uint256);
    }
}

const CHAIN_ID: u64 = 7;
const ALICE: Address = address!("00000000000000000000000000000000000000a1");
const BOB: Address = address!("00000000000000000000000000000000000000b1");

struct NoModels;

impl Arbiter for NoModels {
    fn inspect(&self, _: &[u8], _: B256, _: B256) -> Result<ModelInfo, String> {
        Err("none".into())
    }
    fn committed_leaves(&self, _: &[u8], _: RunSize) -> Result<u64, String> {
        Err("none".into())
    }
    fn segment_of(&self, _: &[u8], _: RunSize, _: u64) -> Result<SegmentInfo, String> {
        Err("none".into())
    }
    fn judge(&self, _: &Case<'_>) -> Result<Verdict, String> {
        Err("none".into())
    }
    fn gas(&self, _: &[u8], _: &[u8]) -> u64 {
        0
    }
}

/// State kept as plain maps; diffs are laid over it.
#[derive(Clone, Default)]
struct World {
    accounts: BTreeMap<Address, AccountRecord>,
    slots: BTreeMap<(Address, U256), U256>,
    code: BTreeMap<B256, Bytes>,
}

impl World {
    fn apply(&mut self, diff: StateDiff) {
        for (address, change) in diff.accounts {
            if change.wiped || change.account.is_none() {
                self.slots.retain(|(owner, _), _| *owner != address);
            }
            match change.account {
                Some(account) => self.accounts.insert(address, account),
                None => self.accounts.remove(&address),
            };
            for (slot, value) in change.slots {
                if value.is_zero() {
                    self.slots.remove(&(address, slot));
                } else {
                    self.slots.insert((address, slot), value);
                }
            }
        }
        self.code.extend(diff.code);
    }
}

impl StateView for World {
    fn account(&self, address: &Address) -> Result<Option<AccountRecord>, ViewError> {
        Ok(self.accounts.get(address).copied())
    }
    fn slot(&self, address: &Address, slot: &U256) -> Result<U256, ViewError> {
        Ok(self
            .slots
            .get(&(*address, *slot))
            .copied()
            .unwrap_or_default())
    }
    fn code(&self, hash: &B256) -> Result<Bytes, ViewError> {
        Ok(self.code.get(hash).cloned().unwrap_or_default())
    }
    fn block_hash(&self, _: u64) -> Result<Option<B256>, ViewError> {
        Ok(None)
    }
}

fn modules() -> Arc<Modules> {
    Arc::new(Modules::new(Arc::new(NoModels)))
}

fn block(number: u64) -> BlockContext {
    BlockContext {
        number,
        timestamp_ms: 1_000_000 + number * 1_000,
        gas_limit: 1_000_000_000,
        base_fee: 7,
        prevrandao: B256::repeat_byte(5),
        beneficiary: address!("00000000000000000000000000000000000000fe"),
        chain_id: CHAIN_ID,
    }
}

fn params() -> GenesisParams {
    GenesisParams {
        usd: vec![(ALICE, 1_000_000), (BOB, 500)],
        ..GenesisParams::dev()
    }
}

fn world() -> World {
    let mut world = World::default();
    let empty = World::default();
    let mut builder = GenesisBuilder::new(modules(), &empty, block(0)).unwrap();
    for who in [ALICE, BOB] {
        let coins = U256::from(10u64).pow(U256::from(24u64));
        builder.account(who, 0, coins, Bytes::new()).unwrap();
    }
    let (diff, _) = builder.finish(&params()).unwrap();
    world.apply(diff);
    world
}

fn transaction(from: Address, nonce: u64, to: Address, gas_limit: u64, input: Bytes) -> Recovered {
    let tx = TxEip1559 {
        chain_id: CHAIN_ID,
        nonce,
        gas_limit,
        max_fee_per_gas: 7,
        max_priority_fee_per_gas: 0,
        to: TxKind::Call(to),
        input,
        ..TxEip1559::default()
    };
    let signature = Signature::new(U256::from(1), U256::from(1), false);
    let raw = TxEnvelope::Eip1559(tx.into_signed(signature)).encoded_2718();
    Decoded::decode(raw.into(), CHAIN_ID, |_| true)
        .unwrap()
        .with_sender(from)
}

/// Runs one call in a block of its own.
fn run(world: &World, gas: u64, to: Address, input: &[u8]) -> (TransactionOutcome, StateDiff) {
    let mut executor = BlockExecutor::new(modules(), world, block(1));
    let nonce = executor.nonce(ALICE).unwrap();
    let input = Bytes::copy_from_slice(input);
    let outcome = executor
        .transact(&transaction(ALICE, nonce, to, gas, input))
        .unwrap();
    (outcome, executor.finish().0)
}

fn transfer(amount: u64) -> Vec<u8> {
    Token::transferCall {
        to: BOB,
        amount: U256::from(amount),
    }
    .abi_encode()
}

#[test]
fn every_module_account_has_nonce_1_and_one_byte_of_code() {
    let world = world();
    for (name, _, _, module) in MODULES {
        let account = world
            .accounts
            .get(&module)
            .unwrap_or_else(|| panic!("{name}"));
        assert_eq!(account.nonce, 1, "{name}");
        assert_eq!(account.code_hash, keccak256(MODULE_CODE), "{name}");
    }
}

#[test]
fn running_out_of_gas_at_any_point_changes_nothing_but_the_fee() {
    let world = world();
    let input = transfer(5);
    let (whole, _) = run(&world, 1_000_000, USD, &input);
    assert!(whole.success);
    let (intrinsic, floor) =
        assay_evm::intrinsic_gas(&transaction(ALICE, 0, USD, 1_000_000, input.clone().into()));
    let mut first_success = None;
    // Every charge is at least 3 gas, so a step of 3 visits each of them.
    for gas in (intrinsic.max(floor)..=whole.gas_used + 20_000).step_by(3) {
        let (outcome, diff) = run(&world, gas, USD, &input);
        match (outcome.success, first_success) {
            (true, None) => first_success = Some(gas),
            (true, Some(_)) => assert_eq!(outcome.gas_used, whole.gas_used, "gas {gas}"),
            (false, None) => {
                assert_eq!(outcome.gas_used, gas, "a halt takes all gas");
                assert!(outcome.logs.is_empty());
                assert!(!diff.accounts.contains_key(&USD), "gas {gas} left a change");
            }
            (false, Some(least)) => panic!("succeeds with {least} but not with {gas}"),
        }
    }
    assert!(first_success.is_some());
}

#[test]
fn gas_is_equal_on_repeat_and_refunds_are_given() {
    let world = world();
    let (first, diff) = run(&world, 1_000_000, USD, &transfer(1_000_000));
    assert_eq!(run(&world, 1_000_000, USD, &transfer(1_000_000)).0, first);
    // Emptying the sender's balance clears a slot: EIP-3529 gives 4,800 back.
    let (partial, _) = run(&world, 1_000_000, USD, &transfer(999_999));
    assert_eq!(partial.gas_used - first.gas_used, 4_800);
    assert_eq!(diff.accounts[&USD].slots.len(), 2);
}

#[test]
fn delegated_call_reverts_with_the_custom_error() {
    // delegatecall(gas, USD, 0, 0, 0, 0); returndatacopy(0, 0, size); return(0, size)
    let mut code = vec![0x5f, 0x5f, 0x5f, 0x5f, 0x73];
    code.extend(USD.as_slice());
    code.extend([0x5a, 0xf4, 0x50, 0x3d, 0x5f, 0x5f, 0x3e, 0x3d, 0x5f, 0xf3]);
    let world = world();
    let mut caller = Caller::new(modules(), &world, block(1));
    let at = address!("00000000000000000000000000000000000000cc");
    let change = assay_evm::AccountOverride {
        code: Some(code.into()),
        ..Default::default()
    };
    caller.apply(at, change).unwrap();
    let request = CallRequest {
        from: ALICE,
        to: Some(at),
        gas: 200_000,
        ..CallRequest::default()
    };
    let outcome = caller.call(&request).unwrap();
    assert_eq!(outcome.result.output.as_ref(), DIRECT_CALL_ONLY);
}

#[test]
fn access_list_names_the_touched_slots() {
    let world = world();
    let mut caller = Caller::new(modules(), &world, block(1));
    let request = CallRequest {
        from: ALICE,
        to: Some(USD),
        gas: 500_000,
        data: transfer(1).into(),
        ..CallRequest::default()
    };
    let outcome = caller.call(&request).unwrap();
    assert!(outcome.result.success);
    let usd = outcome
        .access_list
        .0
        .iter()
        .find(|item| item.address == USD)
        .unwrap();
    assert!(usd.storage_keys.len() >= 2);
    let gas = caller.estimate(&request, &|| true).unwrap().unwrap();
    let short = CallRequest {
        gas: gas - 1,
        ..request.clone()
    };
    assert!(!caller.call(&short).unwrap().result.success);
}

/// Selectors of all modules, so that random calldata reaches their functions.
fn selectors() -> Vec<(Address, [u8; 4])> {
    fn of<I: SolInterface>(module: Address) -> impl Iterator<Item = (Address, [u8; 4])> {
        I::selectors().map(move |selector| (module, selector))
    }
    use assay_abi as abi;
    of::<abi::IUsd::IUsdCalls>(abi::USD)
        .chain(of::<abi::IStaking::IStakingCalls>(abi::STAKING))
        .chain(of::<abi::IModels::IModelsCalls>(abi::MODELS))
        .chain(of::<abi::IClaims::IClaimsCalls>(abi::CLAIMS))
        .chain(of::<abi::IDisputes::IDisputesCalls>(abi::DISPUTES))
        .chain(of::<abi::IClock::IClockCalls>(abi::CLOCK))
        .chain(of::<abi::IBurn::IBurnCalls>(abi::BURN))
        .chain(of::<abi::IPools::IPoolsCalls>(abi::POOLS))
        .chain(of::<abi::IParameters::IParametersCalls>(abi::PARAMETERS))
        .collect()
}

fn calldata() -> impl Strategy<Value = (Address, Vec<u8>)> {
    let word = prop_oneof![
        Just(ALICE.into_word()),
        Just(BOB.into_word()),
        (0u64..2_000).prop_map(|number| B256::from(U256::from(number))),
        any::<[u8; 32]>().prop_map(B256::from),
    ];
    let random = (
        prop::sample::select(selectors()),
        prop::collection::vec(word, 0..8),
        0usize..40,
    )
        .prop_map(|((module, selector), words, cut)| {
            let mut data = selector.to_vec();
            data.extend(words.iter().flat_map(|word| word.0));
            let length = data.len().saturating_sub(if cut < 4 { cut } else { 0 });
            data.truncate(length);
            (module, data)
        });
    let amount = 0u64..2_000_000;
    prop_oneof![
        2 => amount.clone().prop_map(|amount| (USD, transfer(amount))),
        1 => amount.clone().prop_map(|amount| {
            let call = Token::approveCall { spender: BOB, amount: U256::from(amount) };
            (USD, call.abi_encode())
        }),
        1 => amount.prop_map(|amount| {
            let call = Token::transferFromCall { from: ALICE, to: BOB, amount: U256::from(amount) };
            (USD, call.abi_encode())
        }),
        3 => random,
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn journal_and_memory_storage_agree(
        calls in prop::collection::vec((any::<bool>(), calldata()), 1..12),
    ) {
        let modules = modules();
        let mut memory = MemoryStorage::default();
        memory.env = assay_storage::Env {
            number: 0,
            timestamp_ms: block(0).timestamp_ms,
            chain_id: CHAIN_ID,
            prevrandao: block(0).prevrandao,
            proposer: block(0).beneficiary,
        };
        modules.genesis(&mut memory, &params()).unwrap();
        memory.take_logs();
        memory.env.number = 1;
        memory.env.timestamp_ms = block(1).timestamp_ms;
        modules.begin_block(&mut memory).unwrap();

        let mut world = world();
        let mut executor = BlockExecutor::new(Arc::clone(&modules), &world, block(1));
        executor.begin().unwrap();
        memory.take_logs();
        for (alice, (module, input)) in calls {
            let from = if alice { ALICE } else { BOB };
            let nonce = executor.nonce(from).unwrap();
            let tx = transaction(from, nonce, module, 5_000_000, input.clone().into());
            let outcome = executor.transact(&tx).unwrap();
            let expected = modules.call(
                &mut memory,
                Call { target: module, caller: from, value: U256::ZERO, input: &input },
            );
            let logs: Vec<_> = memory.take_logs();
            match expected {
                Outcome::Return(output) => {
                    prop_assert!(outcome.success, "{:?}", outcome);
                    prop_assert_eq!(outcome.output, output);
                    let found: Vec<_> =
                        outcome.logs.into_iter().map(|log| (log.address, log.data)).collect();
                    prop_assert_eq!(found, logs);
                }
                Outcome::Revert(output) => {
                    prop_assert!(!outcome.success && outcome.halt.is_none(), "{:?}", outcome);
                    prop_assert_eq!(outcome.output, output);
                }
                other => prop_assert!(false, "{:?} against {:?}", other, outcome),
            }
        }
        executor.end().unwrap();
        modules.end_block(&mut memory).unwrap();
        prop_assert_eq!(executor.check_invariants(), Ok(()));
        let (diff, _) = executor.finish();
        world.apply(diff);
        let expected: BTreeMap<_, _> = memory.slots().map(|(key, value)| (*key, *value)).collect();
        prop_assert_eq!(&world.slots, &expected);
    }
}

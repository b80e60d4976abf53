//! Blocks: what the sequencer makes verifies and replays; any changed field is refused by name. The pool keeps nonce
//! order, pays attention to tips, and bounds itself.

mod support;

use std::sync::Arc;

use alloy_primitives::{Address, B256, Bloom, Bytes, U256, address};
use assay_chain::{
    Chain, ChainConfig, ChainError, Genesis, Pool, PoolError, PoolLimits, Store, VerifyError,
    replay, verify,
};
use assay_types::{AccountRecord, Block, Certificate, Recovered, SealingKey};
use support::{Account, CHAIN_ID, modules, transfer};

const BOB: Address = address!("00000000000000000000000000000000000000b0");

fn genesis(key: &SealingKey) -> Genesis {
    let funded: Vec<Address> = (1..5).map(|seed| Account::new(seed).address).collect();
    Genesis::local(key.address(), &funded, support::params())
}

fn key(seed: u8) -> SealingKey {
    SealingKey::from_bytes([seed; 32]).unwrap()
}

fn open(store: Store) -> Arc<Chain> {
    let config = ChainConfig {
        genesis: genesis(&key(1)),
        key: key(1),
        pool: PoolLimits::default(),
        check_invariants: true,
    };
    Chain::open(store, modules(), config).unwrap()
}

#[test]
fn produced_blocks_replay_and_carry_the_sequencers_certificate() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("state.redb");
    let chain = open(Store::open(&path).unwrap());
    for nonce in 0..5 {
        for seed in 1..5 {
            chain
                .submit(Account::new(seed).transfer(nonce, BOB, nonce + seed))
                .unwrap();
        }
        let mined = chain.produce(false).unwrap().unwrap();
        assert_eq!(mined.receipts.len(), 4);
        let certificate = chain.certificate(mined.block.number()).unwrap().unwrap();
        let certificate = Certificate::decode(&certificate).unwrap();
        certificate
            .verify(CHAIN_ID, mined.block.hash, key(1).address())
            .unwrap();
    }
    assert!(
        chain.produce(false).unwrap().is_none(),
        "nothing pending, no block"
    );
    assert!(chain.produce(true).unwrap().is_some());
    drop(chain);
    let store = Store::open(&path).unwrap();
    assert_eq!(replay(&store, &modules(), &genesis(&key(1))).unwrap(), 6);
    // Another genesis or another key is refused.
    let mut other = genesis(&key(1));
    other.base_fee = 77;
    assert!(matches!(
        replay(&store, &modules(), &other),
        Err(ChainError::GenesisMismatch { .. })
    ));
    let config = |genesis, key| ChainConfig {
        genesis,
        key,
        pool: PoolLimits::default(),
        check_invariants: false,
    };
    let opened = Chain::open(store, modules(), config(other, key(1)));
    assert!(matches!(opened, Err(ChainError::GenesisMismatch { .. })));
    let wrong = Chain::open(
        Store::in_memory().unwrap(),
        modules(),
        config(genesis(&key(1)), key(2)),
    );
    assert!(matches!(wrong, Err(ChainError::WrongKey { .. })));
}

#[test]
fn a_block_with_any_changed_field_is_refused() {
    let chain = open(Store::in_memory().unwrap());
    let parent = chain.head();
    let parent_view = chain.state_at(0).unwrap();
    chain.submit(Account::new(1).transfer(0, BOB, 1)).unwrap();
    chain.submit(Account::new(2).transfer(0, BOB, 2)).unwrap();
    let good = chain.produce(false).unwrap().unwrap().block.clone();
    let check = |block: &Block| {
        verify(
            &modules(),
            &parent_view,
            &parent.header,
            parent.hash,
            block,
            CHAIN_ID,
            key(1).address(),
        )
    };
    let executed = check(&good).unwrap();
    assert_eq!(executed.receipts.len(), 2);

    type Change = fn(&mut Block);
    let changes: &[(&str, Change)] = &[
        ("parentHash", |it| {
            it.header.parent_hash = B256::repeat_byte(1)
        }),
        ("number", |it| it.header.number += 1),
        ("miner", |it| it.header.beneficiary = BOB),
        ("gasLimit", |it| it.header.gas_limit += 1),
        ("gasUsed", |it| it.header.gas_used += 1),
        ("baseFeePerGas", |it| it.header.base_fee_per_gas = Some(8)),
        ("mixHash", |it| it.header.mix_hash = B256::ZERO),
        ("timestamp", |it| it.header.timestamp = 0),
        ("logsBloom", |it| {
            it.header.logs_bloom = Bloom::repeat_byte(1)
        }),
        ("transactionsRoot", |it| {
            it.header.transactions_root = B256::ZERO
        }),
        ("receiptsRoot", |it| it.header.receipts_root = B256::ZERO),
        ("ommersHash", |it| it.header.ommers_hash = B256::ZERO),
        ("difficulty", |it| it.header.difficulty = U256::from(1)),
        ("withdrawalsRoot", |it| it.header.withdrawals_root = None),
        ("requestsHash", |it| it.header.requests_hash = None),
        ("extraData", |it| {
            it.header.extra_data = Bytes::from_static(&[1; 28])
        }),
        ("extra length", |it| it.header.extra_data = Bytes::new()),
        ("reveal", |it| it.reveal = Bytes::from_static(&[1; 65])),
        ("hash", |it| it.hash = B256::repeat_byte(7)),
        ("order", |it| it.transactions.reverse()),
        ("left out", |it| drop(it.transactions.pop())),
        ("repeated", |it| {
            it.transactions.push(it.transactions[0].clone())
        }),
    ];
    for (name, change) in changes {
        let mut block = good.clone();
        change(&mut block);
        if *name != "hash" {
            block.hash = block.header.hash_slow();
        }
        let error = check(&block)
            .err()
            .unwrap_or_else(|| panic!("{name} was accepted"));
        assert!(
            !matches!(error, VerifyError::Fatal { .. }),
            "{name}: {error}"
        );
    }
}

fn pool(limits: PoolLimits) -> Pool {
    Pool::new(limits, 60_000_000)
}

fn signed(seed: u64, nonce: u64, tip: u128) -> Arc<Recovered> {
    let tx = alloy_consensus::TxEip1559 {
        max_priority_fee_per_gas: tip,
        ..transfer(nonce, BOB, 1)
    };
    let raw = Account::new(seed).sign(tx);
    Arc::new(Recovered::decode(raw, CHAIN_ID, |_| false).unwrap())
}

fn rich() -> AccountRecord {
    AccountRecord {
        balance: U256::from(u128::MAX),
        ..AccountRecord::default()
    }
}

fn add(pool: &mut Pool, seed: u64, nonce: u64, tip: u128) -> Result<(), PoolError> {
    pool.add(signed(seed, nonce, tip), &rich(), false, false)
}

fn order(pool: &Pool) -> Vec<(Address, u64)> {
    use alloy_consensus::Transaction as _;
    pool.select(7, usize::MAX)
        .iter()
        .map(|it| (it.sender(), it.nonce()))
        .collect()
}

#[test]
fn best_tip_first_but_nonces_in_order_and_nothing_behind_a_gap() {
    let mut pool = pool(PoolLimits::default());
    let (a, b) = (Account::new(1).address, Account::new(2).address);
    add(&mut pool, 1, 1, 1_000).unwrap();
    add(&mut pool, 1, 0, 5).unwrap();
    add(&mut pool, 2, 0, 10).unwrap();
    add(&mut pool, 2, 2, 9_999).unwrap();
    assert_eq!(order(&pool), [(b, 0), (a, 0), (a, 1)]);
    assert_eq!((pool.status().pending, pool.status().queued), (3, 1));
    assert_eq!(pool.next_nonce(&b), Some(1));
    add(&mut pool, 2, 1, 1).unwrap();
    assert_eq!(pool.next_nonce(&b), Some(3));
    pool.advance([(a, 2), (b, 1)]);
    assert_eq!(order(&pool), [(b, 1), (b, 2)]);
}

#[test]
fn senders_and_the_pool_are_bounded() {
    let limits = PoolLimits {
        transactions: 6,
        per_sender: 4,
        queued_per_sender: 2,
        ..PoolLimits::default()
    };
    let mut pool = pool(limits);
    for nonce in 0..4 {
        add(&mut pool, 1, nonce, 10).unwrap();
    }
    assert!(matches!(
        add(&mut pool, 1, 4, 10),
        Err(PoolError::AccountLimit { count: 4, .. })
    ));
    add(&mut pool, 2, 5, 20).unwrap();
    add(&mut pool, 2, 6, 20).unwrap();
    let gap = add(&mut pool, 2, 7, 20);
    assert!(
        matches!(gap, Err(PoolError::NonceGap { limit: 2, .. })),
        "{gap:?}"
    );
    // Full: a lower tip is refused, a higher one replaces the worst tail and never an inner nonce.
    assert!(matches!(
        add(&mut pool, 3, 0, 5),
        Err(PoolError::Full { .. })
    ));
    add(&mut pool, 3, 0, 50).unwrap();
    assert_eq!(pool.next_nonce(&Account::new(1).address), Some(3));
    // Local transactions enter at any price.
    pool.add(signed(4, 0, 1), &rich(), false, true).unwrap();
}

#[test]
fn delegated_accounts_have_one_transaction_in_flight() {
    let mut pool = pool(PoolLimits::default());
    pool.add(signed(1, 0, 1), &rich(), true, false).unwrap();
    let second = pool.add(signed(1, 1, 1), &rich(), true, false);
    assert_eq!(second, Err(PoolError::Delegated));
}

#[test]
fn an_expired_transaction_leaves_the_pool() {
    let mut pool = pool(PoolLimits::default());
    add(&mut pool, 1, 0, 1).unwrap();
    let now = std::time::Instant::now();
    pool.expire(now);
    assert_eq!(pool.status().pending, 1);
    pool.expire(now + std::time::Duration::from_secs(4 * 3_600));
    assert_eq!(pool.status().pending, 0);
    assert!(order(&pool).is_empty());
}

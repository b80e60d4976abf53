//! Laws of the database: roots equal a full scan, history and proofs agree with what was, a commit is all or nothing.

use std::collections::BTreeMap;

use alloy_consensus::Header;
use alloy_primitives::{Address, B256, Bytes, KECCAK256_EMPTY, U256, keccak256};
use alloy_rlp::{Encodable, RlpEncodable};
use alloy_trie::proof::verify_proof;
use alloy_trie::{EMPTY_ROOT_HASH, HashBuilder, Nibbles};
use assay_state::{
    AccountChange, AccountRecord, BlockRecord, HISTORY_BLOCKS, StateDiff, StateError, StateView,
    Store,
};
use proptest::prelude::*;

/// The whole state in memory.
type Model = BTreeMap<Address, (AccountRecord, BTreeMap<U256, U256>)>;

#[derive(RlpEncodable)]
struct Leaf {
    nonce: u64,
    balance: U256,
    storage_root: B256,
    code_hash: B256,
}

fn scan(entries: BTreeMap<B256, Vec<u8>>) -> B256 {
    let mut builder: HashBuilder = HashBuilder::default();
    for (key, value) in entries {
        builder.add_leaf(Nibbles::unpack(key), &value);
    }
    builder.root()
}

fn storage_root(slots: &BTreeMap<U256, U256>) -> B256 {
    scan(
        slots
            .iter()
            .map(|(slot, value)| {
                (
                    keccak256(slot.to_be_bytes::<32>()),
                    alloy_rlp::encode(value),
                )
            })
            .collect(),
    )
}

fn leaf(record: &AccountRecord, storage_root: B256) -> Vec<u8> {
    let mut out = Vec::new();
    Leaf {
        nonce: record.nonce,
        balance: record.balance,
        storage_root,
        code_hash: record.code_hash,
    }
    .encode(&mut out);
    out
}

fn state_root(model: &Model) -> B256 {
    scan(
        model
            .iter()
            .map(|(address, (record, slots))| {
                (keccak256(address), leaf(record, storage_root(slots)))
            })
            .collect(),
    )
}

#[derive(Clone, Debug)]
enum Change {
    Account { who: u8, nonce: u8, balance: u16 },
    Slot { who: u8, slot: u8, value: u8 },
    Remove { who: u8 },
    Wipe { who: u8, slot: u8 },
}

fn change() -> impl Strategy<Value = Change> {
    prop_oneof![
        3 => (0u8..12, 1u8..4, any::<u16>()).prop_map(|(who, nonce, balance)| Change::Account { who, nonce, balance }),
        6 => (0u8..12, 0u8..20, 0u8..4).prop_map(|(who, slot, value)| Change::Slot { who, slot, value }),
        1 => (0u8..12).prop_map(|who| Change::Remove { who }),
        1 => (0u8..12, 0u8..20).prop_map(|(who, slot)| Change::Wipe { who, slot }),
    ]
}

fn address(who: u8) -> Address {
    Address::from_word(keccak256([who]))
}

/// Applies a block's changes to the model and gives the diff that the executor would.
fn apply(model: &mut Model, changes: &[Change]) -> StateDiff {
    let before = model.clone();
    let mut wiped = Vec::new();
    for change in changes {
        match *change {
            Change::Account {
                who,
                nonce,
                balance,
            } => {
                let (record, _) = model.entry(address(who)).or_default();
                record.nonce = u64::from(nonce);
                record.balance = U256::from(balance);
            }
            Change::Slot { who, slot, value } => {
                let Some((_, slots)) = model.get_mut(&address(who)) else {
                    continue;
                };
                match value {
                    0 => slots.remove(&U256::from(slot)),
                    _ => slots.insert(U256::from(slot), U256::from(value)),
                };
            }
            Change::Remove { who } => {
                model.remove(&address(who));
                wiped.push(address(who));
            }
            Change::Wipe { who, slot } => {
                let Some((_, slots)) = model.get_mut(&address(who)) else {
                    continue;
                };
                slots.clear();
                slots.insert(U256::from(slot), U256::from(9u8));
                wiped.push(address(who));
            }
        }
    }
    let mut diff = StateDiff::default();
    let names: std::collections::BTreeSet<_> = before.keys().chain(model.keys()).copied().collect();
    for name in names {
        let empty = BTreeMap::new();
        let old = before.get(&name);
        let new = model.get(&name);
        if old == new && !wiped.contains(&name) {
            continue;
        }
        let old_slots = old.map_or(&empty, |(_, slots)| slots);
        let new_slots = new.map_or(&empty, |(_, slots)| slots);
        let gone = wiped.contains(&name);
        let mut slots: BTreeMap<U256, U256> = new_slots
            .iter()
            .filter(|(slot, value)| gone || old_slots.get(*slot) != Some(*value))
            .map(|(slot, value)| (*slot, *value))
            .collect();
        if !gone {
            for slot in old_slots
                .keys()
                .filter(|slot| !new_slots.contains_key(*slot))
            {
                slots.insert(*slot, U256::ZERO);
            }
        }
        diff.accounts.insert(
            name,
            AccountChange {
                account: new.map(|(record, _)| *record),
                wiped: gone,
                slots,
            },
        );
    }
    diff
}

fn commit(store: &Store, number: u64, diff: StateDiff) -> B256 {
    let staged = store.stage(diff).unwrap();
    let root = staged.root();
    let header = Header {
        number,
        state_root: root,
        ..Header::default()
    };
    let record = BlockRecord {
        number,
        hash: header.hash_slow(),
        header_rlp: alloy_rlp::encode(&header),
        body: Vec::new(),
        transactions: Vec::new(),
        receipts: &[],
        system_logs: &[],
        certificate: Bytes::new(),
    };
    store.commit(staged, &record).unwrap();
    root
}

fn check_block(store: &Store, number: u64, model: &Model) {
    let root = state_root(model);
    let view = store.view_at(number).unwrap();
    for who in 0..12 {
        let name = address(who);
        let known = model.get(&name);
        assert_eq!(
            view.account(&name).unwrap(),
            known.map(|(record, _)| *record)
        );
        let slots: Vec<U256> = (0..20u8).map(U256::from).collect();
        let proof = store.prove(number, name, &slots).unwrap();
        let expected = known.map(|(record, slots)| leaf(record, storage_root(slots)));
        verify_proof(
            root,
            Nibbles::unpack(keccak256(name)),
            expected,
            &proof.nodes,
        )
        .unwrap();
        for entry in &proof.storage {
            let value = known
                .and_then(|(_, slots)| slots.get(&entry.slot))
                .copied()
                .unwrap_or_default();
            assert_eq!(entry.value, value);
            assert_eq!(view.slot(&name, &entry.slot).unwrap(), value);
            let key = Nibbles::unpack(keccak256(entry.slot.to_be_bytes::<32>()));
            let expected = (!value.is_zero()).then(|| alloy_rlp::encode(value));
            verify_proof(proof.storage_root, key, expected, &entry.nodes).unwrap();
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    #[test]
    fn roots_history_and_proofs_agree_with_a_model(
        blocks in prop::collection::vec(prop::collection::vec(change(), 0..15), 1..9),
        reopen in any::<bool>(),
    ) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("state.redb");
        let mut store = Store::open(&path).unwrap();
        let mut model = Model::new();
        let mut states = Vec::new();
        for (number, changes) in (0u64..).zip(&blocks) {
            let diff = apply(&mut model, changes);
            prop_assert_eq!(commit(&store, number, diff), state_root(&model));
            states.push(model.clone());
            if reopen {
                drop(store);
                store = Store::open(&path).unwrap();
            }
        }
        for (number, state) in (0u64..).zip(&states) {
            check_block(&store, number, state);
        }
    }
}

fn one_account(balance: u64) -> StateDiff {
    let mut diff = StateDiff::default();
    diff.accounts.insert(
        address(0),
        AccountChange {
            account: Some(AccountRecord {
                nonce: 1,
                balance: U256::from(balance),
                code_hash: KECCAK256_EMPTY,
            }),
            ..AccountChange::default()
        },
    );
    diff
}

#[test]
fn history_ends_after_256_blocks_and_the_error_names_the_oldest() {
    let store = Store::in_memory().unwrap();
    let last = HISTORY_BLOCKS + 44;
    for number in 0..=last {
        commit(&store, number, one_account(number));
    }
    assert_eq!(store.oldest_state().unwrap(), 44);
    let balance = |number| {
        let account = store.view_at(number)?.account(&address(0)).unwrap();
        Ok::<_, StateError>(account.unwrap().balance)
    };
    assert_eq!(balance(44).unwrap(), U256::from(44));
    assert_eq!(balance(last).unwrap(), U256::from(last));
    assert!(store.prove(44, address(0), &[]).is_ok());
    let refused = balance(43).unwrap_err();
    assert!(
        matches!(
            refused,
            StateError::NotAvailable {
                asked: 43,
                oldest: 44,
                ..
            }
        ),
        "{refused}"
    );
    assert!(balance(last + 1).is_err());
}

#[test]
fn a_root_staged_on_an_older_block_is_not_committed() {
    let store = Store::in_memory().unwrap();
    commit(&store, 0, one_account(1));
    let stale = store.stage(one_account(2)).unwrap();
    store.discard(stale);
    let root = commit(&store, 1, one_account(3));
    assert_ne!(root, EMPTY_ROOT_HASH);
    let staged = store.stage(one_account(4)).unwrap();
    let record = BlockRecord {
        number: 7,
        hash: B256::ZERO,
        header_rlp: Vec::new(),
        body: Vec::new(),
        transactions: Vec::new(),
        receipts: &[],
        system_logs: &[],
        certificate: Bytes::new(),
    };
    let refused = store.commit(staged, &record).unwrap_err();
    assert!(matches!(refused, StateError::Stale { .. }), "{refused}");
    assert_eq!(store.head().unwrap().unwrap().header.number, 1);
    // The tries are reloaded from disk and the next block is right.
    let root = commit(&store, 2, one_account(5));
    let mut model = Model::new();
    apply(
        &mut model,
        &[Change::Account {
            who: 0,
            nonce: 1,
            balance: 5,
        }],
    );
    assert_eq!(root, state_root(&model));
}

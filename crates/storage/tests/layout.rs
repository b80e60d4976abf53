//! Locations are those of `solc`: constants below are worked out from the rules of the Solidity documentation.

use alloy_primitives::{Address, B256, U256, keccak256};
use assay_storage::{
    BytesLike, Cursor, List, Mapping, MemoryStorage, Place, Queue, Row, Set, Slot, Storage,
    StorageError, layout,
};
use proptest::prelude::*;

const HOME: Address = Address::repeat_byte(0xAA);

layout! {
    struct Entry { amount: Slot<u128>, at: Slot<u64>, open: Slot<bool>, owner: Slot<Address>, note: BytesLike }
}

layout! {
    struct Book {
        small: Slot<u8>,
        medium: Slot<u64>,
        wide: Slot<U256>,
        who: Slot<Address>,
        flag: Slot<bool>,
        big: Slot<u128>,
        entries: Mapping<Address, Entry>,
        nested: Mapping<B256, Mapping<u64, Slot<u32>>>,
        list: List<Slot<B256>>,
        records: List<Entry>,
        text: BytesLike,
        members: Set<Address>,
        line: Queue<Slot<u64>>,
    }
}

fn book() -> Book {
    Book::place(&mut Cursor::new(HOME))
}

fn raw(storage: &mut MemoryStorage, slot: U256) -> U256 {
    storage.sload(HOME, slot).unwrap()
}

fn hashed(parts: &[[u8; 32]]) -> U256 {
    keccak256(parts.concat()).into()
}

fn word(value: u64) -> [u8; 32] {
    U256::from(value).to_be_bytes()
}

#[test]
fn fields_pack_like_solidity() {
    let mut rows: Vec<Row> = Vec::new();
    Book::describe("", &mut Cursor::new(HOME), &mut rows);
    let place = |field: &str| {
        let row = rows
            .iter()
            .find(|row| row.field == field)
            .unwrap_or_else(|| panic!("{field}"));
        (row.slot.to::<u64>(), row.offset, row.size)
    };
    assert_eq!(place("small"), (0, 0, 1));
    assert_eq!(place("medium"), (0, 1, 8));
    assert_eq!(place("wide"), (1, 0, 32));
    assert_eq!(place("who"), (2, 0, 20));
    assert_eq!(place("flag"), (2, 20, 1));
    assert_eq!(place("big"), (3, 0, 16));
    assert_eq!(place("entries"), (4, 0, 32));
    assert_eq!(place("entries[].amount"), (0, 0, 16));
    assert_eq!(place("entries[].at"), (0, 16, 8));
    assert_eq!(place("entries[].open"), (0, 24, 1));
    assert_eq!(place("entries[].owner"), (1, 0, 20));
    assert_eq!(place("entries[].note"), (2, 0, 32));
    assert_eq!(place("nested"), (5, 0, 32));
    assert_eq!(place("list"), (6, 0, 32));
    assert_eq!(place("records"), (7, 0, 32));
    assert_eq!(place("text"), (8, 0, 32));
    assert_eq!(
        (place("members.values").0, place("members.index").0),
        (9, 10)
    );
    assert_eq!(
        (
            place("line.head"),
            place("line.tail"),
            place("line.items").0
        ),
        ((11, 0, 8), (11, 8, 8), 12)
    );
}

#[test]
fn neighbours_in_a_word_do_not_disturb_each_other() {
    let mut s = MemoryStorage::default();
    let book = book();
    book.small.write(&mut s, 0xFF).unwrap();
    book.medium.write(&mut s, 0x0102_0304_0506_0708).unwrap();
    assert_eq!(
        raw(&mut s, U256::ZERO),
        U256::from(0x01_0203_0405_0607_08FF_u128)
    );
    book.small.write(&mut s, 0).unwrap();
    assert_eq!(book.medium.read(&mut s).unwrap(), 0x0102_0304_0506_0708);
    book.who.write(&mut s, HOME).unwrap();
    book.flag.write(&mut s, true).unwrap();
    assert_eq!(book.who.read(&mut s).unwrap(), HOME);
    assert!(book.flag.read(&mut s).unwrap());
}

#[test]
fn mappings_lists_and_bytes_lie_where_solc_puts_them() {
    let mut s = MemoryStorage::default();
    let book = book();
    let entry = book.entries.at(&HOME);
    entry.amount.write(&mut s, 7).unwrap();
    entry.owner.write(&mut s, HOME).unwrap();
    let base = hashed(&[HOME.into_word().0, word(4)]);
    assert_eq!(raw(&mut s, base), U256::from(7));
    assert_eq!(
        raw(&mut s, base + U256::ONE),
        U256::from_be_bytes(HOME.into_word().0)
    );
    book.nested
        .at(&B256::repeat_byte(1))
        .at(&9)
        .write(&mut s, 5)
        .unwrap();
    let inner = hashed(&[B256::repeat_byte(1).0, word(5)]);
    assert_eq!(
        raw(&mut s, hashed(&[word(9), inner.to_be_bytes()])),
        U256::from(5)
    );
    book.list.append(&mut s, B256::repeat_byte(2)).unwrap();
    book.list.append(&mut s, B256::repeat_byte(3)).unwrap();
    assert_eq!(raw(&mut s, U256::from(6)), U256::from(2));
    assert_eq!(
        raw(&mut s, hashed(&[word(6)]) + U256::ONE),
        U256::from_be_bytes([3; 32])
    );
    let _ = book.records.push(&mut s).unwrap();
    book.records
        .push(&mut s)
        .unwrap()
        .at
        .write(&mut s, 1)
        .unwrap();
    // Three words each; `at` lies at byte 16 of the first.
    assert_eq!(
        raw(&mut s, hashed(&[word(7)]) + U256::from(3)),
        U256::ONE << 128
    );
    book.text.write(&mut s, b"abc").unwrap();
    let short = raw(&mut s, U256::from(8)).to_be_bytes::<32>();
    assert_eq!((&short[..3], short[31]), (&b"abc"[..], 6));
    book.text.write(&mut s, &[9; 33]).unwrap();
    assert_eq!(raw(&mut s, U256::from(8)), U256::from(67));
    assert_eq!(
        raw(&mut s, hashed(&[word(8)])),
        U256::from_be_bytes([9; 32])
    );
    book.text.write(&mut s, b"").unwrap();
    assert_eq!(
        raw(&mut s, hashed(&[word(8)]) + U256::ONE),
        U256::ZERO,
        "a shorter value clears the longer one"
    );
}

#[test]
fn static_storage_refuses_and_checkpoints_undo() {
    let mut s = MemoryStorage::default();
    let book = book();
    s.set_balance(HOME, U256::from(10));
    let outer = s.checkpoint();
    book.big.write(&mut s, 1).unwrap();
    let inner = s.checkpoint();
    book.big.write(&mut s, 2).unwrap();
    assert!(s.transfer(HOME, Address::ZERO, U256::from(4)).unwrap());
    assert!(!s.transfer(HOME, Address::ZERO, U256::from(7)).unwrap());
    s.revert_to(inner);
    assert_eq!(book.big.read(&mut s).unwrap(), 1);
    assert_eq!(s.balance(HOME).unwrap(), U256::from(10));
    s.commit_to(outer);
    assert_eq!(book.big.read(&mut s).unwrap(), 1);
    s.is_static = true;
    assert_eq!(book.big.write(&mut s, 3), Err(StorageError::Static));
    assert_eq!(
        s.transfer(HOME, HOME, U256::ZERO),
        Err(StorageError::Static)
    );
    s.gas = 5;
    assert_eq!(s.charge(6), Err(StorageError::OutOfGas));
}

/// Failing cases become tests of their own instead of files beside the source.
fn config() -> ProptestConfig {
    ProptestConfig {
        failure_persistence: None,
        ..ProptestConfig::default()
    }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn bytes_round_trip(first in prop::collection::vec(any::<u8>(), 0..200), second in prop::collection::vec(any::<u8>(), 0..200)) {
        let mut s = MemoryStorage::default();
        let text = book().text;
        text.write(&mut s, &first).unwrap();
        prop_assert_eq!(text.read(&mut s).unwrap(), first);
        text.write(&mut s, &second).unwrap();
        prop_assert_eq!(text.read(&mut s).unwrap(), second.clone());
        prop_assert_eq!(text.len(&mut s).unwrap(), second.len());
        text.write(&mut s, &[]).unwrap();
        prop_assert_eq!(s.slots().count(), 0);
    }

    #[test]
    fn a_set_is_a_set(steps in prop::collection::vec((any::<bool>(), 0u8..12), 0..80)) {
        let mut s = MemoryStorage::default();
        let members = book().members;
        let mut model = std::collections::BTreeSet::new();
        for (insert, number) in steps {
            let value = Address::repeat_byte(number);
            if insert {
                prop_assert_eq!(members.insert(&mut s, value).unwrap(), model.insert(value));
            } else {
                prop_assert_eq!(members.remove(&mut s, value).unwrap(), model.remove(&value));
            }
            prop_assert_eq!(members.len(&mut s).unwrap(), model.len() as u64);
            let mut page = members.page(&mut s, 0, 100).unwrap();
            page.sort();
            prop_assert_eq!(page, model.iter().copied().collect::<Vec<_>>());
        }
    }

    #[test]
    fn a_queue_is_first_in_first_out(steps in prop::collection::vec(prop::option::of(any::<u64>()), 0..60)) {
        let mut s = MemoryStorage::default();
        let line = book().line;
        let mut model = std::collections::VecDeque::new();
        for step in steps {
            match step {
                Some(value) => {
                    line.push(&mut s).unwrap().write(&mut s, value).unwrap();
                    model.push_back(value);
                }
                None => {
                    line.advance(&mut s).unwrap();
                    model.pop_front();
                }
            }
            let numbers = line.range(&mut s).unwrap();
            let values: Vec<u64> = numbers.map(|number| line.at(number).read(&mut s).unwrap()).collect();
            prop_assert_eq!(values, model.iter().copied().collect::<Vec<_>>());
        }
    }

    #[test]
    fn packed_values_round_trip(a: u8, b: u64, c: u128, flag: bool) {
        let mut s = MemoryStorage::default();
        let book = book();
        book.medium.write(&mut s, b).unwrap();
        book.small.write(&mut s, a).unwrap();
        book.big.write(&mut s, c).unwrap();
        book.flag.write(&mut s, flag).unwrap();
        prop_assert_eq!(book.small.read(&mut s).unwrap(), a);
        prop_assert_eq!(book.medium.read(&mut s).unwrap(), b);
        prop_assert_eq!(book.big.read(&mut s).unwrap(), c);
        prop_assert_eq!(book.flag.read(&mut s).unwrap(), flag);
    }
}

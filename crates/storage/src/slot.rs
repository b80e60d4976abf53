//! Single values and mappings.

use core::fmt;
use core::marker::PhantomData;

use alloy_primitives::{Address, U256};

use crate::{Cursor, Key, Place, Row, Storage, StorageError, Word};

/// One value of type `T`, possibly sharing its word with neighbours.
pub struct Slot<T> {
    address: Address,
    slot: U256,
    offset: usize,
    kind: PhantomData<fn() -> T>,
}

impl<T> Clone for Slot<T> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<T> Copy for Slot<T> {}
impl<T> fmt::Debug for Slot<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Slot({}:{}+{})", self.address, self.slot, self.offset)
    }
}

impl<T: Word> Slot<T> {
    fn shift(&self) -> usize {
        self.offset.saturating_mul(8)
    }

    fn mask() -> U256 {
        if T::BYTES >= 32 {
            U256::MAX
        } else {
            U256::ONE
                .wrapping_shl(T::BYTES.saturating_mul(8))
                .wrapping_sub(U256::ONE)
        }
    }

    /// Reads the value; unset is zero.
    ///
    /// # Errors
    /// As [`Storage::sload`].
    pub fn read<S: Storage + ?Sized>(&self, storage: &mut S) -> Result<T, StorageError> {
        let word = storage.sload(self.address, self.slot)?;
        Ok(T::from_word(word.wrapping_shr(self.shift()) & Self::mask()))
    }

    /// Writes the value, leaving its neighbours in the word as they are.
    ///
    /// # Errors
    /// As [`Storage::sstore`].
    pub fn write<S: Storage + ?Sized>(
        &self,
        storage: &mut S,
        value: T,
    ) -> Result<(), StorageError> {
        if T::BYTES >= 32 {
            return storage.sstore(self.address, self.slot, value.to_word());
        }
        let word = storage.sload(self.address, self.slot)?;
        let mask = Self::mask().wrapping_shl(self.shift());
        let next = (word & !mask) | (value.to_word().wrapping_shl(self.shift()) & mask);
        storage.sstore(self.address, self.slot, next)
    }

    /// The slot's number, for proofs.
    pub const fn number(&self) -> U256 {
        self.slot
    }
}

impl<T: Word> Place for Slot<T> {
    fn place(cursor: &mut Cursor) -> Self {
        let (slot, offset) = cursor.take(T::BYTES);
        Self {
            address: cursor.address(),
            slot,
            offset,
            kind: PhantomData,
        }
    }

    fn describe(field: &str, cursor: &mut Cursor, rows: &mut Vec<Row>) {
        let (slot, offset) = cursor.take(T::BYTES);
        rows.push(Row {
            field: field.to_string(),
            kind: T::NAME.to_string(),
            slot,
            offset,
            size: T::BYTES,
        });
    }
}

/// `mapping(K => V)`: the value of key k lies at `keccak256(pad32(k) ++ slot)`.
pub struct Mapping<K, V> {
    address: Address,
    slot: U256,
    kind: PhantomData<fn(K) -> V>,
}

impl<K, V> Clone for Mapping<K, V> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<K, V> Copy for Mapping<K, V> {}
impl<K, V> fmt::Debug for Mapping<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Mapping({}:{})", self.address, self.slot)
    }
}

impl<K: Key, V: Place> Mapping<K, V> {
    /// The value of `key` (one keccak; reads nothing).
    pub fn at(&self, key: &K) -> V {
        V::place(&mut Cursor::at(self.address, key.locate(self.slot)))
    }
}

impl<K: Key, V: Place> Place for Mapping<K, V> {
    fn place(cursor: &mut Cursor) -> Self {
        cursor.align();
        let (slot, _) = cursor.take(32);
        Self {
            address: cursor.address(),
            slot,
            kind: PhantomData,
        }
    }

    fn describe(field: &str, cursor: &mut Cursor, rows: &mut Vec<Row>) {
        cursor.align();
        let (slot, offset) = cursor.take(32);
        rows.push(Row {
            field: field.to_string(),
            kind: format!("mapping({})", K::NAME),
            slot,
            offset,
            size: 32,
        });
        V::describe(
            &format!("{field}[]"),
            &mut Cursor::new(cursor.address()),
            rows,
        );
    }
}

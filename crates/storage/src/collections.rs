//! Arrays, enumerable sets and queues.

use core::fmt;
use core::marker::PhantomData;

use alloy_primitives::{Address, U256, keccak256};

use crate::{Cursor, Key, Mapping, Place, Row, Slot, Storage, StorageError, Word};

/// `V[]`: length in the slot, items from `keccak256(slot)`, each starting a new word.
///
/// Solidity packs items of at most 16 bytes; such element types are not meant for this collection.
pub struct List<V> {
    address: Address,
    slot: U256,
    kind: PhantomData<fn() -> V>,
}

impl<V> Clone for List<V> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<V> Copy for List<V> {}
impl<V> fmt::Debug for List<V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "List({}:{})", self.address, self.slot)
    }
}

impl<V: Place> List<V> {
    fn length(&self) -> Slot<U256> {
        Slot::place(&mut Cursor::at(self.address, self.slot))
    }

    fn stride(&self) -> U256 {
        let mut cursor = Cursor::new(self.address);
        let _ = V::place(&mut cursor);
        cursor.align();
        cursor.slot()
    }

    /// Number of items.
    ///
    /// # Errors
    /// As [`Storage::sload`].
    pub fn len<S: Storage + ?Sized>(&self, storage: &mut S) -> Result<u64, StorageError> {
        Ok(self.length().read(storage)?.saturating_to())
    }

    /// Whether there are no items.
    ///
    /// # Errors
    /// As [`Storage::sload`].
    pub fn is_empty<S: Storage + ?Sized>(&self, storage: &mut S) -> Result<bool, StorageError> {
        Ok(self.len(storage)? == 0)
    }

    /// Place of item `index`; reads nothing, so an index beyond the end reads as zero.
    pub fn at(&self, index: u64) -> V {
        let first = U256::from_be_bytes(keccak256(self.slot.to_be_bytes::<32>()).0);
        let slot = first.wrapping_add(self.stride().wrapping_mul(U256::from(index)));
        V::place(&mut Cursor::at(self.address, slot))
    }

    /// Grows by one item and returns its place.
    ///
    /// # Errors
    /// As [`Storage::sstore`].
    pub fn push<S: Storage + ?Sized>(&self, storage: &mut S) -> Result<V, StorageError> {
        let length = self.len(storage)?;
        self.length()
            .write(storage, U256::from(length).saturating_add(U256::ONE))?;
        Ok(self.at(length))
    }
}

impl<T: Word> List<Slot<T>> {
    /// Appends a value.
    ///
    /// # Errors
    /// As [`Storage::sstore`].
    pub fn append<S: Storage + ?Sized>(
        &self,
        storage: &mut S,
        value: T,
    ) -> Result<(), StorageError> {
        self.push(storage)?.write(storage, value)
    }

    /// Removes the last value.
    ///
    /// # Errors
    /// As [`Storage::sstore`].
    pub fn pop<S: Storage + ?Sized>(&self, storage: &mut S) -> Result<Option<T>, StorageError> {
        let Some(last) = self.len(storage)?.checked_sub(1) else {
            return Ok(None);
        };
        let slot = self.at(last);
        let value = slot.read(storage)?;
        slot.write(storage, T::from_word(U256::ZERO))?;
        self.length().write(storage, U256::from(last))?;
        Ok(Some(value))
    }

    /// Values `offset..offset + limit`, as far as they exist. The caller bounds `limit`.
    ///
    /// # Errors
    /// As [`Storage::sload`].
    pub fn page<S: Storage + ?Sized>(
        &self,
        storage: &mut S,
        offset: u64,
        limit: u64,
    ) -> Result<Vec<T>, StorageError> {
        let end = offset.saturating_add(limit).min(self.len(storage)?);
        (offset..end)
            .map(|index| self.at(index).read(storage))
            .collect()
    }
}

impl<V: Place> Place for List<V> {
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
            kind: "array".to_string(),
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

/// Values without duplicates: an array and a mapping value → index + 1.
pub struct Set<T> {
    values: List<Slot<T>>,
    index: Mapping<T, Slot<U256>>,
}

impl<T> Clone for Set<T> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<T> Copy for Set<T> {}
impl<T> fmt::Debug for Set<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Set({:?})", self.values)
    }
}

impl<T: Word + Key> Set<T> {
    /// Whether the value is in the set.
    ///
    /// # Errors
    /// As [`Storage::sload`].
    pub fn contains<S: Storage + ?Sized>(
        &self,
        storage: &mut S,
        value: T,
    ) -> Result<bool, StorageError> {
        Ok(!self.index.at(&value).read(storage)?.is_zero())
    }

    /// Adds a value; false if it was there.
    ///
    /// # Errors
    /// As [`Storage::sstore`].
    pub fn insert<S: Storage + ?Sized>(
        &self,
        storage: &mut S,
        value: T,
    ) -> Result<bool, StorageError> {
        if self.contains(storage, value)? {
            return Ok(false);
        }
        self.values.append(storage, value)?;
        let length = self.values.len(storage)?;
        self.index.at(&value).write(storage, U256::from(length))?;
        Ok(true)
    }

    /// Removes a value by moving the last one into its place; false if it was not there.
    ///
    /// # Errors
    /// As [`Storage::sstore`].
    pub fn remove<S: Storage + ?Sized>(
        &self,
        storage: &mut S,
        value: T,
    ) -> Result<bool, StorageError> {
        let position: u64 = self.index.at(&value).read(storage)?.saturating_to();
        let Some(index) = position.checked_sub(1) else {
            return Ok(false);
        };
        let Some(last) = self.values.pop(storage)? else {
            return Ok(false);
        };
        if index < self.values.len(storage)? {
            self.values.at(index).write(storage, last)?;
            self.index.at(&last).write(storage, U256::from(position))?;
        }
        self.index.at(&value).write(storage, U256::ZERO)?;
        Ok(true)
    }

    /// Number of values.
    ///
    /// # Errors
    /// As [`Storage::sload`].
    pub fn len<S: Storage + ?Sized>(&self, storage: &mut S) -> Result<u64, StorageError> {
        self.values.len(storage)
    }

    /// Whether there are no values.
    ///
    /// # Errors
    /// As [`Storage::sload`].
    pub fn is_empty<S: Storage + ?Sized>(&self, storage: &mut S) -> Result<bool, StorageError> {
        self.values.is_empty(storage)
    }

    /// Values `offset..offset + limit`, as far as they exist. The caller bounds `limit`.
    ///
    /// # Errors
    /// As [`Storage::sload`].
    pub fn page<S: Storage + ?Sized>(
        &self,
        storage: &mut S,
        offset: u64,
        limit: u64,
    ) -> Result<Vec<T>, StorageError> {
        self.values.page(storage, offset, limit)
    }
}

impl<T: Word + Key> Place for Set<T> {
    fn place(cursor: &mut Cursor) -> Self {
        cursor.align();
        Self {
            values: List::place(cursor),
            index: Mapping::place(cursor),
        }
    }

    fn describe(field: &str, cursor: &mut Cursor, rows: &mut Vec<Row>) {
        cursor.align();
        <List<Slot<T>>>::describe(&format!("{field}.values"), cursor, rows);
        <Mapping<T, Slot<U256>>>::describe(&format!("{field}.index"), cursor, rows);
    }
}

/// First in, first out: head, tail (packed), items by number.
pub struct Queue<V> {
    head: Slot<u64>,
    tail: Slot<u64>,
    items: Mapping<u64, V>,
}

impl<V> Clone for Queue<V> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<V> Copy for Queue<V> {}
impl<V> fmt::Debug for Queue<V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Queue({:?})", self.head)
    }
}

impl<V: Place> Queue<V> {
    /// Numbers of the waiting items, oldest first.
    ///
    /// # Errors
    /// As [`Storage::sload`].
    pub fn range<S: Storage + ?Sized>(
        &self,
        storage: &mut S,
    ) -> Result<core::ops::Range<u64>, StorageError> {
        Ok(self.head.read(storage)?..self.tail.read(storage)?)
    }

    /// Place of item `number`.
    pub fn at(&self, number: u64) -> V {
        self.items.at(&number)
    }

    /// Appends an item and returns its place.
    ///
    /// # Errors
    /// As [`Storage::sstore`].
    pub fn push<S: Storage + ?Sized>(&self, storage: &mut S) -> Result<V, StorageError> {
        let tail = self.tail.read(storage)?;
        self.tail.write(storage, tail.saturating_add(1))?;
        Ok(self.at(tail))
    }

    /// Steps over the oldest item, whose fields the caller has cleared.
    ///
    /// # Errors
    /// As [`Storage::sstore`].
    pub fn advance<S: Storage + ?Sized>(&self, storage: &mut S) -> Result<(), StorageError> {
        let range = self.range(storage)?;
        if range.is_empty() {
            return Ok(());
        }
        self.head.write(storage, range.start.saturating_add(1))
    }
}

impl<V: Place> Place for Queue<V> {
    fn place(cursor: &mut Cursor) -> Self {
        cursor.align();
        Self {
            head: Slot::place(cursor),
            tail: Slot::place(cursor),
            items: Mapping::place(cursor),
        }
    }

    fn describe(field: &str, cursor: &mut Cursor, rows: &mut Vec<Row>) {
        cursor.align();
        <Slot<u64>>::describe(&format!("{field}.head"), cursor, rows);
        <Slot<u64>>::describe(&format!("{field}.tail"), cursor, rows);
        <Mapping<u64, V>>::describe(&format!("{field}.items"), cursor, rows);
    }
}

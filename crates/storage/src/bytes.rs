//! Byte strings in Solidity's short and long form.

use alloy_primitives::{Address, U256, keccak256};

use crate::{Cursor, Place, Row, Storage, StorageError};

/// `bytes` or `string`: up to 31 bytes in place with `2·length` in the lowest byte; longer ones have `2·length + 1` in
/// the slot and their data from `keccak256(slot)`.
#[derive(Clone, Copy, Debug)]
pub struct BytesLike {
    address: Address,
    slot: U256,
}

impl BytesLike {
    fn data(&self) -> U256 {
        keccak256(self.slot.to_be_bytes::<32>()).into()
    }

    /// Length in bytes.
    ///
    /// # Errors
    /// As [`Storage::sload`].
    pub fn len<S: Storage + ?Sized>(&self, storage: &mut S) -> Result<usize, StorageError> {
        Ok(length_of(storage.sload(self.address, self.slot)?))
    }

    /// Whether there are no bytes.
    ///
    /// # Errors
    /// As [`Storage::sload`].
    pub fn is_empty<S: Storage + ?Sized>(&self, storage: &mut S) -> Result<bool, StorageError> {
        Ok(self.len(storage)? == 0)
    }

    /// Reads all bytes: one load per 32 bytes.
    ///
    /// # Errors
    /// As [`Storage::sload`].
    pub fn read<S: Storage + ?Sized>(&self, storage: &mut S) -> Result<Vec<u8>, StorageError> {
        let head = storage.sload(self.address, self.slot)?;
        let length = length_of(head);
        if !is_long(head) {
            return Ok(head
                .to_be_bytes::<32>()
                .iter()
                .take(length)
                .copied()
                .collect());
        }
        let mut out = Vec::new();
        let mut slot = self.data();
        while out.len() < length {
            let word = storage.sload(self.address, slot)?.to_be_bytes::<32>();
            let rest = length.saturating_sub(out.len());
            out.extend(word.iter().take(rest));
            slot = slot.wrapping_add(U256::ONE);
        }
        Ok(out)
    }

    /// Replaces the bytes and clears what the former value used beyond them.
    ///
    /// # Errors
    /// As [`Storage::sstore`].
    pub fn write<S: Storage + ?Sized>(
        &self,
        storage: &mut S,
        bytes: &[u8],
    ) -> Result<(), StorageError> {
        let head = storage.sload(self.address, self.slot)?;
        let old_words = if is_long(head) {
            words(length_of(head))
        } else {
            0
        };
        let length = U256::from(bytes.len());
        let (new_head, new_words) = if bytes.len() < 32 {
            (word_of(bytes) | length.wrapping_shl(1), 0)
        } else {
            (length.wrapping_shl(1) | U256::ONE, words(bytes.len()))
        };
        storage.sstore(self.address, self.slot, new_head)?;
        let mut slot = self.data();
        if new_words > 0 {
            for chunk in bytes.chunks(32) {
                storage.sstore(self.address, slot, word_of(chunk))?;
                slot = slot.wrapping_add(U256::ONE);
            }
        }
        for _ in new_words..old_words {
            storage.sstore(self.address, slot, U256::ZERO)?;
            slot = slot.wrapping_add(U256::ONE);
        }
        Ok(())
    }

    /// Reads the bytes as text; invalid UTF-8 (which no module writes) is replaced.
    ///
    /// # Errors
    /// As [`Storage::sload`].
    pub fn read_string<S: Storage + ?Sized>(
        &self,
        storage: &mut S,
    ) -> Result<String, StorageError> {
        Ok(String::from_utf8_lossy(&self.read(storage)?).into_owned())
    }
}

fn is_long(head: U256) -> bool {
    head.bit(0)
}

fn length_of(head: U256) -> usize {
    if is_long(head) {
        head.wrapping_shr(1).saturating_to()
    } else {
        usize::from(head.byte(0) >> 1)
    }
}

fn words(length: usize) -> usize {
    length.div_ceil(32)
}

fn word_of(chunk: &[u8]) -> U256 {
    let mut word = [0u8; 32];
    for (to, from) in word.iter_mut().zip(chunk) {
        *to = *from;
    }
    U256::from_be_bytes(word)
}

impl Place for BytesLike {
    fn place(cursor: &mut Cursor) -> Self {
        cursor.align();
        let (slot, _) = cursor.take(32);
        Self {
            address: cursor.address(),
            slot,
        }
    }

    fn describe(field: &str, cursor: &mut Cursor, rows: &mut Vec<Row>) {
        cursor.align();
        let (slot, offset) = cursor.take(32);
        rows.push(Row {
            field: field.to_string(),
            kind: "bytes".to_string(),
            slot,
            offset,
            size: 32,
        });
    }
}

//! Values that fit one word, and keys of mappings.

use alloy_primitives::{Address, B256, U256, keccak256};

/// A value of at most 32 bytes, stored as Solidity stores it (right-aligned in its bytes).
pub trait Word: Copy {
    /// Bytes that it takes in a slot, 1 to 32.
    const BYTES: usize;
    /// Solidity's name of the type.
    const NAME: &'static str;
    /// As an unsigned integer below `2^(8·BYTES)`.
    fn to_word(self) -> U256;
    /// Inverse of [`to_word`](Self::to_word); bits above the type's width are ignored.
    fn from_word(word: U256) -> Self;
}

macro_rules! integers {
    ($($ty:ty => $bytes:literal, $name:literal);* $(;)?) => {$(
        impl Word for $ty {
            const BYTES: usize = $bytes;
            const NAME: &'static str = $name;
            fn to_word(self) -> U256 {
                U256::from(self)
            }
            fn from_word(word: U256) -> Self {
                word.wrapping_to::<$ty>()
            }
        }
        impl Key for $ty {
            const NAME: &'static str = $name;
            fn locate(&self, slot: U256) -> U256 {
                locate_word(U256::from(*self), slot)
            }
        }
    )*};
}
integers! { u8 => 1, "uint8"; u16 => 2, "uint16"; u32 => 4, "uint32"; u64 => 8, "uint64"; u128 => 16, "uint128" }

impl Word for U256 {
    const BYTES: usize = 32;
    const NAME: &'static str = "uint256";
    fn to_word(self) -> U256 {
        self
    }
    fn from_word(word: U256) -> Self {
        word
    }
}

impl Word for B256 {
    const BYTES: usize = 32;
    const NAME: &'static str = "bytes32";
    fn to_word(self) -> U256 {
        self.into()
    }
    fn from_word(word: U256) -> Self {
        word.into()
    }
}

impl Word for Address {
    const BYTES: usize = 20;
    const NAME: &'static str = "address";
    fn to_word(self) -> U256 {
        self.into_word().into()
    }
    fn from_word(word: U256) -> Self {
        Self::from_word(word.into())
    }
}

impl Word for bool {
    const BYTES: usize = 1;
    const NAME: &'static str = "bool";
    fn to_word(self) -> U256 {
        U256::from(u8::from(self))
    }
    fn from_word(word: U256) -> Self {
        word.byte(0) != 0
    }
}

/// A key of a mapping.
pub trait Key {
    /// Solidity's name of the type.
    const NAME: &'static str;
    /// Slot of this key's value in the mapping at `slot`.
    fn locate(&self, slot: U256) -> U256;
}

fn locate_word(key: U256, slot: U256) -> U256 {
    let mut preimage = [0u8; 64];
    let (left, right) = preimage.split_at_mut(32);
    left.copy_from_slice(&key.to_be_bytes::<32>());
    right.copy_from_slice(&slot.to_be_bytes::<32>());
    keccak256(preimage).into()
}

impl Key for U256 {
    const NAME: &'static str = "uint256";
    fn locate(&self, slot: U256) -> U256 {
        locate_word(*self, slot)
    }
}

impl Key for B256 {
    const NAME: &'static str = "bytes32";
    fn locate(&self, slot: U256) -> U256 {
        locate_word((*self).into(), slot)
    }
}

impl Key for Address {
    const NAME: &'static str = "address";
    fn locate(&self, slot: U256) -> U256 {
        locate_word(self.into_word().into(), slot)
    }
}

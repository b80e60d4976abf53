//! Static EIP-712 structs as words of 32 bytes, big endian: one encoding for hashing and for canonical bytes.

use alloy_primitives::{Address, B256, keccak256};

/// A field that occupies one word.
pub(crate) trait Word: Sized {
    fn to_word(&self) -> B256;
    /// `None` when the word has bits outside the field.
    fn from_word(word: B256) -> Option<Self>;
}

macro_rules! integer_word {
    ($($ty:ty),*) => {$(
        impl Word for $ty {
            fn to_word(&self) -> B256 {
                B256::left_padding_from(&self.to_be_bytes())
            }

            fn from_word(word: B256) -> Option<Self> {
                let (padding, value) = word.as_slice().split_at(32 - size_of::<$ty>());
                if padding.iter().any(|byte| *byte != 0) {
                    return None;
                }
                value.try_into().ok().map(Self::from_be_bytes)
            }
        }
    )*};
}

integer_word!(u8, u16, u32, u64, u128);

impl Word for B256 {
    fn to_word(&self) -> B256 {
        *self
    }

    fn from_word(word: B256) -> Option<Self> {
        Some(word)
    }
}

impl Word for Address {
    fn to_word(&self) -> B256 {
        self.into_word()
    }

    fn from_word(word: B256) -> Option<Self> {
        let address = Self::from_word(word);
        (address.into_word() == word).then_some(address)
    }
}

/// Struct hash: `keccak256(keccak256(type string) || words)`.
pub(crate) fn struct_hash(type_string: &str, words: &[B256]) -> B256 {
    let mut bytes = Vec::with_capacity((words.len() + 1) * 32);
    bytes.extend_from_slice(keccak256(type_string).as_slice());
    for word in words {
        bytes.extend_from_slice(word.as_slice());
    }
    keccak256(bytes)
}

/// Gives a struct its EIP-712 type string, its words, and the way back, in the order of the list.
macro_rules! static_struct {
    ($name:ident { $($kind:literal $json:literal $field:ident),* $(,)? }) => {
        impl $name {
            /// Number of fields.
            pub const FIELDS: usize = [$($json),*].len();

            /// EIP-712 type string.
            pub const TYPE: &str = $crate::wire::static_struct!(@type $name [$($kind $json)*]);

            /// The fields as words, in order.
            pub fn words(&self) -> [alloy_primitives::B256; Self::FIELDS] {
                [$($crate::wire::Word::to_word(&self.$field)),*]
            }

            /// From exactly as many words as there are fields, without checking rules between fields; `None` when
            /// their number is another or a word has bits outside its field.
            pub fn from_words(words: &[alloy_primitives::B256]) -> Option<Self> {
                let mut words = words.iter().copied();
                let value = Self { $($field: $crate::wire::Word::from_word(words.next()?)?),* };
                words.next().is_none().then_some(value)
            }
        }
    };
    (@type $name:ident [$kind0:literal $json0:literal $($kind:literal $json:literal)*]) => {
        concat!(stringify!($name), "(", $kind0, " ", $json0, $(",", $kind, " ", $json,)* ")")
    };
}

pub(crate) use static_struct;

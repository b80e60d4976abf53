//! Where fields lie: Solidity's rules, as a cursor that fields take their place from.

use alloy_primitives::{Address, U256};

/// Hands out slots in declaration order: small values share a word, low-order bytes first; everything else starts a
/// new word.
#[derive(Clone, Debug)]
pub struct Cursor {
    address: Address,
    slot: U256,
    offset: usize,
}

impl Cursor {
    /// At slot 0 of an account.
    pub const fn new(address: Address) -> Self {
        Self::at(address, U256::ZERO)
    }

    /// At `slot` of an account.
    pub const fn at(address: Address, slot: U256) -> Self {
        Self {
            address,
            slot,
            offset: 0,
        }
    }

    /// The account.
    pub const fn address(&self) -> Address {
        self.address
    }

    /// Slot the next full-width value would take after [`align`](Self::align).
    pub const fn slot(&self) -> U256 {
        self.slot
    }

    /// Place of a value of `bytes` (1 to 32): its slot and its offset in bytes from the low end.
    pub fn take(&mut self, bytes: usize) -> (U256, usize) {
        if self.offset.saturating_add(bytes) > 32 {
            self.align();
        }
        let place = (self.slot, self.offset);
        self.offset = self.offset.saturating_add(bytes);
        if self.offset >= 32 {
            self.align();
        }
        place
    }

    /// Moves to the next word unless already at its start.
    pub fn align(&mut self) {
        if self.offset > 0 {
            self.slot = self.slot.wrapping_add(U256::ONE);
            self.offset = 0;
        }
    }
}

/// One line of a layout table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// Path of the field; `[]` stands for a key or index, below which slots are relative to the entry.
    pub field: String,
    /// Solidity type.
    pub kind: String,
    /// Slot, relative to the account or to the entry.
    pub slot: U256,
    /// Offset in the slot, bytes from the low end.
    pub offset: usize,
    /// Bytes in the slot.
    pub size: usize,
}

/// Something that occupies storage.
pub trait Place: Sized {
    /// Takes its place.
    fn place(cursor: &mut Cursor) -> Self;
    /// Appends its rows to a layout table.
    fn describe(field: &str, cursor: &mut Cursor, rows: &mut Vec<Row>);
}

/// Declares a struct of storage fields; the order of the fields is their layout.
///
/// Fields must implement [`Place`]. The struct does too, so it can be the value of a mapping.
#[macro_export]
macro_rules! layout {
    ($(#[$meta:meta])* $vis:vis struct $name:ident { $($(#[$field_meta:meta])* $field_vis:vis $field:ident : $ty:ty),* $(,)? }) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug)]
        $vis struct $name { $($(#[$field_meta])* $field_vis $field: $ty),* }

        impl $crate::Place for $name {
            fn place(cursor: &mut $crate::Cursor) -> Self {
                cursor.align();
                let placed = Self { $($field: <$ty as $crate::Place>::place(cursor)),* };
                cursor.align();
                placed
            }

            fn describe(field: &str, cursor: &mut $crate::Cursor, rows: &mut Vec<$crate::Row>) {
                cursor.align();
                $(
                    let path = if field.is_empty() { stringify!($field).to_string() } else { format!("{field}.{}", stringify!($field)) };
                    <$ty as $crate::Place>::describe(&path, cursor, rows);
                )*
                cursor.align();
            }
        }
    };
}

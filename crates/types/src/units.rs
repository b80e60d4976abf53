//! Newtypes for units, so that a wei amount cannot be added to a number of blocks.

use alloy_primitives::U256;
use serde::{Deserialize, Serialize};

macro_rules! unit {
    ($(#[$doc:meta])* $name:ident($inner:ty)) => {
        $(#[$doc])*
        #[derive(
            Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
        )]
        #[serde(transparent)]
        pub struct $name(pub $inner);

        impl $name {
            /// Wraps a bare number of this unit.
            pub const fn new(value: $inner) -> Self {
                Self(value)
            }

            /// The bare number.
            pub const fn get(self) -> $inner {
                self.0
            }

            /// Sum, or `None` on overflow.
            pub fn checked_add(self, other: Self) -> Option<Self> {
                self.0.checked_add(other.0).map(Self)
            }

            /// Difference, or `None` when `other` is larger.
            pub fn checked_sub(self, other: Self) -> Option<Self> {
                self.0.checked_sub(other.0).map(Self)
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                std::fmt::Display::fmt(&self.0, f)
            }
        }
    };
}

unit! {
    /// Amount of the native coin ASSAY in wei (10^-18).
    Wei(U256)
}
unit! {
    /// Amount of the stable money `usd` in millionths (10^-6).
    UsdMicros(u128)
}
unit! {
    /// A share in parts per million; 1,000,000 is the whole.
    Ppm(u32)
}
unit! {
    /// Milliseconds, as a point since the Unix epoch or as a length, as the context says.
    Millis(u64)
}
unit! {
    /// Height of a block; genesis is 0.
    BlockNumber(u64)
}
unit! {
    /// Number of model tokens.
    TokenCount(u64)
}

impl Ppm {
    /// The whole: 1,000,000 parts per million.
    pub const WHOLE: Self = Self(1_000_000);

    /// This share of `amount`, rounded down; `None` when the share exceeds the whole.
    pub fn of(self, amount: U256) -> Option<U256> {
        if self > Self::WHOLE {
            return None;
        }
        // amount = q * 10^6 + r, so neither product can overflow 256 bits.
        let whole = U256::from(Self::WHOLE.0);
        let share = U256::from(self.0);
        let quotient = amount.checked_div(whole)?.checked_mul(share)?;
        let remainder = amount.checked_rem(whole)?.checked_mul(share)?;
        quotient.checked_add(remainder.checked_div(whole)?)
    }
}

impl Millis {
    /// Whole seconds, rounded down.
    pub const fn seconds(self) -> u64 {
        self.0 / 1_000
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn share_of_the_largest_amount_does_not_overflow() {
        assert_eq!(Ppm::WHOLE.of(U256::MAX), Some(U256::MAX));
        assert_eq!(Ppm(1_000_001).of(U256::from(1)), None);
        assert_eq!(Ppm(333_333).of(U256::from(10)), Some(U256::from(3)));
    }
}

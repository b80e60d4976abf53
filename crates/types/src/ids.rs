//! Content identifiers: 32-byte hashes that must not be mixed up.

use alloy_primitives::B256;
use serde::{Deserialize, Serialize};

macro_rules! id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(
            Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
        )]
        #[serde(transparent)]
        pub struct $name(pub B256);

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                std::fmt::Display::fmt(&self.0, f)
            }
        }

        impl From<B256> for $name {
            fn from(hash: B256) -> Self {
                Self(hash)
            }
        }

        impl From<$name> for B256 {
            fn from(id: $name) -> Self {
                id.0
            }
        }
    };
}

id! {
    /// Hash of an integer graph, its tables and its weights.
    ModelId
}
id! {
    /// Hash of a claim as it is recorded on the chain.
    ClaimId
}
id! {
    /// Hash of a dispute over a claim.
    DisputeId
}
id! {
    /// Hash of the signed receipt of one answer.
    ReceiptId
}

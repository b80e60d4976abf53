//! What a watcher tells whoever runs it.

use alloy_primitives::{Address, B256, U256};

/// One thing that happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WatcherEvent {
    /// The own run agrees with the receipt.
    Agreed {
        /// The claim.
        claim_id: B256,
    },
    /// The own run agrees with the receipt, but the token masks are not those of the grammar. The requester was given
    /// less or more than it asked; the chain does not judge it.
    OtherMasks {
        /// The claim.
        claim_id: B256,
        /// Who asserted it.
        operator: Address,
        /// First answered position whose mask is another.
        position: u32,
    },
    /// The own run differs from the receipt.
    Differs {
        /// The claim.
        claim_id: B256,
        /// Who asserted it.
        operator: Address,
        /// Trace root of the receipt.
        asserted: B256,
        /// Trace root of the own run; zero when the committed input can't be run.
        own: B256,
    },
    /// The answer is right and the trace root is not. The model is provable, so the operator could answer a challenge by a proof.
    OtherTrace {
        /// The claim.
        claim_id: B256,
        /// Who asserted it.
        operator: Address,
        /// Trace root of the own run.
        own: B256,
    },
    /// A claim of tier zk was not proven in time and is rejected.
    Expired {
        /// The claim.
        claim_id: B256,
    },
    /// The registered proof key is another than the one that the model's weights give.
    WrongProofKey {
        /// The model.
        model_id: B256,
        /// Id of the registered key.
        registered: B256,
        /// Id of the key made here; zero when the model has none.
        own: B256,
    },
    /// The claim could not be audited; tried again until its window ends.
    Unaudited {
        /// The claim.
        claim_id: B256,
        /// Why.
        reason: String,
    },
    /// A dispute was opened.
    Challenged {
        /// The claim.
        claim_id: B256,
        /// The dispute.
        dispute: U256,
        /// Bond, wei.
        bond: U256,
    },
    /// The challenger's move in a dispute is on the chain.
    Moved {
        /// The dispute.
        dispute: U256,
        /// Name of the move: `pick`, `name`, `proveElement`, `proveBlock`, `timeout`.
        call: &'static str,
        /// In words: which leaf, which element, how much evidence.
        words: String,
    },
    /// A dispute ended.
    Closed {
        /// The claim.
        claim_id: B256,
        /// The dispute.
        dispute: U256,
        /// Whether the claim was rejected.
        rejected: bool,
    },
}

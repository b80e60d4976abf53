//! The request: what a buyer authorises, signed before any work is done.

use alloy_primitives::B256;
use serde::{Deserialize, Serialize};

use crate::json::{decimal, fixed_hex};
use crate::wire::{static_struct, struct_hash};
use crate::{ReceiptError, form};

/// What the requester or its gateway signs: model, input, place in the line, and the most it will pay.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Request {
    /// Format version, 1.
    #[serde(with = "decimal")]
    pub version: u8,
    /// Exposure line, [`crate::line_id`].
    #[serde(with = "fixed_hex")]
    pub line_id: B256,
    /// Position in the line, contiguous from 1; 0 leaves it to the operator when it issues the receipt. The chain takes
    /// one receipt of such an open request.
    #[serde(with = "decimal")]
    pub seq: u64,
    /// Model that must answer.
    #[serde(with = "fixed_hex")]
    pub model_id: B256,
    /// Version of the operator semantics.
    #[serde(with = "decimal")]
    pub semantics: u32,
    /// [`crate::input_commit`] of the canonical input bytes.
    #[serde(with = "fixed_hex")]
    pub input_commit: B256,
    /// [`crate::sampling_hash`] of the sampling statement; 0 where nothing is sampled. The receipt has the same.
    #[serde(with = "fixed_hex")]
    pub sampling_hash: B256,
    /// Most output tokens; 1 for models that produce no tokens.
    #[serde(with = "decimal")]
    pub max_out: u32,
    /// Highest fee, `usd` base units (10^-6).
    #[serde(with = "decimal")]
    pub max_fee: u128,
    /// Harm of a wrong answer, `usd` base units (10^-6).
    #[serde(with = "decimal")]
    pub value_at_risk: u128,
    /// Acceptable tiers, [`crate::Tier::mask`].
    #[serde(with = "decimal")]
    pub tier_mask: u8,
    /// Lowest acceptable audit probability, parts per million.
    #[serde(with = "decimal")]
    pub audit_ppm: u32,
    /// Shortest acceptable challenge window, seconds.
    #[serde(with = "decimal")]
    pub window: u32,
    /// Last chain second at which a receipt may be issued.
    #[serde(with = "decimal")]
    pub expiry: u64,
}

static_struct!(Request {
    "uint8" "version" version,
    "bytes32" "lineId" line_id,
    "uint64" "seq" seq,
    "bytes32" "modelId" model_id,
    "uint32" "semantics" semantics,
    "bytes32" "inputCommit" input_commit,
    "bytes32" "samplingHash" sampling_hash,
    "uint32" "maxOut" max_out,
    "uint128" "maxFee" max_fee,
    "uint128" "valueAtRisk" value_at_risk,
    "uint8" "tierMask" tier_mask,
    "uint32" "auditPpm" audit_ppm,
    "uint32" "window" window,
    "uint64" "expiry" expiry,
});

impl Request {
    /// Checks the ranges of all fields.
    ///
    /// # Errors
    /// [`ReceiptError::Range`].
    pub fn check(&self) -> Result<(), ReceiptError> {
        form::check_request(self)
    }

    /// Whether the operator gives the place in the line.
    pub const fn is_open(&self) -> bool {
        self.seq == 0
    }

    /// EIP-712 struct hash; a receipt carries it as `requestHash`.
    pub fn struct_hash(&self) -> B256 {
        struct_hash(Self::TYPE, &self.words())
    }

    /// The struct as module calls take it.
    pub fn to_abi(&self) -> assay_abi::Request {
        assay_abi::Request {
            version: self.version,
            lineId: self.line_id,
            seq: self.seq,
            modelId: self.model_id,
            semantics: self.semantics,
            inputCommit: self.input_commit,
            samplingHash: self.sampling_hash,
            maxOut: self.max_out,
            maxFee: self.max_fee,
            valueAtRisk: self.value_at_risk,
            tierMask: self.tier_mask,
            auditPpm: self.audit_ppm,
            window: self.window,
            expiry: self.expiry,
        }
    }
}

//! The receipt: 27 static fields, one canonical encoding, one hash that is its name.

use alloy_primitives::{Address, B256, keccak256};
use serde::{Deserialize, Serialize};

use crate::json::{decimal, fixed_hex};
use crate::wire::{static_struct, struct_hash};
use crate::{ReceiptError, Request, Tier, form};

/// Length of the canonical form: the prefix and 27 words of 32 bytes.
pub const CANONICAL_BYTES: usize = 1 + 27 * 32;
/// First byte of the canonical form.
pub const CANONICAL_PREFIX: u8 = 1;

/// `lineId = keccak256(operator || requester)`: the exposure line of the two.
pub fn line_id(operator: Address, requester: Address) -> B256 {
    let mut bytes = [0u8; 40];
    let (head, tail) = bytes.split_at_mut(20);
    head.copy_from_slice(operator.as_slice());
    tail.copy_from_slice(requester.as_slice());
    keccak256(bytes)
}

/// What an operator signs for one answer. Amounts are `usd` base units (10^-6) unless named stake (10^-18 ASSAY).
///
/// A value may break the rules between fields (it can be built field by field); [`Receipt::check`] tells, and
/// every decoder calls it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Receipt {
    /// Format version, 1.
    #[serde(with = "decimal")]
    pub version: u8,
    /// Number of the [`Tier`].
    #[serde(with = "decimal")]
    pub tier: u8,
    /// Bits of [`crate::Flags`].
    #[serde(with = "decimal")]
    pub flags: u16,
    /// Exposure line, [`line_id`].
    #[serde(with = "fixed_hex")]
    pub line_id: B256,
    /// Position in the line, contiguous from 1.
    #[serde(with = "decimal")]
    pub seq: u64,
    /// Exposure of receipts 1..seq of the line, this one included (stake units).
    #[serde(with = "decimal")]
    pub cum_exposure: u128,
    /// Who asked and pays.
    #[serde(with = "fixed_hex")]
    pub requester: Address,
    /// Staking identity of who answered; the signing key is another one.
    #[serde(with = "fixed_hex")]
    pub operator: Address,
    /// EIP-712 struct hash of the [`Request`].
    #[serde(with = "fixed_hex")]
    pub request_hash: B256,
    /// Identity of the integer graph, its tables and its weights.
    #[serde(with = "fixed_hex")]
    pub model_id: B256,
    /// Version of the operator semantics.
    #[serde(with = "decimal")]
    pub semantics: u32,
    /// [`crate::input_commit`] of the canonical input bytes.
    #[serde(with = "fixed_hex")]
    pub input_commit: B256,
    /// [`crate::output_commit`] of the canonical output bytes.
    #[serde(with = "fixed_hex")]
    pub output_commit: B256,
    /// [`crate::sampling_hash`] of the sampling statement; 0 where nothing is sampled.
    #[serde(with = "fixed_hex")]
    pub sampling_hash: B256,
    /// Input tokens, or 1 for models without positions.
    #[serde(with = "decimal")]
    pub n_in: u32,
    /// Output tokens, or 1 for models that produce no tokens.
    #[serde(with = "decimal")]
    pub n_out: u32,
    /// Root of the committed trace (docs/graph.md, "Trace").
    #[serde(with = "fixed_hex")]
    pub trace_root: B256,
    /// Leaves of the committed trace; computed by whoever checks, never believed.
    #[serde(with = "decimal")]
    pub n_leaves: u64,
    /// keccak256 of the tier's evidence blob; 0 for tiers 0 and 1.
    #[serde(with = "fixed_hex")]
    pub evidence_hash: B256,
    /// Fee, at most what the request authorises.
    #[serde(with = "decimal")]
    pub fee: u128,
    /// Harm of a wrong answer as the buyer declared it.
    #[serde(with = "decimal")]
    pub value_at_risk: u128,
    /// Stake locked for this receipt (stake units).
    #[serde(with = "decimal")]
    pub exposure: u128,
    /// Audit probability, parts per million.
    #[serde(with = "decimal")]
    pub audit_ppm: u32,
    /// Challenge window, seconds.
    #[serde(with = "decimal")]
    pub window: u32,
    /// When it was signed, chain seconds.
    #[serde(with = "decimal")]
    pub issued_at: u64,
    /// By when it is on the chain, chain seconds; at most 3,600 after `issued_at`.
    #[serde(with = "decimal")]
    pub include_by: u64,
    /// Hash of an optional extension; 0 if none.
    #[serde(with = "fixed_hex")]
    pub ext_hash: B256,
}

static_struct!(Receipt {
    "uint8" "version" version,
    "uint8" "tier" tier,
    "uint16" "flags" flags,
    "bytes32" "lineId" line_id,
    "uint64" "seq" seq,
    "uint128" "cumExposure" cum_exposure,
    "address" "requester" requester,
    "address" "operator" operator,
    "bytes32" "requestHash" request_hash,
    "bytes32" "modelId" model_id,
    "uint32" "semantics" semantics,
    "bytes32" "inputCommit" input_commit,
    "bytes32" "outputCommit" output_commit,
    "bytes32" "samplingHash" sampling_hash,
    "uint32" "nIn" n_in,
    "uint32" "nOut" n_out,
    "bytes32" "traceRoot" trace_root,
    "uint64" "nLeaves" n_leaves,
    "bytes32" "evidenceHash" evidence_hash,
    "uint128" "fee" fee,
    "uint128" "valueAtRisk" value_at_risk,
    "uint128" "exposure" exposure,
    "uint32" "auditPpm" audit_ppm,
    "uint32" "window" window,
    "uint64" "issuedAt" issued_at,
    "uint64" "includeBy" include_by,
    "bytes32" "extHash" ext_hash,
});

impl Receipt {
    /// Checks every rule between and inside fields that needs nothing from outside.
    ///
    /// # Errors
    /// The first violated rule: [`ReceiptError::Range`], [`ReceiptError::Flags`], [`ReceiptError::ZeroRule`],
    /// [`ReceiptError::Exposure`].
    pub fn check(&self) -> Result<(), ReceiptError> {
        form::check_receipt(self)
    }

    /// The evidence tier.
    ///
    /// # Errors
    /// [`ReceiptError::Range`] for an unknown number.
    pub fn tier(&self) -> Result<Tier, ReceiptError> {
        Tier::try_from(self.tier)
    }

    /// EIP-712 struct hash: the name of this receipt everywhere.
    pub fn claim_id(&self) -> B256 {
        struct_hash(Self::TYPE, &self.words())
    }

    /// Struct hash with `evidenceHash = 0`: what evidence itself may name without containing its own hash.
    pub fn body_id(&self) -> B256 {
        let body = Self {
            evidence_hash: B256::ZERO,
            ..self.clone()
        };
        body.claim_id()
    }

    /// `keccak256(lineId || uint64 seq)`: names the job before any receipt exists.
    pub fn job_id(&self) -> B256 {
        let mut bytes = [0u8; 40];
        let (head, tail) = bytes.split_at_mut(32);
        head.copy_from_slice(self.line_id.as_slice());
        tail.copy_from_slice(&self.seq.to_be_bytes());
        keccak256(bytes)
    }

    /// Canonical bytes: 0x01 and the 27 fields as 32-byte big-endian words, 865 bytes.
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = vec![CANONICAL_PREFIX];
        for word in self.words() {
            bytes.extend_from_slice(word.as_slice());
        }
        bytes
    }

    /// Reads canonical bytes and checks every rule of [`Receipt::check`].
    ///
    /// # Errors
    /// [`ReceiptError::Length`], [`ReceiptError::Prefix`], [`ReceiptError::NotCanonical`], or a violated rule.
    pub fn decode(bytes: &[u8]) -> Result<Self, ReceiptError> {
        if bytes.len() != CANONICAL_BYTES {
            return Err(ReceiptError::Length {
                what: "receipt",
                want: CANONICAL_BYTES,
                have: bytes.len(),
            });
        }
        let (prefix, words) = bytes.split_first().ok_or(ReceiptError::Prefix(0))?;
        if *prefix != CANONICAL_PREFIX {
            return Err(ReceiptError::Prefix(*prefix));
        }
        let words: Vec<B256> = words.chunks_exact(32).map(B256::from_slice).collect();
        let receipt =
            Self::from_words(&words).ok_or(ReceiptError::NotCanonical { what: "receipt" })?;
        receipt.check()?;
        Ok(receipt)
    }

    /// receipt.json: one line, fields in order, integers as decimal strings, bytes as 0x and lower-case hex.
    ///
    /// # Errors
    /// [`ReceiptError::Json`]; cannot happen for a value of this type.
    pub fn to_json(&self) -> Result<String, ReceiptError> {
        serde_json::to_string(self).map_err(|error| ReceiptError::Json(error.to_string()))
    }

    /// Reads receipt.json and checks every rule of [`Receipt::check`].
    ///
    /// # Errors
    /// [`ReceiptError::Json`] for any other form, or a violated rule.
    pub fn from_json(text: &str) -> Result<Self, ReceiptError> {
        let receipt: Self =
            serde_json::from_str(text).map_err(|error| ReceiptError::Json(error.to_string()))?;
        receipt.check()?;
        Ok(receipt)
    }

    /// Checks that this receipt answers `request` and charges no more than it authorises.
    ///
    /// # Errors
    /// [`ReceiptError::NotRequested`] with the first field that differs.
    pub fn check_answers(&self, request: &Request) -> Result<(), ReceiptError> {
        form::check_answers(self, request)
    }
}

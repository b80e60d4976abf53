//! Why bytes, JSON, a signature or a field were refused.

use alloy_primitives::{Address, B256};
use thiserror::Error;

/// Protocol errors of receipts and requests: all of them are caused by whoever sent the bytes.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum ReceiptError {
    /// Wrong number of bytes.
    #[error("{what} has {have} bytes, want {want}")]
    Length {
        /// What was decoded.
        what: &'static str,
        /// Bytes of the canonical form.
        want: usize,
        /// Bytes that were given.
        have: usize,
    },
    /// First byte of the canonical form is not the known one.
    #[error("receipt bytes start with {0:#04x}, want 0x01")]
    Prefix(u8),
    /// A word has bits outside its field, so these bytes are not the canonical form.
    #[error("{what} is not in its canonical encoding")]
    NotCanonical {
        /// What was decoded.
        what: &'static str,
    },
    /// A number is outside its allowed interval.
    #[error("field `{field}` is {have}, allowed {low} to {high}")]
    Range {
        /// Field name as in receipt.json.
        field: &'static str,
        /// Value found.
        have: u128,
        /// Smallest allowed value.
        low: u128,
        /// Largest allowed value.
        high: u128,
    },
    /// Flag bits that have no meaning yet.
    #[error("field `flags` is {0:#06x}, bits above 0x000f must be 0")]
    Flags(u16),
    /// A hash must be zero, or must not be zero, for this tier.
    #[error("field `{field}` must {}be zero for tier {tier}", if *.must_be_zero { "" } else { "not " })]
    ZeroRule {
        /// Field name as in receipt.json.
        field: &'static str,
        /// Tier of the receipt.
        tier: u8,
        /// Which of the two rules was broken.
        must_be_zero: bool,
    },
    /// `cumExposure` includes this receipt, so it cannot be smaller than `exposure`.
    #[error("field `cumExposure` is {cumulative}, smaller than `exposure` {exposure}")]
    Exposure {
        /// Sum over the line.
        cumulative: u128,
        /// This receipt's part.
        exposure: u128,
    },
    /// JSON that is not exactly the documented form; the text names the first violation.
    #[error("receipt JSON: {0}")]
    Json(String),
    /// Upper half of the curve order: refused, never normalised.
    #[error("signature has a high s value")]
    HighS,
    /// Recovery byte is neither 27 nor 28.
    #[error("signature ends in v = {0}, want 27 or 28")]
    RecoveryByte(u8),
    /// r or s is zero or too large, or no key fits.
    #[error("signature does not recover to a key")]
    Unrecoverable,
    /// Signed by another key.
    #[error("signed by {have}, want {want}")]
    WrongSigner {
        /// Address of the recovered key.
        have: Address,
        /// Address that should have signed.
        want: Address,
    },
    /// The 32 bytes are zero or not below the curve order; the bytes are not shown.
    #[error("not a secp256k1 secret key")]
    SecretKey,
    /// The receipt answers another request.
    #[error("field `{field}` of the receipt is not what the request binds")]
    NotRequested {
        /// Field name as in receipt.json.
        field: &'static str,
    },
    /// A commitment does not open to the given bytes and salt.
    #[error("{what} commitment is {have}, the bytes given open {want}")]
    Commitment {
        /// `input` or `output`.
        what: &'static str,
        /// Commitment of the receipt.
        have: B256,
        /// Commitment of the bytes.
        want: B256,
    },
    /// A formula left its number range.
    #[error("{what} does not fit 128 bits")]
    Overflow {
        /// Which amount.
        what: &'static str,
    },
    /// With no audits no stake is enough.
    #[error("audit probability is {0} parts per million, allowed 1 to 1000000")]
    AuditPpm(u32),
}

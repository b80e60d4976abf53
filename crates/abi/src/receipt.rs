//! The receipt's 27 fields and their one encoding.

use alloy_primitives::{Address, B256, U256, keccak256};
use alloy_sol_types::Eip712Domain;

/// Number of fields, each one 32-byte word.
pub const RECEIPT_WORDS: usize = 27;

/// EIP-712 type string of a receipt.
pub const RECEIPT_TYPE: &str = "Receipt(uint8 version,uint8 tier,uint16 flags,bytes32 lineId,uint64 seq,uint128 cumExposure,address requester,address operator,bytes32 requestHash,bytes32 modelId,uint32 semantics,bytes32 inputCommit,bytes32 outputCommit,bytes32 samplingHash,uint32 nIn,uint32 nOut,bytes32 traceRoot,uint64 nLeaves,bytes32 evidenceHash,uint128 fee,uint128 valueAtRisk,uint128 exposure,uint32 auditPpm,uint32 window,uint64 issuedAt,uint64 includeBy,bytes32 extHash)";

/// A word holds more than its field may.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReceiptWordError {
    /// Name of the field as in the EIP-712 type.
    pub field: &'static str,
    /// The word found.
    pub word: B256,
}

impl core::fmt::Display for ReceiptWordError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(
            f,
            "receipt field `{}` does not fit its type: {}",
            self.field, self.word
        )
    }
}

impl core::error::Error for ReceiptWordError {}

/// One answer, signed by the operator's receipt key.
///
/// Amounts of usd have 6 decimals, amounts of stake 18; times are chain seconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Receipt {
    /// 1; anything else is refused.
    pub version: u8,
    /// 0 signed, 1 optimistic, 2 quorum, 3 tee, 4 zk, 5 fhe, 6 statistical.
    pub tier: u8,
    /// Bit 0 input public, 1 auditors may see the input, 2 prove on demand offered, 3 streamed; others 0.
    pub flags: u16,
    /// `keccak256(operator ++ requester)`.
    pub line_id: B256,
    /// Position in the line, contiguous from 1.
    pub seq: u64,
    /// Sum of `exposure` over receipts 1..=seq of the line (stake units, 18 decimals).
    pub cum_exposure: u128,
    /// Who pays.
    pub requester: Address,
    /// Staking identity, not the key that signs.
    pub operator: Address,
    /// EIP-712 struct hash of the `Request`.
    pub request_hash: B256,
    /// Identity of the integer graph, its tables and weights.
    pub model_id: B256,
    /// Version of the operators' semantics, the model's registered one.
    pub semantics: u32,
    /// Salted commitment to the canonical input bytes.
    pub input_commit: B256,
    /// Salted commitment to the canonical output bytes.
    pub output_commit: B256,
    /// Hash of the integer sampling parameters and seed; 0 without sampling.
    pub sampling_hash: B256,
    /// Positions read.
    pub n_in: u32,
    /// Positions written; 1 for models without a sequence of outputs.
    pub n_out: u32,
    /// Root of the committed trace tree; 0 only in tiers 0, 3, 4, 6.
    pub trace_root: B256,
    /// Leaves of the committed tree, as computed from the model and `nIn`.
    pub n_leaves: u64,
    /// keccak256 of the tier's evidence; 0 in tiers 0 and 1.
    pub evidence_hash: B256,
    /// usd base units (6 decimals).
    pub fee: u128,
    /// Harm of a wrong answer as the buyer declared it, usd base units.
    pub value_at_risk: u128,
    /// Stake locked for this receipt (18 decimals).
    pub exposure: u128,
    /// Audit probability, parts per million.
    pub audit_ppm: u32,
    /// Challenge window, seconds.
    pub window: u32,
    /// Chain seconds.
    pub issued_at: u64,
    /// Chain seconds by which the receipt must be asserted.
    pub include_by: u64,
    /// Hash of an optional extension; 0 if none.
    pub ext_hash: B256,
}

trait Word: Sized {
    fn put(&self) -> B256;
    fn take(word: B256) -> Option<Self>;
}

macro_rules! integer_word {
    ($($ty:ty),*) => {$(
        impl Word for $ty {
            fn put(&self) -> B256 {
                B256::from(U256::from(*self))
            }
            fn take(word: B256) -> Option<Self> {
                Self::try_from(U256::from_be_bytes(word.0)).ok()
            }
        }
    )*};
}
integer_word!(u8, u16, u32, u64, u128);

impl Word for B256 {
    fn put(&self) -> B256 {
        *self
    }
    fn take(word: B256) -> Option<Self> {
        Some(word)
    }
}

impl Word for Address {
    fn put(&self) -> B256 {
        self.into_word()
    }
    fn take(word: B256) -> Option<Self> {
        let address = Self::from_word(word);
        (address.into_word() == word).then_some(address)
    }
}

fn take<T: Word>(word: B256, field: &'static str) -> Result<T, ReceiptWordError> {
    T::take(word).ok_or(ReceiptWordError { field, word })
}

impl Receipt {
    /// The fields as big-endian words, in order.
    pub fn to_words(&self) -> [B256; RECEIPT_WORDS] {
        [
            self.version.put(),
            self.tier.put(),
            self.flags.put(),
            self.line_id.put(),
            self.seq.put(),
            self.cum_exposure.put(),
            self.requester.put(),
            self.operator.put(),
            self.request_hash.put(),
            self.model_id.put(),
            self.semantics.put(),
            self.input_commit.put(),
            self.output_commit.put(),
            self.sampling_hash.put(),
            self.n_in.put(),
            self.n_out.put(),
            self.trace_root.put(),
            self.n_leaves.put(),
            self.evidence_hash.put(),
            self.fee.put(),
            self.value_at_risk.put(),
            self.exposure.put(),
            self.audit_ppm.put(),
            self.window.put(),
            self.issued_at.put(),
            self.include_by.put(),
            self.ext_hash.put(),
        ]
    }

    /// Reads the fields back.
    ///
    /// # Errors
    /// [`ReceiptWordError`] if the padding of a word is not zero, naming the first such field.
    pub fn from_words(words: &[B256; RECEIPT_WORDS]) -> Result<Self, ReceiptWordError> {
        let [
            w0,
            w1,
            w2,
            w3,
            w4,
            w5,
            w6,
            w7,
            w8,
            w9,
            w10,
            w11,
            w12,
            w13,
            w14,
            w15,
            w16,
            w17,
            w18,
            w19,
            w20,
            w21,
            w22,
            w23,
            w24,
            w25,
            w26,
        ] = *words;
        Ok(Self {
            version: take(w0, "version")?,
            tier: take(w1, "tier")?,
            flags: take(w2, "flags")?,
            line_id: take(w3, "lineId")?,
            seq: take(w4, "seq")?,
            cum_exposure: take(w5, "cumExposure")?,
            requester: take(w6, "requester")?,
            operator: take(w7, "operator")?,
            request_hash: take(w8, "requestHash")?,
            model_id: take(w9, "modelId")?,
            semantics: take(w10, "semantics")?,
            input_commit: take(w11, "inputCommit")?,
            output_commit: take(w12, "outputCommit")?,
            sampling_hash: take(w13, "samplingHash")?,
            n_in: take(w14, "nIn")?,
            n_out: take(w15, "nOut")?,
            trace_root: take(w16, "traceRoot")?,
            n_leaves: take(w17, "nLeaves")?,
            evidence_hash: take(w18, "evidenceHash")?,
            fee: take(w19, "fee")?,
            value_at_risk: take(w20, "valueAtRisk")?,
            exposure: take(w21, "exposure")?,
            audit_ppm: take(w22, "auditPpm")?,
            window: take(w23, "window")?,
            issued_at: take(w24, "issuedAt")?,
            include_by: take(w25, "includeBy")?,
            ext_hash: take(w26, "extHash")?,
        })
    }

    /// EIP-712 struct hash: the claim id.
    pub fn struct_hash(&self) -> B256 {
        let mut preimage = [0u8; 32 * (RECEIPT_WORDS + 1)];
        let words = self.to_words();
        let hash = keccak256(RECEIPT_TYPE);
        let all = core::iter::once(&hash).chain(words.iter());
        for (slot, word) in preimage.chunks_exact_mut(32).zip(all) {
            slot.copy_from_slice(word.as_slice());
        }
        keccak256(preimage)
    }

    /// Struct hash with `evidenceHash` zero: what evidence may name without containing its own hash.
    pub fn body_id(&self) -> B256 {
        Self {
            evidence_hash: B256::ZERO,
            ..*self
        }
        .struct_hash()
    }

    /// EIP-712 digest that the operator's receipt key signs.
    pub fn signing_hash(&self, domain: &Eip712Domain) -> B256 {
        let mut preimage = [0u8; 66];
        preimage[0] = 0x19;
        preimage[1] = 0x01;
        preimage[2..34].copy_from_slice(domain.hash_struct().as_slice());
        preimage[34..].copy_from_slice(self.struct_hash().as_slice());
        keccak256(preimage)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_round_trip_and_padding_is_refused() {
        let receipt = Receipt {
            version: 1,
            seq: u64::MAX,
            fee: u128::MAX,
            requester: Address::repeat_byte(7),
            ..Default::default()
        };
        let mut words = receipt.to_words();
        assert_eq!(Receipt::from_words(&words), Ok(receipt));
        words[0].0[0] = 1;
        assert_eq!(Receipt::from_words(&words).unwrap_err().field, "version");
    }
}

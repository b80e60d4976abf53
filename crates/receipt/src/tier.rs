//! The trust ladder: which evidence a receipt carries, and the sentence that says what it rests on.

use crate::ReceiptError;

/// Evidence tier of a receipt (specification trust.md sections 1.1 and 13).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Tier {
    /// Signature and bond.
    Signed = 0,
    /// Trace root; anyone may challenge.
    Optimistic = 1,
    /// Several drawn operators agree.
    Quorum = 2,
    /// Attested enclave.
    Tee = 3,
    /// Zero-knowledge proof.
    Zk = 4,
    /// Computed on ciphertext.
    Fhe = 5,
    /// Statistical evidence.
    Statistical = 6,
}

impl Tier {
    /// All tiers, lowest number first.
    pub const ALL: [Self; 7] = [
        Self::Signed,
        Self::Optimistic,
        Self::Quorum,
        Self::Tee,
        Self::Zk,
        Self::Fhe,
        Self::Statistical,
    ];

    /// Name in lower case, as in documents and JSON.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Signed => "signed",
            Self::Optimistic => "optimistic",
            Self::Quorum => "quorum",
            Self::Tee => "tee",
            Self::Zk => "zk",
            Self::Fhe => "fhe",
            Self::Statistical => "statistical",
        }
    }

    /// What an answer of this tier rests on, in one sentence; printed unchanged everywhere.
    pub const fn statement(self) -> &'static str {
        match self {
            Self::Signed => {
                "A wrong answer is found only if it is audited or challenged in the window; then the operator loses more than it could gain; nothing is private."
            }
            Self::Optimistic => {
                "The answer is right if at least one uncensored party with weights and input re-executes it within the window; nothing is private from auditors."
            }
            Self::Quorum => {
                "The early answer is right unless the drawn operators collude; after the window it is as good as optimistic."
            }
            Self::Tee => {
                "Prompts are hidden from software and remote operators, not from someone with physical access, who can also forge; correctness rests on stake and audits."
            }
            Self::Zk => {
                "The answer is right except with probability 2^\u{2212}100 under standard hash assumptions, whoever made it."
            }
            Self::Fhe => {
                "The operator learns nothing about the input if the lattice problem is hard, and the owner rejects a wrong result before decrypting except with probability 2^\u{2212}64."
            }
            Self::Statistical => {
                "A cheaper model is likely to be noticed; a single answer proves nothing."
            }
        }
    }

    /// This tier's bit in a request's `tierMask`.
    pub const fn mask(self) -> u8 {
        1 << self as u8
    }

    /// Whether a receipt of this tier may leave `traceRoot` zero.
    pub const fn may_omit_trace(self) -> bool {
        matches!(
            self,
            Self::Signed | Self::Tee | Self::Zk | Self::Statistical
        )
    }

    /// Whether a receipt of this tier has no evidence blob, hence a zero `evidenceHash`.
    pub const fn has_no_evidence(self) -> bool {
        matches!(self, Self::Signed | Self::Optimistic)
    }
}

impl TryFrom<u8> for Tier {
    type Error = ReceiptError;

    fn try_from(number: u8) -> Result<Self, ReceiptError> {
        Self::ALL
            .get(usize::from(number))
            .copied()
            .ok_or(ReceiptError::Range {
                field: "tier",
                have: u128::from(number),
                low: 0,
                high: 6,
            })
    }
}

impl std::fmt::Display for Tier {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

/// Bits of the `flags` field.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Flags(pub u16);

impl Flags {
    /// The input is public.
    pub const INPUT_PUBLIC: u16 = 1;
    /// Auditors may see the input.
    pub const AUDITORS_SEE_INPUT: u16 = 1 << 1;
    /// The operator offers a proof on demand.
    pub const PROVE_ON_DEMAND: u16 = 1 << 2;
    /// The answer was streamed.
    pub const STREAMED: u16 = 1 << 3;
    /// Every bit that has a meaning.
    pub const KNOWN: u16 = 0x000f;
}

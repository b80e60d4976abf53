//! What modules ask of whoever can check proofs.

use alloy_primitives::B256;

use crate::RunSize;

/// What a proof key says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyInfo {
    /// Hash of the key.
    pub key_id: B256,
    /// Model that the key claims to belong to.
    pub model_id: B256,
    /// Canonical bytes of the structure that the key is for; modules compare it with the registered one.
    pub structure: Vec<u8>,
}

/// A key that was accepted by [`ProofVerifier::inspect_key`].
#[derive(Clone, Copy, Debug)]
pub struct StoredKey<'a> {
    /// Its id, which stands for its bytes: a verifier may remember what it read under it.
    pub key_id: B256,
    /// Its canonical bytes.
    pub bytes: &'a [u8],
}

/// Statement of a proof, read but not verified.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProofStatement {
    /// It can be checked with a key; otherwise only by whoever has the weights.
    pub committed: bool,
    /// Model.
    pub model_id: B256,
    /// Key.
    pub key_id: B256,
    /// Number of runs, at least 1.
    pub runs: u32,
    /// Of one run keccak256 of its input, of several keccak256 of those hashes.
    pub input_hash: B256,
    /// The same of outputs.
    pub output_hash: B256,
    /// The same of sampling statements.
    pub sampling_hash: B256,
    /// What the prover bound to the proof.
    pub context: Vec<u8>,
}

/// An answer to be proven, as its receipt commits to it.
#[derive(Clone, Copy, Debug)]
pub struct AnswerCase<'a> {
    /// The model's key.
    pub key: StoredKey<'a>,
    /// The proof.
    pub proof: &'a [u8],
    /// Size of the run.
    pub size: RunSize,
    /// Opens both commitments.
    pub salt: B256,
    /// The receipt's commitment to the input.
    pub input_commit: B256,
    /// The receipt's commitment to the output.
    pub output_commit: B256,
    /// The receipt's hash of the sampling statement.
    pub sampling_hash: B256,
}

/// Why a proof does not show an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ProofFault {
    /// Its statement is about something else than the receipt.
    Mismatch {
        /// Which part.
        field: &'static str,
        /// The statement's; a hash unless it is a number.
        have: B256,
        /// The receipt's.
        want: B256,
    },
    /// The proof is not valid, or such answers can't be proven.
    Refused(String),
}

/// Checking of proofs, handed in by the node.
///
/// As with [`crate::Arbiter`]: called in block execution with bytes from strangers; pure, free of panics, bounded in time and
/// memory by the lengths of its arguments.
pub trait ProofVerifier: Send + Sync {
    /// Decodes a key.
    ///
    /// # Errors
    /// The reason; it becomes `ProofKeyRefused(reason)`.
    fn inspect_key(&self, key: &[u8]) -> Result<KeyInfo, String>;

    /// Gas of [`inspect_key`](Self::inspect_key) for a key of so many bytes under a model whose structure has so many.
    fn inspect_gas(&self, key: usize, structure: usize) -> u64;

    /// Reads a proof's statement; cheap.
    ///
    /// # Errors
    /// The bytes begin with no statement.
    fn statement(&self, proof: &[u8]) -> Result<ProofStatement, String>;

    /// Verifies a proof under a key; returns bits of soundness.
    ///
    /// # Errors
    /// Why it is not valid.
    fn verify(&self, key: StoredKey<'_>, proof: &[u8]) -> Result<u32, String>;

    /// Checks that a proof of one run is about this answer, then verifies it; returns bits of soundness.
    ///
    /// # Errors
    /// [`ProofFault`].
    fn answers(&self, case: &AnswerCase<'_>) -> Result<u32, ProofFault>;

    /// Gas of [`verify`](Self::verify) and [`answers`](Self::answers), charged before either runs.
    fn gas(&self, key: StoredKey<'_>, proof: &[u8]) -> u64;
}

/// Refuses every key and every proof: for networks without a verifier.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoProofs;

const NONE: &str = "this network checks no proofs";

impl ProofVerifier for NoProofs {
    fn inspect_key(&self, _: &[u8]) -> Result<KeyInfo, String> {
        Err(NONE.to_string())
    }

    fn inspect_gas(&self, _: usize, _: usize) -> u64 {
        0
    }

    fn statement(&self, _: &[u8]) -> Result<ProofStatement, String> {
        Err(NONE.to_string())
    }

    fn verify(&self, _: StoredKey<'_>, _: &[u8]) -> Result<u32, String> {
        Err(NONE.to_string())
    }

    fn answers(&self, _: &AnswerCase<'_>) -> Result<u32, ProofFault> {
        Err(ProofFault::Refused(NONE.to_string()))
    }

    fn gas(&self, _: StoredKey<'_>, _: &[u8]) -> u64 {
        0
    }
}

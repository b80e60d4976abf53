//! Receipts: what an operator signs for one answer, and what anyone can check about it later.
//!
//! Holds the receipt and request formats (EIP-712 struct hashes, canonical bytes, JSON), signatures, salted
//! commitments to input and output, the exposure that a receipt must lock, and offline verification of the
//! bundle that a buyer keeps. No network, no disk, no clock: the chain is reached through [`ChainView`] and a
//! replay through a closure, both handed in.
//!
//! Threat model: receipts, signatures, requests and bundles come from strangers. Each has exactly one accepted
//! encoding; decoders check lengths first, refuse what is not canonical, never normalise and never panic. A
//! verification reports every fact separately: what was checked, what it rests on, and what was not checked.
//!
//! Depends on `abi` (addresses and interfaces) and `graph` (the sampling statement). Start reading at [`Receipt`], then
//! [`verify_bundle`].
//!
//! ```
//! use assay_receipt::{input_commit, opens_input};
//! let salt = [7u8; 32].into();
//! let commit = input_commit(salt, b"tensor bytes");
//! assert!(opens_input(commit, salt, b"tensor bytes"));
//! assert!(!opens_input(commit, salt, b"other bytes"));
//! ```

mod bundle;
mod commit;
mod domain;
mod error;
mod exposure;
mod facts;
mod form;
mod json;
mod proof_file;
mod receipt;
mod request;
mod sampled;
mod signature;
mod storage_proof;
mod tier;
mod verify;
mod wire;

pub use bundle::{BUNDLE_VERSION, Bundle, MAX_BUNDLE_BYTES, Salt};
pub use commit::{
    grammar_hash, input_commit, opens_input, opens_output, output_commit, sampling_hash,
};
pub use domain::{DOMAIN_NAME, DOMAIN_VERSION, Domain};
pub use error::ReceiptError;
pub use exposure::{DETECTION_PER_AUDIT, required_exposure, stake_for};
pub use facts::{Fact, Report, Status};
pub use proof_file::{MAX_PROOF_FILE, PROOF_FILE_MAGIC, ProofFile, ProofFileError};
pub use receipt::{CANONICAL_BYTES, CANONICAL_PREFIX, Receipt, line_id};
pub use request::Request;
pub use signature::{ReceiptKey, ReceiptSignature, recover};
pub use storage_proof::{StorageProof, StorageProofError, verify_storage_proof};
pub use tier::{Flags, Tier};
pub use verify::{
    ChainClaim, ChainKey, ChainView, Replay, ReplayOutcome, ViewError, verify_bundle,
};

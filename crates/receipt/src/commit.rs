//! Salted commitments to input and output (docs/protocol.md, "Commitments").

use alloy_primitives::B256;

/// BLAKE3 key-derivation context of input commitments.
const INPUT_CONTEXT: &str = "assay input v1";
/// BLAKE3 key-derivation context of output commitments.
const OUTPUT_CONTEXT: &str = "assay output v1";

/// BLAKE3 key-derivation context of sampling statements.
const SAMPLING_CONTEXT: &str = "assay sampling v1";

/// `BLAKE3("assay sampling v1", canonical statement)`: the `samplingHash` of a receipt.
pub fn sampling_hash(statement: &[u8]) -> B256 {
    let mut hasher = blake3::Hasher::new_derive_key(SAMPLING_CONTEXT);
    hasher.update(statement);
    B256::from(*hasher.finalize().as_bytes())
}

/// BLAKE3 key-derivation context of grammars.
const GRAMMAR_CONTEXT: &str = "assay grammar v1";

/// `BLAKE3("assay grammar v1", canonical grammar)`: what a sampling statement names when an answer is constrained.
pub fn grammar_hash(grammar: &[u8]) -> B256 {
    let mut hasher = blake3::Hasher::new_derive_key(GRAMMAR_CONTEXT);
    hasher.update(grammar);
    B256::from(*hasher.finalize().as_bytes())
}

fn commit(context: &str, salt: B256, bytes: &[u8]) -> B256 {
    let mut hasher = blake3::Hasher::new_derive_key(context);
    hasher.update(salt.as_slice());
    hasher.update(bytes);
    B256::from(*hasher.finalize().as_bytes())
}

/// `BLAKE3("assay input v1", salt || canonical input bytes)`. `salt` is chosen by the requester.
pub fn input_commit(salt: B256, input: &[u8]) -> B256 {
    commit(INPUT_CONTEXT, salt, input)
}

/// `BLAKE3("assay output v1", salt || canonical output bytes)`, with the salt of the input.
pub fn output_commit(salt: B256, output: &[u8]) -> B256 {
    commit(OUTPUT_CONTEXT, salt, output)
}

/// Whether `salt` and `input` open `commitment`.
pub fn opens_input(commitment: B256, salt: B256, input: &[u8]) -> bool {
    input_commit(salt, input) == commitment
}

/// Whether `salt` and `output` open `commitment`.
pub fn opens_output(commitment: B256, salt: B256, output: &[u8]) -> bool {
    output_commit(salt, output) == commitment
}

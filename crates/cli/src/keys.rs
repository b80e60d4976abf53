//! A model's proof key on the chain: set in one call, or uploaded part by part; what is there already is not sent again.

use alloy_primitives::{B256, keccak256};
use assay_abi::{IModels, MAX_PROOF_KEY, MAX_PROOF_KEY_AT_ONCE, MODELS, proof_key_parts};
use assay_wallet::{ChainClient, Key};

use crate::{
    exit::{Exit, Stop},
    shell::Shell,
    usage,
};

/// What became of a model's proof key on the chain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum KeySet {
    /// It was set now.
    New(B256),
    /// It was there before.
    Known(B256),
    /// Another one is there, and can't be replaced any more.
    Other(B256),
}

/// Sets a model's proof key unless it is on the chain already. Goes on where an upload was interrupted.
///
/// # Errors
/// Those of the chain's client; the module's when the caller is not the model's maker and the key was not announced.
pub(crate) fn publish(
    chain: &ChainClient,
    sender: &Key,
    key: &assay_proof::Key,
    shell: &Shell,
) -> anyhow::Result<KeySet> {
    let model_id = B256::from(key.model_id());
    let own = B256::from(key.id());
    let known = chain.call(MODELS, &IModels::proofKeyCall { modelId: model_id })?;
    if known.keyId == own && known.missing == 0 {
        return Ok(KeySet::Known(own));
    }
    if known.usable {
        return Ok(KeySet::Other(known.keyId));
    }
    let bytes = key.encode();
    if bytes.len() <= MAX_PROOF_KEY_AT_ONCE {
        let call = IModels::setProofKeyCall {
            modelId: model_id,
            key: bytes.into(),
        };
        chain.send(sender, MODELS, &call)?;
        return Ok(KeySet::New(own));
    }
    if bytes.len() > MAX_PROOF_KEY {
        return Err(Stop::new(
            Exit::Failed,
            format!(
                "the proof key has {}, a chain takes {}",
                usage::size(bytes.len() as u64),
                usage::size(MAX_PROOF_KEY as u64)
            ),
        )
        .hint("`assay prove` makes proofs that are checked without a chain")
        .into());
    }
    let hashes: Vec<B256> = proof_key_parts(&bytes).map(keccak256).collect();
    let there = chain.call(MODELS, &IModels::proofKeyPartsCall { modelId: model_id })?;
    let mut here = there.here;
    if known.keyId != own || there.hashes != hashes {
        here = vec![false; hashes.len()];
        let call = IModels::announceProofKeyCall {
            modelId: model_id,
            keyId: own,
            length: bytes.len() as u32,
            hashes,
        };
        chain.send(sender, MODELS, &call)?;
    }
    let bar = shell.bytes_bar("proof key", bytes.len() as u64);
    for ((index, part), here) in (0u32..).zip(proof_key_parts(&bytes)).zip(here) {
        if !here {
            let call = IModels::addProofKeyPartCall {
                modelId: model_id,
                keyId: own,
                index,
                part: part.to_vec().into(),
            };
            match chain.send(sender, MODELS, &call) {
                Ok(_) => {}
                // somebody else was faster
                Err(e) if e.module_error() == Some("ProofKeyPartKnown") => {}
                Err(e) => return Err(e.into()),
            }
        }
        bar.inc(part.len() as u64);
    }
    bar.finish_and_clear();
    Ok(KeySet::New(own))
}

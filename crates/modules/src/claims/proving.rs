//! Claims that end by a proof of their answer, and claims that can end by nothing else.

use alloy_primitives::{B256, U256, keccak256};
use assay_abi::{IClaims, IErrors, MAX_PROOF_BYTES, claim_context};
use assay_storage::Storage;

use super::{ClaimRecord, Claims, TIER_ZK, emit, state};
use crate::RunSize;
use crate::clock;
use crate::disputes::Disputes;
use crate::error::{Ruling, require, revert};
use crate::models::{Models, read_statement};
use crate::verifier::{AnswerCase, ProofFault, ProofVerifier, StoredKey};

impl Claims {
    /// Context that a proof of this claim's answer must carry.
    pub(super) fn proof_context(
        &self,
        storage: &mut dyn Storage,
        claim_id: B256,
    ) -> Ruling<Vec<u8>> {
        let claim = self.known(storage, claim_id)?;
        let stored = claim.body_id.read(storage)?;
        let body_id = if stored.is_zero() { claim_id } else { stored };
        Ok(claim_context(storage.env().chain_id, body_id).to_vec())
    }

    /// Ends a claim by a proof. Checks in the order of their cost; nothing is verified before it is paid for.
    pub(super) fn answer_with_proof(
        &self,
        storage: &mut dyn Storage,
        verifier: &dyn ProofVerifier,
        claim_id: B256,
        salt: B256,
        proof: &[u8],
    ) -> Ruling<()> {
        let claim = self.known(storage, claim_id)?;
        self.check_open(storage, claim_id, &claim)?;
        if claim.tier.read(storage)? == TIER_ZK {
            let (now, deadline) = (clock::now(storage)?, claim.deadline.read(storage)?);
            require(now < deadline, || IErrors::Expired { deadline, now })?;
        }
        require(proof.len() <= MAX_PROOF_BYTES, || IClaims::ProofTooLong {
            length: U256::from(proof.len()),
            limit: U256::from(MAX_PROOF_BYTES),
        })?;
        let model_id = claim.model_id.read(storage)?;
        let key_id = Models::new().usable_key_id(storage, model_id)?;
        let refused = |reason| revert(IClaims::ProofRefused { reason });
        let statement = read_statement(storage, verifier, proof)?.map_err(refused)?;
        if !statement.committed {
            return Err(refused(
                "the proof is for those who have the weights".to_string(),
            ));
        }
        let number = |n: u32| B256::from(U256::from(n));
        let context = keccak256(self.proof_context(storage, claim_id)?);
        for (field, have, want) in [
            ("modelId", statement.model_id, model_id),
            ("keyId", statement.key_id, key_id),
            ("runs", number(statement.runs), number(1)),
            ("context", keccak256(&statement.context), context),
        ] {
            same(field, have, want)?;
        }
        let bytes = Models::new().key_bytes(storage, model_id)?;
        let key = StoredKey {
            key_id,
            bytes: &bytes,
        };
        storage.charge(verifier.gas(key, proof))?;
        let case = AnswerCase {
            key,
            proof,
            size: RunSize {
                n_in: claim.n_in.read(storage)?,
                n_out: claim.n_out.read(storage)?,
            },
            salt,
            input_commit: claim.input_commit.read(storage)?,
            output_commit: claim.output_commit.read(storage)?,
            sampling_hash: claim.sampling_hash.read(storage)?,
        };
        let bits = match verifier.answers(&case) {
            Ok(bits) => bits,
            Err(ProofFault::Mismatch { field, have, want }) => {
                return Err(mismatch(field, have, want));
            }
            Err(ProofFault::Refused(reason)) => return Err(refused(reason)),
        };
        self.proven(storage, claim_id, &claim, key_id, bits)
    }

    /// The answer is right, whoever doubts it: paid at once, and every open dispute is lost by its challenger.
    fn proven(
        &self,
        storage: &mut dyn Storage,
        claim_id: B256,
        claim: &ClaimRecord,
        key_id: B256,
        bits: u32,
    ) -> Ruling<()> {
        claim.proven.write(storage, true)?;
        claim.open_disputes.write(storage, 0)?;
        emit(
            storage,
            &IClaims::Proven {
                claimId: claim_id,
                keyId: key_id,
                bits,
            },
        )?;
        self.settle(storage, claim_id, claim)?;
        Disputes::new().on_ended(storage, claim_id)
    }

    /// Rejects a claim of tier zk whose time is over.
    pub(super) fn expire(&self, storage: &mut dyn Storage, claim_id: B256) -> Ruling<()> {
        let claim = self.known(storage, claim_id)?;
        let tier = claim.tier.read(storage)?;
        require(tier == TIER_ZK, || IClaims::UnsupportedTier { tier })?;
        let have = claim.state.read(storage)?;
        require(have == state::ASSERTED, || IErrors::WrongState {
            have,
            want: state::ASSERTED,
        })?;
        let (now, deadline) = (clock::now(storage)?, claim.deadline.read(storage)?);
        require(now >= deadline, || IClaims::NotFinal { deadline, now })?;
        self.reject(storage, claim_id, None)
    }
}

fn mismatch(field: &str, have: B256, want: B256) -> crate::Fault {
    revert(IClaims::ProofMismatch {
        field: field.to_string(),
        have,
        want,
    })
}

fn same(field: &str, have: B256, want: B256) -> Ruling<()> {
    if have == want {
        Ok(())
    } else {
        Err(mismatch(field, have, want))
    }
}

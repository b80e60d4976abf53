//! Proof keys: who may set one, when proofs under it count, and the check of any proof.
//!
//! A key is a function of the model, but the chain has no weights to compute it from. A false key would let proofs about other
//! weights pass, so a key counts only after a notice in which everyone can make it again, and after bonded operators said
//! that they did. From then on it never changes.

use alloy_primitives::{Address, B256};
use assay_abi::{IModels, MAX_PROOF_BYTES};
use assay_storage::Storage;

use super::parts::check_at_once;
use super::{Models, emit};
use crate::clock;
use crate::error::{Fault, Ruling, require, revert};
use crate::parameters::Parameters;
use crate::staking::Staking;
use crate::verifier::{ProofStatement, ProofVerifier, StoredKey};

/// Gas of reading and hashing a proof's statement, per byte of the proof.
pub const STATEMENT_GAS_PER_BYTE: u64 = 1;

/// Whether and when proofs under a key count.
pub(super) struct Standing {
    key_id: B256,
    missing: u32,
    set_at: u64,
    usable_from: u64,
    attesters: u32,
    needed: u32,
    now: u64,
}

impl Standing {
    fn is_usable(&self) -> bool {
        !self.key_id.is_zero()
            && self.missing == 0
            && self.now >= self.usable_from
            && self.attesters >= self.needed
    }
}

/// Reads a proof's statement, after its length and gas.
pub(crate) fn read_statement(
    storage: &mut dyn Storage,
    verifier: &dyn ProofVerifier,
    proof: &[u8],
) -> Ruling<Result<ProofStatement, String>> {
    storage.charge((proof.len() as u64).saturating_mul(STATEMENT_GAS_PER_BYTE))?;
    Ok(verifier.statement(proof))
}

pub(super) fn too_long(length: usize, limit: usize) -> Fault {
    revert(IModels::ProofKeyTooLong {
        length: alloy_primitives::U256::from(length),
        limit: alloy_primitives::U256::from(limit),
    })
}

impl Models {
    pub(super) fn set_proof_key(
        &self,
        storage: &mut dyn Storage,
        verifier: &dyn ProofVerifier,
        caller: Address,
        model_id: B256,
        key: &[u8],
    ) -> Ruling<B256> {
        self.check_replaceable(storage, model_id, caller)?;
        check_at_once(key)?;
        let key_id = self.check_key(storage, verifier, model_id, key)?;
        self.keep_key(storage, model_id, key_id, key)?;
        self.key_is_set(storage, model_id, key_id)?;
        Ok(key_id)
    }

    /// The caller is the model's maker, and no key is usable yet.
    pub(super) fn check_replaceable(
        &self,
        storage: &mut dyn Storage,
        model_id: B256,
        caller: Address,
    ) -> Ruling<()> {
        self.owned_model(storage, model_id, caller)?;
        let standing = self.standing(storage, model_id)?;
        require(!standing.is_usable(), || IModels::ProofKeyFixed {
            modelId: model_id,
            keyId: standing.key_id,
        })
    }

    /// The key decodes, is canonical, names this model and contains the registered structure. Returns its id.
    pub(super) fn check_key(
        &self,
        storage: &mut dyn Storage,
        verifier: &dyn ProofVerifier,
        model_id: B256,
        key: &[u8],
    ) -> Ruling<B256> {
        let facts = self.facts(storage, model_id)?;
        let structure = self.structure(storage, facts.structure)?;
        storage.charge(verifier.inspect_gas(key.len(), structure.len()))?;
        let refused = |reason| revert(IModels::ProofKeyRefused { reason });
        let info = verifier.inspect_key(key).map_err(refused)?;
        require(info.model_id == model_id, || IModels::ProofKeyModel {
            have: info.model_id,
            want: model_id,
        })?;
        if info.structure != structure {
            return Err(refused(
                "its structure is not the registered one".to_string(),
            ));
        }
        Ok(info.key_id)
    }

    /// All of a key is here and checked: its notice begins.
    pub(super) fn key_is_set(
        &self,
        storage: &mut dyn Storage,
        model_id: B256,
        key_id: B256,
    ) -> Ruling<()> {
        let now = clock::now(storage)?;
        let record = self.proof_keys.at(&model_id);
        record.set_at.write(storage, now)?;
        let usable_from = self.standing(storage, model_id)?.usable_from;
        let event = IModels::ProofKeySet {
            modelId: model_id,
            keyId: key_id,
            usableFrom: usable_from,
        };
        emit(storage, &event)
    }

    pub(super) fn attest_proof_key(
        &self,
        storage: &mut dyn Storage,
        operator: Address,
        model_id: B256,
        key_id: B256,
    ) -> Ruling<()> {
        let have = self.known_key(storage, model_id)?.key_id;
        require(have == key_id, || IModels::WrongProofKey {
            have: key_id,
            want: have,
        })?;
        Staking::new().check_standing(storage, operator)?;
        let said = self.attested.at(&key_id).at(&operator);
        let before = said.read(storage)?;
        require(!before, || IModels::AlreadyAttested {
            keyId: key_id,
            operator,
        })?;
        said.write(storage, true)?;
        let count = self.attesters.at(&key_id);
        let attesters = count.read(storage)?.saturating_add(1);
        count.write(storage, attesters)?;
        let event = IModels::ProofKeyAttested {
            modelId: model_id,
            keyId: key_id,
            operator,
            attesters,
        };
        emit(storage, &event)
    }

    fn standing(&self, storage: &mut dyn Storage, model_id: B256) -> Ruling<Standing> {
        let record = self.proof_keys.at(&model_id);
        let parameters = Parameters::new();
        let key_id = record.key_id.read(storage)?;
        let missing = record.missing.read(storage)?;
        let set_at = record.set_at.read(storage)?;
        let notice = parameters.proof_key_notice_ms.read(storage)?;
        let needed = parameters.proof_key_attesters.read(storage)?;
        Ok(Standing {
            key_id,
            missing,
            set_at,
            usable_from: if missing == 0 {
                set_at.saturating_add(notice)
            } else {
                0
            },
            attesters: self.attesters.at(&key_id).read(storage)?,
            needed: u32::try_from(needed).unwrap_or(u32::MAX),
            now: clock::now(storage)?,
        })
    }

    /// The model's key, all of which is here.
    pub(super) fn known_key(&self, storage: &mut dyn Storage, model_id: B256) -> Ruling<Standing> {
        self.facts(storage, model_id)?;
        let standing = self.standing(storage, model_id)?;
        require(!standing.key_id.is_zero(), || IModels::NoProofKey {
            modelId: model_id,
        })?;
        require(standing.missing == 0, || IModels::ProofKeyIncomplete {
            modelId: model_id,
            keyId: standing.key_id,
            missing: standing.missing,
        })?;
        Ok(standing)
    }

    /// Id of the model's key, if proofs under it are accepted.
    pub(crate) fn usable_key_id(&self, storage: &mut dyn Storage, model_id: B256) -> Ruling<B256> {
        let standing = self.known_key(storage, model_id)?;
        require(standing.is_usable(), || IModels::ProofKeyNotUsable {
            modelId: model_id,
            usableFrom: standing.usable_from,
            now: standing.now,
            attesters: standing.attesters,
            needed: standing.needed,
        })?;
        Ok(standing.key_id)
    }

    pub(super) fn view_proof_key(
        &self,
        storage: &mut dyn Storage,
        model_id: B256,
    ) -> Ruling<IModels::ProofKey> {
        self.facts(storage, model_id)?;
        let standing = self.standing(storage, model_id)?;
        let known = !standing.key_id.is_zero();
        Ok(IModels::ProofKey {
            keyId: standing.key_id,
            length: self.proof_keys.at(&model_id).length.read(storage)?,
            missing: standing.missing,
            setAt: standing.set_at,
            usableFrom: if known { standing.usable_from } else { 0 },
            attesters: if known { standing.attesters } else { 0 },
            needed: standing.needed,
            usable: standing.is_usable(),
        })
    }

    /// The check that contracts may ask for.
    pub(super) fn verify_proof(
        &self,
        storage: &mut dyn Storage,
        verifier: &dyn ProofVerifier,
        proof: &[u8],
    ) -> Ruling<IModels::ProofCheck> {
        require(proof.len() <= MAX_PROOF_BYTES, || IModels::ProofTooLong {
            length: alloy_primitives::U256::from(proof.len()),
            limit: alloy_primitives::U256::from(MAX_PROOF_BYTES),
        })?;
        let mut check = IModels::ProofCheck {
            ok: false,
            modelId: B256::ZERO,
            keyId: B256::ZERO,
            runs: 0,
            inputHash: B256::ZERO,
            outputHash: B256::ZERO,
            samplingHash: B256::ZERO,
            context: Default::default(),
            bits: 0,
            reason: String::new(),
        };
        let statement = match read_statement(storage, verifier, proof)? {
            Ok(statement) => statement,
            Err(reason) => return Ok(IModels::ProofCheck { reason, ..check }),
        };
        check.modelId = statement.model_id;
        check.keyId = statement.key_id;
        check.runs = statement.runs;
        check.inputHash = statement.input_hash;
        check.outputHash = statement.output_hash;
        check.samplingHash = statement.sampling_hash;
        check.context = statement.context.into();
        let known = !self
            .models
            .at(&statement.model_id)
            .lineage
            .read(storage)?
            .is_zero();
        let usable = known && self.standing(storage, statement.model_id)?.is_usable();
        if !usable {
            check.reason = "the model has no usable proof key".to_string();
            return Ok(check);
        }
        let key_id = self.usable_key_id(storage, statement.model_id)?;
        if !statement.committed || statement.key_id != key_id {
            check.reason = "the proof is not for the model's key".to_string();
            return Ok(check);
        }
        let bytes = self.key_bytes(storage, statement.model_id)?;
        let key = StoredKey {
            key_id,
            bytes: &bytes,
        };
        storage.charge(verifier.gas(key, proof))?;
        match verifier.verify(key, proof) {
            Ok(bits) => {
                check.ok = true;
                check.bits = bits;
            }
            Err(reason) => check.reason = reason,
        }
        Ok(check)
    }
}

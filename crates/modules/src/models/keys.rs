//! Proof keys: who may set one, when proofs under it count, and the check of any proof.
//!
//! A key is a function of the model, but the chain has no weights to compute it from. A false key would let proofs about other
//! weights pass, so a key counts only after a notice in which everyone can make it again, and after bonded operators said
//! that they did. From then on it never changes.

use alloy_primitives::{Address, B256};
use assay_abi::{IModels, MAX_PROOF_BYTES};
use assay_storage::Storage;

use super::{INSPECT_GAS_PER_BYTE, Models, emit};
use crate::clock;
use crate::error::{Ruling, require, revert};
use crate::parameters::Parameters;
use crate::staking::Staking;
use crate::verifier::{ProofStatement, ProofVerifier};

/// Longest key without its structure, bytes.
pub const MAX_KEY: usize = 65_536;
/// Gas of reading and hashing a proof's statement, per byte of the proof.
pub const STATEMENT_GAS_PER_BYTE: u64 = 1;

/// A key under which proofs are accepted.
pub(crate) struct UsableKey {
    pub(crate) key_id: B256,
    pub(crate) key: Vec<u8>,
}

/// Whether and when proofs under a key count.
struct Standing {
    key_id: B256,
    set_at: u64,
    usable_from: u64,
    attesters: u32,
    needed: u32,
    now: u64,
}

impl Standing {
    fn is_usable(&self) -> bool {
        !self.key_id.is_zero() && self.now >= self.usable_from && self.attesters >= self.needed
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

impl Models {
    pub(super) fn set_proof_key(
        &self,
        storage: &mut dyn Storage,
        verifier: &dyn ProofVerifier,
        caller: Address,
        model_id: B256,
        key: &[u8],
    ) -> Ruling<B256> {
        self.owned_model(storage, model_id, caller)?;
        let standing = self.standing(storage, model_id)?;
        require(!standing.is_usable(), || IModels::ProofKeyFixed {
            modelId: model_id,
            keyId: standing.key_id,
        })?;
        let limit = Parameters::new().max_structure_bytes.read(storage)?;
        let limit = usize::try_from(limit)
            .unwrap_or(MAX_KEY)
            .saturating_add(MAX_KEY);
        let too_long = |length: usize, limit: usize| {
            revert(IModels::ProofKeyTooLong {
                length: alloy_primitives::U256::from(length),
                limit: alloy_primitives::U256::from(limit),
            })
        };
        if key.len() > limit {
            return Err(too_long(key.len(), limit));
        }
        storage.charge((key.len() as u64).saturating_mul(INSPECT_GAS_PER_BYTE))?;
        let refused = |reason| revert(IModels::ProofKeyRefused { reason });
        let info = verifier.inspect_key(key).map_err(refused)?;
        require(info.model_id == model_id, || IModels::ProofKeyModel {
            have: info.model_id,
            want: model_id,
        })?;
        let facts = self.facts(storage, model_id)?;
        let structure = self.structure(storage, facts.structure)?;
        let (start, end) = (info.structure.start, info.structure.end);
        let parts = (key.get(..start), key.get(start..end), key.get(end..));
        let (Some(head), Some(own), Some(tail)) = parts else {
            return Err(refused("it has no structure".to_string()));
        };
        if own != structure {
            return Err(refused(
                "its structure is not the registered one".to_string(),
            ));
        }
        let rest = head.len().saturating_add(tail.len());
        if rest > MAX_KEY {
            return Err(too_long(rest, MAX_KEY));
        }
        let record = self.proof_keys.at(&model_id);
        let now = clock::now(storage)?;
        record.key_id.write(storage, info.key_id)?;
        record.set_at.write(storage, now)?;
        record.head.write(storage, head)?;
        record.tail.write(storage, tail)?;
        let usable_from = self.standing(storage, model_id)?.usable_from;
        let event = IModels::ProofKeySet {
            modelId: model_id,
            keyId: info.key_id,
            usableFrom: usable_from,
        };
        emit(storage, &event)?;
        Ok(info.key_id)
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
        let set_at = record.set_at.read(storage)?;
        let notice = parameters.proof_key_notice_ms.read(storage)?;
        let needed = parameters.proof_key_attesters.read(storage)?;
        Ok(Standing {
            key_id,
            set_at,
            usable_from: set_at.saturating_add(notice),
            attesters: self.attesters.at(&key_id).read(storage)?,
            needed: u32::try_from(needed).unwrap_or(u32::MAX),
            now: clock::now(storage)?,
        })
    }

    fn known_key(&self, storage: &mut dyn Storage, model_id: B256) -> Ruling<Standing> {
        self.facts(storage, model_id)?;
        let standing = self.standing(storage, model_id)?;
        require(!standing.key_id.is_zero(), || IModels::NoProofKey {
            modelId: model_id,
        })?;
        Ok(standing)
    }

    fn key_bytes(&self, storage: &mut dyn Storage, model_id: B256) -> Ruling<Vec<u8>> {
        let facts = self.facts(storage, model_id)?;
        let record = self.proof_keys.at(&model_id);
        let mut key = record.head.read(storage)?;
        key.extend(self.structure(storage, facts.structure)?);
        key.extend(record.tail.read(storage)?);
        Ok(key)
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

    /// The model's key, if proofs under it are accepted.
    pub(crate) fn usable_key(
        &self,
        storage: &mut dyn Storage,
        model_id: B256,
    ) -> Ruling<UsableKey> {
        let key_id = self.usable_key_id(storage, model_id)?;
        let key = self.key_bytes(storage, model_id)?;
        Ok(UsableKey { key_id, key })
    }

    pub(super) fn view_proof_key(
        &self,
        storage: &mut dyn Storage,
        model_id: B256,
    ) -> Ruling<IModels::ProofKey> {
        self.facts(storage, model_id)?;
        let standing = self.standing(storage, model_id)?;
        if standing.key_id.is_zero() {
            return Ok(IModels::ProofKey {
                keyId: B256::ZERO,
                key: Default::default(),
                setAt: 0,
                usableFrom: 0,
                attesters: 0,
                needed: standing.needed,
                usable: false,
            });
        }
        Ok(IModels::ProofKey {
            keyId: standing.key_id,
            key: self.key_bytes(storage, model_id)?.into(),
            setAt: standing.set_at,
            usableFrom: standing.usable_from,
            attesters: standing.attesters,
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
        let UsableKey { key_id, key } = self.usable_key(storage, statement.model_id)?;
        if !statement.committed || statement.key_id != key_id {
            check.reason = "the proof is not for the model's key".to_string();
            return Ok(check);
        }
        storage.charge(verifier.gas(&key, proof))?;
        match verifier.verify(&key, proof) {
            Ok(bits) => {
                check.ok = true;
                check.bits = bits;
            }
            Err(reason) => check.reason = reason,
        }
        Ok(check)
    }
}

//! Bytes of proof keys: announced by hashes of their parts, uploaded part by part, kept outside of slots.

use alloy_primitives::{Address, B256, Bytes, U256, keccak256};
use assay_abi::{
    IErrors, IModels, MAX_PROOF_KEY, MAX_PROOF_KEY_AT_ONCE, PROOF_KEY_PART, proof_key_parts,
};
use assay_storage::Storage;

use super::keys::too_long;
use super::{Models, ProofKeyRecord, emit};
use crate::error::{Ruling, require, revert};
use crate::verifier::ProofVerifier;

/// Gas of hashing a word of a part, as `KECCAK256`.
const HASH_GAS_PER_WORD: u64 = 6;
/// [`PROOF_KEY_PART`] as module arithmetic takes it.
const PART: u64 = PROOF_KEY_PART as u64;
/// First bytes of what addresses of parts are hashed from.
const ADDRESS_TAG: &[u8] = b"assay proof key part v1";

/// Where a part is kept.
fn place(model_id: B256, key_id: B256, index: u64) -> Address {
    let index = index.to_be_bytes();
    let all = [ADDRESS_TAG, &model_id.0, &key_id.0, &index].concat();
    Address::from_word(keccak256(all))
}

/// Number of parts of a key of so many bytes.
fn count(length: u32) -> u64 {
    u64::from(length).div_ceil(PART)
}

/// Bytes of a part of a key.
fn length_of(index: u64, length: u32) -> u64 {
    let start = index.saturating_mul(PART);
    let rest = u64::from(length).saturating_sub(start);
    rest.min(PART)
}

fn bit(index: u64) -> U256 {
    U256::ONE.wrapping_shl(usize::try_from(index).unwrap_or(usize::MAX))
}

impl Models {
    /// Takes away a key that is not usable, with its parts.
    pub(super) fn drop_key(&self, storage: &mut dyn Storage, model_id: B256) -> Ruling<()> {
        let record = self.proof_keys.at(&model_id);
        let key_id = record.key_id.read(storage)?;
        let here = record.here.read(storage)?;
        for index in 0..count(record.length.read(storage)?) {
            if !(here & bit(index)).is_zero() {
                storage.put_blob(place(model_id, key_id, index), &[])?;
            }
            record.hashes.at(&index).write(storage, B256::ZERO)?;
        }
        record.here.write(storage, U256::ZERO)?;
        record.length.write(storage, 0)?;
        record.missing.write(storage, 0)?;
        record.set_at.write(storage, 0)?;
        Ok(record.key_id.write(storage, B256::ZERO)?)
    }

    /// Writes a whole key in the place of the former one.
    pub(super) fn keep_key(
        &self,
        storage: &mut dyn Storage,
        model_id: B256,
        key_id: B256,
        key: &[u8],
    ) -> Ruling<()> {
        self.drop_key(storage, model_id)?;
        let record = self.proof_keys.at(&model_id);
        let mut here = U256::ZERO;
        for (index, part) in (0u64..).zip(proof_key_parts(key)) {
            let hash = hash_part(storage, part)?;
            record.hashes.at(&index).write(storage, hash)?;
            storage.put_blob(place(model_id, key_id, index), part)?;
            here |= bit(index);
        }
        record.here.write(storage, here)?;
        let length = u32::try_from(key.len()).unwrap_or(u32::MAX);
        record.length.write(storage, length)?;
        Ok(record.key_id.write(storage, key_id)?)
    }

    pub(super) fn announce_proof_key(
        &self,
        storage: &mut dyn Storage,
        caller: Address,
        call: &IModels::announceProofKeyCall,
    ) -> Ruling<()> {
        let IModels::announceProofKeyCall {
            modelId: model_id,
            keyId: key_id,
            length,
            ref hashes,
        } = *call;
        self.check_replaceable(storage, model_id, caller)?;
        let bytes = usize::try_from(length).unwrap_or(usize::MAX);
        if bytes > MAX_PROOF_KEY {
            return Err(too_long(bytes, MAX_PROOF_KEY));
        }
        require(!key_id.is_zero() && length > 0, || {
            IModels::ProofKeyRefused {
                reason: "its id and its length must not be zero".to_string(),
            }
        })?;
        let want = count(length);
        require(hashes.len() as u64 == want, || IModels::ProofKeyParts {
            length,
            have: U256::from(hashes.len()),
            want: U256::from(want),
        })?;
        self.drop_key(storage, model_id)?;
        let parts = u32::try_from(want).unwrap_or(u32::MAX);
        let record = self.proof_keys.at(&model_id);
        record.key_id.write(storage, key_id)?;
        record.length.write(storage, length)?;
        record.missing.write(storage, parts)?;
        for (index, hash) in (0u64..).zip(hashes) {
            record.hashes.at(&index).write(storage, *hash)?;
        }
        let event = IModels::ProofKeyAnnounced {
            modelId: model_id,
            keyId: key_id,
            length,
            parts,
        };
        emit(storage, &event)
    }

    pub(super) fn add_proof_key_part(
        &self,
        storage: &mut dyn Storage,
        verifier: &dyn ProofVerifier,
        call: &IModels::addProofKeyPartCall,
    ) -> Ruling<u32> {
        let (model_id, key_id) = (call.modelId, call.keyId);
        self.facts(storage, model_id)?;
        let record = self.proof_keys.at(&model_id);
        let want = record.key_id.read(storage)?;
        require(!want.is_zero(), || IModels::NoProofKey {
            modelId: model_id,
        })?;
        require(want == key_id, || IModels::WrongProofKey {
            have: key_id,
            want,
        })?;
        let (index, length) = (u64::from(call.index), record.length.read(storage)?);
        let high = count(length).saturating_sub(1);
        require(index <= high, || IErrors::OutOfBounds {
            what: "index".to_string(),
            value: U256::from(index),
            low: U256::ZERO,
            high: U256::from(high),
        })?;
        let here = record.here.read(storage)?;
        require((here & bit(index)).is_zero(), || {
            IModels::ProofKeyPartKnown {
                keyId: key_id,
                index: call.index,
            }
        })?;
        let (have, want) = (call.part.len() as u64, length_of(index, length));
        require(have == want, || IModels::ProofKeyPartLength {
            index: call.index,
            have: U256::from(have),
            want: U256::from(want),
        })?;
        let have = hash_part(storage, &call.part)?;
        let want = record.hashes.at(&index).read(storage)?;
        require(have == want, || IModels::ProofKeyPartHash {
            index: call.index,
            have,
            want,
        })?;
        storage.put_blob(place(model_id, key_id, index), &call.part)?;
        record.here.write(storage, here | bit(index))?;
        let missing = record.missing.read(storage)?.saturating_sub(1);
        record.missing.write(storage, missing)?;
        let event = IModels::ProofKeyPartAdded {
            modelId: model_id,
            keyId: key_id,
            index: call.index,
            missing,
        };
        emit(storage, &event)?;
        if missing == 0 {
            let key = self.key_bytes(storage, model_id)?;
            let found = self.check_key(storage, verifier, model_id, &key)?;
            require(found == key_id, || IModels::WrongProofKey {
                have: found,
                want: key_id,
            })?;
            self.key_is_set(storage, model_id, key_id)?;
        }
        Ok(missing)
    }

    /// The bytes of the model's key.
    pub(crate) fn key_bytes(&self, storage: &mut dyn Storage, model_id: B256) -> Ruling<Vec<u8>> {
        let record = self.proof_keys.at(&model_id);
        let length = record.length.read(storage)?;
        self.key_range(storage, model_id, &record, 0, u64::from(length))
    }

    fn key_range(
        &self,
        storage: &mut dyn Storage,
        model_id: B256,
        record: &ProofKeyRecord,
        start: u64,
        end: u64,
    ) -> Ruling<Vec<u8>> {
        let key_id = record.key_id.read(storage)?;
        let mut out = Vec::new();
        for index in start.wrapping_div(PART)..end.div_ceil(PART) {
            let bytes = storage.blob(place(model_id, key_id, index))?;
            let begin = index.saturating_mul(PART);
            let within = |at: u64| {
                let at = at.saturating_sub(begin).min(bytes.len() as u64);
                usize::try_from(at).unwrap_or(usize::MAX)
            };
            out.extend_from_slice(bytes.get(within(start)..within(end)).unwrap_or_default());
        }
        Ok(out)
    }

    pub(super) fn view_key_bytes(
        &self,
        storage: &mut dyn Storage,
        call: &IModels::proofKeyBytesCall,
    ) -> Ruling<Bytes> {
        let model_id = call.modelId;
        self.known_key(storage, model_id)?;
        let record = self.proof_keys.at(&model_id);
        let length = u64::from(record.length.read(storage)?);
        let limit = MAX_PROOF_KEY_AT_ONCE as u64;
        let start = call.offset.saturating_to::<u64>().min(length);
        let end = start
            .saturating_add(call.count.saturating_to::<u64>().min(limit))
            .min(length);
        self.key_range(storage, model_id, &record, start, end)
            .map(Bytes::from)
    }

    pub(super) fn view_key_parts(
        &self,
        storage: &mut dyn Storage,
        model_id: B256,
    ) -> Ruling<IModels::proofKeyPartsReturn> {
        self.facts(storage, model_id)?;
        let record = self.proof_keys.at(&model_id);
        let bits = record.here.read(storage)?;
        let (mut hashes, mut here) = (Vec::new(), Vec::new());
        for index in 0..count(record.length.read(storage)?) {
            hashes.push(record.hashes.at(&index).read(storage)?);
            here.push(!(bits & bit(index)).is_zero());
        }
        Ok(IModels::proofKeyPartsReturn { hashes, here })
    }
}

fn hash_part(storage: &mut dyn Storage, part: &[u8]) -> Ruling<B256> {
    let words = (part.len() as u64).div_ceil(32);
    storage.charge(words.saturating_mul(HASH_GAS_PER_WORD))?;
    Ok(keccak256(part))
}

/// A key of one call has at most so many bytes.
pub(super) fn check_at_once(key: &[u8]) -> Ruling<()> {
    if key.len() > MAX_PROOF_KEY_AT_ONCE {
        return Err(too_long(key.len(), MAX_PROOF_KEY_AT_ONCE));
    }
    if key.is_empty() {
        return Err(revert(IModels::ProofKeyRefused {
            reason: "it is empty".to_string(),
        }));
    }
    Ok(())
}

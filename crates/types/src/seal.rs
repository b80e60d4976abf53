//! Solo sequencing: one key signs each header, and its deterministic signature is the randomness reveal.

use alloy_primitives::{Address, B256, Bytes, Signature, U256, keccak256};
use secp256k1::{Message, PublicKey, SECP256K1, SecretKey};
use thiserror::Error;

use crate::recover_address;

/// Domain of the signature over a header hash.
const SEAL_NAMESPACE: &[u8] = b"_ASSAY_CHAIN_SEAL";
/// Domain of the randomness reveal (specification chain.md section 9.6).
const RANDAO_NAMESPACE: &[u8] = b"_ASSAY_CHAIN_RANDAO";
/// First byte of an encoded certificate.
const CERTIFICATE_VERSION: u8 = 1;
/// Second byte of an encoded certificate: one signature of one sequencer.
const CERTIFICATE_SOLO: u8 = 0;

/// Why a certificate, reveal or key was refused.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum SealError {
    /// Not 67 bytes.
    #[error("certificate has {0} bytes, want 67")]
    Length(usize),
    /// Unknown version or type.
    #[error("certificate version {version} type {kind} is unknown")]
    Unknown {
        /// First byte.
        version: u8,
        /// Second byte.
        kind: u8,
    },
    /// The signature is not the sequencer's.
    #[error("signature by {found:?}, want sequencer {want}")]
    WrongSigner {
        /// Recovered address, if any.
        found: Option<Address>,
        /// The chain's sequencer.
        want: Address,
    },
    /// The 32 bytes are not a secp256k1 secret key.
    #[error("not a secp256k1 secret key")]
    Key,
}

/// Finality evidence of a block, stored next to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Certificate {
    /// One signature (r, s, parity) of the sequencer over the header hash.
    Solo([u8; 65]),
}

impl Certificate {
    /// Version byte, type byte, 65 bytes of signature.
    pub fn encode(&self) -> Vec<u8> {
        let Self::Solo(signature) = self;
        let mut out = vec![CERTIFICATE_VERSION, CERTIFICATE_SOLO];
        out.extend_from_slice(signature);
        out
    }

    /// Reads the canonical form.
    ///
    /// # Errors
    /// [`SealError::Length`], [`SealError::Unknown`].
    pub fn decode(bytes: &[u8]) -> Result<Self, SealError> {
        let [version, kind, signature @ ..] = bytes else {
            return Err(SealError::Length(bytes.len()));
        };
        if (*version, *kind) != (CERTIFICATE_VERSION, CERTIFICATE_SOLO) {
            return Err(SealError::Unknown {
                version: *version,
                kind: *kind,
            });
        }
        let signature = signature
            .try_into()
            .map_err(|_| SealError::Length(bytes.len()))?;
        Ok(Self::Solo(signature))
    }

    /// Checks that `sequencer` finalised the block with this hash on chain `chain_id`.
    ///
    /// # Errors
    /// [`SealError::WrongSigner`].
    pub fn verify(
        &self,
        chain_id: u64,
        block_hash: B256,
        sequencer: Address,
    ) -> Result<(), SealError> {
        let Self::Solo(signature) = self;
        verify(seal_digest(chain_id, block_hash), signature, sequencer)
    }
}

/// The sequencer's signing key. Debug output shows the address only.
#[derive(Clone)]
pub struct SealingKey {
    secret: SecretKey,
    address: Address,
}

impl std::fmt::Debug for SealingKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SealingKey")
            .field("address", &self.address)
            .finish_non_exhaustive()
    }
}

impl SealingKey {
    /// Takes 32 secret bytes.
    ///
    /// # Errors
    /// [`SealError::Key`] for zero or a number above the group order.
    pub fn from_bytes(bytes: [u8; 32]) -> Result<Self, SealError> {
        let secret = SecretKey::from_byte_array(bytes).map_err(|_| SealError::Key)?;
        let point = PublicKey::from_secret_key(SECP256K1, &secret).serialize_uncompressed();
        let address = Address::from_word(keccak256(&point[1..]));
        Ok(Self { secret, address })
    }

    /// Address of the key.
    pub const fn address(&self) -> Address {
        self.address
    }

    /// Signs a header hash.
    pub fn seal(&self, chain_id: u64, block_hash: B256) -> Certificate {
        Certificate::Solo(self.sign(seal_digest(chain_id, block_hash)))
    }

    /// Randomness reveal for a block: the RFC 6979 signature over (namespace, chain id, epoch, number).
    ///
    /// In solo mode the sequencer knows all of its future reveals, so consumers must mix in randomness of their own.
    pub fn reveal(&self, chain_id: u64, epoch: u64, number: u64) -> Bytes {
        Bytes::copy_from_slice(&self.sign(reveal_digest(chain_id, epoch, number)))
    }

    /// Checks a reveal against the sequencer's address.
    ///
    /// # Errors
    /// [`SealError::Length`], [`SealError::WrongSigner`].
    pub fn verify_reveal(
        sequencer: Address,
        chain_id: u64,
        epoch: u64,
        number: u64,
        reveal: &[u8],
    ) -> Result<(), SealError> {
        let signature: [u8; 65] = reveal
            .try_into()
            .map_err(|_| SealError::Length(reveal.len()))?;
        verify(
            reveal_digest(chain_id, epoch, number),
            &signature,
            sequencer,
        )
    }

    fn sign(&self, digest: B256) -> [u8; 65] {
        let signature =
            SECP256K1.sign_ecdsa_recoverable(Message::from_digest(digest.0), &self.secret);
        let (parity, compact) = signature.serialize_compact();
        let mut out = [0u8; 65];
        out[..64].copy_from_slice(&compact);
        out[64] = u8::from(i32::from(parity) & 1 == 1);
        out
    }
}

/// `mixHash` of a block: keccak256(parent mix, keccak256(reveal)).
pub fn randao_mix(parent_mix: B256, reveal: &[u8]) -> B256 {
    let mut bytes = [0u8; 64];
    bytes[..32].copy_from_slice(parent_mix.as_slice());
    bytes[32..].copy_from_slice(keccak256(reveal).as_slice());
    keccak256(bytes)
}

fn verify(digest: B256, signature: &[u8; 65], want: Address) -> Result<(), SealError> {
    let r = U256::from_be_slice(&signature[..32]);
    let s = U256::from_be_slice(&signature[32..64]);
    let found = match signature[64] {
        parity @ 0..=1 => recover_address(digest, &Signature::new(r, s, parity == 1)),
        _ => None,
    };
    if found == Some(want) {
        Ok(())
    } else {
        Err(SealError::WrongSigner { found, want })
    }
}

fn seal_digest(chain_id: u64, block_hash: B256) -> B256 {
    let mut bytes = Vec::with_capacity(64);
    bytes.extend_from_slice(SEAL_NAMESPACE);
    bytes.extend_from_slice(&chain_id.to_be_bytes());
    bytes.extend_from_slice(block_hash.as_slice());
    keccak256(bytes)
}

fn reveal_digest(chain_id: u64, epoch: u64, number: u64) -> B256 {
    let mut bytes = Vec::with_capacity(64);
    bytes.extend_from_slice(RANDAO_NAMESPACE);
    bytes.extend_from_slice(&chain_id.to_be_bytes());
    bytes.extend_from_slice(&epoch.to_be_bytes());
    bytes.extend_from_slice(&number.to_be_bytes());
    keccak256(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn certificate_of_any_mutated_byte_is_refused() {
        let key = SealingKey::from_bytes([7; 32]).expect("7 repeated is below the group order");
        let hash = keccak256(b"header");
        let bytes = key.seal(1, hash).encode();
        assert!(
            Certificate::decode(&bytes)
                .and_then(|it| it.verify(1, hash, key.address()))
                .is_ok()
        );
        for at in 0..bytes.len() {
            let mut changed = bytes.clone();
            changed[at] ^= 1;
            assert!(
                Certificate::decode(&changed)
                    .and_then(|it| it.verify(1, hash, key.address()))
                    .is_err(),
                "byte {at}"
            );
        }
        assert!(
            Certificate::decode(&bytes)
                .and_then(|it| it.verify(2, hash, key.address()))
                .is_err()
        );
    }

    #[test]
    fn reveal_is_deterministic_and_bound_to_its_block() {
        let key = SealingKey::from_bytes([9; 32]).expect("9 repeated is below the group order");
        let reveal = key.reveal(1, 0, 5);
        assert_eq!(reveal, key.reveal(1, 0, 5));
        assert!(SealingKey::verify_reveal(key.address(), 1, 0, 5, &reveal).is_ok());
        assert!(SealingKey::verify_reveal(key.address(), 1, 0, 6, &reveal).is_err());
        assert_ne!(randao_mix(B256::ZERO, &reveal), B256::ZERO);
    }
}

//! secp256k1 signatures over EIP-712 digests: 65 bytes r, s, v; low s only; v is 27 or 28.

use alloy_primitives::{Address, B256, keccak256};
use secp256k1::ecdsa::{RecoverableSignature, RecoveryId};
use secp256k1::{Message, PublicKey, SECP256K1, SecretKey};
use serde::{Deserialize, Serialize};

use crate::json::fixed_hex;
use crate::{Domain, Receipt, ReceiptError, Request};

/// Half of the curve order, big endian: a larger `s` is refused (EIP-2).
const HALF_ORDER: [u8; 32] = [
    0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
    0x5d, 0x57, 0x6e, 0x73, 0x57, 0xa4, 0x50, 0x1d, 0xdf, 0xe9, 0x2f, 0x46, 0x68, 0x1b, 0x20, 0xa0,
];

/// 65 bytes: r, s, v.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ReceiptSignature(#[serde(with = "fixed_hex")] pub [u8; 65]);

impl TryFrom<&[u8]> for ReceiptSignature {
    type Error = ReceiptError;

    fn try_from(bytes: &[u8]) -> Result<Self, ReceiptError> {
        bytes
            .try_into()
            .map(Self)
            .map_err(|_| ReceiptError::Length {
                what: "signature",
                want: 65,
                have: bytes.len(),
            })
    }
}

fn address_of(key: &PublicKey) -> Address {
    let bytes = key.serialize_uncompressed();
    // The first byte is the form (0x04); the point follows.
    let (_, point) = bytes.split_at(1);
    Address::from_word(keccak256(point))
}

/// Address whose key made `signature` over `digest`.
///
/// # Errors
/// [`ReceiptError::RecoveryByte`], [`ReceiptError::HighS`], [`ReceiptError::Unrecoverable`].
pub fn recover(digest: B256, signature: &ReceiptSignature) -> Result<Address, ReceiptError> {
    let [compact @ .., v] = &signature.0;
    let parity = match v {
        27 => RecoveryId::Zero,
        28 => RecoveryId::One,
        other => return Err(ReceiptError::RecoveryByte(*other)),
    };
    let (_, s) = compact.split_at(32);
    if s > HALF_ORDER.as_slice() {
        return Err(ReceiptError::HighS);
    }
    let recoverable = RecoverableSignature::from_compact(compact, parity)
        .map_err(|_| ReceiptError::Unrecoverable)?;
    let key = SECP256K1
        .recover_ecdsa(Message::from_digest(digest.0), &recoverable)
        .map_err(|_| ReceiptError::Unrecoverable)?;
    Ok(address_of(&key))
}

/// A key that signs receipts and requests. Never printed; overwritten when dropped.
pub struct ReceiptKey(SecretKey);

impl ReceiptKey {
    /// From 32 secret bytes.
    ///
    /// # Errors
    /// [`ReceiptError::SecretKey`].
    pub fn from_bytes(bytes: [u8; 32]) -> Result<Self, ReceiptError> {
        SecretKey::from_byte_array(bytes)
            .map(Self)
            .map_err(|_| ReceiptError::SecretKey)
    }

    /// Address of the public key.
    pub fn address(&self) -> Address {
        address_of(&PublicKey::from_secret_key(SECP256K1, &self.0))
    }

    /// Signs a digest (RFC 6979, hence one signature per key and digest).
    pub fn sign(&self, digest: B256) -> ReceiptSignature {
        let signature = SECP256K1.sign_ecdsa_recoverable(Message::from_digest(digest.0), &self.0);
        let (parity, compact) = signature.serialize_compact();
        let mut bytes = [0u8; 65];
        let (head, tail) = bytes.split_at_mut(64);
        head.copy_from_slice(&compact);
        // libsecp256k1 returns low s; parity 2 and 3 need r above the order, which nobody can find.
        tail.copy_from_slice(&[if parity == RecoveryId::One { 28 } else { 27 }]);
        ReceiptSignature(bytes)
    }
}

impl Drop for ReceiptKey {
    fn drop(&mut self) {
        self.0.non_secure_erase();
    }
}

impl std::fmt::Debug for ReceiptKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("ReceiptKey").field(&self.address()).finish()
    }
}

impl Receipt {
    /// The digest that the operator's receipt key signs.
    pub fn digest(&self, domain: &Domain) -> B256 {
        domain.digest(self.claim_id())
    }

    /// Signs with `key`.
    pub fn sign(&self, domain: &Domain, key: &ReceiptKey) -> ReceiptSignature {
        key.sign(self.digest(domain))
    }

    /// Checks that `signer` made `signature`.
    ///
    /// # Errors
    /// [`ReceiptError::WrongSigner`] or any error of [`recover`].
    pub fn verify(
        &self,
        domain: &Domain,
        signature: &ReceiptSignature,
        signer: Address,
    ) -> Result<(), ReceiptError> {
        check_signer(recover(self.digest(domain), signature)?, signer)
    }
}

impl Request {
    /// The digest that the requester's key signs.
    pub fn digest(&self, domain: &Domain) -> B256 {
        domain.digest(self.struct_hash())
    }

    /// Signs with `key`.
    pub fn sign(&self, domain: &Domain, key: &ReceiptKey) -> ReceiptSignature {
        key.sign(self.digest(domain))
    }

    /// Address that signed this request.
    ///
    /// # Errors
    /// Any error of [`recover`].
    pub fn signer(
        &self,
        domain: &Domain,
        signature: &ReceiptSignature,
    ) -> Result<Address, ReceiptError> {
        recover(self.digest(domain), signature)
    }
}

fn check_signer(have: Address, want: Address) -> Result<(), ReceiptError> {
    if have == want {
        return Ok(());
    }
    Err(ReceiptError::WrongSigner { have, want })
}

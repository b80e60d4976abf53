//! secp256k1 signatures over EIP-712 digests. One form is accepted: r, s, v of 65 bytes, s in the lower half, v 27 or 28.

use alloy_primitives::{Address, B256, keccak256};
use assay_abi::IErrors;
use assay_storage::Storage;
use secp256k1::ecdsa::{RecoverableSignature, RecoveryId};
use secp256k1::{Message, SECP256K1};

use crate::error::{Ruling, revert};

/// Gas of one recovery: that of the `ecrecover` precompile.
pub const RECOVER_GAS: u64 = 3_000;

/// Half of the curve order, big endian: a larger `s` is refused (EIP-2), never normalised.
const HALF_ORDER: [u8; 32] = [
    0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
    0x5d, 0x57, 0x6e, 0x73, 0x57, 0xa4, 0x50, 0x1d, 0xdf, 0xe9, 0x2f, 0x46, 0x68, 0x1b, 0x20, 0xa0,
];

/// Why a signature names nobody.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SignatureError {
    /// Not 65 bytes.
    #[error("signature has {0} bytes instead of 65")]
    Length(usize),
    /// `v` is neither 27 nor 28.
    #[error("recovery byte is {0} instead of 27 or 28")]
    RecoveryByte(u8),
    /// `s` is in the upper half.
    #[error("s is in the upper half of the order")]
    HighS,
    /// No public key fits.
    #[error("no public key fits the signature")]
    Unrecoverable,
}

/// Address whose key signed `digest`.
///
/// # Errors
/// Each form but the one accepted, see [`SignatureError`].
pub fn recover(digest: B256, signature: &[u8]) -> Result<Address, SignatureError> {
    let Ok(fixed) = <&[u8; 65]>::try_from(signature) else {
        return Err(SignatureError::Length(signature.len()));
    };
    let [compact @ .., v] = fixed;
    let parity = match v {
        27 => RecoveryId::Zero,
        28 => RecoveryId::One,
        other => return Err(SignatureError::RecoveryByte(*other)),
    };
    let (_, s) = compact.split_at(32);
    if s > HALF_ORDER.as_slice() {
        return Err(SignatureError::HighS);
    }
    let recoverable = RecoverableSignature::from_compact(compact, parity)
        .map_err(|_| SignatureError::Unrecoverable)?;
    let key = SECP256K1
        .recover_ecdsa(Message::from_digest(digest.0), &recoverable)
        .map_err(|_| SignatureError::Unrecoverable)?;
    let bytes = key.serialize_uncompressed();
    // The first byte is the form (0x04); the point follows.
    let (_, point) = bytes.split_at(1);
    Ok(Address::from_word(keccak256(point)))
}

/// [`recover`], charged, with the ABI's error.
pub(crate) fn signer(storage: &mut dyn Storage, digest: B256, signature: &[u8]) -> Ruling<Address> {
    storage.charge(RECOVER_GAS)?;
    recover(digest, signature).map_err(|error| {
        revert(IErrors::BadSignature {
            reason: error.to_string(),
        })
    })
}

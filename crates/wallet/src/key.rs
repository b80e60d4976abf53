//! A signing key: receipts, requests, transactions.

use std::fmt;
use std::sync::Arc;

use alloy_primitives::{Address, B256, Signature, U256};
use alloy_signer_local::PrivateKeySigner;
use assay_receipt::{ReceiptKey, ReceiptSignature};

use crate::KeyError;

/// A secp256k1 key. Cheap to clone; `Debug` shows the address only.
#[derive(Clone)]
pub struct Key {
    inner: Arc<ReceiptKey>,
    address: Address,
}

impl Key {
    /// From 32 secret bytes.
    ///
    /// # Errors
    /// [`KeyError::Secret`].
    pub fn from_bytes(bytes: [u8; 32]) -> Result<Self, KeyError> {
        let inner = ReceiptKey::from_bytes(bytes).map_err(|_| KeyError::Secret)?;
        let address = inner.address();
        Ok(Self {
            inner: Arc::new(inner),
            address,
        })
    }

    /// A new key from the operating system's randomness.
    pub fn random() -> Self {
        loop {
            let secret = PrivateKeySigner::random().to_bytes();
            // Every key of the signer is in range, so the loop runs once.
            if let Ok(key) = Self::from_bytes(secret.0) {
                return key;
            }
        }
    }

    /// Key `index` of a BIP-39 phrase, path `m/44'/60'/0'/0/index`.
    ///
    /// # Errors
    /// [`KeyError::Mnemonic`].
    pub fn from_mnemonic(phrase: &str, index: u32) -> Result<Self, KeyError> {
        use alloy_signer_local::MnemonicBuilder;
        let signer = MnemonicBuilder::try_from_phrase_nth(phrase, index)
            .map_err(|_| KeyError::Mnemonic(index))?;
        Self::from_bytes(signer.to_bytes().0)
    }

    /// Address of the public key.
    pub const fn address(&self) -> Address {
        self.address
    }

    /// The key as the receipt crate takes it.
    pub fn receipt_key(&self) -> &ReceiptKey {
        &self.inner
    }

    /// Signs a digest.
    pub fn sign(&self, digest: B256) -> ReceiptSignature {
        self.inner.sign(digest)
    }

    /// Signs the hash of a transaction.
    pub(crate) fn sign_transaction(&self, hash: B256) -> Signature {
        let ReceiptSignature(bytes) = self.sign(hash);
        let (r, rest) = bytes.split_at(32);
        let (s, v) = rest.split_at(32);
        Signature::new(
            U256::from_be_slice(r),
            U256::from_be_slice(s),
            v.first() == Some(&28),
        )
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Key").field(&self.address).finish()
    }
}

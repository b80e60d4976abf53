//! Transactions: bytes from a stranger become a [`Recovered`] exactly once.

use std::ops::Deref;

use alloy_consensus::{EthereumTxEnvelope, Transaction as _, TxEip4844};
use alloy_eips::eip2718::{Decodable2718, Encodable2718};
use alloy_primitives::{Address, B256, Bytes, Signature, TxKind, U256, keccak256};
use secp256k1::ecdsa::{RecoverableSignature, RecoveryId};
use secp256k1::{Message, SECP256K1};
use thiserror::Error;

/// EIP-2718 envelope of types 0, 1, 2 and 4. The type has room for blobs, [`Recovered::decode`] refuses them.
pub type Transaction = EthereumTxEnvelope<TxEip4844>;

/// Largest encoded transaction, in bytes (specification chain.md section 3.1).
pub const MAX_TRANSACTION_BYTES: usize = 128 * 1024;

/// Largest encoded transaction to a module that accepts proofs in calldata, in bytes (section 3.1).
pub const MAX_PROOF_TRANSACTION_BYTES: usize = 1024 * 1024;

/// Half of the order of secp256k1: signatures with a larger `s` are refused (EIP-2).
const SECP256K1_HALF_ORDER: U256 = U256::from_limbs([
    0xdfe9_2f46_681b_20a0,
    0x5d57_6e73_57a4_501d,
    0xffff_ffff_ffff_ffff,
    0x7fff_ffff_ffff_ffff,
]);

/// Why bytes are not a transaction of this chain. Protocol errors, all caused by the sender.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum TransactionError {
    /// More bytes than the limit that applies to the destination.
    #[error("oversized data: transaction size {size}, limit {limit}")]
    TooLarge {
        /// Encoded size, in bytes.
        size: usize,
        /// Limit, in bytes.
        limit: usize,
    },
    /// Type 3 carries blobs, which this chain has no place for; other types do not exist.
    #[error("transaction type not supported: {0}")]
    UnsupportedType(u8),
    /// Not RLP of a transaction; the text names the first violation.
    #[error("rlp: {0}")]
    Malformed(String),
    /// Bytes after the end of the transaction, or an encoding that is not the shortest.
    #[error("rlp: transaction of {size} bytes is not in its canonical encoding")]
    NotCanonical {
        /// Encoded size, in bytes.
        size: usize,
    },
    /// A legacy transaction without EIP-155 protection could be replayed on other chains.
    #[error("only replay-protected (EIP-155) transactions allowed over RPC")]
    NoChainId,
    /// Signed for another chain.
    #[error("invalid chain id for signer: have {have} want {want}")]
    WrongChain {
        /// Chain id inside the transaction.
        have: u64,
        /// Chain id of this chain.
        want: u64,
    },
    /// The signature has an out-of-range part, a high `s`, or recovers no key.
    #[error("invalid sender: signature of transaction {hash} does not recover")]
    BadSignature {
        /// Hash of the transaction.
        hash: B256,
    },
}

/// A canonical transaction of this chain whose signature has not been looked at yet.
///
/// Cheap checks come before the expensive recovery, so admission looks at fees and gas on this type first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decoded {
    transaction: Transaction,
    hash: B256,
    raw: Bytes,
}

impl Decoded {
    /// Decodes, without recovering the sender.
    ///
    /// Checks in this order: size, type, canonical encoding, chain id. `chain_id` is the id of this chain.
    /// `large_calldata` says whether a destination may receive [`MAX_PROOF_TRANSACTION_BYTES`].
    ///
    /// # Errors
    /// The first violated check, see [`TransactionError`].
    pub fn decode(
        raw: Bytes,
        chain_id: u64,
        large_calldata: impl Fn(&Address) -> bool,
    ) -> Result<Self, TransactionError> {
        let size = raw.len();
        if size > MAX_PROOF_TRANSACTION_BYTES {
            return Err(TransactionError::TooLarge {
                size,
                limit: MAX_PROOF_TRANSACTION_BYTES,
            });
        }
        match raw.first() {
            None => return Err(TransactionError::Malformed("empty input".into())),
            Some(&kind) if kind < 0xc0 && !matches!(kind, 1 | 2 | 4) => {
                return Err(TransactionError::UnsupportedType(kind));
            }
            Some(_) => {}
        }
        let mut rest: &[u8] = &raw;
        let transaction = Transaction::decode_2718(&mut rest)
            .map_err(|error| TransactionError::Malformed(error.to_string()))?;
        if !rest.is_empty() || transaction.encoded_2718() != raw.as_ref() {
            return Err(TransactionError::NotCanonical { size });
        }
        let large = matches!(transaction.kind(), TxKind::Call(to) if large_calldata(&to));
        if size > MAX_TRANSACTION_BYTES && !large {
            return Err(TransactionError::TooLarge {
                size,
                limit: MAX_TRANSACTION_BYTES,
            });
        }
        match transaction.chain_id() {
            None => return Err(TransactionError::NoChainId),
            Some(have) if have != chain_id => {
                return Err(TransactionError::WrongChain {
                    have,
                    want: chain_id,
                });
            }
            Some(_) => {}
        }
        let hash = keccak256(&raw);
        Ok(Self {
            transaction,
            hash,
            raw,
        })
    }

    /// keccak256 of the encoded bytes.
    pub const fn hash(&self) -> B256 {
        self.hash
    }

    /// Recovers the sender (one libsecp256k1 recovery, about 40 us).
    ///
    /// # Errors
    /// [`TransactionError::BadSignature`].
    pub fn recover(self) -> Result<Recovered, TransactionError> {
        let hash = self.hash;
        let sender = recover_address(
            self.transaction.signature_hash(),
            self.transaction.signature(),
        )
        .ok_or(TransactionError::BadSignature { hash })?;
        Ok(self.with_sender(sender))
    }

    /// Takes a sender that is known from our own database, where it was written after recovery.
    pub fn with_sender(self, sender: Address) -> Recovered {
        Recovered {
            transaction: self.transaction,
            sender,
            hash: self.hash,
            raw: self.raw,
        }
    }
}

impl Deref for Decoded {
    type Target = Transaction;

    fn deref(&self) -> &Transaction {
        &self.transaction
    }
}

/// A decoded transaction whose sender has been recovered; made once, at admission, and shared from there on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recovered {
    transaction: Transaction,
    sender: Address,
    hash: B256,
    raw: Bytes,
}

impl Recovered {
    /// [`Decoded::decode`] and [`Decoded::recover`] in one.
    ///
    /// # Errors
    /// The first violated check, see [`TransactionError`].
    pub fn decode(
        raw: Bytes,
        chain_id: u64,
        large_calldata: impl Fn(&Address) -> bool,
    ) -> Result<Self, TransactionError> {
        Decoded::decode(raw, chain_id, large_calldata)?.recover()
    }

    /// The decoded envelope.
    pub const fn transaction(&self) -> &Transaction {
        &self.transaction
    }

    /// Account that signed.
    pub const fn sender(&self) -> Address {
        self.sender
    }

    /// keccak256 of the encoded bytes.
    pub const fn hash(&self) -> B256 {
        self.hash
    }

    /// EIP-2718 bytes as they came in (they are canonical).
    pub const fn raw(&self) -> &Bytes {
        &self.raw
    }

    /// Largest cost to the sender in wei: value + gas limit x fee cap; `None` beyond 256 bits.
    pub fn max_cost(&self) -> Option<U256> {
        let fee = U256::from(self.transaction.gas_limit())
            .checked_mul(U256::from(self.transaction.max_fee_per_gas()))?;
        fee.checked_add(self.transaction.value())
    }

    /// Wei per gas for the proposer at `base_fee`; `None` when the fee cap is below the base fee.
    pub fn tip(&self, base_fee: u64) -> Option<u128> {
        self.transaction.effective_tip_per_gas(base_fee)
    }

    /// Wei per gas that the sender pays at `base_fee`.
    pub fn gas_price(&self, base_fee: u64) -> u128 {
        self.transaction.effective_gas_price(Some(base_fee))
    }
}

impl Deref for Recovered {
    type Target = Transaction;

    fn deref(&self) -> &Transaction {
        &self.transaction
    }
}

/// Address whose key made `signature` over `digest`; `None` for a high `s` (EIP-2) or an unrecoverable signature.
pub fn recover_address(digest: B256, signature: &Signature) -> Option<Address> {
    if signature.s() > SECP256K1_HALF_ORDER {
        return None;
    }
    let mut compact = [0u8; 64];
    let (r, s) = compact.split_at_mut(32);
    r.copy_from_slice(&signature.r().to_be_bytes::<32>());
    s.copy_from_slice(&signature.s().to_be_bytes::<32>());
    let parity = RecoveryId::try_from(i32::from(signature.v())).ok()?;
    let recoverable = RecoverableSignature::from_compact(&compact, parity).ok()?;
    let key = SECP256K1
        .recover_ecdsa(Message::from_digest(digest.0), &recoverable)
        .ok()?;
    let bytes = key.serialize_uncompressed();
    let (_, point) = bytes.split_first()?;
    Some(Address::from_word(keccak256(point)))
}

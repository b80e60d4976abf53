//! Blocks: a Prague header, its transactions, the reveal behind `mixHash`.

use std::sync::Arc;

use alloy_consensus::Header;
use alloy_primitives::{Address, B256, Bytes};
use alloy_rlp::{Decodable, Encodable, RlpDecodable, RlpEncodable};
use thiserror::Error;

use crate::{Millis, Recovered, TransactionError};

/// Largest encoded block body, in bytes (specification chain.md section 9.4: 5 MB, plus room for one proof).
pub const MAX_BLOCK_BYTES: usize = 6 * 1024 * 1024;

/// Why bytes are not a block. Protocol errors.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum BlockError {
    /// Header extra data must be exactly 28 bytes.
    #[error("extra data has {0} bytes, want 28")]
    ExtraLength(usize),
    /// Milliseconds of the extra data must be below 1000.
    #[error("extra data carries {0} milliseconds, want at most 999")]
    ExtraMillis(u16),
    /// Body larger than [`MAX_BLOCK_BYTES`].
    #[error("block body has {0} bytes, limit {MAX_BLOCK_BYTES}")]
    TooLarge(usize),
    /// Body is not RLP of a block body.
    #[error("block body rlp: {0}")]
    Malformed(String),
    /// A transaction inside does not decode or recover.
    #[error("transaction {index} of the block: {source}")]
    Transaction {
        /// Position in the block.
        index: usize,
        /// What is wrong with it.
        source: TransactionError,
    },
}

/// Consensus context inside the header's extra data: 28 bytes, big endian (specification chain.md section 3.2).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ExtraData {
    /// Epoch of the validator set; 0 in solo mode.
    pub epoch: u64,
    /// View in which the block was proposed; the block number in solo mode.
    pub view: u64,
    /// View of the parent.
    pub parent_view: u64,
    /// Index of the proposing seat; 0 in solo mode.
    pub seat: u16,
    /// Milliseconds within the second of the header's timestamp, 0 to 999.
    pub millis: u16,
}

impl ExtraData {
    /// Encoded length, in bytes.
    pub const LENGTH: usize = 28;

    /// Context of solo block `number` at `millis` milliseconds within its second.
    pub const fn solo(number: u64, millis: u16) -> Self {
        Self {
            epoch: 0,
            view: number,
            parent_view: number.saturating_sub(1),
            seat: 0,
            millis,
        }
    }

    /// The canonical 28 bytes.
    pub fn encode(&self) -> [u8; Self::LENGTH] {
        let mut out = [0u8; Self::LENGTH];
        out[..8].copy_from_slice(&self.epoch.to_be_bytes());
        out[8..16].copy_from_slice(&self.view.to_be_bytes());
        out[16..24].copy_from_slice(&self.parent_view.to_be_bytes());
        out[24..26].copy_from_slice(&self.seat.to_be_bytes());
        out[26..].copy_from_slice(&self.millis.to_be_bytes());
        out
    }

    /// Reads the canonical form.
    ///
    /// # Errors
    /// [`BlockError::ExtraLength`], [`BlockError::ExtraMillis`].
    pub fn decode(bytes: &[u8]) -> Result<Self, BlockError> {
        let fixed: [u8; Self::LENGTH] = bytes
            .try_into()
            .map_err(|_| BlockError::ExtraLength(bytes.len()))?;
        let long = |at: usize| {
            fixed
                .iter()
                .skip(at)
                .take(8)
                .fold(0u64, |word, byte| (word << 8) | u64::from(*byte))
        };
        let extra = Self {
            epoch: long(0),
            view: long(8),
            parent_view: long(16),
            seat: u16::from_be_bytes([fixed[24], fixed[25]]),
            millis: u16::from_be_bytes([fixed[26], fixed[27]]),
        };
        if extra.millis > 999 {
            return Err(BlockError::ExtraMillis(extra.millis));
        }
        Ok(extra)
    }
}

/// A block with recovered transactions. Cheap to clone: transactions are shared.
#[derive(Clone, Debug)]
pub struct Block {
    /// Prague header.
    pub header: Header,
    /// keccak256 of the header's RLP.
    pub hash: B256,
    /// Transactions in order.
    pub transactions: Vec<Arc<Recovered>>,
    /// Randomness reveal that, with the parent's mix, gives `mixHash`.
    pub reveal: Bytes,
}

#[derive(RlpEncodable, RlpDecodable)]
struct Body {
    transactions: Vec<Bytes>,
    reveal: Bytes,
}

impl Block {
    /// Seals header and content; computes the hash.
    pub fn new(header: Header, transactions: Vec<Arc<Recovered>>, reveal: Bytes) -> Self {
        let hash = header.hash_slow();
        Self {
            header,
            hash,
            transactions,
            reveal,
        }
    }

    /// Height.
    pub const fn number(&self) -> u64 {
        self.header.number
    }

    /// Time of the block, milliseconds since the Unix epoch.
    pub fn timestamp(&self) -> Millis {
        let millis = ExtraData::decode(&self.header.extra_data).map_or(0, |extra| extra.millis);
        Millis(
            self.header
                .timestamp
                .saturating_mul(1_000)
                .saturating_add(u64::from(millis)),
        )
    }

    /// RLP of the body: list of transaction bytes, reveal.
    pub fn encode_body(&self) -> Vec<u8> {
        let body = Body {
            transactions: self
                .transactions
                .iter()
                .map(|transaction| transaction.raw().clone())
                .collect(),
            reveal: self.reveal.clone(),
        };
        let mut out = Vec::with_capacity(body.length());
        body.encode(&mut out);
        out
    }

    /// Reads a body and recovers its senders.
    ///
    /// # Errors
    /// [`BlockError`] for size, encoding or the first bad transaction.
    pub fn decode_body(
        header: Header,
        hash: B256,
        bytes: &[u8],
        chain_id: u64,
        large_calldata: impl Fn(&Address) -> bool,
    ) -> Result<Self, BlockError> {
        let (raw, reveal) = Self::split_body(bytes)?;
        let transactions = raw
            .into_iter()
            .enumerate()
            .map(|(index, bytes)| {
                Recovered::decode(bytes, chain_id, &large_calldata)
                    .map(Arc::new)
                    .map_err(|source| BlockError::Transaction { index, source })
            })
            .collect::<Result<_, _>>()?;
        Ok(Self {
            header,
            hash,
            transactions,
            reveal,
        })
    }

    /// Transaction bytes and reveal of an encoded body, nothing decoded further.
    ///
    /// # Errors
    /// [`BlockError::TooLarge`], [`BlockError::Malformed`].
    pub fn split_body(bytes: &[u8]) -> Result<(Vec<Bytes>, Bytes), BlockError> {
        if bytes.len() > MAX_BLOCK_BYTES {
            return Err(BlockError::TooLarge(bytes.len()));
        }
        let mut rest = bytes;
        let body =
            Body::decode(&mut rest).map_err(|error| BlockError::Malformed(error.to_string()))?;
        if !rest.is_empty() {
            return Err(BlockError::Malformed(format!(
                "{} bytes after the body",
                rest.len()
            )));
        }
        Ok((body.transactions, body.reveal))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn extra_data_is_canonical() {
        let extra = ExtraData {
            epoch: 3,
            view: 1_000_000_007,
            parent_view: 1_000_000_006,
            seat: 15,
            millis: 999,
        };
        assert_eq!(ExtraData::decode(&extra.encode()), Ok(extra));
        assert_eq!(
            ExtraData::decode(&[0; 27]),
            Err(BlockError::ExtraLength(27))
        );
        let mut late = extra.encode();
        late[26..].copy_from_slice(&1_000u16.to_be_bytes());
        assert_eq!(
            ExtraData::decode(&late),
            Err(BlockError::ExtraMillis(1_000))
        );
    }

    #[test]
    fn body_with_trailing_bytes_is_refused() {
        let block = Block::new(Header::default(), Vec::new(), Bytes::from_static(b"reveal"));
        let mut body = block.encode_body();
        assert!(Block::split_body(&body).is_ok());
        body.push(0);
        assert!(matches!(
            Block::split_body(&body),
            Err(BlockError::Malformed(_))
        ));
    }
}

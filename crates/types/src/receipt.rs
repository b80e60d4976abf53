//! Receipts as the chain stores them, and their Ethereum form.

use alloy_consensus::{Eip658Value, Receipt, ReceiptEnvelope, ReceiptWithBloom};
use alloy_primitives::{Address, Bloom, Log};
use alloy_rlp::{RlpDecodable, RlpEncodable};

/// Outcome of one transaction: the Ethereum receipt plus what RPC would otherwise have to recompute.
#[derive(Clone, Debug, Default, PartialEq, Eq, RlpEncodable, RlpDecodable)]
pub struct StoredReceipt {
    /// EIP-2718 type of the transaction: 0, 1, 2 or 4.
    pub kind: u8,
    /// Account that signed; kept so that reading a block back needs no signature recovery.
    pub sender: Address,
    /// False when execution reverted or halted.
    pub success: bool,
    /// Gas used by this transaction, after refunds.
    pub gas_used: u64,
    /// Gas used in the block up to and including this transaction.
    pub cumulative_gas_used: u64,
    /// Wei per gas that the sender paid.
    pub effective_gas_price: u128,
    /// Address of the contract that a creation deployed; zero for none.
    pub created: Address,
    /// Events in order.
    pub logs: Vec<Log>,
}

impl StoredReceipt {
    /// The contract that a successful creation deployed.
    pub fn contract_address(&self) -> Option<Address> {
        (self.created != Address::ZERO).then_some(self.created)
    }

    /// The receipt as it is hashed into `receiptsRoot`.
    pub fn envelope(&self) -> ReceiptEnvelope {
        let receipt = Receipt {
            status: Eip658Value::Eip658(self.success),
            cumulative_gas_used: self.cumulative_gas_used,
            logs: self.logs.clone(),
        };
        let with_bloom = ReceiptWithBloom {
            logs_bloom: logs_bloom(&self.logs),
            receipt,
        };
        match self.kind {
            1 => ReceiptEnvelope::Eip2930(with_bloom),
            2 => ReceiptEnvelope::Eip1559(with_bloom),
            4 => ReceiptEnvelope::Eip7702(with_bloom),
            _ => ReceiptEnvelope::Legacy(with_bloom),
        }
    }
}

/// 2048-bit filter over addresses and topics of `logs`.
pub fn logs_bloom<'a>(logs: impl IntoIterator<Item = &'a Log>) -> Bloom {
    let mut bloom = Bloom::ZERO;
    for log in logs {
        bloom.accrue_log(log);
    }
    bloom
}

//! From our block and transaction types to the EVM's.

use alloy_consensus::Transaction as _;
use alloy_eips::eip2930::AccessList;
use alloy_eips::eip7702::SignedAuthorization;
use alloy_primitives::{Address, B256, U256};
use assay_storage::Env;
use assay_types::{Recovered, recover_address};
use revm::context::{BlockEnv, CfgEnv, TxEnv};
use revm::context_interface::block::BlobExcessGasAndPrice;
use revm::context_interface::cfg::GasParams;
use revm::context_interface::either::Either;
use revm::context_interface::transaction::{RecoveredAuthority, RecoveredAuthorization};
use revm::primitives::hardfork::SpecId;

/// Rules of the EVM: Prague, as the header is.
pub(crate) const SPEC: SpecId = SpecId::PRAGUE;

/// What a block tells its transactions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BlockContext {
    /// Height.
    pub number: u64,
    /// Milliseconds since the Unix epoch; opcode TIMESTAMP sees whole seconds.
    pub timestamp_ms: u64,
    /// Gas that fits into the block.
    pub gas_limit: u64,
    /// Wei per gas that is burnt.
    pub base_fee: u64,
    /// Mix of the **parent** block.
    pub prevrandao: B256,
    /// Receives the tips.
    pub beneficiary: Address,
    /// Chain id.
    pub chain_id: u64,
}

impl BlockContext {
    pub(crate) fn block_env(&self) -> BlockEnv {
        BlockEnv {
            number: U256::from(self.number),
            beneficiary: self.beneficiary,
            timestamp: U256::from(self.timestamp_ms / 1_000),
            gas_limit: self.gas_limit,
            basefee: self.base_fee,
            difficulty: U256::ZERO,
            prevrandao: Some(self.prevrandao),
            blob_excess_gas_and_price: Some(BlobExcessGasAndPrice {
                excess_blob_gas: 0,
                blob_gasprice: 1,
            }),
            slot_num: 0,
        }
    }

    pub(crate) fn config(&self) -> CfgEnv {
        let mut config = CfgEnv::new_with_spec(SPEC);
        config.chain_id = self.chain_id;
        config
    }

    pub(crate) const fn module_env(&self) -> Env {
        Env {
            number: self.number,
            timestamp_ms: self.timestamp_ms,
            chain_id: self.chain_id,
            prevrandao: self.prevrandao,
            proposer: self.beneficiary,
        }
    }
}

pub(crate) fn transaction_env(transaction: &Recovered) -> TxEnv {
    TxEnv {
        tx_type: u8::from(transaction.tx_type()),
        caller: transaction.sender(),
        gas_limit: transaction.gas_limit(),
        gas_price: transaction.max_fee_per_gas(),
        kind: transaction.kind(),
        value: transaction.value(),
        data: transaction.input().clone(),
        nonce: transaction.nonce(),
        chain_id: transaction.chain_id(),
        access_list: transaction.access_list().cloned().unwrap_or_default(),
        gas_priority_fee: transaction.max_priority_fee_per_gas(),
        blob_hashes: Vec::new(),
        max_fee_per_blob_gas: 0,
        authorization_list: transaction
            .authorization_list()
            .unwrap_or_default()
            .iter()
            .map(recover_authorization)
            .collect(),
    }
}

/// Recovers with libsecp256k1; an authorization that does not recover is skipped by the EVM, not an error.
pub(crate) fn recover_authorization(
    signed: &SignedAuthorization,
) -> Either<SignedAuthorization, RecoveredAuthorization> {
    let authority = signed
        .signature()
        .ok()
        .and_then(|signature| recover_address(signed.signature_hash(), &signature))
        .map_or(RecoveredAuthority::Invalid, RecoveredAuthority::Valid);
    Either::Right(RecoveredAuthorization::new_unchecked(
        signed.inner().clone(),
        authority,
    ))
}

/// Gas that a transaction needs before its first opcode: (intrinsic, EIP-7623 floor).
pub fn intrinsic_gas(transaction: &Recovered) -> (u64, u64) {
    let empty = AccessList::default();
    let list = transaction.access_list().unwrap_or(&empty);
    let keys: usize = list.0.iter().map(|item| item.storage_keys.len()).sum();
    let authorizations = transaction.authorization_list().map_or(0, <[_]>::len);
    let gas = GasParams::new_spec(SPEC).initial_tx_gas(
        transaction.input(),
        transaction.kind().is_create(),
        list.0.len() as u64,
        keys as u64,
        authorizations as u64,
        None,
    );
    (gas.initial_total_gas(), gas.floor_gas())
}

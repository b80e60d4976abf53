//! Block 0: accounts, predeployed contracts, module parameters, and the sequencer's address.

use std::sync::Arc;

use alloy_consensus::{Header, constants::EMPTY_OMMER_ROOT_HASH};
use alloy_primitives::{Address, B256, Bytes, U256, address, bytes, keccak256, uint};
use assay_evm::{BlockContext, GenesisBuilder};
use assay_modules::{GenesisParams, Modules};
use assay_state::{BlockRecord, EMPTY_ROOT_HASH, Staged, Store};
use assay_types::{Block, ExtraData, StateDiff};

use crate::execute::{REQUESTS_HASH, sealed_header_rlp};
use crate::{ChainError, FEE_FLOOR};

/// An account that exists from the start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GenesisAccount {
    /// Address.
    pub address: Address,
    /// Wei.
    pub balance: U256,
    /// Next nonce; a contract has at least 1.
    pub nonce: u64,
    /// Code, empty for a plain account.
    pub code: Bytes,
}

/// Everything that determines block 0. Two nodes with equal values have the same genesis hash.
#[derive(Clone, Debug)]
pub struct Genesis {
    /// EIP-155 chain id.
    pub chain_id: u64,
    /// Time of block 0 in milliseconds since the Unix epoch.
    pub timestamp_ms: u64,
    /// Gas limit of every block.
    pub gas_limit: u64,
    /// Base fee of block 0 in wei per gas, at least [`FEE_FLOOR`].
    pub base_fee: u64,
    /// Solo sequencer; kept as the beneficiary of block 0.
    pub sequencer: Address,
    /// Prefunded accounts and predeployed contracts.
    pub accounts: Vec<GenesisAccount>,
    /// First parameters of the modules.
    pub modules: GenesisParams,
}

/// One million coins in wei: 10^24.
const MILLION_COINS: U256 = uint!(1_000_000_000_000_000_000_000_000_U256);

impl Genesis {
    /// Chain id of a local network: 0xA55A.
    pub const LOCAL_CHAIN_ID: u64 = 0xa55a;
    /// Gas limit of a block, by default.
    pub const GAS_LIMIT: u64 = 60_000_000;
    /// Time of block 0 of a local network: 2026-01-01T00:00:00Z.
    pub const LOCAL_TIMESTAMP_MS: u64 = 1_767_225_600_000;

    /// A local network with `funded` accounts of one million coins each and the usual predeployed contracts.
    pub fn local(sequencer: Address, funded: &[Address], modules: GenesisParams) -> Self {
        let accounts = funded
            .iter()
            .map(|address| GenesisAccount {
                address: *address,
                balance: MILLION_COINS,
                nonce: 0,
                code: Bytes::new(),
            })
            .chain(predeploys())
            .collect();
        Self {
            chain_id: Self::LOCAL_CHAIN_ID,
            timestamp_ms: Self::LOCAL_TIMESTAMP_MS,
            gas_limit: Self::GAS_LIMIT,
            base_fee: 1_000_000_000,
            sequencer,
            accounts,
            modules,
        }
    }

    /// State of block 0.
    fn diff(
        &self,
        modules: &Arc<Modules>,
        store: &Store,
    ) -> Result<(StateDiff, Vec<alloy_primitives::Log>), ChainError> {
        let view = store.view()?;
        let block = BlockContext {
            number: 0,
            timestamp_ms: self.timestamp_ms,
            gas_limit: self.gas_limit,
            base_fee: self.base_fee.max(FEE_FLOOR),
            prevrandao: B256::ZERO,
            beneficiary: self.sequencer,
            chain_id: self.chain_id,
        };
        let mut builder = GenesisBuilder::new(Arc::clone(modules), &view, block)?;
        for account in &self.accounts {
            if Modules::is_module(&account.address) {
                continue;
            }
            builder.account(
                account.address,
                account.nonce,
                account.balance,
                account.code.clone(),
            )?;
        }
        Ok(builder.finish(&self.modules)?)
    }

    fn header(&self, state_root: B256) -> Header {
        let millis = u16::try_from(self.timestamp_ms % 1_000).unwrap_or(0);
        Header {
            parent_hash: B256::ZERO,
            ommers_hash: EMPTY_OMMER_ROOT_HASH,
            beneficiary: self.sequencer,
            state_root,
            transactions_root: EMPTY_ROOT_HASH,
            receipts_root: EMPTY_ROOT_HASH,
            number: 0,
            gas_limit: self.gas_limit,
            gas_used: 0,
            timestamp: self.timestamp_ms / 1_000,
            extra_data: Bytes::copy_from_slice(&ExtraData::solo(0, millis).encode()),
            mix_hash: keccak256(self.chain_id.to_be_bytes()),
            base_fee_per_gas: Some(self.base_fee.max(FEE_FLOOR)),
            withdrawals_root: Some(EMPTY_ROOT_HASH),
            blob_gas_used: Some(0),
            excess_blob_gas: Some(0),
            parent_beacon_block_root: Some(B256::ZERO),
            requests_hash: Some(REQUESTS_HASH),
            ..Header::default()
        }
    }

    fn stage(&self, modules: &Arc<Modules>, store: &Store) -> Result<(Staged, Block), ChainError> {
        let (diff, _) = self.diff(modules, store)?;
        let staged = store.stage(diff)?;
        let header = self.header(staged.root());
        Ok((staged, Block::new(header, Vec::new(), Bytes::new())))
    }

    /// Block 0, computed in memory.
    ///
    /// # Errors
    /// [`ChainError::Execution`] when a module refuses its parameters.
    pub fn block(&self, modules: &Arc<Modules>) -> Result<Block, ChainError> {
        let store = Store::in_memory()?;
        Ok(self.stage(modules, &store)?.1)
    }

    /// Writes block 0 into an empty store.
    ///
    /// # Errors
    /// As for [`Genesis::block`], and database errors.
    pub fn write(&self, modules: &Arc<Modules>, store: &Store) -> Result<Block, ChainError> {
        let (staged, block) = self.stage(modules, store)?;
        store.commit(
            staged,
            &BlockRecord {
                number: 0,
                hash: block.hash,
                header_rlp: sealed_header_rlp(&block.header),
                body: block.encode_body(),
                transactions: Vec::new(),
                receipts: &[],
                system_logs: &[],
                certificate: Bytes::new(),
            },
        )?;
        Ok(block)
    }
}

/// Contracts that tools expect at fixed addresses. The deterministic CREATE2 deployer is enough: everything else with a
/// canonical address can be deployed through it.
pub fn predeploys() -> Vec<GenesisAccount> {
    let contract = |address, code| GenesisAccount {
        address,
        balance: U256::ZERO,
        nonce: 1,
        code,
    };
    vec![contract(
        // Arachnid's deterministic deployment proxy (github.com/Arachnid/deterministic-deployment-proxy).
        address!("4e59b44847b379578588920cA78FbF26c0B4956C"),
        bytes!(
            "7fffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffe03601600081602082378035828234f58015156039578182fd5b8082525050506014600cf3"
        ),
    )]
}

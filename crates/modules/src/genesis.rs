//! State of block 0.

use alloy_primitives::Address;
use assay_storage::{Storage, StorageError};

use crate::clock::Clock;
use crate::parameters::{Parameters, Params};
use crate::usd::Usd;

/// What the node chooses for block 0. Native balances are the node's own part of genesis.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GenesisParams {
    /// Numbers of the rules.
    pub params: Params,
    /// Receiver of the treasury's part of fees.
    pub treasury: Address,
    /// usd minted: account and amount in base units (6 decimals).
    pub usd: Vec<(Address, u128)>,
}

impl GenesisParams {
    /// For a network on one machine: minutes instead of days, clock without cap, nothing minted.
    pub fn dev() -> Self {
        Self {
            params: Params::dev(),
            treasury: Address::ZERO,
            usd: Vec::new(),
        }
    }

    /// For a public network, nothing minted.
    pub fn public() -> Self {
        Self {
            params: Params::public(),
            ..Self::dev()
        }
    }
}

pub(crate) fn write(
    storage: &mut dyn Storage,
    genesis: &GenesisParams,
) -> Result<(), StorageError> {
    Parameters::new().genesis(storage, &genesis.params, genesis.treasury)?;
    Clock::new().genesis(storage)?;
    Usd::new().genesis(storage, &genesis.usd)
}

//! Everybody's balances, and whether supply adds up to the last unit.

use alloy_primitives::{Address, U256};
use assay_abi::{IUsd, USD};
use assay_wallet::ChainClient;
use serde_json::{Value, json};

use crate::{
    network::Cast,
    units::{coin, usd},
};

/// Balances at one moment.
#[derive(Clone, Debug)]
pub(super) struct Books {
    /// Account, native coin in wei, usd in base units.
    rows: Vec<(Address, U256, U256)>,
}

/// Result of adding everything up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Supply {
    /// Native coin of genesis, wei.
    pub(super) genesis: U256,
    /// Σ of all balances now.
    pub(super) held: U256,
    /// Base fees destroyed.
    pub(super) fees: U256,
    /// usd issued.
    pub(super) usd_issued: U256,
    /// Σ of all usd balances now.
    pub(super) usd_held: U256,
}

impl Supply {
    pub(super) fn adds_up(&self) -> bool {
        self.held.checked_add(self.fees) == Some(self.genesis) && self.usd_held == self.usd_issued
    }

    pub(super) fn json(&self) -> Value {
        json!({
            "coin_genesis": self.genesis.to_string(), "coin_held": self.held.to_string(), "coin_base_fees_destroyed": self.fees.to_string(),
            "usd_issued": self.usd_issued.to_string(), "usd_held": self.usd_held.to_string(), "adds_up": self.adds_up(),
        })
    }
}

/// All accounts that hold anything: the cast, the modules, the sequencer.
fn everybody(chain: &ChainClient, cast: &Cast) -> anyhow::Result<Vec<Address>> {
    let mut all: Vec<Address> = cast.roles().iter().map(|(_, a)| *a).collect();
    all.extend(assay_abi::MODULES.iter().map(|(_, _, _, address)| *address));
    all.push(Address::ZERO);
    let block: Value = chain.request("eth_getBlockByNumber", json!(["0x0", false]))?;
    if let Some(miner) = block.get("miner").and_then(Value::as_str) {
        all.push(miner.parse()?);
    }
    all.sort();
    all.dedup();
    Ok(all)
}

impl Books {
    /// # Errors
    /// Those of the chain's client.
    pub(super) fn read(chain: &ChainClient, cast: &Cast) -> anyhow::Result<Self> {
        let mut rows = Vec::new();
        for address in everybody(chain, cast)? {
            rows.push((
                address,
                chain.balance(address)?,
                chain.call(USD, &IUsd::balanceOfCall { owner: address })?,
            ));
        }
        Ok(Self { rows })
    }

    fn of(&self, address: Address) -> (U256, U256) {
        self.rows
            .iter()
            .find(|r| r.0 == address)
            .map_or((U256::ZERO, U256::ZERO), |r| (r.1, r.2))
    }

    /// Native coin of an account.
    pub(super) fn coin(&self, address: Address) -> U256 {
        self.of(address).0
    }

    /// usd of an account.
    pub(super) fn usd(&self, address: Address) -> U256 {
        self.of(address).1
    }

    /// Everything added up; walks all blocks for the base fees that were destroyed.
    ///
    /// # Errors
    /// Those of the chain's client.
    pub(super) fn supply(&self, chain: &ChainClient, cast: &Cast) -> anyhow::Result<Supply> {
        let million = U256::from(1_000_000u64) * U256::from(10u64).pow(U256::from(18u64));
        let hex = |block: &Value, field: &str| -> anyhow::Result<U256> {
            let text = block.get(field).and_then(Value::as_str).unwrap_or("0x0");
            Ok(U256::from_str_radix(text.trim_start_matches("0x"), 16)?)
        };
        let mut fees = U256::ZERO;
        for number in 1..=chain.block_number()? {
            let block: Value = chain.request(
                "eth_getBlockByNumber",
                json!([format!("{number:#x}"), false]),
            )?;
            fees += hex(&block, "gasUsed")? * hex(&block, "baseFeePerGas")?;
        }
        Ok(Supply {
            genesis: million * U256::from(cast.roles().len()),
            held: self.rows.iter().map(|r| r.1).sum(),
            fees,
            usd_issued: chain.call(USD, &IUsd::totalSupplyCall {})?,
            usd_held: self.rows.iter().map(|r| r.2).sum(),
        })
    }
}

/// `before → after` of an amount of native coin.
pub(super) fn coin_change(before: U256, after: U256) -> String {
    format!("{} → {}", coin(before), coin(after))
}

/// `before → after` of an amount of usd.
pub(super) fn usd_change(before: U256, after: U256) -> String {
    format!("{} → {}", usd(before), usd(after))
}

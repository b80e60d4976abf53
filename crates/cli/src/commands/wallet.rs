//! `assay wallet`: keys, balances, transfers, escrow.

use alloy_primitives::{Address, U256};
use assay_abi::{CLAIMS, IClaims, IUsd, USD};
use assay_wallet::{ChainClient, DEV_WARNING, Key, Keystore, dev_key};
use serde_json::json;

use crate::{
    account,
    args::WalletCommand,
    paths,
    shell::Shell,
    units::{self, COIN, coin, usd},
};

/// What an account holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Holdings {
    /// Native coin, wei.
    pub(crate) coin: U256,
    /// usd base units.
    pub(crate) usd: U256,
    /// usd in escrow for calls.
    pub(crate) escrow: U256,
}

/// Reads an account's balances.
///
/// # Errors
/// Those of the chain's client.
pub(crate) fn holdings(chain: &ChainClient, owner: Address) -> anyhow::Result<Holdings> {
    Ok(Holdings {
        coin: chain.balance(owner)?,
        usd: chain.call(USD, &IUsd::balanceOfCall { owner })?,
        escrow: chain.call(CLAIMS, &IClaims::balanceOfCall { buyer: owner })?,
    })
}

/// Moves `amount` usd into the escrow of `key`, approving it first.
///
/// # Errors
/// Those of the chain's client.
pub(crate) fn deposit(chain: &ChainClient, key: &Key, amount: U256) -> anyhow::Result<()> {
    chain.send(
        key,
        USD,
        &IUsd::approveCall {
            spender: CLAIMS,
            amount,
        },
    )?;
    chain.send(key, CLAIMS, &IClaims::depositCall { amount })?;
    Ok(())
}

pub(crate) fn run(command: WalletCommand, shell: &Shell) -> anyhow::Result<()> {
    match command {
        WalletCommand::New {
            name,
            passphrase_file,
        } => {
            let passphrase = account::passphrase(
                passphrase_file.as_deref(),
                &format!("new passphrase for `{name}`"),
            )?;
            let key = Keystore::open(paths::keystore()?)?.create(&name, &passphrase)?;
            shell.result(
                format!("{}  {name}", key.address()),
                &json!({ "name": name, "address": key.address() }),
            );
            shell.note(format!("encrypted key in {}", paths::keystore()?.display()));
        }
        WalletCommand::Ls => list(shell)?,
        WalletCommand::Balance {
            address,
            chain,
            key,
        } => {
            let address = address.map_or_else(|| account::address(&key), Ok)?;
            let held = holdings(&ChainClient::new(&chain.rpc), address)?;
            shell.result(
                format!("{address}\n  {}\n  {}\n  {} in escrow", coin(held.coin), usd(held.usd), usd(held.escrow)),
                &json!({ "address": address, "coin": held.coin.to_string(), "usd": held.usd.to_string(), "escrow": held.escrow.to_string() }),
            );
        }
        WalletCommand::Send {
            to,
            amount,
            usd: in_usd,
            chain,
            key,
        } => {
            let (chain, key) = (ChainClient::new(&chain.rpc), account::key(&key, shell)?);
            let decimals = if in_usd { units::USD } else { COIN };
            let value = units::parse(&amount, decimals)?;
            let sent = if in_usd {
                chain.send(&key, USD, &IUsd::transferCall { to, amount: value })?
            } else {
                chain.transfer(&key, to, value)?
            };
            let text = if in_usd { usd(value) } else { coin(value) };
            done(shell, &format!("sent {text} to {to}"), &sent);
        }
        WalletCommand::Deposit { amount, chain, key } => {
            let (chain, key) = (ChainClient::new(&chain.rpc), account::key(&key, shell)?);
            let value = units::parse(&amount, units::USD)?;
            deposit(&chain, &key, value)?;
            let held = holdings(&chain, key.address())?;
            shell.result(
                format!("{} in escrow", usd(held.escrow)),
                &json!({ "address": key.address(), "escrow": held.escrow.to_string() }),
            );
        }
        WalletCommand::Withdraw { amount, chain, key } => {
            let (chain, key) = (ChainClient::new(&chain.rpc), account::key(&key, shell)?);
            let value = units::parse(&amount, units::USD)?;
            let sent = chain.send(&key, CLAIMS, &IClaims::withdrawCall { amount: value })?;
            done(shell, &format!("took {} out of escrow", usd(value)), &sent);
        }
    }
    Ok(())
}

/// Prints a transaction that is in a block.
pub(crate) fn done(shell: &Shell, what: &str, sent: &assay_wallet::Sent) {
    shell.result(
        format!(
            "{what}\n  transaction {} in block {}",
            sent.hash, sent.block
        ),
        &json!({ "transaction": sent.hash, "block": sent.block, "gas_used": sent.gas_used }),
    );
}

fn list(shell: &Shell) -> anyhow::Result<()> {
    let keys = Keystore::open(paths::keystore()?)?.list()?;
    let mut text: Vec<String> = keys
        .iter()
        .map(|k| format!("{}  {}", k.address, k.name))
        .collect();
    let mut rows: Vec<_> = keys
        .iter()
        .map(|k| json!({ "name": k.name, "address": k.address, "dev": false }))
        .collect();
    text.push(format!("development accounts ({DEV_WARNING}):"));
    for index in 0..10 {
        let address = dev_key(index)?.address();
        text.push(format!("{address}  --dev {index}"));
        rows.push(json!({ "name": format!("dev {index}"), "address": address, "dev": true }));
    }
    shell.result(text.join("\n"), &json!({ "accounts": rows }));
    Ok(())
}

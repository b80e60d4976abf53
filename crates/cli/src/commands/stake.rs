//! `assay stake`: a model's pool from a staker's side.

use alloy_primitives::U256;
use assay_abi::{IPools, POOLS};
use assay_wallet::ChainClient;
use serde_json::json;

use crate::{
    account,
    args::StakeCommand,
    commands::wallet::done,
    registry,
    shell::Shell,
    units::{self, COIN, coin, usd},
};

pub(crate) fn run(command: StakeCommand, shell: &Shell) -> anyhow::Result<()> {
    match command {
        StakeCommand::Add {
            model,
            amount,
            chain,
            key,
        } => {
            let (chain, key) = (ChainClient::new(&chain.rpc), account::key(&key, shell)?);
            let lineage = registry::find(&chain, &model)?.lineage;
            let value = units::parse(&amount, COIN)?;
            let sent = chain.send_value(&key, POOLS, &IPools::depositCall { lineage }, value)?;
            done(
                shell,
                &format!("staked {} on `{model}`", coin(value)),
                &sent,
            );
        }
        StakeCommand::Show { model, chain, key } => {
            let chain = ChainClient::new(&chain.rpc);
            let lineage = registry::find(&chain, &model)?.lineage;
            let pool = chain.call(POOLS, &IPools::poolCall { lineage })?;
            let mut text = format!(
                "pool of `{model}`\n  {} staked, {} unbonding, {} slashed\n  {} of fees received",
                coin(pool.assets),
                coin(pool.unbonding),
                coin(pool.slashed),
                usd(pool.income)
            );
            let mut document = json!({
                "lineage": lineage, "assets": pool.assets.to_string(), "unbonding": pool.unbonding.to_string(),
                "slashed": pool.slashed.to_string(), "income": pool.income.to_string(), "shares": pool.shares.to_string(),
            });
            if key.account.is_some() || key.dev.is_some() {
                let account = account::address(&key)?;
                let own = chain.call(POOLS, &IPools::stakeCall { lineage, account })?;
                text.push_str(&format!(
                    "\n{account}\n  {} staked, {} unbonding\n  {} to claim",
                    coin(own.assets),
                    coin(own.unbonding),
                    usd(own.claimable)
                ));
                document["account"] = json!({
                    "address": account, "shares": own.shares.to_string(), "assets": own.assets.to_string(),
                    "unbonding": own.unbonding.to_string(), "claimable": own.claimable.to_string(),
                });
            }
            shell.result(text, &document);
        }
        StakeCommand::Claim { model, chain, key } => {
            let (chain, key) = (ChainClient::new(&chain.rpc), account::key(&key, shell)?);
            let lineage = registry::find(&chain, &model)?.lineage;
            let own = chain.call(
                POOLS,
                &IPools::stakeCall {
                    lineage,
                    account: key.address(),
                },
            )?;
            let sent = chain.send(&key, POOLS, &IPools::claimCall { lineage })?;
            done(
                shell,
                &format!("claimed {} of fees of `{model}`", usd(own.claimable)),
                &sent,
            );
        }
        StakeCommand::Unbond {
            model,
            shares,
            chain,
            key,
        } => {
            let (chain, key) = (ChainClient::new(&chain.rpc), account::key(&key, shell)?);
            let lineage = registry::find(&chain, &model)?.lineage;
            let own = chain.call(
                POOLS,
                &IPools::stakeCall {
                    lineage,
                    account: key.address(),
                },
            )?;
            let shares = if shares == "all" {
                own.shares
            } else {
                units::parse(&shares, COIN)?
            };
            let sent = chain.send(&key, POOLS, &IPools::unbondCall { lineage, shares })?;
            done(
                shell,
                &format!(
                    "unbonding {} shares of `{model}`",
                    units::amount(shares, COIN)
                ),
                &sent,
            );
            shell.note(
                "it stays slashable until the unbonding time is over; then `assay stake withdraw`",
            );
        }
        StakeCommand::Withdraw { model, chain, key } => {
            let (chain, key) = (ChainClient::new(&chain.rpc), account::key(&key, shell)?);
            let lineage = registry::find(&chain, &model)?.lineage;
            let before = chain.balance(key.address())?;
            let sent = chain.send(&key, POOLS, &IPools::withdrawCall { lineage })?;
            let gained = chain
                .balance(key.address())?
                .checked_sub(before)
                .unwrap_or(U256::ZERO);
            done(
                shell,
                &format!("withdrew about {} (gas taken off)", coin(gained)),
                &sent,
            );
        }
    }
    Ok(())
}

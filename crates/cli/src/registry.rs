//! Models of the chain, by name or id.

use alloy_primitives::{B256, U256};
use assay_abi::{IModels, IStaking, MODELS, STAKING};
use assay_wallet::{ChainClient, ClientError};

use crate::exit::{Exit, Stop};

/// Looks a registered model up by id (`0x…`) or name.
///
/// # Errors
/// [`Exit::NotFound`] with the known names.
pub(crate) fn find(chain: &ChainClient, model: &str) -> anyhow::Result<IModels::Model> {
    let found = match model.parse::<B256>() {
        Ok(id) => chain.call(MODELS, &IModels::modelCall { modelId: id }),
        Err(_) => chain.call(
            MODELS,
            &IModels::byNameCall {
                name: model.to_owned(),
            },
        ),
    };
    match found {
        Ok(m) if m.modelId != B256::ZERO => Ok(m),
        Err(e) if e.module_error().is_none() => Err(e.into()),
        _ => {
            let names = names(chain)?;
            let error = Stop::new(Exit::NotFound, format!("no model `{model}` on this chain"));
            Err(error
                .hint(format!("registered: {}", names.join(", ")))
                .into())
        }
    }
}

/// Names of all lineages that have a registered model.
///
/// # Errors
/// Those of the chain's client.
pub(crate) fn names(chain: &ChainClient) -> anyhow::Result<Vec<String>> {
    let page = chain.call(
        MODELS,
        &IModels::listCall {
            offset: U256::ZERO,
            limit: U256::from(100),
        },
    )?;
    let mut names = Vec::new();
    for id in page.modelIds {
        let model = chain.call(MODELS, &IModels::modelCall { modelId: id })?;
        names.push(
            chain
                .call(MODELS, &IModels::lineageCall { id: model.lineage })?
                .name,
        );
    }
    names.sort();
    names.dedup();
    Ok(names)
}

/// Most operators that are asked for something.
const MAX_OPERATORS: u64 = 50;

/// URLs of the registered operators.
///
/// # Errors
/// Those of the chain's client.
pub(crate) fn endpoints(chain: &ChainClient) -> Result<Vec<String>, ClientError> {
    let page = IStaking::operatorsCall {
        offset: U256::ZERO,
        limit: U256::from(MAX_OPERATORS),
    };
    let mut urls = Vec::new();
    for account in chain.call(STAKING, &page)?.page {
        let known = chain.call(STAKING, &IStaking::operatorCall { account })?;
        urls.push(known.endpoint);
    }
    Ok(urls)
}

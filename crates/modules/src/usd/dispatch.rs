//! ABI of `usd`.

use alloy_primitives::{Bytes, U256};
use assay_abi::IUsd::{self, IUsdCalls as Calls};
use assay_storage::Storage;

use super::authorization::Authorization;
use super::{DECIMALS, NAME, SYMBOL, Usd, VERSION, domain, join};
use crate::Call;
use crate::dispatch::{act, decode, mutate, view};
use crate::error::Ruling;

macro_rules! authorization {
    ($call:ident) => {
        Authorization {
            from: $call.from,
            to: $call.to,
            value: $call.value,
            valid_after: $call.validAfter,
            valid_before: $call.validBefore,
            nonce: $call.nonce,
        }
    };
}

pub(crate) fn call(storage: &mut dyn Storage, call: &Call<'_>) -> Ruling<Bytes> {
    let usd = Usd::new();
    match decode::<Calls>(call.input)? {
        Calls::name(_) => view::<IUsd::nameCall>(call, || Ok(NAME.to_string())),
        Calls::symbol(_) => view::<IUsd::symbolCall>(call, || Ok(SYMBOL.to_string())),
        Calls::decimals(_) => view::<IUsd::decimalsCall>(call, || Ok(DECIMALS)),
        Calls::version(_) => view::<IUsd::versionCall>(call, || Ok(VERSION.to_string())),
        Calls::totalSupply(_) => {
            view::<IUsd::totalSupplyCall>(call, || Ok(U256::from(usd.total_supply.read(storage)?)))
        }
        Calls::balanceOf(c) => {
            view::<IUsd::balanceOfCall>(call, || Ok(U256::from(usd.balance(storage, c.owner)?)))
        }
        Calls::allowance(c) => view::<IUsd::allowanceCall>(call, || {
            Ok(usd.allowances.at(&c.owner).at(&c.spender).read(storage)?)
        }),
        Calls::nonces(c) => view::<IUsd::noncesCall>(call, || {
            Ok(U256::from(usd.nonces.at(&c.owner).read(storage)?))
        }),
        Calls::DOMAIN_SEPARATOR(_) => view::<IUsd::DOMAIN_SEPARATORCall>(call, || {
            Ok(domain(storage.env().chain_id).hash_struct())
        }),
        Calls::authorizationState(c) => view::<IUsd::authorizationStateCall>(call, || {
            Ok(usd
                .authorizations
                .at(&c.authorizer)
                .at(&c.nonce)
                .read(storage)?)
        }),
        Calls::transfer(c) => mutate::<IUsd::transferCall>(storage, call, |storage| {
            usd.move_tokens(storage, call.caller, c.to, c.amount)
                .map(|_| true)
        }),
        Calls::approve(c) => mutate::<IUsd::approveCall>(storage, call, |storage| {
            usd.approve(storage, call.caller, c.spender, c.amount)
                .map(|()| true)
        }),
        Calls::transferFrom(c) => mutate::<IUsd::transferFromCall>(storage, call, |storage| {
            usd.transfer_from(storage, call.caller, c.from, c.to, c.amount)
                .map(|()| true)
        }),
        Calls::permit(c) => act(storage, call, |storage| usd.permit(storage, &c)),
        Calls::transferWithAuthorization_0(c) => act(storage, call, |storage| {
            usd.transfer_authorized(storage, authorization!(c), &join(c.v, c.r, c.s))
        }),
        Calls::transferWithAuthorization_1(c) => act(storage, call, |storage| {
            usd.transfer_authorized(storage, authorization!(c), &c.signature)
        }),
        Calls::receiveWithAuthorization_0(c) => act(storage, call, |storage| {
            usd.receive_authorized(
                storage,
                call.caller,
                authorization!(c),
                &join(c.v, c.r, c.s),
            )
        }),
        Calls::receiveWithAuthorization_1(c) => act(storage, call, |storage| {
            usd.receive_authorized(storage, call.caller, authorization!(c), &c.signature)
        }),
        Calls::cancelAuthorization_0(c) => act(storage, call, |storage| {
            usd.cancel_authorization(storage, c.authorizer, c.nonce, &join(c.v, c.r, c.s))
        }),
        Calls::cancelAuthorization_1(c) => act(storage, call, |storage| {
            usd.cancel_authorization(storage, c.authorizer, c.nonce, &c.signature)
        }),
    }
}

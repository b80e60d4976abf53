//! From calldata to a module's functions, the same way for all of them.

use alloy_primitives::{Bytes, U256};
use alloy_sol_types::{SolCall, SolInterface};
use assay_abi::IErrors;
use assay_storage::{Storage, StorageError};

use crate::error::{Fault, Ruling, require, revert};
use crate::{Call, Modules};

pub(crate) fn dispatch(
    modules: &Modules,
    storage: &mut dyn Storage,
    call: &Call<'_>,
) -> Ruling<Bytes> {
    match call.target {
        assay_abi::PARAMETERS => crate::parameters::dispatch::call(storage, call),
        assay_abi::USD => crate::usd::dispatch::call(storage, call),
        assay_abi::STAKING => crate::staking::dispatch::call(storage, call),
        assay_abi::MODELS => crate::models::dispatch::call(modules, storage, call),
        assay_abi::POOLS => crate::pools::dispatch::call(storage, call),
        assay_abi::CLAIMS => crate::claims::dispatch::call(modules, storage, call),
        assay_abi::DISPUTES => crate::disputes::dispatch::call(modules, storage, call),
        assay_abi::CLOCK => crate::clock::dispatch::call(storage, call),
        assay_abi::BURN => crate::burn::dispatch::call(storage, call),
        _ => Err(Fault::Revert(Bytes::new())),
    }
}

/// Decodes calldata: an unknown selector reverts with no data; everything but the canonical encoding with `BadCalldata`.
pub(crate) fn decode<I: SolInterface>(input: &[u8]) -> Ruling<I> {
    let Some(selector) = input.first_chunk::<4>().copied() else {
        return Err(Fault::Revert(Bytes::new()));
    };
    if !I::valid_selector(selector) {
        return Err(Fault::Revert(Bytes::new()));
    }
    let refuse = || {
        revert(IErrors::BadCalldata {
            selector: selector.into(),
            length: U256::from(input.len()),
        })
    };
    let call = I::abi_decode_validate(input).map_err(|_| refuse())?;
    if call.abi_encode() == input {
        Ok(call)
    } else {
        Err(refuse())
    }
}

fn refuse_value(call: &Call<'_>) -> Ruling<()> {
    require(call.value.is_zero(), || IErrors::NotPayable {
        value: call.value,
    })
}

/// A function that changes nothing.
pub(crate) fn view<C: SolCall>(
    call: &Call<'_>,
    rule: impl FnOnce() -> Ruling<C::Return>,
) -> Ruling<Bytes> {
    refuse_value(call)?;
    Ok(C::abi_encode_returns(&rule()?).into())
}

/// A function that changes state and takes no native coin.
pub(crate) fn mutate<C: SolCall>(
    storage: &mut dyn Storage,
    call: &Call<'_>,
    rule: impl FnOnce(&mut dyn Storage) -> Ruling<C::Return>,
) -> Ruling<Bytes> {
    refuse_value(call)?;
    payable::<C>(storage, rule)
}

/// A function that changes state and may receive native coin.
pub(crate) fn payable<C: SolCall>(
    storage: &mut dyn Storage,
    rule: impl FnOnce(&mut dyn Storage) -> Ruling<C::Return>,
) -> Ruling<Bytes> {
    if storage.is_static() {
        return Err(StorageError::Static.into());
    }
    Ok(C::abi_encode_returns(&rule(storage)?).into())
}

/// [`mutate`] for a function without return values.
pub(crate) fn act(
    storage: &mut dyn Storage,
    call: &Call<'_>,
    rule: impl FnOnce(&mut dyn Storage) -> Ruling<()>,
) -> Ruling<Bytes> {
    refuse_value(call)?;
    act_payable(storage, rule)
}

/// [`payable`] for a function without return values.
pub(crate) fn act_payable(
    storage: &mut dyn Storage,
    rule: impl FnOnce(&mut dyn Storage) -> Ruling<()>,
) -> Ruling<Bytes> {
    if storage.is_static() {
        return Err(StorageError::Static.into());
    }
    rule(storage).map(|()| Bytes::new())
}

//! ABI of `parameters`.

use alloy_primitives::Bytes;
use assay_abi::IParameters::{IParametersCalls as Calls, allCall, parameterCall, treasuryCall};
use assay_storage::Storage;

use super::Parameters;
use crate::Call;
use crate::dispatch::{decode, view};
use crate::error::Ruling;

pub(crate) fn call(storage: &mut dyn Storage, call: &Call<'_>) -> Ruling<Bytes> {
    let module = Parameters::new();
    match decode::<Calls>(call.input)? {
        Calls::parameter(c) => view::<parameterCall>(call, || module.find(storage, &c.name)),
        Calls::all(_) => view::<allCall>(call, || Ok(module.rows(storage)?)),
        Calls::treasury(_) => view::<treasuryCall>(call, || Ok(module.treasury.read(storage)?)),
    }
}

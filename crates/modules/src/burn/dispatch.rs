//! ABI of `burn`.

use alloy_primitives::{Bytes, U256};
use assay_abi::IBurn::{
    IBurnCalls as Calls, burnedByCall, burnedCall, usdReserveCall, usdReservedByCall,
};
use assay_storage::Storage;

use super::Burn;
use crate::Call;
use crate::dispatch::{decode, view};
use crate::error::Ruling;

pub(crate) fn call(storage: &mut dyn Storage, call: &Call<'_>) -> Ruling<Bytes> {
    let burn = Burn::new();
    match decode::<Calls>(call.input)? {
        Calls::burned(_) => view::<burnedCall>(call, || Ok(U256::from(burn.native.read(storage)?))),
        Calls::burnedBy(c) => view::<burnedByCall>(call, || {
            Ok(U256::from(burn.native_by.at(&c.cause).read(storage)?))
        }),
        Calls::usdReserve(_) => {
            view::<usdReserveCall>(call, || Ok(U256::from(burn.usd.read(storage)?)))
        }
        Calls::usdReservedBy(c) => view::<usdReservedByCall>(call, || {
            Ok(U256::from(burn.usd_by.at(&c.cause).read(storage)?))
        }),
    }
}

//! ABI of `clock`.

use alloy_primitives::Bytes;
use assay_abi::IClock::{IClockCalls as Calls, blockMsCall, nowMsCall, nowSecondsCall};
use assay_storage::Storage;

use super::Clock;
use crate::Call;
use crate::dispatch::{decode, view};
use crate::error::Ruling;

pub(crate) fn call(storage: &mut dyn Storage, call: &Call<'_>) -> Ruling<Bytes> {
    let clock = Clock::new();
    match decode::<Calls>(call.input)? {
        Calls::nowMs(_) => view::<nowMsCall>(call, || Ok(clock.now_ms.read(storage)?)),
        Calls::nowSeconds(_) => {
            view::<nowSecondsCall>(call, || Ok(clock.now_ms.read(storage)? / 1_000))
        }
        Calls::blockMs(_) => view::<blockMsCall>(call, || Ok(clock.block_ms.read(storage)?)),
    }
}

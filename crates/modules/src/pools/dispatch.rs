//! ABI of `pools`.

use alloy_primitives::{Bytes, U256};
use assay_abi::IPools::{self, IPoolsCalls as Calls};
use assay_storage::Storage;

use super::{Pools, epoch};
use crate::Call;
use crate::dispatch::{decode, mutate, payable, view};
use crate::error::Ruling;

pub(crate) fn call(storage: &mut dyn Storage, call: &Call<'_>) -> Ruling<Bytes> {
    let pools = Pools::new();
    let caller = call.caller;
    match decode::<Calls>(call.input)? {
        Calls::deposit(c) => payable::<IPools::depositCall>(storage, |storage| {
            pools.deposit(storage, caller, c.lineage, call.value)
        }),
        Calls::claim(c) => mutate::<IPools::claimCall>(storage, call, |storage| {
            pools.claim(storage, caller, c.lineage)
        }),
        Calls::unbond(c) => mutate::<IPools::unbondCall>(storage, call, |storage| {
            pools.unbond(storage, caller, c.lineage, c.shares)
        }),
        Calls::withdraw(c) => mutate::<IPools::withdrawCall>(storage, call, |storage| {
            pools.withdraw(storage, caller, c.lineage)
        }),
        Calls::pool(c) => view::<IPools::poolCall>(call, || pools.view(storage, c.lineage)),
        Calls::stake(c) => {
            view::<IPools::stakeCall>(call, || pools.view_stake(storage, c.lineage, c.account))
        }
        Calls::epoch(_) => view::<IPools::epochCall>(call, || epoch(storage)),
        Calls::escrowTotal(_) => view::<IPools::escrowTotalCall>(call, || {
            let native = U256::from(pools.held.read(storage)?);
            Ok(IPools::escrowTotalReturn {
                native,
                usd: U256::from(pools.held_usd.read(storage)?),
            })
        }),
    }
}

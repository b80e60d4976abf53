//! ABI of `staking`.

use alloy_primitives::{Bytes, U256};
use assay_abi::IStaking::{self, IStakingCalls as Calls};
use assay_storage::Storage;

use super::{MAX_PAGE, Staking};
use crate::Call;
use crate::dispatch::{act, act_payable, decode, mutate, view};
use crate::error::Ruling;

pub(crate) fn call(storage: &mut dyn Storage, call: &Call<'_>) -> Ruling<Bytes> {
    let staking = Staking::new();
    let caller = call.caller;
    match decode::<Calls>(call.input)? {
        Calls::register(c) => act_payable(storage, |storage| {
            staking.register(storage, caller, call.value, c.receiptKey, &c.endpoint)
        }),
        Calls::bond(_) => act_payable(storage, |storage| staking.bond(storage, caller, call.value)),
        Calls::rotateKey(c) => act(storage, call, |storage| {
            staking.rotate_key(storage, caller, c.receiptKey)
        }),
        Calls::setEndpoint(c) => act(storage, call, |storage| {
            staking.set_endpoint(storage, caller, &c.endpoint)
        }),
        Calls::unbond(c) => act(storage, call, |storage| {
            staking.unbond(storage, caller, c.amount)
        }),
        Calls::withdraw(_) => mutate::<IStaking::withdrawCall>(storage, call, |storage| {
            staking.withdraw(storage, caller)
        }),
        Calls::operator(c) => {
            view::<IStaking::operatorCall>(call, || staking.view(storage, c.account))
        }
        Calls::operators(c) => view::<IStaking::operatorsCall>(call, || {
            let (offset, limit) = (
                c.offset.saturating_to(),
                c.limit.saturating_to::<u64>().min(MAX_PAGE),
            );
            let page = staking.operators.page(storage, offset, limit)?;
            Ok(IStaking::operatorsReturn {
                page,
                total: U256::from(staking.operators.len(storage)?),
            })
        }),
        Calls::key(c) => view::<IStaking::keyCall>(call, || {
            let record = staking.keys.at(&c.receiptKey);
            let (operator, from) = (record.operator.read(storage)?, record.from.read(storage)?);
            Ok(IStaking::Key {
                operator,
                from,
                until: record.until.read(storage)?,
            })
        }),
        Calls::freeStake(c) => view::<IStaking::freeStakeCall>(call, || {
            let record = staking.records.at(&c.account);
            staking.free(storage, &record).map(U256::from)
        }),
        Calls::unbondings(c) => {
            view::<IStaking::unbondingsCall>(call, || staking.view_unbondings(storage, c.account))
        }
        Calls::escrowTotal(_) => {
            view::<IStaking::escrowTotalCall>(call, || Ok(U256::from(staking.held.read(storage)?)))
        }
    }
}

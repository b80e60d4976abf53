//! ABI of `disputes`.

use alloy_primitives::{Bytes, U256};
use assay_abi::IDisputes::{self, IDisputesCalls as Calls};
use assay_storage::Storage;

use super::Disputes;
use crate::claims::Claims;
use crate::dispatch::{act, decode, payable, view};
use crate::error::Ruling;
use crate::{Call, Modules};

/// Longest page of a list.
pub const MAX_PAGE: u64 = 256;

pub(crate) fn call(modules: &Modules, storage: &mut dyn Storage, call: &Call<'_>) -> Ruling<Bytes> {
    let disputes = Disputes::new();
    let arbiter = modules.arbiter.as_ref();
    let caller = call.caller;
    match decode::<Calls>(call.input)? {
        Calls::challenge(c) => payable::<IDisputes::challengeCall>(storage, |storage| {
            disputes.challenge(storage, caller, call.value, c.claimId)
        }),
        Calls::trace(c) => act(storage, call, |storage| {
            disputes.trace(storage, caller, c.id, c.root)
        }),
        Calls::postLeaves(c) => act(storage, call, |storage| {
            disputes.post_leaves(storage, caller, c.id, c.leaves)
        }),
        Calls::name(c) => act(storage, call, |storage| {
            disputes.name(storage, arbiter, caller, c.id, &c.leaves, c.leaf)
        }),
        Calls::reveal(c) => act(storage, call, |storage| {
            disputes.reveal(storage, caller, c.id, c.children)
        }),
        Calls::pick(c) => act(storage, call, |storage| {
            disputes.pick(storage, arbiter, caller, c.id, &c.children, c.j)
        }),
        Calls::segment(c) => act(storage, call, |storage| {
            disputes.segment(storage, arbiter, caller, c.id, c.root, &c.path)
        }),
        Calls::open(c) => act(storage, call, |storage| {
            disputes.open(storage, caller, c.id, &c.blockBytes)
        }),
        Calls::proveElement(c) => act(storage, call, |storage| {
            disputes.prove_element(storage, arbiter, caller, c.id, &c.blockBytes, &c.evidence)
        }),
        Calls::proveBlock(c) => act(storage, call, |storage| {
            disputes.prove_block(storage, arbiter, caller, &c)
        }),
        Calls::timeout(c) => act(storage, call, |storage| disputes.timeout(storage, c.id)),
        Calls::close(c) => act(storage, call, |storage| disputes.close(storage, c.id)),
        Calls::dispute(c) => view::<IDisputes::disputeCall>(call, || disputes.view(storage, c.id)),
        Calls::disputesOf(c) => view::<IDisputes::disputesOfCall>(call, || {
            let list = disputes.by_claim.at(&c.claimId);
            let (offset, limit) = (
                c.offset.saturating_to(),
                c.limit.saturating_to::<u64>().min(MAX_PAGE),
            );
            let ids = list.page(storage, offset, limit)?;
            Ok(IDisputes::disputesOfReturn {
                ids,
                total: U256::from(list.len(storage)?),
            })
        }),
        Calls::count(_) => {
            view::<IDisputes::countCall>(call, || Ok(U256::from(disputes.count.read(storage)?)))
        }
        Calls::bondOf(c) => view::<IDisputes::bondOfCall>(call, || {
            let claim = Claims::new().known(storage, c.claimId)?;
            disputes.bond_of(storage, &claim).map(U256::from)
        }),
        Calls::escrowTotal(_) => view::<IDisputes::escrowTotalCall>(call, || {
            Ok(U256::from(disputes.held.read(storage)?))
        }),
    }
}

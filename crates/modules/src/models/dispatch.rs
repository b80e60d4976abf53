//! ABI of `models`.

use alloy_primitives::{Bytes, U256, keccak256};
use assay_abi::IModels::{self, IModelsCalls as Calls};
use assay_storage::Storage;

use super::{MAX_PAGE, Models};
use crate::dispatch::{act, decode, mutate, view};
use crate::error::Ruling;
use crate::{Call, Modules};

pub(crate) fn call(modules: &Modules, storage: &mut dyn Storage, call: &Call<'_>) -> Ruling<Bytes> {
    let models = Models::new();
    let (caller, proofs) = (call.caller, modules.proofs.as_ref());
    match decode::<Calls>(call.input)? {
        Calls::register(c) => mutate::<IModels::registerCall>(storage, call, |storage| {
            models.register(storage, modules.arbiter.as_ref(), caller, &c)
        }),
        Calls::setPrice(c) => act(storage, call, |storage| {
            models.set_price(storage, caller, c.modelId, c.price)
        }),
        Calls::setUri(c) => act(storage, call, |storage| {
            models.set_uri(storage, caller, c.modelId, &c.uri)
        }),
        Calls::setCommission(c) => act(storage, call, |storage| {
            models.set_commission(storage, caller, c.lineage, c.commissionBps)
        }),
        Calls::setMaker(c) => act(storage, call, |storage| {
            models.set_maker(storage, caller, c.lineage, c.maker)
        }),
        Calls::model(c) => view::<IModels::modelCall>(call, || models.view(storage, c.modelId)),
        Calls::structure(c) => view::<IModels::structureCall>(call, || {
            let facts = models.facts(storage, c.modelId)?;
            models.structure(storage, facts.structure).map(Bytes::from)
        }),
        Calls::exists(c) => view::<IModels::existsCall>(call, || {
            Ok(!models
                .models
                .at(&c.modelId)
                .lineage
                .read(storage)?
                .is_zero())
        }),
        Calls::lineage(c) => {
            view::<IModels::lineageCall>(call, || models.view_lineage(storage, c.id))
        }
        Calls::lineageByName(c) => view::<IModels::lineageByNameCall>(call, || {
            models.view_lineage(storage, keccak256(c.name.as_bytes()))
        }),
        Calls::byName(c) => view::<IModels::byNameCall>(call, || models.by_name(storage, &c.name)),
        Calls::versionOf(c) => {
            view::<IModels::versionOfCall>(call, || models.version_of(storage, c.id, c.number))
        }
        Calls::setProofKey(c) => mutate::<IModels::setProofKeyCall>(storage, call, |storage| {
            models.set_proof_key(storage, proofs, caller, c.modelId, &c.key)
        }),
        Calls::announceProofKey(c) => act(storage, call, |storage| {
            models.announce_proof_key(storage, caller, &c)
        }),
        Calls::addProofKeyPart(c) => {
            mutate::<IModels::addProofKeyPartCall>(storage, call, |storage| {
                models.add_proof_key_part(storage, proofs, &c)
            })
        }
        Calls::proofKeyBytes(c) => {
            view::<IModels::proofKeyBytesCall>(call, || models.view_key_bytes(storage, &c))
        }
        Calls::proofKeyParts(c) => {
            view::<IModels::proofKeyPartsCall>(call, || models.view_key_parts(storage, c.modelId))
        }
        Calls::attestProofKey(c) => act(storage, call, |storage| {
            models.attest_proof_key(storage, caller, c.modelId, c.keyId)
        }),
        Calls::proofKey(c) => {
            view::<IModels::proofKeyCall>(call, || models.view_proof_key(storage, c.modelId))
        }
        Calls::hasAttested(c) => view::<IModels::hasAttestedCall>(call, || {
            Ok(models.attested.at(&c.keyId).at(&c.operator).read(storage)?)
        }),
        Calls::verifyProof(c) => view::<IModels::verifyProofCall>(call, || {
            models.verify_proof(storage, proofs, &c.proof)
        }),
        Calls::list(c) => view::<IModels::listCall>(call, || {
            let (offset, limit) = (
                c.offset.saturating_to(),
                c.limit.saturating_to::<u64>().min(MAX_PAGE),
            );
            let ids = models.all.page(storage, offset, limit)?;
            Ok(IModels::listReturn {
                modelIds: ids,
                total: U256::from(models.all.len(storage)?),
            })
        }),
    }
}

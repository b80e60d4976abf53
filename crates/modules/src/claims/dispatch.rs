//! ABI of `claims`.

use alloy_primitives::{B256, Bytes, U256};
use alloy_sol_types::SolStruct;
use assay_abi::IClaims::{self, IClaimsCalls as Calls};
use assay_abi::{IErrors, RECEIPT_WORDS, Receipt};
use assay_storage::Storage;

use super::assertion::required_exposure;
use super::{Claims, domain, line_id};
use crate::dispatch::{act, decode, mutate, view};
use crate::error::{Fault, Ruling, require, revert};
use crate::{Call, Modules};

/// Most claims of one `finalizeMany`.
pub const MAX_MANY: usize = 64;

fn receipt(words: &[B256; RECEIPT_WORDS]) -> Ruling<Receipt> {
    Receipt::from_words(words).map_err(|error| {
        let value = U256::from_be_bytes(error.word.0);
        revert(IErrors::OutOfBounds {
            what: error.field.to_string(),
            value,
            low: U256::ZERO,
            high: U256::ZERO,
        })
    })
}

pub(crate) fn call(modules: &Modules, storage: &mut dyn Storage, call: &Call<'_>) -> Ruling<Bytes> {
    let claims = Claims::new();
    let arbiter = modules.arbiter.as_ref();
    let caller = call.caller;
    match decode::<Calls>(call.input)? {
        Calls::deposit(c) => act(storage, call, |storage| {
            claims.deposit(storage, caller, caller, c.amount)
        }),
        Calls::depositFor(c) => act(storage, call, |storage| {
            claims.deposit(storage, caller, c.buyer, c.amount)
        }),
        Calls::depositWithAuthorization(c) => act(storage, call, |storage| {
            claims.deposit_authorized(storage, &c)
        }),
        Calls::announceWithdrawal(c) => act(storage, call, |storage| {
            claims.announce_withdrawal(storage, caller, c.amount)
        }),
        Calls::withdraw(c) => act(storage, call, |storage| {
            claims.withdraw(storage, caller, c.amount)
        }),
        Calls::authorizeSigner(c) => act(storage, call, |storage| {
            claims.authorize_signer(storage, caller, c.signer, c.until)
        }),
        Calls::assertSingle(c) => mutate::<IClaims::assertSingleCall>(storage, call, |storage| {
            let receipt = receipt(&c.receipt)?;
            claims.assert(
                storage,
                arbiter,
                &receipt,
                &c.signature,
                &c.request,
                &c.requestSignature,
            )
        }),
        Calls::assertWithLeaves(c) => {
            mutate::<IClaims::assertWithLeavesCall>(storage, call, |storage| {
                let receipt = receipt(&c.receipt)?;
                let claim_id = claims.assert(
                    storage,
                    arbiter,
                    &receipt,
                    &c.signature,
                    &c.request,
                    &c.requestSignature,
                )?;
                claims.check_leaves(storage, claim_id, &receipt, &c.leaves)?;
                Ok(claim_id)
            })
        }
        Calls::finalize(c) => act(storage, call, |storage| claims.finalize(storage, c.claimId)),
        Calls::finalizeMany(c) => mutate::<IClaims::finalizeManyCall>(storage, call, |storage| {
            finalize_many(&claims, storage, &c.claimIds)
        }),
        Calls::skip(c) => act(storage, call, |storage| {
            claims.skip(storage, &receipt(&c.receipt)?, &c.signature)
        }),
        Calls::equivocation(c) => act(storage, call, |storage| {
            let (first, second) = (receipt(&c.first)?, receipt(&c.second)?);
            claims.equivocation(
                storage,
                caller,
                (&first, &c.firstSignature),
                (&second, &c.secondSignature),
            )
        }),
        Calls::answerWithProof(c) => act(storage, call, |storage| {
            let proofs = modules.proofs.as_ref();
            claims.answer_with_proof(storage, proofs, c.claimId, c.salt, &c.proof)
        }),
        Calls::expire(c) => act(storage, call, |storage| claims.expire(storage, c.claimId)),
        Calls::isProven(c) => view::<IClaims::isProvenCall>(call, || {
            Ok(claims.claims.at(&c.claimId).proven.read(storage)?)
        }),
        Calls::proofContext(c) => view::<IClaims::proofContextCall>(call, || {
            claims.proof_context(storage, c.claimId).map(Bytes::from)
        }),
        Calls::claim(c) => view::<IClaims::claimCall>(call, || claims.view(storage, c.claimId)),
        Calls::balanceOf(c) => view::<IClaims::balanceOfCall>(call, || {
            Ok(U256::from(claims.balances.at(&c.buyer).read(storage)?))
        }),
        Calls::withdrawalOf(c) => view::<IClaims::withdrawalOfCall>(call, || {
            let record = claims.withdrawals.at(&c.buyer);
            let amount = U256::from(record.amount.read(storage)?);
            Ok(IClaims::withdrawalOfReturn {
                amount,
                readyAt: record.ready_at.read(storage)?,
            })
        }),
        Calls::signerUntil(c) => view::<IClaims::signerUntilCall>(call, || {
            Ok(claims
                .signers
                .at(&c.requester)
                .at(&c.signer)
                .read(storage)?)
        }),
        Calls::line(c) => view::<IClaims::lineCall>(call, || claims.view_line(storage, c.lineId)),
        Calls::lineIdOf(c) => {
            view::<IClaims::lineIdOfCall>(call, || Ok(line_id(c.operator, c.requester)))
        }
        Calls::requiredExposure(c) => view::<IClaims::requiredExposureCall>(call, || {
            required_exposure(storage, c.fee, c.valueAtRisk, c.auditPpm)
        }),
        Calls::receiptHash(c) => view::<IClaims::receiptHashCall>(call, || {
            let receipt = receipt(&c.receipt)?;
            let digest = receipt.signing_hash(&domain(storage));
            Ok(IClaims::receiptHashReturn {
                claimId: receipt.struct_hash(),
                digest,
            })
        }),
        Calls::requestHash(c) => view::<IClaims::requestHashCall>(call, || {
            let digest = c.request.eip712_signing_hash(&domain(storage));
            Ok(IClaims::requestHashReturn {
                structHash: c.request.eip712_hash_struct(),
                digest,
            })
        }),
        Calls::DOMAIN_SEPARATOR(_) => {
            view::<IClaims::DOMAIN_SEPARATORCall>(call, || Ok(domain(storage).hash_struct()))
        }
        Calls::escrowTotal(_) => view::<IClaims::escrowTotalCall>(call, || {
            let balances = U256::from(claims.total_balances.read(storage)?);
            Ok(IClaims::escrowTotalReturn {
                balances,
                fees: U256::from(claims.total_fees.read(storage)?),
            })
        }),
    }
}

/// Finalises those that can be; the others stay as they are.
fn finalize_many(claims: &Claims, storage: &mut dyn Storage, ids: &[B256]) -> Ruling<U256> {
    let value = U256::from(ids.len());
    let bounds = || IErrors::OutOfBounds {
        what: "claimIds".to_string(),
        value,
        low: U256::ZERO,
        high: U256::from(MAX_MANY),
    };
    require(ids.len() <= MAX_MANY, bounds)?;
    let mut done = U256::ZERO;
    for claim_id in ids {
        let checkpoint = storage.checkpoint();
        match claims.finalize(storage, *claim_id) {
            Ok(()) => {
                storage.commit_to(checkpoint);
                done = done.saturating_add(U256::ONE);
            }
            Err(Fault::Revert(_)) => storage.revert_to(checkpoint),
            Err(fault) => return Err(fault),
        }
    }
    Ok(done)
}

//! From a signed receipt to a claim. Checks in the order of their cost.

use alloy_primitives::{Address, B256, U256};
use alloy_sol_types::SolStruct;
use assay_abi::{IClaims, IErrors, Receipt, Request, zk_evidence};
use assay_storage::Storage;

use super::{Claims, TIER_ZK, add, domain, emit, line_id, overflow, state, sub};
use crate::amount::mul_div_ceil;
use crate::error::{Ruling, require, revert};
use crate::models::Models;
use crate::parameters::{PPM, Parameters, to_stake};
use crate::signature::signer;
use crate::staking::Staking;
use crate::tree::{hash_gas, root_of};
use crate::{Arbiter, RunSize, clock};

/// Format of receipts and requests understood here.
pub const VERSION: u8 = 1;
/// Tiers settled here: signed, optimistic, zk.
pub const TIERS: [u8; 3] = [0, 1, TIER_ZK];
/// Flags with a meaning.
pub const KNOWN_FLAGS: u16 = 0x000f;
/// Number of a request that leaves its place in the line to the operator.
pub const OPEN: u64 = 0;
/// Most leaves of a flat list.
pub const MAX_FLAT: u64 = 1_024;

/// Least exposure in usd: `max(F, ceil(F * (1 - p_d) / p_d))` for `F = fee + value at risk`, `p_d = p * detection`.
fn required_usd(terms: u128, audit_ppm: u128, detection_ppm: u128) -> Option<u128> {
    let caught = audit_ppm.checked_mul(detection_ppm)?;
    let missed = PPM.checked_mul(PPM)?.checked_sub(caught)?;
    Some(mul_div_ceil(terms, missed, caught)?.max(terms))
}

/// Least exposure in stake.
pub(super) fn required_exposure(
    storage: &mut dyn Storage,
    fee: u128,
    value: u128,
    audit_ppm: u32,
) -> Ruling<u128> {
    let detection = Parameters::new().detection_ppm.read(storage)?;
    let terms = fee.checked_add(value);
    let usd = terms.and_then(|terms| required_usd(terms, audit_ppm.into(), detection.into()));
    to_stake(storage, usd.ok_or_else(|| overflow("exposure"))?)
}

/// Fields that stand by themselves.
fn check_form(storage: &mut dyn Storage, receipt: &Receipt) -> Ruling<()> {
    require(receipt.version == VERSION, || IClaims::UnsupportedVersion {
        have: receipt.version,
        want: VERSION,
    })?;
    require(TIERS.contains(&receipt.tier), || IClaims::UnsupportedTier {
        tier: receipt.tier,
    })?;
    require(receipt.flags & !KNOWN_FLAGS == 0, || IClaims::BadFlags {
        flags: receipt.flags,
    })?;
    let line = line_id(receipt.operator, receipt.requester);
    require(receipt.line_id == line, || IClaims::WrongLine {
        have: receipt.line_id,
        want: line,
    })?;
    let evidence = receipt.evidence_hash.is_zero() || receipt.tier == TIER_ZK;
    require(evidence, || IClaims::UnexpectedEvidence {
        evidenceHash: receipt.evidence_hash,
    })?;
    let traced = receipt.tier != 1 || !receipt.trace_root.is_zero();
    require(traced, || IClaims::MissingTrace { tier: receipt.tier })?;
    let parameters = Parameters::new();
    let (low, high) = (
        parameters.window_min_s.read(storage)?,
        parameters.window_max_s.read(storage)?,
    );
    let window = u64::from(receipt.window);
    let bounds = || IClaims::WindowRange {
        window: receipt.window,
        low: u32::try_from(low).unwrap_or(u32::MAX),
        high: u32::try_from(high).unwrap_or(u32::MAX),
    };
    require(window >= low && window <= high, bounds)?;
    let base = u32::try_from(parameters.audit_base_ppm.read(storage)?).unwrap_or(u32::MAX);
    require(receipt.audit_ppm >= base, || IClaims::AuditBelowBase {
        auditPpm: receipt.audit_ppm,
        base,
    })?;
    let (value, low, high) = (
        U256::from(receipt.audit_ppm),
        U256::from(base),
        U256::from(PPM),
    );
    require(value <= high, || IErrors::OutOfBounds {
        what: "auditPpm".to_string(),
        value,
        low,
        high,
    })?;
    let delay = parameters.include_by_max_s.read(storage)?;
    let latest = receipt.issued_at.saturating_add(delay);
    let (issued_at, include_by) = (receipt.issued_at, receipt.include_by);
    let range = || IClaims::IncludeByRange {
        issuedAt: issued_at,
        includeBy: include_by,
        maxDelay: delay,
    };
    require(include_by >= issued_at && include_by <= latest, range)
}

/// The receipt names the key under which it will be proven, and proofs under it are accepted.
fn check_proof_key(storage: &mut dyn Storage, receipt: &Receipt) -> Ruling<()> {
    let key_id = Models::new().usable_key_id(storage, receipt.model_id)?;
    require(receipt.evidence_hash == zk_evidence(key_id), || {
        IClaims::UnexpectedEvidence {
            evidenceHash: receipt.evidence_hash,
        }
    })
}

/// The receipt answers the request and stays within it.
fn check_request(receipt: &Receipt, request: &Request) -> Ruling<()> {
    require(request.version == VERSION, || IClaims::UnsupportedVersion {
        have: request.version,
        want: VERSION,
    })?;
    let same = [
        ("lineId", receipt.line_id == request.lineId),
        ("seq", request.seq == OPEN || receipt.seq == request.seq),
        ("modelId", receipt.model_id == request.modelId),
        ("semantics", receipt.semantics == request.semantics),
        ("inputCommit", receipt.input_commit == request.inputCommit),
        (
            "samplingHash",
            receipt.sampling_hash == request.samplingHash,
        ),
        ("maxOut", receipt.n_out <= request.maxOut),
        ("valueAtRisk", receipt.value_at_risk == request.valueAtRisk),
        ("auditPpm", receipt.audit_ppm >= request.auditPpm),
        ("window", receipt.window >= request.window),
    ];
    if let Some((field, _)) = same.into_iter().find(|(_, holds)| !holds) {
        return Err(revert(IClaims::RequestMismatch {
            field: field.to_string(),
        }));
    }
    let asked = (request.tierMask >> receipt.tier) & 1 == 1;
    require(asked, || IClaims::TierNotRequested {
        tier: receipt.tier,
        tierMask: request.tierMask,
    })?;
    let (fee, most) = (receipt.fee, request.maxFee);
    require(fee <= most, || IClaims::FeeAboveMax { fee, maxFee: most })?;
    let (expiry, issued_at) = (request.expiry, receipt.issued_at);
    require(issued_at <= expiry, || IClaims::RequestExpired {
        expiry,
        issuedAt: issued_at,
    })?;
    let hash = request.eip712_hash_struct();
    require(receipt.request_hash == hash, || {
        IClaims::RequestHashMismatch {
            have: receipt.request_hash,
            want: hash,
        }
    })
}

/// Signed by a key that was the operator's at `issuedAt`.
fn check_receipt_key(storage: &mut dyn Storage, receipt: &Receipt, signature: &[u8]) -> Ruling<()> {
    let digest = receipt.signing_hash(&domain(storage));
    let key = signer(storage, digest, signature)?;
    let record = Staking::new().keys.at(&key);
    let (operator, from, until) = (
        record.operator.read(storage)?,
        record.from.read(storage)?,
        record.until.read(storage)?,
    );
    require(operator == receipt.operator, || IClaims::WrongSigner {
        signer: key,
        expected: receipt.operator,
    })?;
    let issued_at = receipt.issued_at;
    let started = from / 1_000 <= issued_at;
    let ended = until != 0 && issued_at.saturating_mul(1_000) >= until;
    require(started && !ended, || IClaims::KeyNotValid {
        key,
        issuedAt: issued_at,
        from,
        until,
    })
}

impl Claims {
    /// Asserts a receipt; see the module's table.
    pub(super) fn assert(
        &self,
        storage: &mut dyn Storage,
        arbiter: &dyn Arbiter,
        receipt: &Receipt,
        signature: &[u8],
        request: &Request,
        request_signature: &[u8],
    ) -> Ruling<B256> {
        check_form(storage, receipt)?;
        check_request(receipt, request)?;
        let now = clock::now(storage)?;
        let include_by = receipt.include_by;
        require(include_by >= now / 1_000, || IClaims::IncludeByPassed {
            includeBy: include_by,
            now: now / 1_000,
        })?;
        let claim_id = receipt.struct_hash();
        let unknown = self.claims.at(&claim_id).state.read(storage)? == state::NONE;
        require(unknown, || IClaims::ClaimExists { claimId: claim_id })?;
        self.spend_open(storage, receipt.request_hash, request)?;
        self.advance_line(storage, receipt)?;
        check_receipt_key(storage, receipt, signature)?;
        self.check_request_signer(storage, receipt.requester, request, request_signature, now)?;
        self.check_model(storage, arbiter, receipt)?;
        let need = if receipt.tier == TIER_ZK {
            check_proof_key(storage, receipt)?;
            to_stake(storage, receipt.fee)?
        } else {
            required_exposure(
                storage,
                receipt.fee,
                receipt.value_at_risk,
                receipt.audit_ppm,
            )?
        };
        require(receipt.exposure >= need, || IClaims::ExposureTooSmall {
            exposure: receipt.exposure,
            need,
        })?;
        let generation = Staking::new().lock(storage, receipt.operator, receipt.exposure)?;
        self.debit(storage, receipt.requester, U256::from(receipt.fee))?;
        add(storage, self.total_fees, receipt.fee)?;
        self.write_claim(storage, claim_id, receipt, generation, now)?;
        let words = receipt.to_words();
        emit(
            storage,
            &IClaims::ReceiptPosted {
                claimId: claim_id,
                receipt: words,
                signature: signature.to_vec().into(),
            },
        )?;
        Ok(claim_id)
    }

    /// Checks a flat leaf list that accompanies an assertion.
    pub(super) fn check_leaves(
        &self,
        storage: &mut dyn Storage,
        claim_id: B256,
        receipt: &Receipt,
        leaves: &[B256],
    ) -> Ruling<()> {
        let count = leaves.len() as u64;
        let right = count == receipt.n_leaves && count <= MAX_FLAT;
        require(right, || IClaims::LeafCountMismatch {
            have: count,
            want: receipt.n_leaves,
        })?;
        storage.charge(hash_gas(64).saturating_mul(count.saturating_mul(2)))?;
        let root = root_of(leaves);
        require(root == receipt.trace_root, || IClaims::LeavesMismatch {
            root,
            want: receipt.trace_root,
        })?;
        let ends = leaves.first() == Some(&receipt.input_commit)
            && leaves.last() == Some(&receipt.output_commit);
        require(ends, || IClaims::LeavesMismatch {
            root: receipt.input_commit,
            want: receipt.output_commit,
        })?;
        emit(
            storage,
            &IClaims::LeavesPosted {
                claimId: claim_id,
                count,
            },
        )
    }

    /// An open request has no place in the line that could keep it from being used twice: its hash is remembered.
    fn spend_open(
        &self,
        storage: &mut dyn Storage,
        request_hash: B256,
        request: &Request,
    ) -> Ruling<()> {
        if request.seq != OPEN {
            return Ok(());
        }
        let spent = self.spent.at(&request_hash);
        let before = spent.read(storage)?;
        require(!before, || IClaims::RequestSpent {
            requestHash: request_hash,
        })?;
        Ok(spent.write(storage, true)?)
    }

    /// The receipt is next in its line and sums up its exposure.
    fn advance_line(&self, storage: &mut dyn Storage, receipt: &Receipt) -> Ruling<()> {
        let line = self.lines.at(&receipt.line_id);
        let next = line
            .asserted_seq
            .read(storage)?
            .checked_add(1)
            .ok_or_else(|| overflow("line"))?;
        let (line_id, have) = (receipt.line_id, receipt.seq);
        require(have == next, || IClaims::SeqGap {
            lineId: line_id,
            have,
            want: next,
        })?;
        let sum = line
            .cum_exposure
            .read(storage)?
            .checked_add(receipt.exposure)
            .ok_or_else(|| overflow("cumExposure"))?;
        let have = receipt.cum_exposure;
        require(have == sum, || IClaims::CumExposureMismatch {
            have,
            want: sum,
        })?;
        line.asserted_seq.write(storage, next)?;
        Ok(line.cum_exposure.write(storage, sum)?)
    }

    /// Signed by the requester or by a key that it authorised.
    fn check_request_signer(
        &self,
        storage: &mut dyn Storage,
        requester: Address,
        request: &Request,
        signature: &[u8],
        now: u64,
    ) -> Ruling<()> {
        let digest = request.eip712_signing_hash(&domain(storage));
        let asker = signer(storage, digest, signature)?;
        let allowed = asker == requester
            || now / 1_000 < self.signers.at(&requester).at(&asker).read(storage)?;
        require(allowed, || IClaims::WrongSigner {
            signer: asker,
            expected: requester,
        })
    }

    fn check_model(
        &self,
        storage: &mut dyn Storage,
        arbiter: &dyn Arbiter,
        receipt: &Receipt,
    ) -> Ruling<()> {
        let models = Models::new();
        let facts = models.facts(storage, receipt.model_id)?;
        let (have, want) = (receipt.semantics, facts.semantics);
        require(have == want, || IClaims::SemanticsMismatch { have, want })?;
        let (have, limit) = (receipt.n_in, facts.max_seq);
        require(have >= 1 && have <= limit, || IClaims::SeqTooLong {
            have,
            limit,
        })?;
        let size = RunSize {
            n_in: receipt.n_in,
            n_out: receipt.n_out,
        };
        let want = models.committed_leaves(storage, arbiter, receipt.model_id, &facts, size)?;
        let have = receipt.n_leaves;
        require(have == want, || IClaims::LeafCountMismatch { have, want })
    }

    fn write_claim(
        &self,
        storage: &mut dyn Storage,
        claim_id: B256,
        receipt: &Receipt,
        generation: u32,
        now: u64,
    ) -> Ruling<()> {
        let deadline = now.saturating_add(u64::from(receipt.window).saturating_mul(1_000));
        let claim = self.claims.at(&claim_id);
        claim.state.write(storage, state::ASSERTED)?;
        claim.tier.write(storage, receipt.tier)?;
        claim.n_in.write(storage, receipt.n_in)?;
        claim.generation.write(storage, generation)?;
        claim.seq.write(storage, receipt.seq)?;
        claim.operator.write(storage, receipt.operator)?;
        claim.asserted_at.write(storage, now)?;
        claim.requester.write(storage, receipt.requester)?;
        claim.deadline.write(storage, deadline)?;
        claim.fee.write(storage, receipt.fee)?;
        claim.value_at_risk.write(storage, receipt.value_at_risk)?;
        claim.exposure.write(storage, receipt.exposure)?;
        claim.n_leaves.write(storage, receipt.n_leaves)?;
        claim.line_id.write(storage, receipt.line_id)?;
        claim.model_id.write(storage, receipt.model_id)?;
        claim.input_commit.write(storage, receipt.input_commit)?;
        claim.output_commit.write(storage, receipt.output_commit)?;
        claim.trace_root.write(storage, receipt.trace_root)?;
        claim.n_out.write(storage, receipt.n_out)?;
        claim.sampling_hash.write(storage, receipt.sampling_hash)?;
        claim.mask_root.write(storage, receipt.ext_hash)?;
        if !receipt.evidence_hash.is_zero() {
            claim.body_id.write(storage, receipt.body_id())?;
        }
        add(
            storage,
            self.lines.at(&receipt.line_id).outstanding,
            receipt.exposure,
        )?;
        let event = IClaims::Asserted {
            claimId: claim_id,
            operator: receipt.operator,
            requester: receipt.requester,
            lineId: receipt.line_id,
            seq: receipt.seq,
            modelId: receipt.model_id,
            fee: receipt.fee,
            exposure: receipt.exposure,
            deadline,
        };
        emit(storage, &event)
    }

    /// Steps over a receipt that was never asserted in time, so that its line goes on.
    pub(super) fn skip(
        &self,
        storage: &mut dyn Storage,
        receipt: &Receipt,
        signature: &[u8],
    ) -> Ruling<()> {
        let line = line_id(receipt.operator, receipt.requester);
        require(receipt.line_id == line, || IClaims::WrongLine {
            have: receipt.line_id,
            want: line,
        })?;
        let (now, ready) = (
            clock::now(storage)?,
            receipt.include_by.saturating_add(1).saturating_mul(1_000),
        );
        require(now >= ready, || IErrors::TooEarly { ready, now })?;
        self.advance_line(storage, receipt)?;
        check_receipt_key(storage, receipt, signature)?;
        let claim_id = receipt.struct_hash();
        self.claims
            .at(&claim_id)
            .state
            .write(storage, state::SKIPPED)?;
        emit(
            storage,
            &IClaims::Skipped {
                claimId: claim_id,
                lineId: receipt.line_id,
                seq: receipt.seq,
            },
        )
    }

    /// Takes an ended claim's exposure off its line.
    pub(super) fn release_line(
        &self,
        storage: &mut dyn Storage,
        line: B256,
        exposure: u128,
    ) -> Ruling<()> {
        sub(storage, self.lines.at(&line).outstanding, exposure).map(|_| ())
    }
}

/// Checks that a receipt is signed by a key of its operator that is not yet beyond slashing.
pub(super) fn check_slashable_key(
    storage: &mut dyn Storage,
    receipt: &Receipt,
    signature: &[u8],
) -> Ruling<Address> {
    let digest = receipt.signing_hash(&domain(storage));
    let key = signer(storage, digest, signature)?;
    let record = Staking::new().keys.at(&key);
    let (operator, from, until) = (
        record.operator.read(storage)?,
        record.from.read(storage)?,
        record.until.read(storage)?,
    );
    require(operator == receipt.operator, || IClaims::WrongSigner {
        signer: key,
        expected: receipt.operator,
    })?;
    let end = until.saturating_add(Parameters::new().unbonding_ms.read(storage)?);
    let live = until == 0 || clock::now(storage)? < end;
    require(live, || IClaims::KeyNotValid {
        key,
        issuedAt: receipt.issued_at,
        from,
        until,
    })?;
    Ok(key)
}

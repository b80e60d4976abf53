//! Rules on fields: ranges, zero rules, and what a request binds.

use alloy_primitives::B256;

use crate::{Flags, Receipt, ReceiptError, Request};

/// Format version of receipts and requests.
pub(crate) const VERSION: u8 = 1;
/// Shortest and longest challenge window of any network, seconds; each network narrows it (module `parameters`).
const WINDOW: (u32, u32) = (1, 604_800);
/// Longest time between signing and inclusion of any network, seconds (module `parameters`).
const INCLUSION: u64 = 3_600;
/// The whole, in parts per million.
const WHOLE_PPM: u32 = 1_000_000;

fn check_range(field: &'static str, have: u128, low: u128, high: u128) -> Result<(), ReceiptError> {
    if (low..=high).contains(&have) {
        return Ok(());
    }
    Err(ReceiptError::Range {
        field,
        have,
        low,
        high,
    })
}

pub(crate) fn check_receipt(receipt: &Receipt) -> Result<(), ReceiptError> {
    check_range(
        "version",
        receipt.version.into(),
        VERSION.into(),
        VERSION.into(),
    )?;
    let tier = receipt.tier()?;
    if receipt.flags & !Flags::KNOWN != 0 {
        return Err(ReceiptError::Flags(receipt.flags));
    }
    check_range("seq", receipt.seq.into(), 1, u64::MAX.into())?;
    if receipt.cum_exposure < receipt.exposure {
        return Err(ReceiptError::Exposure {
            cumulative: receipt.cum_exposure,
            exposure: receipt.exposure,
        });
    }
    let zero_rule = |field, must_be_zero| {
        Err(ReceiptError::ZeroRule {
            field,
            tier: receipt.tier,
            must_be_zero,
        })
    };
    if receipt.trace_root == B256::ZERO && !tier.may_omit_trace() {
        return zero_rule("traceRoot", false);
    }
    if (receipt.evidence_hash == B256::ZERO) != tier.has_no_evidence() {
        return zero_rule("evidenceHash", tier.has_no_evidence());
    }
    check_range("auditPpm", receipt.audit_ppm.into(), 0, WHOLE_PPM.into())?;
    check_range(
        "window",
        receipt.window.into(),
        WINDOW.0.into(),
        WINDOW.1.into(),
    )?;
    check_range(
        "includeBy",
        receipt.include_by.into(),
        receipt.issued_at.into(),
        receipt.issued_at.saturating_add(INCLUSION).into(),
    )
}

pub(crate) fn check_request(request: &Request) -> Result<(), ReceiptError> {
    check_range(
        "version",
        request.version.into(),
        VERSION.into(),
        VERSION.into(),
    )?;
    check_range("tierMask", request.tier_mask.into(), 1, 0x7f)?;
    check_range("auditPpm", request.audit_ppm.into(), 0, WHOLE_PPM.into())?;
    check_range(
        "window",
        request.window.into(),
        WINDOW.0.into(),
        WINDOW.1.into(),
    )
}

pub(crate) fn check_answers(receipt: &Receipt, request: &Request) -> Result<(), ReceiptError> {
    let tier_allowed = receipt.tier()?.mask() & request.tier_mask != 0;
    let bound = [
        ("requestHash", receipt.request_hash == request.struct_hash()),
        ("lineId", receipt.line_id == request.line_id),
        ("seq", request.is_open() || receipt.seq == request.seq),
        ("modelId", receipt.model_id == request.model_id),
        ("semantics", receipt.semantics == request.semantics),
        ("inputCommit", receipt.input_commit == request.input_commit),
        (
            "samplingHash",
            receipt.sampling_hash == request.sampling_hash,
        ),
        ("nOut", receipt.n_out <= request.max_out),
        ("fee", receipt.fee <= request.max_fee),
        (
            "valueAtRisk",
            receipt.value_at_risk == request.value_at_risk,
        ),
        ("tier", tier_allowed),
        ("auditPpm", receipt.audit_ppm >= request.audit_ppm),
        ("window", receipt.window >= request.window),
        ("issuedAt", receipt.issued_at <= request.expiry),
    ];
    match bound.into_iter().find(|(_, holds)| !holds) {
        Some((field, _)) => Err(ReceiptError::NotRequested { field }),
        None => Ok(()),
    }
}

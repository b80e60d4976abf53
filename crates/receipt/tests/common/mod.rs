//! One receipt, one request and one key, the same in every test of this crate.
#![allow(dead_code, reason = "each test binary uses a part")]

use alloy_primitives::{Address, B256, address};
use assay_receipt::{Domain, Receipt, ReceiptKey, Request, input_commit, line_id, output_commit};

/// The dev chain and the fixed address of the claims module.
pub const DOMAIN: Domain = Domain::new(31_337, assay_abi::CLAIMS);
pub const OPERATOR: Address = address!("70997970c51812dc3a010c7d01b50e0d17dc79c8");
pub const SALT: B256 = B256::repeat_byte(0x5a);
pub const INPUT: &[u8] = b"canonical input bytes";
pub const OUTPUT: &[u8] = b"canonical output bytes";

pub fn key(byte: u8) -> ReceiptKey {
    ReceiptKey::from_bytes([byte; 32]).expect("below the curve order")
}

pub fn request() -> Request {
    Request {
        version: 1,
        line_id: line_id(OPERATOR, key(2).address()),
        seq: 7,
        model_id: B256::repeat_byte(0x11),
        semantics: 1,
        input_commit: input_commit(SALT, INPUT),
        sampling_hash: B256::ZERO,
        max_out: 1,
        max_fee: 2_500,
        value_at_risk: 1_000_000,
        tier_mask: 2,
        audit_ppm: 80_000,
        window: 3_600,
        expiry: 1_800_000_600,
    }
}

pub fn receipt() -> Receipt {
    let request = request();
    Receipt {
        version: 1,
        tier: 1,
        flags: 2,
        line_id: request.line_id,
        seq: request.seq,
        cum_exposure: 84_000_000_000_000_000_000,
        requester: key(2).address(),
        operator: OPERATOR,
        request_hash: request.struct_hash(),
        model_id: request.model_id,
        semantics: request.semantics,
        input_commit: request.input_commit,
        output_commit: output_commit(SALT, OUTPUT),
        sampling_hash: B256::ZERO,
        n_in: 1,
        n_out: 1,
        trace_root: B256::repeat_byte(0x22),
        n_leaves: 42,
        evidence_hash: B256::ZERO,
        fee: 2_000,
        value_at_risk: request.value_at_risk,
        exposure: 12_000_000_000_000_000_000,
        audit_ppm: 80_000,
        window: 3_600,
        issued_at: 1_800_000_000,
        include_by: 1_800_000_060,
        ext_hash: B256::ZERO,
    }
}

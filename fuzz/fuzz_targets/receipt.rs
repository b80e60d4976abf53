//! Receipts as bytes and JSON, and bundles: total, one form each.
#![no_main]

use assay_receipt::{Bundle, Receipt};

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    if let Ok(receipt) = Receipt::decode(bytes) {
        assert_eq!(receipt.encode(), bytes);
        let json = receipt.to_json().unwrap();
        assert_eq!(Receipt::from_json(&json).unwrap(), receipt);
    }
    if let Ok(text) = std::str::from_utf8(bytes) {
        let _ = Receipt::from_json(text);
        let _ = Bundle::from_json(text);
    }
});

//! Evidence: total, canonical.
#![no_main]

use assay_graph::evidence::Evidence;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    if let Ok(evidence) = Evidence::decode(bytes) {
        assert_eq!(evidence.encode(), bytes);
    }
});

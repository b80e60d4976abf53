//! Sampling statements: total, canonical.
#![no_main]

use assay_graph::Sampling;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    if let Ok(sampling) = Sampling::decode(bytes) {
        assert_eq!(sampling.encode(), bytes);
    }
});

//! ONNX files: lowered to a float network or refused with a typed error; never a panic, never memory out of proportion.
#![no_main]

use assay_import::onnx::{OnnxOptions, lower};

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let _ = lower(bytes, None, &OnnxOptions::default());
});

//! Reading of test data.
#![allow(
    dead_code,
    clippy::unwrap_used,
    reason = "each test file uses a part; a test stops at the first surprise"
)]

use std::path::PathBuf;

use serde::Deserialize;

/// A network exported by somebody else, with inputs and onnxruntime's outputs (tools/export_fixtures.py).
#[derive(Deserialize)]
pub struct Fixture {
    #[serde(skip)]
    pub onnx: Vec<u8>,
    pub range: (f64, f64),
    pub output: String,
    pub inputs: Vec<Vec<f32>>,
    pub outputs: Vec<Vec<f32>>,
}

pub fn data(path: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("tests/data")
        .join(path)
}

pub fn fixture(name: &str) -> Fixture {
    let mut f: Fixture =
        serde_json::from_slice(&std::fs::read(data(&format!("fixtures/{name}.json"))).unwrap())
            .unwrap();
    f.onnx = std::fs::read(data(&format!("fixtures/{name}.onnx"))).unwrap();
    f
}

pub fn bench(name: &str) -> (Vec<u8>, Vec<f32>) {
    #[derive(Deserialize)]
    struct Input {
        input_data: Vec<Vec<f32>>,
    }
    let input: Input =
        serde_json::from_slice(&std::fs::read(data(&format!("bench/{name}.input.json"))).unwrap())
            .unwrap();
    (
        std::fs::read(data(&format!("bench/{name}.onnx"))).unwrap(),
        input.input_data[0].clone(),
    )
}

//! Proofs, statements and keys from strangers: decoding is total and canonical, verification ends in a verdict.
#![no_main]

use std::sync::{Arc, OnceLock};

use assay_graph::{DType, Data, Dim, GraphBuilder, Header, Op, Requant, Tensor, TensorType, WeightRow};
use assay_proof::{Input, Key, Proof, ProvingKey, Statement, prove, prove_hiding, verify};

/// A small model's key and two proofs of one of its runs, in the open and hiding.
fn honest() -> &'static (Key, [Vec<u8>; 2]) {
    static HONEST: OnceLock<(Key, [Vec<u8>; 2])> = OnceLock::new();
    HONEST.get_or_init(|| {
        let mut b = GraphBuilder::new(Header { max_seq: 1, block_bits: 10 });
        let x = b.input(TensorType { dtype: DType::I8, shape: vec![Dim::Fixed(4)], lo: -128, hi: 127 }).expect("an input");
        let rows: Vec<WeightRow> = (0..3).map(|i| WeightRow { shift: 5, bias: 7, values: vec![i, -3, 100, -i] }).collect();
        let weights = b.weights(DType::I8, &rows).expect("weights");
        let out = Requant { shift: 0, dtype: DType::I8, lo: 0, hi: 127 };
        b.push("y", Op::Linear { weights, out }, &[x], true).expect("a layer");
        let key = ProvingKey::new(Arc::new(b.finish().expect("a graph"))).expect("a key");
        let tensor = Tensor::new(vec![4], Data::I8(vec![1, -2, 3, 127])).expect("a tensor");
        let input = Input { tensor, out: 1, sampling: None };
        let inputs = [input];
        let open = prove(&key, &inputs, b"", &mut |_| {}).expect("a proof");
        let hiding = prove_hiding(&key, &inputs, b"", &mut |_| {}).expect("a proof");
        (key.key().clone(), [open.encode(), hiding.encode()])
    })
}

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    if let Ok((statement, n)) = Statement::decode(bytes) {
        assert_eq!(statement.encode(), bytes[..n]);
    }
    if let Ok(key) = Key::decode(bytes) {
        assert_eq!(key.encode(), bytes);
    }
    let (key, proofs) = honest();
    // the bytes say what to change: position, then value
    for proof in proofs {
        let mut changed = proof.clone();
        for edit in bytes.chunks_exact(4) {
            let at = u32::from_le_bytes([edit[0], edit[1], edit[2], 0]) as usize % changed.len();
            changed[at] ^= edit[3];
        }
        if let Ok(decoded) = Proof::decode(&changed) {
            assert_eq!(verify(key, &decoded).is_ok(), changed == *proof);
        }
    }
});

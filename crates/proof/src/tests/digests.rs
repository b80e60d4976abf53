//! Proofs in the open are what they have always been: whoever changes the protocol changes these digests and the version.

use std::sync::Arc;

use assay_graph::{DType, Graph, Op};

use super::{
    encoder::softmax_graph,
    operators::{Rng, graph, out, put, tensor},
    support::inputs,
};
use crate::{
    ProvingKey,
    field::{EF, EF_BYTES},
    prover::{Tamper, prove_tampered},
};

/// How many bytes lie before the first opening, and their digest; openings contain proofs of work, which are not unique.
fn digest(graph: Graph, committed: bool, runs: usize) -> String {
    let graph = Arc::new(graph);
    let key = if committed {
        ProvingKey::new(Arc::clone(&graph))
    } else {
        ProvingKey::direct(Arc::clone(&graph))
    };
    let key = key.expect("a key");
    let runs = inputs(&graph, 1, runs, 77);
    let (mut said, mut labels) = (0, blake3::Hasher::new());
    let mut count = |label: &'static str, message: &mut Vec<EF>| {
        if label != "weights" && label != "pieces of the weights" {
            said += message.len();
            labels.update(label.as_bytes());
        }
    };
    let tamper = Tamper {
        messages: Some(&mut count),
        ..Tamper::default()
    };
    let proof = prove_tampered(&key, &runs, b"digest", &mut |_| {}, tamper, None).expect("a proof");
    let n = 32 + EF_BYTES * said;
    let mut all = blake3::Hasher::new();
    all.update(&proof.statement.encode());
    all.update(&proof.body[..n]);
    all.update(labels.finalize().as_bytes());
    format!("{n} {}", &all.finalize().to_hex()[..16])
}

#[test]
fn bytes_of_proofs() {
    let linear = || {
        let mut r = Rng(5);
        let rows = r.rows(5, 12, (2, 4));
        graph(tensor(DType::I16, &[3, 12], -32767, 32767), |b, x| {
            let weights = b.weights(DType::I8, &rows).expect("weights");
            let clamp = out(0, DType::I16, -300, 200);
            let op = Op::Linear {
                weights,
                out: clamp,
            };
            put(b, "y", op, &[x]).expect("linear");
        })
    };
    let softmax = || softmax_graph(tensor(DType::I16, &[2, 24], -3000, 0), 300, 2, 14);
    let have = [
        digest(linear(), true, 2),
        digest(linear(), false, 1),
        digest(softmax(), true, 1),
        digest(softmax(), false, 3),
    ];
    let want = [
        "8912 c8c0082e19e904aa",
        "8852 1d1913a9b49a297c",
        "4892 95120aa0429bf055",
        "5612 879f463cf9917979",
    ];
    assert_eq!(have, want);
}

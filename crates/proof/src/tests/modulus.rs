//! Integers that are different and equal in the field, and products over labels of one value.

use std::sync::Arc;

use assay_graph::{DType, Op};

use super::{
    encoder::{norm_graph, sequence},
    operators::{Rng, graph, out, put, tensor},
    support::{agree, compiled, inputs},
};
use crate::{
    PlanError, ProvingKey, VerifyError,
    field::MODULUS,
    oracle::{Violation, violations},
    plan::builder::LIES,
    prover::{Tamper, prove_tampered},
    verify_direct,
};

/// An output that differs by p from the right one.
#[test]
fn outputs_are_integers() {
    let g = graph(tensor(DType::I16, &[3, 12], -300, 300), |b, x| {
        put(b, "a", Op::ArgMax, &[x]).expect("arg_max");
    });
    let graph = Arc::new(g);
    let key = ProvingKey::direct(Arc::clone(&graph)).expect("a key");
    let runs = inputs(&graph, 1, 1, 5);
    let right = compiled(&key, &runs).outputs.expect("outputs").to_vec();
    let mut wrong = right.clone();
    wrong[1] = i32::try_from(i64::from(wrong[1]) - MODULUS).expect("fits");
    let lie = |outputs: Vec<i32>| {
        let tamper = Tamper::default();
        prove_tampered(&key, &runs, b"", &mut |_| {}, tamper, Some(outputs))
    };
    assert!(lie(wrong.clone()).is_err());
    let mut proof = lie(right).expect("a proof");
    verify_direct(&graph, &proof).expect("verifies");
    proof.statement.runs[0].output = wrong.iter().flat_map(|v| v.to_le_bytes()).collect();
    let refused = verify_direct(&graph, &proof).expect_err("refused");
    let out = PlanError::Output {
        value: wrong[1],
        lo: 0,
        hi: 11,
    };
    assert_eq!(refused, VerifyError::Plan(out));
}

/// Sums of squares of long rows, plus multiples of p, with everything that follows from them.
#[test]
fn sums_of_squares_are_integers() {
    for (centred, n) in [(true, 300), (false, 300), (true, 768)] {
        let ty = tensor(DType::I16, &[2, n], -32767, 32767);
        let small = out(12, DType::I8, -127, 127);
        let graph = Arc::new(norm_graph(ty, n, 1 << 20, small, centred, 3));
        let key = ProvingKey::direct(Arc::clone(&graph)).expect("a key");
        let runs = inputs(&graph, 1, 1, 5);
        for what in ["squares of sums", "high squares", "low squares"] {
            for times in [1, 2, 15, -1] {
                LIES.set(vec![(what, None, 1, times * MODULUS)]);
                let lie = compiled(&key, &runs);
                LIES.set(Vec::new());
                let data = lie.data.expect("cells");
                let found = violations(&lie.plan, graph.consts(), &data);
                assert!(!found.is_empty(), "{n} {what} {times}");
                // over the field the sum itself holds: only a table can notice
                let noticed = |v: &Violation| {
                    matches!(v, Violation::Cell(_))
                        || matches!(v, Violation::Relation { sum, .. } if sum % i128::from(MODULUS) != 0)
                };
                assert!(found.iter().any(noticed), "{n} {what} {times}: {found:?}");
            }
        }
    }
}

/// Sums over one element: windows of one, rows of one.
#[test]
fn sums_of_one() {
    let mut r = Rng(9);
    let rows = r.rows(4, 3, (4, 6));
    let window = assay_graph::Window {
        kernel: [1, 1],
        stride: [1, 1],
        pad: [0; 4],
    };
    let g = graph(tensor(DType::I8, &[5, 4, 3], -128, 127), |b, x| {
        let weights = b.weights(DType::I8, &rows).expect("weights");
        let out = out(0, DType::I8, 0, 127);
        let op = Op::Conv2d {
            weights,
            window,
            groups: 1,
            out,
        };
        put(b, "c", op, &[x]).expect("conv");
    });
    agree(g, 1, 2, 3);
    let rows = r.rows(4, 1, (2, 3));
    for dtype in [DType::I8, DType::I16] {
        let g = graph(tensor(dtype, &[1], -100, 100), |b, x| {
            let weights = b.weights(DType::I8, &rows).expect("weights");
            let out = out(0, DType::I16, -3000, 3000);
            put(b, "l", Op::Linear { weights, out }, &[x]).expect("linear");
        });
        agree(g, 1, 1, 3);
    }
}

/// The index of a maximum over positions is as large as the longest run allows, whatever this run's length; a convolution behind a pool whose windows overlap.
#[test]
fn ranges_of_the_longest_run() {
    let mut r = Rng(4);
    let rows = r.rows(3, 4, (2, 3));
    let mut ty = tensor(DType::I8, &[1, 4], -100, 100);
    ty.shape[0] = assay_graph::Dim::Seq;
    let g = sequence(9, ty, |b, x| {
        let perm = vec![1, 0];
        let t = put(b, "t", Op::Transpose { perm }, &[x]).expect("transpose");
        let a = put(b, "a", Op::ArgMax, &[t]).expect("arg_max");
        let clamp = out(0, DType::I16, -300, 300);
        let a = put(b, "q", Op::Requant { out: clamp }, &[a]).expect("requant");
        let weights = b.weights(DType::I8, &rows).expect("weights");
        let out = out(0, DType::I16, -3000, 3000);
        put(b, "l", Op::Linear { weights, out }, &[a]).expect("linear");
    });
    agree(g, 7, 1, 3);
    let rows = r.rows(2, 9 * 3, (6, 7));
    let g = graph(tensor(DType::I8, &[8, 8, 3], -128, 127), |b, x| {
        let window = |kernel, stride| assay_graph::Window {
            kernel: [kernel, kernel],
            stride: [stride, stride],
            pad: [0; 4],
        };
        let pool = Op::MaxPool {
            window: window(3, 2),
        };
        let y = put(b, "p", pool, &[x]).expect("pool");
        let weights = b.weights(DType::I8, &rows).expect("weights");
        let op = Op::Conv2d {
            weights,
            window: window(3, 1),
            groups: 1,
            out: out(0, DType::I8, 0, 127),
        };
        put(b, "c", op, &[y]).expect("conv");
    });
    agree(g, 1, 2, 3);
}

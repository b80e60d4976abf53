//! Lies about rows: a prover that claims something wrong and computes the rest from it.

use std::{collections::BTreeSet, sync::Arc};

use assay_graph::{DType, Dim, Graph, Op};

use super::{
    encoder::{norm_graph, softmax_graph},
    operators::{Rng, graph, out, put, tensor},
    support::{compiled, inputs},
};
use crate::{
    ProvingKey,
    oracle::{Violation, violations},
    plan::{
        Plan,
        builder::{LIES, Lie},
    },
};

/// The plan and the cells of a prover who tells these lies.
fn told(key: &ProvingKey, runs: &[crate::Input], lies: &[Lie]) -> (Plan, Vec<Vec<i32>>) {
    LIES.set(lies.to_vec());
    let compiled = compiled(key, runs);
    LIES.set(Vec::new());
    (compiled.plan, compiled.data.expect("cells"))
}

/// What only one constraint sees.
#[derive(Default)]
struct Alone(BTreeSet<&'static str>);

impl Alone {
    fn note(&mut self, found: &[Violation]) {
        match found {
            [Violation::Relation { label, .. }] => self.0.insert(label),
            [Violation::Cell(_)] => self.0.insert("a cell outside its table"),
            _ => false,
        };
    }
}

const CLAIMS: [&str; 21] = [
    "row sum",
    "maximum",
    "exponent",
    "block",
    "unit vector",
    "inverse root",
    "squares and epsilon",
    "high squares",
    "squares of sums",
    "low squares",
    "root times sum",
    "step",
    "key",
    "share",
    "sum of exponentials",
    "carry",
    "index",
    "clamped",
    "quotient",
    "element",
    "picked",
];

/// Small graphs with every gadget of this file's operators.
fn liable() -> Vec<Graph> {
    let small = out(12, DType::I8, -127, 127);
    let wide = tensor(DType::I16, &[3, 12], -32767, 32767);
    let mut all = vec![
        norm_graph(wide.clone(), 12, 1 << 20, small, true, 3),
        norm_graph(tensor(DType::I8, &[3, 9], -128, 127), 9, 5, small, true, 3),
        norm_graph(
            tensor(DType::I32, &[2, 6], -1 << 20, 1 << 20),
            6,
            5,
            small,
            false,
            3,
        ),
        softmax_graph(tensor(DType::I16, &[2, 24], -3000, 0), 300, 2, 14),
        softmax_graph(tensor(DType::I16, &[2, 5], -30000, 30000), 3, 8, 14),
    ];
    let mut r = Rng(5);
    let rows = r.rows(5, 12, (2, 4));
    all.push(graph(wide.clone(), |b, x| {
        let weights = b.weights(DType::I8, &rows).expect("weights");
        let clamp = out(0, DType::I16, -300, 200);
        put(
            b,
            "y",
            Op::Linear {
                weights,
                out: clamp,
            },
            &[x],
        )
        .expect("linear");
    }));
    all.push(graph(wide, |b, x| {
        put(b, "a", Op::ArgMax, &[x]).expect("arg_max");
    }));
    all.push(graph(tensor(DType::I8, &[12], -128, 127), |b, x| {
        let shape = vec![Dim::Fixed(3), Dim::Fixed(4)];
        let t = put(b, "s", Op::Reshape { shape }, &[x]).expect("reshape");
        let t = put(b, "t", Op::Transpose { perm: vec![1, 0] }, &[t]).expect("transpose");
        let shape = vec![Dim::Fixed(12)];
        let t = put(b, "r", Op::Reshape { shape }, &[t]).expect("reshape");
        let c = put(b, "c", Op::Concat { axis: 0 }, &[t, x]).expect("concat");
        let op = Op::Add {
            left: [1, 0],
            out: out(1, DType::I8, -100, 90),
        };
        put(b, "a", op, &[c, c]).expect("add");
    }));
    all
}

/// Lies that are consistent but for one claim, and single cells: all are seen, and each kind of relation sees one that nothing else does.
#[test]
fn lies_about_rows() {
    let mut alone = Alone::default();
    for (g, graph) in liable().into_iter().enumerate() {
        let graph = Arc::new(graph);
        let key = ProvingKey::direct(Arc::clone(&graph)).expect("a key");
        let runs = inputs(&graph, 1, 1, 21);
        let (plan, honest) = told(&key, &runs, &[]);
        assert_eq!(violations(&plan, graph.consts(), &honest), []);
        let mut seen = |lies: &[Lie]| {
            let (plan, data) = told(&key, &runs, lies);
            if data == honest {
                return;
            }
            let found = violations(&plan, graph.consts(), &data);
            assert!(!found.is_empty(), "graph {g}: {lies:?} passes");
            alone.note(&found);
        };
        for claim in CLAIMS {
            for at in 0..12 {
                for add in [1, -1, 2, -2, 100, -100] {
                    seen(&[(claim, None, at, add)]);
                }
            }
        }
        // a maximum of 0 where no element is picked
        let first = runs[0].tensor.data.to_i32();
        let top = first[..24.min(first.len())].iter().max().copied();
        for at in 0..8 {
            let down = -i64::from(top.unwrap_or(0));
            seen(&[("maximum", None, 0, down), ("picked row", None, at, -1)]);
        }
        // a rest and what is missing to the divisor
        for a in 0..honest.len() {
            for c in a + 1..honest.len().min(a + 4) {
                for s in (1..10).filter(|_| honest[a].len() == honest[c].len()) {
                    for at in 0..honest[a].len().min(12) {
                        let mut data = honest.clone();
                        data[a][at] += 1;
                        data[c][at] -= 1 << s;
                        let found = violations(&plan, graph.consts(), &data);
                        assert!(!found.is_empty(), "graph {g}: columns {a} and {c} at {at}");
                        alone.note(&found);
                    }
                }
            }
        }
        for id in 0..honest.len() {
            for at in [0, honest[id].len() / 2, honest[id].len() - 1] {
                for add in [1, -1, 3, 1 << 7] {
                    let mut data = honest.clone();
                    data[id][at] += add;
                    let found = violations(&plan, graph.consts(), &data);
                    assert!(!found.is_empty(), "graph {g}: column {id} at {at} by {add}");
                    alone.note(&found);
                }
            }
        }
    }
    for label in [
        "a cell outside its table",
        "sum of a row",
        "elements picked by row",
        "one of a row",
        "the maximum is attained",
        "not negative",
        "an element needs the exponent",
        "quotient by a power of two",
        "digits",
        "rounding and the ends of the range",
        "sum of squares",
        "sum of squares and epsilon",
        "root times sum",
        "root from below",
        "root from above",
        "unit vector",
        "beyond the table nothing is left",
        "distance to the maximum",
        "rest of a division",
        "division by the sum",
        "division by the sum, low bits",
        "index of the maximum",
        "outside the range only at its ends",
        "beyond the range only at its ends",
        "the same elements",
        "requantisation",
    ] {
        assert!(
            alone.0.contains(label),
            "no lie is seen by {label:?} alone; {:?}",
            alone.0
        );
    }
}

//! Operators of encoders: products of activations, softmax, norms, rows, reductions, joins.

use std::sync::Arc;

use assay_graph::{
    DType, Dim, Graph, GraphBuilder, Header, NodeId, Op, Requant, TensorType, Window,
};

use super::{
    operators::{Rng, graph, out, put, tensor},
    support::{agree, compiled, inputs},
};
use crate::{
    ProvingKey, oracle,
    plan::{Cell, Plan},
};

/// A graph over `Seq` positions.
pub(super) fn sequence(
    max_seq: u32,
    ty: TensorType,
    body: impl FnOnce(&mut GraphBuilder, NodeId),
) -> Graph {
    let mut b = GraphBuilder::new(Header {
        max_seq,
        block_bits: 10,
    });
    let x = b.input(ty).expect("an input");
    body(&mut b, x);
    b.finish().expect("a graph")
}

fn exp_table(entries: usize) -> Vec<i32> {
    (0..entries)
        .map(|i| {
            if i + 1 == entries {
                0
            } else {
                (32767.0 * (-(i as f64) * 8.0 / entries as f64).exp()) as i32
            }
        })
        .collect()
}

/// What a plan costs.
fn cost(plan: &Plan) -> String {
    let cells: usize = plan
        .columns
        .iter()
        .map(|c| c.shape.iter().product::<usize>())
        .sum();
    let keys = plan
        .columns
        .iter()
        .filter(|c| matches!(c.cell, Cell::Key(_)));
    let lookups: usize = keys.map(|c| c.shape.iter().product::<usize>()).sum();
    let rows: usize = plan.tables.iter().map(crate::plan::Table::len).sum();
    let mut products = 0usize;
    for r in &plan.relations {
        for t in &r.terms {
            if let crate::plan::expr::Term::Product { sums, a, b, .. } = t {
                let lens: Vec<usize> = r.axes.iter().chain(sums).copied().collect();
                let both = (0..lens.len()).filter(|l| a.mentions(*l) && b.mentions(*l));
                products += both.map(|l| lens[l]).product::<usize>();
            }
        }
    }
    format!(
        "{cells} cells, {lookups} lookups, {rows} rows of {} tables, {products} products, {} relations, {} columns",
        plan.tables.len(),
        plan.relations.len(),
        plan.columns.len()
    )
}

/// Cost of a graph file's proof and, if asked, what the oracle says: `ASSAY_GRAPH`, `ASSAY_SEQ`, `ASSAY_ORACLE`.
#[test]
#[ignore = "reads a graph file"]
fn a_graph_file() {
    let path = std::env::var("ASSAY_GRAPH").expect("ASSAY_GRAPH");
    let seq = std::env::var("ASSAY_SEQ").map_or(1, |v| v.parse().expect("a number"));
    let graph = Graph::from_bytes(&std::fs::read(path).expect("a file")).expect("a graph");
    let graph = Arc::new(graph);
    let key = ProvingKey::direct(Arc::clone(&graph)).expect("plans");
    let inputs = inputs(&graph, seq, 1, 1);
    let compiled = compiled(&key, &inputs);
    println!("{}", cost(&compiled.plan));
    let mut by: std::collections::BTreeMap<usize, usize> = std::collections::BTreeMap::new();
    for t in &compiled.plan.tables {
        *by.entry(t.len()).or_default() += 1;
    }
    println!("tables {by:?}");
    let data = compiled.data.expect("cells");
    let want = assay_graph::eval::run(&graph, &inputs[0].tensor).expect("runs");
    let want = want.last().expect("an output").data.to_i32();
    assert_eq!(compiled.outputs.as_deref(), Some(&want));
    if std::env::var("ASSAY_ORACLE").is_ok() {
        assert_eq!(oracle::check(&compiled.plan, graph.consts(), &data), Ok(()));
    }
}

#[test]
fn products_of_activations() {
    for (shift, clamp) in [
        (4, out(4, DType::I8, -100, 100)),
        (0, out(0, DType::I32, -1 << 30, 1 << 30)),
        (9, out(9, DType::I16, -32767, 32767)),
        (-1, out(-1, DType::I16, -3000, 3000)),
    ] {
        let _ = shift;
        let g = graph(tensor(DType::I8, &[2, 3, 10], -128, 127), |b, x| {
            let slice = |b: &mut GraphBuilder, n: &str, start, len| {
                let op = Op::Slice {
                    axis: 2,
                    start,
                    len,
                };
                put(b, n, op, &[x]).expect("slice")
            };
            let (p, q) = (slice(b, "p", 0, 5), slice(b, "q", 5, 5));
            let z = put(b, "z", Op::MatMul { out: clamp }, &[p, q]).expect("matmul");
            put(
                b,
                "t",
                Op::Transpose {
                    perm: vec![2, 0, 1],
                },
                &[z],
            )
            .expect("transpose");
        });
        agree(g, 1, 2, 5);
    }
}

pub(super) fn norm_graph(
    ty: TensorType,
    n: u32,
    eps: u64,
    clamp: Requant,
    centred: bool,
    seed: u64,
) -> Graph {
    let mut r = Rng(seed);
    let params: Vec<(i16, i32)> = (0..n)
        .map(|_| (r.within(-3000, 3000) as i16, r.within(-100_000, 100_000)))
        .collect();
    graph(ty, |b, x| {
        let params = b.norm(&params).expect("norm");
        let op = if centred {
            Op::LayerNorm {
                params,
                eps,
                out: clamp,
            }
        } else {
            Op::RmsNorm {
                params,
                eps,
                out: clamp,
            }
        };
        put(b, "y", op, &[x]).expect("norm");
    })
}

#[test]
fn norms() {
    for (ty, n, eps, clamp) in [
        (
            tensor(DType::I8, &[3, 7], -128, 127),
            7,
            0,
            out(12, DType::I8, -127, 127),
        ),
        (
            tensor(DType::I16, &[5, 12], -32768, 32767),
            12,
            1 << 20,
            out(12, DType::I16, -32767, 32767),
        ),
        (
            tensor(DType::I16, &[2, 3, 32], -32767, 32767),
            32,
            1 << 50,
            out(14, DType::I16, -32767, 32767),
        ),
        (
            tensor(DType::I16, &[4, 1], -32767, 32767),
            1,
            3,
            out(16, DType::I8, -127, 127),
        ),
        (
            tensor(DType::I32, &[3, 5], -(1 << 26), 1 << 26),
            5,
            77,
            out(16, DType::I8, -127, 127),
        ),
        (
            tensor(DType::I16, &[2, 8], -1, 1),
            8,
            0,
            out(16, DType::I8, -127, 127),
        ),
    ] {
        for centred in [true, false] {
            agree(norm_graph(ty.clone(), n, eps, clamp, centred, 3), 1, 2, 9);
        }
    }
}

pub(super) fn softmax_graph(ty: TensorType, entries: usize, shift: u8, bits: u8) -> Graph {
    graph(ty, |b, x| {
        let table = b.table(DType::I16, &exp_table(entries)).expect("a table");
        put(b, "p", Op::Softmax { table, shift, bits }, &[x]).expect("softmax");
    })
}

#[test]
fn softmax_of_rows() {
    for (ty, entries, shift, bits) in [
        (tensor(DType::I8, &[3, 5], -128, 127), 40, 2, 7),
        (tensor(DType::I16, &[2, 8], -32768, 32767), 200, 3, 14),
        (tensor(DType::I16, &[4, 6], -500, 700), 300, 0, 14),
        (tensor(DType::I16, &[2, 70], -3000, 700), 300, 1, 14),
        (tensor(DType::I16, &[3, 1], -300, 700), 2, 8, 1),
        (tensor(DType::I16, &[1, 9], -32768, 32767), 2, 31, 5),
    ] {
        agree(softmax_graph(ty, entries, shift, bits), 1, 2, 4);
    }
}

#[test]
fn rows_sums_indices_and_joins() {
    let ids = TensorType {
        dtype: DType::I32,
        shape: vec![Dim::Seq],
        lo: 0,
        hi: 10,
    };
    let mut r = Rng(8);
    let rows: Vec<i32> = (0..11 * 6).map(|_| r.within(-32767, 32767)).collect();
    let positions: Vec<i32> = (0..9 * 6).map(|_| r.within(-3000, 3000)).collect();
    for (which, seq) in [(0, 4), (1, 5), (2, 3), (3, 9)] {
        let g = sequence(9, ids.clone(), |b, x| {
            let rows = b.rows(DType::I16, 6, &rows).expect("rows");
            let e = put(b, "e", Op::Embedding { rows }, &[x]).expect("embedding");
            let rows = b.rows(DType::I16, 6, &positions).expect("rows");
            let op = Op::AddRows {
                rows,
                left: [0, 2],
                out: out(1, DType::I16, -32767, 32767),
            };
            let y = put(b, "y", op, &[e]).expect("add_rows");
            match which {
                0 => put(b, "s", Op::ReduceSum, &[y]).expect("sum"),
                1 => put(b, "a", Op::ArgMax, &[e]).expect("arg_max"),
                2 => {
                    let t = put(b, "t", Op::Concat { axis: 1 }, &[y, e, y]).expect("concat");
                    put(b, "a", Op::ReduceSum, &[t]).expect("sum")
                }
                _ => {
                    let t =
                        put(b, "t", Op::Transpose { perm: vec![1, 0] }, &[y]).expect("transpose");
                    put(b, "s", Op::ReduceSum, &[t]).expect("sum")
                }
            };
        });
        agree(g, seq, 2, 4);
    }
}

#[test]
fn pools_with_padding() {
    for (kernel, stride, pad) in [
        ([3, 3], [1, 2], [1, 1, 1, 1]),
        ([2, 3], [2, 1], [1, 0, 0, 2]),
    ] {
        let window = Window {
            kernel,
            stride,
            pad,
        };
        for max in [true, false] {
            let g = graph(tensor(DType::I8, &[5, 4, 3], -128, -3), |b, x| {
                let part = Op::Slice {
                    axis: 0,
                    start: 0,
                    len: 4,
                };
                let x = put(b, "s", part, &[x]).expect("slice");
                let op = if max {
                    Op::MaxPool { window }
                } else {
                    Op::AvgPool { window }
                };
                put(b, "p", op, &[x]).expect("pool");
            });
            agree(g, 1, 2, 11);
        }
    }
}

/// A table behind each operator that rounds is applied at once; joins of operands that are cut differently.
#[test]
fn tables_and_joins() {
    let mut r = Rng(4);
    let rows = r.rows(6, 8, (5, 6));
    let g = graph(tensor(DType::I8, &[4, 8], -128, 127), |b, x| {
        let w = b.weights(DType::I8, &rows).expect("weights");
        let clamp = out(0, DType::I8, -90, 120);
        let op = Op::Linear {
            weights: w,
            out: clamp,
        };
        let y = put(b, "l", op, &[x]).expect("linear");
        let square: Vec<i32> = (-128..128).map(|v| v * v / 200 - 20).collect();
        let table = b.table(DType::I8, &square).expect("a table");
        let y = put(b, "f", Op::Lookup { table }, &[y]).expect("lookup");
        let op = Op::Requant {
            out: out(-2, DType::I16, -300, 200),
        };
        let z = put(b, "r", op, &[y]).expect("requant");
        let wide: Vec<i32> = (-32768..32768).map(|v| v / 3).collect();
        let table = b.table(DType::I16, &wide).expect("a table");
        let z = put(b, "g", Op::Lookup { table }, &[z]).expect("lookup");
        let split = |b: &mut GraphBuilder, name: &str, x, shape: &[u32]| {
            let shape = shape.iter().map(|n| Dim::Fixed(*n)).collect();
            put(b, name, Op::Reshape { shape }, &[x]).expect("reshape")
        };
        let turned = put(b, "t", Op::Transpose { perm: vec![1, 0] }, &[z]).expect("transpose");
        let turned = split(b, "u", turned, &[24]);
        let flat = split(b, "v", z, &[24]);
        let both = put(b, "c", Op::Concat { axis: 0 }, &[turned, flat]).expect("concat");
        let part = Op::Slice {
            axis: 0,
            start: 0,
            len: 5,
        };
        let part = put(b, "s", part, &[both]).expect("slice");
        put(b, "d", Op::Concat { axis: 0 }, &[part, both]).expect("concat");
    });
    agree(g, 1, 2, 6);
}

//! Each operator in a small graph.

use assay_graph::{
    DType, Dim, Graph, GraphBuilder, Header, NodeId, Op, Requant, TensorType, WeightRow, Window,
};

use super::support::agree;

pub(super) struct Rng(pub(super) u64);

impl Rng {
    pub(super) fn within(&mut self, lo: i32, hi: i32) -> i32 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        let width = (i64::from(hi) - i64::from(lo) + 1) as u64;
        (i64::from(lo) + ((self.0 >> 33) % width) as i64) as i32
    }

    pub(super) fn rows(&mut self, rows: usize, cols: usize, shifts: (i32, i32)) -> Vec<WeightRow> {
        (0..rows)
            .map(|_| WeightRow {
                shift: self.within(shifts.0, shifts.1) as i8,
                bias: self.within(-2000, 2000),
                values: (0..cols).map(|_| self.within(-128, 127)).collect(),
            })
            .collect()
    }
}

pub(super) fn tensor(dtype: DType, shape: &[u32], lo: i32, hi: i32) -> TensorType {
    TensorType {
        dtype,
        shape: shape.iter().map(|n| Dim::Fixed(*n)).collect(),
        lo,
        hi,
    }
}

pub(super) fn out(shift: i8, dtype: DType, lo: i32, hi: i32) -> Requant {
    Requant {
        shift,
        dtype,
        lo,
        hi,
    }
}

/// A graph of an input and what `body` adds to it.
pub(super) fn graph(ty: TensorType, body: impl FnOnce(&mut GraphBuilder, NodeId)) -> Graph {
    let mut b = GraphBuilder::new(Header {
        max_seq: 1,
        block_bits: 10,
    });
    let x = b.input(ty).expect("an input");
    body(&mut b, x);
    b.finish().expect("a graph")
}

/// Adds a checkpointed node.
pub(super) fn put(
    b: &mut GraphBuilder,
    name: &str,
    op: Op,
    inputs: &[NodeId],
) -> Result<NodeId, assay_graph::GraphError> {
    b.push(name, op, inputs, true)
}

#[test]
fn linear_layers_with_every_kind_of_clamp() {
    let mut r = Rng(1);
    // a table clamps; nothing clamps; shifts of 0; a range that needs limbs and slack
    for (shifts, clamp) in [
        ((7, 9), out(0, DType::I8, 0, 127)),
        ((9, 12), out(0, DType::I16, -32767, 32767)),
        ((0, 2), out(0, DType::I16, -300, 300)),
        ((3, 3), out(0, DType::I32, -1 << 30, 1 << 30)),
    ] {
        let rows = r.rows(6, 5, shifts);
        let g = graph(tensor(DType::I8, &[3, 5], -128, 127), |b, x| {
            let w = b.weights(DType::I8, &rows).expect("weights");
            put(
                b,
                "y",
                Op::Linear {
                    weights: w,
                    out: clamp,
                },
                &[x],
            )
            .expect("linear");
        });
        agree(g, 1, 2, 7);
    }
}

#[test]
fn a_deep_perceptron_and_wide_accumulators() {
    let mut r = Rng(2);
    let (first, second) = (r.rows(37, 100, (8, 10)), r.rows(10, 37, (0, 0)));
    let g = graph(tensor(DType::I8, &[100], 0, 127), |b, x| {
        let w = b.weights(DType::I8, &first).expect("weights");
        let h = put(
            b,
            "h",
            Op::Linear {
                weights: w,
                out: out(0, DType::I8, 0, 127),
            },
            &[x],
        )
        .expect("linear");
        let w = b.weights(DType::I8, &second).expect("weights");
        put(
            b,
            "y",
            Op::Linear {
                weights: w,
                out: out(0, DType::I16, -32767, 32767),
            },
            &[h],
        )
        .expect("linear");
    });
    agree(g, 1, 3, 3);
}

#[test]
fn convolutions_pools_and_flattening() {
    let mut r = Rng(3);
    for (pad, stride, groups) in [
        ([2, 2, 2, 2], [1, 1], 1),
        ([0, 0, 0, 0], [1, 2], 1),
        ([1, 0, 1, 2], [2, 1], 3),
    ] {
        let rows = r.rows(6, 3 * 3 * 3 / groups, (6, 8));
        let head = |n| r.rows(4, n, (5, 6));
        let mut head = head;
        let window = Window {
            kernel: [3, 3],
            stride,
            pad,
        };
        let g = graph(tensor(DType::I8, &[9, 8, 3], -128, 127), |b, x| {
            let w = b.weights(DType::I8, &rows).expect("weights");
            let y = put(
                b,
                "c",
                Op::Conv2d {
                    weights: w,
                    window,
                    groups: groups as u32,
                    out: out(0, DType::I8, 0, 127),
                },
                &[x],
            )
            .expect("conv");
            let pool = Window {
                kernel: [2, 2],
                stride: [2, 2],
                pad: [0; 4],
            };
            let y = put(b, "p", Op::MaxPool { window: pool }, &[y]).expect("pool");
            let n: u32 = b
                .type_of(y)
                .expect("a type")
                .shape
                .iter()
                .map(|d| d.at(1.into()))
                .product();
            let flat = put(
                b,
                "f",
                Op::Reshape {
                    shape: vec![Dim::Fixed(n)],
                },
                &[y],
            )
            .expect("reshape");
            let rows = head(n as usize);
            let w = b.weights(DType::I8, &rows).expect("weights");
            put(
                b,
                "y",
                Op::Linear {
                    weights: w,
                    out: out(0, DType::I8, -128, 127),
                },
                &[flat],
            )
            .expect("linear");
        });
        agree(g, 1, 2, 5);
    }
}

#[test]
fn average_pools_round_as_defined() {
    for kernel in [[2, 2], [3, 2], [3, 3]] {
        let window = Window {
            kernel,
            stride: [1, 2],
            pad: [0; 4],
        };
        let g = graph(tensor(DType::I8, &[5, 6, 3], -128, 127), |b, x| {
            put(b, "p", Op::AvgPool { window }, &[x]).expect("pool");
        });
        agree(g, 1, 1, 11);
    }
}

#[test]
fn element_by_element() {
    let g = graph(tensor(DType::I16, &[4, 6], -32768, 32767), |b, x| {
        let half = put(
            b,
            "r",
            Op::Requant {
                out: out(8, DType::I8, -128, 127),
            },
            &[x],
        )
        .expect("requant");
        let values: Vec<i32> = (-128..128).map(|v| v * v / 256).collect();
        let table = b.table(DType::I8, &values).expect("a table");
        let squares = put(b, "l", Op::Lookup { table }, &[half]).expect("lookup");
        let sum = put(
            b,
            "a",
            Op::Add {
                left: [0, 7],
                out: out(0, DType::I16, -32767, 32767),
            },
            &[x, squares],
        )
        .expect("add");
        let wide = put(
            b,
            "w",
            Op::Add {
                left: [3, 0],
                out: out(0, DType::I32, -1 << 30, 1 << 30),
            },
            &[sum, half],
        )
        .expect("add");
        let turned = put(b, "t", Op::Transpose { perm: vec![1, 0] }, &[wide]).expect("transpose");
        let part = put(
            b,
            "s",
            Op::Slice {
                axis: 0,
                start: 2,
                len: 3,
            },
            &[turned],
        )
        .expect("slice");
        put(
            b,
            "y",
            Op::Requant {
                out: out(4, DType::I16, -32768, 32767),
            },
            &[part],
        )
        .expect("requant");
    });
    agree(g, 1, 2, 13);
}

#[test]
fn a_convolution_behind_a_pool() {
    let mut r = Rng(5);
    let (first, second) = (r.rows(4, 9, (5, 6)), r.rows(3, 36, (6, 8)));
    let window = Window {
        kernel: [3, 3],
        stride: [1, 1],
        pad: [1; 4],
    };
    let clamp = out(0, DType::I8, 0, 127);
    let g = graph(tensor(DType::I8, &[8, 12, 1], -128, 127), |b, x| {
        let w = b.weights(DType::I8, &first).expect("weights");
        let y = put(
            b,
            "c",
            Op::Conv2d {
                weights: w,
                window,
                groups: 1,
                out: clamp,
            },
            &[x],
        )
        .expect("conv");
        let pool = Window {
            kernel: [2, 2],
            stride: [2, 2],
            pad: [0; 4],
        };
        let y = put(b, "p", Op::MaxPool { window: pool }, &[y]).expect("pool");
        let w = b.weights(DType::I8, &second).expect("weights");
        let y = put(
            b,
            "d",
            Op::Conv2d {
                weights: w,
                window,
                groups: 1,
                out: clamp,
            },
            &[y],
        )
        .expect("conv");
        put(b, "q", Op::MaxPool { window: pool }, &[y]).expect("pool");
    });
    agree(g, 1, 1, 17);
}

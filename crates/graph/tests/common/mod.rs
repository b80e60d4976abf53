//! Small graphs that use every operator, with seeded random constants.
#![allow(dead_code, reason = "each test binary uses a part")]

use assay_graph::{
    DType, Data, Dim, Graph, GraphBuilder, Header, NodeId, Op, Requant, Tensor, TensorType,
    WeightRow, Window,
};

/// xorshift64*: seeded, no dependency.
pub struct Rng(pub u64);

impl Rng {
    pub fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D)
    }
    pub fn range(&mut self, lo: i64, hi: i64) -> i32 {
        (lo + (self.next() % (hi - lo + 1) as u64) as i64) as i32
    }
}

pub fn q(shift: i8, dtype: DType) -> Requant {
    let (lo, hi) = match dtype {
        DType::I8 => (-127, 127),
        DType::I16 => (-32767, 32767),
        DType::I32 => (-(1 << 29), 1 << 29),
    };
    Requant {
        shift,
        dtype,
        lo,
        hi,
    }
}

fn weight_rows(rng: &mut Rng, rows: usize, cols: usize, shift: i8) -> Vec<WeightRow> {
    (0..rows)
        .map(|_| WeightRow {
            shift,
            bias: rng.range(-2000, 2000),
            values: (0..cols).map(|_| rng.range(-127, 127)).collect(),
        })
        .collect()
}

fn relu(rng: &mut Rng) -> Vec<i32> {
    (-128..128)
        .map(|x: i32| if x > 0 { x } else { x / (4 + rng.range(0, 3)) })
        .collect()
}

pub fn exp_table() -> Vec<i32> {
    (0..256)
        .map(|i| {
            if i == 255 {
                0
            } else {
                (4096.0 * (-(f64::from(i)) / 16.0).exp2()).round() as i32
            }
        })
        .collect()
}

/// conv2d (plain and grouped), pools, lookup, concat, slice, add, reshape, linear, arg_max.
pub fn image_graph(seed: u64, all_checkpoints: bool) -> Graph {
    let mut rng = Rng(seed | 1);
    let mut b = GraphBuilder::new(Header {
        max_seq: 1,
        block_bits: 10,
    });
    let fixed = |d: &[u32]| d.iter().map(|n| Dim::Fixed(*n)).collect::<Vec<_>>();
    let x = b
        .input(TensorType {
            dtype: DType::I8,
            shape: fixed(&[9, 8, 4]),
            lo: -128,
            hi: 127,
        })
        .unwrap();
    let w = b
        .weights(DType::I8, &weight_rows(&mut rng, 6, 3 * 3 * 4, 8))
        .unwrap();
    let window = Window {
        kernel: [3, 3],
        stride: [1, 1],
        pad: [1, 1, 1, 1],
    };
    let c = b
        .push(
            "conv",
            Op::Conv2d {
                weights: w,
                window,
                groups: 1,
                out: q(0, DType::I8),
            },
            &[x],
            all_checkpoints,
        )
        .unwrap();
    let t = b.table(DType::I8, &relu(&mut rng)).unwrap();
    let a = b
        .push("act", Op::Lookup { table: t }, &[c], all_checkpoints)
        .unwrap();
    let w = b
        .weights(DType::I16, &weight_rows(&mut rng, 12, 3 * 3, 7))
        .unwrap();
    let window = Window {
        kernel: [3, 3],
        stride: [2, 1],
        pad: [1, 0, 0, 1],
    };
    let g = b
        .push(
            "depthwise",
            Op::Conv2d {
                weights: w,
                window,
                groups: 6,
                out: q(0, DType::I16),
            },
            &[a],
            true,
        )
        .unwrap();
    let pool = Window {
        kernel: [2, 2],
        stride: [2, 2],
        pad: [0, 1, 0, 0],
    };
    let m = b
        .push("max", Op::MaxPool { window: pool }, &[g], all_checkpoints)
        .unwrap();
    let v = b
        .push("avg", Op::AvgPool { window: pool }, &[g], all_checkpoints)
        .unwrap();
    let s = b
        .push(
            "sum",
            Op::Add {
                left: [1, 0],
                out: q(2, DType::I16),
            },
            &[m, v],
            all_checkpoints,
        )
        .unwrap();
    let j = b
        .push("concat", Op::Concat { axis: 2 }, &[s, m], all_checkpoints)
        .unwrap();
    let k = b
        .push(
            "slice",
            Op::Slice {
                axis: 2,
                start: 3,
                len: 18,
            },
            &[j],
            all_checkpoints,
        )
        .unwrap();
    let dims: Vec<u32> = b
        .type_of(k)
        .unwrap()
        .dims(1)
        .iter()
        .map(|d| *d as u32)
        .collect();
    let flat = dims.iter().product();
    let r = b
        .push(
            "flat",
            Op::Reshape {
                shape: fixed(&[flat]),
            },
            &[k],
            false,
        )
        .unwrap();
    let d = b
        .push(
            "narrow",
            Op::Requant {
                out: q(8, DType::I8),
            },
            &[r],
            all_checkpoints,
        )
        .unwrap();
    let w = b
        .weights(DType::I8, &weight_rows(&mut rng, 10, flat as usize, 6))
        .unwrap();
    let l = b
        .push(
            "head",
            Op::Linear {
                weights: w,
                out: q(0, DType::I16),
            },
            &[d],
            true,
        )
        .unwrap();
    b.push("class", Op::ArgMax, &[l], true).unwrap();
    b.finish().unwrap()
}

pub fn image_input(seed: u64) -> Tensor {
    let mut rng = Rng(seed | 1);
    Tensor::new(
        vec![9, 8, 4],
        Data::I8((0..288).map(|_| rng.range(-128, 127) as i8).collect()),
    )
    .unwrap()
}

/// embedding, add_rows, linear, transpose, matmul, softmax, layer_norm, i16 lookup, requant, reduce_sum: one small encoder layer.
pub fn encoder_graph(seed: u64, max_seq: u32, checkpoints: bool) -> Graph {
    let mut rng = Rng(seed | 1);
    let (d, heads, vocab) = (16usize, 2usize, 40usize);
    let mut b = GraphBuilder::new(Header {
        max_seq,
        block_bits: 11,
    });
    let x = b
        .input(TensorType {
            dtype: DType::I32,
            shape: vec![Dim::Seq],
            lo: 0,
            hi: vocab as i32 - 1,
        })
        .unwrap();
    let table: Vec<i32> = (0..vocab * d).map(|_| rng.range(-9000, 9000)).collect();
    let rows = b.rows(DType::I16, d, &table).unwrap();
    let e = b
        .push("words", Op::Embedding { rows }, &[x], false)
        .unwrap();
    let table: Vec<i32> = (0..max_seq as usize * d)
        .map(|_| rng.range(-3000, 3000))
        .collect();
    let rows = b.rows(DType::I16, d, &table).unwrap();
    let e = b
        .push(
            "positions",
            Op::AddRows {
                rows,
                left: [0, 1],
                out: q(0, DType::I32),
            },
            &[e],
            false,
        )
        .unwrap();
    let norm = |b: &mut GraphBuilder, rng: &mut Rng, name: &str, x: NodeId| {
        let params: Vec<(i16, i32)> = (0..d)
            .map(|_| (rng.range(3000, 9000) as i16, rng.range(-100_000, 100_000)))
            .collect();
        let params = b.norm(&params).unwrap();
        b.push(
            name,
            Op::LayerNorm {
                params,
                eps: 77,
                out: q(14, DType::I16),
            },
            &[x],
            true,
        )
        .unwrap()
    };
    let e = norm(&mut b, &mut rng, "norm0", e);
    let project = |b: &mut GraphBuilder,
                   rng: &mut Rng,
                   name: &str,
                   x: NodeId,
                   n: usize,
                   k: usize,
                   lim: i32| {
        let w = b.weights(DType::I8, &weight_rows(rng, n, k, 9)).unwrap();
        b.push(
            name,
            Op::Linear {
                weights: w,
                out: Requant {
                    shift: 0,
                    dtype: DType::I16,
                    lo: -lim,
                    hi: lim,
                },
            },
            &[x],
            false,
        )
        .unwrap()
    };
    let split = |b: &mut GraphBuilder, name: &str, x: NodeId, perm: [u8; 3]| {
        let r = b
            .push(
                "heads",
                Op::Reshape {
                    shape: vec![
                        Dim::Seq,
                        Dim::Fixed(heads as u32),
                        Dim::Fixed((d / heads) as u32),
                    ],
                },
                &[x],
                false,
            )
            .unwrap();
        b.push(
            name,
            Op::Transpose {
                perm: perm.to_vec(),
            },
            &[r],
            false,
        )
        .unwrap()
    };
    let query = project(&mut b, &mut rng, "q", e, d, d, 4095);
    let query = split(&mut b, "qh", query, [1, 0, 2]);
    let key = project(&mut b, &mut rng, "k", e, d, d, 4095);
    let key = split(&mut b, "kh", key, [1, 0, 2]);
    let value = project(&mut b, &mut rng, "v", e, d, d, 32767);
    let value = split(&mut b, "vh", value, [1, 2, 0]);
    let s = b
        .push(
            "scores",
            Op::MatMul {
                out: q(10, DType::I16),
            },
            &[query, key],
            false,
        )
        .unwrap();
    let table = b.table(DType::I16, &exp_table()).unwrap();
    let p = b
        .push(
            "softmax",
            Op::Softmax {
                table,
                shift: 5,
                bits: 14,
            },
            &[s],
            false,
        )
        .unwrap();
    let c = b
        .push(
            "context",
            Op::MatMul {
                out: q(14, DType::I16),
            },
            &[p, value],
            false,
        )
        .unwrap();
    let c = b
        .push(
            "merge",
            Op::Transpose {
                perm: vec![1, 0, 2],
            },
            &[c],
            false,
        )
        .unwrap();
    let c = b
        .push(
            "merged",
            Op::Reshape {
                shape: vec![Dim::Seq, Dim::Fixed(d as u32)],
            },
            &[c],
            false,
        )
        .unwrap();
    let o = project(&mut b, &mut rng, "o", c, d, d, 32767);
    let r = b
        .push(
            "residual",
            Op::Add {
                left: [1, 0],
                out: q(0, DType::I32),
            },
            &[e, o],
            false,
        )
        .unwrap();
    let e = norm(&mut b, &mut rng, "norm1", r);
    let h = project(&mut b, &mut rng, "up", e, 3 * d, d, 32767);
    let gelu: Vec<i32> = (-32768..32768i32)
        .map(|x| if x > 0 { x / 2 } else { -(x.rem_euclid(50)) })
        .collect();
    let table = b.table(DType::I16, &gelu).unwrap();
    let h = b.push("gelu", Op::Lookup { table }, &[h], false).unwrap();
    let h = project(&mut b, &mut rng, "down", h, d, 3 * d, 32767);
    let r = b
        .push(
            "residual2",
            Op::Add {
                left: [0, 0],
                out: q(1, DType::I16),
            },
            &[e, h],
            false,
        )
        .unwrap();
    let e = norm(&mut b, &mut rng, "norm2", r);
    let t = b
        .push(
            "columns",
            Op::Transpose { perm: vec![1, 0] },
            &[e],
            checkpoints,
        )
        .unwrap();
    b.push("pool", Op::ReduceSum, &[t], true).unwrap();
    b.finish().unwrap()
}

pub fn ids(seed: u64, n: usize) -> Tensor {
    let mut rng = Rng(seed | 1);
    Tensor::new(
        vec![n],
        Data::I32((0..n).map(|_| rng.range(0, 39)).collect()),
    )
    .unwrap()
}

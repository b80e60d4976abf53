//! Small graphs that use every operator, with seeded random constants.
#![allow(dead_code, reason = "each test binary uses a part")]

use assay_graph::{
    BlockRow, DType, Data, Dim, Graph, GraphBuilder, Header, NodeId, Op, Requant, Tensor,
    TensorType, WeightRow, Window,
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

/// Vocabulary of [`language_graph`].
pub const VOCABULARY: u32 = 70;

fn block_rows(rng: &mut Rng, rows: usize, cols: usize, bits: u8, shift: i8) -> Vec<BlockRow> {
    let offsets = bits == 4;
    (0..rows)
        .map(|_| BlockRow {
            shift,
            bias: rng.range(-2000, 2000),
            steps: (0..cols / 32).map(|_| rng.range(1, 60) as i16).collect(),
            offsets: (0..if offsets { cols / 32 } else { 0 })
                .map(|_| rng.range(-500, -100) as i16)
                .collect(),
            codes: (0..cols)
                .map(|_| rng.range(0, (1 << bits) - 1) as u8)
                .collect(),
        })
        .collect()
}

fn limited(shift: i8, dtype: DType, most: i32) -> Requant {
    Requant {
        shift,
        dtype,
        lo: -most,
        hi: most,
    }
}

/// A decoder of `layers` layers with every operator of language models: d = 32, 2 heads over 1 key head of 16, feed-forward 64.
pub fn language_graph(seed: u64, layers: usize, max_seq: u32) -> Graph {
    let mut rng = Rng(seed | 1);
    let mut b = GraphBuilder::new(Header {
        max_seq,
        block_bits: 10,
    });
    let (d, heads, kv, size, inner) = (32usize, 2u16, 1u16, 16usize, 64usize);
    let tokens = b
        .input(TensorType {
            dtype: DType::I32,
            shape: vec![Dim::Seq],
            lo: 0,
            hi: VOCABULARY as i32 - 1,
        })
        .unwrap();
    let rows = block_rows(&mut rng, VOCABULARY as usize, d, 8, 14);
    let words = b.blocks(8, 32, &rows).unwrap();
    let residual = limited(0, DType::I32, (1 << 29) - 1);
    let lift = Op::Lift {
        weights: words,
        out: limited(-14, DType::I32, (1 << 29) - 1),
    };
    let mut h = b.push("words", lift, &[tokens], true).unwrap();
    let angles: Vec<i32> = (0..max_seq as usize)
        .flat_map(|t| {
            let turn = move |i: usize| t as f64 / 50f64.powf(i as f64 / (size / 2) as f64);
            let cos = (0..size / 2).map(move |i| (16384.0 * turn(i).cos()).round() as i32);
            cos.chain((0..size / 2).map(move |i| (16384.0 * turn(i).sin()).round() as i32))
        })
        .collect();
    let angles = b.rows(DType::I16, size, &angles).unwrap();
    let exp: Vec<i32> = (0..256)
        .map(|i| match i {
            255 => 0,
            _ => (2048.0 * (-f64::from(i) / 16.0).exp2()).round() as i32,
        })
        .collect();
    let exp = b.table(DType::I16, &exp).unwrap();
    let silu: Vec<i32> = (-32768..32768)
        .map(|x| {
            let v = f64::from(x) / 256.0;
            (256.0 * v / (1.0 + (-v).exp())).round() as i32
        })
        .collect();
    let silu = b.table(DType::I16, &silu).unwrap();
    let norm = |b: &mut GraphBuilder, rng: &mut Rng, x: NodeId| {
        let gains: Vec<(i16, i32)> = (0..d).map(|_| (rng.range(4000, 30000) as i16, 0)).collect();
        let params = b.norm(&gains).unwrap();
        let op = Op::RmsNorm {
            params,
            eps: 3,
            out: limited(15, DType::I16, 32639),
        };
        b.push("norm", op, &[x], false).unwrap()
    };
    let linear = |b: &mut GraphBuilder, rows: &[BlockRow], bits: u8, x: &[NodeId], out: Requant| {
        let weights = b.blocks(bits, 32, rows).unwrap();
        b.push("linear", Op::Linear { weights, out }, x, false)
            .unwrap()
    };
    for _ in 0..layers {
        let z = norm(&mut b, &mut rng, h);
        let rows = block_rows(&mut rng, d, d, 4, 9);
        let q = linear(&mut b, &rows, 4, &[z], limited(0, DType::I16, 32639));
        let rows = block_rows(&mut rng, size, d, 5, 9);
        let k = linear(&mut b, &rows, 5, &[z], limited(0, DType::I16, 32639));
        let rows = block_rows(&mut rng, size, d, 6, 13);
        let v = linear(&mut b, &rows, 6, &[z], limited(0, DType::I16, 2047));
        let rope = |most| Op::Rope {
            rows: angles,
            out: limited(17, DType::I16, most),
        };
        let q = b.push("turn q", rope(4095), &[q], false).unwrap();
        let k = b.push("turn k", rope(2047), &[k], false).unwrap();
        let op = Op::Scores {
            heads,
            kv_heads: kv,
        };
        let s = b.push("scores", op, &[q, k], false).unwrap();
        let op = Op::CausalExp {
            table: exp,
            shifts: vec![19, 18],
        };
        let e = b.push("weights", op, &[s], false).unwrap();
        let op = Op::Transpose { perm: vec![1, 0] };
        let v = b.push("values", op, &[v], false).unwrap();
        let op = Op::Mix {
            kv_heads: kv,
            bits: 3,
            out: limited(0, DType::I16, 32639),
        };
        let o = b.push("mix", op, &[e, v], false).unwrap();
        let rows = block_rows(&mut rng, d, d, 4, 8);
        let o = linear(&mut b, &rows, 4, &[o], residual);
        let add = Op::Add {
            left: [0, 0],
            out: residual,
        };
        h = b.push("add", add.clone(), &[h, o], false).unwrap();
        let z = norm(&mut b, &mut rng, h);
        let rows = block_rows(&mut rng, inner, d, 4, 9);
        let g = linear(&mut b, &rows, 4, &[z], limited(0, DType::I16, 32639));
        let rows = block_rows(&mut rng, inner, d, 4, 9);
        let u = linear(&mut b, &rows, 4, &[z], limited(0, DType::I16, 32500));
        let a = b
            .push("silu", Op::Lookup { table: silu }, &[g], false)
            .unwrap();
        let op = Op::Mul {
            out: limited(0, DType::I32, 1 << 30),
        };
        let p = b.push("product", op, &[a, u], false).unwrap();
        let x = b
            .push("exponent", Op::Exponent { bits: 15 }, &[p], false)
            .unwrap();
        let op = Op::Normalise {
            out: limited(0, DType::I16, 32639),
        };
        let p = b.push("normalised", op, &[p, x], false).unwrap();
        let rows = block_rows(&mut rng, d, inner, 4, 24);
        let f = linear(&mut b, &rows, 4, &[p, x], residual);
        h = b.push("add", add, &[h, f], true).unwrap();
    }
    let t = b.push("tail", Op::Tail, &[h], false).unwrap();
    let z = norm(&mut b, &mut rng, t);
    let op = Op::Linear {
        weights: words,
        out: limited(0, DType::I16, 32639),
    };
    let logits = b.push("logits", op, &[z], false).unwrap();
    sampler(&mut b, logits, tokens, [16, 24, 20]);
    b.finish().unwrap()
}

/// The nodes from logits to the sampled token; `blocks` of maximum, census and mass.
pub fn sampler(b: &mut GraphBuilder, logits: NodeId, tokens: NodeId, blocks: [u32; 3]) -> NodeId {
    let falling: Vec<i32> = (0..256)
        .map(|i| (16384.0 * (-f64::from(i) / 256.0).exp2()).round() as i32)
        .collect();
    let table = b.table(DType::I16, &falling).unwrap();
    let limit = 5120;
    let mut push = |name, op, inputs: &[NodeId]| b.push(name, op, inputs, false).unwrap();
    let y = push("adjusted", Op::Adjust { scale: 8 }, &[logits, tokens]);
    let m = push("maxima", Op::BlockMax { block: blocks[0] }, &[y]);
    let m = push("maximum", Op::BlockMax { block: 65536 }, &[m]);
    let d = push("gap", Op::Gap { limit }, &[y, m]);
    let op = Op::Census {
        block: blocks[1],
        limit,
    };
    let c = push("census", op, &[d]);
    let c = push("histogram", Op::ReduceSum, &[c]);
    let cut = push("cut", Op::Cut { table }, &[c]);
    let op = Op::Mass {
        table,
        block: blocks[2],
    };
    let mass = push("mass", op, &[d, cut]);
    let op = Op::Pick {
        table,
        block: blocks[2],
    };
    push("pick", op, &[d, cut, mass])
}

/// Generates `out` tokens one at a time by the definition; prompt and answer as one tensor without the last token, and the answer.
pub fn generate(
    graph: &Graph,
    prompt: &[i32],
    out: u32,
    statement: &assay_graph::Statement,
) -> (Tensor, Vec<i32>) {
    let mut answer: Vec<i32> = Vec::new();
    let tokens = |answer: &[i32]| {
        let all: Vec<i32> = prompt.iter().chain(answer).copied().collect();
        Tensor::new(vec![all.len()], Data::I32(all)).unwrap()
    };
    for n in 1..=out {
        let run = assay_graph::eval::run_with(graph, &tokens(&answer), n, Some(statement)).unwrap();
        let sampled = run.last().unwrap().data.to_i32();
        assert_eq!(sampled[..answer.len()], answer, "an earlier token changed");
        answer.push(*sampled.last().unwrap());
    }
    (tokens(&answer[..answer.len() - 1]), answer)
}

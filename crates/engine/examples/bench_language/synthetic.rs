//! A language model of a given shape with random weights: the nodes that an importer writes, block codes of the same widths.

use assay_graph::{
    BlockRow, ConstId, DType, Dim, Graph, GraphBuilder, GraphError, Header, NodeId, Op, Requant,
    TensorType,
};

/// Sizes of a model.
#[derive(Clone, Copy, Debug)]
pub struct Shape {
    pub layers: usize,
    pub width: usize,
    pub heads: usize,
    pub kv_heads: usize,
    pub head: usize,
    pub inner: usize,
    pub vocabulary: usize,
    pub positions: usize,
}

impl Shape {
    /// SmolLM2-135M.
    pub const SMOL: Self = Self {
        layers: 30,
        width: 576,
        heads: 9,
        kv_heads: 3,
        head: 64,
        inner: 1536,
        vocabulary: 49_152,
        positions: 2048,
    };
    /// Qwen2.5-0.5B.
    pub const QWEN: Self = Self {
        layers: 24,
        width: 896,
        heads: 14,
        kv_heads: 2,
        head: 64,
        inner: 4864,
        vocabulary: 151_936,
        positions: 2048,
    };
}

struct Writer {
    b: GraphBuilder,
    seed: u64,
}

const fn limited(shift: i8, dtype: DType, most: i32) -> Requant {
    Requant {
        shift,
        dtype,
        lo: -most,
        hi: most,
    }
}

impl Writer {
    fn below(&mut self, n: u64) -> i32 {
        self.seed = self
            .seed
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        ((self.seed >> 33) % n) as i32
    }

    /// Block codes; steps up to `step`, shifts so that outputs are of the order of inputs.
    fn blocks(
        &mut self,
        rows: usize,
        cols: usize,
        bits: u8,
        step: i32,
        shift: i8,
    ) -> Result<ConstId, GraphError> {
        let offsets = bits < 6;
        let rows: Vec<BlockRow> = (0..rows)
            .map(|_| {
                let steps: Vec<i16> = (0..cols / 32)
                    .map(|_| (1 + self.below(step as u64)) as i16)
                    .collect();
                BlockRow {
                    shift,
                    bias: 0,
                    offsets: steps
                        .iter()
                        .filter(|_| offsets)
                        .map(|s| -(s << (bits - 1)))
                        .collect(),
                    steps,
                    codes: (0..cols).map(|_| self.below(1 << bits) as u8).collect(),
                }
            })
            .collect();
        self.b.blocks(bits, 32, &rows)
    }

    fn linear(
        &mut self,
        x: &[NodeId],
        weights: ConstId,
        out: Requant,
    ) -> Result<NodeId, GraphError> {
        self.b.push("linear", Op::Linear { weights, out }, x, false)
    }

    fn norm(&mut self, x: NodeId, n: usize) -> Result<NodeId, GraphError> {
        let gains: Vec<(i16, i32)> = (0..n)
            .map(|_| (14_000 + self.below(4000) as i16, 0))
            .collect();
        let params = self.b.norm(&gains)?;
        let out = limited(12, DType::I16, 32_639);
        self.b.push(
            "norm",
            Op::RmsNorm {
                params,
                eps: 3,
                out,
            },
            &[x],
            false,
        )
    }
}

/// Builds the model: 4-bit codes with offsets in the layers, 8-bit codes in the head.
pub fn language_model(s: Shape) -> Result<Graph, GraphError> {
    let header = Header {
        max_seq: s.positions as u32,
        block_bits: 14,
    };
    let mut w = Writer {
        b: GraphBuilder::new(header),
        seed: 1,
    };
    let residual = limited(0, DType::I32, (1 << 29) - 1);
    let tokens = w.b.input(TensorType {
        dtype: DType::I32,
        shape: vec![Dim::Seq],
        lo: 0,
        hi: s.vocabulary as i32 - 1,
    })?;
    let words = w.blocks(s.vocabulary, s.width, 8, 12, 12)?;
    let lift = Op::Lift {
        weights: words,
        out: limited(-15, DType::I32, (1 << 29) - 1),
    };
    let mut h = w.b.push("words", lift, &[tokens], true)?;
    let turn = |t: usize, i: usize| t as f64 / 100_000f64.powf(2.0 * i as f64 / s.head as f64);
    let angles: Vec<i32> = (0..s.positions)
        .flat_map(|t| {
            let half = s.head / 2;
            let cos = (0..half).map(move |i| (16384.0 * turn(t, i).cos()).round() as i32);
            cos.chain((0..half).map(move |i| (16384.0 * turn(t, i).sin()).round() as i32))
        })
        .collect();
    let angles = w.b.rows(DType::I16, s.head, &angles)?;
    let exp: Vec<i32> = (0..256)
        .map(|i| {
            if i == 255 {
                0
            } else {
                (2032.0 * (-f64::from(i) / 16.0).exp2()).round() as i32
            }
        })
        .collect();
    let exp = w.b.table(DType::I16, &exp)?;
    let silu: Vec<i32> = (-32768..32768)
        .map(|x| f64::from(x) / 256.0)
        .map(|v| (256.0 * v / (1.0 + (-v).exp())).round() as i32)
        .collect();
    let silu = w.b.table(DType::I16, &silu)?;
    let (all, kv) = (s.heads * s.head, s.kv_heads * s.head);
    for _ in 0..s.layers {
        let z = w.norm(h, s.width)?;
        let wide = limited(0, DType::I16, 32_639);
        let c = w.blocks(all, s.width, 4, 200, 14)?;
        let q = w.linear(&[z], c, wide)?;
        let c = w.blocks(kv, s.width, 4, 200, 14)?;
        let k = w.linear(&[z], c, wide)?;
        let c = w.blocks(kv, s.width, 4, 200, 17)?;
        let v = w.linear(&[z], c, limited(0, DType::I16, 2047))?;
        let rope = |most| Op::Rope {
            rows: angles,
            out: limited(16, DType::I16, most),
        };
        let q = w.b.push("rope", rope(4095), &[q], false)?;
        let k = w.b.push("rope", rope(2047), &[k], false)?;
        let op = Op::Scores {
            heads: s.heads as u16,
            kv_heads: s.kv_heads as u16,
        };
        let scores = w.b.push("scores", op, &[q, k], false)?;
        let op = Op::CausalExp {
            table: exp,
            shifts: vec![19; s.heads],
        };
        let e = w.b.push("exp", op, &[scores], false)?;
        let vt =
            w.b.push("values", Op::Transpose { perm: vec![1, 0] }, &[v], false)?;
        let op = Op::Mix {
            kv_heads: s.kv_heads as u16,
            bits: 4,
            out: wide,
        };
        let o = w.b.push("mix", op, &[e, vt], false)?;
        let c = w.blocks(s.width, all, 4, 130, 12)?;
        let o = w.linear(&[o], c, residual)?;
        let add = Op::Add {
            left: [0, 0],
            out: residual,
        };
        h = w.b.push("add", add.clone(), &[h, o], false)?;
        let z = w.norm(h, s.width)?;
        let c = w.blocks(s.inner, s.width, 4, 200, 15)?;
        let g = w.linear(&[z], c, wide)?;
        let c = w.blocks(s.inner, s.width, 4, 200, 15)?;
        let u = w.linear(&[z], c, limited(0, DType::I16, 32_500))?;
        let a = w.b.push("silu", Op::Lookup { table: silu }, &[g], false)?;
        let op = Op::Mul {
            out: limited(0, DType::I32, 1 << 30),
        };
        let p = w.b.push("product", op, &[a, u], false)?;
        let x =
            w.b.push("exponent", Op::Exponent { bits: 14 }, &[p], false)?;
        let op = Op::Normalise {
            out: limited(0, DType::I16, 16_384),
        };
        let p = w.b.push("normalised", op, &[p, x], false)?;
        let c = w.blocks(
            s.width,
            s.inner,
            4,
            if s.inner > 2000 { 60 } else { 130 },
            25,
        )?;
        let f = w.linear(&[p, x], c, residual)?;
        h = w.b.push("add", add, &[h, f], true)?;
    }
    let t = w.b.push("tail", Op::Tail, &[h], false)?;
    let z = w.norm(t, s.width)?;
    let logits = w.linear(&[z], words, limited(0, DType::I16, 32_639))?;
    let falling: Vec<i32> = (0..256)
        .map(|i| (16384.0 * (-f64::from(i) / 256.0).exp2()).round() as i32)
        .collect();
    let table = w.b.table(DType::I16, &falling)?;
    let limit = 5120;
    let mut push = |name, op, inputs: &[NodeId]| w.b.push(name, op, inputs, false);
    let y = push("adjust", Op::Adjust { scale: 8 }, &[logits, tokens])?;
    let m = push("maxima", Op::BlockMax { block: 8192 }, &[y])?;
    let m = push("maximum", Op::BlockMax { block: 65_536 }, &[m])?;
    let d = push("gap", Op::Gap { limit }, &[y, m])?;
    let c = push(
        "census",
        Op::Census {
            block: 24_576,
            limit,
        },
        &[d],
    )?;
    let c = push("histogram", Op::ReduceSum, &[c])?;
    let cut = push("cut", Op::Cut { table }, &[c])?;
    let mass = push("mass", Op::Mass { table, block: 1024 }, &[d, cut])?;
    push("pick", Op::Pick { table, block: 1024 }, &[d, cut, mass])?;
    w.b.finish()
}

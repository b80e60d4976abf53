//! A graph of the shapes of an imported all-MiniLM-L6-v2, with random weights: same operators, same element types, same checkpoints.

use assay_graph::{
    ConstId, DType, Dim, Graph, GraphBuilder, GraphError, Header, NodeId, Op, Requant, TensorType,
    WeightRow,
};

const WIDTH: usize = 384;
const HIDDEN: usize = 1536;
const HEADS: u32 = 12;
const LAYERS: usize = 6;
const WORDS: usize = 30_522;
const POSITIONS: usize = 512;
/// Feed-forward channels in `i16` beside the others.
const SIDE: usize = 16;

struct Writer {
    b: GraphBuilder,
    seed: u64,
}

const fn requant(shift: i8, dtype: DType) -> Requant {
    let (lo, hi) = dtype.range();
    Requant {
        shift,
        dtype,
        lo: lo + 1,
        hi,
    }
}

impl Writer {
    fn value(&mut self, peak: i32) -> i32 {
        self.seed = self
            .seed
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        ((self.seed >> 33) as i32) % (2 * peak + 1) - peak
    }

    fn values(&mut self, n: usize, peak: i32) -> Vec<i32> {
        (0..n).map(|_| self.value(peak)).collect()
    }

    fn linear(
        &mut self,
        x: NodeId,
        k: usize,
        n: usize,
        shift: i8,
        dtype: DType,
    ) -> Result<NodeId, GraphError> {
        let rows: Vec<WeightRow> = (0..n)
            .map(|_| WeightRow {
                shift,
                bias: self.value(1000),
                values: self.values(k, 127),
            })
            .collect();
        let weights = self.b.weights(DType::I8, &rows)?;
        self.b.push(
            "linear",
            Op::Linear {
                weights,
                out: requant(0, dtype),
            },
            &[x],
            false,
        )
    }

    fn norm(&mut self, x: NodeId, shift: i8, dtype: DType) -> Result<NodeId, GraphError> {
        let params: Vec<(i16, i32)> = (0..WIDTH)
            .map(|_| ((8000 + self.value(2000)) as i16, self.value(1000)))
            .collect();
        let params = self.b.norm(&params)?;
        self.b.push(
            "norm",
            Op::LayerNorm {
                params,
                eps: 1000,
                out: requant(shift, dtype),
            },
            &[x],
            false,
        )
    }

    fn heads(&mut self, x: NodeId, perm: [u8; 3]) -> Result<NodeId, GraphError> {
        let shape = vec![
            Dim::Seq,
            Dim::Fixed(HEADS),
            Dim::Fixed(WIDTH as u32 / HEADS),
        ];
        let split = self.b.push("split", Op::Reshape { shape }, &[x], false)?;
        self.b.push(
            "heads",
            Op::Transpose {
                perm: perm.to_vec(),
            },
            &[split],
            false,
        )
    }

    fn add(
        &mut self,
        a: NodeId,
        b: NodeId,
        shift: i8,
        checkpoint: bool,
    ) -> Result<NodeId, GraphError> {
        self.b.push(
            "add",
            Op::Add {
                left: [0, 0],
                out: requant(shift, DType::I16),
            },
            &[a, b],
            checkpoint,
        )
    }

    fn attention(&mut self, x: NodeId, exponentials: ConstId) -> Result<NodeId, GraphError> {
        let q = self.linear(x, WIDTH, WIDTH, 10, DType::I8)?;
        let k = self.linear(x, WIDTH, WIDTH, 10, DType::I8)?;
        let v = self.linear(x, WIDTH, WIDTH, 4, DType::I16)?;
        let (q, k, v) = (
            self.heads(q, [1, 0, 2])?,
            self.heads(k, [1, 0, 2])?,
            self.heads(v, [1, 2, 0])?,
        );
        let scores = self.b.push(
            "scores",
            Op::MatMul {
                out: requant(4, DType::I16),
            },
            &[q, k],
            false,
        )?;
        let weights = self.b.push(
            "weights",
            Op::Softmax {
                table: exponentials,
                shift: 4,
                bits: 14,
            },
            &[scores],
            false,
        )?;
        let context = self.b.push(
            "context",
            Op::MatMul {
                out: requant(18, DType::I8),
            },
            &[weights, v],
            false,
        )?;
        let joined = self.b.push(
            "joined",
            Op::Transpose {
                perm: vec![1, 0, 2],
            },
            &[context],
            false,
        )?;
        let shape = vec![Dim::Seq, Dim::Fixed(WIDTH as u32)];
        let rows = self
            .b
            .push("rows", Op::Reshape { shape }, &[joined], false)?;
        self.linear(rows, WIDTH, WIDTH, 4, DType::I16)
    }

    fn feed(&mut self, x: NodeId, narrow: ConstId, wide: ConstId) -> Result<NodeId, GraphError> {
        let hidden = self.linear(x, WIDTH, HIDDEN, 11, DType::I8)?;
        let active = self
            .b
            .push("active", Op::Lookup { table: narrow }, &[hidden], false)?;
        let main = self.linear(active, HIDDEN, WIDTH, 7, DType::I16)?;
        let hidden = self.linear(x, WIDTH, SIDE, 4, DType::I16)?;
        let active = self
            .b
            .push("side.active", Op::Lookup { table: wide }, &[hidden], false)?;
        let beside = self.linear(active, SIDE, WIDTH, 10, DType::I16)?;
        self.add(main, beside, 0, false)
    }
}

/// ids `i32 [Seq]` → sums over positions `i32 [384]`.
pub fn graph() -> Result<Graph, GraphError> {
    let mut w = Writer {
        b: GraphBuilder::new(Header {
            max_seq: 256,
            block_bits: 14,
        }),
        seed: 3,
    };
    let words = w.values(WORDS * WIDTH, 12_000);
    let words = w.b.rows(DType::I16, WIDTH, &words)?;
    let positions = w.values(POSITIONS * WIDTH, 3000);
    let positions = w.b.rows(DType::I16, WIDTH, &positions)?;
    // steps of 1/64, like an imported table
    let mut exponentials: Vec<i32> = std::iter::successors(Some(32_767i32), |e| Some(e * 63 / 64))
        .take(700)
        .collect();
    exponentials.push(0);
    let exponentials = w.b.table(DType::I16, &exponentials)?;
    let narrow: Vec<i32> = (-128..128).map(|v: i32| v.max(-20)).collect();
    let narrow = w.b.table(DType::I8, &narrow)?;
    let wide: Vec<i32> = (-32_768..32_768).map(|v: i32| v.max(-600)).collect();
    let wide = w.b.table(DType::I16, &wide)?;
    let ids = w.b.input(TensorType {
        dtype: DType::I32,
        shape: vec![Dim::Seq],
        lo: 0,
        hi: WORDS as i32 - 1,
    })?;
    let rows =
        w.b.push("words", Op::Embedding { rows: words }, &[ids], false)?;
    let mut sum = w.b.push(
        "sum",
        Op::AddRows {
            rows: positions,
            left: [0, 0],
            out: requant(0, DType::I16),
        },
        &[rows],
        false,
    )?;
    for _ in 0..LAYERS {
        let residual = w.norm(sum, 13, DType::I16)?;
        let input = w.norm(sum, 20, DType::I8)?;
        let attended = w.attention(input, exponentials)?;
        let mid = w.add(residual, attended, 1, false)?;
        let residual = w.norm(mid, 13, DType::I16)?;
        let input = w.norm(mid, 20, DType::I8)?;
        let fed = w.feed(input, narrow, wide)?;
        sum = w.add(residual, fed, 1, true)?;
    }
    let last = w.norm(sum, 13, DType::I16)?;
    let columns = w.b.push(
        "columns",
        Op::Transpose { perm: vec![1, 0] },
        &[last],
        false,
    )?;
    w.b.push("output", Op::ReduceSum, &[columns], true)?;
    w.b.finish()
}

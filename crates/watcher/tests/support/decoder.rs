//! A small decoder with the proportions of real ones, answers of which have proofs: two query heads for each key head, 16-bit weights, tables of 16 bits.

use assay_graph::{DType, Dim, Graph, GraphBuilder, Header, Op, Requant, TensorType, WeightRow};

use super::graphs::{Rng, VOCABULARY, sampler};

/// Positions.
pub const MAX_SEQ: u32 = 40;
const WIDTH: usize = 32;
const HEAD: usize = 8;
const HEADS: u16 = 4;
const KEY_HEADS: u16 = 2;
const FEED: usize = 48;

fn limited(shift: i8, dtype: DType, most: i32) -> Requant {
    Requant {
        shift,
        dtype,
        lo: -most,
        hi: most,
    }
}

fn rows(rng: &mut Rng, n: usize, cols: usize, shift: (i64, i64)) -> Vec<WeightRow> {
    let mut row = || WeightRow {
        shift: rng.range(shift.0, shift.1) as i8,
        bias: rng.range(-3000, 3000),
        values: (0..cols).map(|_| rng.range(-2500, 2500)).collect(),
    };
    (0..n).map(|_| row()).collect()
}

struct Net {
    b: GraphBuilder,
    rng: Rng,
}

impl Net {
    fn put(&mut self, op: Op, x: &[u32]) -> u32 {
        self.b.push("node", op, x, false).unwrap()
    }

    fn norm(&mut self, x: u32) -> u32 {
        let gains: Vec<(i16, i32)> = (0..WIDTH)
            .map(|_| (self.rng.range(4000, 30000) as i16, 0))
            .collect();
        let params = self.b.norm(&gains).unwrap();
        let op = Op::RmsNorm {
            params,
            eps: 3,
            out: limited(15, DType::I16, 32639),
        };
        self.put(op, &[x])
    }

    fn linear(&mut self, n: usize, cols: usize, shift: (i64, i64), x: &[u32], out: Requant) -> u32 {
        let rows = rows(&mut self.rng, n, cols, shift);
        let weights = self.b.weights(DType::I16, &rows).unwrap();
        self.put(Op::Linear { weights, out }, x)
    }

    fn attention(
        &mut self,
        z: u32,
        angles: assay_graph::ConstId,
        exp: assay_graph::ConstId,
    ) -> u32 {
        let narrow = limited(0, DType::I16, 32639);
        let keys = usize::from(KEY_HEADS) * HEAD;
        let q = self.linear(WIDTH, WIDTH, (12, 15), &[z], narrow);
        let k = self.linear(keys, WIDTH, (13, 15), &[z], narrow);
        let v = self.linear(keys, WIDTH, (17, 18), &[z], limited(0, DType::I16, 2032));
        let turn = |most| Op::Rope {
            rows: angles,
            out: limited(17, DType::I16, most),
        };
        let q = self.put(turn(4095), &[q]);
        let k = self.put(turn(2047), &[k]);
        let scores = Op::Scores {
            heads: HEADS,
            kv_heads: KEY_HEADS,
        };
        let s = self.put(scores, &[q, k]);
        let softened = Op::CausalExp {
            table: exp,
            shifts: vec![16, 14, 17, 15],
        };
        let e = self.put(softened, &[s]);
        let v = self.put(Op::Transpose { perm: vec![1, 0] }, &[v]);
        let mix = Op::Mix {
            kv_heads: KEY_HEADS,
            bits: 4,
            out: limited(0, DType::I16, 32512),
        };
        let o = self.put(mix, &[e, v]);
        let wide = limited(0, DType::I32, 520_093_696);
        self.linear(WIDTH, WIDTH, (8, 11), &[o], wide)
    }

    fn feed_forward(&mut self, z: u32, silu: assay_graph::ConstId) -> u32 {
        let g = self.linear(FEED, WIDTH, (13, 15), &[z], limited(0, DType::I16, 32639));
        let u = self.linear(FEED, WIDTH, (14, 16), &[z], limited(0, DType::I16, 8128));
        let a = self.put(Op::Lookup { table: silu }, &[g]);
        let product = Op::Mul {
            out: limited(0, DType::I32, 1 << 28),
        };
        let p = self.put(product, &[a, u]);
        let x = self.put(Op::Exponent { bits: 14 }, &[p]);
        let normalise = Op::Normalise {
            out: limited(0, DType::I16, 16384),
        };
        let n = self.put(normalise, &[p, x]);
        let wide = limited(0, DType::I32, 520_093_696);
        self.linear(WIDTH, FEED, (19, 22), &[n, x], wide)
    }
}

/// One layer over [`VOCABULARY`] tokens.
pub fn provable_speaker(seed: u64) -> Graph {
    let mut b = GraphBuilder::new(Header {
        max_seq: MAX_SEQ,
        block_bits: 10,
    });
    let mut rng = Rng(seed | 1);
    let ty = TensorType {
        dtype: DType::I32,
        shape: vec![Dim::Seq],
        lo: 0,
        hi: VOCABULARY as i32 - 1,
    };
    let tokens = b.input(ty).unwrap();
    let words = rows(&mut rng, VOCABULARY as usize, WIDTH, (13, 15));
    let words = b.weights(DType::I16, &words).unwrap();
    let lift = Op::Lift {
        weights: words,
        out: limited(-12, DType::I32, (1 << 29) - 1),
    };
    let mut h = b.push("words", lift, &[tokens], true).unwrap();
    let angles: Vec<i32> = (0..MAX_SEQ)
        .flat_map(|t| {
            let turn = move |i: usize| f64::from(t) / 50f64.powf(i as f64 / (HEAD / 2) as f64);
            let cos = (0..HEAD / 2).map(move |i| (16384.0 * turn(i).cos()).round() as i32);
            cos.chain((0..HEAD / 2).map(move |i| (16384.0 * turn(i).sin()).round() as i32))
        })
        .collect();
    let angles = b.rows(DType::I16, HEAD, &angles).unwrap();
    let exp: Vec<i32> = (0..256)
        .map(|i| match i {
            255 => 0,
            i => (2048.0 * (-f64::from(i) / 16.0).exp2()).round() as i32,
        })
        .collect();
    let exp = b.table(DType::I16, &exp).unwrap();
    let silu: Vec<i32> = (-32768..32768)
        .map(|x| {
            let v = f64::from(x) / 256.0;
            (256.0 * v / (1.0 + (-v).exp())).round().min(32766.0) as i32
        })
        .collect();
    let silu = b.table(DType::I16, &silu).unwrap();
    let mut net = Net { b, rng };
    let add = Op::Add {
        left: [0, 0],
        out: limited(0, DType::I32, (1 << 29) - 1),
    };
    let z = net.norm(h);
    let o = net.attention(z, angles, exp);
    h = net.put(add.clone(), &[h, o]);
    let z = net.norm(h);
    let f = net.feed_forward(z, silu);
    h = net.b.push("add", add, &[h, f], true).unwrap();
    let t = net.put(Op::Tail, &[h]);
    let z = net.norm(t);
    let head = Op::Linear {
        weights: words,
        out: limited(0, DType::I16, 32639),
    };
    let logits = net.put(head, &[z]);
    sampler(&mut net.b, logits, tokens, [16, 24, 20]);
    net.b.finish().unwrap()
}

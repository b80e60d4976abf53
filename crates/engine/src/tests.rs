//! Random graphs of all operators: every tier and thread count gives the bits of the definition, for every node and every root.

use std::sync::Arc;

use assay_graph::{
    ConstKind, DType, Data, Dim, Graph, GraphBuilder, Header, NodeId, Op, Requant, Tensor,
    TensorType, WeightRow, Window, eval,
    layout::Layout,
    trace::{Family, Hash, Tree, input_commit, leaf_hash, output_commit},
};
use proptest::prelude::*;

use crate::{Engine, EngineError, EngineOptions, Tier};

const SALT: Hash = [9; 32];

struct Rng(u64);

impl Rng {
    fn below(&mut self, n: usize) -> usize {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        ((self.0 >> 33) as usize) % n.max(1)
    }

    /// Both ends come often.
    fn value(&mut self, lo: i32, hi: i32) -> i32 {
        match self.below(6) {
            0 => lo,
            1 => hi,
            _ => {
                (i64::from(lo)
                    + (self.below(1 << 30) as i64) * 4 % (i64::from(hi) - i64::from(lo) + 1))
                    as i32
            }
        }
    }

    fn narrow_type(&mut self) -> DType {
        if self.below(2) == 0 {
            DType::I8
        } else {
            DType::I16
        }
    }

    fn requant(&mut self, shift: i8) -> Requant {
        let dtype = [DType::I8, DType::I16, DType::I16, DType::I32][self.below(4)];
        let (lo, hi) = dtype.range();
        let cut = self.below(3) == 0;
        Requant {
            shift,
            dtype,
            lo: if cut { self.value(lo, 0) } else { lo },
            hi: if cut { self.value(0, hi) } else { hi },
        }
    }

    fn window(&mut self) -> Window {
        let kernel = [1 + self.below(3) as u8, 1 + self.below(3) as u8];
        let mut side = |k: u8| self.below(usize::from(k)) as u8;
        let pad = [
            side(kernel[0]),
            side(kernel[1]),
            side(kernel[0]),
            side(kernel[1]),
        ];
        Window {
            kernel,
            stride: [1 + self.below(2) as u8, 1 + self.below(2) as u8],
            pad,
        }
    }

    fn weights(&mut self, b: &mut GraphBuilder, rows: usize, cols: usize, x: &TensorType) -> u32 {
        let dtype = self.narrow_type();
        let peak = i64::from(x.lo.unsigned_abs().max(x.hi.unsigned_abs()).max(1));
        let room =
            ((1i64 << 29) / (peak * cols as i64)).clamp(1, i64::from(dtype.range().1)) as i32;
        let all_negative = self.below(2) == 0 && -room > dtype.range().0;
        let rows: Vec<WeightRow> = (0..rows)
            .map(|_| WeightRow {
                shift: self.below(20) as i8 - if self.below(9) == 0 { 3 } else { 0 },
                bias: self.value(-(1 << 20), 1 << 20),
                values: (0..cols)
                    .map(|_| self.value(if all_negative { -room - 1 } else { -room }, room))
                    .collect(),
            })
            .collect();
        b.weights(dtype, &rows).unwrap()
    }
}

/// Appends one random node reading `x`; refused ones are left out.
fn grow(b: &mut GraphBuilder, r: &mut Rng, nodes: &mut Vec<NodeId>, max_seq: usize, all: bool) {
    let id = nodes[r.below(nodes.len())];
    let x = b.type_of(id).unwrap().clone();
    let last = x
        .shape
        .last()
        .map_or(1, |d| d.at((max_seq as u32).into()) as usize);
    let rank = x.shape.len();
    let mut inputs = vec![id];
    let op = match r.below(21) {
        0..=2 => Op::Linear {
            weights: {
                let n = 1 + r.below(70);
                r.weights(b, n, last, &x)
            },
            out: r.requant(0),
        },
        3 | 4 => {
            let window = r.window();
            let groups = if r.below(2) == 0 { 1 } else { last };
            let n = groups * (1 + r.below(3));
            let cols =
                usize::from(window.kernel[0]) * usize::from(window.kernel[1]) * last / groups;
            Op::Conv2d {
                weights: r.weights(b, n, cols, &x),
                window,
                groups: groups as u32,
                out: r.requant(0),
            }
        }
        5 => {
            inputs.push(nodes[r.below(nodes.len())]);
            if r.below(2) == 0 {
                inputs[1] = id;
            }
            let shift = r.below(20) as i8;
            Op::MatMul {
                out: r.requant(shift),
            }
        }
        6 => {
            let same: Vec<NodeId> = nodes
                .iter()
                .copied()
                .filter(|n| b.type_of(*n).unwrap().shape == x.shape)
                .collect();
            inputs.push(same[r.below(same.len())]);
            let shift = r.below(8) as i8 - 1;
            Op::Add {
                left: [r.below(6) as u8, r.below(6) as u8],
                out: r.requant(shift),
            }
        }
        7 => {
            let dtype = r.narrow_type();
            let values: Vec<i32> = (0..(last + r.below(2)) * 24)
                .map(|_| r.value(dtype.range().0, dtype.range().1))
                .collect();
            let cols = values.len() / 24;
            let shift = r.below(8) as i8 - 1;
            Op::AddRows {
                rows: b.rows(dtype, cols, &values).unwrap(),
                left: [r.below(4) as u8, r.below(4) as u8],
                out: r.requant(shift),
            }
        }
        8 => {
            let shift = r.below(18) as i8 - 3;
            Op::Requant {
                out: r.requant(shift),
            }
        }
        9 => {
            let dtype = r.narrow_type();
            let n = if x.dtype == DType::I8 { 256 } else { 65_536 };
            let values: Vec<i32> = (0..n)
                .map(|_| r.value(dtype.range().0, dtype.range().1))
                .collect();
            Op::Lookup {
                table: b.table(dtype, &values).unwrap(),
            }
        }
        10 => Op::MaxPool { window: r.window() },
        11 => Op::AvgPool { window: r.window() },
        12 | 13 => {
            let params: Vec<(i16, i32)> = (0..last)
                .map(|_| {
                    (
                        r.value(-20_000, 20_000) as i16,
                        r.value(-(1 << 22), 1 << 22),
                    )
                })
                .collect();
            let eps = [0, 1, 1 << 20, 1 << 62][r.below(4)];
            let shift = r.below(18) as i8;
            Op::LayerNorm {
                params: b.norm(&params).unwrap(),
                eps,
                out: r.requant(shift),
            }
        }
        14 => {
            let n = 2 + r.below(300);
            let mut table: Vec<i32> = (0..n).map(|_| r.value(1, 32_767)).collect();
            table.sort_unstable_by(|a, b| b.cmp(a));
            *table.last_mut().unwrap() = 0;
            Op::Softmax {
                table: b.table(DType::I16, &table).unwrap(),
                shift: r.below(20) as u8,
                bits: 1 + r.below(14) as u8,
            }
        }
        15 => Op::ReduceSum,
        16 => Op::ArgMax,
        17 => {
            let dtype = r.narrow_type();
            let cols = 1 + r.below(9);
            let values: Vec<i32> = (0..cols * (x.hi.clamp(0, 300) as usize + 1))
                .map(|_| r.value(dtype.range().0, dtype.range().1))
                .collect();
            Op::Embedding {
                rows: b.rows(dtype, cols, &values).unwrap(),
            }
        }
        18 => {
            let mut perm: Vec<u8> = (0..rank as u8).collect();
            for i in (1..rank).rev() {
                perm.swap(i, r.below(i + 1));
            }
            Op::Transpose { perm }
        }
        19 => {
            let mut shape = x.shape.clone();
            match (r.below(2), shape.last().copied()) {
                (0, Some(Dim::Fixed(n))) if n % 2 == 0 => {
                    shape.pop();
                    shape.extend([Dim::Fixed(2), Dim::Fixed(n / 2)]);
                }
                _ => shape.push(Dim::Fixed(1)),
            }
            Op::Reshape { shape }
        }
        _ => {
            let axis = r.below(rank);
            if r.below(2) == 0 {
                let n = x.shape.get(axis).map_or(1, |d| d.at(1.into()));
                let start = r.below(n as usize) as u32;
                Op::Slice {
                    axis: axis as u8,
                    start,
                    len: 1 + r.below((n - start) as usize) as u32,
                }
            } else {
                let same: Vec<NodeId> = nodes
                    .iter()
                    .copied()
                    .filter(|n| b.type_of(*n).unwrap().shape.len() == rank)
                    .collect();
                inputs.push(same[r.below(same.len())]);
                Op::Concat { axis: axis as u8 }
            }
        }
    };
    if let Ok(n) = b.push("random", op, &inputs, all) {
        nodes.push(n);
    }
}

fn graph(seed: u64) -> (Graph, usize) {
    let r = &mut Rng(seed);
    let max_seq = 1 + r.below(20);
    let mut b = GraphBuilder::new(Header {
        max_seq: max_seq as u32,
        block_bits: 10,
    });
    let c = [4, 12, 17, 32][r.below(4)];
    let (dtype, shape, lo, hi) = match r.below(4) {
        0 => (DType::I32, vec![Dim::Seq], 0, 40),
        1 => (DType::I16, vec![Dim::Seq, Dim::Fixed(c)], -32_768, 32_767),
        2 => (
            DType::I8,
            vec![Dim::Fixed(7), Dim::Fixed(6), Dim::Fixed(c)],
            -128,
            127,
        ),
        _ => (
            DType::I16,
            vec![Dim::Fixed(5), Dim::Fixed(8), Dim::Fixed(c)],
            -30_000,
            12_345,
        ),
    };
    let input = b
        .input(TensorType {
            dtype,
            shape,
            lo,
            hi,
        })
        .unwrap();
    let mut nodes = vec![input];
    let all = r.below(2) == 0;
    for _ in 0..30 {
        if nodes.len() < 12 {
            grow(&mut b, r, &mut nodes, max_seq, all);
        }
    }
    // the ends of a graph are bounded: a large output is reduced until it can be disputed
    let bytes = |b: &GraphBuilder, id| {
        let ty = b.type_of(id).unwrap();
        ty.len(max_seq as u32) as u64 * ty.dtype.size() as u64
    };
    while bytes(&b, input) + bytes(&b, b.names().len() as u32 - 1) > assay_graph::layout::MAX_ENDS {
        let last = b.names().len() as u32 - 1;
        b.push("index", Op::ArgMax, &[last], true).unwrap();
    }
    (b.finish().unwrap(), max_seq)
}

fn inputs(g: &Graph, max_seq: usize, seed: u64) -> Vec<Tensor> {
    let r = &mut Rng(seed);
    let ty = g.input_type().unwrap();
    (0..3)
        .map(|i| {
            let seq = if i == 0 {
                max_seq
            } else {
                1 + r.below(max_seq)
            } as u32;
            let values: Vec<i32> = (0..ty.len(seq))
                .map(|_| if i == 1 { ty.lo } else { r.value(ty.lo, ty.hi) })
                .collect();
            Tensor::new(ty.dims(seq), Data::from_i32(ty.dtype, &values).unwrap()).unwrap()
        })
        .collect()
}

/// The committed tree by the definition.
fn committed(g: &Graph, seq: u32, values: &[Tensor]) -> Tree {
    let layout = Layout::new(&g.structure(), seq);
    let mut leaves = vec![input_commit(&SALT, &values[0].data.to_bytes())];
    for n in layout.checkpoints() {
        leaves.extend(
            values[n as usize]
                .data
                .to_bytes()
                .chunks(layout.block_bytes())
                .map(|b| leaf_hash(Family::Trace, b)),
        );
    }
    leaves.push(output_commit(
        &SALT,
        &values.last().unwrap().data.to_bytes(),
    ));
    assert_eq!(leaves.len() as u64, layout.committed_leaves());
    Tree::new(Family::Trace, leaves)
}

fn engines(g: &Arc<Graph>) -> Vec<Engine> {
    let tiers = Tier::available();
    tiers
        .into_iter()
        .flat_map(|tier| {
            (1..=3).map(move |threads| EngineOptions {
                threads,
                tier: Some(tier),
            })
        })
        .map(|o| Engine::new(g.clone(), o).unwrap())
        .collect()
}

fn hold(seed: u64) -> Result<(), TestCaseError> {
    let (g, max_seq) = graph(seed);
    let g = Arc::new(g);
    let engines = engines(&g);
    for input in inputs(&g, max_seq, seed ^ 77) {
        let want = eval::run(&g, &input).unwrap();
        let seq = eval::check_input(&g, &input).unwrap();
        let tree = committed(&g, seq, &want);
        for e in &engines {
            let full = e.run_full(&input).unwrap();
            for (i, (have, want)) in full.outputs.iter().zip(&want).enumerate() {
                prop_assert_eq!(have, want, "node {} {:?} {:?}", i, g.nodes()[i], e);
            }
            prop_assert_eq!(&e.run(&input).unwrap().output, want.last().unwrap());
            let traced = e.run_traced(&input, &SALT).unwrap();
            prop_assert_eq!(&traced.output, want.last().unwrap());
            prop_assert_eq!(traced.root(), tree.root());
            prop_assert_eq!(
                full.committed_tree(&e.layout(seq), &SALT).root(),
                tree.root()
            );
        }
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { max_shrink_iters: 0, ..ProptestConfig::default() })]

    #[test]
    fn random_graphs_equal_the_definition(seed: u64) {
        hold(seed)?;
    }
}

#[test]
fn random_graphs_use_every_operator() {
    let mut seen = std::collections::BTreeMap::new();
    for seed in 0..400u64 {
        let (g, _) = graph(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        for n in g.nodes() {
            let name = format!("{:?}", n.op);
            *seen
                .entry(name.split([' ', '{']).next().unwrap_or("").to_owned())
                .or_insert(0) += 1;
        }
        assert!(
            g.consts()
                .iter()
                .all(|c| c.kind().rows() > 0 || matches!(c.kind(), ConstKind::Table { .. }))
        );
    }
    assert_eq!(seen.len(), 19, "{seen:?}");
}

#[test]
fn inputs_outside_the_declaration_are_refused() {
    let mut b = GraphBuilder::new(Header {
        max_seq: 4,
        block_bits: 10,
    });
    let ty = TensorType {
        dtype: DType::I16,
        shape: vec![Dim::Seq, Dim::Fixed(2)],
        lo: -5,
        hi: 5,
    };
    b.input(ty).unwrap();
    let engine = Engine::new(Arc::new(b.finish().unwrap()), EngineOptions::default()).unwrap();
    let run = |dims: Vec<usize>, data: Data| engine.run(&Tensor { dims, data });
    assert!(run(vec![1, 2], Data::I16(vec![-5, 5])).is_ok());
    assert_eq!(
        run(vec![1, 2], Data::I8(vec![0, 0])),
        Err(EngineError::InputType {
            want: DType::I16,
            have: DType::I8
        })
    );
    assert_eq!(
        run(vec![1, 2], Data::I16(vec![0, 6])),
        Err(EngineError::InputRange {
            index: 1,
            value: 6,
            lo: -5,
            hi: 5
        })
    );
    for dims in [vec![0, 2], vec![5, 2], vec![2, 3], vec![2], vec![1, 2, 1]] {
        let n = dims.iter().product();
        let want = EngineError::InputShape {
            want: "[seq, 2]".into(),
            max_seq: 4,
            have: dims.clone(),
        };
        assert_eq!(run(dims, Data::I16(vec![0; n])), Err(want));
    }
    assert!(matches!(
        run(vec![2, 2], Data::I16(vec![0; 3])),
        Err(EngineError::InputShape { .. })
    ));
}

#[test]
fn concurrent_runs_share_an_engine() {
    let (g, max_seq) = graph(5);
    let engine = Engine::new(
        Arc::new(g),
        EngineOptions {
            threads: 2,
            tier: None,
        },
    )
    .unwrap();
    let input = inputs(engine.graph(), max_seq, 3).remove(0);
    let want = engine.run(&input).unwrap();
    std::thread::scope(|s| {
        for _ in 0..4 {
            s.spawn(|| {
                for _ in 0..20 {
                    assert_eq!(engine.run(&input).unwrap(), want);
                }
            });
        }
    });
}

/// Attention as an importer writes it; `checkpoint` marks the transpositions, so that they may not be read through.
fn attention(heads: u32, size: u32, dtype: DType, checkpoint: bool) -> Graph {
    let (seq, wide) = (Dim::Seq, Dim::Fixed(heads * size));
    let peak = if dtype == DType::I8 { 128 } else { 3000 };
    let mut b = GraphBuilder::new(Header {
        max_seq: 70,
        block_bits: 10,
    });
    let x = b
        .input(TensorType {
            dtype,
            shape: vec![seq, wide],
            lo: -peak,
            hi: peak - 1,
        })
        .unwrap();
    let push =
        |b: &mut GraphBuilder, op: Op, x: &[NodeId]| b.push("attention", op, x, false).unwrap();
    let split = push(
        &mut b,
        Op::Reshape {
            shape: vec![seq, Dim::Fixed(heads), Dim::Fixed(size)],
        },
        &[x],
    );
    let q = b
        .push(
            "q",
            Op::Transpose {
                perm: vec![1, 0, 2],
            },
            &[split],
            checkpoint,
        )
        .unwrap();
    let k = push(
        &mut b,
        Op::Transpose {
            perm: vec![1, 0, 2],
        },
        &[split],
    );
    let v = push(
        &mut b,
        Op::Transpose {
            perm: vec![1, 2, 0],
        },
        &[split],
    );
    let full = |shift| Requant {
        shift,
        dtype: DType::I16,
        lo: -32_768,
        hi: 32_767,
    };
    let scores = push(&mut b, Op::MatMul { out: full(9) }, &[q, k]);
    let table: Vec<i32> = (0..200).map(|i| (199 - i) * 160).collect();
    let table = b.table(DType::I16, &table).unwrap();
    let weights = push(
        &mut b,
        Op::Softmax {
            table,
            shift: 2,
            bits: 14,
        },
        &[scores],
    );
    let context = push(&mut b, Op::MatMul { out: full(14) }, &[weights, v]);
    let joined = push(
        &mut b,
        Op::Transpose {
            perm: vec![1, 0, 2],
        },
        &[context],
    );
    let rows = push(
        &mut b,
        Op::Reshape {
            shape: vec![seq, wide],
        },
        &[joined],
    );
    push(
        &mut b,
        Op::Add {
            left: [0, 0],
            out: full(1),
        },
        &[rows, x],
    );
    if checkpoint {
        for n in 0..=rows {
            b.checkpoint(n);
        }
    }
    b.finish().unwrap()
}

#[test]
fn attention_equals_the_definition_fused_or_not() {
    for (heads, size, dtype) in [(3, 32, DType::I8), (2, 7, DType::I16), (12, 16, DType::I16)] {
        for checkpoint in [false, true] {
            let g = Arc::new(attention(heads, size, dtype, checkpoint));
            let engines = engines(&g);
            for input in inputs(&g, 70, 11) {
                let want = eval::run(&g, &input).unwrap();
                let root = committed(&g, eval::check_input(&g, &input).unwrap(), &want).root();
                for e in &engines {
                    assert_eq!(
                        &e.run(&input).unwrap().output,
                        want.last().unwrap(),
                        "{e:?}"
                    );
                    assert_eq!(e.run_full(&input).unwrap().outputs, want, "{e:?}");
                    assert_eq!(e.run_traced(&input, &SALT).unwrap().root(), root, "{e:?}");
                }
            }
        }
    }
}

/// Many columns for few rows (threads share columns), and enough rows and columns for several blocks of each kernel.
#[test]
fn large_products_equal_the_definition() {
    let r = &mut Rng(1);
    for (dtype, wide, rows, k, n) in [
        (DType::I8, DType::I8, 2, 53, 431),
        (DType::I16, DType::I8, 1, 64, 300),
        (DType::I16, DType::I16, 3, 31, 517),
        (DType::I8, DType::I8, 130, 1800, 50),
        (DType::I16, DType::I8, 130, 1800, 50),
    ] {
        let mut b = GraphBuilder::new(Header {
            max_seq: rows,
            block_bits: 14,
        });
        // inputs are at most 56 KiB: many rows come out of a first layer
        let first = if rows > 100 { 90 } else { k };
        let peak = if dtype == DType::I8 { 128 } else { 4000 };
        let ty = TensorType {
            dtype,
            shape: vec![Dim::Seq, Dim::Fixed(first)],
            lo: -peak,
            hi: peak - 1,
        };
        let x = b.input(ty).unwrap();
        let x = if first == k {
            x
        } else {
            let rows: Vec<WeightRow> = (0..k)
                .map(|_| WeightRow {
                    shift: 5,
                    bias: 0,
                    values: (0..first).map(|_| r.value(-20, 20)).collect(),
                })
                .collect();
            let weights = b.weights(DType::I8, &rows).unwrap();
            b.push(
                "first",
                Op::Linear {
                    weights,
                    out: Requant {
                        shift: 0,
                        dtype,
                        lo: -peak,
                        hi: peak - 1,
                    },
                },
                &[x],
                true,
            )
            .unwrap()
        };
        let top = if wide == DType::I8 { 127 } else { 1000 };
        let weights: Vec<WeightRow> = (0..n)
            .map(|_| WeightRow {
                shift: r.below(14) as i8,
                bias: r.value(-5000, 5000),
                values: (0..k).map(|_| r.value(-top, top)).collect(),
            })
            .collect();
        let weights = b.weights(wide, &weights).unwrap();
        let out = Requant {
            shift: 0,
            dtype: DType::I16,
            lo: -32_768,
            hi: 32_767,
        };
        b.push("product", Op::Linear { weights, out }, &[x], true)
            .unwrap();
        let g = Arc::new(b.finish().unwrap());
        let engines = engines(&g);
        for input in inputs(&g, rows as usize, 5) {
            let want = eval::run(&g, &input).unwrap();
            for e in &engines {
                assert_eq!(
                    &e.run(&input).unwrap().output,
                    want.last().unwrap(),
                    "{e:?} {dtype:?} {wide:?}"
                );
            }
        }
    }
}

/// Images large enough that patches are gathered in several parts and threads share them.
#[test]
fn convolutions_equal_the_definition() {
    let r = &mut Rng(2);
    for (dtype, [h, w, c], groups, n) in [
        (DType::I8, [30u32, 33, 16], 1u32, 20usize),
        (DType::I16, [30, 31, 12], 12, 12),
        (DType::I8, [20, 21, 12], 3, 9),
    ] {
        let mut b = GraphBuilder::new(Header {
            max_seq: 1,
            block_bits: 14,
        });
        let peak = if dtype == DType::I8 { 128 } else { 4000 };
        let shape = vec![Dim::Fixed(h), Dim::Fixed(w), Dim::Fixed(c)];
        let x = b
            .input(TensorType {
                dtype,
                shape,
                lo: -peak,
                hi: peak - 1,
            })
            .unwrap();
        let window = Window {
            kernel: [3, 5],
            stride: [1, 2],
            pad: [1, 2, 2, 3],
        };
        let cols = 15 * (c / groups) as usize;
        let rows: Vec<WeightRow> = (0..n)
            .map(|_| WeightRow {
                shift: r.below(14) as i8,
                bias: r.value(-5000, 5000),
                values: (0..cols).map(|_| r.value(-127, 127)).collect(),
            })
            .collect();
        let weights = b.weights(DType::I8, &rows).unwrap();
        let out = Requant {
            shift: 0,
            dtype: DType::I8,
            lo: -128,
            hi: 127,
        };
        let y = b
            .push(
                "conv",
                Op::Conv2d {
                    weights,
                    window,
                    groups,
                    out,
                },
                &[x],
                true,
            )
            .unwrap();
        b.push(
            "pool",
            Op::MaxPool {
                window: Window {
                    kernel: [2, 2],
                    stride: [2, 2],
                    pad: [0; 4],
                },
            },
            &[y],
            true,
        )
        .unwrap();
        let g = Arc::new(b.finish().unwrap());
        let engines = engines(&g);
        for input in inputs(&g, 1, 6) {
            let want = eval::run(&g, &input).unwrap();
            for e in &engines {
                assert_eq!(
                    e.run_full(&input).unwrap().outputs,
                    want,
                    "{e:?} {dtype:?} groups {groups}"
                );
            }
        }
    }
}

//! Linears of block codes and of 16-bit weights, with rows of one and two limbs, behind norms and with exponents: every kernel gives the bits of the definition.

use std::sync::Arc;

use assay_engine::{Engine, EngineOptions, Tier};
use assay_graph::{
    BlockRow, DType, Data, Dim, GraphBuilder, GraphError, Header, Op, Requant, Tensor, TensorType,
    WeightRow, eval,
};

struct Rng(u64);

impl Rng {
    fn range(&mut self, lo: i32, hi: i32) -> i32 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        let span = i64::from(hi) - i64::from(lo) + 1;
        match self.0 >> 61 {
            0 => lo,
            1 => hi,
            _ => (i64::from(lo) + (self.0 >> 33) as i64 % span) as i32,
        }
    }
}

#[derive(Clone, Copy, Debug)]
struct Case {
    /// 0: 16-bit weights.
    bits: u8,
    group: u8,
    offsets: bool,
    k: usize,
    /// Largest magnitude of a weight.
    most: i32,
    /// Largest magnitude of an input.
    x: i32,
    norm: bool,
    exponents: bool,
    dtype: DType,
}

/// A graph whose last node is the linear, if its bounds hold.
fn graph(c: Case, n: usize, r: &mut Rng) -> Result<assay_graph::Graph, GraphError> {
    let mut b = GraphBuilder::new(Header {
        max_seq: 40,
        block_bits: 12,
    });
    let mut x = b.input(TensorType {
        dtype: DType::I16,
        shape: vec![Dim::Seq, Dim::Fixed(c.k as u32)],
        lo: -c.x,
        hi: c.x,
    })?;
    if c.norm {
        let gains: Vec<(i16, i32)> = (0..c.k)
            .map(|_| (r.range(9000, 32_767) as i16, r.range(-9, 9)))
            .collect();
        let params = b.norm(&gains)?;
        let out = Requant {
            shift: 15,
            dtype: DType::I16,
            lo: -32_639,
            hi: 32_639,
        };
        x = b.push(
            "norm",
            Op::RmsNorm {
                params,
                eps: 1,
                out,
            },
            &[x],
            false,
        )?;
    }
    let shift = |r: &mut Rng| r.range(13, 20) as i8;
    let weights = if c.bits == 0 {
        let rows: Vec<WeightRow> = (0..n)
            .map(|_| WeightRow {
                shift: shift(r),
                bias: r.range(-100_000, 100_000),
                values: (0..c.k).map(|_| r.range(-c.most, c.most)).collect(),
            })
            .collect();
        b.weights(DType::I16, &rows)?
    } else {
        let (groups, top) = (c.k / usize::from(c.group), (1 << c.bits) - 1);
        let rows: Vec<BlockRow> = (0..n)
            .map(|_| {
                let half = (2 * c.most / top).max(1);
                let steps: Vec<i16> = (0..groups).map(|_| r.range(-half, half) as i16).collect();
                let offsets = steps.iter().filter(|_| c.offsets).map(|d| {
                    let d = i32::from(*d) * top;
                    r.range((-c.most - d.min(0)).min(0), (c.most - d.max(0)).max(0)) as i16
                });
                BlockRow {
                    offsets: offsets.collect(),
                    shift: shift(r),
                    bias: r.range(-100_000, 100_000),
                    codes: (0..c.k).map(|_| r.range(0, top) as u8).collect(),
                    steps,
                }
            })
            .collect();
        b.blocks(c.bits, c.group, &rows)?
    };
    let (lo, hi) = c.dtype.range();
    let out = Requant {
        shift: 0,
        dtype: c.dtype,
        lo: lo + 1,
        hi,
    };
    let mut inputs = vec![x];
    if c.exponents {
        inputs.push(b.push("exponent", Op::Exponent { bits: 13 }, &[x], false)?);
    }
    b.push("linear", Op::Linear { weights, out }, &inputs, true)?;
    b.finish()
}

#[test]
fn linears_equal_the_definition() {
    let mut r = Rng(3);
    let mut ran = std::collections::BTreeMap::new();
    for bits in [0, 4, 5, 6, 8] {
        for (k, most, x) in [
            (64, 900, 32_639),
            (64, 200, 32_639),
            (96, 8000, 32_639),
            (96, 8000, 32_767),
            (576, 900, 32_639),
            (608, 27_000, 600),
            (32, 32_000, 20_000),
        ] {
            for norm in [false, true] {
                for (exponents, dtype) in
                    [(false, DType::I16), (true, DType::I32), (false, DType::I32)]
                {
                    let group = if r.range(0, 1) == 0 { 16 } else { 32 };
                    let offsets = r.range(0, 1) == 0;
                    let c = Case {
                        bits,
                        group,
                        offsets,
                        k,
                        most,
                        x,
                        norm,
                        exponents,
                        dtype,
                    };
                    let n = r.range(1, 50) as usize;
                    let graph = match graph(c, n, &mut r) {
                        Ok(graph) => Arc::new(graph),
                        // a case whose bounds don't hold is no case
                        Err(GraphError::Bound { .. } | GraphError::Node { .. }) => continue,
                        Err(e) => panic!("{c:?}: {e}"),
                    };
                    for seq in [1, 3, 17, 33] {
                        let data = (0..seq * k).map(|_| r.range(-x, x) as i16).collect();
                        let input = Tensor::new(vec![seq, k], Data::I16(data)).unwrap();
                        let want = eval::run(&graph, &input).unwrap();
                        for tier in Tier::available() {
                            for threads in [1, 3] {
                                let options = EngineOptions {
                                    threads,
                                    tier: Some(tier),
                                };
                                let engine = Engine::new(Arc::clone(&graph), options).unwrap();
                                let mut kernel = "";
                                engine
                                    .run_observed(&input, &mut |c| kernel = c.kernel)
                                    .unwrap();
                                *ran.entry(kernel).or_insert(0) += 1;
                                let have = engine.run_full(&input).unwrap();
                                assert_eq!(
                                    have.outputs.last(),
                                    want.last(),
                                    "{c:?}, {n} rows, {seq} positions, {tier}, {threads} threads, {kernel}"
                                );
                            }
                        }
                    }
                }
            }
        }
    }
    println!("{ran:?}");
    for kernel in [
        "codes",
        "codes in parts",
        "codes in limbs",
        "i16",
        "i16 in parts",
        "i16 in limbs",
    ] {
        assert!(ran.contains_key(kernel), "no case of {kernel}: {ran:?}");
    }
}

//! The linear layers of a MiniLM-shaped encoder (6 × [4 × 384→384, 384→1536, 1536→384]) as bare matrix products: what the kernels can do
//! without anything around them.
//!
//! `cargo run --release -p assay-engine --example bench_gemm [rows]` prints CPU milliseconds and GMAC/s of each kernel, best and median of 41.

use assay_engine::{
    Tier,
    simd::{
        columns::{Columns, OutMut},
        gemm::{Dest, Form, Left8, Left16, Right, gemm8, gemm16},
        isa::Isa,
        limit::spin_dots,
        pack::{Order, Packed8, Packed16},
    },
};
use assay_graph::DType;

const LAYERS: [(usize, usize); 6] = [
    (384, 384),
    (384, 384),
    (384, 384),
    (384, 384),
    (384, 1536),
    (1536, 384),
];

fn cpu_ns() -> u64 {
    let t = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    t.tv_sec as u64 * 1_000_000_000 + t.tv_nsec as u64
}

fn values(n: usize, lo: i32, hi: i32, seed: &mut u64) -> Vec<i16> {
    let mut out = Vec::with_capacity(n);
    for _ in 0..n {
        *seed = seed
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        out.push((lo + ((*seed >> 40) as i32) % (hi - lo + 1)) as i16);
    }
    out
}

struct Layer {
    k: usize,
    n: usize,
    wide: Packed16,
    narrow: Packed8,
    plain: Columns,
    paired: Columns,
    bytes: Columns,
}

fn main() {
    let rows: usize = std::env::args()
        .nth(1)
        .and_then(|a| a.parse().ok())
        .unwrap_or(64);
    let mut seed = 1;
    let Some(scalar) = Isa::new(Tier::Scalar) else {
        return;
    };
    let layers: Vec<Layer> = (0..6)
        .flat_map(|_| LAYERS)
        .map(|(k, n)| {
            let w = values(n * k, -127, 127, &mut seed);
            let mut wide = Packed16::default();
            wide.fill(scalar, &w, Order::Rows, k, n, k);
            let narrow = Packed8::new(&w.iter().map(|x| *x as i8).collect::<Vec<_>>(), n, k);
            let plain = Columns::new(vec![(77, 12i8); n].into_iter(), DType::I16, -32640, 32640);
            let (paired, bytes) = (
                plain.clone().corrected(&wide.pair_sums()),
                plain.clone().corrected(&narrow.offset_sums()),
            );
            Layer {
                k,
                n,
                wide,
                narrow,
                plain,
                paired,
                bytes,
            }
        })
        .collect();
    let macs: usize = layers.iter().map(|l| l.k * l.n * rows).sum();
    let x = values(rows * 1536, -8000, 8000, &mut seed);
    let x8: Vec<u8> = x.iter().map(|v| (*v & 255) as u8).collect();
    let mut out = vec![0i16; rows * 1536];
    for tier in Tier::available().into_iter().rev() {
        let Some(isa) = Isa::new(tier) else { continue };
        let mut times: [Vec<f64>; 3] = Default::default();
        for _ in 0..if tier == Tier::Scalar { 3 } else { 41 } {
            for (form, times) in times.iter_mut().enumerate() {
                let start = cpu_ns();
                for l in &layers {
                    let mut dest = Dest {
                        out: OutMut::I16(&mut out),
                        at: 0,
                        stride: l.n,
                    };
                    let left = Left16 {
                        data: &x,
                        stride: l.k,
                        rows,
                    };
                    let right = Right {
                        lines: &l.wide.lines[..],
                        steps: l.wide.steps,
                        n: l.n,
                        j0: 0,
                    };
                    match form {
                        0 => gemm16(isa, Form::Plain, left, right, &l.plain, &mut dest),
                        1 => gemm16(isa, Form::Paired, left, right, &l.paired, &mut dest),
                        _ => {
                            let right = Right {
                                lines: &l.narrow.lines[..],
                                steps: l.narrow.steps,
                                n: l.n,
                                j0: 0,
                            };
                            gemm8(
                                isa,
                                Left8 {
                                    data: &x8,
                                    stride: l.k,
                                    rows,
                                },
                                right,
                                &l.bytes,
                                &mut dest,
                            );
                        }
                    }
                }
                times.push((cpu_ns() - start) as f64 / 1e6);
            }
        }
        let mut peak = 0f64;
        for _ in 0..41 {
            let start = cpu_ns();
            let dots = spin_dots(isa, 20_000);
            peak = peak.max(dots as f64 / (cpu_ns() - start).max(1) as f64);
        }
        if peak > 0.0 {
            println!(
                "{tier:<11} limit of the dot pipes in this run: {:.0} GMAC/s i8, {:.0} GMAC/s i16",
                peak * 64.0,
                peak * 32.0
            );
        }
        for (name, times) in ["i16 plain", "i16 paired", "i8"].iter().zip(&mut times) {
            times.sort_by(f64::total_cmp);
            let (best, median) = (times[0], times[times.len() / 2]);
            println!(
                "{tier:<11} {name:<10} median {median:7.3} ms  best {best:7.3} ms  {:6.1} GMAC/s",
                macs as f64 / best / 1e6
            );
        }
    }
}

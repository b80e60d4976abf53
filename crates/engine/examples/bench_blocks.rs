//! Speed of the kernels for block matrices: all linear layers of a 30-layer model of width 576, weights streamed from memory.
//!
//! `cargo run --release -p assay-engine --example bench_blocks`

use std::time::Instant;

use assay_engine::{
    Tier,
    simd::{
        blocks::{Blocks, Coding, Limbs, Sums, Totals},
        isa::Isa,
        pack::PANEL,
    },
};

const LAYER: [(usize, usize); 5] = [
    (576, 576 + 2 * 192),
    (576, 576),
    (576, 3072),
    (1536, 576),
    (0, 0),
];

fn main() {
    let Some(isa) = Isa::new(Tier::detect()) else {
        return;
    };
    let mut state = 1u64;
    let mut random = move || {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (state >> 40) as u8
    };
    for bits in [4usize, 5, 6, 8] {
        let matrices: Vec<Blocks> = (0..30)
            .flat_map(|_| LAYER)
            .filter(|(k, _)| *k > 0)
            .filter_map(|(cols, rows)| {
                let c = Coding {
                    rows,
                    cols,
                    bits,
                    group: if bits == 6 { 16 } else { 32 },
                    offsets: bits < 6,
                };
                let mut bytes: Vec<u8> = Vec::with_capacity(c.rows * c.row_bytes());
                for _ in 0..rows * c.row_bytes() {
                    bytes.push(random());
                }
                Blocks::new(c, &bytes)
            })
            .collect();
        let bytes: usize = matrices.iter().map(Blocks::bytes).sum();
        let weights: usize = matrices
            .iter()
            .map(|b| b.coding().rows * b.coding().cols)
            .sum();
        println!(
            "{bits} bits: {:.1} MB, {:.2} bits a weight",
            bytes as f64 / 1e6,
            bytes as f64 * 8.0 / weights as f64
        );
        for m in [1usize, 2, 4, 8, 16, 64] {
            for sums in [Sums::One, Sums::Two] {
                let x = vec![1234i16; m * 1536];
                let mut limbs = Limbs::default();
                let mut out = [vec![0i32; m * 3072], vec![0i32; m * 3072]];
                let mut times: Vec<f64> = (0..if m > 8 { 3 } else { 11 })
                    .map(|_| {
                        let start = Instant::now();
                        for b in &matrices {
                            let c = b.coding();
                            limbs.fill(isa, &x, m, c.cols, c.group);
                            let [high, low] = &mut out;
                            b.product(
                                isa,
                                sums,
                                &limbs,
                                0,
                                c.rows.div_ceil(PANEL),
                                &mut Totals {
                                    high,
                                    low,
                                    stride: 3072,
                                },
                            );
                        }
                        start.elapsed().as_secs_f64()
                    })
                    .collect();
                times.sort_by(f64::total_cmp);
                let t = times[times.len() / 2];
                println!(
                    "  {m:3} rows {sums:?}: {:7.2} ms, best {:7.2}, {:5.1} GB/s, {:6.1} GMAC/s",
                    t * 1e3,
                    times[0] * 1e3,
                    bytes as f64 / t / 1e9,
                    (weights * m) as f64 / t / 1e9
                );
            }
        }
    }
}

use proptest::prelude::*;

use super::*;

struct Values(u64);

impl Values {
    fn next(&mut self, lo: i32, hi: i32) -> i32 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        let r = (self.0 >> 33) as i64;
        match r % 9 {
            0 => lo,
            1 => hi,
            _ => (i64::from(lo) + (r >> 4) % (i64::from(hi) - i64::from(lo) + 1)) as i32,
        }
    }
}

/// Canonical bytes and weights of a random matrix whose weights fit 16 bits.
fn matrix(v: &mut Values, c: &Coding) -> (Vec<u8>, Vec<Vec<i32>>) {
    let top = (1 << c.bits) - 1;
    let (mut bytes, mut weights) = (Vec::new(), Vec::new());
    for _ in 0..c.rows {
        bytes.extend([7, 1, 2, 3, 4]);
        let limit = if c.offsets {
            32_767 / top
        } else {
            32_767 >> (c.bits - 1)
        };
        let d: Vec<i32> = (0..c.groups()).map(|_| v.next(-limit, limit)).collect();
        let m: Vec<i32> = d
            .iter()
            .map(|d| {
                if c.offsets {
                    v.next(-32_767 - (d * top).min(0), 32_767 - (d * top).max(0))
                } else {
                    -(d << (c.bits - 1))
                }
            })
            .collect();
        bytes.extend(d.iter().flat_map(|d| (*d as i16).to_le_bytes()));
        if c.offsets {
            bytes.extend(m.iter().flat_map(|m| (*m as i16).to_le_bytes()));
        }
        let codes: Vec<u8> = (0..c.cols).map(|_| v.next(0, top) as u8).collect();
        if c.bits == 8 {
            bytes.extend(&codes);
        } else {
            bytes.extend(codes.chunks(2).map(|p| (p[0] & 15) | (p[1] & 15) << 4));
            for plane in 4..c.bits {
                bytes.extend(codes.chunks(8).map(|o| {
                    o.iter()
                        .enumerate()
                        .fold(0u8, |b, (i, c)| b | (c >> plane & 1) << i)
                }));
            }
        }
        weights.push(
            codes
                .iter()
                .enumerate()
                .map(|(i, code)| d[i / c.group] * i32::from(*code) + m[i / c.group])
                .collect(),
        );
    }
    (bytes, weights)
}

fn isas() -> Vec<Isa> {
    Tier::available().into_iter().filter_map(Isa::new).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(if cfg!(debug_assertions) { 16 } else { 64 }))]

    #[test]
    fn products_equal_the_definition(
        rows in 1usize..70, blocks in 1usize..6, m in 0usize..20,
        bits in prop::sample::select(vec![4usize, 5, 6, 8]), narrow: bool, offsets: bool, seed: u64,
    ) {
        let c = Coding { rows, cols: 32 * blocks, bits, group: if narrow { 16 } else { 32 }, offsets };
        let mut v = Values(seed);
        let (bytes, weights) = matrix(&mut v, &c);
        let b = Blocks::new(c, &bytes).unwrap();
        for (r, w) in weights.iter().enumerate() {
            prop_assert_eq!(&b.row(r).collect::<Vec<_>>(), w);
        }
        for isa in isas() {
            for (row, w) in bytes.chunks(c.row_bytes()).zip(&weights) {
                let mut have = Vec::new();
                c.weights(isa, row, &mut Vec::new(), &mut have);
                prop_assert_eq!(&have, w);
            }
        }
        let x: Vec<i16> = (0..m * c.cols).map(|_| v.next(-32_639, 32_639) as i16).collect();
        let panels = rows.div_ceil(PANEL);
        let stride = panels * PANEL + 3;
        for isa in isas() {
            let mut limbs = Limbs::default();
            limbs.fill(isa, &x, m, c.cols, c.group);
            for first in [0, panels - 1] {
                let (mut high, mut low) = (vec![0; m * stride], vec![0; m * stride]);
                let mut one = vec![0; m * stride];
                b.product(isa, Sums::Two, &limbs, first, panels - first, &mut Totals { high: &mut high, low: &mut low, stride });
                b.product(isa, Sums::One, &limbs, first, panels - first, &mut Totals { high: &mut one, low: &mut [], stride });
                for i in 0..m {
                    for (j, w) in weights.iter().skip(first * PANEL).enumerate() {
                        let want: i64 = w.iter().zip(&x[i * c.cols..]).map(|(w, x)| i64::from(*w) * i64::from(*x)).sum();
                        let at = i * stride + j;
                        prop_assert_eq!(256 * i64::from(high[at]) + i64::from(low[at]), want, "{} {} {}", isa.tier(), i, j);
                        prop_assert_eq!(one[at], want as i32);
                    }
                }
            }
            let mut lines = vec![Line16([99; 32]); panels * c.cols / 2];
            b.expand(isa, 0, panels, &mut lines);
            for (r, w) in weights.iter().enumerate() {
                for (col, w) in w.iter().enumerate() {
                    let have = lines[r / PANEL * c.cols / 2 + col / 2].0[r % PANEL * 2 + col % 2];
                    prop_assert_eq!(i32::from(have), *w);
                }
            }
        }
    }
}

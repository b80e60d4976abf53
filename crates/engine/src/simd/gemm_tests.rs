use proptest::prelude::*;

use assay_graph::DType;

use super::*;
use crate::simd::pack::{Order, Packed8, Packed16, padded};

/// Deterministic values that hit the extremes often.
struct Values(u64);

impl Values {
    fn next(&mut self, lo: i32, hi: i32) -> i32 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        let r = (self.0 >> 33) as u32;
        match r % 5 {
            0 => lo,
            1 => hi,
            _ => {
                (i64::from(lo) + i64::from(r / 5) * 8 % (i64::from(hi) - i64::from(lo) + 1)) as i32
            }
        }
    }
}

fn isas() -> Vec<Isa> {
    Tier::available().into_iter().filter_map(Isa::new).collect()
}

fn columns(v: &mut Values, n: usize, dtype: DType, left: bool) -> Columns {
    let (lo, hi) = dtype.range();
    let (lo, hi) = (v.next(lo, 0), v.next(1, hi));
    let rows: Vec<(i32, i8)> = (0..n)
        .map(|_| {
            (
                v.next(-(1 << 28), 1 << 28),
                v.next(if left { -15 } else { 0 }, 31) as i8,
            )
        })
        .collect();
    Columns::new(rows.into_iter(), dtype, lo, hi)
}

fn zeros(dtype: DType, n: usize) -> assay_graph::Data {
    match dtype {
        DType::I8 => assay_graph::Data::I8(vec![0; n]),
        DType::I16 => assay_graph::Data::I16(vec![0; n]),
        DType::I32 => assay_graph::Data::I32(vec![0; n]),
    }
}

fn out_of(data: &mut assay_graph::Data) -> OutMut<'_> {
    match data {
        assay_graph::Data::I8(v) => OutMut::I8(v),
        assay_graph::Data::I16(v) => OutMut::I16(v),
        assay_graph::Data::I32(v) => OutMut::I32(v),
    }
}

/// The definition, in 64 bits for the epilogue; sums modulo 2^32 as no bounds are imposed on random data.
fn reference(
    a: &[i32],
    w: &[i32],
    m: usize,
    n: usize,
    k: usize,
    cols: &Columns,
    stride: usize,
) -> Vec<i32> {
    let mut out = vec![0; m * stride];
    for i in 0..m {
        for j in 0..n {
            let acc = (0..k).fold(0i32, |s, c| {
                s.wrapping_add(a[i * k + c].wrapping_mul(w[j * k + c]))
            });
            let v = i64::from(acc.wrapping_add(cols.add[j]) >> cols.right[j]) << cols.left[j];
            out[i * stride + j] = v.clamp(i64::from(cols.lo), i64::from(cols.hi)) as i32;
        }
    }
    out
}

const DTYPES: [DType; 3] = [DType::I8, DType::I16, DType::I32];

proptest! {
    #![proptest_config(ProptestConfig::with_cases(120))]

    #[test]
    fn products_of_16_bits_equal_the_definition(m in 1usize..19, n in 1usize..70, k in 1usize..67, d in 0usize..3, left: bool, seed: u64) {
        let mut v = Values(seed);
        let kp = padded(k);
        let a: Vec<i32> = (0..m * k).map(|_| v.next(-32768, 32767)).collect();
        let w: Vec<i32> = (0..n * k).map(|_| v.next(-32768, 32767)).collect();
        let cols = columns(&mut v, n, DTYPES[d], left);
        let stride = n + 3;
        let want = reference(&a, &w, m, n, k, &cols, stride);
        let mut left16 = vec![0i16; m * kp];
        for i in 0..m { for c in 0..k { left16[i * kp + c] = a[i * k + c] as i16; } }
        let mut packed = Packed16::default();
        packed.fill(isas()[0], &w.iter().map(|x| *x as i16).collect::<Vec<_>>(), Order::Rows, k, n, k);
        for isa in isas() {
            let mut data = zeros(DTYPES[d], m * stride);
            let mut dest = Dest { out: out_of(&mut data), at: 0, stride };
            let right = Right { lines: &packed.lines, steps: packed.steps, n, j0: 0 };
            gemm16(isa, Form::Plain, Left16 { data: &left16, stride: kp, rows: m }, right, &cols, &mut dest);
            prop_assert_eq!(&data.to_i32(), &want, "{}", isa.tier());
        }
    }

    #[test]
    fn paired_products_equal_the_definition(m in 1usize..19, n in 1usize..70, k in 1usize..67, d in 0usize..3, wide in prop::sample::select(vec![127i32, 2047, 16383]), seed: u64) {
        let mut v = Values(seed);
        let kp = padded(k);
        let x = 32767 - wide;
        let a: Vec<i32> = (0..m * k).map(|_| v.next(-x, x)).collect();
        let w: Vec<i32> = (0..n * k).map(|_| v.next(-wide, wide)).collect();
        let cols = columns(&mut v, n, DTYPES[d], false);
        let want = reference(&a, &w, m, n, k, &cols, n);
        let mut left16 = vec![0i16; m * kp];
        for i in 0..m { for c in 0..k { left16[i * kp + c] = a[i * k + c] as i16; } }
        let mut packed = Packed16::default();
        packed.fill(isas()[0], &w.iter().map(|x| *x as i16).collect::<Vec<_>>(), Order::Rows, k, n, k);
        let cols = cols.corrected(&packed.pair_sums());
        for isa in isas() {
            let mut data = zeros(DTYPES[d], m * n);
            let mut dest = Dest { out: out_of(&mut data), at: 0, stride: n };
            let right = Right { lines: &packed.lines, steps: packed.steps, n, j0: 0 };
            gemm16(isa, Form::Paired, Left16 { data: &left16, stride: kp, rows: m }, right, &cols, &mut dest);
            prop_assert_eq!(&data.to_i32(), &want, "{}", isa.tier());
        }
    }

    #[test]
    fn products_of_8_bits_equal_the_definition(m in 1usize..19, n in 1usize..70, k in 1usize..67, d in 0usize..3, left: bool, seed: u64) {
        let mut v = Values(seed);
        let kp = padded(k);
        let a: Vec<i32> = (0..m * k).map(|_| v.next(-128, 127)).collect();
        let w: Vec<i32> = (0..n * k).map(|_| v.next(-128, 127)).collect();
        let cols = columns(&mut v, n, DTYPES[d], left);
        let want = reference(&a, &w, m, n, k, &cols, n);
        let mut left8 = vec![0u8; m * kp];
        for i in 0..m { for c in 0..k { left8[i * kp + c] = (a[i * k + c] + 128) as u8; } }
        let packed = Packed8::new(&w.iter().map(|x| *x as i8).collect::<Vec<_>>(), n, k);
        let cols = cols.corrected(&packed.offset_sums());
        for isa in isas() {
            let mut data = zeros(DTYPES[d], m * n);
            let mut dest = Dest { out: out_of(&mut data), at: 0, stride: n };
            let right = Right { lines: &packed.lines, steps: packed.steps, n, j0: 0 };
            gemm8(isa, Left8 { data: &left8, stride: kp, rows: m }, right, &cols, &mut dest);
            prop_assert_eq!(&data.to_i32(), &want, "{}", isa.tier());
        }
    }
}

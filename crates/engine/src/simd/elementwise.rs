//! Element-wise operators: one body each, compiled for every tier.

use assay_graph::Requant;

use super::columns::OutMut;

/// An element type, widened and narrowed.
pub trait Element: Copy + Send + Sync + Default + 'static {
    /// As `i32`.
    fn wide(self) -> i32;
    /// From an `i32` within the type's range (else wraps).
    fn narrow(v: i32) -> Self;
    /// As the destination of a product.
    fn out(v: &mut [Self]) -> OutMut<'_>;
}

macro_rules! element {
    ($t:ty, $variant:ident) => {
        impl Element for $t {
            #[inline(always)]
            fn wide(self) -> i32 {
                i32::from(self)
            }
            #[inline(always)]
            fn narrow(v: i32) -> Self {
                v as Self
            }
            fn out(v: &mut [Self]) -> OutMut<'_> {
                OutMut::$variant(v)
            }
        }
    };
}
element!(i8, I8);
element!(i16, I16);
element!(i32, I32);

/// `sat(rnd(v, shift))` for values whose bounds were shown (`docs/graph.md`): everything fits 32 bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rescale {
    half: i32,
    right: u32,
    left: u32,
    lo: i32,
    hi: i32,
}

impl Rescale {
    /// From a graph's parameters.
    pub fn new(out: &Requant) -> Self {
        let right = u32::try_from(out.shift).unwrap_or(0).min(31);
        let left = u32::from(out.shift.min(0).unsigned_abs()).min(15);
        Self {
            half: if right > 0 { 1 << (right - 1) } else { 0 },
            right,
            left,
            lo: out.lo,
            hi: out.hi,
        }
    }

    /// Applies it.
    #[inline(always)]
    pub fn apply(self, v: i32) -> i32 {
        // one of the two shifts is 0
        (v.wrapping_add(self.half) >> (self.right & 31))
            .wrapping_shl(self.left)
            .max(self.lo)
            .min(self.hi)
    }
}

multiversion! {
    /// `out = sat(rnd(x, shift))`.
    pub fn rescale<A: Element, O: Element>(x: &[A], how: Rescale, out: &mut [O]) {
        for (o, x) in out.iter_mut().zip(x) {
            *o = O::narrow(how.apply(x.wide()));
        }
    }
}

multiversion! {
    /// `out = sat(rnd((a << left_0) + (b << left_1), shift))`.
    pub fn add<A: Element, B: Element, O: Element>(a: &[A], b: &[B], left: [u32; 2], how: Rescale, out: &mut [O]) {
        for ((o, a), b) in out.iter_mut().zip(a).zip(b) {
            let sum = a.wide().wrapping_shl(left[0]).wrapping_add(b.wide().wrapping_shl(left[1]));
            *o = O::narrow(how.apply(sum));
        }
    }
}

multiversion! {
    /// Widens to 16 bits.
    pub fn widen16(x: &[i8], out: &mut [i16]) {
        for (o, x) in out.iter_mut().zip(x) {
            *o = i16::from(*x);
        }
    }
}

multiversion! {
    /// Offsets by 128 to unsigned bytes.
    pub fn offset8(x: &[i8], out: &mut [u8]) {
        for (o, x) in out.iter_mut().zip(x) {
            *o = x.cast_unsigned() ^ 0x80;
        }
    }
}

multiversion! {
    /// Lower and upper end of the values; `(MAX, MIN)` for none.
    pub fn extent<A: Element>(x: &[A], out: &mut (i32, i32)) {
        let (mut lo, mut hi) = (i32::MAX, i32::MIN);
        for v in x {
            lo = lo.min(v.wide());
            hi = hi.max(v.wide());
        }
        *out = (lo, hi);
    }
}

#[cfg(test)]
mod tests {
    use assay_graph::{DType, ops};
    use proptest::prelude::*;

    use super::*;
    use crate::{Tier, simd::isa::Isa};

    proptest! {
        #[test]
        fn additions_equal_the_definition(x in prop::collection::vec((any::<i16>(), any::<i8>()), 0..100), la in 0u32..9, lb in 0u32..9, shift in -4i8..=20, a in -32768i32..0, b in 0i32..32768) {
            let out = Requant { shift, dtype: DType::I16, lo: a, hi: b };
            let (left, right): (Vec<i16>, Vec<i8>) = x.iter().copied().unzip();
            let want: Vec<i16> = x.iter().map(|(p, q)| ops::requant((i64::from(*p) << la) + (i64::from(*q) << lb), shift, &out) as i16).collect();
            for isa in Tier::available().into_iter().filter_map(Isa::new) {
                let mut have = vec![0i16; x.len()];
                add(isa, &left, &right, [la, lb], Rescale::new(&out), &mut have);
                prop_assert_eq!(&have, &want, "{}", isa.tier());
            }
        }
    }
}

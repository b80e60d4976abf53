//! What bounds the sums of a row of weights.

/// Sums over some weights of a row.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Magnitudes {
    /// `Σ |w|`.
    pub ones: u64,
    /// `Σ ⌈|w·gain| / 2^10⌉²`.
    pub squares: u64,
    /// `Σ |w·bias|`.
    pub biases: u64,
}

multiversion! {
    /// Magnitudes of weights with `|w| <= 2^15`; `gains` (at most 2^15) and `biases` (at most 2^31) are magnitudes, or empty.
    pub fn magnitudes(w: &[i32], gains: &[u32], biases: &[u32], out: &mut Magnitudes) {
        let mut ones = 0u64;
        for w in w.chunks(4096) {
            let mut some = 0u32;
            for w in w {
                some = some.wrapping_add(w.unsigned_abs());
            }
            ones = ones.wrapping_add(u64::from(some));
        }
        let mut squares = 0u64;
        for (w, g) in w.iter().zip(gains) {
            let up = w.unsigned_abs().wrapping_mul(*g).wrapping_add(1023) >> 10;
            squares = squares.wrapping_add(u64::from(up).wrapping_mul(u64::from(up)));
        }
        let mut sum = 0u64;
        for (w, b) in w.iter().zip(biases) {
            sum = sum.wrapping_add(u64::from(w.unsigned_abs()).wrapping_mul(u64::from(*b)));
        }
        *out = Magnitudes { ones, squares, biases: sum };
    }
}

/// Asks the processor to fetch what a later loop reads once: arrays that are too short for it to notice the pattern.
#[inline]
pub fn fetch<T>(values: &[T]) {
    #[cfg(target_arch = "x86_64")]
    for line in values.chunks((64 / size_of::<T>().max(1)).max(1)) {
        // SAFETY: every x86-64 has SSE; a prefetch reads nothing.
        unsafe {
            use std::arch::x86_64::{_MM_HINT_T1, _mm_prefetch};
            _mm_prefetch::<_MM_HINT_T1>(line.as_ptr().cast());
        }
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = values;
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{Tier, simd::isa::Isa};

    proptest! {
        #[test]
        fn magnitudes_are_upper_bounds(w in prop::collection::vec((-32_768i32..=32_768, 0u32..=32_768, any::<u32>()), 0..200)) {
            let weights: Vec<i32> = w.iter().map(|w| w.0).collect();
            let (gains, biases): (Vec<u32>, Vec<u32>) = w.iter().map(|w| (w.1, w.2 >> 1)).unzip();
            let squares: u128 = w.iter().map(|w| (u128::from(w.0.unsigned_abs()) * u128::from(w.1)).pow(2)).sum();
            for isa in Tier::available().into_iter().filter_map(Isa::new) {
                let mut have = Magnitudes::default();
                magnitudes(isa, &weights, &gains, &biases, &mut have);
                prop_assert_eq!(have.ones, w.iter().map(|w| u64::from(w.0.unsigned_abs())).sum::<u64>());
                prop_assert_eq!(have.biases, w.iter().map(|w| u64::from(w.0.unsigned_abs()) * u64::from(w.2 >> 1)).sum::<u64>());
                prop_assert!(u128::from(have.squares) << 20 >= squares);
                fetch(&weights);
            }
        }
    }
}

//! One cell of a depthwise convolution over all channels.

use super::elementwise::Element;

multiversion! {
    /// `acc_c += x_c·w_c`, modulo 2^32.
    pub fn depthwise_row<A: Element>(x: &[A], w: &[i32], acc: &mut [i32]) {
        for ((acc, x), w) in acc.iter_mut().zip(x).zip(w) {
            *acc = acc.wrapping_add(x.wide().wrapping_mul(*w));
        }
    }
}

multiversion! {
    /// `acc_c = max(acc_c, x_c)`.
    pub fn max_row<A: Element>(x: &[A], acc: &mut [i32]) {
        for (acc, x) in acc.iter_mut().zip(x) {
            *acc = (*acc).max(x.wide());
        }
    }
}

multiversion! {
    /// `acc_c += x_c`, modulo 2^32.
    pub fn sum_row<A: Element>(x: &[A], acc: &mut [i32]) {
        for (acc, x) in acc.iter_mut().zip(x) {
            *acc = acc.wrapping_add(x.wide());
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{Tier, simd::isa::Isa};

    proptest! {
        #[test]
        fn rows_equal_the_definition(x in prop::collection::vec((any::<i16>(), any::<i16>(), -(1i32 << 29)..1 << 29), 0..90)) {
            let a: Vec<i16> = x.iter().map(|v| v.0).collect();
            let w: Vec<i32> = x.iter().map(|v| i32::from(v.1)).collect();
            let start: Vec<i32> = x.iter().map(|v| v.2).collect();
            let dots: Vec<i32> = x.iter().map(|v| v.2.wrapping_add(i32::from(v.0) * i32::from(v.1))).collect();
            for isa in Tier::available().into_iter().filter_map(Isa::new) {
                let (mut p, mut q, mut r) = (start.clone(), start.clone(), start.clone());
                depthwise_row(isa, &a, &w, &mut p);
                max_row(isa, &a, &mut q);
                sum_row(isa, &a, &mut r);
                prop_assert_eq!(&p, &dots);
                prop_assert_eq!(q, x.iter().map(|v| v.2.max(i32::from(v.0))).collect::<Vec<_>>());
                prop_assert_eq!(r, x.iter().map(|v| v.2.wrapping_add(i32::from(v.0))).collect::<Vec<_>>());
            }
        }
    }
}

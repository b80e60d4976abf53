//! Tables: scalar loads, or permuted registers where a table fits them.

use super::{elementwise::Element, isa::Isa};

/// `out = table[x as unsigned]`: a table of 65,536 entries rotated so that index 0 is value 0.
pub fn lookup16<O: Element>(x: &[i16], table: &[O; 65_536], out: &mut [O]) {
    for (o, x) in out.iter_mut().zip(x) {
        *o = table[usize::from(x.cast_unsigned())];
    }
}

/// `out = table[x as unsigned]`: a table of 256 entries rotated so that index 0 is value 0. Scalar twin of [`lookup_bytes`].
pub fn lookup8<O: Element>(x: &[i8], table: &[O; 256], out: &mut [O]) {
    for (o, x) in out.iter_mut().zip(x) {
        *o = table[usize::from(x.cast_unsigned())];
    }
}

/// [`lookup8`] from bytes to bytes.
pub fn lookup_bytes(isa: Isa, x: &[i8], table: &[i8; 256], out: &mut [i8]) {
    #[cfg(target_arch = "x86_64")]
    if isa.permutes_bytes() {
        let n = x.len().min(out.len());
        // SAFETY: `isa` shows the CPU has the features.
        unsafe { vbmi(&x[..n], table, &mut out[..n]) };
        return;
    }
    let _ = isa;
    lookup8(x, table, out);
}

/// # Safety
/// The CPU has AVX-512 F, BW and VBMI; `out` is as long as `x`.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512bw,avx512vbmi")]
unsafe fn vbmi(x: &[i8], table: &[i8; 256], out: &mut [i8]) {
    use std::arch::x86_64::*;
    let part = |i: usize| {
        // SAFETY: four parts of 64 bytes are the whole table.
        unsafe { _mm512_loadu_si512(table.as_ptr().wrapping_add(64 * i).cast()) }
    };
    let (t0, t1, t2, t3) = (part(0), part(1), part(2), part(3));
    for at in (0..x.len()).step_by(64) {
        let mask = u64::MAX >> (64 - (x.len() - at).min(64));
        // SAFETY: the mask leaves only bytes of the slices.
        unsafe {
            let v = _mm512_maskz_loadu_epi8(mask, x.as_ptr().wrapping_add(at));
            // each permutation reads the low 7 bits of an index; bit 7 chooses between them
            let (low, high) = (
                _mm512_permutex2var_epi8(t0, v, t1),
                _mm512_permutex2var_epi8(t2, v, t3),
            );
            let r = _mm512_mask_blend_epi8(_mm512_movepi8_mask(v), low, high);
            _mm512_mask_storeu_epi8(out.as_mut_ptr().wrapping_add(at), mask, r);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::Tier;

    proptest! {
        #[test]
        fn bytes_equal_the_scalar_twin(x in prop::collection::vec(any::<i8>(), 0..300), table in prop::collection::vec(any::<i8>(), 256)) {
            let table: [i8; 256] = table.try_into().unwrap();
            let mut want = vec![0; x.len()];
            lookup8(&x, &table, &mut want);
            for isa in Tier::available().into_iter().filter_map(Isa::new) {
                let mut have = vec![0; x.len()];
                lookup_bytes(isa, &x, &table, &mut have);
                prop_assert_eq!(&have, &want);
            }
        }
    }
}

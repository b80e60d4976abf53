//! Buffers.

use p3_field::PrimeCharacteristicRing;

use crate::field::F;

/// Zeros. Large buffers ask for huge pages: with pages of 4 KiB, the first touch of a buffer costs more than the arithmetic that fills it.
pub(super) fn zeros(len: usize) -> Vec<F> {
    let v = F::zero_vec(len);
    #[cfg(target_os = "linux")]
    advise(&v);
    v
}

#[cfg(target_os = "linux")]
fn advise(v: &[F]) {
    use std::ffi::{c_int, c_void};
    unsafe extern "C" {
        fn madvise(addr: *mut c_void, len: usize, advice: c_int) -> c_int;
    }
    const PAGE: usize = 1 << 12;
    const HUGE_PAGE: usize = 1 << 21;
    /// `MADV_HUGEPAGE` of Linux on every architecture.
    const ADVICE: c_int = 14;
    let range = v.as_ptr_range();
    let from = (range.start as usize).next_multiple_of(PAGE);
    let len = (range.end as usize).saturating_sub(from) / PAGE * PAGE;
    if len >= 2 * HUGE_PAGE {
        // SAFETY: whole pages inside a buffer that we own; the advice changes no content, and a kernel that does not take it returns an error, which is of no consequence
        unsafe {
            madvise(from as *mut c_void, len, ADVICE);
        }
    }
}

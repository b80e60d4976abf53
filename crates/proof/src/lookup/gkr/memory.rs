//! Buffers.

use p3_field::PrimeCharacteristicRing;

use crate::field::F;

/// An empty vector for large buffers: it asks for huge pages. With pages of 4 KiB, the first touch of a buffer costs more than the arithmetic that fills it, and reading several parts
/// of it in turn is slow.
pub(crate) fn with_capacity<T>(capacity: usize) -> Vec<T> {
    let v = Vec::with_capacity(capacity);
    #[cfg(target_os = "linux")]
    advise(v.as_ptr() as usize, size_of::<T>() * v.capacity());
    v
}

/// Zeros, in huge pages.
pub(super) fn zeros(len: usize) -> Vec<F> {
    let v = F::zero_vec(len);
    #[cfg(target_os = "linux")]
    advise(v.as_ptr() as usize, size_of::<F>() * v.capacity());
    v
}

/// Asks for huge pages in a buffer of ours.
#[cfg(target_os = "linux")]
fn advise(start: usize, len: usize) {
    use std::ffi::{c_int, c_void};
    unsafe extern "C" {
        fn madvise(addr: *mut c_void, len: usize, advice: c_int) -> c_int;
    }
    const PAGE: usize = 1 << 12;
    const HUGE_PAGE: usize = 1 << 21;
    /// `MADV_HUGEPAGE` of Linux on every architecture.
    const ADVICE: c_int = 14;
    let from = start.next_multiple_of(PAGE);
    let len = (start + len).saturating_sub(from) / PAGE * PAGE;
    if len >= 2 * HUGE_PAGE {
        // SAFETY: whole pages inside a buffer that we own; the advice changes no content, and a kernel that does not take it returns an error, which is of no consequence
        unsafe {
            madvise(from as *mut c_void, len, ADVICE);
        }
    }
}

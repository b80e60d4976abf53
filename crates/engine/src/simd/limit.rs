//! What the dot-product pipes can do at most: a loop of independent instructions on registers, for benches to compare with.

use super::isa::Isa;

/// Dot instructions of one step of [`spin_dots`].
pub const DOTS: u64 = 24;

/// Runs `steps · DOTS` independent 512-bit dot products on registers; returns how many that were, 0 where the machine or tier has none.
///
/// One of them is 64 multiply-adds of 8-bit or 32 of 16-bit values.
pub fn spin_dots(isa: Isa, steps: u64) -> u64 {
    #[cfg(target_arch = "x86_64")]
    if isa.tier() == super::isa::Tier::Avx512Vnni {
        // SAFETY: `isa` shows the CPU has the features.
        unsafe { super::gemm_avx512::spin(steps) };
        return steps * DOTS;
    }
    let _ = (isa, steps);
    0
}

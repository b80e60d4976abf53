//! Kernels. The only module of the crate with `unsafe` code.
//!
//! Every kernel has a scalar twin in the same file (or is one generic body compiled for several targets) and a property test that the bits are equal.
//! All kernels take an [`isa::Isa`], which can only be made by asking the CPU.

/// Compiles one safe body three times (for the build's own target, AVX2 and AVX-512) and picks at run time.
macro_rules! multiversion {
    ($(#[$meta:meta])* pub fn $name:ident$(<$($g:ident: $b:path),+>)?($($arg:ident: $ty:ty),* $(,)?) $body:block) => {
        $(#[$meta])*
        pub fn $name$(<$($g: $b),+>)?(isa: $crate::simd::isa::Isa, $($arg: $ty),*) {
            #[inline(always)]
            #[allow(clippy::too_many_arguments, reason = "the arguments of the public function")]
            fn body$(<$($g: $b),+>)?($($arg: $ty),*) $body
            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
            #[allow(clippy::too_many_arguments, reason = "the arguments of the public function")]
            fn wide$(<$($g: $b),+>)?($($arg: $ty),*) { body($($arg),*) }
            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx2")]
            #[allow(clippy::too_many_arguments, reason = "the arguments of the public function")]
            fn middle$(<$($g: $b),+>)?($($arg: $ty),*) { body($($arg),*) }
            match isa.tier() {
                #[cfg(target_arch = "x86_64")]
                // SAFETY: `isa` shows that the CPU has the features; the body itself is safe code.
                $crate::simd::isa::Tier::Avx512Vnni => unsafe { wide($($arg),*) },
                #[cfg(target_arch = "x86_64")]
                // SAFETY: as above.
                $crate::simd::isa::Tier::Avx2 => unsafe { middle($($arg),*) },
                _ => body($($arg),*),
            }
        }
    };
}

pub mod blocks;
#[cfg(target_arch = "x86_64")]
mod blocks_avx512;
pub mod bounds;
pub mod bytes;
pub mod coding;
pub mod columns;
pub mod conv;
pub mod elementwise;
pub mod gemm;
#[cfg(target_arch = "x86_64")]
mod gemm_avx2;
#[cfg(target_arch = "x86_64")]
mod gemm_avx512;
pub mod gemm_parts;
pub mod isa;
pub mod language;
pub mod limit;
pub mod lookup;
pub mod norm;
pub mod pack;
#[cfg(target_arch = "x86_64")]
mod pack_avx512;
pub mod sample;
pub mod softmax;

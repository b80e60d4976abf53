//! Kernels. The only module of the crate with `unsafe` code.
//!
//! Every kernel has a scalar twin in the same file (or is one generic body compiled for several targets) and a property test that the bits are equal.

pub mod columns;
pub mod gemm;
#[cfg(target_arch = "x86_64")]
mod gemm_avx2;
#[cfg(target_arch = "x86_64")]
mod gemm_avx512;
pub mod isa;
pub mod pack;

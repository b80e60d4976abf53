//! Runs integer graphs fast, with the same bits as their definition in `assay-graph`, and commits to what it computed.
//!
//! [`Engine::new`] packs the weights for the machine it runs on; [`Engine::run`] answers, [`Engine::run_traced`] answers and commits
//! (leaf hashes are taken while data is in cache), [`Engine::run_full`] keeps every node's output for a dispute. Kernels exist for three
//! [`Tier`]s, chosen at run time; `ASSAY_KERNEL` forces one. Tier, number of threads and concurrent runs change no bit, since every
//! sum is exact: the graph's bounds keep accumulators within 2^30, and kernels add modulo 2^32.
//!
//! Threat model: inputs come from strangers and are checked against the graph's declaration (type, shape, range) before anything runs; typed errors carry the
//! values. Graphs are validated by `assay-graph` before they get here. `unsafe` code is confined to [`simd`]; each kernel is tested for bit equality with its scalar twin.
//!
//! Depends on `assay-graph` only. Start reading at [`Engine`], then `plan`, then [`simd::gemm`].

mod commit;
mod conv;
mod engine;
mod error;
mod exec;
mod moves;
mod plan;
mod pool;
mod product;
pub mod simd;
mod threads;

pub use commit::TracedRun;
pub use engine::{Computed, Engine, EngineOptions, FullRun, Run};
pub use error::EngineError;
pub use simd::isa::Tier;

#[cfg(test)]
mod tests;

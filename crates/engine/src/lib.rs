//! Runs integer graphs fast, with the same bits as their definition in `assay-graph`, and commits to what it computed.
//!
//! [`Engine::new`] packs the weights for the machine it runs on; [`Engine::run`] answers, [`Engine::run_traced`] answers and commits
//! (leaf hashes are taken while data is in cache), [`Engine::run_full`] keeps every node's output for a dispute. Kernels exist for three
//! [`Tier`]s, chosen at run time; `ASSAY_KERNEL` forces one. Tier, number of threads and concurrent runs change no bit, since every
//! sum is exact: the graph's bounds keep accumulators within 2^30, and kernels add modulo 2^32.
//!
//! [`Decoder`] runs language models (docs/graph.md, "Language models"): [`Decoder::start`] takes a prompt and a sampling statement, [`Decoder::step`] advances any number of
//! sequences in one pass, [`Sequence::sample`] chooses a token, [`Sequence::finish`] commits; [`Decoder::replay`] recomputes an answer in prefill-like passes. Chunks, neighbours
//! and cache change no bit either. [`Engine::run_full_language`] keeps every node's output, for disputes about such a run.
//!
//! Threat model: inputs come from strangers and are checked against the graph's declaration (type, shape, range) before anything runs; typed errors carry the
//! values. Graphs are validated by `assay-graph` before they get here. `unsafe` code is confined to [`simd`]; each kernel is tested for bit equality with its scalar twin.
//!
//! ```
//! use std::sync::Arc;
//! use assay_engine::{Engine, EngineOptions};
//! use assay_graph::{DType, Data, Dim, GraphBuilder, Header, Op, Requant, Tensor, TensorType, WeightRow};
//!
//! let mut b = GraphBuilder::new(Header { max_seq: 1, block_bits: 10 });
//! let x = b.input(TensorType { dtype: DType::I8, shape: vec![Dim::Fixed(3)], lo: -128, hi: 127 })?;
//! let weights = b.weights(DType::I8, &[WeightRow { shift: 1, bias: 5, values: vec![1, -2, 3] }])?;
//! b.push("sum", Op::Linear { weights, out: Requant { shift: 0, dtype: DType::I16, lo: -32767, hi: 32767 } }, &[x], true)?;
//! let engine = Engine::new(Arc::new(b.finish()?), EngineOptions::default())?;
//!
//! let input = Tensor::new(vec![3], Data::I8(vec![10, 20, 30]))?;
//! let run = engine.run_traced(&input, &[0; 32])?;
//! assert_eq!(run.output.data, Data::I16(vec![33])); // (5 + 10 − 40 + 90 + 1) >> 1
//! println!("trace root {:02x?}", run.root());
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! Depends on `assay-graph` only. Start reading at [`Engine`], then `plan`, then [`simd::gemm`]; for language models at [`Decoder`], then `linear`, then [`simd::blocks`].

mod batched;
mod commit;
mod conv;
mod decoder;
mod engine;
mod error;
mod exec;
mod exec_language;
mod facts;
mod linear;
mod moves;
mod plan;
mod pool;
mod product;
pub mod simd;
mod threads;

pub use commit::TracedRun;
pub use decoder::{Decoder, Generated, Sequence, mask_root};
pub use engine::{Computed, Engine, EngineOptions, FullRun, Run};
pub use error::EngineError;
pub use simd::isa::Tier;

#[cfg(test)]
mod tests;

//! Runs integer graphs fast, with the same bits as their definition in `assay-graph`.

mod error;
pub mod simd;

pub use error::EngineError;
pub use simd::isa::Tier;

//! Errors of the engine.

use assay_graph::DType;

use crate::Tier;

/// Why a run or an engine was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EngineError {
    /// `ASSAY_KERNEL` names no tier.
    #[error("no kernel tier is called `{name}`; there are scalar, avx2, avx512vnni")]
    UnknownTier {
        /// The name.
        name: String,
    },
    /// The machine lacks the instructions of a tier.
    #[error("this machine can't run the kernel tier {tier}")]
    TierUnavailable {
        /// The tier asked for.
        tier: Tier,
    },
    /// The worker threads could not be started.
    #[error("could not start {threads} worker threads: {reason}")]
    Threads {
        /// Number asked for.
        threads: usize,
        /// What the system said.
        reason: String,
    },
    /// The input has another element type than the graph's input node.
    #[error("the input is {have:?}, the graph takes {want:?}")]
    InputType {
        /// Declared type.
        want: DType,
        /// Type given.
        have: DType,
    },
    /// The input has another shape than the graph's input node.
    #[error(
        "the input has shape {have:?}, the graph takes {want} with at most {max_seq} positions"
    )]
    InputShape {
        /// Declared shape, `seq` for the number of positions.
        want: String,
        /// Largest number of positions.
        max_seq: u32,
        /// Shape given.
        have: Vec<usize>,
    },
    /// An input value lies outside the declared range.
    #[error("input element {index} is {value}, outside the declared range {lo} to {hi}")]
    InputRange {
        /// Position in row-major order.
        index: usize,
        /// The value.
        value: i32,
        /// Smallest legal value.
        lo: i32,
        /// Largest legal value.
        hi: i32,
    },
    /// The graph asks for something that a validated graph can't: a fault of this crate or of the graph's validation.
    #[error("node {node}: {what}")]
    Graph {
        /// Index of the node.
        node: u32,
        /// What was found.
        what: &'static str,
    },
}

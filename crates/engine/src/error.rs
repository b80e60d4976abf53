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
    /// A generative graph was run without a sampling statement.
    #[error("the graph generates: it runs with a sampling statement only")]
    NoStatement,
    /// More positions should answer than there are, or none.
    #[error("{positions} positions can't answer with {out} tokens")]
    Answer {
        /// Positions of the run.
        positions: u32,
        /// Answered tokens asked for.
        out: u32,
    },
    /// Token masks that don't fit the answer or the vocabulary.
    #[error("the masks hold {have}, they must hold {want}")]
    Masks {
        /// Masks, or bytes of one, that are needed.
        want: usize,
        /// What was given.
        have: usize,
    },
    /// A decoder was asked for a graph that is no language model as docs/graph.md describes it.
    #[error("not a language model that can be decoded: node {node} {what}")]
    NotALanguageModel {
        /// Index of the node.
        node: u32,
        /// What was found.
        what: &'static str,
    },
    /// A token outside the vocabulary.
    #[error("token {token} at {index} lies outside the vocabulary of {vocabulary}")]
    Token {
        /// Position.
        index: usize,
        /// The token.
        token: u32,
        /// Number of tokens.
        vocabulary: u32,
    },
    /// Prompt and answer have more positions than the model, or none.
    #[error("{positions} positions, the model takes 1 to {max_seq}")]
    Positions {
        /// Positions asked for.
        positions: usize,
        /// Largest number of positions.
        max_seq: u32,
    },
    /// Parameters of sampling outside their ranges.
    #[error("{0}")]
    Statement(String),
    /// A sequence was asked for something that it is not ready for.
    #[error("the sequence can't {0} now")]
    Order(&'static str),
    /// The graph asks for something that a validated graph can't: a fault of this crate or of the graph's validation.
    #[error("node {node}: {what}")]
    Graph {
        /// Index of the node.
        node: u32,
        /// What was found.
        what: &'static str,
    },
}

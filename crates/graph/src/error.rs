//! What can be wrong with a graph, an input or a piece of evidence.

/// Errors of this crate. All are protocol errors (the other side's fault); none is fatal.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum GraphError {
    /// A length differs from what the graph says.
    #[error("{what} has {have} elements or bytes, {want} wanted")]
    Length {
        /// What was measured.
        what: &'static str,
        /// Expected.
        want: usize,
        /// Found.
        have: usize,
    },
    /// Bytes end early, go on too long, or are not the canonical form.
    #[error("graph bytes at {at}: {why}")]
    Decode {
        /// Offset.
        at: usize,
        /// What is wrong there.
        why: &'static str,
    },
    /// A node does not fit its inputs or constants.
    #[error("node {node} ({name}): {why}")]
    Node {
        /// Index.
        node: u32,
        /// Name given at build time, or the operator's.
        name: String,
        /// What is wrong.
        why: String,
    },
    /// An accumulator could pass its limit for some legal input.
    #[error(
        "node {node} ({name}): accumulator of row {row} can reach {bound}, the limit is {limit}"
    )]
    Bound {
        /// Index.
        node: u32,
        /// Name given at build time, or the operator's.
        name: String,
        /// Output row.
        row: u32,
        /// Largest reachable magnitude.
        bound: i64,
        /// Limit.
        limit: i64,
    },
    /// A parameter of sampling lies outside its range.
    #[error("sampling parameter {0} is out of range")]
    Sampling(&'static str),
    /// One element can't be judged within the caps.
    #[error("node {node} ({name}): one element needs {need} {what}, the cap is {cap}")]
    Cap {
        /// Index.
        node: u32,
        /// Name given at build time, or the operator's.
        name: String,
        /// Which cap: bytes, slices, multiply-adds.
        what: &'static str,
        /// Needed.
        need: u64,
        /// Allowed.
        cap: u64,
    },
    /// A limit of this implementation.
    #[error("{what}: {have}, at most {limit}")]
    Limit {
        /// What is counted.
        what: &'static str,
        /// Found.
        have: u64,
        /// Allowed.
        limit: u64,
    },
    /// The run's input is not what the graph declares.
    #[error("input: {0}")]
    Input(String),
    /// Evidence is malformed, incomplete, superfluous or does not hash to what it should.
    #[error("evidence: {0}")]
    Evidence(String),
}

impl GraphError {
    pub(crate) fn evidence(why: impl Into<String>) -> Self {
        Self::Evidence(why.into())
    }
}

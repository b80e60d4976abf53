//! What can be wrong with a proof, a statement or a model that is to be proven.

/// Why a proof is not accepted. The first failure wins.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum VerifyError {
    /// The bytes are no proof.
    #[error("the proof can't be read at byte {offset}: {why}")]
    Decode {
        /// Where.
        offset: usize,
        /// What was expected.
        why: &'static str,
    },
    /// A format or parameter set of another version.
    #[error("unknown {what} {have}")]
    Unknown {
        /// `version`, `parameter set`, `mode`.
        what: &'static str,
        /// The number found.
        have: u32,
    },
    /// The proof belongs to another model.
    #[error("the proof is about another model")]
    ModelMismatch,
    /// The proof was made under another key.
    #[error("the proof is for another key")]
    KeyMismatch,
    /// The statement does not fit the model.
    #[error("the statement's {field} does not fit the model: {why}")]
    StatementShape {
        /// Which part.
        field: &'static str,
        /// What is wrong.
        why: String,
    },
    /// The composed soundness error is above 2^−100.
    #[error("only {bits} bits of soundness, 100 are required")]
    Budget {
        /// Whole bits reached.
        bits: u32,
    },
    /// The model can't be proven.
    #[error(transparent)]
    Plan(#[from] PlanError),
    /// A sumcheck does not add up.
    #[error("{label}: the sumcheck does not end in the claimed values")]
    Sumcheck {
        /// Which.
        label: &'static str,
    },
    /// The sum of the lookups is not zero, or a denominator is.
    #[error("lookups: {why}")]
    Lookup {
        /// What failed.
        why: &'static str,
    },
    /// An opening of a commitment failed.
    #[error("{which}: the opening of the commitment is wrong")]
    Opening {
        /// `witness`, `weights`.
        which: &'static str,
    },
    /// Bytes after the proof.
    #[error("{0} bytes after the end of the proof")]
    Trailing(usize),
}

/// Why a model or a run can't be proven.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PlanError {
    /// No proof rule for an operator or its parameters.
    #[error("node {node} ({op}): {why}")]
    Unsupported {
        /// Index of the node.
        node: u32,
        /// Its operator.
        op: &'static str,
        /// What is missing.
        why: String,
    },
    /// Integers could wrap around the field.
    #[error("node {node} ({op}): values up to {bound} don't fit the field's {limit}")]
    Range {
        /// Index of the node.
        node: u32,
        /// Its operator.
        op: &'static str,
        /// Largest magnitude possible.
        bound: i64,
        /// Largest magnitude allowed.
        limit: i64,
    },
    /// The run is larger than the parameter sets cover.
    #[error("{what} of 2^{have} cells, at most 2^{limit} are supported")]
    Size {
        /// `witness`, `weights`, `lookups`.
        what: &'static str,
        /// Logarithm needed.
        have: u32,
        /// Logarithm supported.
        limit: u32,
    },
    /// The stated output is no value of the model's last node.
    #[error("an output of {value}, the model's lie between {lo} and {hi}")]
    Output {
        /// The number stated.
        value: i32,
        /// Smallest possible output.
        lo: i64,
        /// Largest possible output.
        hi: i64,
    },
    /// Checking the proof would take too long.
    #[error("checking it goes through {need} rows, {limit} are allowed")]
    Work {
        /// Rows of tables and elements of vectors, as far as they were counted.
        need: u64,
        /// Most that are allowed.
        limit: u64,
    },
    /// No cut into stages fits the memory that a prover may take.
    #[error("a proof takes {} MiB in as many stages as help, {} MiB are allowed", need >> 20, limit >> 20)]
    Memory {
        /// Bytes needed.
        need: u64,
        /// Bytes allowed.
        limit: u64,
    },
    /// This machine derives other parameters of the commitment scheme than the parameter set states.
    #[error("the parameters of {what} of 2^{log} cells are not those of the parameter set")]
    Parameters {
        /// `witness`, `weights`.
        what: &'static str,
        /// Logarithm of the size.
        log: u32,
    },
    /// The key does not describe this model.
    #[error("the key does not fit the model: {0}")]
    Key(String),
    /// The run's input does not fit the model.
    #[error(transparent)]
    Graph(#[from] assay_graph::GraphError),
}

/// Why there is no proof.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ProveError {
    /// The model or the run can't be proven.
    #[error(transparent)]
    Plan(#[from] PlanError),
    /// The runs don't fit together.
    #[error("{0}")]
    Runs(String),
    /// The operating system gives no randomness, without which nothing is hidden.
    #[error("no randomness: {0}")]
    Randomness(String),
    /// The proof would be below 100 bits.
    #[error(transparent)]
    Budget(VerifyError),
}

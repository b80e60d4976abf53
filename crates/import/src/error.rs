//! What can go wrong between a float file and an integer graph.

use std::path::PathBuf;

use assay_graph::GraphError;

/// Errors of import, calibration, catalogue and pull.
///
/// All but [`Io`](Self::Io) and [`Tool`](Self::Tool) are faults of the file or the request, not of this machine.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// A file can't be read or written.
    #[error("{path}: {source}", path = path.display())]
    Io {
        /// Which file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A count or size above what this importer accepts; checked before anything is allocated.
    #[error("{what} is {have}, at most {limit} accepted")]
    Limit {
        /// What is counted.
        what: String,
        /// Found.
        have: u64,
        /// Accepted.
        limit: u64,
    },
    /// A file is not what it claims to be.
    #[error("{what}: {why}")]
    Malformed {
        /// Which file or part.
        what: String,
        /// What is wrong, with values.
        why: String,
    },
    /// An operator or a use of it that has no integer form here.
    #[error("operator `{op}` of node `{node}` is not supported: {why}")]
    Unsupported {
        /// Operator name as in the file.
        op: String,
        /// Node name, or the name of its first output.
        node: String,
        /// Why not.
        why: String,
    },
    /// A weight or constant is NaN or infinite.
    #[error("value {index} of tensor `{tensor}` is not a finite number")]
    NotFinite {
        /// Tensor name.
        tensor: String,
        /// Row-major index.
        index: usize,
    },
    /// Something that is referred to does not exist.
    #[error("{what} `{name}` does not exist")]
    Missing {
        /// Kind of thing.
        what: &'static str,
        /// Its name.
        name: String,
    },
    /// The integer graph refused a node: a bound, a cap or a shape.
    #[error(transparent)]
    Graph(#[from] GraphError),
    /// The engine refused to run a graph while measuring it.
    #[error("measuring the integer graph failed: {0}")]
    Measure(String),
    /// A downloaded or cached file has another hash than the catalogue says; the file has been deleted.
    #[error("{file}: sha256 is {have}, the catalogue says {want}; the file was deleted")]
    Hash {
        /// File name.
        file: String,
        /// Expected, hex.
        want: String,
        /// Found, hex.
        have: String,
    },
    /// A downloaded or cached file has another size than the catalogue says; the file has been deleted.
    #[error("{file}: {have} bytes, the catalogue says {want}; the file was deleted")]
    Size {
        /// File name.
        file: String,
        /// Expected bytes.
        want: u64,
        /// Found bytes.
        have: u64,
    },
    /// No source of a model could be reached.
    #[error("`{model}` could not be fetched from any source: {}", tried.join("; "))]
    Unreachable {
        /// Model id.
        model: String,
        /// Source and reason, one each.
        tried: Vec<String>,
    },
    /// A program of this machine failed or is missing.
    #[error("{program}: {why}")]
    Tool {
        /// Program.
        program: String,
        /// Its last words.
        why: String,
    },
    /// The model passed import but not its accuracy gate.
    #[error("accuracy gate `{gate}`: {have:.5}, at least {want:.5} wanted")]
    Accuracy {
        /// Which figure.
        gate: &'static str,
        /// Measured.
        have: f64,
        /// Wanted.
        want: f64,
    },
}

impl ImportError {
    pub(crate) fn malformed(what: impl Into<String>, why: impl Into<String>) -> Self {
        Self::Malformed {
            what: what.into(),
            why: why.into(),
        }
    }

    pub(crate) fn io(path: impl Into<PathBuf>) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.into();
        |source| Self::Io { path, source }
    }

    pub(crate) fn check(what: &str, have: u64, limit: u64) -> Result<(), Self> {
        if have > limit {
            Err(Self::Limit {
                what: what.to_owned(),
                have,
                limit,
            })
        } else {
            Ok(())
        }
    }
}

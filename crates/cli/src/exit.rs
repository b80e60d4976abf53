//! Exit codes, and the errors that carry them.

use std::fmt;

/// Documented exit codes (README, "Exit codes").
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Exit {
    /// The operation failed.
    Failed = 1,
    /// Evidence is false.
    False = 3,
    /// A model, file, receipt or account does not exist.
    NotFound = 4,
    /// Payment is required or was refused.
    Payment = 5,
    /// A peer or the network is not there now.
    Unavailable = 75,
    /// Ctrl-C, or nobody reads the result any more.
    Interrupted = 130,
}

/// An error for a person: what failed with its values, and what to do next.
#[derive(Debug)]
pub(crate) struct Stop {
    pub(crate) exit: Exit,
    pub(crate) what: String,
    pub(crate) hint: Option<String>,
}

impl Stop {
    pub(crate) fn new(exit: Exit, what: impl fmt::Display) -> Self {
        Self {
            exit,
            what: what.to_string(),
            hint: None,
        }
    }

    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

impl fmt::Display for Stop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.what)
    }
}

impl std::error::Error for Stop {}

/// `Err(Stop)` in one word.
pub(crate) fn stop<T>(exit: Exit, what: impl fmt::Display) -> anyhow::Result<T> {
    Err(Stop::new(exit, what).into())
}

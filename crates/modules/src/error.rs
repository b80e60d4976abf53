//! How a rule says no.

use alloy_primitives::Bytes;
use alloy_sol_types::SolError;
use assay_storage::StorageError;

/// Why a call did not return.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// A rule was not met: the ABI encoding of the custom error, with its values.
    #[error("reverted with {0}")]
    Revert(Bytes),
    /// Storage refused.
    #[error(transparent)]
    Storage(#[from] StorageError),
}

/// Result of a rule.
pub type Ruling<T> = Result<T, Fault>;

/// A revert with a custom error of the ABI.
pub(crate) fn revert<E: SolError>(error: E) -> Fault {
    Fault::Revert(error.abi_encode().into())
}

/// Refuses with a custom error unless `condition` holds.
pub(crate) fn require<E: SolError>(condition: bool, error: impl FnOnce() -> E) -> Ruling<()> {
    if condition {
        Ok(())
    } else {
        Err(revert(error()))
    }
}

/// In a system call nothing may revert: a revert there is an invariant failure.
pub(crate) fn system<T>(ruling: Ruling<T>) -> Result<T, StorageError> {
    ruling.map_err(|fault| match fault {
        Fault::Revert(data) => StorageError::Fatal(format!("system call reverted with {data}")),
        Fault::Storage(error) => error,
    })
}

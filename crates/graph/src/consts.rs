//! Constants of a graph: weights, rows, norm parameters, tables, in their canonical bytes.

use std::sync::Arc;

use crate::types::DType;

/// Entries of a table that share one row (one leaf of its tree).
pub const TABLE_ROW: u32 = 512;

/// What a constant is; fixes the layout of its row bytes (docs/graph.md, "Constants").
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ConstKind {
    /// Row = shift (`i8`) ∥ bias (`i32` LE) ∥ `cols` values of `dtype` (`i8` or `i16`).
    Weights {
        /// Output channels.
        rows: u32,
        /// Reduction length.
        cols: u32,
        /// `I8` or `I16`.
        dtype: DType,
    },
    /// Row = `cols` values of `dtype` (`i8` or `i16`).
    Rows {
        /// Number of rows.
        rows: u32,
        /// Values in a row.
        cols: u32,
        /// `I8` or `I16`.
        dtype: DType,
    },
    /// One row: n × (gain `i16` ∥ bias `i32`).
    Norm {
        /// Length of the normalised axis.
        n: u32,
    },
    /// Rows of up to [`TABLE_ROW`] entries of `dtype` (`i8` or `i16`).
    Table {
        /// Number of entries.
        entries: u32,
        /// `I8` or `I16`.
        dtype: DType,
    },
}

/// A constant: kind and canonical bytes (all rows after one another). Cheap to clone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Const {
    pub(crate) kind: ConstKind,
    pub(crate) bytes: Arc<[u8]>,
}

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
    /// Row of codes with an integer step and offset for each group of columns (docs/graph.md, "Constants"): block formats re-expressed exactly as integers.
    Blocks {
        /// Output channels.
        rows: u32,
        /// Reduction length; a multiple of 32.
        cols: u32,
        /// Bits of a code: 4, 5, 6 or 8.
        bits: u8,
        /// Columns that share a step: 16 or 32.
        group: u8,
        /// Whether each group has its own offset; else it is `−step·2^(bits−1)`.
        offsets: bool,
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

/// Shifts that a row or a requantisation may have.
pub(crate) const SHIFTS: std::ops::RangeInclusive<i8> = -15..=31;
/// Header bytes of a `weights` row: shift and bias.
pub(crate) const WEIGHT_HEADER: usize = 5;

impl ConstKind {
    /// Number of rows (leaves of the constant's tree).
    pub const fn rows(&self) -> u32 {
        match self {
            Self::Weights { rows, .. } | Self::Blocks { rows, .. } | Self::Rows { rows, .. } => {
                *rows
            }
            Self::Norm { .. } => 1,
            Self::Table { entries, .. } => entries.div_ceil(TABLE_ROW),
        }
    }

    /// Bytes of row `row`; 0 when there is no such row.
    pub fn row_bytes(&self, row: u32) -> usize {
        if row >= self.rows() {
            return 0;
        }
        match self {
            Self::Weights { cols, dtype, .. } => WEIGHT_HEADER + *cols as usize * dtype.size(),
            Self::Blocks {
                cols,
                bits,
                group,
                offsets,
                ..
            } => {
                let groups = *cols as usize / usize::from(*group).max(1);
                WEIGHT_HEADER
                    + groups * if *offsets { 4 } else { 2 }
                    + *cols as usize * usize::from(*bits) / 8
            }
            Self::Rows { cols, dtype, .. } => *cols as usize * dtype.size(),
            Self::Norm { n } => *n as usize * 6,
            Self::Table { entries, dtype } => {
                (entries - row * TABLE_ROW).min(TABLE_ROW) as usize * dtype.size()
            }
        }
    }

    /// Offset of row `row` in the constant's bytes.
    pub fn row_offset(&self, row: u32) -> usize {
        row as usize * self.row_bytes(0)
    }

    /// Bytes of all rows.
    pub fn total_bytes(&self) -> usize {
        match self {
            Self::Table { entries, dtype } => *entries as usize * dtype.size(),
            _ => self.rows() as usize * self.row_bytes(0),
        }
    }

    /// Whether the constant belongs to the tables (else: to the weights) of the model id.
    pub const fn is_table(&self) -> bool {
        matches!(self, Self::Table { .. })
    }
}

/// One row of a `weights` constant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WeightView<'a> {
    /// Right shift of the row's accumulator (negative: left).
    pub shift: i8,
    /// Added to the accumulator.
    pub bias: i32,
    /// Element type of `values`.
    pub dtype: DType,
    /// Canonical bytes of the weights.
    pub values: &'a [u8],
}

impl<'a> WeightView<'a> {
    /// Reads the canonical bytes of a row; `None` when they are too short or the shift lies outside −15 … 31.
    pub fn parse(dtype: DType, bytes: &'a [u8]) -> Option<Self> {
        let (header, values) = bytes.split_first_chunk::<WEIGHT_HEADER>()?;
        let [shift, b0, b1, b2, b3] = *header;
        let shift = i8::from_le_bytes([shift]);
        SHIFTS.contains(&shift).then_some(())?;
        Some(Self {
            shift,
            bias: i32::from_le_bytes([b0, b1, b2, b3]),
            dtype,
            values,
        })
    }

    /// The weights, widened.
    pub fn iter(&self) -> impl Iterator<Item = i32> + 'a {
        let size = self.dtype.size();
        let narrow = matches!(self.dtype, DType::I8);
        self.values.chunks_exact(size).map(move |c| match c {
            [b] if narrow => i32::from(i8::from_le_bytes([*b])),
            [a, b] => i32::from(i16::from_le_bytes([*a, *b])),
            _ => 0,
        })
    }
}

/// Reads `i8`/`i16` values of a row, widened.
pub(crate) fn read_values(dtype: DType, bytes: &[u8]) -> Vec<i32> {
    WeightView {
        shift: 0,
        bias: 0,
        dtype,
        values: bytes,
    }
    .iter()
    .collect()
}

impl Const {
    /// A constant from its canonical bytes; `None` when the length is not the kind's.
    pub fn new(kind: ConstKind, bytes: Arc<[u8]>) -> Option<Self> {
        (bytes.len() == kind.total_bytes()).then_some(Self { kind, bytes })
    }

    /// What it is.
    pub const fn kind(&self) -> ConstKind {
        self.kind
    }

    /// Canonical bytes of all rows.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Canonical bytes of one row.
    pub fn row(&self, row: u32) -> Option<&[u8]> {
        let len = self.kind.row_bytes(row);
        let at = self.kind.row_offset(row);
        if len == 0 {
            None
        } else {
            self.bytes.get(at..at.checked_add(len)?)
        }
    }

    /// A row of a `weights` constant.
    pub fn weight_row(&self, row: u32) -> Option<WeightView<'_>> {
        match self.kind {
            ConstKind::Weights { dtype, .. } => WeightView::parse(dtype, self.row(row)?),
            _ => None,
        }
    }

    /// All values of a `rows` or `table` constant, widened; empty for other kinds.
    pub fn values(&self) -> Vec<i32> {
        match self.kind {
            ConstKind::Rows { dtype, .. } | ConstKind::Table { dtype, .. } => {
                read_values(dtype, &self.bytes)
            }
            _ => Vec::new(),
        }
    }

    /// Gains and biases of a `norm` constant; empty for other kinds.
    pub fn norm(&self) -> Vec<(i16, i32)> {
        match self.kind {
            ConstKind::Norm { .. } => self
                .bytes
                .as_chunks::<6>()
                .0
                .iter()
                .map(|[a, b, c, d, e, f]| {
                    (
                        i16::from_le_bytes([*a, *b]),
                        i32::from_le_bytes([*c, *d, *e, *f]),
                    )
                })
                .collect(),
            _ => Vec::new(),
        }
    }
}

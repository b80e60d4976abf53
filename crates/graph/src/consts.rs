//! Constants of a graph: weights, rows, norm parameters, tables, in their canonical bytes.

use std::{
    ops::{Deref, Range},
    sync::Arc,
};

use crate::types::DType;

/// What holds shared bytes: a vector, a memory map.
pub trait Holder: AsRef<[u8]> + Send + Sync {
    /// Tells that the bytes will not be read soon: a holder that can get them again may let their memory go. They stay readable.
    fn release(&self) {}
}

impl Holder for Vec<u8> {}

/// Shared bytes: a vector, a memory map, or a part of one. Cheap to clone.
#[derive(Clone)]
pub struct Bytes {
    owner: Arc<dyn Holder>,
    range: Range<usize>,
}

impl Bytes {
    /// All bytes of `owner`.
    pub fn new(owner: Arc<dyn Holder>) -> Self {
        let range = 0..(*owner).as_ref().len();
        Self { owner, range }
    }

    /// A part; empty when `range` leaves the bytes.
    pub fn slice(&self, range: Range<usize>) -> Self {
        let inside = range.start <= range.end && range.end <= self.range.len();
        let start = self.range.start;
        Self {
            owner: Arc::clone(&self.owner),
            range: if inside {
                start + range.start..start + range.end
            } else {
                start..start
            },
        }
    }
}

impl Deref for Bytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        (*self.owner)
            .as_ref()
            .get(self.range.clone())
            .unwrap_or_default()
    }
}

impl From<Vec<u8>> for Bytes {
    fn from(bytes: Vec<u8>) -> Self {
        Self::new(Arc::new(bytes))
    }
}

impl PartialEq for Bytes {
    fn eq(&self, other: &Self) -> bool {
        **self == **other
    }
}

impl Eq for Bytes {}

impl std::fmt::Debug for Bytes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} bytes", self.len())
    }
}

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
    pub(crate) bytes: Bytes,
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

    /// Whether sizes are ones that a constant may have.
    pub(crate) fn is_possible(&self) -> bool {
        let (a, b) = match *self {
            Self::Weights { rows, cols, .. }
            | Self::Rows { rows, cols, .. }
            | Self::Blocks { rows, cols, .. } => (rows, cols),
            Self::Norm { n } => (n, 1),
            Self::Table { entries, .. } => (entries, 1),
        };
        let blocks = match *self {
            Self::Blocks {
                cols, bits, group, ..
            } => {
                cols.is_multiple_of(32) && matches!(bits, 4 | 5 | 6 | 8) && matches!(group, 16 | 32)
            }
            _ => true,
        };
        blocks
            && (1..=1 << 24).contains(&a)
            && (1..=1 << 24).contains(&b)
            && u64::from(a) * u64::from(b) <= 1 << 32
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

/// One row of a `blocks` constant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BlockView<'a> {
    /// Right shift of the row's accumulator (negative: left).
    pub shift: i8,
    /// Added to the accumulator.
    pub bias: i32,
    /// Bits of a code.
    pub bits: u8,
    /// Columns that share a step.
    pub group: usize,
    /// Steps, `i16` little endian, one a group.
    pub steps: &'a [u8],
    /// Offsets, `i16` little endian, one a group; empty when they follow from the steps.
    pub offsets: &'a [u8],
    /// Packed codes (docs/graph.md, "Constants").
    pub codes: &'a [u8],
}

impl<'a> BlockView<'a> {
    /// Reads the canonical bytes of a row of a `blocks` constant; `None` for another kind, another length, or a shift outside −15 … 31.
    pub fn parse(kind: &ConstKind, bytes: &'a [u8]) -> Option<Self> {
        let ConstKind::Blocks {
            cols,
            bits,
            group,
            offsets,
            ..
        } = *kind
        else {
            return None;
        };
        let (header, rest) = bytes.split_first_chunk::<WEIGHT_HEADER>()?;
        let [shift, b0, b1, b2, b3] = *header;
        let shift = i8::from_le_bytes([shift]);
        let group = usize::from(group);
        let groups = cols as usize / group;
        let (steps, rest) = rest.split_at_checked(2 * groups)?;
        let (offsets, codes) = rest.split_at_checked(if offsets { 2 * groups } else { 0 })?;
        (SHIFTS.contains(&shift) && codes.len() == cols as usize * usize::from(bits) / 8)
            .then_some(())?;
        Some(Self {
            shift,
            bias: i32::from_le_bytes([b0, b1, b2, b3]),
            bits,
            group,
            steps,
            offsets,
            codes,
        })
    }

    /// Step and offset of group `g`.
    pub fn step(&self, g: usize) -> (i32, i32) {
        let word = |bytes: &[u8]| match bytes.get(2 * g..2 * g + 2) {
            Some([a, b]) => i32::from(i16::from_le_bytes([*a, *b])),
            _ => 0,
        };
        let step = word(self.steps);
        let offset = if self.offsets.is_empty() {
            -(step << (self.bits - 1))
        } else {
            word(self.offsets)
        };
        (step, offset)
    }

    /// All codes, in the order of the columns.
    pub fn all_codes(&self) -> Vec<u8> {
        if self.bits == 8 {
            return self.codes.to_vec();
        }
        let cols = self.codes.len() * 8 / usize::from(self.bits);
        let (nibbles, planes) = self.codes.split_at(cols / 2);
        let mut out: Vec<u8> = nibbles.iter().flat_map(|b| [b & 15, b >> 4]).collect();
        for (plane, bytes) in planes.chunks_exact(cols / 8).enumerate() {
            for (codes, byte) in out.as_chunks_mut::<8>().0.iter_mut().zip(bytes) {
                for (i, code) in codes.iter_mut().enumerate() {
                    *code |= (byte >> i & 1) << (4 + plane);
                }
            }
        }
        out
    }

    /// The weights: `step·code + offset`.
    pub fn values(&self) -> Vec<i32> {
        let codes = self.all_codes();
        let mut out = Vec::with_capacity(codes.len());
        for (g, codes) in codes.chunks_exact(self.group.max(1)).enumerate() {
            let (step, offset) = self.step(g);
            out.extend(codes.iter().map(|c| step * i32::from(*c) + offset));
        }
        out
    }
}

/// A row of weights, whichever way it is stored: shift, bias, values.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RowValues {
    /// Right shift of the row's accumulator (negative: left).
    pub shift: i8,
    /// Added to the accumulator.
    pub bias: i32,
    /// The weights.
    pub values: Vec<i32>,
}

impl RowValues {
    /// Reads a row of a `weights` or `blocks` constant; `None` for other kinds or malformed bytes.
    pub fn parse(kind: &ConstKind, bytes: &[u8]) -> Option<Self> {
        match kind {
            ConstKind::Weights { dtype, .. } => {
                let view = WeightView::parse(*dtype, bytes)?;
                Some(Self {
                    shift: view.shift,
                    bias: view.bias,
                    values: view.iter().collect(),
                })
            }
            _ => {
                let view = BlockView::parse(kind, bytes)?;
                Some(Self {
                    shift: view.shift,
                    bias: view.bias,
                    values: view.values(),
                })
            }
        }
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
    pub fn new(kind: ConstKind, bytes: Bytes) -> Option<Self> {
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

    /// See [`Holder::release`]; all bytes of the holder, other constants in it included.
    pub fn release(&self) {
        self.bytes.owner.release();
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

    /// A row of a `weights` or `blocks` constant as numbers.
    pub fn row_values(&self, row: u32) -> Option<RowValues> {
        RowValues::parse(&self.kind, self.row(row)?)
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

//! Element types, shapes and tensors.

use crate::GraphError;

/// Largest magnitude of any accumulator: `(p - 1) / 2 = 2^30 - 2^23` for KoalaBear, `p = 2^31 - 2^24 + 1`.
pub const A_MAX: i64 = (1 << 30) - (1 << 23);
/// Most dimensions of a shape.
pub const MAX_RANK: usize = 6;
/// Most elements of one tensor (bounds memory of anything that runs a graph).
pub const MAX_ELEMENTS: u64 = 1 << 30;

/// Element type of a tensor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum DType {
    /// 8-bit signed.
    I8 = 0,
    /// 16-bit signed.
    I16 = 1,
    /// 32-bit signed.
    I32 = 2,
}

impl DType {
    /// Bytes of one element: 1, 2 or 4.
    pub const fn size(self) -> usize {
        match self {
            Self::I8 => 1,
            Self::I16 => 2,
            Self::I32 => 4,
        }
    }

    /// Smallest and largest value of the type.
    pub const fn range(self) -> (i32, i32) {
        match self {
            Self::I8 => (i8::MIN as i32, i8::MAX as i32),
            Self::I16 => (i16::MIN as i32, i16::MAX as i32),
            Self::I32 => (i32::MIN, i32::MAX),
        }
    }
}

/// One dimension of a shape.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Dim {
    /// A number, at least 1.
    Fixed(u32),
    /// The number of positions of the run, 1 … `max_seq` of the graph.
    Seq,
    /// How many of the positions answer, 1 … `Seq`; they are the last ones.
    Out,
}

/// How large a run is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Extent {
    /// Positions.
    pub seq: u32,
    /// Answering positions, 1 … `seq`; 1 for graphs that generate nothing.
    pub out: u32,
}

impl Extent {
    /// A run that answers `n_in` tokens with `n_out`: `n_in + n_out − 1` positions, because the last token is not fed back. `None` when a number is 0 or the sum passes `u32`.
    pub const fn answering(n_in: u32, n_out: u32) -> Option<Self> {
        if n_in == 0 || n_out == 0 {
            return None;
        }
        match n_in.checked_add(n_out - 1) {
            Some(seq) => Some(Self { seq, out: n_out }),
            None => None,
        }
    }

    /// Tokens or positions that were asked: those before the first answered token.
    pub const fn n_in(self) -> u32 {
        self.seq.saturating_sub(self.out) + 1
    }
}

impl From<u32> for Extent {
    /// `seq` positions, one answer.
    fn from(seq: u32) -> Self {
        Self { seq, out: 1 }
    }
}

impl Dim {
    /// The number of this dimension in a run.
    pub const fn at(self, extent: Extent) -> u32 {
        match self {
            Self::Fixed(n) => n,
            Self::Seq => extent.seq,
            Self::Out => extent.out,
        }
    }
}

/// Dimensions, outermost first; row-major.
pub type Shape = Vec<Dim>;

/// Type of a node's output: element type, shape and declared range.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TensorType {
    /// Element type.
    pub dtype: DType,
    /// Dimensions, outermost first.
    pub shape: Shape,
    /// Smallest value any legal run can produce.
    pub lo: i32,
    /// Largest value any legal run can produce.
    pub hi: i32,
}

impl TensorType {
    /// Dimensions of a run.
    pub fn dims(&self, extent: impl Into<Extent>) -> Vec<usize> {
        let extent = extent.into();
        self.shape.iter().map(|d| d.at(extent) as usize).collect()
    }

    /// Elements of a run (shapes are validated, so this can't overflow).
    pub fn len(&self, extent: impl Into<Extent>) -> usize {
        self.dims(extent).iter().product()
    }

    /// Whether the shape has no elements; never true of a validated shape.
    pub fn is_empty(&self) -> bool {
        self.len(1u32) == 0
    }
}

/// Integers of one tensor, row-major.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Data {
    /// 8-bit elements.
    I8(Vec<i8>),
    /// 16-bit elements.
    I16(Vec<i16>),
    /// 32-bit elements.
    I32(Vec<i32>),
}

/// A tensor of a run: dimensions (all fixed now) and integers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tensor {
    /// Dimensions, outermost first.
    pub dims: Vec<usize>,
    /// `dims.product()` integers.
    pub data: Data,
}

impl Data {
    /// Element type.
    pub const fn dtype(&self) -> DType {
        match self {
            Self::I8(_) => DType::I8,
            Self::I16(_) => DType::I16,
            Self::I32(_) => DType::I32,
        }
    }

    /// Number of elements.
    pub fn len(&self) -> usize {
        match self {
            Self::I8(v) => v.len(),
            Self::I16(v) => v.len(),
            Self::I32(v) => v.len(),
        }
    }

    /// Whether there are no elements.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Element `i` widened, if it exists.
    pub fn get(&self, i: usize) -> Option<i32> {
        match self {
            Self::I8(v) => v.get(i).map(|x| i32::from(*x)),
            Self::I16(v) => v.get(i).map(|x| i32::from(*x)),
            Self::I32(v) => v.get(i).copied(),
        }
    }

    /// All elements widened.
    pub fn to_i32(&self) -> Vec<i32> {
        match self {
            Self::I8(v) => v.iter().map(|x| i32::from(*x)).collect(),
            Self::I16(v) => v.iter().map(|x| i32::from(*x)).collect(),
            Self::I32(v) => v.clone(),
        }
    }

    /// Narrows integers to `dtype`; `None` if one does not fit.
    pub fn from_i32(dtype: DType, values: &[i32]) -> Option<Self> {
        Some(match dtype {
            DType::I8 => Self::I8(
                values
                    .iter()
                    .map(|v| i8::try_from(*v).ok())
                    .collect::<Option<_>>()?,
            ),
            DType::I16 => Self::I16(
                values
                    .iter()
                    .map(|v| i16::try_from(*v).ok())
                    .collect::<Option<_>>()?,
            ),
            DType::I32 => Self::I32(values.to_vec()),
        })
    }

    /// Canonical bytes: little endian, in element order.
    pub fn to_bytes(&self) -> Vec<u8> {
        match self {
            Self::I8(v) => v.iter().map(|x| x.to_le_bytes()[0]).collect(),
            Self::I16(v) => v.iter().flat_map(|x| x.to_le_bytes()).collect(),
            Self::I32(v) => v.iter().flat_map(|x| x.to_le_bytes()).collect(),
        }
    }

    /// Reads canonical bytes.
    ///
    /// # Errors
    /// [`GraphError::Length`] when the bytes are not a whole number of elements.
    pub fn from_bytes(dtype: DType, bytes: &[u8]) -> Result<Self, GraphError> {
        if !bytes.len().is_multiple_of(dtype.size()) {
            return Err(GraphError::Length {
                what: "tensor bytes",
                want: bytes.len().next_multiple_of(dtype.size()),
                have: bytes.len(),
            });
        }
        Ok(match dtype {
            DType::I8 => Self::I8(bytes.iter().map(|b| i8::from_le_bytes([*b])).collect()),
            DType::I16 => Self::I16(
                bytes
                    .as_chunks::<2>()
                    .0
                    .iter()
                    .map(|b| i16::from_le_bytes(*b))
                    .collect(),
            ),
            DType::I32 => Self::I32(
                bytes
                    .as_chunks::<4>()
                    .0
                    .iter()
                    .map(|b| i32::from_le_bytes(*b))
                    .collect(),
            ),
        })
    }
}

impl Tensor {
    /// Checks that `data` has `dims.product()` elements.
    ///
    /// # Errors
    /// [`GraphError::Length`].
    pub fn new(dims: Vec<usize>, data: Data) -> Result<Self, GraphError> {
        let want = dims
            .iter()
            .try_fold(1usize, |a, d| a.checked_mul(*d))
            .unwrap_or(usize::MAX);
        if want != data.len() {
            return Err(GraphError::Length {
                what: "tensor",
                want,
                have: data.len(),
            });
        }
        Ok(Self { dims, data })
    }
}

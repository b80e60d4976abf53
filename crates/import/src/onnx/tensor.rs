//! Constants of an ONNX file: decoded with their sizes checked before anything is allocated.

use std::{
    fs::File,
    io::{Read, Seek, SeekFrom},
    path::Path,
};

use super::proto::TensorProto;
use crate::{bert::weights::half, error::ImportError};

/// Most elements of one constant, also of a folded one.
pub const MAX_ELEMENTS: u64 = 1 << 27;
/// Most elements of a constant that is computed from others (an `Expand` of three bytes must not become a gigabyte).
pub const MAX_FOLDED: u64 = 1 << 24;
/// Most dimensions.
pub const MAX_RANK: usize = 8;

/// Numbers of a constant.
#[derive(Clone, Debug, PartialEq)]
pub enum Values {
    /// Real numbers.
    F(Vec<f32>),
    /// Integers and booleans.
    I(Vec<i64>),
}

/// A constant tensor, row-major.
#[derive(Clone, Debug, PartialEq)]
pub struct Constant {
    /// Dimensions; a scalar has none.
    pub dims: Vec<usize>,
    /// As many numbers as the product of the dimensions.
    pub values: Values,
}

impl Constant {
    /// Real numbers with dimensions; lengths must agree.
    pub fn floats(dims: Vec<usize>, values: Vec<f32>) -> Self {
        Self {
            dims,
            values: Values::F(values),
        }
    }

    /// Integers with dimensions; lengths must agree.
    pub fn ints(dims: Vec<usize>, values: Vec<i64>) -> Self {
        Self {
            dims,
            values: Values::I(values),
        }
    }

    /// Number of elements.
    pub fn len(&self) -> usize {
        match &self.values {
            Values::F(v) => v.len(),
            Values::I(v) => v.len(),
        }
    }

    /// Whether there are no elements.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// All values as f32.
    pub fn to_f32(&self) -> Vec<f32> {
        match &self.values {
            Values::F(v) => v.clone(),
            Values::I(v) => v.iter().map(|x| *x as f32).collect(),
        }
    }

    /// All values as i64; reals are truncated as a cast does.
    pub fn to_i64(&self) -> Vec<i64> {
        match &self.values {
            Values::F(v) => v.iter().map(|x| *x as i64).collect(),
            Values::I(v) => v.clone(),
        }
    }

    /// The only element, if there is exactly one.
    pub fn scalar(&self) -> Option<f64> {
        match &self.values {
            Values::F(v) => <[f32; 1]>::try_from(v.as_slice())
                .ok()
                .map(|[x]| f64::from(x)),
            Values::I(v) => <[i64; 1]>::try_from(v.as_slice()).ok().map(|[x]| x as f64),
        }
    }

    /// Decodes a tensor of the file. External data is read from inside `folder` only.
    ///
    /// # Errors
    /// [`ImportError::Limit`] for too many elements or dimensions, [`ImportError::Malformed`] for lengths that disagree or unsupported element types or paths,
    /// [`ImportError::NotFinite`] for NaN or infinity.
    pub fn decode(t: &TensorProto, folder: Option<&Path>) -> Result<Self, ImportError> {
        let what = || format!("tensor `{}`", t.name);
        ImportError::check(
            &format!("{} dimensions", what()),
            t.dims.len() as u64,
            MAX_RANK as u64,
        )?;
        let dims = checked_dims(&t.dims)
            .ok_or_else(|| ImportError::malformed(what(), format!("dimensions {:?}", t.dims)))?;
        let count = count(&dims);
        ImportError::check(&format!("{} elements", what()), count, MAX_ELEMENTS)?;
        let count = count as usize;
        let external;
        let raw: &[u8] = if t.data_location == 1 {
            external = external_bytes(t, folder, count)?;
            &external
        } else {
            &t.raw_data
        };
        let constant = Self {
            dims,
            values: decode_values(t, raw)?,
        };
        if constant.len() != count {
            return Err(ImportError::malformed(
                what(),
                format!("{} values for dimensions {:?}", constant.len(), t.dims),
            ));
        }
        if let Values::F(v) = &constant.values
            && let Some(index) = v.iter().position(|x| !x.is_finite())
        {
            return Err(ImportError::NotFinite {
                tensor: t.name.clone(),
                index,
            });
        }
        Ok(constant)
    }
}

/// Product of dimensions, saturating.
pub fn count(dims: &[usize]) -> u64 {
    dims.iter().fold(1u64, |a, d| a.saturating_mul(*d as u64))
}

/// Dimensions as usize when all are between 0 and 2^31.
pub fn checked_dims(dims: &[i64]) -> Option<Vec<usize>> {
    dims.iter()
        .map(|d| usize::try_from(*d).ok().filter(|d| *d <= 1 << 31))
        .collect()
}

fn decode_values(t: &TensorProto, raw: &[u8]) -> Result<Values, ImportError> {
    let use_raw = !raw.is_empty();
    let bytes = |f: fn(u8) -> i64| raw.iter().map(|b| f(*b)).collect::<Vec<_>>();
    let wide = |v: &[i32]| v.iter().map(|x| i64::from(*x)).collect::<Vec<_>>();
    Ok(match t.data_type {
        1 if use_raw => Values::F(
            raw.as_chunks::<4>()
                .0
                .iter()
                .map(|b| f32::from_le_bytes(*b))
                .collect(),
        ),
        1 => Values::F(t.float_data.clone()),
        11 if use_raw => Values::F(
            raw.as_chunks::<8>()
                .0
                .iter()
                .map(|b| f64::from_le_bytes(*b) as f32)
                .collect(),
        ),
        11 => Values::F(t.double_data.iter().map(|v| *v as f32).collect()),
        10 if use_raw => Values::F(
            raw.as_chunks::<2>()
                .0
                .iter()
                .map(|b| half(u16::from_le_bytes(*b)))
                .collect(),
        ),
        10 => Values::F(t.int32_data.iter().map(|v| half(*v as u16)).collect()),
        16 if use_raw => Values::F(
            raw.as_chunks::<2>()
                .0
                .iter()
                .map(|b| f32::from_bits(u32::from(u16::from_le_bytes(*b)) << 16))
                .collect(),
        ),
        7 if use_raw => Values::I(
            raw.as_chunks::<8>()
                .0
                .iter()
                .map(|b| i64::from_le_bytes(*b))
                .collect(),
        ),
        7 => Values::I(t.int64_data.clone()),
        6 if use_raw => Values::I(
            raw.as_chunks::<4>()
                .0
                .iter()
                .map(|b| i64::from(i32::from_le_bytes(*b)))
                .collect(),
        ),
        2 | 9 if use_raw => Values::I(bytes(i64::from)),
        3 if use_raw => Values::I(bytes(|b| i64::from(b as i8))),
        2 | 3 | 6 | 9 => Values::I(wide(&t.int32_data)),
        other => {
            return Err(ImportError::malformed(
                format!("tensor `{}`", t.name),
                format!("element type {other} is not supported"),
            ));
        }
    })
}

fn external_bytes(
    t: &TensorProto,
    folder: Option<&Path>,
    count: usize,
) -> Result<Vec<u8>, ImportError> {
    let what = || format!("external data of tensor `{}`", t.name);
    let entry = |key: &str| {
        t.external_data
            .iter()
            .find(|e| e.key == key)
            .map(|e| e.value.as_str())
    };
    let number = |key: &str| {
        entry(key).map_or(Ok(None), |v| {
            v.parse::<u64>()
                .map(Some)
                .map_err(|e| ImportError::malformed(what(), format!("{key} `{v}`: {e}")))
        })
    };
    let location =
        entry("location").ok_or_else(|| ImportError::malformed(what(), "no location"))?;
    let folder = folder
        .ok_or_else(|| ImportError::malformed(what(), "the model was not read from a folder"))?;
    let root = folder.canonicalize().map_err(ImportError::io(folder))?;
    let path = root
        .join(location)
        .canonicalize()
        .map_err(ImportError::io(folder.join(location)))?;
    if !path.starts_with(&root) {
        return Err(ImportError::malformed(
            what(),
            format!("location `{location}` leaves the model's folder"),
        ));
    }
    let element = match t.data_type {
        2 | 3 | 9 => 1,
        10 | 16 => 2,
        7 | 11 => 8,
        _ => 4,
    };
    let want = (count * element) as u64;
    if number("length")?.is_some_and(|n| n != want) {
        return Err(ImportError::malformed(
            what(),
            format!("length is not the {want} bytes of its dimensions"),
        ));
    }
    let mut file = File::open(&path).map_err(ImportError::io(&path))?;
    let size = file.metadata().map_err(ImportError::io(&path))?.len();
    let offset = number("offset")?.unwrap_or(0);
    if offset.checked_add(want).is_none_or(|end| end > size) {
        return Err(ImportError::malformed(
            what(),
            format!("{want} bytes from {offset} in a file of {size}"),
        ));
    }
    file.seek(SeekFrom::Start(offset))
        .map_err(ImportError::io(&path))?;
    let mut bytes = vec![0; count * element];
    file.read_exact(&mut bytes)
        .map_err(ImportError::io(&path))?;
    Ok(bytes)
}

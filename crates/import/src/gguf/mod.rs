//! GGUF files, versions 2 and 3: metadata, tensor directory, and the block formats in which llama.cpp keeps weights.
//!
//! The file is hostile until shown otherwise: every count and size is compared with the bytes that are there before anything is allocated, keys and
//! tensor names are unique, tensors lie inside the data section, at aligned offsets, and do not overlap. Format: `docs/gguf.md` of the ggml repository.

mod blocks;
mod read;
mod write;

use std::collections::HashMap;

pub use blocks::{CodeLayout, Groups, TensorType};
pub use write::Writer;

use crate::error::ImportError;

/// Most keys of the metadata.
pub const MAX_KEYS: u64 = 65_536;
/// Most tensors.
pub const MAX_TENSORS: u64 = 65_536;
/// Longest key or tensor name, bytes.
pub const MAX_NAME: u64 = 65_535;
/// Most dimensions of a tensor.
pub const MAX_DIMS: u32 = 4;
/// Most elements of a tensor.
pub const MAX_ELEMENTS: u64 = 1 << 40;
/// Largest `general.alignment`.
pub const MAX_ALIGNMENT: u64 = 1 << 16;

/// A metadata value. Integers of all widths are `Unsigned` or `Signed`, both float widths are `Float`.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// `u8` … `u64`.
    Unsigned(u64),
    /// `i8` … `i64`.
    Signed(i64),
    /// `f32`, `f64`.
    Float(f64),
    /// `bool`.
    Bool(bool),
    /// A string; bytes that are no UTF-8 are refused.
    String(String),
    /// Array of integers.
    Integers(Vec<i64>),
    /// Array of floats.
    Floats(Vec<f64>),
    /// Array of booleans.
    Bools(Vec<bool>),
    /// Array of strings.
    Strings(Vec<String>),
    /// Array of arrays.
    Nested(Vec<Value>),
}

/// Where a tensor lies and how it is stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TensorInfo {
    /// Name.
    pub name: String,
    /// Dimensions, slowest first (the reverse of the file's order): `[rows, cols]` of a matrix.
    pub dims: Vec<u64>,
    /// Element or block type.
    pub ty: TensorType,
    /// First byte, from the beginning of the file.
    pub start: u64,
    /// Bytes.
    pub len: u64,
}

impl TensorInfo {
    /// Length of the last axis.
    pub fn cols(&self) -> u64 {
        self.dims.last().copied().unwrap_or(1)
    }

    /// Product of all other axes.
    pub fn rows(&self) -> u64 {
        self.dims
            .split_last()
            .map_or(1, |(_, rest)| rest.iter().product())
    }
}

/// The directory of a GGUF file. Tensor contents stay in the file's bytes.
#[derive(Clone, Debug, PartialEq)]
pub struct Gguf {
    /// 2 or 3.
    pub version: u32,
    metadata: HashMap<String, Value>,
    tensors: HashMap<String, TensorInfo>,
}

impl Gguf {
    /// Reads header, metadata and tensor directory of a whole file.
    ///
    /// # Errors
    /// [`ImportError::Malformed`] with the place, [`ImportError::Limit`] for counts above the limits of this module, [`ImportError::Unsupported`] for a tensor type that is not read.
    pub fn parse(file: &[u8]) -> Result<Self, ImportError> {
        read::parse(file)
    }

    /// All keys, in no order.
    pub fn keys(&self) -> impl Iterator<Item = &str> {
        self.metadata.keys().map(String::as_str)
    }

    /// A metadata value.
    pub fn get(&self, key: &str) -> Option<&Value> {
        self.metadata.get(key)
    }

    /// A string value.
    pub fn string(&self, key: &str) -> Option<&str> {
        match self.get(key)? {
            Value::String(s) => Some(s),
            _ => None,
        }
    }

    /// A non-negative integer value.
    pub fn unsigned(&self, key: &str) -> Option<u64> {
        match self.get(key)? {
            Value::Unsigned(v) => Some(*v),
            Value::Signed(v) => u64::try_from(*v).ok(),
            _ => None,
        }
    }

    /// A number, integers widened.
    pub fn number(&self, key: &str) -> Option<f64> {
        match self.get(key)? {
            Value::Unsigned(v) => Some(*v as f64),
            Value::Signed(v) => Some(*v as f64),
            Value::Float(v) => Some(*v),
            _ => None,
        }
    }

    /// A boolean value.
    pub fn boolean(&self, key: &str) -> Option<bool> {
        match self.get(key)? {
            Value::Bool(v) => Some(*v),
            _ => None,
        }
    }

    /// An array of strings.
    pub fn strings(&self, key: &str) -> Option<&[String]> {
        match self.get(key)? {
            Value::Strings(v) => Some(v),
            _ => None,
        }
    }

    /// An array of integers.
    pub fn integers(&self, key: &str) -> Option<&[i64]> {
        match self.get(key)? {
            Value::Integers(v) => Some(v),
            _ => None,
        }
    }

    /// Number of tensors.
    pub fn len(&self) -> usize {
        self.tensors.len()
    }

    /// Whether there are no tensors.
    pub fn is_empty(&self) -> bool {
        self.tensors.is_empty()
    }

    /// A tensor's place.
    pub fn tensor(&self, name: &str) -> Option<&TensorInfo> {
        self.tensors.get(name)
    }

    /// All tensors, in no order.
    pub fn tensors(&self) -> impl Iterator<Item = &TensorInfo> {
        self.tensors.values()
    }
}

#[cfg(test)]
mod tests;

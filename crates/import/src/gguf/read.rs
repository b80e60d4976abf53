//! The decoder of header, metadata and tensor directory.

use std::collections::{HashMap, hash_map::Entry};

use super::{
    Gguf, MAX_ALIGNMENT, MAX_DIMS, MAX_ELEMENTS, MAX_KEYS, MAX_NAME, MAX_TENSORS, TensorInfo,
    TensorType, Value,
};
use crate::error::ImportError;

const MAGIC: &[u8; 4] = b"GGUF";
/// Least bytes of a key-value pair: key length, value type, one byte of value.
const LEAST_PAIR: u64 = 8 + 4 + 1;
/// Least bytes of a tensor's entry: name length, count of dimensions, one dimension, type, offset.
const LEAST_TENSOR: u64 = 8 + 4 + 8 + 4 + 8;

struct Cursor<'a> {
    rest: &'a [u8],
    total: usize,
}

fn bad(why: impl Into<String>) -> ImportError {
    ImportError::malformed("GGUF file", why)
}

impl<'a> Cursor<'a> {
    fn at(&self) -> usize {
        self.total - self.rest.len()
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], ImportError> {
        let (head, rest) = self
            .rest
            .split_first_chunk::<N>()
            .ok_or_else(|| bad(format!("ends at byte {}, {N} more wanted", self.at())))?;
        self.rest = rest;
        Ok(*head)
    }

    fn u32(&mut self) -> Result<u32, ImportError> {
        Ok(u32::from_le_bytes(self.array()?))
    }

    fn u64(&mut self) -> Result<u64, ImportError> {
        Ok(u64::from_le_bytes(self.array()?))
    }

    /// A count of things of which each takes at least `least` bytes.
    fn count(&mut self, what: &str, least: u64) -> Result<usize, ImportError> {
        let (at, n) = (self.at(), self.u64()?);
        let room = self.rest.len() as u64 / least.max(1);
        if n > room {
            return Err(bad(format!(
                "{n} {what} at byte {at}, the file has room for {room}"
            )));
        }
        Ok(n as usize)
    }

    fn string(&mut self, what: &str, limit: u64) -> Result<String, ImportError> {
        let at = self.at();
        let n = self.count(&format!("bytes of a {what}"), 1)?;
        ImportError::check(&format!("length of a {what} at byte {at}"), n as u64, limit)?;
        let (head, rest) = self
            .rest
            .split_at_checked(n)
            .ok_or_else(|| bad(format!("{what} at byte {at} ends outside")))?;
        self.rest = rest;
        String::from_utf8(head.to_vec())
            .map_err(|_| bad(format!("{what} at byte {at} is not UTF-8")))
    }

    fn text(&mut self) -> Result<String, ImportError> {
        self.string("string", u64::MAX)
    }

    fn boolean(&mut self) -> Result<bool, ImportError> {
        let at = self.at();
        match self.array::<1>()? {
            [0] => Ok(false),
            [1] => Ok(true),
            [b] => Err(bad(format!("boolean at byte {at} is {b}"))),
        }
    }

    fn value(&mut self, kind: u32, depth: u32) -> Result<Value, ImportError> {
        Ok(match kind {
            0 | 2 | 4 | 10 => Value::Unsigned(self.unsigned(kind)?),
            1 | 3 | 5 | 11 => Value::Signed(self.signed(kind)?),
            6 => Value::Float(f64::from(f32::from_le_bytes(self.array()?))),
            12 => Value::Float(f64::from_le_bytes(self.array()?)),
            7 => Value::Bool(self.boolean()?),
            8 => Value::String(self.text()?),
            9 if depth > 0 => self.list(depth - 1)?,
            9 => return Err(bad("arrays nested more than two deep")),
            _ => return Err(bad(format!("value type {kind} at byte {}", self.at()))),
        })
    }

    fn unsigned(&mut self, kind: u32) -> Result<u64, ImportError> {
        Ok(match kind {
            0 => u64::from(u8::from_le_bytes(self.array()?)),
            2 => u64::from(u16::from_le_bytes(self.array()?)),
            4 => u64::from(self.u32()?),
            _ => self.u64()?,
        })
    }

    fn signed(&mut self, kind: u32) -> Result<i64, ImportError> {
        Ok(match kind {
            1 => i64::from(i8::from_le_bytes(self.array()?)),
            3 => i64::from(i16::from_le_bytes(self.array()?)),
            5 => i64::from(i32::from_le_bytes(self.array()?)),
            _ => i64::from_le_bytes(self.array()?),
        })
    }

    fn list(&mut self, depth: u32) -> Result<Value, ImportError> {
        let kind = self.u32()?;
        let least = match kind {
            0 | 1 | 7 => 1,
            2 | 3 => 2,
            4..=6 => 4,
            8 | 10..=12 => 8,
            9 => 12,
            _ => return Err(bad(format!("array of value type {kind}"))),
        };
        let n = self.count("array elements", least)?;
        // a vector grows with what is read; strings take 24 bytes of memory for at least 8 of file
        Ok(match kind {
            0 | 2 | 4 | 10 => Value::Integers(
                (0..n)
                    .map(|_| {
                        let v = self.unsigned(kind)?;
                        i64::try_from(v).map_err(|_| bad(format!("array element {v}")))
                    })
                    .collect::<Result<_, _>>()?,
            ),
            1 | 3 | 5 | 11 => Value::Integers(
                (0..n)
                    .map(|_| self.signed(kind))
                    .collect::<Result<_, _>>()?,
            ),
            6 => Value::Floats(
                (0..n)
                    .map(|_| Ok(f64::from(f32::from_le_bytes(self.array()?))))
                    .collect::<Result<_, ImportError>>()?,
            ),
            12 => Value::Floats(
                (0..n)
                    .map(|_| Ok(f64::from_le_bytes(self.array()?)))
                    .collect::<Result<_, ImportError>>()?,
            ),
            7 => Value::Bools((0..n).map(|_| self.boolean()).collect::<Result<_, _>>()?),
            8 => Value::Strings((0..n).map(|_| self.text()).collect::<Result<_, _>>()?),
            _ if depth > 0 => Value::Nested(
                (0..n)
                    .map(|_| self.list(depth - 1))
                    .collect::<Result<_, _>>()?,
            ),
            _ => return Err(bad("arrays nested more than two deep")),
        })
    }

    /// Name, dimensions (slowest first), type and offset in the data section.
    fn tensor(&mut self) -> Result<(TensorInfo, u64), ImportError> {
        let name = self.string("tensor name", MAX_NAME)?;
        let of = |why: String| ImportError::malformed(format!("tensor `{name}`"), why);
        let n = self.u32()?;
        if n == 0 || n > MAX_DIMS {
            return Err(of(format!("{n} dimensions, 1 to {MAX_DIMS} accepted")));
        }
        let mut dims = Vec::new();
        for _ in 0..n {
            dims.push(self.u64()?);
        }
        let elements = dims
            .iter()
            .try_fold(1u64, |a, d| a.checked_mul(*d))
            .filter(|e| (1..=MAX_ELEMENTS).contains(e))
            .ok_or_else(|| {
                of(format!(
                    "dimensions {dims:?}: 1 to {MAX_ELEMENTS} elements accepted"
                ))
            })?;
        let code = self.u32()?;
        let ty = TensorType::from_code(code).ok_or_else(|| ImportError::Unsupported {
            op: format!("GGUF type {code}"),
            node: name.clone(),
            why: "F32, F16, BF16, Q4_0, Q4_1, Q5_0, Q5_1, Q8_0, Q4_K, Q5_K, Q6_K are read".into(),
        })?;
        let cols = dims.first().copied().unwrap_or(0);
        let (block, bytes) = ty.block();
        if !cols.is_multiple_of(block) {
            return Err(of(format!(
                "rows of {cols} elements, {ty:?} comes in blocks of {block}"
            )));
        }
        let offset = self.u64()?;
        dims.reverse();
        let info = TensorInfo {
            name,
            dims,
            ty,
            start: 0,
            len: elements / block * bytes,
        };
        Ok((info, offset))
    }
}

pub(super) fn parse(file: &[u8]) -> Result<Gguf, ImportError> {
    let mut c = Cursor {
        rest: file,
        total: file.len(),
    };
    if c.array::<4>()? != *MAGIC {
        return Err(bad("does not begin with `GGUF`"));
    }
    let version = c.u32()?;
    if !(2..=3).contains(&version) {
        let why = if version.swap_bytes() <= 3 {
            "big endian files are not read".to_owned()
        } else {
            format!("version {version}, 2 and 3 are read")
        };
        return Err(bad(why));
    }
    let tensors = c.u64()?;
    ImportError::check("tensors of a GGUF file", tensors, MAX_TENSORS)?;
    let keys = c.count("keys", LEAST_PAIR)?;
    ImportError::check("keys of a GGUF file", keys as u64, MAX_KEYS)?;
    let mut metadata = HashMap::new();
    for _ in 0..keys {
        let key = c.string("key", MAX_NAME)?;
        let kind = c.u32()?;
        let value = c.value(kind, 2)?;
        match metadata.entry(key) {
            Entry::Occupied(e) => return Err(bad(format!("key `{}` twice", e.key()))),
            Entry::Vacant(e) => e.insert(value),
        };
    }
    let room = c.rest.len() as u64 / LEAST_TENSOR;
    if tensors > room {
        return Err(bad(format!(
            "{tensors} tensors, the file has room for {room}"
        )));
    }
    let mut found = Vec::new();
    for _ in 0..tensors {
        found.push(c.tensor()?);
    }
    let alignment = match metadata.get("general.alignment") {
        None => 32,
        Some(Value::Unsigned(a)) if a.is_power_of_two() && *a <= MAX_ALIGNMENT => *a,
        Some(v) => return Err(bad(format!("general.alignment is {v:?}"))),
    };
    let base = (c.at() as u64).next_multiple_of(alignment);
    let tensors = place(found, base, alignment, file.len() as u64)?;
    Ok(Gguf {
        version,
        metadata,
        tensors,
    })
}

/// Checks where tensors lie.
fn place(
    found: Vec<(TensorInfo, u64)>,
    base: u64,
    alignment: u64,
    end: u64,
) -> Result<HashMap<String, TensorInfo>, ImportError> {
    let mut spans = Vec::new();
    let mut tensors = HashMap::new();
    for (mut info, offset) in found {
        let of = |why: String| ImportError::malformed(format!("tensor `{}`", info.name), why);
        if !offset.is_multiple_of(alignment) {
            return Err(of(format!(
                "offset {offset} is not a multiple of {alignment}"
            )));
        }
        let stop = base
            .checked_add(offset)
            .and_then(|s| s.checked_add(info.len))
            .filter(|s| *s <= end)
            .ok_or_else(|| {
                of(format!(
                    "{} bytes at offset {offset} of the data at byte {base} leave the file of {end}",
                    info.len
                ))
            })?;
        info.start = stop - info.len;
        spans.push((info.start, stop, info.name.clone()));
        match tensors.entry(info.name.clone()) {
            Entry::Occupied(e) => return Err(bad(format!("tensor `{}` twice", e.key()))),
            Entry::Vacant(e) => e.insert(info),
        };
    }
    spans.sort_unstable();
    for pair in spans.windows(2) {
        if let [(_, stop, a), (start, _, b)] = pair
            && start < stop
        {
            return Err(bad(format!("tensors `{a}` and `{b}` overlap")));
        }
    }
    Ok(tensors)
}

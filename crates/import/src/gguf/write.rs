//! A writer of GGUF files, version 3: for tests, and for models that are made and not fetched.

use super::{TensorType, Value};

/// Collects keys and tensors.
#[derive(Clone, Debug, Default)]
pub struct Writer {
    keys: Vec<(String, Value)>,
    tensors: Vec<(String, Vec<u64>, TensorType, Vec<u8>)>,
}

impl Writer {
    /// Nothing yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a key. Duplicates are written as they are.
    pub fn key(&mut self, key: &str, value: Value) -> &mut Self {
        self.keys.push((key.to_owned(), value));
        self
    }

    /// Adds a tensor of dimensions `dims`, slowest first, with the bytes of its blocks.
    pub fn tensor(
        &mut self,
        name: &str,
        dims: &[u64],
        ty: TensorType,
        bytes: Vec<u8>,
    ) -> &mut Self {
        self.tensors
            .push((name.to_owned(), dims.to_vec(), ty, bytes));
        self
    }

    /// Adds a tensor of f32 values.
    pub fn floats(&mut self, name: &str, dims: &[u64], values: &[f32]) -> &mut Self {
        let bytes = values.iter().flat_map(|v| v.to_le_bytes()).collect();
        self.tensor(name, dims, TensorType::F32, bytes)
    }

    /// The file.
    pub fn finish(&self) -> Vec<u8> {
        let mut out = b"GGUF".to_vec();
        out.extend(3u32.to_le_bytes());
        out.extend((self.tensors.len() as u64).to_le_bytes());
        out.extend((self.keys.len() as u64).to_le_bytes());
        for (key, value) in &self.keys {
            string(&mut out, key);
            out.extend(code(value).to_le_bytes());
            payload(&mut out, value);
        }
        let mut offset = 0u64;
        for (name, dims, ty, bytes) in &self.tensors {
            string(&mut out, name);
            out.extend((dims.len() as u32).to_le_bytes());
            for d in dims.iter().rev() {
                out.extend(d.to_le_bytes());
            }
            out.extend(ty.code().to_le_bytes());
            out.extend(offset.to_le_bytes());
            offset += (bytes.len() as u64).next_multiple_of(32);
        }
        for (_, _, _, bytes) in &self.tensors {
            out.resize(out.len().next_multiple_of(32), 0);
            out.extend(bytes);
        }
        out
    }
}

fn string(out: &mut Vec<u8>, s: &str) {
    out.extend((s.len() as u64).to_le_bytes());
    out.extend(s.as_bytes());
}

const fn code(value: &Value) -> u32 {
    match value {
        Value::Unsigned(_) => 10,
        Value::Signed(_) => 11,
        Value::Float(_) => 12,
        Value::Bool(_) => 7,
        Value::String(_) => 8,
        _ => 9,
    }
}

fn payload(out: &mut Vec<u8>, value: &Value) {
    let list = |out: &mut Vec<u8>, kind: u32, n: usize| {
        out.extend(kind.to_le_bytes());
        out.extend((n as u64).to_le_bytes());
    };
    match value {
        Value::Unsigned(v) => out.extend(v.to_le_bytes()),
        Value::Signed(v) => out.extend(v.to_le_bytes()),
        Value::Float(v) => out.extend(v.to_le_bytes()),
        Value::Bool(v) => out.push(u8::from(*v)),
        Value::String(s) => string(out, s),
        Value::Integers(v) => {
            list(out, 11, v.len());
            out.extend(v.iter().flat_map(|x| x.to_le_bytes()));
        }
        Value::Floats(v) => {
            list(out, 12, v.len());
            out.extend(v.iter().flat_map(|x| x.to_le_bytes()));
        }
        Value::Bools(v) => {
            list(out, 7, v.len());
            out.extend(v.iter().map(|x| u8::from(*x)));
        }
        Value::Strings(v) => {
            list(out, 8, v.len());
            v.iter().for_each(|s| string(out, s));
        }
        Value::Nested(v) => {
            list(out, 9, v.len());
            v.iter().for_each(|x| payload(out, x));
        }
    }
}

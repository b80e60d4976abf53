//! Typed reading of a node's attributes.

use super::{
    proto::{AttributeProto, NodeProto, TensorProto},
    tensor::checked_dims,
};
use crate::error::ImportError;

/// A node of the file with readers for what it carries.
#[derive(Clone, Copy, Debug)]
pub struct NodeView<'a> {
    /// The message.
    pub proto: &'a NodeProto,
}

impl<'a> NodeView<'a> {
    /// Name, or first output where there is none.
    pub fn name(&self) -> &'a str {
        if self.proto.name.is_empty() {
            self.proto.output.first().map_or("", String::as_str)
        } else {
            &self.proto.name
        }
    }

    /// Operator name, with its domain unless it is the standard one.
    pub fn op(&self) -> String {
        match self.proto.domain.as_str() {
            "" | "ai.onnx" => self.proto.op_type.clone(),
            domain => format!("{domain}.{}", self.proto.op_type),
        }
    }

    /// Error for something about this node that has no integer form.
    pub fn unsupported(&self, why: impl Into<String>) -> ImportError {
        ImportError::Unsupported {
            op: self.op(),
            node: self.name().to_owned(),
            why: why.into(),
        }
    }

    /// Error for a node that breaks the rules of its operator.
    pub fn malformed(&self, why: impl Into<String>) -> ImportError {
        ImportError::malformed(format!("node `{}` ({})", self.name(), self.op()), why)
    }

    fn get(&self, name: &str) -> Option<&'a AttributeProto> {
        self.proto.attribute.iter().find(|a| a.name == name)
    }

    /// Integer attribute or its default.
    pub fn int(&self, name: &str, default: i64) -> i64 {
        self.get(name).map_or(default, |a| a.i)
    }

    /// Float attribute or its default.
    pub fn float(&self, name: &str, default: f32) -> f64 {
        f64::from(self.get(name).map_or(default, |a| a.f))
    }

    /// Integer list, if present.
    pub fn ints(&self, name: &str) -> Option<&'a [i64]> {
        self.get(name).map(|a| a.ints.as_slice())
    }

    /// Float list, if present.
    pub fn floats(&self, name: &str) -> Option<&'a [f32]> {
        self.get(name).map(|a| a.floats.as_slice())
    }

    /// String attribute or its default; empty when not UTF-8.
    pub fn text(&self, name: &str, default: &'a str) -> &'a str {
        self.get(name)
            .map_or(default, |a| std::str::from_utf8(&a.s).unwrap_or(""))
    }

    /// Tensor attribute, if present.
    pub fn tensor(&self, name: &str) -> Option<&'a TensorProto> {
        self.get(name).and_then(|a| a.t.as_ref())
    }

    /// Integer list of small non-negative numbers, if present.
    pub fn sizes(&self, name: &str) -> Result<Option<Vec<usize>>, ImportError> {
        self.ints(name)
            .map(|v| checked_dims(v).ok_or_else(|| self.malformed(format!("{name} is {v:?}"))))
            .transpose()
    }

    /// Name of input `i`; `None` when absent or empty.
    pub fn input(&self, i: usize) -> Option<&'a str> {
        self.proto
            .input
            .get(i)
            .map(String::as_str)
            .filter(|n| !n.is_empty())
    }

    /// Axis attribute or argument, negative counted from the end of `rank`.
    pub fn axis(&self, axis: i64, rank: usize) -> Result<usize, ImportError> {
        let at = if axis < 0 { axis + rank as i64 } else { axis };
        usize::try_from(at)
            .ok()
            .filter(|a| *a < rank)
            .ok_or_else(|| self.malformed(format!("axis {axis} of {rank} dimensions")))
    }
}

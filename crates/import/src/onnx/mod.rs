//! ONNX files (opset 11 to 21): decoded, checked, lowered to a float [`Net`](crate::net::Net).
//!
//! Threat model: the file comes from a stranger. Sizes are checked before allocation, constants must be finite, external data may not leave the file's
//! folder, operators with bodies are refused, and whatever is not understood is refused with the operator's and the node's name.

mod attributes;
mod fold;
mod lower;
mod proto;
mod tensor;

use std::{collections::BTreeMap, path::Path};

use prost::Message;

use crate::{error::ImportError, net::Net};

pub use tensor::{Constant, Values};

/// Largest file accepted, bytes.
pub const MAX_FILE: u64 = 512 << 20;
/// Most nodes of a file.
pub const MAX_NODES: u64 = 20_000;
/// Opsets of the standard domain that this importer knows.
pub const OPSETS: std::ops::RangeInclusive<i64> = 11..=21;

/// What the file leaves open.
#[derive(Clone, Debug, Default)]
pub struct OnnxOptions {
    /// Dimensions of inputs by name, where the file has symbolic ones. A symbolic first dimension is 1 without being named.
    pub shapes: BTreeMap<String, Vec<usize>>,
    /// Which output; default the first one that is made of real numbers, else the first.
    pub output: Option<String>,
}

/// How a tensor of the graph maps to the one in the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// Name in the file.
    pub name: String,
    /// Dimensions in the file, batch included.
    pub dims: Vec<usize>,
    /// Axes of the file in the order in which the graph stores them; axes not listed have one element.
    pub order: Vec<usize>,
}

impl Place {
    /// For each stored element, its row-major index in the file's tensor.
    pub fn index(&self) -> Vec<usize> {
        lower::flat_index(&self.dims, &self.order)
    }

    /// Values in the file's order, as the graph stores them; missing ones are 0.
    pub fn to_stored(&self, values: &[f32]) -> Vec<f32> {
        self.index()
            .iter()
            .map(|i| values.get(*i).copied().unwrap_or(0.0))
            .collect()
    }
}

/// A lowered file.
#[derive(Clone, Debug)]
pub struct Lowered {
    /// The network.
    pub net: Net,
    /// Its input.
    pub input: Place,
    /// Its output.
    pub output: Place,
}

/// Reads and lowers an ONNX file. `folder` is where external data may lie.
///
/// # Errors
/// [`ImportError::Malformed`], [`ImportError::Limit`], [`ImportError::NotFinite`] for broken or hostile files, [`ImportError::Unsupported`] with operator and node.
pub fn lower(
    bytes: &[u8],
    folder: Option<&Path>,
    options: &OnnxOptions,
) -> Result<Lowered, ImportError> {
    ImportError::check("ONNX file bytes", bytes.len() as u64, MAX_FILE)?;
    let model = proto::ModelProto::decode(bytes)
        .map_err(|e| ImportError::malformed("ONNX file", e.to_string()))?;
    let graph = model
        .graph
        .as_ref()
        .ok_or_else(|| ImportError::malformed("ONNX file", "it has no graph"))?;
    ImportError::check("ONNX nodes", graph.node.len() as u64, MAX_NODES)?;
    ImportError::check("ONNX constants", graph.initializer.len() as u64, MAX_NODES)?;
    let opset = model
        .opset_import
        .iter()
        .find(|o| matches!(o.domain.as_str(), "" | "ai.onnx"))
        .map_or(0, |o| o.version);
    if !OPSETS.contains(&opset) {
        return Err(ImportError::malformed(
            "ONNX file",
            format!(
                "opset {opset}, {} to {} supported",
                OPSETS.start(),
                OPSETS.end()
            ),
        ));
    }
    lower::Lower::new(graph, opset, folder, options)?.finish()
}

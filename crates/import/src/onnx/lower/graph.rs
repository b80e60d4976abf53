//! The file's graph: its inputs, the output asked for, and the nodes that this output needs.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use super::{Lower, Sym, Val, layout};
use crate::{
    error::ImportError,
    net::NetOp,
    onnx::{
        OnnxOptions, Place,
        proto::{GraphProto, NodeProto, ValueInfoProto},
        tensor::{Constant, MAX_RANK, checked_dims, count},
    },
};

impl Lower<'_> {
    pub(super) fn inputs(&mut self) -> Result<(), ImportError> {
        let graph = self.graph;
        for info in graph
            .input
            .iter()
            .filter(|i| !graph.initializer.iter().any(|t| t.name == i.name))
        {
            let (dims, element) = self.input_dims(info)?;
            let lower = info.name.to_ascii_lowercase();
            // encoders take these beside the ids; one sentence without padding has all ones and all zeros
            let fixed = if lower.contains("attention_mask") {
                Some(1)
            } else if lower.contains("token_type") || lower.contains("segment") {
                Some(0)
            } else {
                None
            };
            if let Some(v) = fixed {
                ImportError::check("input elements", count(&dims), 1 << 20)?;
                let values = vec![v; count(&dims) as usize];
                self.env.insert(
                    info.name.clone(),
                    Sym::Const(Arc::new(Constant::ints(dims, values))),
                );
                continue;
            }
            if let Some(first) = &self.input {
                return Err(ImportError::malformed(
                    "ONNX file",
                    format!(
                        "inputs `{}` and `{}`: one input is supported",
                        first.name, info.name
                    ),
                ));
            }
            let order = if image_input(graph, &info.name) && dims.len() == 4 {
                vec![2, 3, 1]
            } else {
                layout::plain(&dims)
            };
            self.net.ids = matches!(element, 6 | 7);
            let node = self.push(
                &info.name,
                NetOp::Input,
                vec![],
                order.iter().filter_map(|a| dims.get(*a).copied()).collect(),
            )?;
            self.input = Some(Place {
                name: info.name.clone(),
                dims: dims.clone(),
                order: order.clone(),
            });
            self.env.insert(
                info.name.clone(),
                Sym::Val(Val {
                    node,
                    dims,
                    order,
                    exclusive: false,
                    flat_of: None,
                }),
            );
        }
        Ok(())
    }

    fn input_dims(&self, info: &ValueInfoProto) -> Result<(Vec<usize>, i32), ImportError> {
        let what = format!("input `{}`", info.name);
        let tensor = info
            .r#type
            .as_ref()
            .and_then(|t| t.tensor_type.as_ref())
            .ok_or_else(|| ImportError::malformed(&what, "it is not a tensor"))?;
        if !matches!(tensor.elem_type, 1 | 6 | 7 | 10 | 11) {
            return Err(ImportError::malformed(
                &what,
                format!("element type {} is not supported", tensor.elem_type),
            ));
        }
        let given = self.options.shapes.get(&info.name);
        let declared = tensor.shape.as_ref().map(|s| s.dim.as_slice());
        let mut dims = Vec::new();
        match (given, declared) {
            (Some(g), None) => dims.clone_from(g),
            (_, Some(declared)) => {
                ImportError::check(
                    &format!("{what}: dimensions"),
                    declared.len() as u64,
                    MAX_RANK as u64,
                )?;
                for (i, d) in declared.iter().enumerate() {
                    let fixed = d.dim_value.filter(|v| *v > 0);
                    let named = given.and_then(|g| g.get(i)).map(|v| *v as i64);
                    let value = named.or(fixed).or((i == 0).then_some(1));
                    let value = value.ok_or_else(|| {
                        let name = d.dim_param.clone().unwrap_or_default();
                        ImportError::malformed(
                            &what,
                            format!("dimension {i} (`{name}`) is not fixed; give its shape"),
                        )
                    })?;
                    dims.extend(checked_dims(&[value]).ok_or_else(|| {
                        ImportError::malformed(&what, format!("dimension {value}"))
                    })?);
                }
            }
            (None, None) => return Err(ImportError::malformed(&what, "it has no shape; give one")),
        }
        ImportError::check(&format!("{what}: elements"), count(&dims), 1 << 24)?;
        if dims.contains(&0) {
            return Err(ImportError::malformed(
                &what,
                format!("dimensions {dims:?}"),
            ));
        }
        Ok((dims, tensor.elem_type))
    }
}

pub(super) fn pick_output(
    graph: &GraphProto,
    options: &OnnxOptions,
) -> Result<String, ImportError> {
    let real = |o: &&ValueInfoProto| {
        o.r#type
            .as_ref()
            .and_then(|t| t.tensor_type.as_ref())
            .is_some_and(|t| t.elem_type == 1)
    };
    let chosen = match &options.output {
        Some(name) => graph
            .output
            .iter()
            .find(|o| o.name == *name)
            .ok_or_else(|| ImportError::Missing {
                what: "output",
                name: name.clone(),
            })?,
        None => graph
            .output
            .iter()
            .find(real)
            .or(graph.output.first())
            .ok_or_else(|| ImportError::malformed("ONNX file", "it has no output"))?,
    };
    Ok(chosen.name.clone())
}

/// Whether the input goes straight into an image operator.
fn image_input(graph: &GraphProto, input: &str) -> bool {
    let image = [
        "Conv",
        "MaxPool",
        "AveragePool",
        "GlobalAveragePool",
        "BatchNormalization",
        "Pad",
    ];
    let mut name = input;
    for _ in 0..8 {
        let Some(reader) = graph
            .node
            .iter()
            .find(|n| n.input.first().is_some_and(|i| i == name))
        else {
            return false;
        };
        if image.contains(&reader.op_type.as_str()) {
            return true;
        }
        if !["Identity", "Cast", "Sub", "Div", "Mul", "Add"].contains(&reader.op_type.as_str()) {
            return false;
        }
        name = reader.output.first().map_or("", String::as_str);
    }
    false
}

/// The nodes that the output needs, producers before readers (order of the file), without recursion.
pub(super) fn needed<'a>(
    graph: &'a GraphProto,
    output: &str,
) -> Result<Vec<&'a NodeProto>, ImportError> {
    let mut producer = BTreeMap::new();
    for (i, node) in graph.node.iter().enumerate() {
        for out in node.output.iter().filter(|o| !o.is_empty()) {
            if producer.insert(out.as_str(), i).is_some() {
                return Err(ImportError::malformed(
                    "ONNX file",
                    format!("`{out}` has two producers"),
                ));
            }
        }
    }
    let mut keep = BTreeSet::new();
    let mut stack: Vec<&str> = vec![output];
    while let Some(name) = stack.pop() {
        if let Some(i) = producer.get(name)
            && keep.insert(*i)
        {
            stack.extend(
                graph
                    .node
                    .get(*i)
                    .into_iter()
                    .flat_map(|n| n.input.iter().map(String::as_str)),
            );
        }
    }
    // files list nodes in topological order; one that does not may be sorted, a cycle can't be
    let mut done: BTreeSet<usize> = BTreeSet::new();
    let mut out = Vec::with_capacity(keep.len());
    let mut pending: Vec<usize> = keep.into_iter().collect();
    while !pending.is_empty() {
        let before = pending.len();
        pending.retain(|i| {
            let Some(node) = graph.node.get(*i) else {
                return false;
            };
            let ready = node
                .input
                .iter()
                .all(|n| producer.get(n.as_str()).is_none_or(|p| done.contains(p)));
            if ready {
                done.insert(*i);
                out.push(node);
            }
            !ready
        });
        if pending.len() == before {
            let name = pending
                .first()
                .and_then(|i| graph.node.get(*i))
                .map_or("", |n| n.op_type.as_str());
            return Err(ImportError::malformed(
                "ONNX file",
                format!("{before} nodes form a cycle, one of them {name}"),
            ));
        }
    }
    Ok(out)
}

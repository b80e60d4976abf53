//! From ONNX nodes to a float network.
//!
//! Values are symbolic until an operator needs them: a transpose is a note about the order of axes, a chain of element-wise operators is one function of one
//! variable, the pieces of a spelled-out layer normalisation wait for the division that completes it.

mod arithmetic;
mod layout;
mod matrix;
mod nodes;
mod reduce;
mod window;

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
    sync::Arc,
};

pub(super) use matrix::flat_index;

use super::{
    Lowered, OnnxOptions, Place,
    attributes::NodeView,
    fold,
    proto::{GraphProto, NodeProto, ValueInfoProto},
    tensor::{Constant, MAX_RANK, checked_dims, count},
};
use crate::{
    error::ImportError,
    net::{Expr, MAX_NODES, Net, NetNode, NetOp},
};

/// Most elements of all folded constants together.
const MAX_FOLDED_TOTAL: u64 = 1 << 26;

/// A tensor of the network and how the file sees it.
#[derive(Clone, Debug)]
pub(super) struct Val {
    /// Node of the network.
    pub(super) node: usize,
    /// Dimensions in the file.
    pub(super) dims: Vec<usize>,
    /// File axes in stored order; the node's dimensions are `dims` at these.
    pub(super) order: Vec<usize>,
    /// Nobody else reads the node: constants may move into its weights.
    pub(super) exclusive: bool,
    /// Flattened from this value, whose order is not the file's; the node is still the unflattened one.
    pub(super) flat_of: Option<Box<Val>>,
}

/// Pieces of a spelled-out layer normalisation over the last axis of `base`.
#[derive(Clone, Debug)]
pub(super) enum NormPart {
    Mean,
    Centred,
    Square,
    Variance,
    Shifted(f64),
    Deviation(f64),
    Inverse(f64),
    /// Minus the mean.
    Opposite,
    /// 1 / deviation, times a gain.
    Gained(f64, Arc<Vec<f32>>),
    /// The tensor times [`Gained`](Self::Gained).
    Scaled(f64, Arc<Vec<f32>>),
    /// A bias minus the mean times [`Gained`](Self::Gained).
    Offset(f64, Arc<Vec<f32>>, Arc<Vec<f32>>),
}

/// What a name of the file stands for.
#[derive(Clone, Debug)]
pub(super) enum Sym {
    Const(Arc<Constant>),
    Val(Val),
    Expr(Val, Expr),
    Norm(Val, NormPart),
    /// Zero padding (top, left, bottom, right) that the next convolution takes over.
    Padded(Val, [usize; 4]),
}

pub(super) struct Lower<'a> {
    graph: &'a GraphProto,
    options: &'a OnnxOptions,
    pub(super) opset: i64,
    pub(super) net: Net,
    env: BTreeMap<String, Sym>,
    uses: BTreeMap<String, usize>,
    folded: u64,
    input: Option<Place>,
    output: String,
}

impl<'a> Lower<'a> {
    pub(super) fn new(graph: &'a GraphProto, opset: i64, folder: Option<&Path>, options: &'a OnnxOptions) -> Result<Self, ImportError> {
        let mut env = BTreeMap::new();
        for t in &graph.initializer {
            env.insert(t.name.clone(), Sym::Const(Arc::new(Constant::decode(t, folder)?)));
        }
        let output = pick_output(graph, options)?;
        let mut lower = Self { graph, options, opset, net: Net::default(), env, uses: BTreeMap::new(), folded: 0, input: None, output };
        lower.inputs()?;
        Ok(lower)
    }

    pub(super) fn finish(mut self) -> Result<Lowered, ImportError> {
        let nodes = needed(self.graph, &self.output)?;
        for node in &nodes {
            for input in &node.input {
                *self.uses.entry(input.clone()).or_default() += 1;
            }
        }
        *self.uses.entry(self.output.clone()).or_default() += 1;
        for node in nodes {
            self.node(&NodeView { proto: node })?;
        }
        let output = self.output.clone();
        let value = self.val(&output, &NodeView { proto: &NodeProto { name: output.clone(), op_type: "output".into(), ..Default::default() } })?;
        let value = self.drop_ones(&value)?;
        let last = value.node;
        // the output must be the last node
        self.net.nodes.truncate(last + 1);
        let place = Place { name: output, dims: value.dims, order: value.order };
        let input = self.input.ok_or_else(|| ImportError::malformed("ONNX file", "it has no input"))?;
        self.net.simplify();
        if self.net.nodes.len() < 2 {
            return Err(ImportError::malformed("ONNX file", "the output does not depend on the input"));
        }
        Ok(Lowered { net: self.net, input, output: place })
    }

    fn inputs(&mut self) -> Result<(), ImportError> {
        let graph = self.graph;
        for info in graph.input.iter().filter(|i| !graph.initializer.iter().any(|t| t.name == i.name)) {
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
                self.env.insert(info.name.clone(), Sym::Const(Arc::new(Constant::ints(dims, values))));
                continue;
            }
            if let Some(first) = &self.input {
                return Err(ImportError::malformed("ONNX file", format!("inputs `{}` and `{}`: one input is supported", first.name, info.name)));
            }
            let order = if image_input(graph, &info.name) && dims.len() == 4 { vec![2, 3, 1] } else { layout::plain(&dims) };
            self.net.ids = matches!(element, 6 | 7);
            let node = self.push(&info.name, NetOp::Input, vec![], order.iter().filter_map(|a| dims.get(*a).copied()).collect())?;
            self.input = Some(Place { name: info.name.clone(), dims: dims.clone(), order: order.clone() });
            self.env.insert(info.name.clone(), Sym::Val(Val { node, dims, order, exclusive: false, flat_of: None }));
        }
        Ok(())
    }

    fn input_dims(&self, info: &ValueInfoProto) -> Result<(Vec<usize>, i32), ImportError> {
        let what = format!("input `{}`", info.name);
        let tensor = info.r#type.as_ref().and_then(|t| t.tensor_type.as_ref()).ok_or_else(|| ImportError::malformed(&what, "it is not a tensor"))?;
        if !matches!(tensor.elem_type, 1 | 6 | 7 | 10 | 11) {
            return Err(ImportError::malformed(&what, format!("element type {} is not supported", tensor.elem_type)));
        }
        let given = self.options.shapes.get(&info.name);
        let declared = tensor.shape.as_ref().map(|s| s.dim.as_slice());
        let mut dims = Vec::new();
        match (given, declared) {
            (Some(g), None) => dims.clone_from(g),
            (_, Some(declared)) => {
                ImportError::check(&format!("{what}: dimensions"), declared.len() as u64, MAX_RANK as u64)?;
                for (i, d) in declared.iter().enumerate() {
                    let fixed = d.dim_value.filter(|v| *v > 0);
                    let named = given.and_then(|g| g.get(i)).map(|v| *v as i64);
                    let value = named.or(fixed).or((i == 0).then_some(1));
                    let value = value.ok_or_else(|| {
                        let name = d.dim_param.clone().unwrap_or_default();
                        ImportError::malformed(&what, format!("dimension {i} (`{name}`) is not fixed; give its shape"))
                    })?;
                    dims.extend(checked_dims(&[value]).ok_or_else(|| ImportError::malformed(&what, format!("dimension {value}")))?);
                }
            }
            (None, None) => return Err(ImportError::malformed(&what, "it has no shape; give one")),
        }
        ImportError::check(&format!("{what}: elements"), count(&dims), 1 << 24)?;
        if dims.contains(&0) {
            return Err(ImportError::malformed(&what, format!("dimensions {dims:?}")));
        }
        Ok((dims, tensor.elem_type))
    }

    /// Appends a node to the network.
    pub(super) fn push(&mut self, name: &str, op: NetOp, inputs: Vec<usize>, dims: Vec<usize>) -> Result<usize, ImportError> {
        ImportError::check("network nodes", self.net.nodes.len() as u64, MAX_NODES as u64)?;
        ImportError::check(&format!("elements of `{name}`"), count(&dims), 1 << 26)?;
        self.net.nodes.push(NetNode { name: name.to_owned(), op, inputs, dims });
        Ok(self.net.nodes.len() - 1)
    }

    /// Appends a node whose output is stored in `order` of file dimensions `dims`.
    pub(super) fn make(&mut self, node: &NodeView<'_>, op: NetOp, inputs: Vec<usize>, dims: Vec<usize>, order: Vec<usize>) -> Result<Val, ImportError> {
        let stored = order.iter().map(|a| dims.get(*a).copied().unwrap_or(1)).collect();
        let id = self.push(node.name(), op, inputs, stored)?;
        Ok(Val { node: id, dims, order, exclusive: self.single(node), flat_of: None })
    }

    /// Whether the first output of a node has one reader.
    pub(super) fn single(&self, node: &NodeView<'_>) -> bool {
        node.proto.output.first().and_then(|o| self.uses.get(o)) == Some(&1)
    }

    pub(super) fn set(&mut self, node: &NodeView<'_>, output: usize, sym: Sym) {
        if let Some(name) = node.proto.output.get(output).filter(|n| !n.is_empty()) {
            self.env.insert(name.clone(), sym);
        }
    }

    /// What an input of a node stands for.
    pub(super) fn sym(&self, node: &NodeView<'_>, i: usize) -> Result<Sym, ImportError> {
        let name = node.input(i).ok_or_else(|| node.malformed(format!("input {i} is missing")))?;
        self.env.get(name).cloned().ok_or_else(|| ImportError::Missing { what: "tensor", name: name.to_owned() })
    }

    pub(super) fn constant(&self, node: &NodeView<'_>, i: usize) -> Option<Arc<Constant>> {
        match node.input(i).and_then(|n| self.env.get(n)) {
            Some(Sym::Const(c)) => Some(c.clone()),
            _ => None,
        }
    }

    /// A constant of real, finite numbers.
    pub(super) fn weights(&self, node: &NodeView<'_>, i: usize) -> Result<Arc<Constant>, ImportError> {
        let c = self.constant(node, i).ok_or_else(|| node.unsupported(format!("input {i} is not constant")))?;
        finite(node, &c)?;
        Ok(c)
    }

    /// An input of a node as a tensor of the network.
    pub(super) fn operand(&mut self, node: &NodeView<'_>, i: usize) -> Result<Val, ImportError> {
        let name = node.input(i).ok_or_else(|| node.malformed(format!("input {i} is missing")))?;
        self.val(name, node)
    }

    fn val(&mut self, name: &str, node: &NodeView<'_>) -> Result<Val, ImportError> {
        let sym = self.env.get(name).cloned().ok_or_else(|| ImportError::Missing { what: "tensor", name: name.to_owned() })?;
        let val = match sym {
            Sym::Val(v) => return Ok(v),
            Sym::Const(_) => return Err(node.unsupported(format!("`{name}` is constant where a computed tensor is needed"))),
            Sym::Expr(base, f) => self.materialise(name, &base, &f)?,
            Sym::Norm(base, NormPart::Mean) => self.mean_of(name, &base)?,
            Sym::Norm(..) => return Err(node.unsupported(format!("`{name}` is part of an unfinished normalisation"))),
            Sym::Padded(..) => return Err(node.unsupported(format!("`{name}` is padded; only a convolution can take padding over"))),
        };
        let single = self.uses.get(name) == Some(&1);
        let val = Val { exclusive: single, ..val };
        self.env.insert(name.to_owned(), Sym::Val(val.clone()));
        Ok(val)
    }

    fn node(&mut self, node: &NodeView<'_>) -> Result<(), ImportError> {
        if let Some(c) = node.tensor("value").filter(|_| node.op() == "Constant") {
            let c = Constant::decode(c, None)?;
            self.set(node, 0, Sym::Const(Arc::new(c)));
            return Ok(());
        }
        if let Some(constants) = self.foldable(node) {
            let borrowed: Vec<Option<&Constant>> = constants.iter().map(|c| c.as_deref()).collect();
            if let Some(outputs) = fold::fold(node, &borrowed)? {
                for (i, c) in outputs.into_iter().enumerate() {
                    self.folded = self.folded.saturating_add(c.len() as u64);
                    ImportError::check("elements of computed constants", self.folded, MAX_FOLDED_TOTAL)?;
                    self.set(node, i, Sym::Const(Arc::new(c)));
                }
                return Ok(());
            }
        }
        self.operator(node)
    }

    /// The inputs of a node, when all that are given are constant and there is at least one.
    fn foldable(&self, node: &NodeView<'_>) -> Option<Vec<Option<Arc<Constant>>>> {
        let mut out = Vec::new();
        for i in 0..node.proto.input.len() {
            out.push(match node.input(i) {
                None => None,
                Some(_) => Some(self.constant(node, i)?),
            });
        }
        out.iter().any(Option::is_some).then_some(out)
    }
}

/// Refuses constants with NaN or infinity (folding can make them).
pub(super) fn finite(node: &NodeView<'_>, c: &Constant) -> Result<(), ImportError> {
    match c.to_f32().iter().position(|v| !v.is_finite()) {
        Some(index) => Err(ImportError::NotFinite { tensor: format!("a constant of node {}", node.name()), index }),
        None => Ok(()),
    }
}

fn pick_output(graph: &GraphProto, options: &OnnxOptions) -> Result<String, ImportError> {
    let real = |o: &&ValueInfoProto| o.r#type.as_ref().and_then(|t| t.tensor_type.as_ref()).is_some_and(|t| t.elem_type == 1);
    let chosen = match &options.output {
        Some(name) => graph.output.iter().find(|o| o.name == *name).ok_or_else(|| ImportError::Missing { what: "output", name: name.clone() })?,
        None => graph.output.iter().find(real).or(graph.output.first()).ok_or_else(|| ImportError::malformed("ONNX file", "it has no output"))?,
    };
    Ok(chosen.name.clone())
}

/// Whether the input goes straight into an image operator.
fn image_input(graph: &GraphProto, input: &str) -> bool {
    let image = ["Conv", "MaxPool", "AveragePool", "GlobalAveragePool", "BatchNormalization", "Pad"];
    let mut name = input;
    for _ in 0..8 {
        let Some(reader) = graph.node.iter().find(|n| n.input.first().is_some_and(|i| i == name)) else { return false };
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
fn needed<'a>(graph: &'a GraphProto, output: &str) -> Result<Vec<&'a NodeProto>, ImportError> {
    let mut producer = BTreeMap::new();
    for (i, node) in graph.node.iter().enumerate() {
        for out in node.output.iter().filter(|o| !o.is_empty()) {
            if producer.insert(out.as_str(), i).is_some() {
                return Err(ImportError::malformed("ONNX file", format!("`{out}` has two producers")));
            }
        }
    }
    let mut keep = BTreeSet::new();
    let mut stack: Vec<&str> = vec![output];
    while let Some(name) = stack.pop() {
        if let Some(i) = producer.get(name)
            && keep.insert(*i)
        {
            stack.extend(graph.node.get(*i).into_iter().flat_map(|n| n.input.iter().map(String::as_str)));
        }
    }
    // files list nodes in topological order; one that does not may be sorted, a cycle can't be
    let mut done: BTreeSet<usize> = BTreeSet::new();
    let mut out = Vec::with_capacity(keep.len());
    let mut pending: Vec<usize> = keep.into_iter().collect();
    while !pending.is_empty() {
        let before = pending.len();
        pending.retain(|i| {
            let Some(node) = graph.node.get(*i) else { return false };
            let ready = node.input.iter().all(|n| producer.get(n.as_str()).is_none_or(|p| done.contains(p)));
            if ready {
                done.insert(*i);
                out.push(node);
            }
            !ready
        });
        if pending.len() == before {
            let name = pending.first().and_then(|i| graph.node.get(*i)).map_or("", |n| n.op_type.as_str());
            return Err(ImportError::malformed("ONNX file", format!("{before} nodes form a cycle, one of them {name}")));
        }
    }
    Ok(out)
}

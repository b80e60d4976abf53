//! From ONNX nodes to a float network.
//!
//! Values are symbolic until an operator needs them: a transpose is a note about the order of axes, a chain of element-wise operators is one function of one
//! variable, the pieces of a spelled-out layer normalisation wait for the division that completes it.

mod arithmetic;
mod graph;
mod layout;
mod matrix;
mod nodes;
mod norm;
mod reduce;
mod window;

use std::{collections::BTreeMap, path::Path, sync::Arc};

pub(super) use matrix::flat_index;

use super::{
    Lowered, OnnxOptions, Place,
    attributes::NodeView,
    fold,
    proto::{GraphProto, NodeProto},
    tensor::{Constant, count},
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
    pub(super) fn new(
        graph: &'a GraphProto,
        opset: i64,
        folder: Option<&Path>,
        options: &'a OnnxOptions,
    ) -> Result<Self, ImportError> {
        let mut env = BTreeMap::new();
        for t in &graph.initializer {
            env.insert(
                t.name.clone(),
                Sym::Const(Arc::new(Constant::decode(t, folder)?)),
            );
        }
        let output = graph::pick_output(graph, options)?;
        let mut lower = Self {
            graph,
            options,
            opset,
            net: Net::default(),
            env,
            uses: BTreeMap::new(),
            folded: 0,
            input: None,
            output,
        };
        lower.inputs()?;
        Ok(lower)
    }

    pub(super) fn finish(mut self) -> Result<Lowered, ImportError> {
        let nodes = graph::needed(self.graph, &self.output)?;
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
        let value = self.val(
            &output,
            &NodeView {
                proto: &NodeProto {
                    name: output.clone(),
                    op_type: "output".into(),
                    ..Default::default()
                },
            },
        )?;
        let value = self.drop_ones(&value)?;
        let last = value.node;
        // the output must be the last node
        self.net.nodes.truncate(last + 1);
        let place = Place {
            name: output,
            dims: value.dims,
            order: value.order,
        };
        let input = self
            .input
            .ok_or_else(|| ImportError::malformed("ONNX file", "it has no input"))?;
        self.net.simplify();
        if self.net.nodes.len() < 2 {
            return Err(ImportError::malformed(
                "ONNX file",
                "the output does not depend on the input",
            ));
        }
        Ok(Lowered {
            net: self.net,
            input,
            output: place,
        })
    }

    /// Appends a node to the network.
    pub(super) fn push(
        &mut self,
        name: &str,
        op: NetOp,
        inputs: Vec<usize>,
        dims: Vec<usize>,
    ) -> Result<usize, ImportError> {
        ImportError::check(
            "network nodes",
            self.net.nodes.len() as u64,
            MAX_NODES as u64,
        )?;
        ImportError::check(&format!("elements of `{name}`"), count(&dims), 1 << 26)?;
        self.net.nodes.push(NetNode {
            name: name.to_owned(),
            op,
            inputs,
            dims,
        });
        Ok(self.net.nodes.len() - 1)
    }

    /// Appends a node whose output is stored in `order` of file dimensions `dims`.
    pub(super) fn make(
        &mut self,
        node: &NodeView<'_>,
        op: NetOp,
        inputs: Vec<usize>,
        dims: Vec<usize>,
        order: Vec<usize>,
    ) -> Result<Val, ImportError> {
        let stored = order
            .iter()
            .map(|a| dims.get(*a).copied().unwrap_or(1))
            .collect();
        let id = self.push(node.name(), op, inputs, stored)?;
        Ok(Val {
            node: id,
            dims,
            order,
            exclusive: self.single(node),
            flat_of: None,
        })
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
        let name = node
            .input(i)
            .ok_or_else(|| node.malformed(format!("input {i} is missing")))?;
        self.env
            .get(name)
            .cloned()
            .ok_or_else(|| ImportError::Missing {
                what: "tensor",
                name: name.to_owned(),
            })
    }

    pub(super) fn constant(&self, node: &NodeView<'_>, i: usize) -> Option<Arc<Constant>> {
        match node.input(i).and_then(|n| self.env.get(n)) {
            Some(Sym::Const(c)) => Some(c.clone()),
            _ => None,
        }
    }

    /// A constant of real, finite numbers.
    pub(super) fn weights(
        &self,
        node: &NodeView<'_>,
        i: usize,
    ) -> Result<Arc<Constant>, ImportError> {
        let c = self
            .constant(node, i)
            .ok_or_else(|| node.unsupported(format!("input {i} is not constant")))?;
        finite(node, &c)?;
        Ok(c)
    }

    /// An input of a node as a tensor of the network.
    pub(super) fn operand(&mut self, node: &NodeView<'_>, i: usize) -> Result<Val, ImportError> {
        let name = node
            .input(i)
            .ok_or_else(|| node.malformed(format!("input {i} is missing")))?;
        self.val(name, node)
    }

    fn val(&mut self, name: &str, node: &NodeView<'_>) -> Result<Val, ImportError> {
        let sym = self
            .env
            .get(name)
            .cloned()
            .ok_or_else(|| ImportError::Missing {
                what: "tensor",
                name: name.to_owned(),
            })?;
        let val = match sym {
            Sym::Val(v) => return Ok(v),
            Sym::Const(_) => {
                return Err(node.unsupported(format!(
                    "`{name}` is constant where a computed tensor is needed"
                )));
            }
            Sym::Expr(base, f) => self.materialise(name, &base, &f)?,
            Sym::Norm(base, NormPart::Mean) => self.mean_of(name, &base)?,
            Sym::Norm(..) => {
                return Err(
                    node.unsupported(format!("`{name}` is part of an unfinished normalisation"))
                );
            }
            Sym::Padded(..) => {
                return Err(node.unsupported(format!(
                    "`{name}` is padded; only a convolution can take padding over"
                )));
            }
        };
        let single = self.uses.get(name) == Some(&1);
        let val = Val {
            exclusive: single,
            ..val
        };
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
                    ImportError::check(
                        "elements of computed constants",
                        self.folded,
                        MAX_FOLDED_TOTAL,
                    )?;
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
        Some(index) => Err(ImportError::NotFinite {
            tensor: format!("a constant of node {}", node.name()),
            index,
        }),
        None => Ok(()),
    }
}

//! A float network in the layout of the integer graph: no batch, images `[h, w, c]`, reductions over the last axis.
//!
//! ONNX files are lowered to this; [`eval`](Net::eval) is the float reference; [`quantise`](crate::quantise) turns it into an integer graph.

mod eval;
mod expr;
mod simplify;

use assay_graph::Window;

pub(crate) use eval::{arg_max, transpose};
pub use expr::{Binary, Expr, Unary};

/// Most nodes of a network.
pub const MAX_NODES: usize = 20_000;

/// One operator on float tensors.
#[derive(Clone, Debug)]
pub enum NetOp {
    /// The run's input; node 0.
    Input,
    /// `[…, k] → […, n]`.
    Linear {
        /// `[n, k]`.
        weight: Vec<f32>,
        /// `[n]`.
        bias: Vec<f32>,
        /// k.
        cols: usize,
    },
    /// `[h, w, c] → [oh, ow, n]`.
    Conv {
        /// `[n][kh][kw][c / groups]`.
        weight: Vec<f32>,
        /// `[n]`.
        bias: Vec<f32>,
        /// Kernel, stride, padding with zeros.
        window: Window,
        /// Divides both channel counts.
        groups: usize,
    },
    /// `x · scale + bias` per channel of the last axis.
    Channel {
        /// `[c]`.
        scale: Vec<f32>,
        /// `[c]`.
        bias: Vec<f32>,
    },
    /// `[…, m, k] × […, n, k] → […, m, n]`.
    MatMul,
    /// Sum of two equal shapes.
    Add,
    /// `[…, r, c]` plus constant rows `[r, c]`.
    AddRows {
        /// `[r, c]`, row-major.
        rows: Vec<f32>,
    },
    /// A function of one variable.
    Map(Expr),
    /// Limits values to an interval (ReLU: 0 to infinity).
    Clamp {
        /// Lower end.
        lo: f64,
        /// Upper end.
        hi: f64,
    },
    /// Multiplies by a positive number; changes only how integers are read.
    Scale(f64),
    /// Layer normalisation over the last axis.
    LayerNorm {
        /// `[n]`.
        gain: Vec<f32>,
        /// `[n]`.
        bias: Vec<f32>,
        /// Added to the variance.
        eps: f64,
    },
    /// Softmax over the last axis.
    Softmax,
    /// Maximum over a window.
    MaxPool(Window),
    /// Mean over the cells of a window inside the image.
    AvgPool(Window),
    /// Sum over the last axis, which disappears.
    ReduceSum,
    /// Index of the maximum over the last axis, which disappears.
    ArgMax,
    /// Rows by id: `[…] → […, d]`.
    Embedding {
        /// `[vocabulary, d]`.
        rows: Vec<f32>,
        /// d.
        width: usize,
    },
    /// Output axis i is input axis `perm[i]`.
    Transpose(Vec<usize>),
    /// The same elements under the node's dimensions.
    Reshape,
    /// `len` (from the node's dimensions) indices from `start` along `axis`.
    Slice {
        /// Axis.
        axis: usize,
        /// First index.
        start: usize,
    },
    /// Inputs one after another along an axis.
    Concat(usize),
}

/// A node: operator, producers, output dimensions.
#[derive(Clone, Debug)]
pub struct NetNode {
    /// Name in the source file.
    pub name: String,
    /// Operator.
    pub op: NetOp,
    /// Producers, of smaller index.
    pub inputs: Vec<usize>,
    /// Output dimensions.
    pub dims: Vec<usize>,
}

/// A float network with one input and one output (the last node).
#[derive(Clone, Debug, Default)]
pub struct Net {
    /// Nodes in topological order; node 0 is the input.
    pub nodes: Vec<NetNode>,
    /// Whether the input is token ids (non-negative integers) and not real numbers.
    pub ids: bool,
}

impl NetOp {
    /// Operators that move or repeat values without computing new ones: their output reads at the scale of their input.
    pub const fn passes_values(&self) -> bool {
        matches!(
            self,
            Self::MaxPool(_)
                | Self::AvgPool(_)
                | Self::Transpose(_)
                | Self::Reshape
                | Self::Slice { .. }
                | Self::Clamp { .. }
        )
    }
}

impl Net {
    /// Number of consumers of each node; the output counts as one.
    pub fn uses(&self) -> Vec<usize> {
        let mut uses = vec![0; self.nodes.len()];
        for node in &self.nodes {
            for i in &node.inputs {
                if let Some(u) = uses.get_mut(*i) {
                    *u += 1;
                }
            }
        }
        if let Some(last) = uses.last_mut() {
            *last += 1;
        }
        uses
    }

    /// Indices of the consumers of each node.
    pub fn consumers(&self) -> Vec<Vec<usize>> {
        let mut out = vec![Vec::new(); self.nodes.len()];
        for (n, node) in self.nodes.iter().enumerate() {
            for i in &node.inputs {
                if let Some(list) = out.get_mut(*i) {
                    list.push(n);
                }
            }
        }
        out
    }

    /// Dimensions of the input.
    pub fn input_dims(&self) -> &[usize] {
        self.nodes.first().map_or(&[], |n| &n.dims)
    }

    /// Dimensions of the output.
    pub fn output_dims(&self) -> &[usize] {
        self.nodes.last().map_or(&[], |n| &n.dims)
    }

    /// Multiply-adds of one run.
    pub fn macs(&self) -> u64 {
        let len = |dims: &[usize]| dims.iter().map(|d| *d as u64).product::<u64>();
        self.nodes
            .iter()
            .map(|n| match &n.op {
                NetOp::Linear { cols, .. } => len(&n.dims) * *cols as u64,
                NetOp::Conv { weight, bias, .. } => {
                    len(&n.dims) * (weight.len() / bias.len().max(1)) as u64
                }
                NetOp::MatMul => {
                    let k = n
                        .inputs
                        .first()
                        .and_then(|i| self.nodes.get(*i))
                        .and_then(|a| a.dims.last())
                        .copied()
                        .unwrap_or(0);
                    len(&n.dims) * k as u64
                }
                _ => 0,
            })
            .sum()
    }
}

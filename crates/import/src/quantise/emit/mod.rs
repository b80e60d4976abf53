//! Writes the integer graph of a network, node by node.

mod convert;
mod operators;
mod sums;
mod widths;

use assay_graph::{DType, Dim, Graph, GraphBuilder, Header, NodeId, Op, Requant};

use super::{End, NetRanges, Profile};
use crate::{
    error::ImportError,
    fixed::{bits_for, pow2, round_i32},
    net::{Net, NetNode, NetOp},
};

/// Room above calibrated maxima of `i16` tensors.
const MARGIN: f64 = 1.5;
const PROBABILITY_BITS: u8 = 14;

/// Where a network node lives in the graph, and how it reads.
#[derive(Clone, Copy, Debug)]
struct Placed {
    id: NodeId,
    dtype: DType,
    step: f64,
}

pub(super) struct Emitter<'a> {
    net: &'a Net,
    ranges: &'a NetRanges,
    input_range: (f64, f64),
    limits: Vec<f64>,
    /// Element type and largest magnitude of weights.
    weights: (DType, f64),
    b: GraphBuilder,
    placed: Vec<Placed>,
    /// Element type of each producing node.
    dtypes: Vec<DType>,
    /// Whether only linear layers and tables read the node, so that its step may be any number.
    free: Vec<bool>,
    /// Clamp that the only reader applies.
    fused: Vec<Option<(f64, f64)>>,
    /// Node at work.
    now: usize,
}

impl<'a> Emitter<'a> {
    pub(super) fn new(
        net: &'a Net,
        ranges: &'a NetRanges,
        input_range: (f64, f64),
        profile: Profile,
        limits: &[f64],
        block_bits: u8,
    ) -> Self {
        let (dtypes, free) = widths::widths(net, profile);
        let b = GraphBuilder::new(Header {
            max_seq: 1,
            block_bits,
        });
        Self {
            net,
            ranges,
            input_range,
            limits: limits.to_vec(),
            weights: profile.weights(),
            b,
            placed: Vec::new(),
            dtypes,
            free,
            fused: widths::fused_clamps(net),
            now: 0,
        }
    }

    /// Pushes all nodes; returns how the ends read.
    pub(super) fn build(&mut self) -> Result<(End, End), ImportError> {
        let net = self.net;
        for (i, node) in net.nodes.iter().enumerate() {
            self.now = i;
            let placed = self.node(i, node)?;
            self.placed.push(placed);
        }
        let (Some(first), Some(last)) = (self.placed.first().copied(), self.placed.last().copied())
        else {
            return Err(ImportError::malformed("network", "it is empty"));
        };
        // a scale or a reshape at the end leaves another node last in the graph; both ends must be what the header says
        let type_of = |p: Placed| self.b.type_of(p.id).map(|t| (t.lo, t.hi)).unwrap_or((0, 0));
        let ((lo, hi), (out_lo, out_hi)) = (type_of(first), type_of(last));
        Ok((
            End {
                step: first.step,
                lo,
                hi,
            },
            End {
                step: last.step,
                lo: out_lo,
                hi: out_hi,
            },
        ))
    }

    pub(super) fn finish(self) -> Result<(Graph, Vec<String>), ImportError> {
        let names = self.b.names().to_vec();
        Ok((self.b.finish()?, names))
    }

    /// Lowers the clamps of the nodes that feed the one whose bound broke by the factor that it broke by. False when none can go lower.
    pub(super) fn lower(&self, limits: &mut [f64], factor: f64) -> bool {
        let factor = (factor * 0.98).clamp(0.25, 0.98);
        let mut any = false;
        let inputs = self
            .net
            .nodes
            .get(self.now)
            .map(|n| n.inputs.clone())
            .unwrap_or_default();
        for mut i in inputs {
            while let Some(node) = self.net.nodes.get(i) {
                let passes = node.op.passes_values() || matches!(node.op, NetOp::Scale(_));
                let Some(next) = node.inputs.first().filter(|_| passes) else {
                    break;
                };
                i = *next;
            }
            if let Some(limit) = limits.get_mut(i)
                && *limit > 256.0
            {
                *limit = (*limit * factor).floor();
                any = true;
            }
        }
        any
    }

    fn input(&self, node: &NetNode, i: usize) -> Result<Placed, ImportError> {
        let found = node
            .inputs
            .get(i)
            .and_then(|n| self.placed.get(*n))
            .copied();
        found.ok_or_else(|| {
            ImportError::malformed(
                format!("node `{}`", node.name),
                format!("operand {i} is missing"),
            )
        })
    }

    fn push(&mut self, name: &str, op: Op, inputs: &[NodeId]) -> Result<NodeId, ImportError> {
        Ok(self.b.push(name, op, inputs, true)?)
    }

    /// Clamp and step of a node that computes new values.
    fn target(&self, i: usize) -> (Requant, f64) {
        let dtype = self.dtypes.get(i).copied().unwrap_or(DType::I16);
        let clamp = self.fused.get(i).copied().flatten();
        let (lo, hi) = self.ranges.extent.get(i).copied().unwrap_or((0.0, 0.0));
        let peak = match clamp {
            Some((a, b)) => lo.max(a).min(b).abs().max(hi.min(b).max(a).abs()),
            None => lo.abs().max(hi.abs()),
        };
        let limit = self.limit(i, dtype);
        let step = match dtype {
            DType::I8 if self.free.get(i) == Some(&true) && peak > 0.0 => peak / limit,
            DType::I8 => pow2(-bits_for(peak, limit)),
            _ => pow2(-bits_for(peak * MARGIN, limit)),
        };
        (self.clamped(i, dtype, step), step)
    }

    fn limit(&self, i: usize, dtype: DType) -> f64 {
        match dtype {
            DType::I8 => 127.0,
            _ => self.limits.get(i).copied().unwrap_or(32767.0),
        }
    }

    /// Requantisation into a type at a step, with the fused clamp of node `i`.
    fn clamped(&self, i: usize, dtype: DType, step: f64) -> Requant {
        let limit = self.limit(i, dtype) as i32;
        let (a, b) = self
            .fused
            .get(i)
            .copied()
            .flatten()
            .unwrap_or((f64::NEG_INFINITY, f64::INFINITY));
        let lo = round_i32(a / step).clamp(-limit, limit);
        let hi = round_i32(b / step).clamp(lo, limit);
        Requant {
            shift: 0,
            dtype,
            lo,
            hi,
        }
    }

    fn shape(dims: &[usize]) -> Vec<Dim> {
        dims.iter().map(|d| Dim::Fixed(*d as u32)).collect()
    }
}

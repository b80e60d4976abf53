//! Figures about a graph that go into its manifest.

use assay_graph::{A_MAX, Const, ConstKind, Graph, Op, bounds};
use sha2::{Digest, Sha256};

use crate::manifest::BoundsReport;

/// Hex sha256.
pub fn sha256_hex(bytes: &[u8]) -> String {
    hex::encode(Sha256::digest(bytes))
}

/// The largest accumulator of all linear layers, convolutions and products, from the actual weights and declared ranges.
pub fn bounds(graph: &Graph, names: &[String]) -> BoundsReport {
    let mut best = BoundsReport {
        largest: 0,
        node: String::new(),
        limit: A_MAX,
    };
    for (i, node) in graph.nodes().iter().enumerate() {
        let input = |k: usize| {
            node.inputs
                .get(k)
                .and_then(|n| graph.types().get(*n as usize))
        };
        let peak = match &node.op {
            Op::Linear { weights, .. } | Op::Conv2d { weights, .. } => graph
                .consts()
                .get(*weights as usize)
                .zip(input(0))
                .map_or(0, |(c, t)| bounds::peak(c, (t.lo.min(0), t.hi.max(0)))),
            Op::MatMul { .. } => input(0).zip(input(1)).map_or(0, |(a, b)| {
                let reach =
                    |t: &assay_graph::TensorType| i64::from(t.lo).abs().max(i64::from(t.hi).abs());
                let k = a
                    .shape
                    .last()
                    .map_or(1, |d| i64::from(d.at(graph.header().max_seq.into())));
                // behind a softmax the sum of a row is known
                let softmax = node
                    .inputs
                    .first()
                    .and_then(|n| graph.nodes().get(*n as usize))
                    .map(|n| &n.op);
                match softmax {
                    Some(Op::Softmax { bits, .. }) => ((1i64 << bits) + k / 2) * reach(b),
                    _ => k * reach(a) * reach(b),
                }
            }),
            _ => 0,
        };
        if peak > best.largest {
            best = BoundsReport {
                largest: peak,
                node: names.get(i).cloned().unwrap_or_default(),
                limit: A_MAX,
            };
        }
    }
    best
}

/// Multiply-adds of a run with all positions.
pub fn macs(graph: &Graph) -> u64 {
    let seq = graph.header().max_seq;
    let of = |i: usize| -> u64 {
        let (Some(node), Some(ty)) = (graph.nodes().get(i), graph.types().get(i)) else {
            return 0;
        };
        let len = ty.len(seq) as u64;
        match &node.op {
            Op::Linear { weights, .. } | Op::Conv2d { weights, .. } => {
                match graph.consts().get(*weights as usize).map(Const::kind) {
                    Some(ConstKind::Weights { cols, .. }) => len * u64::from(cols),
                    _ => 0,
                }
            }
            Op::MatMul { .. } => {
                let k = node
                    .inputs
                    .first()
                    .and_then(|n| graph.types().get(*n as usize))
                    .and_then(|t| t.shape.last())
                    .map_or(0, |d| d.at(seq.into()));
                len * u64::from(k)
            }
            _ => 0,
        }
    };
    (0..graph.nodes().len()).map(of).sum()
}

/// Bytes of all constants.
pub fn constant_bytes(graph: &Graph) -> u64 {
    graph.consts().iter().map(|c| c.bytes().len() as u64).sum()
}

//! Which tensors are `i8` and which `i16`, and which clamps move into their producer.

use assay_graph::DType;

use crate::{
    net::{Net, NetOp},
    quantise::Profile,
};

/// Element type of each node, and whether its step is free.
pub(super) fn widths(net: &Net, profile: Profile) -> (Vec<DType>, Vec<bool>) {
    let consumers = net.consumers();
    let n = net.nodes.len();
    let mut wide = vec![profile != Profile::A8; n];
    let mut free = vec![true; n];
    if let Some(last) = wide.last_mut() {
        *last = true;
    }
    for i in (0..n).rev() {
        for c in consumers.get(i).into_iter().flatten() {
            let Some(reader) = net.nodes.get(*c) else {
                continue;
            };
            let inherits = reader.op.passes_values()
                || matches!(
                    reader.op,
                    NetOp::Add | NetOp::AddRows { .. } | NetOp::Concat(_) | NetOp::Scale(_)
                );
            let needs = matches!(
                reader.op,
                NetOp::LayerNorm { .. } | NetOp::Softmax | NetOp::ReduceSum
            ) || inherits && wide.get(*c) == Some(&true);
            let pinned = matches!(reader.op, NetOp::Add | NetOp::Concat(_))
                || inherits && free.get(*c) == Some(&false);
            if let Some(w) = wide.get_mut(i) {
                *w |= needs;
            }
            if let Some(f) = free.get_mut(i) {
                *f &= !pinned;
            }
        }
    }
    (
        wide.into_iter()
            .map(|w| if w { DType::I16 } else { DType::I8 })
            .collect(),
        free,
    )
}

/// Clamps that the producer of their operand can apply itself.
pub(super) fn fused_clamps(net: &Net) -> Vec<Option<(f64, f64)>> {
    let uses = net.uses();
    let mut fused = vec![None; net.nodes.len()];
    for node in &net.nodes {
        let (NetOp::Clamp { lo, hi }, Some(p)) = (&node.op, node.inputs.first()) else {
            continue;
        };
        let producer = net.nodes.get(*p).map(|n| &n.op);
        let can = matches!(
            producer,
            Some(
                NetOp::Linear { .. }
                    | NetOp::Conv { .. }
                    | NetOp::Channel { .. }
                    | NetOp::Add
                    | NetOp::AddRows { .. }
                    | NetOp::MatMul
                    | NetOp::LayerNorm { .. }
            )
        );
        if can
            && uses.get(*p) == Some(&1)
            && let Some(slot) = fused.get_mut(*p)
        {
            *slot = Some((*lo, *hi));
        }
    }
    fused
}

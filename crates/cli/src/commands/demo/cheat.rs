//! Cheaper models: the same graph with weights rounded, or with layers that do nothing.

use assay_graph::{BlockView, Const, ConstKind, DType, Graph, Op};

/// Bytes of a weight row before its values.
const ROW_HEADER: usize = 5;

/// Rounds all weights of a graph to 4 bits: the sixteen multiples of a sixteenth of their type's range.
///
/// # Errors
/// Never in practice: smaller weights keep every bound.
pub(super) fn four_bits(graph: &Graph) -> anyhow::Result<Graph> {
    let consts = graph
        .consts()
        .iter()
        .map(rounded)
        .collect::<Option<Vec<Const>>>();
    let consts = consts.ok_or_else(|| anyhow::anyhow!("a constant changed its length"))?;
    Ok(Graph::new(
        graph.header(),
        graph.nodes().to_vec(),
        consts,
        &[],
    )?)
}

fn rounded(constant: &Const) -> Option<Const> {
    let kind = constant.kind();
    let ConstKind::Weights { rows, dtype, .. } = kind else {
        return Some(constant.clone());
    };
    let mut bytes = Vec::with_capacity(kind.total_bytes());
    for row in 0..rows {
        let (header, values) = constant.row(row)?.split_at_checked(ROW_HEADER)?;
        bytes.extend(header);
        match dtype {
            DType::I8 => bytes.extend(
                values
                    .iter()
                    .map(|b| round(i32::from(*b as i8), 16, 112) as i8 as u8),
            ),
            _ => bytes.extend(values.as_chunks::<2>().0.iter().flat_map(|b| {
                (round(i32::from(i16::from_le_bytes(*b)), 4096, 28_672) as i16).to_le_bytes()
            })),
        }
    }
    Const::new(kind, bytes.into())
}

/// Nearest multiple of `step`, within ±`limit`.
fn round(value: i32, step: i32, limit: i32) -> i32 {
    ((value + step / 2).div_euclid(step) * step).clamp(-limit, limit)
}

/// Constants of a graph, changed one by one.
fn changed(
    graph: &Graph,
    change: impl Fn(usize, &Const) -> Option<Const>,
) -> anyhow::Result<Graph> {
    let consts = graph.consts().iter().enumerate();
    let consts: Option<Vec<Const>> = consts.map(|(i, c)| change(i, c)).collect();
    let consts = consts.ok_or_else(|| anyhow::anyhow!("a constant changed its length"))?;
    Ok(Graph::new(
        graph.header(),
        graph.nodes().to_vec(),
        consts,
        &[],
    )?)
}

/// Constants of the last products of attention and of the feed-forward part, two a layer: what is added to the residual.
fn added(graph: &Graph) -> Vec<usize> {
    let nodes = graph.nodes();
    let linear = |id: &u32| match nodes.get(*id as usize).map(|n| &n.op) {
        Some(Op::Linear { weights, .. }) => Some(*weights as usize),
        _ => None,
    };
    let adds = nodes.iter().filter(|n| matches!(n.op, Op::Add { .. }));
    adds.filter_map(|n| n.inputs.iter().find_map(linear))
        .collect()
}

/// A language model with 3 of 4 bits of the weights of every third layer: odd codes go to their even neighbours, by turns up and down.
/// The products that are added to the residual stay as they are: their scales leave no room.
///
/// # Errors
/// Never in practice: accumulators of the other products are far from their limit.
pub(super) fn fewer_bits(graph: &Graph) -> anyhow::Result<Graph> {
    let added = added(graph);
    // a layer's constants lie before its last product
    let layer = |index: usize| added.iter().filter(|last| **last < index).count() / 2;
    changed(graph, |index, constant| {
        let kind = constant.kind();
        let ConstKind::Blocks { rows, bits: 4, .. } = kind else {
            return Some(constant.clone());
        };
        if added.contains(&index) || layer(index) % 3 != 2 {
            return Some(constant.clone());
        }
        let mut bytes = Vec::with_capacity(kind.total_bytes());
        let mut up = false;
        for row in 0..rows {
            let row = constant.row(row)?;
            let view = BlockView::parse(&kind, row)?;
            bytes.extend(row.get(..row.len().checked_sub(view.codes.len())?)?);
            let mut codes = view.all_codes();
            for code in codes.iter_mut().filter(|code| **code & 1 == 1) {
                *code = if up && *code < 15 {
                    *code + 1
                } else {
                    *code - 1
                };
                up = !up;
            }
            let pairs = codes.as_chunks::<2>().0.iter();
            bytes.extend(pairs.map(|[low, high]| low | high << 4));
        }
        Const::new(kind, bytes.into())
    })
}

/// A language model in which `layers` add nothing: less depth under the same structure.
///
/// # Errors
/// Never in practice: zeros keep every bound.
pub(super) fn without_layers(graph: &Graph, layers: &[usize]) -> anyhow::Result<Graph> {
    let silent: Vec<usize> = added(graph)
        .chunks(2)
        .enumerate()
        .filter(|(layer, _)| layers.contains(layer))
        .flat_map(|(_, products)| products.to_vec())
        .collect();
    changed(graph, |index, constant| {
        if !silent.contains(&index) {
            return Some(constant.clone());
        }
        let kind = constant.kind();
        let mut bytes = Vec::with_capacity(kind.total_bytes());
        for row in 0..kind.rows() {
            let row = constant.row(row)?;
            bytes.push(*row.first()?);
            bytes.resize(bytes.len() + row.len() - 1, 0);
        }
        Const::new(kind, bytes.into())
    })
}

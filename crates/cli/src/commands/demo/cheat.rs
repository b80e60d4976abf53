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
fn changed(graph: &Graph, change: impl Fn(usize, &Const) -> Option<Const>) -> anyhow::Result<Graph> {
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

/// A language model whose 4-bit weights have 3: of every pair of neighbouring codes only the even one is left, the one nearer to zero where there is a choice.
///
/// # Errors
/// Never in practice: weights that do not grow keep every bound.
pub(super) fn fewer_bits(graph: &Graph) -> anyhow::Result<Graph> {
    changed(graph, |_, constant| {
        let kind = constant.kind();
        let ConstKind::Blocks { rows, bits: 4, .. } = kind else {
            return Some(constant.clone());
        };
        let mut bytes = Vec::with_capacity(kind.total_bytes());
        for row in 0..rows {
            let row = constant.row(row)?;
            let view = BlockView::parse(&kind, row)?;
            bytes.extend(row.get(..row.len().checked_sub(view.codes.len())?)?);
            let even = |(column, code): (usize, u8)| {
                let (step, offset) = view.step(column / view.group.max(1));
                let grows_upwards = (step * i32::from(code) + offset > 0) == (step > 0);
                if grows_upwards {
                    code & 14
                } else {
                    (code + (code & 1)).min(14)
                }
            };
            let codes: Vec<u8> = view.all_codes().into_iter().enumerate().map(even).collect();
            bytes.extend(codes.as_chunks::<2>().0.iter().map(|[low, high]| low | high << 4));
        }
        Const::new(kind, bytes.into())
    })
}

/// A language model in which every second layer adds nothing: half the depth under the same structure.
///
/// # Errors
/// Never in practice: zeros keep every bound.
pub(super) fn half_depth(graph: &Graph) -> anyhow::Result<Graph> {
    let nodes = graph.nodes();
    let linear = |id: &u32| match nodes.get(*id as usize).map(|n| &n.op) {
        Some(Op::Linear { weights, .. }) => Some(*weights as usize),
        _ => None,
    };
    // attention's and the feed-forward part's last products, in the order of layers
    let last: Vec<usize> = nodes
        .iter()
        .filter(|n| matches!(n.op, Op::Add { .. }))
        .filter_map(|n| n.inputs.iter().find_map(linear))
        .collect();
    let silent: Vec<usize> = last.chunks(2).skip(1).step_by(2).flatten().copied().collect();
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

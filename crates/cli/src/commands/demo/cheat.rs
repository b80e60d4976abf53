//! The cheaper model: the same graph with its weights rounded to 4 bits.

use assay_graph::{Const, ConstKind, DType, Graph};

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

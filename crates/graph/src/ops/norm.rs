//! layer_norm and softmax: rows normalised with integer square root and integer division.
//!
//! Layer normalisation after Ba, Kiros, Hinton (arXiv 1607.06450); the integer form with a block exponent is ours (docs/graph.md).

use super::{Place, Source, last, requant, rnd};
use crate::{
    consts::{ConstKind, read_values},
    error::GraphError,
    node::{ConstId, Requant},
};

/// The integer `Y` with `Y²·v <= 2^58 < (Y+1)²·v`; 0 for `v > 2^58`. `v >= 1`.
pub const fn inverse_sqrt(v: u64) -> u64 {
    ((1u64 << 58) / if v == 0 { 1 } else { v }).isqrt()
}

/// The row as a unit vector times 2^15: `u_j` of docs/graph.md. Values within ±2^15.
///
/// `x` is one row (`n <= 2^20` values), `eps` as in [`Op::LayerNorm`](crate::Op).
pub fn layer_norm_unit(x: &[i32], eps: u64) -> Vec<i32> {
    let n = x.len() as i64;
    let sum: i64 = x.iter().map(|v| i64::from(*v)).sum();
    let centred: Vec<i64> = x.iter().map(|v| n * i64::from(*v) - sum).collect();
    let peak = centred.iter().map(|c| c.unsigned_abs()).max().unwrap_or(0);
    let e = (64 - peak.leading_zeros()).saturating_sub(15);
    let d: Vec<i64> = centred
        .iter()
        .map(|c| rnd(*c, e as i8).clamp(-32767, 32767))
        .collect();
    let squares: u64 = d.iter().map(|d| d.unsigned_abs().pow(2)).sum();
    let v = squares.saturating_add((eps.checked_shr(2 * e).unwrap_or(0)).max(1));
    let y = inverse_sqrt(v) as i64;
    d.iter().map(|d| rnd(d * y, 14) as i32).collect()
}

/// `sat(rnd(u_j·gain_j + bias_j, shift))`.
pub(super) fn layer_norm<S: Source>(
    place: &Place<'_>,
    index: usize,
    src: &S,
    params: ConstId,
    eps: u64,
    out: &Requant,
) -> Result<i32, GraphError> {
    let n = last(&place.dims);
    let (row, col) = (index / n, index % n);
    let x = src.slice(0, row * n, n)?;
    let unit = layer_norm_unit(&x, eps);
    let (gain, bias) = norm_cell(&src.row(params, 0)?, col)?;
    let u = unit
        .get(col)
        .copied()
        .ok_or_else(|| GraphError::evidence("row too short"))?;
    Ok(requant(
        i64::from(u) * i64::from(gain) + i64::from(bias),
        out.shift,
        out,
    ))
}

/// Gain and bias of one channel of a `norm` constant.
pub(super) fn norm_cell(bytes: &[u8], col: usize) -> Result<(i16, i32), GraphError> {
    match bytes.as_chunks::<6>().0.get(col) {
        Some([a, b, c, d, e, f]) => Ok((
            i16::from_le_bytes([*a, *b]),
            i32::from_le_bytes([*c, *d, *e, *f]),
        )),
        None => Err(GraphError::evidence("norm row too short")),
    }
}

/// `e_j` of docs/graph.md for one row of scores.
pub fn softmax_exp(x: &[i32], table: &[i32], shift: u8) -> Vec<i64> {
    let max = x.iter().copied().max().map_or(0, i64::from);
    let top = table.len().saturating_sub(1) as i64;
    x.iter()
        .map(|v| {
            let step = rnd(max - i64::from(*v), shift.min(31) as i8).min(top);
            table.get(step as usize).map_or(0, |e| i64::from(*e))
        })
        .collect()
}

/// `floor((2^(bits+1)·e_j + S) / 2S)`.
pub(super) fn softmax<S: Source>(
    place: &Place<'_>,
    index: usize,
    src: &S,
    table: ConstId,
    shift: u8,
    bits: u8,
) -> Result<i32, GraphError> {
    let kind = place.kind(table)?;
    let ConstKind::Table { dtype, .. } = kind else {
        return Err(GraphError::evidence("not a table"));
    };
    let n = last(&place.dims);
    let x = src.slice(0, index / n * n, n)?;
    let mut entries = Vec::new();
    for row in 0..kind.rows() {
        entries.extend(read_values(dtype, &src.row(table, row)?));
    }
    let e = softmax_exp(&x, &entries, shift);
    let sum: i64 = e.iter().sum();
    let own = e
        .get(index % n)
        .copied()
        .ok_or_else(|| GraphError::evidence("row too short"))?;
    // a table that passed the bounds has S > 0; the clamp keeps the definition total for any other, so that every registered model can be judged
    let p = if sum > 0 {
        ((own << (bits + 1)) + sum) / (2 * sum)
    } else {
        0
    };
    Ok(p.clamp(0, 1 << bits) as i32)
}

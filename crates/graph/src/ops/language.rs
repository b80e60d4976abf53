//! Operators of decoder-only language models: lift, rms_norm, rope, mul, exponent, normalise, scores, causal_exp, mix, tail.
//!
//! RMS normalisation after Zhang and Sennrich (arXiv 1910.07467), rotary embedding after Su et al. (arXiv 2104.09864), grouped queries after Ainslie et al.
//! (arXiv 2305.13245). The integer forms (block exponent, one deferred division, a shared exponent for each row of a product) are ours (docs/graph.md).

use super::{Place, Source, last, one, requant, rnd};
use crate::{
    consts::{ConstKind, RowValues, read_values},
    error::GraphError,
    node::{ConstId, Requant},
    ops::norm::{inverse_sqrt, norm_cell},
};

/// Row `id` of the constant that the head multiplies by: `sat(rnd(w, shift_r + shift))`.
pub(super) fn lift<S: Source>(
    place: &Place<'_>,
    index: usize,
    src: &S,
    weights: ConstId,
    out: &Requant,
) -> Result<i32, GraphError> {
    let d = last(&place.dims);
    let id =
        u32::try_from(one(src, 0, index / d)?).map_err(|_| GraphError::evidence("negative id"))?;
    let bytes = src.row(weights, id)?;
    let row = RowValues::parse(&place.kind(weights)?, &bytes)
        .ok_or_else(|| GraphError::evidence("not a row of weights"))?;
    let w = row
        .values
        .get(index % d)
        .copied()
        .ok_or_else(|| GraphError::evidence("row too short"))?;
    // the bounds keep the sum within −15 … 31; the clamp keeps the definition total
    let shift = (i32::from(row.shift) + i32::from(out.shift)).clamp(-15, 31) as i8;
    Ok(requant(i64::from(w), shift, out))
}

/// The row as a unit vector times 2^15: `u_j` of docs/graph.md. Values within ±2^15; `‖u‖₂ ≤ 2^15 + √n/2`.
pub fn rms_norm_unit(x: &[i32], eps: u64) -> Vec<i32> {
    let e = exponent_of(x, 15);
    let d: Vec<i64> = x
        .iter()
        .map(|v| rnd(i64::from(*v), e as i8).clamp(-32767, 32767))
        .collect();
    let squares: u64 = d.iter().map(|d| d.unsigned_abs().pow(2)).sum();
    let v = squares.saturating_add((eps.checked_shr(2 * e).unwrap_or(0)).max(1));
    let y = inverse_sqrt(v) as i64;
    d.iter().map(|d| rnd(d * y, 14) as i32).collect()
}

/// `sat(rnd(u_j·gain_j + bias_j, shift))`.
pub(super) fn rms_norm<S: Source>(
    place: &Place<'_>,
    index: usize,
    src: &S,
    params: ConstId,
    eps: u64,
    out: &Requant,
) -> Result<i32, GraphError> {
    let n = last(&place.dims);
    let (row, col) = (index / n, index % n);
    let unit = rms_norm_unit(&src.slice(0, row * n, n)?, eps);
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

/// Half-split rotation of each head by the angle of the position.
pub(super) fn rope<S: Source>(
    place: &Place<'_>,
    index: usize,
    src: &S,
    rows: ConstId,
    out: &Requant,
) -> Result<i32, GraphError> {
    let ConstKind::Rows { cols, dtype, .. } = place.kind(rows)? else {
        return Err(GraphError::evidence("not a rows constant"));
    };
    let (width, d) = (last(&place.dims), (cols as usize).max(2));
    let half = d / 2;
    let (position, within) = (index / width, index % width % d);
    let (pair, second) = (within % half, within >= half);
    let first = index - within + pair;
    let (x0, x1) = (one(src, 0, first)?, one(src, 0, first + half)?);
    let angles = read_values(dtype, &src.row(rows, position as u32)?);
    let (Some(c), Some(s)) = (angles.get(pair), angles.get(pair + half)) else {
        return Err(GraphError::evidence("row of angles too short"));
    };
    let [x0, x1, c, s] = [x0, x1, *c, *s].map(i64::from);
    let sum = if second {
        x1 * c + x0 * s
    } else {
        x0 * c - x1 * s
    };
    Ok(requant(sum, out.shift, out))
}

/// `sat(rnd(a·b, shift))`.
pub(super) fn mul<S: Source>(index: usize, src: &S, out: &Requant) -> Result<i32, GraphError> {
    let product = i64::from(one(src, 0, index)?) * i64::from(one(src, 1, index)?);
    Ok(requant(product, out.shift, out))
}

/// `max(0, bitlen(max|x|) − bits)`, 0 … 32.
pub fn exponent_of(x: &[i32], bits: u8) -> u32 {
    let peak = x.iter().map(|v| v.unsigned_abs()).max().unwrap_or(0);
    (32 - peak.leading_zeros()).saturating_sub(u32::from(bits))
}

pub(super) fn exponent<S: Source>(
    place: &Place<'_>,
    index: usize,
    src: &S,
    bits: u8,
) -> Result<i32, GraphError> {
    let n = last(place.operand(0));
    Ok(exponent_of(&src.slice(0, index * n, n)?, bits) as i32)
}

/// `sat(rnd(x, shift + e))`.
pub(super) fn normalise<S: Source>(
    place: &Place<'_>,
    index: usize,
    src: &S,
    out: &Requant,
) -> Result<i32, GraphError> {
    let e = one(src, 1, index / last(&place.dims))?;
    let shift = (i32::from(out.shift) + e).clamp(-15, 63) as i8;
    Ok(requant(i64::from(one(src, 0, index)?), shift, out))
}

/// `Σ q·k` of query head h at position t with its key head at position j ≤ t; 0 behind.
pub(super) fn scores<S: Source>(
    place: &Place<'_>,
    index: usize,
    src: &S,
    heads: u16,
    kv_heads: u16,
) -> Result<i32, GraphError> {
    let seq = last(&place.dims);
    let (head, t, j) = (index / seq / seq, index / seq % seq, index % seq);
    if j > t {
        return Ok(0);
    }
    let (heads, kv_heads) = (usize::from(heads).max(1), usize::from(kv_heads).max(1));
    let d = last(place.operand(0)) / heads;
    let key_head = head * kv_heads / heads;
    let q = src.slice(0, t * heads * d + head * d, d)?;
    let k = src.slice(1, j * kv_heads * d + key_head * d, d)?;
    let sum: i64 = q
        .iter()
        .zip(k.iter())
        .map(|(q, k)| i64::from(*q) * i64::from(*k))
        .sum();
    // saturates only for models that break their bounds; total, so that they can be judged
    Ok(sum.clamp(i64::from(i32::MIN), i64::from(i32::MAX)) as i32)
}

/// `table[min(T − 1, rnd(max_{i ≤ t} s_i − s_j, shift_h))]`; 0 for j > t.
pub(super) fn causal_exp<S: Source>(
    place: &Place<'_>,
    index: usize,
    src: &S,
    table: ConstId,
    shifts: &[u8],
) -> Result<i32, GraphError> {
    let seq = last(&place.dims);
    let (head, t, j) = (index / seq / seq, index / seq % seq, index % seq);
    if j > t {
        return Ok(0);
    }
    let row = src.slice(0, index - j, t + 1)?;
    let max = row.iter().copied().max().map_or(0, i64::from);
    let own = row.get(j).copied().map_or(0, i64::from);
    let shift = shifts.get(head).copied().unwrap_or(0).min(31);
    let entries = table_values(place, src, table)?;
    let step = rnd(max - own, shift as i8).min(entries.len().saturating_sub(1) as i64);
    entries
        .get(step as usize)
        .copied()
        .ok_or_else(|| GraphError::evidence("empty table"))
}

/// `floor((2^(c0+1)·Σ e·v + S) / 2S)` over the positions up to t.
pub(super) fn mix<S: Source>(
    place: &Place<'_>,
    index: usize,
    src: &S,
    bits: u8,
    out: &Requant,
) -> Result<i32, GraphError> {
    let [heads, seq, _] = *place.operand(0) else {
        return Err(GraphError::evidence("weights are not 3-D"));
    };
    let width = last(&place.dims);
    let d = (width / heads.max(1)).max(1);
    let kv_heads = place.operand(1).first().copied().unwrap_or(1) / d;
    let (t, head, c) = (index / width, index % width / d, index % d);
    let channel = head * kv_heads / heads.max(1) * d + c;
    let e = src.slice(0, (head * seq + t) * seq, t + 1)?;
    let v = src.slice(1, channel * seq, t + 1)?;
    let sum: i64 = e.iter().map(|e| i64::from(*e)).sum();
    let dot: i64 = e
        .iter()
        .zip(v.iter())
        .map(|(e, v)| i64::from(*e) * i64::from(*v))
        .sum();
    // a table that passed the bounds gives S > 0
    let mean = if sum > 0 {
        ((dot << (bits.min(8) + 1)) + sum).div_euclid(2 * sum)
    } else {
        0
    };
    Ok(requant(mean, 0, out))
}

/// Row `seq − out + j`.
pub(super) fn tail<S: Source>(place: &Place<'_>, index: usize, src: &S) -> Result<i32, GraphError> {
    let (have, want) = (
        place.operand(0).iter().product::<usize>(),
        place.dims.iter().product::<usize>(),
    );
    one(src, 0, index + have.saturating_sub(want))
}

/// All entries of a table.
pub(super) fn table_values<S: Source>(
    place: &Place<'_>,
    src: &S,
    table: ConstId,
) -> Result<Vec<i32>, GraphError> {
    let kind = place.kind(table)?;
    let ConstKind::Table { dtype, .. } = kind else {
        return Err(GraphError::evidence("not a table"));
    };
    let mut entries = Vec::new();
    for row in 0..kind.rows() {
        entries.extend(read_values(dtype, &src.row(table, row)?));
    }
    Ok(entries)
}

//! linear, conv2d, matmul: exact dot products, then requantisation.

use super::{Place, Source, coordinates, last, one, requant};
use crate::{
    consts::{ConstKind, RowValues, WeightView},
    error::GraphError,
    node::{ConstId, Requant, Window},
    types::DType,
};

fn weight_dtype(place: &Place<'_>, id: ConstId) -> Result<DType, GraphError> {
    match place.kind(id)? {
        ConstKind::Weights { dtype, .. } => Ok(dtype),
        _ => Err(GraphError::evidence("not a weights constant")),
    }
}

fn parse(dtype: DType, bytes: &[u8]) -> Result<WeightView<'_>, GraphError> {
    WeightView::parse(dtype, bytes)
        .ok_or_else(|| GraphError::evidence("weight row is too short or its shift is out of range"))
}

fn dot(x: &[i32], w: impl Iterator<Item = i32>) -> i64 {
    x.iter()
        .zip(w)
        .map(|(x, w)| i64::from(*x) * i64::from(w))
        .sum()
}

/// `[…, k] → […, n]`: `sat(rnd(bias_r + Σ_c w_rc·x_c, shift_r − e))`, e the second operand's exponent of the row, if there is one.
pub(super) fn linear<S: Source>(
    place: &Place<'_>,
    index: usize,
    src: &S,
    weights: ConstId,
    out: &Requant,
) -> Result<i32, GraphError> {
    let (n, k) = (last(&place.dims), last(place.operand(0)));
    let (position, row) = (index / n, index % n);
    let x = src.slice(0, position * k, k)?;
    let bytes = src.row(weights, row as u32)?;
    let w = RowValues::parse(&place.kind(weights)?, &bytes).ok_or_else(|| {
        GraphError::evidence("weight row is malformed or its shift is out of range")
    })?;
    let exponent = match place.operands.len() {
        2 => one(src, 1, position)?,
        _ => 0,
    };
    // the bounds keep the difference within −15 … 31; the clamp keeps the definition total
    let shift = (i32::from(w.shift) - exponent).clamp(-15, 31) as i8;
    let acc = i64::from(w.bias) + dot(&x, w.values.iter().copied());
    Ok(requant(acc, shift, out))
}

/// `[h, w, c] → [oh, ow, n]`: the same over a patch in order `[kh][kw][c/groups]`; cells outside the image are 0.
pub(super) fn conv2d<S: Source>(
    place: &Place<'_>,
    index: usize,
    src: &S,
    weights: ConstId,
    window: &Window,
    groups: u32,
    out: &Requant,
) -> Result<i32, GraphError> {
    let [oy, ox, row] = coordinates(&place.dims, index)[..] else {
        return Err(GraphError::evidence("conv2d output is not 3-D"));
    };
    let [h, w, c] = *place.operand(0) else {
        return Err(GraphError::evidence("conv2d input is not 3-D"));
    };
    let groups = groups.max(1) as usize;
    let per_group = c / groups;
    let first_channel = row / (last(&place.dims) / groups).max(1) * per_group;
    let bytes = src.row(weights, row as u32)?;
    let view = parse(weight_dtype(place, weights)?, &bytes)?;
    let values: Vec<i32> = view.iter().collect();
    let [kh, kw] = window.kernel.map(usize::from);
    let mut acc = i64::from(view.bias);
    for ky in 0..kh {
        let Some(y) = inside(oy, window.stride[0], ky, window.pad[0], h) else {
            continue;
        };
        // cells of this kernel row that lie inside the image are contiguous when all channels are read
        let inside_cells: Vec<(usize, usize)> = (0..kw)
            .filter_map(|kx| Some((kx, inside(ox, window.stride[1], kx, window.pad[1], w)?)))
            .collect();
        let (Some((kx0, x0)), Some((_, x1))) =
            (inside_cells.first().copied(), inside_cells.last().copied())
        else {
            continue;
        };
        if groups == 1 {
            let x = src.slice(0, (y * w + x0) * c, (x1 - x0 + 1) * c)?;
            let from = (ky * kw + kx0) * per_group;
            acc += dot(&x, values.iter().skip(from).copied());
        } else {
            for (kx, x) in inside_cells {
                let x = src.slice(0, (y * w + x) * c + first_channel, per_group)?;
                acc += dot(&x, values.iter().skip((ky * kw + kx) * per_group).copied());
            }
        }
    }
    Ok(requant(acc, view.shift, out))
}

/// Input coordinate of kernel cell `k` at output coordinate `o`, if inside `0..n`.
pub(super) fn inside(o: usize, stride: u8, k: usize, pad: u8, n: usize) -> Option<usize> {
    (o * usize::from(stride) + k)
        .checked_sub(usize::from(pad))
        .filter(|i| *i < n)
}

/// `[…, m, k] × […, n, k] → […, m, n]`: `sat(rnd(Σ a·b, shift))`.
pub(super) fn matmul<S: Source>(
    place: &Place<'_>,
    index: usize,
    src: &S,
    out: &Requant,
) -> Result<i32, GraphError> {
    let [.., m, n] = place.dims[..] else {
        return Err(GraphError::evidence(
            "matmul output has fewer than 2 dimensions",
        ));
    };
    let k = last(place.operand(0));
    let (m, n) = (m.max(1), n.max(1));
    let (batch, row, col) = (index / (m * n), index / n % m, index % n);
    let a = src.slice(0, (batch * m + row) * k, k)?;
    let b = src.slice(1, (batch * n + col) * k, k)?;
    Ok(requant(dot(&a, b.iter().copied()), out.shift, out))
}

//! embedding, transpose, slice, concat: exact moves.

use super::{Place, Source, coordinates, flatten, last, one};
use crate::{
    consts::{ConstKind, read_values},
    error::GraphError,
    node::ConstId,
};

/// `rows[id][c]`.
pub(super) fn embedding<S: Source>(
    place: &Place<'_>,
    index: usize,
    src: &S,
    rows: ConstId,
) -> Result<i32, GraphError> {
    let ConstKind::Rows { dtype, .. } = place.kind(rows)? else {
        return Err(GraphError::evidence("not a rows constant"));
    };
    let d = last(&place.dims);
    let id =
        u32::try_from(one(src, 0, index / d)?).map_err(|_| GraphError::evidence("negative id"))?;
    let bytes = src.row(rows, id)?;
    let at = index % d * dtype.size();
    let value = bytes
        .get(at..at + dtype.size())
        .map(|b| read_values(dtype, b));
    value
        .and_then(|v| v.first().copied())
        .ok_or_else(|| GraphError::evidence("row too short"))
}

/// Output axis i is input axis `perm[i]`.
pub(super) fn transpose<S: Source>(
    place: &Place<'_>,
    index: usize,
    src: &S,
    perm: &[u8],
) -> Result<i32, GraphError> {
    let at = coordinates(&place.dims, index);
    let dims = place.operand(0);
    let mut from = vec![0; dims.len()];
    for (coordinate, axis) in at.iter().zip(perm) {
        if let Some(slot) = from.get_mut(usize::from(*axis)) {
            *slot = *coordinate;
        }
    }
    one(src, 0, flatten(dims, &from))
}

/// Indices from `start` along `axis`.
pub(super) fn slice<S: Source>(
    place: &Place<'_>,
    index: usize,
    src: &S,
    axis: u8,
    start: u32,
) -> Result<i32, GraphError> {
    let mut at = coordinates(&place.dims, index);
    if let Some(c) = at.get_mut(usize::from(axis)) {
        *c += start as usize;
    }
    one(src, 0, flatten(place.operand(0), &at))
}

/// Operands after one another along `axis`.
pub(super) fn concat<S: Source>(
    place: &Place<'_>,
    index: usize,
    src: &S,
    axis: u8,
) -> Result<i32, GraphError> {
    let mut at = coordinates(&place.dims, index);
    let axis = usize::from(axis);
    for (operand, dims) in place.operands.iter().enumerate() {
        let (Some(c), Some(n)) = (at.get_mut(axis), dims.get(axis)) else {
            break;
        };
        if *c < *n {
            return one(src, operand, flatten(dims, &at));
        }
        *c -= n;
    }
    Err(GraphError::evidence("concat index outside every operand"))
}

//! add, add_rows, requant, lookup: one element from one element of each operand.

use super::{Place, Source, one, requant};
use crate::{
    consts::{ConstKind, TABLE_ROW, read_values},
    error::GraphError,
    node::{ConstId, Requant},
    types::DType,
};

/// `sat(rnd((a << left_a) + (b << left_b), shift))`.
pub(super) fn add<S: Source>(
    index: usize,
    src: &S,
    left: [u8; 2],
    out: &Requant,
) -> Result<i32, GraphError> {
    let a = i64::from(one(src, 0, index)?) << left[0];
    let b = i64::from(one(src, 1, index)?) << left[1];
    Ok(requant(a + b, out.shift, out))
}

/// `sat(rnd((x << left_x) + (C[r][c] << left_c), shift))`, r and c the last two coordinates.
pub(super) fn add_rows<S: Source>(
    place: &Place<'_>,
    index: usize,
    src: &S,
    rows: ConstId,
    left: [u8; 2],
    out: &Requant,
) -> Result<i32, GraphError> {
    let [.., r, c] = place.dims[..] else {
        return Err(GraphError::evidence(
            "add_rows output has fewer than 2 dimensions",
        ));
    };
    let ConstKind::Rows { dtype, .. } = place.kind(rows)? else {
        return Err(GraphError::evidence("not a rows constant"));
    };
    let (row, col) = (index / c.max(1) % r.max(1), index % c.max(1));
    let bytes = src.row(rows, row as u32)?;
    let size = dtype.size();
    let value = bytes
        .get(col * size..(col + 1) * size)
        .map(|b| read_values(dtype, b));
    let constant = value
        .and_then(|v| v.first().copied())
        .ok_or_else(|| GraphError::evidence("row too short"))?;
    let x = one(src, 0, index)?;
    Ok(requant(
        (i64::from(x) << left[0]) + (i64::from(constant) << left[1]),
        out.shift,
        out,
    ))
}

/// `sat(rnd(x, shift))`.
pub(super) fn requantise<S: Source>(
    index: usize,
    src: &S,
    out: &Requant,
) -> Result<i32, GraphError> {
    Ok(requant(i64::from(one(src, 0, index)?), out.shift, out))
}

/// `table[x − min]`.
pub(super) fn lookup<S: Source>(
    place: &Place<'_>,
    index: usize,
    src: &S,
    table: ConstId,
) -> Result<i32, GraphError> {
    let ConstKind::Table { dtype, .. } = place.kind(table)? else {
        return Err(GraphError::evidence("not a table"));
    };
    let min = place.dtypes.first().map_or(0, |d: &DType| d.range().0);
    let entry = u32::try_from(i64::from(one(src, 0, index)?) - i64::from(min))
        .map_err(|_| GraphError::evidence("table index below 0"))?;
    let bytes = src.row(table, entry / TABLE_ROW)?;
    let at = (entry % TABLE_ROW) as usize * dtype.size();
    let value = bytes
        .get(at..at + dtype.size())
        .map(|b| read_values(dtype, b));
    value
        .and_then(|v| v.first().copied())
        .ok_or_else(|| GraphError::evidence("table row too short"))
}

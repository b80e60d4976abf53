//! reduce_sum and arg_max over the last axis.

use super::{Place, Source, last};
use crate::error::GraphError;

/// `Σ x` of one row, as `i32`.
pub(super) fn reduce_sum<S: Source>(
    place: &Place<'_>,
    index: usize,
    src: &S,
) -> Result<i32, GraphError> {
    let n = last(place.operand(0));
    let sum: i64 = src
        .slice(0, index * n, n)?
        .iter()
        .map(|v| i64::from(*v))
        .sum();
    // saturates only for models that break their bounds; total, so that they can be judged
    Ok(sum.clamp(i64::from(i32::MIN), i64::from(i32::MAX)) as i32)
}

/// Lowest index of the maximum of one row.
pub(super) fn arg_max<S: Source>(
    place: &Place<'_>,
    index: usize,
    src: &S,
) -> Result<i32, GraphError> {
    let n = last(place.operand(0));
    let x = src.slice(0, index * n, n)?;
    let mut best = 0;
    for (i, v) in x.iter().enumerate() {
        if Some(v) > x.get(best) {
            best = i;
        }
    }
    Ok(best as i32)
}

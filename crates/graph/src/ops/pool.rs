//! Pools over `[h, w, c]` images. Cells outside the image do not take part.

use super::{Place, Source, coordinates, linear::inside, one};
use crate::{error::GraphError, node::Window};

fn cells<S: Source>(
    place: &Place<'_>,
    index: usize,
    src: &S,
    window: &Window,
) -> Result<Vec<i64>, GraphError> {
    let [oy, ox, channel] = coordinates(&place.dims, index)[..] else {
        return Err(GraphError::evidence("pool output is not 3-D"));
    };
    let [h, w, c] = *place.operand(0) else {
        return Err(GraphError::evidence("pool input is not 3-D"));
    };
    let mut out = Vec::new();
    for ky in 0..usize::from(window.kernel[0]) {
        let Some(y) = inside(oy, window.stride[0], ky, window.pad[0], h) else {
            continue;
        };
        for kx in 0..usize::from(window.kernel[1]) {
            let Some(x) = inside(ox, window.stride[1], kx, window.pad[1], w) else {
                continue;
            };
            out.push(i64::from(one(src, 0, (y * w + x) * c + channel)?));
        }
    }
    Ok(out)
}

/// Largest cell.
pub(super) fn max_pool<S: Source>(
    place: &Place<'_>,
    index: usize,
    src: &S,
    window: &Window,
) -> Result<i32, GraphError> {
    let max = cells(place, index, src, window)?.into_iter().max();
    max.map(|v| v as i32)
        .ok_or_else(|| GraphError::evidence("window without a cell"))
}

/// `floor((2Σ + n) / 2n)` over the n cells inside the image.
pub(super) fn avg_pool<S: Source>(
    place: &Place<'_>,
    index: usize,
    src: &S,
    window: &Window,
) -> Result<i32, GraphError> {
    let cells = cells(place, index, src, window)?;
    let n = cells.len() as i64;
    if n == 0 {
        return Err(GraphError::evidence("window without a cell"));
    }
    Ok((2 * cells.iter().sum::<i64>() + n).div_euclid(2 * n) as i32)
}

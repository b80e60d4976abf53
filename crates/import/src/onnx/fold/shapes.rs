//! Dimensions that operators give to their outputs.

use crate::{
    error::ImportError,
    onnx::{
        attributes::NodeView,
        tensor::{Constant, MAX_RANK, checked_dims, count},
    },
};

/// The `Shape` of given dimensions, with its optional start and end.
pub fn shape(node: &NodeView<'_>, dims: &[usize]) -> Result<Constant, ImportError> {
    let rank = dims.len() as i64;
    let place = |v: i64| (if v < 0 { v + rank } else { v }).clamp(0, rank) as usize;
    let (start, end) = (place(node.int("start", 0)), place(node.int("end", rank)));
    let part: Vec<i64> = dims
        .get(start..end.max(start))
        .unwrap_or(&[])
        .iter()
        .map(|d| *d as i64)
        .collect();
    Ok(Constant::ints(vec![part.len()], part))
}

pub(super) fn target_dims(
    node: &NodeView<'_>,
    shape: &Constant,
) -> Result<Vec<usize>, ImportError> {
    let dims = shape.to_i64();
    ImportError::check("dimensions", dims.len() as u64, MAX_RANK as u64)?;
    checked_dims(&dims).ok_or_else(|| node.malformed(format!("shape {dims:?}")))
}

/// Dimensions after `Reshape`, `Flatten`, `Squeeze` or `Unsqueeze`.
///
/// # Errors
/// [`ImportError::Malformed`] when the number of elements changes.
pub fn new_dims(
    node: &NodeView<'_>,
    dims: &[usize],
    argument: Option<&Constant>,
) -> Result<Vec<usize>, ImportError> {
    let axes = || {
        node.ints("axes")
            .map(<[i64]>::to_vec)
            .or_else(|| argument.map(Constant::to_i64))
    };
    let out: Vec<usize> = match node.proto.op_type.as_str() {
        "Flatten" => {
            let axis = node.int("axis", 1);
            let axis = if axis == dims.len() as i64 {
                dims.len()
            } else {
                node.axis(axis, dims.len().max(1))?
            };
            let (a, b) = dims
                .split_at_checked(axis)
                .ok_or_else(|| node.malformed(format!("axis {axis}")))?;
            vec![a.iter().product(), b.iter().product()]
        }
        "Squeeze" => {
            let drop = match axes() {
                Some(axes) => axes
                    .iter()
                    .map(|a| node.axis(*a, dims.len()))
                    .collect::<Result<Vec<_>, _>>()?,
                None => (0..dims.len())
                    .filter(|i| dims.get(*i) == Some(&1))
                    .collect(),
            };
            dims.iter()
                .enumerate()
                .filter(|(i, _)| !drop.contains(i))
                .map(|(_, d)| *d)
                .collect()
        }
        "Unsqueeze" => {
            let axes = axes().ok_or_else(|| node.unsupported("axes are not constant"))?;
            let rank = dims.len() + axes.len();
            ImportError::check("dimensions", rank as u64, MAX_RANK as u64)?;
            let at = axes
                .iter()
                .map(|a| node.axis(*a, rank))
                .collect::<Result<Vec<_>, _>>()?;
            let mut rest = dims.iter();
            (0..rank)
                .map(|i| {
                    if at.contains(&i) {
                        1
                    } else {
                        rest.next().copied().unwrap_or(1)
                    }
                })
                .collect()
        }
        _ => {
            let target = node
                .ints("shape")
                .map(<[i64]>::to_vec)
                .or_else(|| argument.map(Constant::to_i64));
            let target = target.ok_or_else(|| node.unsupported("the new shape is not constant"))?;
            reshape_dims(node, dims, &target)?
        }
    };
    if count(&out) != count(dims) {
        return Err(node.malformed(format!("{dims:?} can't become {out:?}")));
    }
    Ok(out)
}

fn reshape_dims(
    node: &NodeView<'_>,
    dims: &[usize],
    target: &[i64],
) -> Result<Vec<usize>, ImportError> {
    ImportError::check("dimensions", target.len() as u64, MAX_RANK as u64)?;
    let total = count(dims);
    let keep_zero = node.int("allowzero", 0) == 0;
    let mut out = Vec::with_capacity(target.len());
    let mut open = None;
    for (i, d) in target.iter().enumerate() {
        out.push(match *d {
            -1 if open.is_none() => {
                open = Some(i);
                1
            }
            0 if keep_zero => dims.get(i).copied().unwrap_or(1),
            d => usize::try_from(d)
                .ok()
                .filter(|d| *d <= 1 << 31)
                .ok_or_else(|| node.malformed(format!("shape {target:?}")))?,
        });
    }
    if let Some(slot) = open.and_then(|i| out.get(i).map(|_| i)) {
        let known = count(&out);
        if known == 0 || !total.is_multiple_of(known) {
            return Err(node.malformed(format!("{dims:?} can't become {target:?}")));
        }
        if let Some(s) = out.get_mut(slot) {
            *s = (total / known) as usize;
        }
    }
    Ok(out)
}

/// The `perm` attribute, default reversed.
pub fn permutation(node: &NodeView<'_>, rank: usize) -> Result<Vec<usize>, ImportError> {
    let perm = node
        .sizes("perm")?
        .unwrap_or_else(|| (0..rank).rev().collect());
    let mut seen = perm.clone();
    seen.sort_unstable();
    if seen.iter().copied().eq(0..rank) {
        Ok(perm)
    } else {
        Err(node.malformed(format!("perm {perm:?} of {rank} dimensions")))
    }
}

/// Start and length of each axis of a `Slice` with step 1.
pub fn slice_ranges(
    node: &NodeView<'_>,
    dims: &[usize],
    args: &[Option<&Constant>; 4],
) -> Result<Vec<(usize, usize)>, ImportError> {
    let [starts, ends, axes, steps] = args.map(|a| a.map(Constant::to_i64));
    let starts = starts
        .or_else(|| node.ints("starts").map(<[i64]>::to_vec))
        .ok_or_else(|| node.unsupported("starts are not constant"))?;
    let ends = ends
        .or_else(|| node.ints("ends").map(<[i64]>::to_vec))
        .ok_or_else(|| node.unsupported("ends are not constant"))?;
    let axes = axes
        .or_else(|| node.ints("axes").map(<[i64]>::to_vec))
        .unwrap_or_else(|| (0..starts.len() as i64).collect());
    if steps.is_some_and(|s| s.iter().any(|s| *s != 1)) {
        return Err(node.unsupported("only step 1"));
    }
    let mut out: Vec<(usize, usize)> = dims.iter().map(|d| (0, *d)).collect();
    for ((start, end), axis) in starts.iter().zip(&ends).zip(&axes) {
        let axis = node.axis(*axis, dims.len())?;
        let n = dims.get(axis).copied().unwrap_or(0) as i64;
        let place = |v: i64| (if v < 0 { v.saturating_add(n) } else { v }).clamp(0, n);
        let (a, b) = (place(*start), place(*end));
        if let Some(slot) = out.get_mut(axis) {
            *slot = (a as usize, (b - a).max(0) as usize);
        }
    }
    Ok(out)
}

/// Dimensions of two shapes stretched to each other.
pub fn broadcast(node: &NodeView<'_>, a: &[usize], b: &[usize]) -> Result<Vec<usize>, ImportError> {
    let rank = a.len().max(b.len());
    (0..rank)
        .map(|i| {
            let at = |d: &[usize]| {
                (i + d.len())
                    .checked_sub(rank)
                    .and_then(|j| d.get(j).copied())
                    .unwrap_or(1)
            };
            match (at(a), at(b)) {
                (x, y) if x == y => Ok(x),
                (1, y) => Ok(y),
                (x, 1) => Ok(x),
                (x, y) => Err(node.malformed(format!("dimensions {x} and {y} do not fit"))),
            }
        })
        .collect()
}

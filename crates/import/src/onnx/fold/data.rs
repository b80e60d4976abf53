//! Values of operators on constants: moves and element-wise functions.

use super::broadcast;
use crate::{
    error::ImportError,
    onnx::{
        attributes::NodeView,
        tensor::{Constant, MAX_FOLDED, Values, count},
    },
};

pub(super) fn limited(dims: &[usize]) -> Result<usize, ImportError> {
    let n = count(dims);
    ImportError::check("elements of a computed constant", n, MAX_FOLDED)?;
    Ok(n as usize)
}

pub(super) fn gather(
    node: &NodeView<'_>,
    x: &Constant,
    index: &Constant,
) -> Result<Constant, ImportError> {
    let axis = node.axis(node.int("axis", 0), x.dims.len())?;
    let n = x.dims.get(axis).copied().unwrap_or(1);
    let inner: usize = x.dims.iter().skip(axis + 1).product();
    let outer: usize = x.dims.iter().take(axis).product();
    let picks = index
        .to_i64()
        .iter()
        .map(|i| {
            node.axis(*i, n)
                .map_err(|_| node.malformed(format!("index {i} of {n}")))
        })
        .collect::<Result<Vec<_>, _>>()?;
    let mut dims: Vec<usize> = x.dims.iter().take(axis).copied().collect();
    dims.extend(&index.dims);
    dims.extend(x.dims.iter().skip(axis + 1));
    limited(&dims)?;
    let mut places = Vec::new();
    for o in 0..outer {
        for p in &picks {
            places.extend((0..inner).map(|i| (o * n + p) * inner + i));
        }
    }
    Ok(take(x, dims, &places))
}

fn take(x: &Constant, dims: Vec<usize>, places: &[usize]) -> Constant {
    let values = match &x.values {
        Values::F(v) => Values::F(places.iter().filter_map(|p| v.get(*p).copied()).collect()),
        Values::I(v) => Values::I(places.iter().filter_map(|p| v.get(*p).copied()).collect()),
    };
    Constant { dims, values }
}

pub(super) fn slice(node: &NodeView<'_>, x: &Constant, ranges: &[(usize, usize)]) -> Constant {
    let _ = node;
    let mut places = vec![0usize];
    for (d, (start, len)) in x.dims.iter().zip(ranges) {
        places = places
            .iter()
            .flat_map(|p| (0..*len).map(move |i| p * d + start + i))
            .collect();
    }
    take(x, ranges.iter().map(|r| r.1).collect(), &places)
}

pub(super) fn concat(node: &NodeView<'_>, parts: &[&Constant]) -> Result<Constant, ImportError> {
    let first = parts
        .first()
        .ok_or_else(|| node.malformed("nothing to join"))?;
    let axis = node.axis(node.int("axis", 0), first.dims.len())?;
    let mut dims = first.dims.clone();
    let outer: usize = dims.iter().take(axis).product();
    let same = |p: &&Constant| {
        p.dims.len() == dims.len()
            && p.dims
                .iter()
                .zip(&dims)
                .enumerate()
                .all(|(i, (a, b))| i == axis || a == b)
    };
    if !parts.iter().all(same) {
        return Err(node.malformed("inputs differ beyond the joined axis"));
    }
    let total = parts
        .iter()
        .map(|p| p.dims.get(axis).copied().unwrap_or(0))
        .sum();
    if let Some(d) = dims.get_mut(axis) {
        *d = total;
    }
    limited(&dims)?;
    let real = parts.iter().any(|p| matches!(p.values, Values::F(_)));
    let rows = |p: &Constant| p.len() / outer.max(1);
    let values = if real {
        let all: Vec<(Vec<f32>, usize)> = parts.iter().map(|p| (p.to_f32(), rows(p))).collect();
        Values::F(
            (0..outer)
                .flat_map(|o| {
                    all.iter()
                        .flat_map(move |(v, n)| v.iter().skip(o * n).take(*n).copied())
                })
                .collect(),
        )
    } else {
        let all: Vec<(Vec<i64>, usize)> = parts.iter().map(|p| (p.to_i64(), rows(p))).collect();
        Values::I(
            (0..outer)
                .flat_map(|o| {
                    all.iter()
                        .flat_map(move |(v, n)| v.iter().skip(o * n).take(*n).copied())
                })
                .collect(),
        )
    };
    Ok(Constant { dims, values })
}

type OnFloats = fn(f32, f32) -> f32;
type OnInts = fn(i64, i64) -> i64;

/// Element-wise with broadcasting. The second operand may lack values when the function ignores it.
pub(super) fn binary(
    node: &NodeView<'_>,
    a: &Constant,
    b: &Constant,
    f: Option<OnFloats>,
    g: Option<OnInts>,
) -> Result<Constant, ImportError> {
    let dims = broadcast(node, &a.dims, &b.dims)?;
    let n = limited(&dims)?;
    let (ia, ib) = (spread(&a.dims, &dims, n), spread(&b.dims, &dims, n));
    let values = match (&a.values, &b.values, f, g) {
        (Values::I(x), Values::I(y), _, Some(g)) => Values::I(
            ia.iter()
                .zip(&ib)
                .map(|(i, j)| {
                    g(
                        x.get(*i).copied().unwrap_or(0),
                        y.get(*j).copied().unwrap_or(0),
                    )
                })
                .collect(),
        ),
        (_, _, Some(f), _) => {
            let (x, y) = (a.to_f32(), b.to_f32());
            Values::F(
                ia.iter()
                    .zip(&ib)
                    .map(|(i, j)| {
                        f(
                            x.get(*i).copied().unwrap_or(0.0),
                            y.get(*j).copied().unwrap_or(0.0),
                        )
                    })
                    .collect(),
            )
        }
        _ => {
            let (x, y) = (a.to_f32(), b.to_f32());
            let compare = |i: &usize, j: &usize| {
                let (x, y) = (
                    x.get(*i).copied().unwrap_or(0.0),
                    y.get(*j).copied().unwrap_or(0.0),
                );
                // comparisons of reals go through integers of their order
                let order = if x < y { -1 } else { i64::from(x > y) };
                g.map_or(0, |g| g(order, 0))
            };
            Values::I(ia.iter().zip(&ib).map(|(i, j)| compare(i, j)).collect())
        }
    };
    Ok(Constant { dims, values })
}

/// For every element of `dims`, the index of the element of `from` that is stretched onto it.
fn spread(from: &[usize], dims: &[usize], n: usize) -> Vec<usize> {
    let offset = dims.len().saturating_sub(from.len());
    let mut index = vec![0usize];
    index.reserve(n);
    for (i, d) in dims.iter().enumerate() {
        let own = i
            .checked_sub(offset)
            .and_then(|j| from.get(j).copied())
            .unwrap_or(1);
        index = index
            .iter()
            .flat_map(|p| (0..*d).map(move |k| p * own + if own == 1 { 0 } else { k }))
            .collect();
    }
    index
}

pub(super) fn unary(x: &Constant, f: fn(f32) -> f32, g: fn(i64) -> i64) -> Constant {
    let values = match &x.values {
        Values::F(v) => Values::F(v.iter().map(|v| f(*v)).collect()),
        Values::I(v) => Values::I(v.iter().map(|v| g(*v)).collect()),
    };
    Constant {
        dims: x.dims.clone(),
        values,
    }
}

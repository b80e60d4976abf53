//! Evaluates operators whose inputs are all constants: shape arithmetic and prepared weights.

use super::{
    attributes::NodeView,
    tensor::{Constant, MAX_FOLDED, Values, count},
};
use crate::{error::ImportError, float, net::transpose};

/// The node's outputs, or `None` when this operator is not folded here.
///
/// # Errors
/// [`ImportError::Malformed`] when arguments do not fit, [`ImportError::Limit`] when the result would be too large.
pub fn fold(node: &NodeView<'_>, inputs: &[Option<&Constant>]) -> Result<Option<Vec<Constant>>, ImportError> {
    let arg = |i: usize| inputs.get(i).copied().flatten();
    let need = |i: usize| arg(i).ok_or_else(|| node.malformed(format!("input {i} is missing")));
    let one = |c: Constant| Ok(Some(vec![c]));
    match node.op().as_str() {
        "Identity" | "Dropout" => one(need(0)?.clone()),
        "Cast" => {
            let x = need(0)?;
            let real = matches!(node.int("to", 1), 1 | 10 | 11 | 16);
            let values = if real { Values::F(x.to_f32()) } else { Values::I(x.to_i64()) };
            one(Constant { dims: x.dims.clone(), values })
        }
        "Shape" => one(shape(node, &need(0)?.dims)?),
        "Size" => one(Constant::ints(vec![], vec![need(0)?.len() as i64])),
        "Reshape" | "Flatten" | "Squeeze" | "Unsqueeze" => {
            let x = need(0)?;
            let dims = new_dims(node, &x.dims, arg(1))?;
            one(Constant { dims, values: x.values.clone() })
        }
        "Transpose" => {
            let x = need(0)?;
            let perm = permutation(node, x.dims.len())?;
            let dims = perm.iter().map(|p| x.dims.get(*p).copied().unwrap_or(1)).collect();
            let values = match &x.values {
                Values::F(v) => Values::F(transpose(v, &x.dims, &perm)),
                Values::I(v) => Values::I(transpose(v, &x.dims, &perm)),
            };
            one(Constant { dims, values })
        }
        "Gather" => one(gather(node, need(0)?, need(1)?)?),
        "Slice" => {
            let x = need(0)?;
            one(slice(node, x, &slice_ranges(node, &x.dims, &[arg(1), arg(2), arg(3), arg(4)])?))
        }
        "Concat" => one(concat(node, &inputs.iter().map(|c| c.ok_or_else(|| node.malformed("a missing input"))).collect::<Result<Vec<_>, _>>()?)?),
        "ConstantOfShape" => {
            let dims = target_dims(node, need(0)?)?;
            let n = limited(&dims)?;
            let fill = node.tensor("value").map(|t| Constant::decode(t, None)).transpose()?;
            one(match fill.as_ref().map(|c| &c.values) {
                Some(Values::I(v)) => Constant::ints(dims, vec![v.first().copied().unwrap_or(0); n]),
                Some(Values::F(v)) => Constant::floats(dims, vec![v.first().copied().unwrap_or(0.0); n]),
                None => Constant::floats(dims, vec![0.0; n]),
            })
        }
        "Expand" => {
            let x = need(0)?;
            let dims = broadcast(node, &x.dims, &target_dims(node, need(1)?)?)?;
            one(binary(node, x, &Constant { dims, values: Values::I(Vec::new()) }, Some(|a, _| a), Some(|a, _| a))?)
        }
        "Range" => {
            let (a, b, s) = (need(0)?.to_i64(), need(1)?.to_i64(), need(2)?.to_i64());
            let ([a], [b], [s]) = (a.as_slice(), b.as_slice(), s.as_slice()) else { return Err(node.malformed("start, limit and step must be scalars")) };
            if *s == 0 {
                return Err(node.malformed("step is 0"));
            }
            let n = (i128::from(*b) - i128::from(*a) + i128::from(*s) - i128::from(s.signum())) / i128::from(*s);
            let n = u64::try_from(n.max(0)).unwrap_or(u64::MAX);
            ImportError::check("elements of a Range", n, MAX_FOLDED)?;
            one(Constant::ints(vec![n as usize], (0..n as i64).map(|i| a.wrapping_add(i.wrapping_mul(*s))).collect()))
        }
        "Where" => {
            let (c, x, y) = (need(0)?, need(1)?, need(2)?);
            let dims = broadcast(node, &broadcast(node, &c.dims, &x.dims)?, &y.dims)?;
            let spread = |t: &Constant| binary(node, t, &Constant { dims: dims.clone(), values: Values::I(Vec::new()) }, Some(|a, _| a), Some(|a, _| a));
            let (c, x, y) = (spread(c)?.to_i64(), spread(x)?, spread(y)?);
            let pick = |i: usize| c.get(i).is_some_and(|v| *v != 0);
            let values = match (&x.values, &y.values) {
                (Values::I(x), Values::I(y)) => Values::I(x.iter().zip(y).enumerate().map(|(i, (a, b))| if pick(i) { *a } else { *b }).collect()),
                _ => Values::F(x.to_f32().iter().zip(y.to_f32()).enumerate().map(|(i, (a, b))| if pick(i) { *a } else { b }).collect()),
            };
            one(Constant { dims, values })
        }
        "Add" => one(binary(node, need(0)?, need(1)?, Some(|a, b| a + b), Some(i64::wrapping_add))?),
        "Sub" => one(binary(node, need(0)?, need(1)?, Some(|a, b| a - b), Some(i64::wrapping_sub))?),
        "Mul" => one(binary(node, need(0)?, need(1)?, Some(|a, b| a * b), Some(i64::wrapping_mul))?),
        "Div" => one(binary(node, need(0)?, need(1)?, Some(|a, b| a / b), Some(|a, b| if b == 0 { 0 } else { a.wrapping_div(b) }))?),
        "Pow" => one(binary(node, need(0)?, need(1)?, Some(power), None)?),
        "Min" if inputs.len() == 2 => one(binary(node, need(0)?, need(1)?, Some(f32::min), Some(i64::min))?),
        "Max" if inputs.len() == 2 => one(binary(node, need(0)?, need(1)?, Some(f32::max), Some(i64::max))?),
        "Equal" => one(binary(node, need(0)?, need(1)?, None, Some(|a, b| i64::from(a == b)))?),
        "Less" => one(binary(node, need(0)?, need(1)?, None, Some(|a, b| i64::from(a < b)))?),
        "Greater" => one(binary(node, need(0)?, need(1)?, None, Some(|a, b| i64::from(a > b)))?),
        "Neg" => one(unary(need(0)?, |v| -v, i64::wrapping_neg)),
        "Sqrt" => one(unary(need(0)?, f32::sqrt, |v| (v as f64).sqrt() as i64)),
        "Floor" => one(unary(need(0)?, f32::floor, |v| v)),
        "Ceil" => one(unary(need(0)?, f32::ceil, |v| v)),
        "Not" => one(unary(need(0)?, |v| v, |v| i64::from(v == 0))),
        "Reciprocal" => one(unary(need(0)?, |v| 1.0 / v, |v| v)),
        "Exp" => one(unary(need(0)?, |v| float::exp(f64::from(v)) as f32, |v| v)),
        "ReduceProd" => {
            let x = need(0)?;
            let p = x.to_i64().iter().fold(1i64, |a, b| a.wrapping_mul(*b));
            one(Constant::ints(if node.int("keepdims", 1) == 1 { vec![1; x.dims.len()] } else { vec![] }, vec![p]))
        }
        _ => Ok(None),
    }
}

fn power(a: f32, b: f32) -> f32 {
    if b == 0.5 { a.sqrt() } else { float::exp(f64::from(b) * float::ln(f64::from(a))) as f32 }
}

/// The `Shape` of given dimensions, with its optional start and end.
pub fn shape(node: &NodeView<'_>, dims: &[usize]) -> Result<Constant, ImportError> {
    let rank = dims.len() as i64;
    let place = |v: i64| (if v < 0 { v + rank } else { v }).clamp(0, rank) as usize;
    let (start, end) = (place(node.int("start", 0)), place(node.int("end", rank)));
    let part: Vec<i64> = dims.get(start..end.max(start)).unwrap_or(&[]).iter().map(|d| *d as i64).collect();
    Ok(Constant::ints(vec![part.len()], part))
}

fn limited(dims: &[usize]) -> Result<usize, ImportError> {
    let n = count(dims);
    ImportError::check("elements of a computed constant", n, MAX_FOLDED)?;
    Ok(n as usize)
}

fn target_dims(node: &NodeView<'_>, shape: &Constant) -> Result<Vec<usize>, ImportError> {
    let dims = shape.to_i64();
    ImportError::check("dimensions", dims.len() as u64, super::tensor::MAX_RANK as u64)?;
    super::tensor::checked_dims(&dims).ok_or_else(|| node.malformed(format!("shape {dims:?}")))
}

/// Dimensions after `Reshape`, `Flatten`, `Squeeze` or `Unsqueeze`.
///
/// # Errors
/// [`ImportError::Malformed`] when the number of elements changes.
pub fn new_dims(node: &NodeView<'_>, dims: &[usize], argument: Option<&Constant>) -> Result<Vec<usize>, ImportError> {
    let axes = || node.ints("axes").map(<[i64]>::to_vec).or_else(|| argument.map(Constant::to_i64));
    let out: Vec<usize> = match node.proto.op_type.as_str() {
        "Flatten" => {
            let axis = node.int("axis", 1);
            let axis = if axis == dims.len() as i64 { dims.len() } else { node.axis(axis, dims.len().max(1))? };
            let (a, b) = dims.split_at_checked(axis).ok_or_else(|| node.malformed(format!("axis {axis}")))?;
            vec![a.iter().product(), b.iter().product()]
        }
        "Squeeze" => {
            let drop = match axes() {
                Some(axes) => axes.iter().map(|a| node.axis(*a, dims.len())).collect::<Result<Vec<_>, _>>()?,
                None => (0..dims.len()).filter(|i| dims.get(*i) == Some(&1)).collect(),
            };
            dims.iter().enumerate().filter(|(i, _)| !drop.contains(i)).map(|(_, d)| *d).collect()
        }
        "Unsqueeze" => {
            let axes = axes().ok_or_else(|| node.unsupported("axes are not constant"))?;
            let rank = dims.len() + axes.len();
            ImportError::check("dimensions", rank as u64, super::tensor::MAX_RANK as u64)?;
            let at = axes.iter().map(|a| node.axis(*a, rank)).collect::<Result<Vec<_>, _>>()?;
            let mut rest = dims.iter();
            (0..rank).map(|i| if at.contains(&i) { 1 } else { rest.next().copied().unwrap_or(1) }).collect()
        }
        _ => {
            let target = node.ints("shape").map(<[i64]>::to_vec).or_else(|| argument.map(Constant::to_i64));
            let target = target.ok_or_else(|| node.unsupported("the new shape is not constant"))?;
            reshape_dims(node, dims, &target)?
        }
    };
    if count(&out) != count(dims) {
        return Err(node.malformed(format!("{dims:?} can't become {out:?}")));
    }
    Ok(out)
}

fn reshape_dims(node: &NodeView<'_>, dims: &[usize], target: &[i64]) -> Result<Vec<usize>, ImportError> {
    ImportError::check("dimensions", target.len() as u64, super::tensor::MAX_RANK as u64)?;
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
            d => usize::try_from(d).ok().filter(|d| *d <= 1 << 31).ok_or_else(|| node.malformed(format!("shape {target:?}")))?,
        });
    }
    if let Some(slot) = open.and_then(|i| out.get(i).map(|_| i)) {
        let known = count(&out);
        if known == 0 || total % known != 0 {
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
    let perm = node.sizes("perm")?.unwrap_or_else(|| (0..rank).rev().collect());
    let mut seen = perm.clone();
    seen.sort_unstable();
    if seen.iter().copied().eq(0..rank) { Ok(perm) } else { Err(node.malformed(format!("perm {perm:?} of {rank} dimensions"))) }
}

fn gather(node: &NodeView<'_>, x: &Constant, index: &Constant) -> Result<Constant, ImportError> {
    let axis = node.axis(node.int("axis", 0), x.dims.len())?;
    let n = x.dims.get(axis).copied().unwrap_or(1);
    let inner: usize = x.dims.iter().skip(axis + 1).product();
    let outer: usize = x.dims.iter().take(axis).product();
    let picks = index
        .to_i64()
        .iter()
        .map(|i| node.axis(*i, n).map_err(|_| node.malformed(format!("index {i} of {n}"))))
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

/// Start and length of each axis of a `Slice` with step 1.
pub fn slice_ranges(node: &NodeView<'_>, dims: &[usize], args: &[Option<&Constant>; 4]) -> Result<Vec<(usize, usize)>, ImportError> {
    let [starts, ends, axes, steps] = args.map(|a| a.map(Constant::to_i64));
    let starts = starts.or_else(|| node.ints("starts").map(<[i64]>::to_vec)).ok_or_else(|| node.unsupported("starts are not constant"))?;
    let ends = ends.or_else(|| node.ints("ends").map(<[i64]>::to_vec)).ok_or_else(|| node.unsupported("ends are not constant"))?;
    let axes = axes.or_else(|| node.ints("axes").map(<[i64]>::to_vec)).unwrap_or_else(|| (0..starts.len() as i64).collect());
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

fn slice(node: &NodeView<'_>, x: &Constant, ranges: &[(usize, usize)]) -> Constant {
    let _ = node;
    let mut places = vec![0usize];
    for (d, (start, len)) in x.dims.iter().zip(ranges) {
        places = places.iter().flat_map(|p| (0..*len).map(move |i| p * d + start + i)).collect();
    }
    take(x, ranges.iter().map(|r| r.1).collect(), &places)
}

fn concat(node: &NodeView<'_>, parts: &[&Constant]) -> Result<Constant, ImportError> {
    let first = parts.first().ok_or_else(|| node.malformed("nothing to join"))?;
    let axis = node.axis(node.int("axis", 0), first.dims.len())?;
    let mut dims = first.dims.clone();
    let outer: usize = dims.iter().take(axis).product();
    let same = |p: &&Constant| p.dims.len() == dims.len() && p.dims.iter().zip(&dims).enumerate().all(|(i, (a, b))| i == axis || a == b);
    if !parts.iter().all(same) {
        return Err(node.malformed("inputs differ beyond the joined axis"));
    }
    let total = parts.iter().map(|p| p.dims.get(axis).copied().unwrap_or(0)).sum();
    if let Some(d) = dims.get_mut(axis) {
        *d = total;
    }
    limited(&dims)?;
    let real = parts.iter().any(|p| matches!(p.values, Values::F(_)));
    let rows = |p: &Constant| p.len() / outer.max(1);
    let values = if real {
        let all: Vec<(Vec<f32>, usize)> = parts.iter().map(|p| (p.to_f32(), rows(p))).collect();
        Values::F((0..outer).flat_map(|o| all.iter().flat_map(move |(v, n)| v.iter().skip(o * n).take(*n).copied())).collect())
    } else {
        let all: Vec<(Vec<i64>, usize)> = parts.iter().map(|p| (p.to_i64(), rows(p))).collect();
        Values::I((0..outer).flat_map(|o| all.iter().flat_map(move |(v, n)| v.iter().skip(o * n).take(*n).copied())).collect())
    };
    Ok(Constant { dims, values })
}

/// Dimensions of two shapes stretched to each other.
pub fn broadcast(node: &NodeView<'_>, a: &[usize], b: &[usize]) -> Result<Vec<usize>, ImportError> {
    let rank = a.len().max(b.len());
    (0..rank)
        .map(|i| {
            let at = |d: &[usize]| (i + d.len()).checked_sub(rank).and_then(|j| d.get(j).copied()).unwrap_or(1);
            match (at(a), at(b)) {
                (x, y) if x == y => Ok(x),
                (1, y) => Ok(y),
                (x, 1) => Ok(x),
                (x, y) => Err(node.malformed(format!("dimensions {x} and {y} do not fit"))),
            }
        })
        .collect()
}

type OnFloats = fn(f32, f32) -> f32;
type OnInts = fn(i64, i64) -> i64;

/// Element-wise with broadcasting. The second operand may lack values when the function ignores it.
fn binary(node: &NodeView<'_>, a: &Constant, b: &Constant, f: Option<OnFloats>, g: Option<OnInts>) -> Result<Constant, ImportError> {
    let dims = broadcast(node, &a.dims, &b.dims)?;
    let n = limited(&dims)?;
    let (ia, ib) = (spread(&a.dims, &dims, n), spread(&b.dims, &dims, n));
    let values = match (&a.values, &b.values, f, g) {
        (Values::I(x), Values::I(y), _, Some(g)) => {
            Values::I(ia.iter().zip(&ib).map(|(i, j)| g(x.get(*i).copied().unwrap_or(0), y.get(*j).copied().unwrap_or(0))).collect())
        }
        (_, _, Some(f), _) => {
            let (x, y) = (a.to_f32(), b.to_f32());
            Values::F(ia.iter().zip(&ib).map(|(i, j)| f(x.get(*i).copied().unwrap_or(0.0), y.get(*j).copied().unwrap_or(0.0))).collect())
        }
        _ => {
            let (x, y) = (a.to_f32(), b.to_f32());
            let compare = |i: &usize, j: &usize| {
                let (x, y) = (x.get(*i).copied().unwrap_or(0.0), y.get(*j).copied().unwrap_or(0.0));
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
        let own = i.checked_sub(offset).and_then(|j| from.get(j).copied()).unwrap_or(1);
        index = index.iter().flat_map(|p| (0..*d).map(move |k| p * own + if own == 1 { 0 } else { k })).collect();
    }
    index
}

fn unary(x: &Constant, f: fn(f32) -> f32, g: fn(i64) -> i64) -> Constant {
    let values = match &x.values {
        Values::F(v) => Values::F(v.iter().map(|v| f(*v)).collect()),
        Values::I(v) => Values::I(v.iter().map(|v| g(*v)).collect()),
    };
    Constant { dims: x.dims.clone(), values }
}

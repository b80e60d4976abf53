//! Evaluates operators whose inputs are all constants: shape arithmetic and prepared weights.

mod data;
mod shapes;

use data::{binary, concat, gather, limited, slice, unary};
use shapes::target_dims;
pub use shapes::{broadcast, new_dims, permutation, shape, slice_ranges};

use super::{
    attributes::NodeView,
    tensor::{Constant, MAX_FOLDED, Values},
};
use crate::{error::ImportError, float, net::transpose};

/// The node's outputs, or `None` when this operator is not folded here.
///
/// # Errors
/// [`ImportError::Malformed`] when arguments do not fit, [`ImportError::Limit`] when the result would be too large.
pub fn fold(
    node: &NodeView<'_>,
    inputs: &[Option<&Constant>],
) -> Result<Option<Vec<Constant>>, ImportError> {
    let arg = |i: usize| inputs.get(i).copied().flatten();
    let need = |i: usize| arg(i).ok_or_else(|| node.malformed(format!("input {i} is missing")));
    let one = |c: Constant| Ok(Some(vec![c]));
    match node.op().as_str() {
        "Identity" | "Dropout" => one(need(0)?.clone()),
        "Cast" => {
            let x = need(0)?;
            let real = matches!(node.int("to", 1), 1 | 10 | 11 | 16);
            let values = if real {
                Values::F(x.to_f32())
            } else {
                Values::I(x.to_i64())
            };
            one(Constant {
                dims: x.dims.clone(),
                values,
            })
        }
        "Shape" => one(shape(node, &need(0)?.dims)?),
        "Size" => one(Constant::ints(vec![], vec![need(0)?.len() as i64])),
        "Reshape" | "Flatten" | "Squeeze" | "Unsqueeze" => {
            let x = need(0)?;
            let dims = new_dims(node, &x.dims, arg(1))?;
            one(Constant {
                dims,
                values: x.values.clone(),
            })
        }
        "Transpose" => {
            let x = need(0)?;
            let perm = permutation(node, x.dims.len())?;
            let dims = perm
                .iter()
                .map(|p| x.dims.get(*p).copied().unwrap_or(1))
                .collect();
            let values = match &x.values {
                Values::F(v) => Values::F(transpose(v, &x.dims, &perm)),
                Values::I(v) => Values::I(transpose(v, &x.dims, &perm)),
            };
            one(Constant { dims, values })
        }
        "Gather" => one(gather(node, need(0)?, need(1)?)?),
        "Slice" => {
            let x = need(0)?;
            one(slice(
                node,
                x,
                &slice_ranges(node, &x.dims, &[arg(1), arg(2), arg(3), arg(4)])?,
            ))
        }
        "Concat" => one(concat(
            node,
            &inputs
                .iter()
                .map(|c| c.ok_or_else(|| node.malformed("a missing input")))
                .collect::<Result<Vec<_>, _>>()?,
        )?),
        "ConstantOfShape" => {
            let dims = target_dims(node, need(0)?)?;
            let n = limited(&dims)?;
            let fill = node
                .tensor("value")
                .map(|t| Constant::decode(t, None))
                .transpose()?;
            one(match fill.as_ref().map(|c| &c.values) {
                Some(Values::I(v)) => {
                    Constant::ints(dims, vec![v.first().copied().unwrap_or(0); n])
                }
                Some(Values::F(v)) => {
                    Constant::floats(dims, vec![v.first().copied().unwrap_or(0.0); n])
                }
                None => Constant::floats(dims, vec![0.0; n]),
            })
        }
        "Expand" => {
            let x = need(0)?;
            let dims = broadcast(node, &x.dims, &target_dims(node, need(1)?)?)?;
            one(binary(
                node,
                x,
                &Constant {
                    dims,
                    values: Values::I(Vec::new()),
                },
                Some(|a, _| a),
                Some(|a, _| a),
            )?)
        }
        "Range" => {
            let (a, b, s) = (need(0)?.to_i64(), need(1)?.to_i64(), need(2)?.to_i64());
            let ([a], [b], [s]) = (a.as_slice(), b.as_slice(), s.as_slice()) else {
                return Err(node.malformed("start, limit and step must be scalars"));
            };
            if *s == 0 {
                return Err(node.malformed("step is 0"));
            }
            let n = (i128::from(*b) - i128::from(*a) + i128::from(*s) - i128::from(s.signum()))
                / i128::from(*s);
            let n = u64::try_from(n.max(0)).unwrap_or(u64::MAX);
            ImportError::check("elements of a Range", n, MAX_FOLDED)?;
            one(Constant::ints(
                vec![n as usize],
                (0..n as i64)
                    .map(|i| a.wrapping_add(i.wrapping_mul(*s)))
                    .collect(),
            ))
        }
        "Where" => {
            let (c, x, y) = (need(0)?, need(1)?, need(2)?);
            let dims = broadcast(node, &broadcast(node, &c.dims, &x.dims)?, &y.dims)?;
            let spread = |t: &Constant| {
                binary(
                    node,
                    t,
                    &Constant {
                        dims: dims.clone(),
                        values: Values::I(Vec::new()),
                    },
                    Some(|a, _| a),
                    Some(|a, _| a),
                )
            };
            let (c, x, y) = (spread(c)?.to_i64(), spread(x)?, spread(y)?);
            let pick = |i: usize| c.get(i).is_some_and(|v| *v != 0);
            let values = match (&x.values, &y.values) {
                (Values::I(x), Values::I(y)) => Values::I(
                    x.iter()
                        .zip(y)
                        .enumerate()
                        .map(|(i, (a, b))| if pick(i) { *a } else { *b })
                        .collect(),
                ),
                _ => Values::F(
                    x.to_f32()
                        .iter()
                        .zip(y.to_f32())
                        .enumerate()
                        .map(|(i, (a, b))| if pick(i) { *a } else { b })
                        .collect(),
                ),
            };
            one(Constant { dims, values })
        }
        "Add" => one(binary(
            node,
            need(0)?,
            need(1)?,
            Some(|a, b| a + b),
            Some(i64::wrapping_add),
        )?),
        "Sub" => one(binary(
            node,
            need(0)?,
            need(1)?,
            Some(|a, b| a - b),
            Some(i64::wrapping_sub),
        )?),
        "Mul" => one(binary(
            node,
            need(0)?,
            need(1)?,
            Some(|a, b| a * b),
            Some(i64::wrapping_mul),
        )?),
        "Div" => one(binary(
            node,
            need(0)?,
            need(1)?,
            Some(|a, b| a / b),
            Some(|a, b| if b == 0 { 0 } else { a.wrapping_div(b) }),
        )?),
        "Pow" => one(binary(node, need(0)?, need(1)?, Some(power), None)?),
        "Min" if inputs.len() == 2 => one(binary(
            node,
            need(0)?,
            need(1)?,
            Some(f32::min),
            Some(i64::min),
        )?),
        "Max" if inputs.len() == 2 => one(binary(
            node,
            need(0)?,
            need(1)?,
            Some(f32::max),
            Some(i64::max),
        )?),
        "Equal" => one(binary(
            node,
            need(0)?,
            need(1)?,
            None,
            Some(|a, b| i64::from(a == b)),
        )?),
        "Less" => one(binary(
            node,
            need(0)?,
            need(1)?,
            None,
            Some(|a, b| i64::from(a < b)),
        )?),
        "Greater" => one(binary(
            node,
            need(0)?,
            need(1)?,
            None,
            Some(|a, b| i64::from(a > b)),
        )?),
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
            one(Constant::ints(
                if node.int("keepdims", 1) == 1 {
                    vec![1; x.dims.len()]
                } else {
                    vec![]
                },
                vec![p],
            ))
        }
        _ => Ok(None),
    }
}

fn power(a: f32, b: f32) -> f32 {
    if b == 0.5 {
        a.sqrt()
    } else {
        float::exp(f64::from(b) * float::ln(f64::from(a))) as f32
    }
}

//! One operator of the file at a time.

use std::sync::Arc;

use super::{Lower, Sym, Val};
use crate::{
    error::ImportError,
    net::{Binary, Expr, Unary},
    onnx::{attributes::NodeView, fold},
};

impl Lower<'_> {
    pub(super) fn operator(&mut self, node: &NodeView<'_>) -> Result<(), ImportError> {
        let sym = match node.op().as_str() {
            "QuantizeLinear" | "DequantizeLinear" => {
                return Err(node.unsupported("quantised files; import the float one"));
            }
            "Identity" | "Dropout" | "Cast" => self.passed(node)?,
            "Conv" => Sym::Val(self.conv(node)?),
            "MaxPool" => Sym::Val(self.pool(node, true)?),
            "AveragePool" => Sym::Val(self.pool(node, false)?),
            "GlobalAveragePool" => Sym::Val(self.global_pool(node, false)?),
            "GlobalMaxPool" => Sym::Val(self.global_pool(node, true)?),
            "Pad" => self.pad(node)?,
            "MatMul" => Sym::Val(self.mat_mul(node)?),
            "Gemm" => Sym::Val(self.gemm(node)?),
            "BatchNormalization" => Sym::Val(self.batch_norm(node)?),
            "LayerNormalization" => Sym::Val(self.layer_normalization(node)?),
            "Add" => self.binary(node, Binary::Add)?,
            "Sub" => self.binary(node, Binary::Sub)?,
            "Mul" => self.binary(node, Binary::Mul)?,
            "Div" => self.binary(node, Binary::Div)?,
            "Pow" => self.binary(node, Binary::Pow)?,
            "Min" if node.proto.input.len() == 2 => self.binary(node, Binary::Min)?,
            "Max" if node.proto.input.len() == 2 => self.binary(node, Binary::Max)?,
            "Clip" => self.clip(node)?,
            "HardSwish" => self.compose(node, |x| {
                Expr::binary(
                    Binary::Mul,
                    x.clone(),
                    x.unary(Unary::HardSigmoid(1.0 / 6.0, 0.5))?,
                )
            })?,
            "PRelu" => {
                let slope = self
                    .weights(node, 1)?
                    .scalar()
                    .ok_or_else(|| node.unsupported("one slope per channel"))?;
                self.unary(node, Unary::Leaky(slope))?
            }
            "ReduceMean" => self.reduce(node, true)?,
            "ReduceSum" => self.reduce(node, false)?,
            "Softmax" => Sym::Val(self.softmax(node)?),
            "ArgMax" => Sym::Val(self.arg_max(node)?),
            "Gather" => Sym::Val(self.gather(node)?),
            "Concat" => self.concat(node)?,
            "Slice" => Sym::Val(self.slice(node)?),
            "Split" => return self.split(node),
            "Shape" => Sym::Const(Arc::new(self.shape_of(node)?)),
            "Expand" => {
                let x = self.operand(node, 0)?;
                let target = self
                    .constant(node, 1)
                    .ok_or_else(|| node.unsupported("the shape is not constant"))?
                    .to_i64();
                let target = crate::onnx::tensor::checked_dims(&target)
                    .ok_or_else(|| node.malformed(format!("shape {target:?}")))?;
                if fold::broadcast(node, &x.dims, &target)? != x.dims {
                    return Err(node.unsupported(format!("{:?} would grow to {target:?}", x.dims)));
                }
                Sym::Val(x)
            }
            "Reshape" | "Flatten" | "Squeeze" | "Unsqueeze" => {
                let x = self.operand(node, 0)?;
                let dims = fold::new_dims(node, &x.dims, self.constant(node, 1).as_deref())?;
                Sym::Val(self.reshaped(node, &x, dims)?)
            }
            "Transpose" => {
                let v = self.operand(node, 0)?;
                let x = self.unflatten(&v)?;
                let perm = fold::permutation(node, x.dims.len())?;
                let dims = perm
                    .iter()
                    .map(|p| x.dims.get(*p).copied().unwrap_or(1))
                    .collect();
                let order = x
                    .order
                    .iter()
                    .filter_map(|a| perm.iter().position(|p| p == a))
                    .collect();
                Sym::Val(Val {
                    dims,
                    order,
                    exclusive: x.exclusive && self.single(node),
                    ..x
                })
            }
            "ai.onnx.ml.Scaler" => Sym::Val(self.scaler(node)?),
            "ai.onnx.ml.LinearClassifier" => {
                let scores = self.linear_model(node)?;
                self.set(node, 1, Sym::Val(scores));
                return Ok(());
            }
            "ai.onnx.ml.LinearRegressor" => Sym::Val(self.linear_model(node)?),
            "ai.onnx.ml.Normalizer" => {
                let x = self.operand(node, 0)?;
                let sums_to_one = matches!(
                    self.net.nodes.get(x.node).map(|n| &n.op),
                    Some(crate::net::NetOp::Softmax)
                );
                if node.text("norm", "MAX") != "L1" || !sums_to_one {
                    return Err(
                        node.unsupported("only L1 after a softmax, where it changes nothing")
                    );
                }
                Sym::Val(x)
            }
            op => match activation(node, op) {
                Some(f) => self.unary(node, f)?,
                None => return Err(node.unsupported("no integer form is known")),
            },
        };
        self.set(node, 0, sym);
        Ok(())
    }

    fn passed(&self, node: &NodeView<'_>) -> Result<Sym, ImportError> {
        if node.op() == "Cast" && !matches!(node.int("to", 1), 1 | 6 | 7 | 10 | 11) {
            return Err(node.unsupported(format!(
                "cast of a computed tensor to element type {}",
                node.int("to", 1)
            )));
        }
        let single = self.single(node);
        Ok(match self.sym(node, 0)? {
            Sym::Val(v) => Sym::Val(Val {
                exclusive: v.exclusive && single,
                ..v
            }),
            other => other,
        })
    }

    fn clip(&mut self, node: &NodeView<'_>) -> Result<Sym, ImportError> {
        let limit = |lower: &Self, i: usize, name: &str, open: f64| -> Result<f64, ImportError> {
            match node.input(i) {
                Some(_) => lower
                    .constant(node, i)
                    .and_then(|c| c.scalar())
                    .ok_or_else(|| node.unsupported(format!("{name} is not a constant number"))),
                None => Ok(node.float(name, open as f32)),
            }
        };
        let (lo, hi) = (
            limit(self, 1, "min", f64::from(f32::MIN))?,
            limit(self, 2, "max", f64::from(f32::MAX))?,
        );
        self.compose(node, |x| {
            Expr::binary(
                Binary::Min,
                Expr::binary(Binary::Max, x, Expr::constant(lo))?,
                Expr::constant(hi),
            )
        })
    }

    fn batch_norm(&mut self, node: &NodeView<'_>) -> Result<Val, ImportError> {
        let x = self.operand(node, 0)?;
        let [gain, bias, mean, var] =
            [1, 2, 3, 4].map(|i| self.weights(node, i).map(|c| c.to_f32()));
        let (gain, bias, mean, var) = (gain?, bias?, mean?, var?);
        let n = x.dims.get(1).copied().unwrap_or(0);
        if [gain.len(), bias.len(), mean.len(), var.len()]
            .iter()
            .any(|l| *l != n)
            || node.int("training_mode", 0) != 0
        {
            return Err(node.malformed(format!(
                "{} parameters for {n} channels, or training mode",
                gain.len()
            )));
        }
        let eps = node.float("epsilon", 1e-5);
        let scale: Vec<f32> = gain
            .iter()
            .zip(&var)
            .map(|(g, v)| (f64::from(*g) / (f64::from(*v) + eps).sqrt()) as f32)
            .collect();
        if scale.iter().any(|s| !s.is_finite()) {
            return Err(node.malformed("a variance is negative"));
        }
        let shift = bias
            .iter()
            .zip(mean.iter().zip(&scale))
            .map(|(b, (m, s))| b - m * s)
            .collect();
        self.channels(node, &x, 1, scale, shift)
    }

    fn layer_normalization(&mut self, node: &NodeView<'_>) -> Result<Val, ImportError> {
        let x = self.operand(node, 0)?;
        let axis = node.axis(node.int("axis", -1), x.dims.len())?;
        if axis + 1 != x.dims.len() {
            return Err(node.unsupported("only over the last axis"));
        }
        let n = x.dims.get(axis).copied().unwrap_or(1);
        let gain = self.weights(node, 1)?.to_f32();
        let bias = if node.input(2).is_some() {
            self.weights(node, 2)?.to_f32()
        } else {
            vec![0.0; n]
        };
        if gain.len() != n || bias.len() != n {
            return Err(node.malformed(format!(
                "{} gains and {} biases for {n} channels",
                gain.len(),
                bias.len()
            )));
        }
        self.layer_norm(node, &x, gain, bias, node.float("epsilon", 1e-5))
    }

    fn slice(&mut self, node: &NodeView<'_>) -> Result<Val, ImportError> {
        let mut x = self.operand(node, 0)?;
        let args = [1, 2, 3, 4].map(|i| self.constant(node, i));
        let ranges = fold::slice_ranges(
            node,
            &x.dims,
            &[
                args[0].as_deref(),
                args[1].as_deref(),
                args[2].as_deref(),
                args[3].as_deref(),
            ],
        )?;
        for (axis, (start, len)) in ranges.into_iter().enumerate() {
            x = self.slice_axis(node, &x, axis, start, len)?;
        }
        Ok(Val {
            exclusive: x.exclusive && self.single(node),
            ..x
        })
    }

    fn split(&mut self, node: &NodeView<'_>) -> Result<(), ImportError> {
        let x = self.operand(node, 0)?;
        let axis = node.axis(node.int("axis", 0), x.dims.len())?;
        let n = x.dims.get(axis).copied().unwrap_or(0);
        let parts = node.proto.output.len().max(1);
        let sizes = match self
            .constant(node, 1)
            .map(|c| c.to_i64())
            .or_else(|| node.ints("split").map(<[i64]>::to_vec))
        {
            Some(s) => crate::onnx::tensor::checked_dims(&s)
                .ok_or_else(|| node.malformed(format!("split {s:?}")))?,
            None => {
                let each = n.div_ceil(parts);
                (0..parts)
                    .map(|i| each.min(n.saturating_sub(i * each)))
                    .collect()
            }
        };
        if sizes.iter().fold(0usize, |a, b| a.saturating_add(*b)) != n || sizes.len() != parts {
            return Err(node.malformed(format!("split {sizes:?} of {n}")));
        }
        let mut start = 0;
        for (i, len) in sizes.into_iter().enumerate() {
            let part = self.slice_axis(node, &x, axis, start, len)?;
            self.set(
                node,
                i,
                Sym::Val(Val {
                    exclusive: false,
                    ..part
                }),
            );
            start += len;
        }
        Ok(())
    }

    fn scaler(&mut self, node: &NodeView<'_>) -> Result<Val, ImportError> {
        let x = self.operand(node, 0)?;
        let axis = x.dims.len().saturating_sub(1);
        let n = x.dims.get(axis).copied().unwrap_or(1);
        let (offset, scale) = (
            node.floats("offset").unwrap_or(&[]),
            node.floats("scale").unwrap_or(&[]),
        );
        let spread = |v: &[f32]| {
            if v.len() == 1 {
                vec![v.first().copied().unwrap_or(0.0); n]
            } else {
                v.to_vec()
            }
        };
        let (offset, scale) = (spread(offset), spread(scale));
        if offset.len() != n
            || scale.len() != n
            || offset.iter().chain(&scale).any(|v| !v.is_finite())
        {
            return Err(node.malformed(format!(
                "{} offsets and {} factors for {n} columns",
                offset.len(),
                scale.len()
            )));
        }
        let shift = offset.iter().zip(&scale).map(|(o, s)| -o * s).collect();
        self.channels(node, &x, axis, scale, shift)
    }
}

/// Activation functions by operator name.
fn activation(node: &NodeView<'_>, op: &str) -> Option<Unary> {
    Some(match op {
        "Relu" => Unary::Relu,
        "LeakyRelu" => Unary::Leaky(node.float("alpha", 0.01)),
        "Elu" => Unary::Elu(node.float("alpha", 1.0)),
        "Sigmoid" => Unary::Sigmoid,
        "HardSigmoid" => Unary::HardSigmoid(node.float("alpha", 0.2), node.float("beta", 0.5)),
        "Tanh" => Unary::Tanh,
        "Erf" => Unary::Erf,
        "Gelu" if node.text("approximate", "none") == "tanh" => Unary::GeluTanh,
        "Gelu" => Unary::Gelu,
        "Exp" => Unary::Exp,
        "Log" => Unary::Log,
        "Sqrt" => Unary::Sqrt,
        "Abs" => Unary::Abs,
        "Neg" => Unary::Neg,
        "Reciprocal" => Unary::Reciprocal,
        "Softplus" => Unary::Softplus,
        _ => return None,
    })
}

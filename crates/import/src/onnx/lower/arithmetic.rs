//! Element-wise operators: functions of one variable, constants per channel, residual sums.

use super::{Lower, NormPart, Sym, Val, finite};
use crate::{
    error::ImportError,
    net::{Binary, Expr, NetOp, Unary},
    onnx::{attributes::NodeView, fold::broadcast, tensor::Constant},
};

impl Lower<'_> {
    /// A value with its function, if it is one.
    fn function(&self, sym: &Sym) -> Option<(Val, Expr)> {
        match sym {
            Sym::Val(v) => Some((v.clone(), Expr::x())),
            Sym::Expr(v, f) => Some((v.clone(), f.clone())),
            _ => None,
        }
    }

    /// Applies a function of one variable to the first input.
    pub(super) fn unary(&mut self, node: &NodeView<'_>, f: Unary) -> Result<Sym, ImportError> {
        let sym = match self.sym(node, 0)? {
            sym @ (Sym::Val(_) | Sym::Expr(..)) => sym,
            Sym::Norm(base, NormPart::Shifted(eps)) if f == Unary::Sqrt => {
                return Ok(Sym::Norm(base, NormPart::Deviation(eps)));
            }
            Sym::Norm(base, NormPart::Mean) if f == Unary::Neg => {
                return Ok(Sym::Norm(base, NormPart::Opposite));
            }
            Sym::Norm(base, NormPart::Deviation(eps)) if f == Unary::Reciprocal => {
                return Ok(Sym::Norm(base, NormPart::Inverse(eps)));
            }
            _ => Sym::Val(self.operand(node, 0)?),
        };
        let (base, inner) = self
            .function(&sym)
            .ok_or_else(|| node.unsupported("its input"))?;
        let f = inner
            .unary(f)
            .ok_or_else(|| node.unsupported("the function of one variable has too many steps"))?;
        Ok(Sym::Expr(base, f))
    }

    /// `f(input, constant)` built by the caller from the input's function.
    pub(super) fn compose(
        &mut self,
        node: &NodeView<'_>,
        f: impl FnOnce(Expr) -> Option<Expr>,
    ) -> Result<Sym, ImportError> {
        let sym = match self.sym(node, 0)? {
            sym @ (Sym::Val(_) | Sym::Expr(..)) => sym,
            _ => Sym::Val(self.operand(node, 0)?),
        };
        let (base, inner) = self
            .function(&sym)
            .ok_or_else(|| node.unsupported("its input"))?;
        Ok(Sym::Expr(
            base,
            f(inner).ok_or_else(|| {
                node.unsupported("the function of one variable has too many steps")
            })?,
        ))
    }

    pub(super) fn binary(&mut self, node: &NodeView<'_>, f: Binary) -> Result<Sym, ImportError> {
        let (a, b) = (self.sym(node, 0)?, self.sym(node, 1)?);
        if let Some(sym) = self.norm_part(node, f, &a, &b)? {
            return Ok(sym);
        }
        match (&a, &b) {
            (_, Sym::Const(c)) => self.with_constant(node, f, 0, c, false),
            (Sym::Const(c), _) => self.with_constant(node, f, 1, c, true),
            _ => self.of_two(node, f, a, b),
        }
    }

    /// Both operands are computed.
    fn of_two(
        &mut self,
        node: &NodeView<'_>,
        f: Binary,
        a: Sym,
        b: Sym,
    ) -> Result<Sym, ImportError> {
        if let (Some((x, fx)), Some((y, fy))) = (self.function(&a), self.function(&b))
            && x.node == y.node
            && x.dims == y.dims
            && x.order == y.order
        {
            let g = Expr::binary(f, fx, fy).ok_or_else(|| {
                node.unsupported("the function of one variable has too many steps")
            })?;
            return Ok(Sym::Expr(x, g));
        }
        if !matches!(f, Binary::Add | Binary::Sub) {
            return Err(
                node.unsupported("both operands are computed, and not from the same tensor")
            );
        }
        let (a, mut b) = (self.operand(node, 0)?, self.operand(node, 1)?);
        if f == Binary::Sub {
            let minus = Expr::x()
                .unary(Unary::Neg)
                .ok_or_else(|| node.unsupported("subtraction"))?;
            b = self.materialise(node.name(), &b, &minus)?;
        }
        let (a, b) = (self.unflatten(&a)?, self.unflatten(&b)?);
        let dims = broadcast(node, &a.dims, &b.dims)?;
        let (na, nb): (usize, usize) = (a.dims.iter().product(), b.dims.iter().product());
        if na != nb || a.dims.len() != b.dims.len() {
            return Err(node.unsupported(format!("sum of {:?} and {:?}", a.dims, b.dims)));
        }
        let inputs = vec![a.node, self.stored(&b, &a.order)?];
        Ok(Sym::Val(self.make(
            node,
            NetOp::Add,
            inputs,
            dims,
            a.order,
        )?))
    }

    /// One operand (`at` is the computed one) is constant; `first` says that the constant stands first.
    fn with_constant(
        &mut self,
        node: &NodeView<'_>,
        f: Binary,
        at: usize,
        c: &Constant,
        first: bool,
    ) -> Result<Sym, ImportError> {
        finite(node, c)?;
        let values = c.to_f32();
        let uniform = values
            .first()
            .filter(|v| values.iter().all(|x| x == *v))
            .copied();
        let sym = match self.sym(node, at)? {
            sym @ (Sym::Val(_) | Sym::Expr(..)) => sym,
            _ => Sym::Val(self.operand(node, at)?),
        };
        let (base, inner) = self
            .function(&sym)
            .ok_or_else(|| node.unsupported("its input"))?;
        if broadcast(node, &base.dims, &c.dims)?
            .iter()
            .product::<usize>()
            != base.dims.iter().product::<usize>()
        {
            return Err(node.unsupported(format!(
                "a constant of {:?} would stretch {:?}",
                c.dims, base.dims
            )));
        }
        if let Some(v) = uniform {
            let v = f64::from(v);
            if matches!((f, first), (Binary::Add, _) | (Binary::Sub, false)) && v == 0.0
                || matches!((f, first), (Binary::Mul, _) | (Binary::Div, false)) && v == 1.0
            {
                return Ok(sym);
            }
            let k = Expr::constant(v);
            let g = if first {
                Expr::binary(f, k, inner)
            } else {
                Expr::binary(f, inner, k)
            };
            let g = g.ok_or_else(|| {
                node.unsupported("the function of one variable has too many steps")
            })?;
            if let (Sym::Val(_), Some((scale, shift))) = (&sym, g.affine()) {
                let scales = vec![scale as f32; base.stored().last().copied().unwrap_or(1)];
                let shifts = vec![shift as f32; scales.len()];
                if scale != 0.0 && self.fold_channels(&base, &scales, &shifts) {
                    return Ok(Sym::Val(Val {
                        exclusive: self.single(node),
                        ..base
                    }));
                }
            }
            return Ok(Sym::Expr(base, g));
        }
        let value = self.operand(node, at)?;
        let (scale, shift): (Option<Vec<f32>>, Option<Vec<f32>>) = match (f, first) {
            (Binary::Add, _) => (None, Some(values)),
            (Binary::Sub, false) => (None, Some(values.iter().map(|v| -v).collect())),
            (Binary::Mul, _) => (Some(values), None),
            (Binary::Div, false) if !values.contains(&0.0) => {
                (Some(values.iter().map(|v| 1.0 / v).collect()), None)
            }
            _ => return Err(node.unsupported("a constant with different values here")),
        };
        // axes of the constant, counted in the tensor's dimensions
        let offset = value.dims.len().saturating_sub(c.dims.len());
        let axes: Vec<usize> = (0..c.dims.len())
            .filter(|i| c.dims.get(*i) != Some(&1))
            .map(|i| i + offset)
            .collect();
        match (axes.as_slice(), scale, shift) {
            (&[axis], scale, shift) => {
                let n = value.dims.get(axis).copied().unwrap_or(1);
                let scale = scale.unwrap_or_else(|| vec![1.0; n]);
                let shift = shift.unwrap_or_else(|| vec![0.0; n]);
                Ok(Sym::Val(self.channels(node, &value, axis, scale, shift)?))
            }
            (_, None, Some(shift)) => Ok(Sym::Val(self.add_rows(
                node,
                &value,
                &Constant::floats(c.dims.clone(), shift),
                offset,
            )?)),
            _ => Err(node.unsupported("a factor that differs along more than one axis")),
        }
    }

    /// `x · scale + shift` along one axis of the file.
    pub(super) fn channels(
        &mut self,
        node: &NodeView<'_>,
        x: &Val,
        axis: usize,
        scale: Vec<f32>,
        shift: Vec<f32>,
    ) -> Result<Val, ImportError> {
        if x.order.last() == Some(&axis)
            && x.flat_of.is_none()
            && self.fold_channels(x, &scale, &shift)
        {
            return Ok(Val {
                exclusive: self.single(node),
                ..x.clone()
            });
        }
        let order = self.last_axes(x, &[axis]);
        let input = self.stored(x, &order)?;
        self.make(
            node,
            NetOp::Channel { scale, bias: shift },
            vec![input],
            x.dims.clone(),
            order,
        )
    }

    /// Moves factors and offsets of the last stored axis into the weights of the node that makes `x`, if nobody else reads it.
    fn fold_channels(&mut self, x: &Val, scale: &[f32], shift: &[f32]) -> bool {
        if !x.exclusive {
            return false;
        }
        let Some(node) = self.net.nodes.get_mut(x.node) else {
            return false;
        };
        match &mut node.op {
            NetOp::Linear { weight, bias, .. } | NetOp::Conv { weight, bias, .. }
                if bias.len() == scale.len() =>
            {
                let row = weight.len() / bias.len().max(1);
                for ((w, b), (s, t)) in weight
                    .chunks_exact_mut(row.max(1))
                    .zip(bias)
                    .zip(scale.iter().zip(shift))
                {
                    w.iter_mut().for_each(|w| *w *= s);
                    *b = *b * s + t;
                }
                true
            }
            NetOp::LayerNorm { gain, bias, .. } | NetOp::Channel { scale: gain, bias }
                if bias.len() == scale.len() =>
            {
                for ((g, b), (s, t)) in gain.iter_mut().zip(bias).zip(scale.iter().zip(shift)) {
                    *g *= s;
                    *b = *b * s + t;
                }
                true
            }
            _ => false,
        }
    }

    /// Adds a constant that differs along several axes.
    fn add_rows(
        &mut self,
        node: &NodeView<'_>,
        x: &Val,
        c: &Constant,
        offset: usize,
    ) -> Result<Val, ImportError> {
        let x = self.unflatten(x)?;
        let dim = |a: usize| x.dims.get(a).copied().unwrap_or(1);
        let own = |a: usize| {
            a.checked_sub(offset)
                .and_then(|i| c.dims.get(i).copied())
                .unwrap_or(1)
        };
        let from = x
            .order
            .iter()
            .position(|a| own(*a) != 1)
            .unwrap_or(0)
            .min(x.order.len().saturating_sub(2));
        let (outer, inner) = x.order.split_at(from);
        let cols = inner.last().map_or(1, |a| dim(*a));
        let total: usize = inner.iter().map(|a| dim(*a)).product();
        ImportError::check(
            &format!("elements added by `{}`", node.name()),
            total as u64,
            1 << 24,
        )?;
        // the constant in stored order, stretched over the inner axes
        let strides: Vec<usize> = (0..c.dims.len())
            .map(|i| c.dims.iter().skip(i + 1).product())
            .collect();
        let mut index = vec![0usize];
        for a in inner {
            let stride = if own(*a) == 1 {
                0
            } else {
                a.checked_sub(offset)
                    .and_then(|i| strides.get(i).copied())
                    .unwrap_or(0)
            };
            index = index
                .iter()
                .flat_map(|base| (0..dim(*a)).map(move |i| base + i * stride))
                .collect();
        }
        let values = c.to_f32();
        let rows: Vec<f32> = index
            .iter()
            .map(|i| values.get(*i).copied().unwrap_or(0.0))
            .collect();
        let mut dims: Vec<usize> = outer.iter().map(|a| dim(*a)).collect();
        dims.extend([total / cols.max(1), cols]);
        let stored = x.stored();
        let mut input = x.node;
        if dims != stored {
            input = self.push(node.name(), NetOp::Reshape, vec![input], dims.clone())?;
        }
        let mut out = self.push(
            node.name(),
            NetOp::AddRows { rows },
            vec![input],
            dims.clone(),
        )?;
        if dims != stored {
            out = self.push(node.name(), NetOp::Reshape, vec![out], stored)?;
        }
        Ok(Val {
            exclusive: false,
            ..x.with_node(out)
        })
    }

    /// A function of one variable as a node: nothing, a scale, a clamp or a table.
    pub(super) fn materialise(
        &mut self,
        name: &str,
        base: &Val,
        f: &Expr,
    ) -> Result<Val, ImportError> {
        let op = match (f.affine(), f.clamp()) {
            (Some((a, b)), _) if a == 1.0 && b == 0.0 => return Ok(base.clone()),
            (Some((a, b)), _) if b == 0.0 && a > 0.0 => NetOp::Scale(a),
            (_, Some((lo, hi))) if lo <= hi => NetOp::Clamp { lo, hi },
            _ => NetOp::Map(f.clone()),
        };
        let dims = base.stored();
        let node = self.push(name, op, vec![base.node], dims)?;
        Ok(base.with_node(node))
    }
}

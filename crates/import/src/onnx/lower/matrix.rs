//! MatMul, Gemm and the linear models of the `ai.onnx.ml` domain.

use super::{Lower, Sym, Val, finite, layout::plain};
use crate::{
    error::ImportError,
    net::NetOp,
    onnx::{attributes::NodeView, tensor::Constant},
};

impl Lower<'_> {
    /// `y = W x + b` over the last file axis; `weight` is `[rows, cols]`.
    pub(super) fn linear(
        &mut self,
        node: &NodeView<'_>,
        x: &Val,
        mut weight: Vec<f32>,
        bias: Vec<f32>,
        cols: usize,
    ) -> Result<Val, ImportError> {
        let axis = x
            .dims
            .len()
            .checked_sub(1)
            .ok_or_else(|| node.malformed("a scalar operand"))?;
        if x.dims.get(axis) != Some(&cols)
            || cols == 0
            || weight.len() != cols * bias.len()
            || bias.is_empty()
        {
            return Err(node.malformed(format!(
                "{} weights of {cols} columns and {} rows for an input of {:?}",
                weight.len(),
                bias.len(),
                x.dims
            )));
        }
        let mut dims = x.dims.clone();
        if let Some(d) = dims.get_mut(axis) {
            *d = bias.len();
        }
        let (input, order) = match &x.flat_of {
            // flattened from another order: the columns move instead of the data
            Some(source) => {
                let place = flat_index(&source.dims, &source.order);
                for row in weight.chunks_exact_mut(cols) {
                    let moved: Vec<f32> = place
                        .iter()
                        .map(|p| row.get(*p).copied().unwrap_or(0.0))
                        .collect();
                    row.copy_from_slice(&moved);
                }
                (
                    self.push(node.name(), NetOp::Reshape, vec![source.node], vec![cols])?,
                    vec![axis],
                )
            }
            None => {
                let order = self.last_axes(x, &[axis]);
                (self.stored(x, &order)?, order)
            }
        };
        self.make(
            node,
            NetOp::Linear { weight, bias, cols },
            vec![input],
            dims,
            order,
        )
    }

    pub(super) fn mat_mul(&mut self, node: &NodeView<'_>) -> Result<Val, ImportError> {
        if let Some(b) = self.constant(node, 1) {
            finite(node, &b)?;
            let x = self.operand(node, 0)?;
            let (&[k, n] | &[1, k, n]) = b.dims.as_slice() else {
                return Err(node.unsupported(format!("constant of dimensions {:?}", b.dims)));
            };
            return self.linear(node, &x, transposed(&b.to_f32(), k, n), vec![0.0; n], k);
        }
        let (a, b) = (self.operand(node, 0)?, self.operand(node, 1)?);
        let rank = a.dims.len();
        if rank < 2 || b.dims.len() != rank || a.dims.get(..rank - 2) != b.dims.get(..rank - 2) {
            return Err(node.unsupported(format!("operands of {:?} and {:?}", a.dims, b.dims)));
        }
        let (&[m, k], &[k2, n]) = (
            a.dims.get(rank - 2..).unwrap_or(&[]),
            b.dims.get(rank - 2..).unwrap_or(&[]),
        ) else {
            return Err(node.malformed("operands need two dimensions"));
        };
        if k != k2 {
            return Err(node.malformed(format!("operands of {:?} and {:?}", a.dims, b.dims)));
        }
        let batch: Vec<usize> = (0..rank - 2)
            .filter(|i| a.dims.get(*i) != Some(&1))
            .collect();
        let order =
            |x: usize, y: usize| -> Vec<usize> { batch.iter().copied().chain([x, y]).collect() };
        let inputs = vec![
            self.stored(&a, &order(rank - 2, rank - 1))?,
            self.stored(&b, &order(rank - 1, rank - 2))?,
        ];
        let mut dims = a.dims.clone();
        dims.truncate(rank - 2);
        dims.extend([m, n]);
        self.make(node, NetOp::MatMul, inputs, dims, order(rank - 2, rank - 1))
    }

    pub(super) fn gemm(&mut self, node: &NodeView<'_>) -> Result<Val, ImportError> {
        let x = self.operand(node, 0)?;
        let b = self.weights(node, 1)?;
        let &[rows, cols] = b.dims.as_slice() else {
            return Err(node.malformed(format!("weights of {:?}", b.dims)));
        };
        if node.int("transA", 0) != 0 || x.dims.len() != 2 {
            return Err(node.unsupported("the first operand must be a matrix, not transposed"));
        }
        let (alpha, beta) = (
            node.float("alpha", 1.0) as f32,
            node.float("beta", 1.0) as f32,
        );
        let (mut weight, n, k) = if node.int("transB", 0) != 0 {
            (b.to_f32(), rows, cols)
        } else {
            (transposed(&b.to_f32(), rows, cols), cols, rows)
        };
        weight.iter_mut().for_each(|w| *w *= alpha);
        let bias = match node.input(2) {
            None => vec![0.0; n],
            Some(_) => {
                let c = self.weights(node, 2)?;
                let c = c.to_f32();
                match c.len() {
                    1 => vec![c.first().copied().unwrap_or(0.0) * beta; n],
                    len if len == n => c.iter().map(|v| v * beta).collect(),
                    len => return Err(node.malformed(format!("bias of {len} values for {n} rows"))),
                }
            }
        };
        self.linear(node, &x, weight, bias, k)
    }

    /// `LinearClassifier` and `LinearRegressor`; returns the scores (the label is their arg max).
    pub(super) fn linear_model(&mut self, node: &NodeView<'_>) -> Result<Val, ImportError> {
        let x = self.operand(node, 0)?;
        let cols = x.dims.last().copied().unwrap_or(0);
        let coefficients = node
            .floats("coefficients")
            .ok_or_else(|| node.malformed("no coefficients"))?;
        if cols == 0
            || coefficients.is_empty()
            || coefficients.len() % cols != 0
            || coefficients.iter().any(|c| !c.is_finite())
        {
            return Err(node.malformed(format!(
                "{} coefficients for {cols} columns",
                coefficients.len()
            )));
        }
        let rows = coefficients.len() / cols;
        let mut bias = node.floats("intercepts").unwrap_or(&[]).to_vec();
        if bias.iter().any(|b| !b.is_finite()) {
            return Err(node.malformed("an intercept is not finite"));
        }
        bias.resize(rows, 0.0);
        let mut weight = coefficients.to_vec();
        match node.text("post_transform", "NONE") {
            "NONE" => self.linear(node, &x, weight, bias, cols),
            "SOFTMAX" => {
                let scores = self.linear(node, &x, weight, bias, cols)?;
                self.softmax_of(node, &scores)
            }
            "LOGISTIC" if rows == 2 && mirrored(&weight, &bias) => {
                // logistic(z), logistic(-z) = softmax(z/2, -z/2)
                weight
                    .iter_mut()
                    .chain(bias.iter_mut())
                    .for_each(|w| *w /= 2.0);
                let scores = self.linear(node, &x, weight, bias, cols)?;
                self.softmax_of(node, &scores)
            }
            other => Err(node.unsupported(format!("post_transform {other} with {rows} rows"))),
        }
    }

    pub(super) fn softmax_of(&mut self, node: &NodeView<'_>, x: &Val) -> Result<Val, ImportError> {
        let x = self.unflatten(x)?;
        let order = self.last_axes(&x, &[x.dims.len().saturating_sub(1)]);
        let input = self.stored(&x, &order)?;
        self.make(node, NetOp::Softmax, vec![input], x.dims, order)
    }

    /// `Gather`: embedding rows by ids, or a constant place of an axis.
    pub(super) fn gather(&mut self, node: &NodeView<'_>) -> Result<Val, ImportError> {
        if let Some(rows) = self.constant(node, 0) {
            finite(node, &rows)?;
            let ids = self.operand(node, 1)?;
            let (&[_, width], 0) = (rows.dims.as_slice(), node.int("axis", 0)) else {
                return Err(node.unsupported(format!(
                    "a table of {:?} read along axis {}",
                    rows.dims,
                    node.int("axis", 0)
                )));
            };
            if !self.net.ids || ids.node != 0 {
                return Err(node.unsupported("only the model's input can be ids"));
            }
            let ids = self.arranged(&ids, plain(&ids.dims))?;
            let mut dims = ids.dims.clone();
            dims.push(width);
            let mut order = ids.order.clone();
            order.push(ids.dims.len());
            return self.make(
                node,
                NetOp::Embedding {
                    rows: rows.to_f32(),
                    width,
                },
                vec![ids.node],
                dims,
                order,
            );
        }
        let x = self.operand(node, 0)?;
        let index = self
            .constant(node, 1)
            .ok_or_else(|| node.unsupported("indices are neither constant nor the input's ids"))?;
        let axis = node.axis(node.int("axis", 0), x.dims.len())?;
        let n = x.dims.get(axis).copied().unwrap_or(1);
        let picks = index
            .to_i64()
            .iter()
            .map(|i| node.axis(*i, n))
            .collect::<Result<Vec<_>, _>>()?;
        let (Some(first), true) = (
            picks.first().copied(),
            picks.windows(2).all(|w| matches!(w, [a, b] if a + 1 == *b)),
        ) else {
            return Err(node.unsupported("indices are not consecutive"));
        };
        let part = self.slice_axis(node, &x, axis, first, picks.len())?;
        let mut dims = part.dims.clone();
        match index.dims.len() {
            0 => drop(dims.remove(axis)),
            1 => {}
            _ => return Err(node.unsupported(format!("indices of {:?}", index.dims))),
        }
        self.reshaped(node, &part, dims)
    }

    pub(super) fn slice_axis(
        &mut self,
        node: &NodeView<'_>,
        x: &Val,
        axis: usize,
        start: usize,
        len: usize,
    ) -> Result<Val, ImportError> {
        let x = self.unflatten(x)?;
        if x.dims.get(axis) == Some(&len) {
            return Ok(x);
        }
        if len == 0 {
            return Err(node.unsupported("an empty slice"));
        }
        let at = x
            .order
            .iter()
            .position(|a| *a == axis)
            .ok_or_else(|| node.malformed(format!("axis {axis} has one element")))?;
        let mut dims = x.dims.clone();
        if let Some(d) = dims.get_mut(axis) {
            *d = len;
        }
        self.make(
            node,
            NetOp::Slice { axis: at, start },
            vec![x.node],
            dims,
            x.order,
        )
    }

    pub(super) fn concat(&mut self, node: &NodeView<'_>) -> Result<Sym, ImportError> {
        let mut parts = Vec::new();
        for i in 0..node.proto.input.len() {
            let v = self.operand(node, i)?;
            parts.push(self.unflatten(&v)?);
        }
        let first = parts
            .first()
            .cloned()
            .ok_or_else(|| node.malformed("nothing to join"))?;
        let axis = node.axis(node.int("axis", 0), first.dims.len())?;
        let mut order = first.order.clone();
        if !order.contains(&axis) {
            order.insert(0, axis);
        }
        let mut dims = first.dims.clone();
        let mut total = 0;
        let mut inputs = Vec::new();
        for p in &parts {
            let fits = p.dims.len() == dims.len()
                && p.dims
                    .iter()
                    .zip(&first.dims)
                    .enumerate()
                    .all(|(i, (a, b))| i == axis || a == b);
            if !fits {
                return Err(node.malformed(format!(
                    "{:?} and {:?} differ beyond axis {axis}",
                    p.dims, first.dims
                )));
            }
            total += p.dims.get(axis).copied().unwrap_or(0);
            inputs.push(self.stored(p, &order)?);
        }
        if let Some(d) = dims.get_mut(axis) {
            *d = total;
        }
        let at = order.iter().position(|a| *a == axis).unwrap_or(0);
        if inputs.len() == 1 {
            return Ok(Sym::Val(first));
        }
        Ok(Sym::Val(self.make(
            node,
            NetOp::Concat(at),
            inputs,
            dims,
            order,
        )?))
    }

    /// Shape of a computed tensor, as a constant.
    pub(super) fn shape_of(&self, node: &NodeView<'_>) -> Result<Constant, ImportError> {
        let dims = match self.sym(node, 0)? {
            Sym::Val(v) | Sym::Expr(v, _) => v.dims,
            Sym::Const(c) => c.dims.clone(),
            _ => return Err(node.unsupported("shape of an unfinished value")),
        };
        crate::onnx::fold::shape(node, &dims)
    }
}

/// `[k, n]` → `[n, k]`.
fn transposed(b: &[f32], k: usize, n: usize) -> Vec<f32> {
    crate::net::transpose(b, &[k, n], &[1, 0])
}

/// For each stored element, its row-major index in the file's order.
pub(in crate::onnx) fn flat_index(dims: &[usize], order: &[usize]) -> Vec<usize> {
    let mut strides = vec![1usize; dims.len()];
    for i in (0..dims.len().saturating_sub(1)).rev() {
        let next = strides.get(i + 1).copied().unwrap_or(1) * dims.get(i + 1).copied().unwrap_or(1);
        if let Some(s) = strides.get_mut(i) {
            *s = next;
        }
    }
    let mut out = vec![0usize];
    for a in order {
        let (d, s) = (
            dims.get(*a).copied().unwrap_or(1),
            strides.get(*a).copied().unwrap_or(0),
        );
        out = out
            .iter()
            .flat_map(|base| (0..d).map(move |i| base + i * s))
            .collect();
    }
    out
}

fn mirrored(weight: &[f32], bias: &[f32]) -> bool {
    let (a, b) = weight.split_at(weight.len() / 2);
    a.iter().zip(b).all(|(x, y)| *x == -y)
        && bias.first().zip(bias.get(1)).is_some_and(|(x, y)| *x == -y)
}

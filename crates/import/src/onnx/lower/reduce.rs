//! Sums, means, softmax and arg max over axes.

use super::{Lower, NormPart, Sym, Val, layout::plain};
use crate::{
    error::ImportError,
    net::NetOp,
    onnx::{attributes::NodeView, tensor::Constant},
};

impl Lower<'_> {
    fn axes(&self, node: &NodeView<'_>, rank: usize) -> Result<Vec<usize>, ImportError> {
        let given = node.ints("axes").map(<[i64]>::to_vec).or_else(|| {
            self.constant(node, 1)
                .map(|c: std::sync::Arc<Constant>| c.to_i64())
        });
        if node.input(1).is_some() && given.is_none() {
            return Err(node.unsupported("axes are not constant"));
        }
        let mut axes = match given {
            Some(a) if !a.is_empty() => a
                .iter()
                .map(|a| node.axis(*a, rank))
                .collect::<Result<Vec<_>, _>>()?,
            _ => (0..rank).collect(),
        };
        axes.sort_unstable();
        axes.dedup();
        Ok(axes)
    }

    /// `ReduceMean` and `ReduceSum`.
    pub(super) fn reduce(&mut self, node: &NodeView<'_>, mean: bool) -> Result<Sym, ImportError> {
        if let Sym::Norm(base, NormPart::Square) = self.sym(node, 0)? {
            let last = base.dims.len().saturating_sub(1);
            if mean && self.axes(node, base.dims.len())? == [last] && node.int("keepdims", 1) == 1 {
                return Ok(Sym::Norm(base, NormPart::Variance));
            }
            return Err(node.unsupported("a square that is not averaged over the last axis"));
        }
        let x = self.operand(node, 0)?;
        let axes = self.axes(node, x.dims.len())?;
        let keep = node.int("keepdims", 1) == 1;
        if mean && keep && axes == [x.dims.len() - 1] && x.dims.len() > 1 {
            return Ok(Sym::Norm(x, NormPart::Mean));
        }
        Ok(Sym::Val(self.sum_over(node, &x, &axes, keep, mean)?))
    }

    /// A mean over the last axis that turned out not to be part of a normalisation.
    pub(super) fn mean_of(&mut self, name: &str, base: &Val) -> Result<Val, ImportError> {
        let proto = super::NodeProto {
            name: name.to_owned(),
            output: vec![name.to_owned()],
            op_type: "ReduceMean".into(),
            ..Default::default()
        };
        self.sum_over(
            &NodeView { proto: &proto },
            base,
            &[base.dims.len().saturating_sub(1)],
            true,
            true,
        )
    }

    /// Sum or mean over axes of the file.
    pub(super) fn sum_over(
        &mut self,
        node: &NodeView<'_>,
        x: &Val,
        axes: &[usize],
        keep: bool,
        mean: bool,
    ) -> Result<Val, ImportError> {
        let n: usize = axes
            .iter()
            .map(|a| x.dims.get(*a).copied().unwrap_or(1))
            .product();
        let kept: Vec<usize> = x
            .dims
            .iter()
            .enumerate()
            .map(|(i, d)| if axes.contains(&i) { 1 } else { *d })
            .collect();
        let x = self.unflatten(x)?;
        let wide: Vec<usize> = axes
            .iter()
            .copied()
            .filter(|a| x.dims.get(*a) != Some(&1))
            .collect();
        let order = self.last_axes(&x, &wide);
        let rest: Vec<usize> = order
            .iter()
            .copied()
            .filter(|a| !wide.contains(a))
            .collect();
        let node_id = if wide.is_empty() {
            x.node
        } else {
            let mut input = self.stored(&x, &order)?;
            let mut dims: Vec<usize> = rest
                .iter()
                .map(|a| x.dims.get(*a).copied().unwrap_or(1))
                .collect();
            if wide.len() > 1 {
                let mut merged = dims.clone();
                merged.push(n);
                input = self.push(node.name(), NetOp::Reshape, vec![input], merged)?;
            }
            if dims.is_empty() {
                // a sum over everything keeps one axis of one element
                dims = vec![1];
                input = self.push(node.name(), NetOp::Reshape, vec![input], vec![1, n])?;
            }
            self.push(node.name(), NetOp::ReduceSum, vec![input], dims)?
        };
        let scaled = if mean && n > 1 {
            let dims = self
                .net
                .nodes
                .get(node_id)
                .map(|n| n.dims.clone())
                .unwrap_or_default();
            self.push(
                node.name(),
                NetOp::Scale(1.0 / n as f64),
                vec![node_id],
                dims,
            )?
        } else {
            node_id
        };
        let order = if rest.is_empty() {
            vec![axes.first().copied().unwrap_or(0)]
        } else {
            rest
        };
        let value = Val {
            node: scaled,
            dims: kept.clone(),
            order,
            exclusive: false,
            flat_of: None,
        };
        if keep {
            return Ok(value);
        }
        let dims: Vec<usize> = kept
            .iter()
            .enumerate()
            .filter(|(i, _)| !axes.contains(i))
            .map(|(_, d)| *d)
            .collect();
        self.reshaped(node, &value, dims)
    }

    /// `GlobalAveragePool`: the pool operator where the window fits, else a sum.
    pub(super) fn global_pool(
        &mut self,
        node: &NodeView<'_>,
        max: bool,
    ) -> Result<Val, ImportError> {
        let x = self.operand(node, 0)?;
        let &[1, c, h, w] = x.dims.as_slice() else {
            if max {
                return Err(node.unsupported(format!("input of {:?}", x.dims)));
            }
            let axes: Vec<usize> = (2..x.dims.len()).collect();
            return self.sum_over(node, &x, &axes, true, true);
        };
        if let (Ok(kh), Ok(kw)) = (u8::try_from(h), u8::try_from(w)) {
            let window = assay_graph::Window {
                kernel: [kh, kw],
                stride: [1, 1],
                pad: [0; 4],
            };
            let input = self.stored(&x, &[2, 3, 1])?;
            let op = if max {
                NetOp::MaxPool(window)
            } else {
                NetOp::AvgPool(window)
            };
            return self.make(node, op, vec![input], vec![1, c, 1, 1], vec![2, 3, 1]);
        }
        if max {
            Err(node.unsupported(format!("input of {:?}", x.dims)))
        } else {
            self.sum_over(node, &x, &[2, 3], true, true)
        }
    }

    pub(super) fn softmax(&mut self, node: &NodeView<'_>) -> Result<Val, ImportError> {
        let x = self.operand(node, 0)?;
        let rank = x.dims.len();
        let axis = node.axis(node.int("axis", if self.opset < 13 { 1 } else { -1 }), rank)?;
        if axis + 1 != rank && (self.opset >= 13 || x.dims.iter().skip(axis + 1).any(|d| *d != 1)) {
            return Err(node.unsupported(format!("axis {axis} of {rank}, only the last")));
        }
        self.softmax_of(node, &x)
    }

    pub(super) fn arg_max(&mut self, node: &NodeView<'_>) -> Result<Val, ImportError> {
        let x = self.operand(node, 0)?;
        let axis = node.axis(node.int("axis", 0), x.dims.len())?;
        if node.int("select_last_index", 0) != 0 {
            return Err(node.unsupported("select_last_index"));
        }
        let order = self.last_axes(&x, &[axis]);
        let input = self.stored(&x, &order)?;
        let mut dims = x.dims.clone();
        if let Some(d) = dims.get_mut(axis) {
            *d = 1;
        }
        let mut rest: Vec<usize> = order.iter().copied().filter(|a| *a != axis).collect();
        let mut input = input;
        if rest.is_empty() {
            let n = x.dims.get(axis).copied().unwrap_or(1);
            input = self.push(node.name(), NetOp::Reshape, vec![input], vec![1, n])?;
            rest = vec![axis];
        }
        let y = self.make(node, NetOp::ArgMax, vec![input], dims.clone(), rest)?;
        if node.int("keepdims", 1) == 1 {
            return Ok(y);
        }
        dims.remove(axis);
        if dims.is_empty() {
            Ok(Val {
                order: plain(&[1]),
                dims: vec![1],
                ..y
            })
        } else {
            self.reshaped(node, &y, dims)
        }
    }
}

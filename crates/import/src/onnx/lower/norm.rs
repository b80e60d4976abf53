//! Layer normalisation: the operator, and the ways in which exporters spell it out.

use std::sync::Arc;

use super::{Lower, NormPart, Sym, Val, finite};
use crate::{
    error::ImportError,
    net::{Binary, NetOp},
    onnx::{attributes::NodeView, tensor::Constant},
};

impl Lower<'_> {
    /// The steps of a spelled-out layer normalisation.
    pub(super) fn norm_part(
        &mut self,
        node: &NodeView<'_>,
        f: Binary,
        a: &Sym,
        b: &Sym,
    ) -> Result<Option<Sym>, ImportError> {
        let scalar = |s: &Sym| {
            if let Sym::Const(c) = s {
                c.scalar()
            } else {
                None
            }
        };
        let same = |x: &Val, y: &Val| x.node == y.node && x.dims == y.dims;
        Ok(match (f, a, b) {
            (Binary::Sub, Sym::Val(x), Sym::Norm(m, NormPart::Mean)) if same(x, m) => {
                Some(Sym::Norm(m.clone(), NormPart::Centred))
            }
            (Binary::Mul, Sym::Norm(x, NormPart::Centred), Sym::Norm(y, NormPart::Centred))
                if same(x, y) =>
            {
                Some(Sym::Norm(x.clone(), NormPart::Square))
            }
            (Binary::Pow, Sym::Norm(x, NormPart::Centred), c) if scalar(c) == Some(2.0) => {
                Some(Sym::Norm(x.clone(), NormPart::Square))
            }
            (Binary::Add, Sym::Norm(x, NormPart::Variance), c)
            | (Binary::Add, c, Sym::Norm(x, NormPart::Variance)) => {
                let eps = scalar(c)
                    .filter(|e| (0.0..=1.0).contains(e))
                    .ok_or_else(|| {
                        node.unsupported("what is added to a variance must be a number from 0 to 1")
                    })?;
                Some(Sym::Norm(x.clone(), NormPart::Shifted(eps)))
            }
            (Binary::Pow, Sym::Norm(x, NormPart::Shifted(eps)), c) if scalar(c) == Some(0.5) => {
                Some(Sym::Norm(x.clone(), NormPart::Deviation(*eps)))
            }
            (Binary::Pow, Sym::Norm(x, NormPart::Shifted(eps)), c) if scalar(c) == Some(-0.5) => {
                Some(Sym::Norm(x.clone(), NormPart::Inverse(*eps)))
            }
            (Binary::Div, c, Sym::Norm(x, NormPart::Deviation(eps))) if scalar(c) == Some(1.0) => {
                Some(Sym::Norm(x.clone(), NormPart::Inverse(*eps)))
            }
            (
                Binary::Div,
                Sym::Norm(x, NormPart::Centred),
                Sym::Norm(y, NormPart::Deviation(eps)),
            )
            | (
                Binary::Mul,
                Sym::Norm(x, NormPart::Centred),
                Sym::Norm(y, NormPart::Inverse(eps)),
            )
            | (
                Binary::Mul,
                Sym::Norm(y, NormPart::Inverse(eps)),
                Sym::Norm(x, NormPart::Centred),
            ) if same(x, y) => {
                let n = x.dims.last().copied().unwrap_or(1);
                let (x, eps) = (x.clone(), *eps);
                Some(Sym::Val(self.layer_norm(
                    node,
                    &x,
                    vec![1.0; n],
                    vec![0.0; n],
                    eps,
                )?))
            }
            _ => return self.folded_norm(node, f, a, b),
        })
    }

    /// The form `x * (gain / deviation) + (bias - mean * (gain / deviation))`, as TensorFlow writes it.
    fn folded_norm(
        &mut self,
        node: &NodeView<'_>,
        f: Binary,
        a: &Sym,
        b: &Sym,
    ) -> Result<Option<Sym>, ImportError> {
        let same = |x: &Val, y: &Val| x.node == y.node && x.dims == y.dims;
        let vector = |c: &Constant, x: &Val| -> Option<Arc<Vec<f32>>> {
            let n = x.dims.last().copied().unwrap_or(1);
            let values = c.to_f32();
            match values.as_slice() {
                [v] => Some(Arc::new(vec![*v; n])),
                v if v.len() == n && c.dims.last() == Some(&n) => Some(Arc::new(values)),
                _ => None,
            }
        };
        let zero = |g: &Arc<Vec<f32>>| Arc::new(vec![0.0; g.len()]);
        let by = |v: &Arc<Vec<f32>>, k: f32| Arc::new(v.iter().map(|x| x * k).collect::<Vec<_>>());
        Ok(match (f, a, b) {
            (Binary::Mul, Sym::Norm(x, NormPart::Inverse(eps)), Sym::Const(c))
            | (Binary::Mul, Sym::Const(c), Sym::Norm(x, NormPart::Inverse(eps))) => {
                finite(node, c)?;
                vector(c, x).map(|g| Sym::Norm(x.clone(), NormPart::Gained(*eps, g)))
            }
            (
                Binary::Mul,
                Sym::Norm(x, NormPart::Mean | NormPart::Opposite),
                Sym::Norm(y, NormPart::Gained(eps, g)),
            )
            | (
                Binary::Mul,
                Sym::Norm(y, NormPart::Gained(eps, g)),
                Sym::Norm(x, NormPart::Mean | NormPart::Opposite),
            ) if same(x, y) => {
                // the mean itself, not yet subtracted, counts with a negative gain
                let mean = |s: &Sym| matches!(s, Sym::Norm(_, NormPart::Mean));
                let g = if mean(a) || mean(b) {
                    by(g, -1.0)
                } else {
                    g.clone()
                };
                Some(Sym::Norm(
                    x.clone(),
                    NormPart::Offset(*eps, g.clone(), zero(&g)),
                ))
            }
            (Binary::Mul, Sym::Val(x), Sym::Norm(y, NormPart::Gained(eps, g)))
            | (Binary::Mul, Sym::Norm(y, NormPart::Gained(eps, g)), Sym::Val(x))
                if same(x, y) =>
            {
                Some(Sym::Norm(x.clone(), NormPart::Scaled(*eps, g.clone())))
            }
            (Binary::Sub, Sym::Const(c), Sym::Norm(x, NormPart::Offset(eps, g, _))) => {
                finite(node, c)?;
                vector(c, x)
                    .map(|bias| Sym::Norm(x.clone(), NormPart::Offset(*eps, by(g, -1.0), bias)))
            }
            (Binary::Add, Sym::Const(c), Sym::Norm(x, NormPart::Offset(eps, g, _)))
            | (Binary::Add, Sym::Norm(x, NormPart::Offset(eps, g, _)), Sym::Const(c)) => {
                finite(node, c)?;
                vector(c, x)
                    .map(|bias| Sym::Norm(x.clone(), NormPart::Offset(*eps, g.clone(), bias)))
            }
            (
                Binary::Add,
                Sym::Norm(x, NormPart::Scaled(eps, g)),
                Sym::Norm(y, NormPart::Offset(_, h, bias)),
            )
            | (
                Binary::Add,
                Sym::Norm(y, NormPart::Offset(_, h, bias)),
                Sym::Norm(x, NormPart::Scaled(eps, g)),
            ) if same(x, y) && g == h => {
                let (x, g, bias, eps) = (x.clone(), g.to_vec(), bias.to_vec(), *eps);
                Some(Sym::Val(self.layer_norm(node, &x, g, bias, eps)?))
            }
            _ => None,
        })
    }

    pub(super) fn layer_norm(
        &mut self,
        node: &NodeView<'_>,
        x: &Val,
        gain: Vec<f32>,
        bias: Vec<f32>,
        eps: f64,
    ) -> Result<Val, ImportError> {
        let order = self.last_axes(x, &[x.dims.len().saturating_sub(1)]);
        let input = self.stored(x, &order)?;
        self.make(
            node,
            NetOp::LayerNorm { gain, bias, eps },
            vec![input],
            x.dims.clone(),
            order,
        )
    }
}

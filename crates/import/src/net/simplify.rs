//! Rewrites that change nothing a run returns: constants per channel move into neighbouring weights, unread nodes go.

use super::{Net, NetOp};

impl Net {
    /// Folds [`NetOp::Channel`] into the linear layer or convolution that alone reads it, then drops unread nodes.
    pub fn simplify(&mut self) {
        let consumers = self.consumers();
        for i in 0..self.nodes.len() {
            let (Some(&[reader]), false) = (
                consumers.get(i).map(Vec::as_slice),
                i + 1 == self.nodes.len(),
            ) else {
                continue;
            };
            let Some(NetOp::Channel { scale, bias }) = self.nodes.get(i).map(|n| n.op.clone())
            else {
                continue;
            };
            let Some(source) = self.nodes.get(i).and_then(|n| n.inputs.first().copied()) else {
                continue;
            };
            if let Some(node) = self.nodes.get_mut(reader)
                && absorb(&mut node.op, &scale, &bias)
            {
                node.inputs = vec![source];
            }
        }
        self.drop_unread();
    }

    fn drop_unread(&mut self) {
        let Some(last) = self.nodes.len().checked_sub(1) else {
            return;
        };
        let mut keep = vec![false; self.nodes.len()];
        let mut stack = vec![last];
        while let Some(i) = stack.pop() {
            if let Some(k) = keep.get_mut(i)
                && !*k
            {
                *k = true;
                stack.extend(
                    self.nodes
                        .get(i)
                        .into_iter()
                        .flat_map(|n| n.inputs.iter().copied()),
                );
            }
        }
        if let Some(first) = keep.first_mut() {
            *first = true;
        }
        let mut place = Vec::with_capacity(keep.len());
        let mut next = 0;
        for k in &keep {
            place.push(next);
            next += usize::from(*k);
        }
        let old = std::mem::take(&mut self.nodes);
        for (mut node, k) in old.into_iter().zip(keep) {
            if k {
                for i in &mut node.inputs {
                    *i = place.get(*i).copied().unwrap_or(0);
                }
                self.nodes.push(node);
            }
        }
    }
}

fn absorb(op: &mut NetOp, scale: &[f32], shift: &[f32]) -> bool {
    match op {
        NetOp::Linear { weight, bias, cols } if *cols == scale.len() => {
            for (row, b) in weight.chunks_exact_mut(*cols).zip(bias) {
                for (w, (s, t)) in row.iter_mut().zip(scale.iter().zip(shift)) {
                    *b += *w * t;
                    *w *= s;
                }
            }
            true
        }
        // a convolution with padding reads zeros outside the image, which an offset would not reach
        NetOp::Conv {
            weight,
            bias,
            window,
            groups: 1,
        } if window.pad == [0; 4] || shift.iter().all(|b| *b == 0.0) => {
            let patch = weight.len() / bias.len().max(1);
            for (row, b) in weight.chunks_exact_mut(patch.max(1)).zip(bias) {
                for cell in row.chunks_exact_mut(scale.len().max(1)) {
                    for (w, (s, t)) in cell.iter_mut().zip(scale.iter().zip(shift)) {
                        *b += *w * t;
                        *w *= s;
                    }
                }
            }
            true
        }
        _ => false,
    }
}

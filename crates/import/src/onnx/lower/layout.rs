//! Orders of axes: where the file's layout and the graph's differ, and what to do about it.

use super::{Lower, Val};
use crate::{error::ImportError, net::NetOp, onnx::attributes::NodeView};

/// The order of a tensor stored as the file has it, without the batch axis.
pub(super) fn plain(dims: &[usize]) -> Vec<usize> {
    let from = usize::from(dims.len() > 1 && dims.first() == Some(&1));
    (from..dims.len()).collect()
}

fn wide(dims: &[usize], order: &[usize]) -> Vec<usize> {
    order
        .iter()
        .copied()
        .filter(|a| dims.get(*a) != Some(&1))
        .collect()
}

fn at(dims: &[usize], order: &[usize]) -> Vec<usize> {
    order
        .iter()
        .map(|a| dims.get(*a).copied().unwrap_or(1))
        .collect()
}

impl Val {
    /// The same tensor in another node of equal dimensions.
    pub(super) fn with_node(&self, node: usize) -> Self {
        let flat_of = self.flat_of.as_ref().map(|v| Box::new(v.with_node(node)));
        Self {
            node,
            flat_of,
            ..self.clone()
        }
    }

    /// Dimensions as stored.
    pub(super) fn stored(&self) -> Vec<usize> {
        match &self.flat_of {
            Some(v) => v.stored(),
            None => at(&self.dims, &self.order),
        }
    }
}

impl Lower<'_> {
    /// The network node that holds `v` in the given order of file axes (axes of one element may be listed or not).
    pub(super) fn stored(&mut self, v: &Val, want: &[usize]) -> Result<usize, ImportError> {
        let v = self.unflatten(v)?;
        if v.order == want {
            return Ok(v.node);
        }
        let name = self.name_of(&v);
        let (have, need) = (wide(&v.dims, &v.order), wide(&v.dims, want));
        let mut node = v.node;
        if have != need {
            let dims = at(&v.dims, &have);
            if have.len() != v.order.len() {
                node = self.push(&name, NetOp::Reshape, vec![node], dims)?;
            }
            let perm: Vec<usize> = need
                .iter()
                .filter_map(|a| have.iter().position(|h| h == a))
                .collect();
            node = self.push(
                &name,
                NetOp::Transpose(perm),
                vec![node],
                at(&v.dims, &need),
            )?;
        }
        let target = at(&v.dims, want);
        if self.net.nodes.get(node).map(|n| &n.dims) != Some(&target) {
            node = self.push(&name, NetOp::Reshape, vec![node], target)?;
        }
        Ok(node)
    }

    /// `v` stored in `want` order, as a value.
    pub(super) fn arranged(&mut self, v: &Val, want: Vec<usize>) -> Result<Val, ImportError> {
        let node = self.stored(v, &want)?;
        Ok(Val {
            node,
            dims: v.dims.clone(),
            order: want,
            exclusive: v.exclusive && node == v.node,
            flat_of: None,
        })
    }

    /// Ends a pending flattening by moving the elements into the file's order.
    pub(super) fn unflatten(&mut self, v: &Val) -> Result<Val, ImportError> {
        let Some(source) = &v.flat_of else {
            return Ok(v.clone());
        };
        let node = self.stored(source, &(0..source.dims.len()).collect::<Vec<_>>())?;
        let name = self.name_of(v);
        let node = self.push(&name, NetOp::Reshape, vec![node], at(&v.dims, &v.order))?;
        Ok(Val {
            node,
            flat_of: None,
            exclusive: false,
            ..v.clone()
        })
    }

    /// `v` without stored axes of one element (at least one axis stays).
    pub(super) fn drop_ones(&mut self, v: &Val) -> Result<Val, ImportError> {
        let v = self.unflatten(v)?;
        let mut order = wide(&v.dims, &v.order);
        if order.is_empty() {
            order.extend(v.order.last());
        }
        let node = self.stored(&v, &order)?;
        Ok(Val {
            node,
            order,
            flat_of: None,
            ..v
        })
    }

    /// Order of `v` with the given axes last, in the given sequence.
    pub(super) fn last_axes(&self, v: &Val, axes: &[usize]) -> Vec<usize> {
        let order = if v.flat_of.is_some() {
            plain(&v.dims)
        } else {
            v.order.clone()
        };
        order
            .into_iter()
            .filter(|a| !axes.contains(a))
            .chain(axes.iter().copied())
            .collect()
    }

    /// New file dimensions, same elements in the file's order.
    pub(super) fn reshaped(
        &mut self,
        node: &NodeView<'_>,
        v: &Val,
        dims: Vec<usize>,
    ) -> Result<Val, ImportError> {
        let exclusive = v.exclusive && self.single(node);
        if v.dims == dims {
            return Ok(Val {
                exclusive,
                ..v.clone()
            });
        }
        let axes = |d: &[usize]| -> Vec<usize> {
            (0..d.len()).filter(|a| d.get(*a) != Some(&1)).collect()
        };
        let (old, new) = (axes(&v.dims), axes(&dims));
        if v.flat_of.is_some() && old.len() == 1 && new.len() == 1 {
            return Ok(Val {
                order: new,
                dims,
                exclusive,
                ..v.clone()
            });
        }
        let v = self.unflatten(v)?;
        if at(&v.dims, &old) == at(&dims, &new) && !old.is_empty() {
            // only axes of one element come or go
            let v = self.drop_ones(&v)?;
            let order = v
                .order
                .iter()
                .filter_map(|a| old.iter().position(|o| o == a))
                .filter_map(|i| new.get(i).copied())
                .collect();
            return Ok(Val {
                dims,
                order,
                exclusive,
                ..v
            });
        }
        let have = wide(&v.dims, &v.order);
        let ascending = have.windows(2).all(|w| matches!(w, [a, b] if a < b));
        if !ascending && new.len() == 1 {
            return Ok(Val {
                node: v.node,
                order: new,
                dims,
                exclusive,
                flat_of: Some(Box::new(v)),
            });
        }
        let source = self.stored(
            &v,
            &have
                .iter()
                .copied()
                .collect::<std::collections::BTreeSet<_>>()
                .into_iter()
                .collect::<Vec<_>>(),
        )?;
        let order = if new.is_empty() { plain(&dims) } else { new };
        let id = self.push(node.name(), NetOp::Reshape, vec![source], at(&dims, &order))?;
        Ok(Val {
            node: id,
            dims,
            order,
            exclusive,
            flat_of: None,
        })
    }

    pub(super) fn name_of(&self, v: &Val) -> String {
        self.net
            .nodes
            .get(v.node)
            .map_or_else(String::new, |n| n.name.clone())
    }
}

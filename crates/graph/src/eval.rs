//! Runs a whole graph by its definition: every element of every node through [`ops::element`](crate::ops::element). Slow and obviously right.

use std::borrow::Cow;

use crate::{
    consts::{Const, ConstKind},
    error::GraphError,
    node::{ConstId, Graph, NodeId},
    ops::{Place, Source, element},
    sampling::{Sampling, Statement},
    types::{DType, Data, Extent, Tensor, TensorType},
};

/// Number of positions of a run, from the input's dimensions.
///
/// # Errors
/// [`GraphError::Input`] when dimensions or element type are not the declared ones, or there are more positions than `max_seq`.
pub fn positions(
    ty: &TensorType,
    max_seq: u32,
    dims: &[usize],
    dtype: DType,
) -> Result<u32, GraphError> {
    if dtype != ty.dtype {
        return Err(GraphError::Input(format!(
            "elements are {dtype:?}, the model takes {:?}",
            ty.dtype
        )));
    }
    let mut seq = None;
    let fits = dims.len() == ty.shape.len()
        && dims.iter().zip(&ty.shape).all(|(have, want)| match want {
            crate::Dim::Fixed(n) => *have == *n as usize,
            crate::Dim::Seq => *seq.get_or_insert(*have) == *have,
            crate::Dim::Out => false,
        });
    let seq = seq.unwrap_or(1);
    if !fits {
        return Err(GraphError::Input(format!(
            "dimensions are {dims:?}, the model takes {:?}",
            ty.shape
        )));
    }
    if seq == 0 || seq > max_seq as usize {
        return Err(GraphError::Input(format!(
            "{seq} positions, the model takes 1 to {max_seq}"
        )));
    }
    Ok(seq as u32)
}

/// Checks an input tensor against the graph's declaration.
///
/// Returns the number of positions.
///
/// # Errors
/// [`GraphError::Input`], also when a value lies outside the declared range.
pub fn check_input(graph: &Graph, input: &Tensor) -> Result<u32, GraphError> {
    let ty = graph
        .input_type()
        .ok_or_else(|| GraphError::Input("the graph is empty".into()))?;
    let seq = positions(ty, graph.header().max_seq, &input.dims, input.data.dtype())?;
    if let Some((i, v)) = input
        .data
        .to_i32()
        .into_iter()
        .enumerate()
        .find(|(_, v)| *v < ty.lo || *v > ty.hi)
    {
        return Err(GraphError::Input(format!(
            "value {v} at {i} lies outside {} to {}",
            ty.lo, ty.hi
        )));
    }
    Ok(seq)
}

struct Run<'a> {
    consts: &'a [Const],
    operands: Vec<&'a [i32]>,
    statement: Option<&'a Statement>,
}

impl Source for Run<'_> {
    fn slice(
        &self,
        operand: usize,
        start: usize,
        len: usize,
    ) -> Result<Cow<'_, [i32]>, GraphError> {
        let data = self
            .operands
            .get(operand)
            .and_then(|o| o.get(start..start.checked_add(len)?));
        data.map(Cow::Borrowed)
            .ok_or_else(|| GraphError::evidence("slice outside the operand"))
    }

    fn row(&self, constant: ConstId, row: u32) -> Result<Cow<'_, [u8]>, GraphError> {
        let bytes = self.consts.get(constant as usize).and_then(|c| c.row(row));
        bytes
            .map(Cow::Borrowed)
            .ok_or_else(|| GraphError::evidence("row outside the constant"))
    }

    fn sampling(&self) -> Result<&Sampling, GraphError> {
        self.statement
            .map(|s| &s.sampling)
            .ok_or_else(|| GraphError::evidence("the run has no sampling statement"))
    }

    fn mask(&self, row: u32) -> Result<Cow<'_, [u8]>, GraphError> {
        self.statement
            .and_then(|s| s.masks.get(row as usize))
            .map(|m| Cow::Borrowed(m.as_slice()))
            .ok_or_else(|| GraphError::evidence("the run has no mask for a position"))
    }
}

/// The place of a node in a run.
pub fn place<'a>(
    nodes: &'a [crate::Node],
    types: &[TensorType],
    kinds: &'a [ConstKind],
    node: NodeId,
    extent: impl Into<Extent>,
) -> Option<Place<'a>> {
    let extent = extent.into();
    let n = nodes.get(node as usize)?;
    let operands = n
        .inputs
        .iter()
        .map(|i| types.get(*i as usize))
        .collect::<Option<Vec<_>>>()?;
    Some(Place {
        op: &n.op,
        kinds,
        operands: operands.iter().map(|t| t.dims(extent)).collect(),
        dtypes: operands.iter().map(|t| t.dtype).collect(),
        dims: types.get(node as usize)?.dims(extent),
    })
}

/// Outputs of all nodes, in order.
///
/// # Errors
/// [`GraphError::Input`] for an input outside the declaration.
pub fn run(graph: &Graph, input: &Tensor) -> Result<Vec<Tensor>, GraphError> {
    run_with(graph, input, 1, None)
}

/// Outputs of all nodes of a run whose last `out` positions answer; of a generative graph `input` holds prompt and answer (docs/graph.md, "Language models").
///
/// # Errors
/// [`GraphError::Input`] for an input outside the declaration; [`GraphError::Evidence`] when a generative graph is given no statement or too few masks.
pub fn run_with(
    graph: &Graph,
    input: &Tensor,
    out_positions: u32,
    statement: Option<&Statement>,
) -> Result<Vec<Tensor>, GraphError> {
    let seq = Extent {
        seq: check_input(graph, input)?,
        out: out_positions,
    };
    if seq.out == 0 || seq.out > seq.seq {
        return Err(GraphError::Input(format!(
            "{} positions can't answer with {} tokens",
            seq.seq, seq.out
        )));
    }
    let kinds: Vec<ConstKind> = graph.consts().iter().map(Const::kind).collect();
    let mut wide: Vec<Vec<i32>> = vec![input.data.to_i32()];
    let mut out = vec![input.clone()];
    for (i, node) in graph.nodes().iter().enumerate().skip(1) {
        let operands = node
            .inputs
            .iter()
            .filter_map(|p| wide.get(*p as usize))
            .map(Vec::as_slice)
            .collect();
        let source = Run {
            consts: graph.consts(),
            operands,
            statement,
        };
        let (Some(place), Some(ty)) = (
            place(graph.nodes(), graph.types(), &kinds, i as u32, seq),
            graph.types().get(i),
        ) else {
            return Err(GraphError::evidence("node without a type"));
        };
        let values = (0..ty.len(seq))
            .map(|e| element(&place, e, &source))
            .collect::<Result<Vec<i32>, _>>()?;
        let data = Data::from_i32(ty.dtype, &values)
            .ok_or_else(|| GraphError::evidence("value outside its type"))?;
        out.push(Tensor::new(ty.dims(seq), data)?);
        wide.push(values);
    }
    Ok(out)
}

//! TESTING ONLY: operators that lie, so that tests and demonstrations can catch them.
//!
//! Behind the feature `fault-injection`, off by default.

use std::borrow::Cow;
use std::sync::Arc;

use alloy_primitives::B256;
use assay_engine::{Engine, EngineOptions, FullRun};
use assay_graph::layout::Layout;
use assay_graph::ops::{Source, element};
use assay_graph::trace::{Family, Tree, input_commit};
use assay_graph::{
    Const, ConstId, Data, Extent, Graph, GraphError, NodeId, Sampling, Statement, Structure,
    Tensor, eval,
};

use crate::OperatorError;
use crate::model::{Execution, ModelRunner};

/// How an operator lies.
#[derive(Clone, Debug)]
pub enum Fault {
    /// Serves another graph under the registered id: same structure, other weights.
    OtherGraph(Arc<Graph>),
    /// Replaces one element of one node's output, and computes everything after it from the false value.
    FlipActivation {
        /// Node.
        node: NodeId,
        /// Row-major index in its output, taken modulo its length.
        element: usize,
        /// Bits of the value to invert, at least one of the lowest 8.
        xor: i32,
    },
    /// Changes one byte of one constant's canonical bytes.
    FlipWeight {
        /// Constant.
        constant: ConstId,
        /// Byte in its canonical bytes, taken modulo their length.
        byte: usize,
    },
    /// Runs another number of positions than the input has: cuts the input, or goes on with invented positions.
    OtherLength {
        /// Positions that are run and signed.
        positions: u32,
    },
}

/// TESTING ONLY: claims to run a registered model and runs something else.
pub struct FaultyModel {
    model_id: B256,
    registered: Structure,
    engine: Engine,
    served: Arc<Graph>,
    flip: Option<(NodeId, usize, i32)>,
    positions: Option<u32>,
}

impl FaultyModel {
    /// A lie about `graph`.
    ///
    /// # Errors
    /// [`OperatorError::Model`] when the changed graph is refused.
    pub fn new(
        graph: &Arc<Graph>,
        fault: Fault,
        options: EngineOptions,
    ) -> Result<Self, OperatorError> {
        let model_id = B256::from(graph.model_id());
        let failed = |reason: String| OperatorError::Model { model_id, reason };
        let positions = match fault {
            Fault::OtherLength { positions } => Some(positions),
            _ => None,
        };
        let (served, flip) = match fault {
            Fault::OtherLength { .. } => (Arc::clone(graph), None),
            Fault::OtherGraph(other) => (other, None),
            Fault::FlipActivation { node, element, xor } => {
                (Arc::clone(graph), Some((node, element, xor)))
            }
            Fault::FlipWeight { constant, byte } => {
                let graph = with_flipped_byte(graph, constant, byte).map_err(failed)?;
                (Arc::new(graph), None)
            }
        };
        let engine =
            Engine::new(Arc::clone(&served), options).map_err(|error| failed(error.to_string()))?;
        Ok(Self {
            model_id,
            registered: graph.structure(),
            engine,
            served,
            flip,
            positions,
        })
    }

    fn failed(&self, error: impl std::fmt::Display) -> OperatorError {
        OperatorError::Model {
            model_id: self.model_id,
            reason: error.to_string(),
        }
    }
}

impl ModelRunner for FaultyModel {
    fn model_id(&self) -> B256 {
        self.model_id
    }

    fn structure(&self) -> &Structure {
        &self.registered
    }

    fn execute(&self, input: &Tensor, salt: B256) -> Result<Execution, OperatorError> {
        let run = self.full(input)?;
        let layout = Layout::new(&self.registered, run.seq);
        let tree = run.committed_tree(&layout, &salt.0);
        // Whatever was run, the first leaf is the request's commitment; the modules check it.
        let mut leaves = tree.leaf_hashes().to_vec();
        if let Some(first) = leaves.first_mut() {
            *first = input_commit(&salt.0, &input.data.to_bytes());
        }
        let tree = Tree::new(Family::Trace, leaves);
        Ok(Execution {
            output: run
                .outputs
                .last()
                .map(|last| last.data.to_bytes())
                .unwrap_or_default(),
            trace_root: tree.root().into(),
            n_leaves: tree.leaves(),
            n_in: run.seq,
            n_out: 1,
            mask_root: B256::ZERO,
        })
    }

    fn full(&self, input: &Tensor) -> Result<FullRun, OperatorError> {
        let input = match (self.positions, self.registered.types.first()) {
            (Some(positions), Some(ty)) => {
                let mut bytes = input.data.to_bytes();
                bytes.resize(ty.len(positions) * ty.dtype.size(), 1);
                let data = Data::from_bytes(ty.dtype, &bytes).map_err(|e| self.failed(e))?;
                Cow::Owned(Tensor::new(ty.dims(positions), data).map_err(|e| self.failed(e))?)
            }
            _ => Cow::Borrowed(input),
        };
        let FullRun { outputs, seq } = self
            .engine
            .run_full(&input)
            .map_err(|error| self.failed(error))?;
        let outputs = match self.flip {
            None => outputs,
            Some(flip) => flipped(&self.served, (seq.into(), None), outputs, flip)
                .map_err(|error| self.failed(error))?,
        };
        Ok(FullRun { outputs, seq })
    }
}

fn with_flipped_byte(graph: &Graph, constant: ConstId, byte: usize) -> Result<Graph, String> {
    let mut consts = graph.consts().to_vec();
    let slot = consts
        .get_mut(constant as usize)
        .ok_or("no such constant")?;
    let mut bytes = slot.bytes().to_vec();
    let at = byte % bytes.len().max(1);
    if let Some(value) = bytes.get_mut(at) {
        *value ^= 1;
    }
    *slot =
        Const::new(slot.kind(), bytes.into()).ok_or("the changed constant has no valid form")?;
    let nodes = graph.nodes().to_vec();
    Graph::new(graph.header(), nodes, consts, &[]).map_err(|error| error.to_string())
}

struct Operands<'a> {
    graph: &'a Graph,
    statement: Option<&'a Statement>,
    wide: Vec<&'a [i32]>,
}

impl Source for Operands<'_> {
    fn slice(
        &self,
        operand: usize,
        start: usize,
        len: usize,
    ) -> Result<Cow<'_, [i32]>, GraphError> {
        let slice = self
            .wide
            .get(operand)
            .and_then(|values| values.get(start..start + len));
        slice
            .map(Cow::Borrowed)
            .ok_or_else(|| missing("slice outside the operand"))
    }

    fn row(&self, constant: ConstId, row: u32) -> Result<Cow<'_, [u8]>, GraphError> {
        let bytes = self
            .graph
            .consts()
            .get(constant as usize)
            .and_then(|constant| constant.row(row));
        bytes
            .map(Cow::Borrowed)
            .ok_or_else(|| missing("row outside the constant"))
    }

    fn sampling(&self) -> Result<&Sampling, GraphError> {
        let statement = self.statement.ok_or_else(|| missing("no statement"))?;
        Ok(&statement.sampling)
    }

    fn mask(&self, row: u32) -> Result<Cow<'_, [u8]>, GraphError> {
        let mask = self.statement.and_then(|s| s.masks.get(row as usize));
        mask.map(|mask| Cow::Borrowed(mask.as_slice()))
            .ok_or_else(|| missing("no mask"))
    }
}

fn missing(what: &str) -> GraphError {
    GraphError::Input(what.to_owned())
}

/// Honest values up to the flip; from there on everything that depends on it is computed anew by definition.
pub(crate) fn flipped(
    graph: &Graph,
    (seq, statement): (Extent, Option<&Statement>),
    honest: Vec<Tensor>,
    (node, at, xor): (NodeId, usize, i32),
) -> Result<Vec<Tensor>, GraphError> {
    let kinds: Vec<_> = graph.consts().iter().map(Const::kind).collect();
    let mut wide: Vec<Vec<i32>> = honest.iter().map(|tensor| tensor.data.to_i32()).collect();
    let mut dirty = vec![false; honest.len()];
    for index in 0..honest.len() {
        let Some(shape) = graph.nodes().get(index) else {
            continue;
        };
        if index == node as usize {
            flip(&mut wide, index, at, xor);
            dirty_set(&mut dirty, index);
        } else if shape
            .inputs
            .iter()
            .any(|from| dirty.get(*from as usize) == Some(&true))
        {
            let place = eval::place(graph.nodes(), graph.types(), &kinds, index as u32, seq)
                .ok_or_else(|| missing("node without a type"))?;
            let operands = shape
                .inputs
                .iter()
                .filter_map(|from| wide.get(*from as usize));
            let source = Operands {
                graph,
                statement,
                wide: operands.map(Vec::as_slice).collect(),
            };
            let count = wide.get(index).map_or(0, Vec::len);
            let computed = (0..count).map(|i| element(&place, i, &source));
            let computed = computed.collect::<Result<Vec<_>, _>>()?;
            if wide.get(index) != Some(&computed) {
                dirty_set(&mut dirty, index);
            }
            if let Some(slot) = wide.get_mut(index) {
                *slot = computed;
            }
        }
    }
    let narrow = |(tensor, values): (Tensor, Vec<i32>)| {
        let data = Data::from_i32(tensor.data.dtype(), &values)
            .ok_or_else(|| missing("value outside its type"))?;
        Tensor::new(tensor.dims, data)
    };
    honest.into_iter().zip(wide).map(narrow).collect()
}

fn flip(wide: &mut [Vec<i32>], node: usize, at: usize, xor: i32) {
    let Some(values) = wide.get_mut(node) else {
        return;
    };
    let at = at % values.len().max(1);
    // The lowest seven bits stay inside every element type, whatever the sign.
    if let Some(value) = values.get_mut(at) {
        *value ^= (xor & 0x7f).max(1);
    }
}

fn dirty_set(dirty: &mut [bool], index: usize) {
    if let Some(slot) = dirty.get_mut(index) {
        *slot = true;
    }
}

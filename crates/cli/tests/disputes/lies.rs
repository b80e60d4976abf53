//! Runs that differ from the registered model in one element of one output, or in one byte of one constant.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use alloy_primitives::B256;
use assay_engine::{Engine, EngineOptions, FullRun};
use assay_graph::layout::Layout;
use assay_graph::ops::{Source, element};
use assay_graph::{
    Const, ConstId, ConstKind, Data, Graph, GraphError, NodeId, Op, Structure, Tensor, eval,
};
use assay_import::Model;
use assay_operator::{Execution, ModelRunner, OperatorError};

pub const SALT: B256 = B256::repeat_byte(0x33);
/// Places that are tried before a fault counts as one that changes nothing.
const TRIES: usize = 64;
/// Bits to invert, in turn: the smallest change first.
const BITS: [u8; 4] = [0x01, 0x05, 0x40, 0x7f];

/// What is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// One element of this node's output.
    Node(NodeId),
    /// One byte of this constant.
    Constant(ConstId),
}

/// A false run: everything after the change is computed from it by definition.
pub struct Lie {
    /// Model and what is changed, for people.
    pub what: String,
    /// Operator of the node, or kind of the constant.
    pub kind: String,
    pub model: B256,
    /// Canonical bytes; no two lies share them.
    pub input: Vec<u8>,
    pub run: FullRun,
}

/// A model to lie about.
pub struct Lab {
    pub name: String,
    pub graph: Arc<Graph>,
    pub names: Vec<String>,
    pub structure: Structure,
    kinds: Vec<ConstKind>,
    engine: Engine,
}

impl Lab {
    pub fn new(model: &Model) -> Self {
        let names = model.manifest.nodes.clone();
        Self::of(&model.manifest.name, Arc::clone(&model.graph), names)
    }

    fn of(name: &str, graph: Arc<Graph>, names: Vec<String>) -> Self {
        Self {
            name: name.to_owned(),
            names,
            structure: graph.structure(),
            kinds: graph.consts().iter().map(Const::kind).collect(),
            engine: Engine::new(Arc::clone(&graph), EngineOptions::default()).unwrap(),
            graph,
        }
    }

    /// The same network in blocks of 1 KiB, so that its trees are tall; `every` makes every node a checkpoint.
    pub fn tall(&self, name: &str, every: bool) -> Self {
        let mut header = self.graph.header();
        header.block_bits = 10;
        let mut nodes = self.graph.nodes().to_vec();
        let layout = Layout::new(&self.structure, 1);
        for (index, node) in nodes.iter_mut().enumerate() {
            node.checkpoint |= every && layout.blocks(index as NodeId) > 0;
        }
        let consts = self.graph.consts().to_vec();
        let graph = Graph::new(header, nodes, consts, &[]).unwrap();
        Self::of(name, Arc::new(graph), self.names.clone())
    }

    pub fn model(&self) -> B256 {
        self.graph.model_id().into()
    }

    /// Nodes with bytes of their own in the trace, views excluded.
    pub fn nodes(&self) -> Vec<NodeId> {
        let layout = Layout::new(&self.structure, 1);
        (0..self.graph.nodes().len() as NodeId)
            .filter(|node| layout.blocks(*node) > 0)
            .collect()
    }

    pub fn constants(&self) -> Vec<ConstId> {
        (0..self.kinds.len() as ConstId).collect()
    }

    /// Leaves of the committed tree, and of the largest segment's, of a run with `seq` positions.
    pub fn leaves(&self, seq: u32) -> (u64, u64) {
        let layout = Layout::new(&self.structure, seq);
        let segments = (0..self.graph.nodes().len() as NodeId).filter_map(|n| layout.segment_of(n));
        let largest = segments.map(|segment| layout.segment_leaves(segment)).max();
        (layout.committed_leaves(), largest.unwrap_or(0))
    }

    fn root(&self, run: &FullRun) -> [u8; 32] {
        let layout = Layout::new(&self.structure, run.seq);
        run.committed_tree(&layout, &SALT.0).root()
    }

    pub fn describe(&self, target: Target) -> (String, String) {
        match target {
            Target::Node(node) => {
                let op = word(&format!("{:?}", self.graph.nodes()[node as usize].op));
                let name = self.names.get(node as usize).map_or("", String::as_str);
                (format!("{} node {node} `{name}`", self.name), op)
            }
            Target::Constant(id) => {
                let kind = word(&format!("{:?}", self.kinds[id as usize]));
                (
                    format!("{} constant {id}", self.name),
                    format!("({})", kind.to_lowercase()),
                )
            }
        }
    }

    /// A false run whose committed root differs from the honest one, or `None` when no change that was tried reaches
    /// a checkpoint.
    pub fn lie(&self, target: Target, input: &Tensor) -> Option<Lie> {
        let honest = self.engine.run_full(input).unwrap();
        let root = self.root(&honest);
        let (what, kind) = self.describe(target);
        (0..TRIES).find_map(|attempt| {
            let bits = BITS[attempt % BITS.len()];
            let run = match target {
                Target::Node(node) => self.flipped(&honest, node, spread(attempt), bits),
                Target::Constant(id) => self.reweighed(&honest, id, attempt, bits),
            }?;
            (self.root(&run) != root).then(|| Lie {
                what: what.clone(),
                kind: kind.clone(),
                model: self.model(),
                input: input.data.to_bytes(),
                run,
            })
        })
    }

    fn flipped(&self, honest: &FullRun, node: NodeId, at: usize, bits: u8) -> Option<FullRun> {
        self.recomputed(honest, Some((node, at, bits)), None)
    }

    fn reweighed(
        &self,
        honest: &FullRun,
        id: ConstId,
        attempt: usize,
        bits: u8,
    ) -> Option<FullRun> {
        let row = self.used_row(honest, id, attempt)?;
        let mut bytes = self.graph.consts()[id as usize].row(row.number)?.to_vec();
        let at = row.byte % bytes.len();
        bytes[at] ^= bits;
        self.recomputed(honest, None, Some((id, row.number, bytes)))
    }

    /// A row that this run reads and a byte in it that may matter.
    fn used_row(&self, honest: &FullRun, id: ConstId, attempt: usize) -> Option<Row> {
        let mut nodes = self.graph.nodes().iter().enumerate();
        let (index, node) = nodes.rfind(|(_, node)| constant_of(&node.op) == Some(id))?;
        let kind = self.kinds[id as usize];
        let from = honest.outputs[*node.inputs.first()? as usize].data.to_i32();
        let step = spread(attempt);
        Some(match (&node.op, kind) {
            (Op::Embedding { .. }, ConstKind::Rows { .. }) => Row {
                number: u32::try_from(from[step % from.len()]).ok()?,
                byte: step,
            },
            (Op::AddRows { .. }, _) => Row {
                number: step as u32 % honest.seq.min(kind.rows()),
                byte: step,
            },
            (Op::Lookup { .. }, ConstKind::Table { dtype, .. }) => {
                let low = self.graph.types()[*node.inputs.first()? as usize]
                    .dtype
                    .range()
                    .0;
                let entry = (from[step % from.len()] - low) as usize;
                let row = assay_graph::TABLE_ROW as usize;
                Row {
                    number: (entry / row) as u32,
                    byte: entry % row * dtype.size(),
                }
            }
            // The largest score of a row reads entry 0; scores close to it read the next ones.
            (Op::Softmax { .. }, ConstKind::Table { dtype, .. }) => Row {
                number: 0,
                byte: (attempt / BITS.len()) * dtype.size(),
            },
            // Shift and bias first take 5 bytes; the weights follow.
            (_, ConstKind::Weights { dtype, cols, .. }) => {
                let column = step % cols as usize;
                Row {
                    number: step as u32 % kind.rows(),
                    byte: 5 + column * dtype.size(),
                }
            }
            _ => Row {
                number: 0,
                byte: (step + index) / 6 * 6,
            },
        })
    }

    /// The run with a change, everything that depends on it computed by definition. `None` when a value leaves its type.
    fn recomputed(
        &self,
        honest: &FullRun,
        flip: Option<(NodeId, usize, u8)>,
        changed: Option<(ConstId, u32, Vec<u8>)>,
    ) -> Option<FullRun> {
        let graph = &self.graph;
        let mut wide: Vec<Vec<i32>> = honest
            .outputs
            .iter()
            .map(|tensor| tensor.data.to_i32())
            .collect();
        let mut dirty = vec![false; wide.len()];
        for (index, node) in graph.nodes().iter().enumerate() {
            if let Some((at, position, bits)) = flip
                && at as usize == index
            {
                let position = position % wide[index].len();
                wide[index][position] ^= i32::from(bits);
                dirty[index] = true;
                continue;
            }
            let reads =
                matches!((&changed, constant_of(&node.op)), (Some(c), Some(id)) if c.0 == id);
            if !reads && !node.inputs.iter().any(|from| dirty[*from as usize]) {
                continue;
            }
            let place = eval::place(
                graph.nodes(),
                graph.types(),
                &self.kinds,
                index as NodeId,
                honest.seq,
            )?;
            let operands = node
                .inputs
                .iter()
                .map(|from| wide[*from as usize].as_slice());
            let source = Changed {
                graph,
                operands: operands.collect(),
                changed: changed.as_ref(),
            };
            let values = (0..wide[index].len()).map(|at| element(&place, at, &source));
            let values = values.collect::<Result<Vec<i32>, _>>().ok()?;
            dirty[index] = values != wide[index];
            wide[index] = values;
        }
        let narrow = |(tensor, values): (&Tensor, Vec<i32>)| {
            let data = Data::from_i32(tensor.data.dtype(), &values)?;
            Tensor::new(tensor.dims.clone(), data).ok()
        };
        let outputs = honest.outputs.iter().zip(wide).map(narrow);
        Some(FullRun {
            outputs: outputs.collect::<Option<Vec<_>>>()?,
            seq: honest.seq,
        })
    }
}

struct Row {
    number: u32,
    byte: usize,
}

/// Places far from each other.
fn spread(attempt: usize) -> usize {
    13 + attempt * 7_919
}

/// The first word of a `Debug` form: the name of the variant.
fn word(debug: &str) -> String {
    debug.chars().take_while(|c| c.is_alphanumeric()).collect()
}

fn constant_of(op: &Op) -> Option<ConstId> {
    match op {
        Op::Linear { weights, .. } | Op::Conv2d { weights, .. } => Some(*weights),
        Op::AddRows { rows, .. } | Op::Embedding { rows } => Some(*rows),
        Op::Lookup { table } | Op::Softmax { table, .. } => Some(*table),
        Op::LayerNorm { params, .. } => Some(*params),
        _ => None,
    }
}

/// Outputs as they are, constants with one row changed.
struct Changed<'a> {
    graph: &'a Graph,
    operands: Vec<&'a [i32]>,
    changed: Option<&'a (ConstId, u32, Vec<u8>)>,
}

impl Source for Changed<'_> {
    fn slice(
        &self,
        operand: usize,
        start: usize,
        len: usize,
    ) -> Result<Cow<'_, [i32]>, GraphError> {
        let slice = self
            .operands
            .get(operand)
            .and_then(|values| values.get(start..start + len));
        slice
            .map(Cow::Borrowed)
            .ok_or_else(|| GraphError::Input("slice outside the operand".into()))
    }

    fn row(&self, constant: ConstId, row: u32) -> Result<Cow<'_, [u8]>, GraphError> {
        if let Some((id, number, bytes)) = self.changed
            && (*id, *number) == (constant, row)
        {
            return Ok(Cow::Borrowed(bytes));
        }
        let bytes = self
            .graph
            .consts()
            .get(constant as usize)
            .and_then(|constant| constant.row(row));
        bytes
            .map(Cow::Borrowed)
            .ok_or_else(|| GraphError::Input("row outside the constant".into()))
    }
}

/// The runs that a lying operator answers with, by input.
pub type Script = Arc<Mutex<HashMap<Vec<u8>, FullRun>>>;

/// An operator's model that answers what the script says.
pub struct Liar {
    pub structure: Structure,
    pub model: B256,
    pub script: Script,
}

impl ModelRunner for Liar {
    fn model_id(&self) -> B256 {
        self.model
    }

    fn structure(&self) -> &Structure {
        &self.structure
    }

    fn execute(&self, input: &Tensor, salt: B256) -> Result<Execution, OperatorError> {
        let run = self.full(input)?;
        let layout = Layout::new(&self.structure, run.seq);
        let tree = run.committed_tree(&layout, &salt.0);
        Ok(Execution {
            output: run.outputs.last().unwrap().data.to_bytes(),
            trace_root: tree.root().into(),
            n_leaves: tree.leaves(),
            n_in: run.seq,
            n_out: 1,
            mask_root: B256::ZERO,
        })
    }

    fn full(&self, input: &Tensor) -> Result<FullRun, OperatorError> {
        let run = self
            .script
            .lock()
            .unwrap()
            .get(&input.data.to_bytes())
            .cloned();
        run.ok_or_else(|| OperatorError::Model {
            model_id: self.model,
            reason: "no lie is prepared for this input".into(),
        })
    }
}

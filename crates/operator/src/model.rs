//! A model as the operator runs it: one fast run for each answer, one full run for each dispute.

use std::sync::Arc;

use alloy_primitives::B256;
use assay_engine::{Engine, EngineOptions, FullRun};
use assay_graph::layout::Layout;
use assay_graph::{Dim, Graph, NodeId, Structure, Tensor, TensorType};

use crate::OperatorError;
use crate::language::LanguageModel;

/// What one run gave, as the receipt names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Execution {
    /// Canonical output bytes.
    pub output: Vec<u8>,
    /// Root of the committed tree.
    pub trace_root: B256,
    /// Its leaves.
    pub n_leaves: u64,
    /// Positions or tokens of the input.
    pub n_in: u32,
    /// Tokens of the answer; 1 for models that generate nothing.
    pub n_out: u32,
    /// Root over the token masks of a constrained answer, else zero.
    pub mask_root: B256,
}

/// Runs the model that is registered as [`ModelRunner::model_id`]. Called from several threads.
pub trait ModelRunner: Send + Sync {
    /// The registered model that this runner answers for.
    fn model_id(&self) -> B256;

    /// Structure of the registered model: types, layout, input.
    fn structure(&self) -> &Structure;

    /// The registered graph, if it is offered for download by its identity.
    fn graph(&self) -> Option<&Arc<Graph>> {
        None
    }

    /// The language model behind this runner, if it generates tokens. Then neither `execute` nor `full` is called.
    fn language(&self) -> Option<&LanguageModel> {
        None
    }

    /// Runs the model for an answer.
    ///
    /// # Errors
    /// [`OperatorError::Model`].
    fn execute(&self, input: &Tensor, salt: B256) -> Result<Execution, OperatorError>;

    /// Outputs of all nodes, as they were when the receipt was signed; for the defence of a dispute.
    ///
    /// # Errors
    /// [`OperatorError::Model`].
    fn full(&self, input: &Tensor) -> Result<FullRun, OperatorError>;
}

/// Runs the graph it answers for.
pub struct HonestModel {
    model_id: B256,
    structure: Structure,
    engine: Engine,
}

impl std::fmt::Debug for HonestModel {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("HonestModel").field(&self.model_id).finish()
    }
}

impl HonestModel {
    /// Prepares `graph`; its identity is the model id.
    ///
    /// # Errors
    /// [`OperatorError::Model`].
    pub fn new(graph: Arc<Graph>, options: EngineOptions) -> Result<Self, OperatorError> {
        let model_id = B256::from(graph.model_id());
        let structure = graph.structure();
        let engine = Engine::new(graph, options).map_err(failed(model_id))?;
        Ok(Self {
            model_id,
            structure,
            engine,
        })
    }
}

impl ModelRunner for HonestModel {
    fn model_id(&self) -> B256 {
        self.model_id
    }

    fn structure(&self) -> &Structure {
        &self.structure
    }

    fn graph(&self) -> Option<&Arc<Graph>> {
        Some(self.engine.graph())
    }

    fn execute(&self, input: &Tensor, salt: B256) -> Result<Execution, OperatorError> {
        let run = self
            .engine
            .run_traced(input, &salt.0)
            .map_err(failed(self.model_id))?;
        Ok(Execution {
            output: run.output.data.to_bytes(),
            trace_root: run.root().into(),
            n_leaves: run.tree.leaves(),
            n_in: run.seq,
            n_out: 1,
            mask_root: B256::ZERO,
        })
    }

    fn full(&self, input: &Tensor) -> Result<FullRun, OperatorError> {
        self.engine.run_full(input).map_err(failed(self.model_id))
    }
}

fn failed<E: std::fmt::Display>(model_id: B256) -> impl FnOnce(E) -> OperatorError {
    move |error| OperatorError::Model {
        model_id,
        reason: error.to_string(),
    }
}

/// Reads canonical input bytes as the tensor that `ty` declares; the number of positions follows from the length.
///
/// # Errors
/// A sentence with the lengths.
pub fn input_tensor(ty: &TensorType, max_seq: u32, bytes: &[u8]) -> Result<Tensor, String> {
    let per_position: usize = ty
        .shape
        .iter()
        .map(|dim| match dim {
            Dim::Fixed(n) => *n as usize,
            Dim::Seq | Dim::Out => 1,
        })
        .product();
    let has_positions = ty
        .shape
        .iter()
        .any(|dim| matches!(dim, Dim::Seq | Dim::Out));
    let unit = per_position.saturating_mul(ty.dtype.size()).max(1);
    let positions = bytes.len() / unit;
    let wanted = if has_positions {
        (1..=max_seq as usize).contains(&positions)
    } else {
        positions == 1
    };
    if !wanted || positions * unit != bytes.len() {
        return Err(format!(
            "{} bytes, the model takes {unit} bytes {}",
            bytes.len(),
            if has_positions {
                format!("for each of 1 to {max_seq} positions")
            } else {
                "exactly".into()
            }
        ));
    }
    let seq = u32::try_from(positions).map_err(|error| error.to_string())?;
    let data = assay_graph::Data::from_bytes(ty.dtype, bytes).map_err(|error| error.to_string())?;
    Tensor::new(ty.dims(seq), data).map_err(|error| error.to_string())
}

/// Bytes of one block of a node's output.
pub fn block_bytes(layout: &Layout, node: NodeId, block: u64, run: &FullRun) -> Option<Vec<u8>> {
    let bytes = run.outputs.get(node as usize)?.data.to_bytes();
    let start = usize::try_from(block)
        .ok()?
        .checked_mul(layout.block_bytes())?;
    let end = start.checked_add(layout.block_len(node, block))?;
    bytes.get(start..end).map(<[u8]>::to_vec)
}

//! What computes the tokens.

use std::sync::Arc;

use alloy_primitives::B256;
use assay_engine::{Decoder, Engine, EngineOptions, FullRun, Sequence};
use assay_graph::trace::{Hash, Tree};
use assay_graph::{Data, Graph, Statement, Tensor};

use super::{Prompt, token_bytes};
use crate::model::Execution;

/// A language model that advances many answers together. Errors are sentences for the operator's log.
pub trait Speaker: Send + Sync + 'static {
    /// One answer under way.
    type Speech: Send;

    /// Begins an answer; its first token needs the whole prompt to be stepped through.
    ///
    /// # Errors
    /// The prompt or the statement can't be run.
    fn start(&self, prompt: &Prompt) -> Result<Self::Speech, String>;

    /// Advances each answer by up to `chunk` positions of its prompt, or by its one pending token.
    ///
    /// # Errors
    /// The pass failed; the answers in it must not be used any more.
    fn step(&self, batch: &mut [&mut Self::Speech], chunk: usize) -> Result<(), String>;

    /// Positions that have not been computed yet.
    fn pending(&self, speech: &Self::Speech) -> usize;

    /// Logits of the next token in units of `2^-8` octaves, once nothing is pending.
    fn logits<'s>(&self, speech: &'s Self::Speech) -> &'s [i16];

    /// Chooses the next token.
    ///
    /// # Errors
    /// Something is pending, or the mask does not fit.
    fn sample(&self, speech: &mut Self::Speech, mask: Option<&[u8]>) -> Result<u32, String>;

    /// Commits to the answer.
    ///
    /// # Errors
    /// There is none yet.
    fn finish(
        &self,
        speech: Self::Speech,
        prompt: &Prompt,
        masks: &[Vec<u8>],
    ) -> Result<Execution, String>;

    /// The committed tree of an answered run, as it was committed to.
    ///
    /// # Errors
    /// The run can't be made.
    fn committed(&self, run: &Answered<'_>) -> Result<Tree, String>;

    /// Outputs of the nodes of one segment of an answered run; those of others may be empty.
    ///
    /// # Errors
    /// The run can't be made.
    fn segment(&self, run: &Answered<'_>, segment: u32) -> Result<FullRun, String>;
}

/// An answered run, to be defended.
#[derive(Clone, Copy, Debug)]
pub struct Answered<'a> {
    /// Token ids asked.
    pub prompt: &'a [u32],
    /// Token ids answered.
    pub answer: &'a [u32],
    /// Statement and masks.
    pub statement: &'a Statement,
    /// Salt of the commitments.
    pub salt: &'a Hash,
}

/// Runs the model it answers for.
#[derive(Debug)]
pub struct HonestSpeaker(Decoder);

impl HonestSpeaker {
    /// Prepares `graph`.
    ///
    /// # Errors
    /// It is no language model that can be decoded.
    pub fn new(graph: Arc<Graph>, options: EngineOptions) -> Result<Self, String> {
        Decoder::new(graph, options).map(Self).map_err(words)
    }

    /// Runs node by node.
    pub const fn engine(&self) -> &Engine {
        self.0.engine()
    }

    /// Bytes that weights and tables take.
    pub fn memory(&self) -> usize {
        self.0.memory()
    }
}

fn words(error: impl std::fmt::Display) -> String {
    error.to_string()
}

impl Speaker for HonestSpeaker {
    type Speech = Sequence;

    fn start(&self, prompt: &Prompt) -> Result<Sequence, String> {
        self.0
            .start(&prompt.tokens, &prompt.sampling, &prompt.salt)
            .map_err(words)
    }

    fn step(&self, batch: &mut [&mut Sequence], chunk: usize) -> Result<(), String> {
        self.0.step(batch, chunk).map_err(words)
    }

    fn pending(&self, speech: &Sequence) -> usize {
        speech.pending()
    }

    fn logits<'s>(&self, speech: &'s Sequence) -> &'s [i16] {
        speech.logits()
    }

    fn sample(&self, speech: &mut Sequence, mask: Option<&[u8]>) -> Result<u32, String> {
        speech.sample(mask).map_err(words)
    }

    fn finish(
        &self,
        speech: Sequence,
        prompt: &Prompt,
        masks: &[Vec<u8>],
    ) -> Result<Execution, String> {
        let done = speech.finish().map_err(words)?;
        Ok(Execution {
            output: token_bytes(&done.tokens),
            trace_root: done.trace_root.into(),
            n_leaves: done.leaves,
            n_in: prompt.tokens.len() as u32,
            n_out: done.tokens.len() as u32,
            mask_root: mask_root(masks),
        })
    }

    fn committed(&self, run: &Answered<'_>) -> Result<Tree, String> {
        let Statement { sampling, masks } = run.statement;
        self.0
            .replay(run.prompt, run.answer, sampling, masks, run.salt)
            .map(|run| run.tree)
            .map_err(words)
    }

    fn segment(&self, run: &Answered<'_>, segment: u32) -> Result<FullRun, String> {
        segment_run(self.0.engine(), run, segment)
    }
}

/// Root over the masks of an answer; zero when nothing is masked.
pub(crate) fn mask_root(masks: &[Vec<u8>]) -> B256 {
    if masks.is_empty() {
        return B256::ZERO;
    }
    let tree = assay_graph::sampling::mask_tree(masks.iter().map(Vec::as_slice));
    tree.root().into()
}

/// Outputs of the nodes of one segment of a run over prompt and answer.
///
/// # Errors
/// Why the run can't be made.
pub fn segment_run(engine: &Engine, run: &Answered<'_>, segment: u32) -> Result<FullRun, String> {
    let (tokens, out) = fed(run)?;
    engine
        .run_segment(&tokens, out, run.statement, segment)
        .map_err(words)
}

/// The tokens that a run over prompt and answer takes, and how many of its positions answer.
pub(crate) fn fed(run: &Answered<'_>) -> Result<(Tensor, u32), String> {
    let (_, fed) = run.answer.split_last().ok_or("an answer has a token")?;
    let ids = run.prompt.iter().chain(fed).map(|t| i32::try_from(*t));
    let ids = ids.collect::<Result<Vec<i32>, _>>().map_err(words)?;
    let out = u32::try_from(run.answer.len()).map_err(words)?;
    let tokens = Tensor::new(vec![ids.len()], Data::I32(ids)).map_err(words)?;
    Ok((tokens, out))
}

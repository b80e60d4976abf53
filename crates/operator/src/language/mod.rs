//! Language models as the operator runs them: many answers at a time, token by token, in one thread for each model.
//!
//! A [`Speaker`] computes; [`LanguageModel`] puts one behind the operator's API. The scheduler joins and parts answers at
//! any step; whoever shares a pass, each answer has the bits it would have alone.

pub(crate) mod logprobs;
mod masks;
mod queue;
mod schedule;
mod speaker;

use std::sync::Arc;

use alloy_primitives::B256;
use assay_engine::{EngineOptions, FullRun};
use assay_graph::trace::{Hash, Tree};
use assay_graph::{Graph, Sampling, Structure, Tensor};

use crate::OperatorError;
use crate::model::{Execution, ModelRunner};

pub use logprobs::{LogProbs, MAX_ALTERNATIVES, log_probs};
pub use masks::{Grammars, MaskSource, Masks};
pub use schedule::{Pace, Talk, TalkEvent};
pub use speaker::{Answered, HonestSpeaker, Speaker, segment_run};
#[cfg(feature = "fault-injection")]
pub(crate) use speaker::{fed, mask_root};

use schedule::Scheduler;

/// A language model that serves: its scheduler's thread runs as long as it lives.
pub struct LanguageModel {
    model_id: B256,
    structure: Structure,
    graph: Option<Arc<Graph>>,
    vocabulary: u32,
    scheduler: Scheduler,
    replayer: Arc<dyn Replayer>,
    grammars: Option<Arc<dyn Grammars>>,
}

impl std::fmt::Debug for LanguageModel {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("LanguageModel")
            .field(&self.model_id)
            .finish()
    }
}

/// The part of a [`Speaker`] that defends.
trait Replayer: Send + Sync {
    fn committed(&self, run: &Answered<'_>) -> Result<Tree, String>;
    fn segment(&self, run: &Answered<'_>, segment: u32) -> Result<FullRun, String>;
}

impl<S: Speaker> Replayer for S {
    fn committed(&self, run: &Answered<'_>) -> Result<Tree, String> {
        Speaker::committed(self, run)
    }

    fn segment(&self, run: &Answered<'_>, segment: u32) -> Result<FullRun, String> {
        Speaker::segment(self, run, segment)
    }
}

impl LanguageModel {
    /// Serves `graph` honestly.
    ///
    /// # Errors
    /// [`OperatorError::Model`] when the graph is no language model or can't be prepared.
    pub fn new(graph: Arc<Graph>, options: EngineOptions) -> Result<Self, OperatorError> {
        let model_id = B256::from(graph.model_id());
        let speaker = HonestSpeaker::new(Arc::clone(&graph), options)
            .map_err(|reason| OperatorError::Model { model_id, reason })?;
        Self::with_speaker(&graph, Arc::new(speaker), Pace::default())
    }

    /// Serves answers of `speaker` as those of `graph`.
    ///
    /// # Errors
    /// [`OperatorError::Model`] when `graph` does not generate, or no thread can be had.
    pub fn with_speaker<S: Speaker>(
        graph: &Arc<Graph>,
        speaker: Arc<S>,
        pace: Pace,
    ) -> Result<Self, OperatorError> {
        let model_id = B256::from(graph.model_id());
        let failed = |reason: &str| OperatorError::Model {
            model_id,
            reason: reason.to_owned(),
        };
        let structure = graph.structure();
        let tokens = structure
            .types
            .first()
            .filter(|_| structure.is_generative());
        let vocabulary = tokens
            .and_then(|ty| u32::try_from(ty.hi).ok()?.checked_add(1))
            .ok_or_else(|| failed("the graph generates no tokens"))?;
        let scheduler = Scheduler::start(Arc::clone(&speaker), pace)
            .map_err(|error| failed(&error.to_string()))?;
        Ok(Self {
            model_id,
            structure,
            graph: Some(Arc::clone(graph)),
            vocabulary,
            scheduler,
            replayer: speaker,
            grammars: None,
        })
    }

    /// Takes grammars: answers can be constrained.
    #[must_use]
    pub fn with_grammars(mut self, grammars: Arc<dyn Grammars>) -> Self {
        self.grammars = Some(grammars);
        self
    }

    /// Does not offer the graph for download by its identity.
    #[must_use]
    pub fn without_download(mut self) -> Self {
        self.graph = None;
        self
    }

    /// Number of tokens.
    pub const fn vocabulary(&self) -> u32 {
        self.vocabulary
    }

    /// Masks of an answer to this grammar.
    ///
    /// # Errors
    /// A sentence for the requester.
    pub fn constraint(&self, grammar: &[u8]) -> Result<Box<dyn MaskSource>, String> {
        let grammars = self
            .grammars
            .as_ref()
            .ok_or("this model takes no grammars")?;
        grammars.source(grammar)
    }

    /// Hands an answer to the scheduler.
    ///
    /// # Errors
    /// [`OperatorError::Model`] when its thread has ended.
    pub fn speak(&self, talk: Talk) -> Result<(), OperatorError> {
        self.scheduler
            .add(talk)
            .map_err(|reason| self.failed(reason))
    }

    /// The committed tree of an answered run, as it was when the receipt was signed.
    ///
    /// # Errors
    /// [`OperatorError::Model`].
    pub fn committed(&self, run: &Answered<'_>) -> Result<Tree, OperatorError> {
        self.replayer
            .committed(run)
            .map_err(|reason| self.failed(reason))
    }

    /// Outputs of the nodes of one segment of an answered run, as they were when the receipt was signed.
    ///
    /// # Errors
    /// [`OperatorError::Model`].
    pub fn segment(&self, run: &Answered<'_>, segment: u32) -> Result<FullRun, OperatorError> {
        self.replayer
            .segment(run, segment)
            .map_err(|reason| self.failed(reason))
    }

    const fn failed(&self, reason: String) -> OperatorError {
        OperatorError::Model {
            model_id: self.model_id,
            reason,
        }
    }

    fn generates(&self) -> OperatorError {
        self.failed("it generates: it answers with a sampling statement only".into())
    }
}

impl ModelRunner for LanguageModel {
    fn model_id(&self) -> B256 {
        self.model_id
    }

    fn structure(&self) -> &Structure {
        &self.structure
    }

    fn graph(&self) -> Option<&Arc<Graph>> {
        self.graph.as_ref()
    }

    fn execute(&self, _: &Tensor, _: B256) -> Result<Execution, OperatorError> {
        Err(self.generates())
    }

    fn full(&self, _: &Tensor) -> Result<FullRun, OperatorError> {
        Err(self.generates())
    }

    fn language(&self) -> Option<&LanguageModel> {
        Some(self)
    }
}

/// What an answer is asked for.
#[derive(Clone, Debug)]
pub struct Prompt {
    /// Token ids.
    pub tokens: Vec<u32>,
    /// The statement.
    pub sampling: Sampling,
    /// Salt of the commitments.
    pub salt: Hash,
}

/// Token ids of canonical bytes (u32, little endian); `None` when the length is no multiple of 4.
pub fn tokens_of(bytes: &[u8]) -> Option<Vec<u32>> {
    let (words, rest) = bytes.as_chunks::<4>();
    rest.is_empty()
        .then(|| words.iter().map(|word| u32::from_le_bytes(*word)).collect())
}

/// Canonical bytes of token ids.
pub fn token_bytes(tokens: &[u32]) -> Vec<u8> {
    tokens
        .iter()
        .flat_map(|token| token.to_le_bytes())
        .collect()
}

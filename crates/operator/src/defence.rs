//! The asserter's moves in a dispute (docs/protocol.md, "A dispute").

use alloy_primitives::{B256, U256};
use alloy_sol_types::SolCall;
use assay_abi::IDisputes;
use assay_engine::FullRun;
use assay_graph::layout::{Layout, Leaf};
use assay_graph::trace::{Family, Tree};
use assay_graph::{Extent, Statement};

use crate::OperatorError;
use crate::language::{Answered, tokens_of};
use crate::ledger::Job;
use crate::model::{ModelRunner, block_bytes, input_tensor};

/// Stages at which the asserter moves (abi, `IDisputes.Dispute.stage`).
mod stage {
    pub(super) const TRACE: u8 = 1;
    pub(super) const LEAVES: u8 = 2;
    pub(super) const REVEAL: u8 = 3;
    pub(super) const SEGMENT: u8 = 6;
    pub(super) const OPEN: u8 = 7;
}

/// Levels that one reveal shows at most: 16 children.
const REVEAL_LEVELS: u8 = 4;

/// A job's run, kept while its dispute lasts.
struct Replay {
    claim_id: B256,
    layout: Layout,
    committed: Tree,
    /// Outputs of a segment's nodes; of models that generate nothing those of all nodes.
    run: Option<(u32, FullRun)>,
}

/// Makes moves; remembers the full run of the last disputed job.
#[derive(Default)]
pub(crate) struct Defence {
    replay: Option<Replay>,
}

impl Defence {
    /// Frees the memory of the last full run.
    pub(crate) fn forget(&mut self) {
        self.replay = None;
    }

    /// Calldata of the next move, or `None` when the stage is none of the asserter's.
    pub(crate) fn answer(
        &mut self,
        model: &dyn ModelRunner,
        job: &Job,
        id: U256,
        dispute: &IDisputes::Dispute,
    ) -> Result<Option<Vec<u8>>, OperatorError> {
        let claim_id = job.receipt.claim_id();
        let mut replay = match self.replay.take() {
            Some(replay) if replay.claim_id == claim_id => replay,
            _ => run(model, job)?,
        };
        replay.reach(model, job, dispute)?;
        let input = answer_with(&replay, job, id, dispute);
        self.replay = Some(replay);
        input.map_err(|reason| OperatorError::Model {
            model_id: job.receipt.model_id,
            reason: format!(
                "no answer to stage {} of dispute {id}: {reason}",
                dispute.stage
            ),
        })
    }
}

fn run(model: &dyn ModelRunner, job: &Job) -> Result<Replay, OperatorError> {
    let (layout, tree, run) = match model.language() {
        Some(language) => {
            let extent = Extent::answering(job.receipt.n_in, job.receipt.n_out);
            let extent = extent.ok_or_else(|| failed(job, "no answer"))?;
            let tree = Spoken::new(job)?.with(|run| language.committed(run))?;
            (Layout::new(model.structure(), extent), tree, None)
        }
        None => {
            let (run, layout) = plain_run(model, job)?;
            let tree = run.committed_tree(&layout, &job.salt.0);
            (layout, tree, Some((0, run)))
        }
    };
    // The ends are the receipt's commitments, whatever the model made of the input.
    let mut leaves = tree.leaf_hashes().to_vec();
    if let Some(first) = leaves.first_mut() {
        *first = job.receipt.input_commit.0;
    }
    if let Some(last) = leaves.last_mut() {
        *last = job.receipt.output_commit.0;
    }
    Ok(Replay {
        claim_id: job.receipt.claim_id(),
        layout,
        committed: Tree::new(Family::Trace, leaves),
        run,
    })
}

impl Replay {
    /// Computes the disputed segment, if the next move needs it and it is not there.
    fn reach(
        &mut self,
        model: &dyn ModelRunner,
        job: &Job,
        dispute: &IDisputes::Dispute,
    ) -> Result<(), OperatorError> {
        let needed = dispute.inSegment || matches!(dispute.stage, stage::SEGMENT | stage::OPEN);
        let (Some(language), true) = (model.language(), needed) else {
            return Ok(());
        };
        let Some(Leaf::Block { node, .. }) = self.layout.committed_leaf(dispute.committedLeaf)
        else {
            return Ok(());
        };
        let segment = self.layout.segment_of(node);
        let segment = segment.ok_or_else(|| failed(job, "no such segment"))?;
        if self.run.as_ref().is_none_or(|(have, _)| *have != segment) {
            let run = Spoken::new(job)?.with(|run| language.segment(run, segment))?;
            self.run = Some((segment, run));
        }
        Ok(())
    }

    fn run(&self) -> Result<&FullRun, &'static str> {
        let run = self.run.as_ref().ok_or("the segment was not computed")?;
        Ok(&run.1)
    }
}

/// Tokens and statement of a language model's job.
struct Spoken<'a> {
    job: &'a Job,
    prompt: Vec<u32>,
    answer: Vec<u32>,
    statement: Statement,
}

impl<'a> Spoken<'a> {
    fn new(job: &'a Job) -> Result<Self, OperatorError> {
        let tokens = |bytes: &[u8]| tokens_of(bytes).ok_or_else(|| failed(job, "no token ids"));
        Ok(Self {
            job,
            prompt: tokens(&job.input)?,
            answer: tokens(&job.output)?,
            statement: job.statement().map_err(|reason| failed(job, reason))?,
        })
    }

    fn with<T>(&self, work: impl FnOnce(&Answered<'_>) -> T) -> T {
        work(&Answered {
            prompt: &self.prompt,
            answer: &self.answer,
            statement: &self.statement,
            salt: &self.job.salt.0,
        })
    }
}

fn failed(job: &Job, reason: impl std::fmt::Display) -> OperatorError {
    OperatorError::Model {
        model_id: job.receipt.model_id,
        reason: reason.to_string(),
    }
}

fn plain_run(model: &dyn ModelRunner, job: &Job) -> Result<(FullRun, Layout), OperatorError> {
    let structure = model.structure();
    let ty = structure.types.first();
    let ty = ty.ok_or_else(|| failed(job, "no input"))?;
    let input = input_tensor(ty, structure.header.max_seq, &job.input)
        .map_err(|reason| failed(job, reason))?;
    let layout = Layout::new(structure, job.receipt.n_in);
    Ok((model.full(&input)?, layout))
}

fn answer_with(
    replay: &Replay,
    job: &Job,
    id: U256,
    dispute: &IDisputes::Dispute,
) -> Result<Option<Vec<u8>>, &'static str> {
    let words = |hashes: Vec<[u8; 32]>| hashes.into_iter().map(B256::from).collect::<Vec<_>>();
    let segment = || {
        let leaf = replay.layout.committed_leaf(dispute.committedLeaf);
        let Some(Leaf::Block { node, block }) = leaf else {
            return Err("the disputed leaf is no block");
        };
        let segment = replay.layout.segment_of(node).ok_or("no such segment")?;
        Ok((node, block, segment))
    };
    let walked = || -> Result<Tree, &'static str> {
        if dispute.inSegment {
            Ok(replay.run()?.segment_tree(&replay.layout, segment()?.2))
        } else {
            Ok(replay.committed.clone())
        }
    };
    Ok(Some(match dispute.stage {
        stage::TRACE => IDisputes::traceCall {
            id,
            root: replay.committed.root().into(),
        }
        .abi_encode(),
        stage::LEAVES => IDisputes::postLeavesCall {
            id,
            leaves: words(walked()?.leaf_hashes().to_vec()),
        }
        .abi_encode(),
        stage::REVEAL => {
            let levels = dispute.height.min(REVEAL_LEVELS);
            let children = walked()?
                .descendants(dispute.height.into(), dispute.index, levels.into())
                .ok_or("no such node")?;
            IDisputes::revealCall {
                id,
                children: words(children),
            }
            .abi_encode()
        }
        stage::SEGMENT => {
            let (node, block, number) = segment()?;
            let tree = replay.run()?.segment_tree(&replay.layout, number);
            let index = replay.layout.segment_index(node, block);
            let path = index
                .and_then(|index| tree.path(index))
                .ok_or("no such block")?;
            IDisputes::segmentCall {
                id,
                root: tree.root().into(),
                path: words(path),
            }
            .abi_encode()
        }
        stage::OPEN => IDisputes::openCall {
            id,
            blockBytes: opened(replay, job, dispute)?.into(),
        }
        .abi_encode(),
        _ => return Ok(None),
    }))
}

fn opened(
    replay: &Replay,
    job: &Job,
    dispute: &IDisputes::Dispute,
) -> Result<Vec<u8>, &'static str> {
    let committed = replay.layout.committed_leaf(dispute.committedLeaf);
    let (node, block) = match committed {
        Some(Leaf::OutputCommit) => {
            let mut bytes = job.salt.0.to_vec();
            bytes.extend_from_slice(&job.output);
            return Ok(bytes);
        }
        Some(Leaf::Block { node, block }) if !dispute.inSegment => (node, block),
        Some(Leaf::Block { node, .. }) => {
            let segment = replay.layout.segment_of(node).ok_or("no such segment")?;
            let leaf = replay.layout.segment_leaf(segment, dispute.index);
            leaf.ok_or("no such leaf in the segment")?
        }
        Some(Leaf::InputCommit) | None => return Err("the disputed leaf cannot be opened"),
    };
    block_bytes(&replay.layout, node, block, replay.run()?).ok_or("no such block")
}

//! The challenger's moves (docs/protocol.md, "A dispute"), computed from the own run and the dispute's events.

use std::cell::OnceCell;

use alloy_primitives::{B256, U256};
use assay_abi::{DISPUTES, IDisputes};
use assay_engine::{Decoder, FullRun, Generated};
use assay_graph::evidence::{Evidence, Prover, first_difference};
use assay_graph::layout::{Layout, Leaf};
use assay_graph::trace::{Hash, Tree, TreeView};
use assay_graph::{Data, Extent, GraphError, Statement, Tensor};
use assay_receipt::Receipt;
use assay_wallet::{ChainClient, ChainLog, LogFilter};

use crate::WatcherError;
use crate::audit::{JobData, is_legal, tensor};
use crate::language;
use crate::models::Loaded;

/// Stages at which the challenger moves (abi, `IDisputes.Dispute.stage`).
pub(crate) mod stage {
    pub(crate) const PICK: u8 = 4;
    pub(crate) const NAME: u8 = 5;
    pub(crate) const PROVE: u8 = 8;
    /// First of the stages of closed disputes.
    pub(crate) const CLOSED: u8 = 9;
    pub(crate) const CHALLENGER_WON: u8 = 10;
    pub(crate) const CANCELLED: u8 = 11;
}

/// One move, as a call of the disputes module.
pub(crate) enum Move {
    /// A descendant is wrong.
    Pick(IDisputes::pickCall),
    /// A leaf of a posted list is wrong.
    Name(IDisputes::nameCall),
    /// One element of the opened block is wrong.
    ProveElement(IDisputes::proveElementCall),
}

/// First leaf of the input's blocks.
const INPUT_LEAF: u64 = 1;

/// What is argued in a dispute.
pub(crate) enum Case<'a> {
    /// The own run differs.
    Run(Box<RunCase<'a>>),
    /// One leaf is wrong by itself, wherever the run differs.
    End(Box<EndCase>),
}

impl<'a> Case<'a> {
    /// Runs the model in full, unless the input alone decides.
    pub(crate) fn new(
        model: &'a Loaded,
        receipt: Receipt,
        job: JobData,
    ) -> Result<Self, WatcherError> {
        if !is_legal(model, &receipt, &job) {
            return Ok(Self::End(Box::new(EndCase::input(model, receipt, job))));
        }
        let Some(decoder) = model.decoder() else {
            let case = RunCase::plain(model, receipt, job)?;
            return Ok(Self::Run(Box::new(case)));
        };
        let statement = language::statement(&receipt, &job)?;
        let run = language::generated(decoder, &receipt, &job, &statement)?;
        let same = [B256::ZERO, run.trace_root.into()].contains(&receipt.trace_root);
        if same && language::goes_on(&statement.sampling, &run.tokens) {
            let case = EndCase::output(model, receipt, job, &statement, &run)?;
            return Ok(Self::End(Box::new(case)));
        }
        let case = RunCase::spoken(model, decoder, receipt, job, (statement, run));
        Ok(Self::Run(Box::new(case)))
    }

    /// The next move, or `None` when it is not the challenger's turn.
    pub(crate) fn next(
        &self,
        client: &ChainClient,
        id: U256,
        dispute: &IDisputes::Dispute,
        opened_at: u64,
    ) -> Result<Option<Move>, WatcherError> {
        let shown = read(client, id, opened_at)?;
        match self {
            Self::Run(case) => case.next(id, dispute, &shown),
            Self::End(case) => case.next(id, dispute, &shown),
        }
    }

    /// A proof of one wrong leaf of a flat list in one transaction, where its block can be recomputed whole.
    pub(crate) fn one_shot(&self, leaves: &[B256]) -> Option<IDisputes::proveBlockCall> {
        match self {
            Self::Run(case) => case.one_shot(leaves),
            Self::End(case) => Some(case.one_shot(leaves)),
        }
    }
}

fn read(client: &ChainClient, id: U256, opened_at: u64) -> Result<Shown, WatcherError> {
    let filter = LogFilter {
        topic1: Some(B256::from(id)),
        ..LogFilter::new(DISPUTES, [])
    };
    let logs = client.logs(&filter, opened_at, client.block_number()?)?;
    Ok(shown(&logs))
}

/// A dispute about a leaf that is wrong by itself. Every move is made by position; the committed ends are the evidence.
///
/// Either the first block of the input, when the committed ends are not those of a run of the signed size (its layout is
/// not that of the real one, so trees can't be compared); or the last leaf, when an answer goes on after its end.
pub(crate) struct EndCase {
    receipt: Receipt,
    leaf: u64,
    evidence: Evidence,
}

impl EndCase {
    fn input(model: &Loaded, receipt: Receipt, job: JobData) -> Self {
        let generative = model.structure.is_generative();
        Self {
            receipt,
            leaf: INPUT_LEAF,
            evidence: Evidence {
                input: Some((job.salt.0, job.input)),
                output: generative.then_some(job.output),
                ..Evidence::default()
            },
        }
    }

    /// The own run has the same trace: the blocks of the output are opened from it.
    fn output(
        model: &Loaded,
        receipt: Receipt,
        job: JobData,
        statement: &Statement,
        run: &Generated,
    ) -> Result<Self, WatcherError> {
        let layout = Layout::new(&model.structure, run.extent);
        let committed = TreeView::new(&run.tree);
        // Nothing but the output is opened.
        let nothing = Tensor {
            dims: vec![0],
            data: Data::I8(Vec::new()),
        };
        let mut values = vec![nothing; model.structure.nodes.len()];
        if let Some(last) = values.last_mut() {
            let tokens = run.tokens.iter().map(|token| token.cast_signed()).collect();
            *last = Tensor {
                dims: vec![run.tokens.len()],
                data: Data::I32(tokens),
            };
        }
        let prover = Prover {
            graph: &model.graph,
            trees: &model.trees,
            layout: &layout,
            values: &values,
            committed: &committed,
            segment: None,
            input: (&job.salt.0, &job.input),
            output: &job.output,
            statement: Some(statement),
        };
        let evidence = prover.commitment(Leaf::OutputCommit);
        let evidence = evidence.map_err(|source| WatcherError::Evidence {
            id: U256::ZERO,
            source,
        })?;
        Ok(Self {
            leaf: receipt.n_leaves.saturating_sub(1),
            receipt,
            evidence: Evidence {
                sampling: Some(statement.sampling.encode()),
                ..evidence
            },
        })
    }

    fn next(
        &self,
        id: U256,
        dispute: &IDisputes::Dispute,
        shown: &Shown,
    ) -> Result<Option<Move>, WatcherError> {
        let missing = |reason| WatcherError::Dispute { id, reason };
        Ok(Some(match dispute.stage {
            stage::PICK => {
                let (height, index, children) = last_reveal(dispute, shown).map_err(missing)?;
                let levels = children.len().ilog2();
                let below = height.saturating_sub(levels);
                let first = index.checked_shl(levels).unwrap_or(u64::MAX);
                let j = self
                    .leaf
                    .checked_shr(below)
                    .unwrap_or(0)
                    .checked_sub(first)
                    .and_then(|j| u8::try_from(j).ok())
                    .ok_or(missing("the walk has left the way to the leaf"))?;
                Move::Pick(IDisputes::pickCall {
                    id,
                    children: words(children),
                    j,
                })
            }
            stage::NAME => {
                let leaves = posted_leaves(dispute, shown).map_err(missing)?;
                Move::Name(IDisputes::nameCall {
                    id,
                    leaves: words(leaves),
                    leaf: self.leaf,
                })
            }
            // A trace that ends at this leaf calls it the output's commitment; then nothing was opened.
            stage::PROVE => Move::ProveElement(IDisputes::proveElementCall {
                id,
                blockBytes: shown.block.clone().unwrap_or_default().into(),
                evidence: self.evidence.encode().into(),
            }),
            _ => return Ok(None),
        }))
    }

    fn one_shot(&self, leaves: &[B256]) -> IDisputes::proveBlockCall {
        IDisputes::proveBlockCall {
            claimId: self.receipt.claim_id(),
            leaves: leaves.to_vec(),
            leaf: self.leaf,
            evidence: self.evidence.encode().into(),
        }
    }
}

/// Height, index and children of the last reveal.
fn last_reveal<'s>(
    dispute: &IDisputes::Dispute,
    shown: &'s Shown,
) -> Result<(u32, u64, &'s [Hash]), &'static str> {
    let reveals = if dispute.inSegment {
        &shown.segment_reveals
    } else {
        &shown.reveals
    };
    let (height, index, children) = reveals.last().ok_or("no reveal on the chain")?;
    if (*height, *index) != (dispute.height, dispute.index) || children.is_empty() {
        return Err("the last reveal is of another node");
    }
    Ok(((*height).into(), *index, children))
}

fn posted_leaves<'s>(
    dispute: &IDisputes::Dispute,
    shown: &'s Shown,
) -> Result<&'s [Hash], &'static str> {
    let leaves = if dispute.inSegment {
        &shown.segment_leaves
    } else {
        &shown.leaves
    };
    leaves.as_deref().ok_or("no leaves on the chain")
}

/// The own run of a disputed job.
pub(crate) struct RunCase<'a> {
    model: &'a Loaded,
    receipt: Receipt,
    job: JobData,
    layout: Layout,
    extent: Extent,
    committed: Tree,
    /// Outputs of all nodes; of language models those of the disputed segment, once they are needed.
    run: OnceCell<FullRun>,
    /// Of language models.
    spoken: Option<(&'a Decoder, Statement)>,
}

/// What the asserter has shown in one dispute.
#[derive(Default)]
struct Shown {
    /// Flat list of the committed tree.
    leaves: Option<Vec<Hash>>,
    /// Flat list of the segment's tree.
    segment_leaves: Option<Vec<Hash>>,
    /// Reveals: height, index, children; of the committed and of the segment's tree.
    reveals: Vec<(u8, u64, Vec<Hash>)>,
    segment_reveals: Vec<(u8, u64, Vec<Hash>)>,
    block: Option<Vec<u8>>,
}

fn hashes(words: &[B256]) -> Vec<Hash> {
    words.iter().map(|word| word.0).collect()
}

fn words(hashes: &[Hash]) -> Vec<B256> {
    hashes.iter().copied().map(B256::from).collect()
}

/// Reads the asserter's moves in order; after `SegmentPosted` they are about the segment's tree.
fn shown(logs: &[ChainLog]) -> Shown {
    let mut shown = Shown::default();
    let mut in_segment = false;
    for log in logs {
        if log.decode::<IDisputes::SegmentPosted>().is_some() {
            in_segment = true;
        } else if let Some(event) = log.decode::<IDisputes::LeavesPosted>() {
            let slot = if in_segment {
                &mut shown.segment_leaves
            } else {
                &mut shown.leaves
            };
            *slot = Some(hashes(&event.leaves));
        } else if let Some(event) = log.decode::<IDisputes::Revealed>() {
            let list = if in_segment {
                &mut shown.segment_reveals
            } else {
                &mut shown.reveals
            };
            list.push((event.height, event.index, hashes(&event.children)));
        } else if let Some(event) = log.decode::<IDisputes::BlockOpened>() {
            shown.block = Some(event.blockBytes.to_vec());
        }
    }
    shown
}

fn view<'a>(
    own: &'a Tree,
    leaves: Option<&Vec<Hash>>,
    reveals: &[(u8, u64, Vec<Hash>)],
) -> TreeView<'a> {
    let mut view = TreeView::new(own);
    if let Some(leaves) = leaves {
        view.reveal_leaves(leaves);
    }
    for (height, index, children) in reveals {
        if !children.is_empty() {
            view.reveal((*height).into(), *index, children);
        }
    }
    view
}

fn first_other(theirs: &[Hash], own: impl Fn(u64) -> Option<Hash>) -> Option<u64> {
    (0u64..)
        .zip(theirs)
        .find(|(index, hash)| own(*index) != Some(**hash))
        .map(|(index, _)| index)
}

impl<'a> RunCase<'a> {
    fn plain(model: &'a Loaded, receipt: Receipt, job: JobData) -> Result<Self, WatcherError> {
        let failed = |reason: String| WatcherError::Replay {
            model_id: receipt.model_id,
            reason,
        };
        let input = tensor(model, &job.input).map_err(failed)?;
        let run = model
            .engine()
            .run_full(&input)
            .map_err(|error| failed(error.to_string()))?;
        let layout = Layout::new(&model.structure, run.seq);
        let committed = run.committed_tree(&layout, &job.salt.0);
        Ok(Self {
            model,
            receipt,
            job,
            layout,
            extent: run.seq.into(),
            run: OnceCell::from(run),
            committed,
            spoken: None,
        })
    }

    fn spoken(
        model: &'a Loaded,
        decoder: &'a Decoder,
        receipt: Receipt,
        job: JobData,
        (statement, own): (Statement, Generated),
    ) -> Self {
        Self {
            model,
            receipt,
            job,
            layout: Layout::new(&model.structure, own.extent),
            extent: own.extent,
            run: OnceCell::new(),
            committed: own.tree,
            spoken: Some((decoder, statement)),
        }
    }

    fn next(
        &self,
        id: U256,
        dispute: &IDisputes::Dispute,
        shown: &Shown,
    ) -> Result<Option<Move>, WatcherError> {
        Ok(Some(match dispute.stage {
            stage::PICK => Move::Pick(self.pick(id, dispute, shown)?),
            stage::NAME => Move::Name(self.name(id, dispute, shown)?),
            stage::PROVE => Move::ProveElement(self.prove(id, dispute, shown)?),
            _ => return Ok(None),
        }))
    }

    /// Outputs of a segment's nodes. One case is about one segment.
    fn run(&self, segment: u32) -> Result<&FullRun, WatcherError> {
        if let (None, Some((decoder, statement))) = (self.run.get(), &self.spoken) {
            let wanted = (statement, segment);
            let run = language::segment(decoder, &self.receipt, &self.job, wanted)?;
            return Ok(self.run.get_or_init(|| run));
        }
        self.run.get().ok_or(WatcherError::Replay {
            model_id: self.receipt.model_id,
            reason: "there is no run".into(),
        })
    }

    fn segment_of(&self, id: U256, dispute: &IDisputes::Dispute) -> Result<u32, WatcherError> {
        let leaf = self.layout.committed_leaf(dispute.committedLeaf);
        let segment = match leaf {
            Some(Leaf::Block { node, .. }) => self.layout.segment_of(node),
            _ => None,
        };
        segment.ok_or(WatcherError::Dispute {
            id,
            reason: "the disputed leaf has no segment",
        })
    }

    fn walked(&self, id: U256, dispute: &IDisputes::Dispute) -> Result<Tree, WatcherError> {
        if !dispute.inSegment {
            return Ok(self.committed.clone());
        }
        let segment = self.segment_of(id, dispute)?;
        Ok(self.run(segment)?.segment_tree(&self.layout, segment))
    }

    fn pick(
        &self,
        id: U256,
        dispute: &IDisputes::Dispute,
        shown: &Shown,
    ) -> Result<IDisputes::pickCall, WatcherError> {
        let missing = |reason| WatcherError::Dispute { id, reason };
        let (height, index, children) = last_reveal(dispute, shown).map_err(missing)?;
        let levels = children.len().ilog2();
        let below = height.saturating_sub(levels);
        let first = index.checked_shl(levels).unwrap_or(u64::MAX);
        let own = self.walked(id, dispute)?;
        let j = first_other(children, |j| own.node(below, first.saturating_add(j)));
        let j = j.ok_or(missing("every revealed node equals the own one"))?;
        Ok(IDisputes::pickCall {
            id,
            children: words(children),
            j: u8::try_from(j).unwrap_or(u8::MAX),
        })
    }

    fn name(
        &self,
        id: U256,
        dispute: &IDisputes::Dispute,
        shown: &Shown,
    ) -> Result<IDisputes::nameCall, WatcherError> {
        let missing = |reason| WatcherError::Dispute { id, reason };
        let leaves = posted_leaves(dispute, shown).map_err(missing)?;
        let own = self.walked(id, dispute)?;
        let leaf = first_other(leaves, |leaf| own.node(0, leaf));
        let leaf = leaf.ok_or(missing("every posted leaf equals the own one"))?;
        Ok(IDisputes::nameCall {
            id,
            leaves: words(leaves),
            leaf,
        })
    }

    fn prove(
        &self,
        id: U256,
        dispute: &IDisputes::Dispute,
        shown: &Shown,
    ) -> Result<IDisputes::proveElementCall, WatcherError> {
        let missing = |reason| WatcherError::Dispute { id, reason };
        let committed = view(&self.committed, shown.leaves.as_ref(), &shown.reveals);
        if !dispute.inSegment
            && self.layout.committed_leaf(dispute.committedLeaf) == Some(Leaf::OutputCommit)
        {
            let evidence = self.output_evidence(&committed);
            let evidence = evidence?.map_err(|source| WatcherError::Evidence { id, source })?;
            return Ok(IDisputes::proveElementCall {
                id,
                blockBytes: Vec::new().into(),
                evidence: evidence.encode().into(),
            });
        }
        let block_bytes = shown
            .block
            .clone()
            .ok_or(missing("no opened block on the chain"))?;
        let segment_tree = self.walked(id, dispute)?;
        let segment_view = view(
            &segment_tree,
            shown.segment_leaves.as_ref(),
            &shown.segment_reveals,
        );
        let (place, segment) = if dispute.inSegment {
            let number = self.segment_of(id, dispute)?;
            (
                self.layout.segment_leaf(number, dispute.index),
                Some((number, &segment_view)),
            )
        } else {
            let place = match self.layout.committed_leaf(dispute.committedLeaf) {
                Some(Leaf::Block { node, block }) => Some((node, block)),
                _ => None,
            };
            (place, None)
        };
        let (node, block) = place.ok_or(missing("the disputed leaf is no block"))?;
        let own_segment = self.layout.segment_of(node).unwrap_or(0);
        let run = self.run(own_segment)?;
        let own = run
            .outputs
            .get(node as usize)
            .ok_or(missing("the own run lacks the node"))?;
        let element = first_difference(&self.layout, node, block, &block_bytes, own);
        let element = element.ok_or(missing("the opened block equals the own one"))?;
        let evidence = self
            .prover(run, &committed, segment)
            .element(node, element, self.extent);
        let evidence = evidence.map_err(|source| WatcherError::Evidence { id, source })?;
        Ok(IDisputes::proveElementCall {
            id,
            blockBytes: block_bytes.into(),
            evidence: evidence.encode().into(),
        })
    }

    fn output_evidence(
        &self,
        committed: &TreeView<'_>,
    ) -> Result<Result<Evidence, GraphError>, WatcherError> {
        let last = self.model.structure.nodes.len().saturating_sub(1) as u32;
        let run = self.run(self.layout.segment_of(last).unwrap_or(0))?;
        Ok(self
            .prover(run, committed, None)
            .commitment(Leaf::OutputCommit))
    }

    fn prover<'b>(
        &'b self,
        run: &'b FullRun,
        committed: &'b TreeView<'b>,
        segment: Option<(u32, &'b TreeView<'b>)>,
    ) -> Prover<'b> {
        Prover {
            graph: &self.model.graph,
            trees: &self.model.trees,
            layout: &self.layout,
            values: &run.outputs,
            committed,
            segment,
            input: (&self.job.salt.0, &self.job.input),
            output: &self.job.output,
            statement: self.spoken.as_ref().map(|(_, statement)| statement),
        }
    }

    /// A proof of the first wrong leaf of a flat list in one transaction, where its block can be recomputed whole.
    fn one_shot(&self, leaves: &[B256]) -> Option<IDisputes::proveBlockCall> {
        let theirs = hashes(leaves);
        let leaf = first_other(&theirs, |leaf| self.committed.node(0, leaf))?;
        let place = self.layout.committed_leaf(leaf)?;
        let committed = view(&self.committed, Some(&theirs), &[]);
        let evidence = match place {
            Leaf::Block { node, block } => {
                let segment = self.layout.segment_of(node)?;
                if self.layout.segment_nodes(segment).count() > 1 {
                    return None;
                }
                let run = self.run(segment).ok()?;
                let prover = self.prover(run, &committed, None);
                prover.block(node, block, self.extent).ok()?
            }
            Leaf::OutputCommit => self.output_evidence(&committed).ok()?.ok()?,
            Leaf::InputCommit => Evidence::default(),
        };
        Some(IDisputes::proveBlockCall {
            claimId: self.receipt.claim_id(),
            leaves: leaves.to_vec(),
            leaf,
            evidence: evidence.encode().into(),
        })
    }
}

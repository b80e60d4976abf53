//! TESTING ONLY: language models that lie, so that tests and demonstrations can catch them.

use std::sync::Arc;

use alloy_primitives::B256;
use assay_engine::{EngineOptions, FullRun, Sequence};
use assay_graph::layout::Layout;
use assay_graph::trace::{Family, Tree, input_commit, output_commit};
use assay_graph::{Const, ConstKind, DType, Data, Extent, Graph, Statement, Tensor};

use crate::OperatorError;
use crate::fault::flipped;
use crate::language::{
    Answered, HonestSpeaker, LanguageModel, Pace, Prompt, Speaker, fed, token_bytes,
};
use crate::model::Execution;

/// How a language model lies. Whatever it does, it signs what was asked.
#[derive(Clone, Debug)]
pub enum LanguageFault {
    /// Serves another graph under the registered id: same structure, other weights.
    OtherGraph(Arc<Graph>),
    /// Leaves out the first tokens of the prompt.
    ShortPrompt {
        /// Tokens left out.
        dropped: usize,
        /// Signs the length that was run instead of the one that was asked.
        signs_it: bool,
    },
    /// Draws from another random stream.
    OtherSeed,
    /// Says another token than was sampled, and goes on from it.
    WrongToken {
        /// Answered position.
        at: usize,
    },
    /// Leaves out the last tokens of the answer from output and length, not from the trace.
    Truncated {
        /// Tokens left out.
        dropped: usize,
    },
    /// Adds tokens that nothing sampled.
    Extended {
        /// Tokens added.
        added: usize,
    },
    /// Goes on after a token that ends the answer.
    GoesOn,
    /// Computes as if nothing were masked.
    NoMasks,
    /// Names a token that the vocabulary lacks.
    NoSuchToken,
    /// Changes one value of one node and computes everything after it from that, but for the tokens that are said.
    Flip {
        /// Node.
        node: u32,
        /// Row-major index in its output, taken modulo its length.
        element: usize,
    },
}

/// TESTING ONLY: claims to speak for a registered model.
pub struct FaultySpeaker {
    registered: Arc<Graph>,
    inner: HonestSpeaker,
    fault: LanguageFault,
}

fn words(error: impl std::fmt::Display) -> String {
    error.to_string()
}

/// What was really run.
struct Lie {
    prompt: Vec<u32>,
    answer: Vec<u32>,
    statement: Statement,
}

impl LanguageModel {
    /// TESTING ONLY: a lie about `graph`.
    ///
    /// # Errors
    /// [`OperatorError::Model`].
    pub fn faulty(
        graph: &Arc<Graph>,
        fault: LanguageFault,
        options: EngineOptions,
    ) -> Result<Self, OperatorError> {
        let served = match &fault {
            LanguageFault::OtherGraph(other) => Arc::clone(other),
            _ => Arc::clone(graph),
        };
        let inner = HonestSpeaker::new(served, options).map_err(|reason| OperatorError::Model {
            model_id: B256::from(graph.model_id()),
            reason,
        })?;
        let speaker = FaultySpeaker {
            registered: Arc::clone(graph),
            inner,
            fault,
        };
        Self::with_speaker(graph, Arc::new(speaker), Pace::default())
    }
}

impl FaultySpeaker {
    /// The tokens that go through the model: all that is claimed, but for the lies about the ends.
    fn lie(&self, prompt: &[u32], answer: &[u32], statement: &Statement) -> Lie {
        let mut lie = Lie {
            prompt: prompt.to_vec(),
            answer: answer.to_vec(),
            statement: statement.clone(),
        };
        match &self.fault {
            LanguageFault::ShortPrompt { dropped, .. } => {
                lie.prompt
                    .drain(..*dropped.min(&prompt.len().saturating_sub(1)));
            }
            LanguageFault::OtherSeed => lie.statement.sampling.seed[0] ^= 1,
            LanguageFault::NoMasks => lie.statement.masks.iter_mut().for_each(|m| m.fill(0xff)),
            LanguageFault::NoSuchToken => {
                // The model can't be run with it.
                if let Some(last) = lie.answer.last_mut() {
                    *last = 0;
                }
            }
            _ => {}
        }
        lie
    }

    /// Extent that is signed for an answer of `out` tokens to `asked`.
    fn signed(&self, asked: usize, out: usize) -> Result<Extent, String> {
        let n_in = match &self.fault {
            LanguageFault::ShortPrompt {
                dropped,
                signs_it: true,
            } => asked.saturating_sub(*dropped).max(1),
            _ => asked,
        };
        Extent::answering(n_in as u32, out as u32).ok_or_else(|| "no answer".to_owned())
    }

    /// The tree that is committed: leaves of the run, as many as the signed size has, between the receipt's ends.
    fn tree(&self, run: &FullRun, extent: Extent, ends: [[u8; 32]; 2]) -> Tree {
        let layout = Layout::new(&self.registered.structure(), extent);
        let ran = run.committed_tree(&layout, &[0; 32]);
        let mut leaves = ran.leaf_hashes().to_vec();
        leaves.resize(layout.committed_leaves() as usize, [0x5a; 32]);
        let [input, output] = ends;
        if let Some(first) = leaves.first_mut() {
            *first = input;
        }
        if let Some(last) = leaves.last_mut() {
            *last = output;
        }
        Tree::new(Family::Trace, leaves)
    }
}

/// Another token than this one.
const fn other(token: u32) -> u32 {
    if token == 3 { 4 } else { 3 }
}

impl Speaker for FaultySpeaker {
    type Speech = Sequence;

    fn start(&self, prompt: &Prompt) -> Result<Sequence, String> {
        let statement = Statement {
            sampling: prompt.sampling.clone(),
            masks: Vec::new(),
        };
        let mut lie = self.lie(&prompt.tokens, &[], &statement);
        if matches!(self.fault, LanguageFault::GoesOn) {
            lie.statement.sampling.stop.clear();
        }
        self.inner.start(&Prompt {
            tokens: lie.prompt,
            sampling: lie.statement.sampling,
            salt: prompt.salt,
        })
    }

    fn step(&self, batch: &mut [&mut Sequence], chunk: usize) -> Result<(), String> {
        self.inner.step(batch, chunk)
    }

    fn pending(&self, speech: &Sequence) -> usize {
        self.inner.pending(speech)
    }

    fn logits<'s>(&self, speech: &'s Sequence) -> &'s [i16] {
        self.inner.logits(speech)
    }

    fn sample(&self, speech: &mut Sequence, mask: Option<&[u8]>) -> Result<u32, String> {
        self.inner.sample(speech, mask)
    }

    fn finish(
        &self,
        mut speech: Sequence,
        prompt: &Prompt,
        masks: &[Vec<u8>],
    ) -> Result<Execution, String> {
        if matches!(self.fault, LanguageFault::GoesOn) {
            for _ in 0..2 {
                while speech.pending() > 0 {
                    self.inner.step(&mut [&mut speech], 8)?;
                }
                self.inner.sample(&mut speech, None)?;
            }
        }
        let mut answer = speech.answer().to_vec();
        match &self.fault {
            LanguageFault::WrongToken { at } => {
                if let Some(token) = answer.get_mut(*at) {
                    *token = other(*token);
                }
            }
            LanguageFault::Truncated { dropped } => {
                answer.truncate(answer.len().saturating_sub(*dropped).max(1));
            }
            LanguageFault::Extended { added } => answer.extend(std::iter::repeat_n(5, *added)),
            LanguageFault::NoSuchToken => {
                if let Some(last) = answer.last_mut() {
                    *last = 1 << 20;
                }
            }
            _ => {}
        }
        let statement = Statement {
            sampling: prompt.sampling.clone(),
            masks: masks.to_vec(),
        };
        let answered = Answered {
            prompt: &prompt.tokens,
            answer: &answer,
            statement: &statement,
            salt: &prompt.salt,
        };
        let tree = self.committed(&answered)?;
        let output = token_bytes(&answer);
        let extent = self.signed(prompt.tokens.len(), answer.len())?;
        Ok(Execution {
            output,
            trace_root: tree.root().into(),
            n_leaves: tree.leaves(),
            n_in: extent.n_in(),
            n_out: extent.out,
            mask_root: crate::language::mask_root(masks),
        })
    }

    fn committed(&self, run: &Answered<'_>) -> Result<Tree, String> {
        let extent = self.signed(run.prompt.len(), run.answer.len())?;
        let ends = [
            input_commit(run.salt, &token_bytes(run.prompt)),
            output_commit(run.salt, &token_bytes(run.answer)),
        ];
        Ok(self.tree(&self.full(run)?, extent, ends))
    }

    fn segment(&self, run: &Answered<'_>, _: u32) -> Result<FullRun, String> {
        self.full(run)
    }
}

impl FaultySpeaker {
    /// Outputs of all nodes, as they are claimed.
    fn full(&self, ran: &Answered<'_>) -> Result<FullRun, String> {
        let Answered {
            prompt,
            answer,
            statement,
            ..
        } = *ran;
        let lie = self.lie(prompt, answer, statement);
        let (tokens_fed, out) = fed(&Answered {
            prompt: &lie.prompt,
            answer: &lie.answer,
            statement: &lie.statement,
            salt: ran.salt,
        })?;
        let engine = self.inner.engine();
        let run = engine.run_full_language(&tokens_fed, out, &lie.statement);
        let mut run = run.map_err(words)?;
        match self.fault {
            // What is said is what the last node says.
            LanguageFault::WrongToken { .. }
            | LanguageFault::Extended { .. }
            | LanguageFault::NoSuchToken => {
                let said = answer.iter().map(|token| token.cast_signed()).collect();
                if let Some(last) = run.outputs.last_mut() {
                    *last = tokens(said)?;
                }
            }
            LanguageFault::ShortPrompt {
                signs_it: false, ..
            } => {
                // As many rows as the signed length has: the first ones twice.
                let want = Extent::answering(prompt.len() as u32, answer.len() as u32)
                    .ok_or("no answer")?;
                let have = Extent {
                    seq: run.seq,
                    out: answer.len() as u32,
                };
                for (index, tensor) in run.outputs.iter_mut().enumerate() {
                    let ty = self.registered.types().get(index).ok_or("no such node")?;
                    let mut values = tensor.data.to_i32();
                    let (short, long) = (ty.len(have), ty.len(want));
                    while values.len() < long {
                        values.insert(0, values.get(short.saturating_sub(1)).copied().unwrap_or(0));
                    }
                    *tensor = typed(ty.dims(want), ty.dtype, &values)?;
                }
            }
            LanguageFault::Flip { node, element } => {
                let extent = Extent {
                    seq: run.seq,
                    out: answer.len() as u32,
                };
                let how = (extent, Some(statement));
                let outputs = flipped(&self.registered, how, run.outputs, (node, element, 0x15));
                run.outputs = outputs.map_err(words)?;
            }
            _ => {}
        }
        Ok(run)
    }
}

fn tokens(ids: Vec<i32>) -> Result<Tensor, String> {
    Tensor::new(vec![ids.len()], Data::I32(ids)).map_err(words)
}

fn typed(dims: Vec<usize>, dtype: DType, values: &[i32]) -> Result<Tensor, String> {
    let data = Data::from_i32(dtype, values).ok_or("value outside its type")?;
    Tensor::new(dims, data).map_err(words)
}

/// Bytes before the groups of a row: shift and bias.
const ROW_HEADER: usize = 5;

/// TESTING ONLY: the same graph without the lowest `dropped` bits of the codes of its block-coded weights: what an
/// operator serves that saves memory.
///
/// # Errors
/// The changed constants are refused.
pub fn with_fewer_bits(graph: &Graph, dropped: u8) -> Result<Graph, String> {
    let consts = graph.consts().iter().map(|c| coarse(c, dropped));
    let consts = consts.collect::<Result<Vec<_>, _>>()?;
    let nodes = graph.nodes().to_vec();
    Graph::new(graph.header(), nodes, consts, &[]).map_err(words)
}

fn coarse(constant: &Const, dropped: u8) -> Result<Const, String> {
    let kind = constant.kind();
    let ConstKind::Blocks {
        cols,
        bits,
        group,
        offsets,
        ..
    } = kind
    else {
        return Ok(constant.clone());
    };
    let low = (1u8 << dropped.min(3)) - 1;
    let (bytes_of_codes, mask) = if bits == 8 {
        (cols as usize, !low)
    } else {
        (cols as usize / 2, !(low | low << 4))
    };
    let groups = cols as usize / usize::from(group).max(1) * if offsets { 4 } else { 2 };
    let mut bytes = constant.bytes().to_vec();
    for row in bytes.chunks_mut(kind.row_bytes(0).max(1)) {
        let codes = row.iter_mut().skip(ROW_HEADER + groups);
        codes.take(bytes_of_codes).for_each(|byte| *byte &= mask);
    }
    Const::new(kind, bytes.into())
        .ok_or_else(|| "the changed constant has no valid form".to_owned())
}

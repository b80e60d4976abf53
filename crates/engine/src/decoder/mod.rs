//! Language models in passes over rows of positions: with a cache, in chunks, several requests together, or all of an answer at once.
//!
//! A pass takes some positions of some sequences, one row each. Operators on rows run as in [`Engine`]; `scores`, `causal_exp`, `transpose` and `mix` become one attention over
//! the cache of each sequence; everything behind `tail` runs for the rows whose logits are wanted, and the nodes of sampling become one function. Every sum is exact, so
//! no schedule changes a bit.

mod attention;
mod cache;
mod model;
mod sampler;
mod sequence;
mod trace;

use std::sync::Arc;

use assay_graph::{Data, Extent, Graph, Sampling, trace::Hash};
use parking_lot::Mutex;

use self::{
    model::{Action, Model},
    trace::extent,
};
use crate::{
    Engine, EngineError, EngineOptions,
    exec::{Context, Operand},
    plan::{Kernel, resize},
    simd::{bytes::canonical, elementwise::Element, isa::Isa, language},
    threads,
};

pub use sequence::{Generated, Sequence, mask_root};

/// Rows of logits that are in memory at a time while an answer is replayed.
const REPLAYED: usize = 128;

/// Sees a row of logits that a sequence wants.
type Wanted<'a> = dyn FnMut(&mut Sequence, &[i16]) -> Result<(), EngineError> + Send + 'a;

/// What sequences share with their decoder.
pub(crate) struct Shared {
    model: Model,
    isa: Isa,
    max_seq: u32,
    /// Tokens that the graph takes.
    tokens: u32,
    /// Bytes of a block of the trace.
    block: usize,
}

/// A language model ready to generate. Shared between threads by reference.
pub struct Decoder {
    engine: Engine,
    shared: Arc<Shared>,
    states: Mutex<Vec<State>>,
}

/// Buffers of one pass.
struct State {
    slots: Vec<Data>,
    /// Dimensions of all nodes for the rows of the last pass.
    dims: (Extent, Vec<Vec<usize>>),
}

/// Rows `first …` of a pass: positions `start …` of sequence `sequence` of the batch.
#[derive(Clone, Copy)]
struct Span {
    sequence: usize,
    first: usize,
    start: usize,
    rows: usize,
    /// The first answering row of the pass, and how many of the last rows answer.
    tail: usize,
    answers: usize,
}

impl std::fmt::Debug for Decoder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Decoder")
            .field("engine", &self.engine)
            .finish_non_exhaustive()
    }
}

impl Decoder {
    /// Packs the weights of a generative graph.
    ///
    /// # Errors
    /// Those of [`Engine::new`]; [`EngineError::NotALanguageModel`] with the node that no decoder can run.
    pub fn new(graph: Arc<Graph>, options: EngineOptions) -> Result<Self, EngineError> {
        let engine = Engine::new(graph, options)?;
        let graph = engine.graph();
        let model = Model::new(graph, &engine.plan)?;
        let tokens = graph
            .input_type()
            .map_or(0, |t| t.hi.max(-1).wrapping_add(1).cast_unsigned());
        let shared = Shared {
            model,
            isa: engine.isa,
            max_seq: graph.header().max_seq,
            tokens,
            block: 1 << graph.header().block_bits.clamp(10, 14),
        };
        Ok(Self {
            shared: Arc::new(shared),
            engine,
            states: Mutex::default(),
        })
    }

    /// The graph.
    pub fn graph(&self) -> &Arc<Graph> {
        self.engine.graph()
    }

    /// The engine that runs the same packed weights node by node, for disputes.
    pub const fn engine(&self) -> &Engine {
        &self.engine
    }

    /// Number of tokens that can be sampled.
    pub fn vocabulary(&self) -> u32 {
        self.shared.model.vocabulary
    }

    /// Bytes of packed weights and of the buffers of finished passes. Sequences have their own ([`Sequence::memory`]).
    pub fn memory(&self) -> usize {
        let weights: usize = self
            .engine
            .plan
            .steps
            .iter()
            .map(|s| s.kernel.bytes())
            .sum();
        let buffers = |s: &State| {
            s.slots
                .iter()
                .map(|d| d.len() * d.dtype().size())
                .sum::<usize>()
        };
        weights + self.states.lock().iter().map(buffers).sum::<usize>()
    }

    /// A request. `sampling.mask_root` is ignored: masks are given to [`Sequence::sample`]. `salt` hides prompt and answer in their commitments.
    ///
    /// # Errors
    /// [`EngineError::Statement`], [`EngineError::Positions`], [`EngineError::Token`].
    pub fn start(
        &self,
        prompt: &[u32],
        sampling: &Sampling,
        salt: &Hash,
    ) -> Result<Sequence, EngineError> {
        Sequence::new(
            Arc::clone(&self.shared),
            prompt.to_vec(),
            prompt.len(),
            sampling,
            salt,
        )
    }

    /// One pass over several sequences: each advances by up to `chunk` pending positions. Sequences with nothing pending are left alone.
    ///
    /// # Errors
    /// [`EngineError::Positions`] when a sequence is at the model's last position (no sequence advances then); [`EngineError::Order`] for a sequence of another decoder.
    pub fn step(&self, batch: &mut [&mut Sequence], chunk: usize) -> Result<(), EngineError> {
        self.pass(batch, chunk.max(1), &mut |s, logits| {
            s.logits.copy_from_slice(logits);
            s.ready = true;
            Ok(())
        })
    }

    /// Recomputes an answer: all positions with the claimed tokens put in, every sampled token, and the trace.
    ///
    /// [`Generated::tokens`] are the recomputed ones: an honest answer equals them.
    ///
    /// # Errors
    /// Those of [`start`](Self::start); [`EngineError::Masks`] unless there is a mask of the vocabulary's length for each token or none at all; [`EngineError::Answer`] for an empty answer.
    pub fn replay(
        &self,
        prompt: &[u32],
        answer: &[u32],
        sampling: &Sampling,
        masks: &[Vec<u8>],
        salt: &Hash,
    ) -> Result<Generated, EngineError> {
        if answer.is_empty() || extent(prompt.len(), answer.len()).is_none() {
            return Err(EngineError::Answer {
                positions: prompt.len() as u32,
                out: answer.len() as u32,
            });
        }
        if !masks.is_empty() && masks.len() != answer.len() {
            return Err(EngineError::Masks {
                want: answer.len(),
                have: masks.len(),
            });
        }
        let tokens: Vec<u32> = prompt
            .iter()
            .chain(answer)
            .copied()
            .take(prompt.len() + answer.len() - 1)
            .collect();
        let mut sequence = Sequence::new(
            Arc::clone(&self.shared),
            tokens,
            prompt.len(),
            sampling,
            salt,
        )?;
        while sequence.pending() > 0 {
            self.pass(&mut [&mut sequence], REPLAYED, &mut |s, logits| {
                s.recompute(logits, masks.get(s.answer.len()).map(Vec::as_slice))
            })?;
        }
        sequence.finish()
    }

    /// One pass; `each` sees the rows of logits that are wanted, in order of their positions.
    fn pass(
        &self,
        batch: &mut [&mut Sequence],
        chunk: usize,
        each: &mut Wanted<'_>,
    ) -> Result<(), EngineError> {
        let (mut spans, mut ids) = (Vec::with_capacity(batch.len()), Vec::new());
        let mut tail = 0;
        for (sequence, s) in batch.iter().enumerate() {
            if !Arc::ptr_eq(&s.shared, &self.shared) {
                return Err(EngineError::Order("be run by another decoder than its own"));
            }
            let (start, rows) = (s.computed, s.pending().min(chunk));
            if start + rows > self.shared.max_seq as usize {
                return Err(EngineError::Positions {
                    positions: start + rows,
                    max_seq: self.shared.max_seq,
                });
            }
            if rows == 0 {
                continue;
            }
            let answers = (start + rows).saturating_sub(start.max(s.wanted));
            spans.push(Span {
                sequence,
                first: ids.len(),
                start,
                rows,
                tail,
                answers,
            });
            ids.extend(
                s.tokens[start..start + rows]
                    .iter()
                    .map(|t| t.cast_signed()),
            );
            tail += answers;
        }
        if ids.is_empty() {
            return Ok(());
        }
        let rows = Extent {
            seq: ids.len() as u32,
            out: tail as u32,
        };
        let steps = &self.engine.plan.steps;
        let mut state = self.states.lock().pop().unwrap_or_else(|| State {
            slots: vec![Data::I8(Vec::new()); self.shared.model.slots],
            dims: (Extent { seq: 0, out: 0 }, Vec::new()),
        });
        if state.dims.0 != rows {
            state.dims = (rows, steps.iter().map(|s| s.ty.dims(rows)).collect());
        }
        let run = || -> Result<(), EngineError> {
            self.rows(batch, &spans, &ids, rows, &mut state)?;
            for span in &spans {
                let s = &mut *batch[span.sequence];
                s.computed += span.rows;
                s.ready = false;
            }
            if tail == 0 {
                return Ok(());
            }
            let model = &self.shared.model;
            let narrow: Vec<i16>;
            let logits = match &state.slots[model.parts[model.logits].slot] {
                Data::I16(v) => v.as_slice(),
                other => {
                    narrow = other.to_i32().into_iter().map(|v| v as i16).collect();
                    &narrow
                }
            };
            let mut logits = logits.chunks_exact(model.vocabulary as usize);
            for span in &spans {
                for row in logits.by_ref().take(span.answers) {
                    each(batch[span.sequence], row)?;
                }
            }
            Ok(())
        };
        let result = self.engine.install(run);
        self.states.lock().push(state);
        result
    }

    /// Computes all nodes for the rows of a pass.
    fn rows(
        &self,
        batch: &mut [&mut Sequence],
        spans: &[Span],
        ids: &[i32],
        rows: Extent,
        state: &mut State,
    ) -> Result<(), EngineError> {
        let model = &self.shared.model;
        let context = Context {
            isa: self.engine.isa,
            threads: self.engine.threads,
            extent: rows,
            statement: None,
        };
        let State { slots, dims } = state;
        for (i, (step, part)) in self.engine.plan.steps.iter().zip(&model.parts).enumerate() {
            let fail = |what| EngineError::Graph {
                node: i as u32,
                what,
            };
            if matches!(part.action, Action::Skip) || (part.answers && rows.out == 0) {
                continue;
            }
            if !matches!(part.action, Action::View) {
                let own = &dims.1[i];
                let mut out = std::mem::replace(&mut slots[part.slot], Data::I8(Vec::new()));
                let slot = |p: usize| &slots[model.parts[p].slot];
                resize(&mut out, step.ty.dtype, own.iter().product());
                let done = match &part.action {
                    Action::Tokens => match &mut out {
                        Data::I32(v) => {
                            v.copy_from_slice(ids);
                            Some(())
                        }
                        _ => None,
                    },
                    Action::Rope => match &step.kernel {
                        Kernel::Rope { angles, d, how } => turn(
                            context,
                            slot(step.inputs[0]),
                            angles,
                            *d,
                            *how,
                            spans,
                            &mut out,
                        ),
                        _ => None,
                    },
                    Action::Tail => tails(slot(step.inputs[0]), spans, &mut out),
                    Action::Attend {
                        attention,
                        index,
                        from,
                    } => {
                        let mut caches: Vec<_> = spans
                            .iter()
                            .map(|s| std::mem::take(&mut batch[s.sequence].caches[*index]))
                            .collect();
                        let mut parts: Vec<_> = spans
                            .iter()
                            .zip(&mut caches)
                            .map(|(s, cache)| attention::Part {
                                cache,
                                first: s.first,
                                start: s.start,
                                rows: s.rows,
                            })
                            .collect();
                        let done = attention.run(
                            context.isa,
                            context.threads,
                            from.map(slot),
                            &mut parts,
                            &mut out,
                        );
                        for (s, cache) in spans.iter().zip(caches) {
                            batch[s.sequence].caches[*index] = cache;
                        }
                        done
                    }
                    _ => {
                        let none = Data::I8(Vec::new());
                        let mut operands = [Operand {
                            dims: own,
                            data: &none,
                        }; assay_graph::MAX_INPUTS];
                        for (o, p) in operands.iter_mut().zip(&step.inputs) {
                            *o = Operand {
                                dims: &dims.1[*p],
                                data: slot(*p),
                            };
                        }
                        let count = step.inputs.len().min(operands.len());
                        context.run(step, &operands[..count], own, &mut out)
                    }
                };
                done.ok_or(fail("operand of another type than the operator takes"))?;
                slots[part.slot] = out;
            }
            if let Some(checkpoint) = part.checkpoint {
                let slot = |p: usize| &slots[model.parts[p].slot];
                let bytes = canonical(slot(i));
                let count = if part.answers { rows.out } else { rows.seq } as usize;
                let row = bytes.len() / count.max(1);
                for s in spans {
                    let (first, n) = if part.answers {
                        (s.tail, s.answers)
                    } else {
                        (s.first, s.rows)
                    };
                    batch[s.sequence]
                        .trace
                        .add(checkpoint, &bytes[first * row..(first + n) * row]);
                }
            }
        }
        Ok(())
    }
}

/// Rotations of the rows of a pass by their positions.
fn turn(
    context: Context<'_>,
    x: &Data,
    angles: &[i16],
    d: usize,
    how: crate::simd::elementwise::Rescale,
    spans: &[Span],
    out: &mut Data,
) -> Option<()> {
    fn typed<A: Element, O: Element>(
        context: Context<'_>,
        x: &[A],
        (angles, d, how): (&[i16], usize, crate::simd::elementwise::Rescale),
        positions: &[usize],
        out: &mut [O],
    ) {
        let width = x.len() / positions.len().max(1);
        threads::rows(context.threads, 8, out, width, |first, part| {
            for (i, out) in part.chunks_exact_mut(width).enumerate() {
                let row = first + i;
                let angles = &angles[positions[row] * d..][..d];
                language::rope(
                    context.isa,
                    &x[row * width..(row + 1) * width],
                    angles,
                    how,
                    out,
                );
            }
        });
    }
    let positions: Vec<usize> = spans
        .iter()
        .flat_map(|s| s.start..s.start + s.rows)
        .collect();
    let p = (angles, d, how);
    match (x, out) {
        (Data::I8(x), Data::I8(o)) => typed(context, x, p, &positions, o),
        (Data::I8(x), Data::I16(o)) => typed(context, x, p, &positions, o),
        (Data::I8(x), Data::I32(o)) => typed(context, x, p, &positions, o),
        (Data::I16(x), Data::I8(o)) => typed(context, x, p, &positions, o),
        (Data::I16(x), Data::I16(o)) => typed(context, x, p, &positions, o),
        (Data::I16(x), Data::I32(o)) => typed(context, x, p, &positions, o),
        _ => return None,
    }
    Some(())
}

/// The rows that answer.
fn tails(x: &Data, spans: &[Span], out: &mut Data) -> Option<()> {
    fn typed<T: Copy>(x: &[T], spans: &[Span], out: &mut [T]) {
        let rows: usize = spans.iter().map(|s| s.rows).sum();
        let width = x.len() / rows.max(1);
        for s in spans {
            let from = (s.first + s.rows - s.answers) * width;
            out[s.tail * width..(s.tail + s.answers) * width]
                .copy_from_slice(&x[from..from + s.answers * width]);
        }
    }
    match (x, out) {
        (Data::I8(x), Data::I8(o)) => typed(x, spans, o),
        (Data::I16(x), Data::I16(o)) => typed(x, spans, o),
        (Data::I32(x), Data::I32(o)) => typed(x, spans, o),
        _ => return None,
    }
    Some(())
}

// Decoders are shared between request handlers; sequences move between them.
const fn shared<T: Send + Sync>() {}
const _: () = shared::<Decoder>();
const _: () = shared::<Sequence>();

//! The engine: a plan, its threads, and buffers that go from run to run.

use std::sync::Arc;

use assay_graph::{
    Const, Data, Dim, Extent, Graph, Op, Statement, Tensor, TensorType, layout::Layout, trace::Hash,
};
use parking_lot::Mutex;

use crate::{
    EngineError, Tier,
    commit::{Blocks, TracedRun},
    exec::{Context, Operand},
    plan::{Kernel, Lean, Plan, Step, empty, resize, tensor},
    simd::{bytes::canonical, elementwise::extent, isa::Isa},
};

/// How an engine runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EngineOptions {
    /// Threads that share one run, at least 1. Results don't depend on it.
    pub threads: usize,
    /// Kernels to use; `None`: `ASSAY_KERNEL` if set, else the fastest tier of this machine.
    pub tier: Option<Tier>,
}

impl Default for EngineOptions {
    fn default() -> Self {
        Self {
            threads: 1,
            tier: None,
        }
    }
}

/// A graph ready to run: weights packed for the machine's instructions.
///
/// Shared between threads by reference; concurrent runs don't wait for each other.
pub struct Engine {
    graph: Arc<Graph>,
    pub(crate) plan: Plan,
    pub(crate) isa: Isa,
    pub(crate) threads: usize,
    pool: Option<rayon::ThreadPool>,
    states: Mutex<Vec<State>>,
}

/// What a run leaves behind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Keep {
    /// Buffers are shared, nodes may be fused.
    Output,
    /// A buffer for each node.
    All,
}

/// What is run.
#[derive(Clone, Copy)]
struct RunOf<'a> {
    input: &'a Tensor,
    extent: Extent,
    statement: Option<&'a Statement>,
    /// Nodes that are computed: those before this one.
    end: usize,
    /// Buffers that nobody needs any more after a node; empty to keep all.
    frees: &'a [Vec<usize>],
}

/// Buffers of one run.
struct State {
    slots: Vec<Data>,
    /// Dimensions of all nodes for the extent of the last run.
    dims: (Extent, Vec<Vec<usize>>),
}

/// The output of a run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Run {
    /// Output of the last node.
    pub output: Tensor,
    /// Positions of the run.
    pub seq: u32,
}

/// The outputs of all nodes, for disputes and segment traces.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FullRun {
    /// Outputs in node order, views included.
    pub outputs: Vec<Tensor>,
    /// Positions of the run.
    pub seq: u32,
}

/// A node that was just computed, as told to the observer of [`Engine::run_observed`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Computed<'a> {
    /// Index of the node.
    pub node: usize,
    /// Its operator.
    pub op: &'a Op,
    /// Kernel that computed it, where there is a choice; else empty.
    pub kernel: &'static str,
}

impl std::fmt::Debug for Engine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Engine")
            .field("nodes", &self.plan.steps.len())
            .field("tier", &self.isa.tier())
            .field("threads", &self.threads)
            .finish_non_exhaustive()
    }
}

impl Engine {
    /// Packs the weights of `graph` once.
    ///
    /// Cost: one pass over the weights; memory about twice their 8-bit size.
    ///
    /// # Errors
    /// [`EngineError::UnknownTier`], [`EngineError::TierUnavailable`], [`EngineError::Threads`]; [`EngineError::Graph`] for a graph that was not validated.
    pub fn new(graph: Arc<Graph>, options: EngineOptions) -> Result<Self, EngineError> {
        let tier = options.tier.map_or_else(Tier::from_env, Ok)?;
        let isa = Isa::new(tier).ok_or(EngineError::TierUnavailable { tier })?;
        let threads = options.threads.max(1);
        let pool = (threads > 1).then(|| {
            rayon::ThreadPoolBuilder::new()
                .num_threads(threads)
                .thread_name(|i| format!("engine-{i}"))
                .build()
        });
        let pool = pool.transpose().map_err(|e| EngineError::Threads {
            threads,
            reason: e.to_string(),
        })?;
        let plan = Plan::new(isa, &graph)?;
        // from here on the packed copy is read; the canonical bytes are for disputes
        graph.consts().iter().for_each(Const::release);
        Ok(Self {
            graph,
            plan,
            isa,
            threads,
            pool,
            states: Mutex::default(),
        })
    }

    /// The graph.
    pub fn graph(&self) -> &Arc<Graph> {
        &self.graph
    }

    /// The tier in use.
    pub fn tier(&self) -> Tier {
        self.isa.tier()
    }

    /// Runs the graph; keeps only the output.
    ///
    /// # Errors
    /// [`EngineError::InputType`], [`EngineError::InputShape`], [`EngineError::InputRange`].
    pub fn run(&self, input: &Tensor) -> Result<Run, EngineError> {
        self.run_observed(input, &mut |_| ())
    }

    /// As [`run`](Self::run), telling `observer` of each node after it was computed (for profiles; views are not computed).
    ///
    /// # Errors
    /// As [`run`](Self::run).
    pub fn run_observed(
        &self,
        input: &Tensor,
        observer: &mut (dyn FnMut(Computed<'_>) + Send),
    ) -> Result<Run, EngineError> {
        let seq = self.check(input)?;
        let output = self.with_state(seq, |state| {
            self.execute(
                RunOf {
                    input,
                    extent: seq.into(),
                    statement: None,
                    end: usize::MAX,
                    frees: &[],
                },
                &mut state.slots,
                &state.dims.1,
                Keep::Output,
                &mut |node, _| observer(self.computed(node)),
            )?;
            Ok(self.output(&state.slots, seq))
        })?;
        Ok(Run { output, seq })
    }

    /// Runs the graph and commits to the run: blocks of checkpoint nodes are hashed as they are produced (docs/graph.md, "Trace").
    ///
    /// `salt` hides input and output in their commitments.
    ///
    /// # Errors
    /// As [`run`](Self::run).
    pub fn run_traced(&self, input: &Tensor, salt: &Hash) -> Result<TracedRun, EngineError> {
        let seq = self.check(input)?;
        let mut blocks = Blocks::new(
            self.graph.header(),
            self.threads,
            salt,
            &canonical(&input.data),
        );
        let output = self.with_state(seq, |state| {
            self.execute(
                RunOf {
                    input,
                    extent: seq.into(),
                    statement: None,
                    end: usize::MAX,
                    frees: &[],
                },
                &mut state.slots,
                &state.dims.1,
                Keep::Output,
                &mut |node, data| {
                    if self.plan.steps.get(node).is_some_and(|s| s.checkpoint) {
                        blocks.add(data);
                    }
                },
            )?;
            Ok(self.output(&state.slots, seq))
        })?;
        Ok(blocks.finish(output, seq))
    }

    /// Runs the graph and keeps the outputs of all nodes.
    ///
    /// # Errors
    /// As [`run`](Self::run).
    pub fn run_full(&self, input: &Tensor) -> Result<FullRun, EngineError> {
        let seq = self.check(input)?;
        self.full(input, seq.into(), None, None)
    }

    /// As [`run_full`](Self::run_full), for a generative graph: `input` holds the tokens of prompt and answer but the last, the last `out` positions answer.
    ///
    /// # Errors
    /// As [`run`](Self::run); [`EngineError::Answer`] when so many positions can't answer; [`EngineError::Masks`] for masks that are missing or too short.
    pub fn run_full_language(
        &self,
        input: &Tensor,
        out: u32,
        statement: &Statement,
    ) -> Result<FullRun, EngineError> {
        let seq = self.check(input)?;
        let extent = answering(seq, out, statement)?;
        self.full(input, extent, Some(statement), None)
    }

    /// As [`run_full_language`](Self::run_full_language), but keeps only what one segment of the trace needs (docs/graph.md, "Trace"): outputs of its nodes and of those that they read. All others are empty; nodes behind the segment are not computed.
    ///
    /// # Errors
    /// As [`run_full_language`](Self::run_full_language).
    pub fn run_segment(
        &self,
        input: &Tensor,
        out: u32,
        statement: &Statement,
        segment: u32,
    ) -> Result<FullRun, EngineError> {
        let extent = answering(self.check(input)?, out, statement)?;
        self.full(input, extent, Some(statement), Some(segment))
    }

    /// Last node and buffers to let go of after each node, when one segment is wanted.
    fn needs(&self, layout: &Layout, segment: u32) -> (usize, Vec<Vec<usize>>) {
        let steps = &self.plan.steps;
        let inside = |i: &usize| layout.segment_of(*i as u32) == Some(segment);
        let end = (0..steps.len()).rfind(inside).map_or(0, |i| i + 1);
        let source = |i: usize| steps.get(i).map_or(i, |s| s.source);
        let (mut kept, mut last) = (vec![false; steps.len()], vec![0; steps.len()]);
        for (i, step) in steps.iter().enumerate().take(end) {
            for s in std::iter::once(i).chain(step.reads(false).iter().copied()) {
                let s = source(s);
                if let (Some(kept), Some(last)) = (kept.get_mut(s), last.get_mut(s)) {
                    *kept |= inside(&i);
                    *last = i;
                }
            }
        }
        let mut frees = vec![Vec::new(); end];
        for (s, (kept, last)) in kept.iter().zip(last).enumerate().take(end) {
            if let Some(free) = frees.get_mut(last).filter(|_| !kept) {
                free.push(s);
            }
        }
        (end, frees)
    }

    fn full(
        &self,
        input: &Tensor,
        extent: Extent,
        statement: Option<&Statement>,
        segment: Option<u32>,
    ) -> Result<FullRun, EngineError> {
        if statement.is_none() && self.graph.is_generative() {
            return Err(EngineError::NoStatement);
        }
        let dims = self.dims(extent);
        let mut slots: Vec<Data> = self.plan.steps.iter().map(|s| empty(s.ty.dtype)).collect();
        let (end, frees) = match segment {
            Some(segment) => self.needs(&self.layout(extent), segment),
            None => (usize::MAX, Vec::new()),
        };
        let run = RunOf {
            input,
            extent,
            statement,
            end,
            frees: &frees,
        };
        self.install(|| self.execute(run, &mut slots, &dims, Keep::All, &mut |_, _| ()))?;
        let seq = extent.seq;
        let mut outputs: Vec<Tensor> = Vec::with_capacity(slots.len());
        for (i, (step, data)) in self.plan.steps.iter().zip(slots).enumerate() {
            let data = if step.source == i {
                data
            } else {
                outputs.get(step.source).map_or(data, |t| t.data.clone())
            };
            outputs.push(if data.is_empty() {
                Tensor {
                    dims: vec![0],
                    data,
                }
            } else {
                tensor(step, extent, data)
            });
        }
        Ok(FullRun { outputs, seq })
    }

    /// Where the blocks of a run with `seq` positions lie in its trees.
    pub fn layout(&self, seq: impl Into<Extent>) -> Layout {
        Layout::new(&self.graph.structure(), seq)
    }

    fn computed(&self, node: usize) -> Computed<'_> {
        let kernel = match self.plan.steps.get(node).map(|s| &s.kernel) {
            _ if self
                .plan
                .steps
                .get(node)
                .is_some_and(|s| matches!(s.lean, Lean::Fused(_))) =>
            {
                "fused product"
            }
            Some(Kernel::Linear(p)) => p.kernel(),
            Some(Kernel::Limbs(l)) => l.kernel(),
            Some(Kernel::Conv(c)) => c.kernel(),
            _ => "",
        };
        const NONE: Op = Op::ArgMax;
        Computed {
            node,
            op: self.graph.nodes().get(node).map_or(&NONE, |n| &n.op),
            kernel,
        }
    }

    fn dims(&self, extent: Extent) -> Vec<Vec<usize>> {
        self.plan.steps.iter().map(|s| s.ty.dims(extent)).collect()
    }

    pub(crate) fn install<R: Send>(&self, f: impl FnOnce() -> R + Send) -> R {
        match &self.pool {
            Some(pool) => pool.install(f),
            None => f(),
        }
    }

    fn with_state<R: Send>(
        &self,
        seq: u32,
        f: impl FnOnce(&mut State) -> Result<R, EngineError> + Send,
    ) -> Result<R, EngineError> {
        if self.graph.is_generative() {
            return Err(EngineError::NoStatement);
        }
        let extent = Extent::from(seq);
        let mut state = self.states.lock().pop().unwrap_or_else(|| State {
            slots: vec![Data::I8(Vec::new()); self.plan.slots],
            dims: (Extent::from(0), Vec::new()),
        });
        if state.dims.0 != extent {
            state.dims = (extent, self.dims(extent));
        }
        let result = self.install(|| f(&mut state));
        self.states.lock().push(state);
        result
    }

    fn output(&self, slots: &[Data], seq: u32) -> Tensor {
        let last = self.plan.steps.last();
        let data = last.and_then(|s| slots.get(s.slot)).cloned();
        match (last, data) {
            (Some(step), Some(data)) => tensor(step, seq.into(), data),
            _ => Tensor {
                dims: vec![0],
                data: Data::I8(Vec::new()),
            },
        }
    }

    /// Computes all nodes in order; `after` sees what each one produced.
    fn execute(
        &self,
        run: RunOf<'_>,
        slots: &mut [Data],
        dims: &[Vec<usize>],
        keep: Keep,
        after: &mut dyn FnMut(usize, &Data),
    ) -> Result<(), EngineError> {
        let lean = keep == Keep::Output;
        let buffer = |s: &Step| if lean { s.slot } else { s.source };
        let input = run.input;
        let context = Context {
            isa: self.isa,
            threads: self.threads,
            extent: run.extent,
            statement: run.statement,
        };
        for (i, step) in self.plan.steps.iter().enumerate().take(run.end) {
            let fail = |what| EngineError::Graph {
                node: i as u32,
                what,
            };
            let at = buffer(step);
            let own = dims.get(i).ok_or(fail("node without dimensions"))?;
            if lean && matches!(step.lean, Lean::Skipped) {
                continue;
            }
            if !matches!(step.kernel, Kernel::View) {
                let mut out = std::mem::replace(
                    slots.get_mut(at).ok_or(fail("node without a buffer"))?,
                    Data::I8(Vec::new()),
                );
                resize(&mut out, step.ty.dtype, own.iter().product());
                if matches!(step.kernel, Kernel::Input) {
                    copy(&input.data, &mut out);
                } else {
                    let mut operands = [Operand {
                        dims: own,
                        data: &input.data,
                    }; assay_graph::MAX_INPUTS];
                    let reads = step.reads(lean);
                    for (o, p) in operands.iter_mut().zip(reads) {
                        let producer = self.plan.steps.get(*p).and_then(|s| slots.get(buffer(s)));
                        *o = Operand {
                            dims: dims.get(*p).ok_or(fail("operand without dimensions"))?,
                            data: producer.ok_or(fail("operand without a buffer"))?,
                        };
                    }
                    let operands = operands
                        .get(..reads.len())
                        .ok_or(fail("too many operands"))?;
                    let done = match &step.lean {
                        Lean::Fused(f) if lean => self
                            .plan
                            .steps
                            .get(f.matmul)
                            .and_then(|m| context.run_fused(f, m, operands, &mut out)),
                        _ => context.run(step, operands, own, &mut out),
                    };
                    done.ok_or(fail("operand of another type than the operator takes"))?;
                }
                if let Some(slot) = slots.get_mut(at) {
                    *slot = out;
                }
            }
            after(i, slots.get(at).ok_or(fail("node without a buffer"))?);
            for free in run.frees.get(i).into_iter().flatten() {
                if let Some(slot) = slots.get_mut(*free) {
                    *slot = Data::I8(Vec::new());
                }
            }
        }
        Ok(())
    }

    /// Checks an input against the graph's declaration; returns its positions.
    fn check(&self, input: &Tensor) -> Result<u32, EngineError> {
        let ty = self.graph.input_type().ok_or(EngineError::Graph {
            node: 0,
            what: "the graph is empty",
        })?;
        if input.data.dtype() != ty.dtype {
            return Err(EngineError::InputType {
                want: ty.dtype,
                have: input.data.dtype(),
            });
        }
        let seq = positions(ty, &input.dims)
            .filter(|s| (1..=self.plan.max_seq).contains(s) && input.data.len() == ty.len(*s));
        let seq = seq.ok_or_else(|| EngineError::InputShape {
            want: shape_text(ty),
            max_seq: self.plan.max_seq,
            have: input.dims.clone(),
        })?;
        let mut ends = (i32::MAX, i32::MIN);
        match &input.data {
            Data::I8(v) => extent(self.isa, v, &mut ends),
            Data::I16(v) => extent(self.isa, v, &mut ends),
            Data::I32(v) => extent(self.isa, v, &mut ends),
        }
        if ends.0 >= ty.lo && ends.1 <= ty.hi {
            return Ok(seq);
        }
        let outside = (0..input.data.len()).find_map(|i| {
            input
                .data
                .get(i)
                .filter(|v| *v < ty.lo || *v > ty.hi)
                .map(|v| (i, v))
        });
        match outside {
            Some((index, value)) => Err(EngineError::InputRange {
                index,
                value,
                lo: ty.lo,
                hi: ty.hi,
            }),
            None => Ok(seq),
        }
    }
}

/// The extent of a run whose last `out` positions answer.
fn answering(seq: u32, out: u32, statement: &Statement) -> Result<Extent, EngineError> {
    if out == 0 || out > seq {
        return Err(EngineError::Answer {
            positions: seq,
            out,
        });
    }
    if statement.sampling.is_masked() && statement.masks.len() != out as usize {
        return Err(EngineError::Masks {
            want: out as usize,
            have: statement.masks.len(),
        });
    }
    Ok(Extent { seq, out })
}

fn copy(from: &Data, to: &mut Data) {
    match (from, to) {
        (Data::I8(a), Data::I8(b)) if a.len() == b.len() => b.copy_from_slice(a),
        (Data::I16(a), Data::I16(b)) if a.len() == b.len() => b.copy_from_slice(a),
        (Data::I32(a), Data::I32(b)) if a.len() == b.len() => b.copy_from_slice(a),
        (a, b) => *b = a.clone(),
    }
}

/// The number of positions that makes a declared shape equal `dims`: 1 when nothing depends on it.
fn positions(ty: &TensorType, dims: &[usize]) -> Option<u32> {
    if ty.shape.len() != dims.len() {
        return None;
    }
    let mut seq = None;
    for (declared, have) in ty.shape.iter().zip(dims) {
        match declared {
            Dim::Fixed(n) if *n as usize == *have => {}
            Dim::Seq if seq.is_none_or(|s| s as usize == *have) => {
                seq = Some(u32::try_from(*have).ok()?)
            }
            _ => return None,
        }
    }
    Some(seq.unwrap_or(1))
}

fn shape_text(ty: &TensorType) -> String {
    let dims: Vec<String> = ty
        .shape
        .iter()
        .map(|d| match d {
            Dim::Fixed(n) => n.to_string(),
            Dim::Seq => "seq".to_owned(),
            Dim::Out => "out".to_owned(),
        })
        .collect();
    format!("[{}]", dims.join(", "))
}

// Engines are shared between request handlers.
const fn shared<T: Send + Sync>() {}
const _: () = shared::<Engine>();

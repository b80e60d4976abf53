//! What a decoder does with each node of a graph, found once.

use assay_graph::{DType, Dim, Graph, Op};

use super::{attention::Attention, cache::Heads, sampler::Sampler};
use crate::{
    EngineError,
    plan::{self, Kernel, Plan, Step},
};

/// What becomes of a node in a pass over rows of positions.
pub(crate) enum Action {
    /// The tokens of the rows.
    Tokens,
    /// The same operator on the rows.
    Run,
    /// No bytes of its own.
    View,
    /// Part of an attention or of sampling: never formed.
    Skip,
    /// Rotation by the position of each row.
    Rope,
    /// The rows that answer.
    Tail,
    /// An attention over the cache `index`, from queries, keys and values.
    Attend {
        attention: Box<Attention>,
        index: usize,
        from: [usize; 3],
    },
}

/// One node.
pub(crate) struct Part {
    pub(crate) action: Action,
    /// Buffer.
    pub(crate) slot: usize,
    /// Whether its rows are those that answer.
    pub(crate) answers: bool,
    /// Index among the checkpoints.
    pub(crate) checkpoint: Option<usize>,
}

/// A language model, as a decoder runs it.
pub(crate) struct Model {
    pub(crate) parts: Vec<Part>,
    pub(crate) slots: usize,
    pub(crate) attentions: Vec<Heads>,
    pub(crate) checkpoints: usize,
    pub(crate) sampler: Sampler,
    /// Node of the logits.
    pub(crate) logits: usize,
    pub(crate) vocabulary: u32,
}

fn fail(node: usize, what: &'static str) -> EngineError {
    EngineError::NotALanguageModel {
        node: node as u32,
        what,
    }
}

impl Model {
    pub(crate) fn new(graph: &Graph, plan: &Plan) -> Result<Self, EngineError> {
        let steps = &plan.steps;
        let mut readers: Vec<Vec<usize>> = vec![Vec::new(); steps.len()];
        for (i, s) in steps.iter().enumerate() {
            for p in &s.inputs {
                readers[*p].push(i);
            }
        }
        let (sampler, logits, vocabulary) = sampling(graph, steps)?;
        let mut parts: Vec<Part> = Vec::with_capacity(steps.len());
        let (mut attentions, mut checkpoints) = (Vec::new(), 0);
        for (i, step) in steps.iter().enumerate() {
            let mut action = action(graph, i, step)?;
            if matches!(step.kernel, Kernel::Mix { .. }) {
                let (attention, from, inner) = attention(steps, &readers, i)?;
                for node in inner {
                    parts[node].action = Action::Skip;
                }
                attentions.push(attention.heads);
                let index = attentions.len() - 1;
                action = Action::Attend {
                    attention: Box::new(attention),
                    index,
                    from,
                };
            }
            let checkpoint = step.checkpoint.then(|| {
                checkpoints += 1;
                checkpoints - 1
            });
            parts.push(Part {
                action,
                slot: 0,
                answers: step.ty.shape.first() == Some(&Dim::Out),
                checkpoint,
            });
        }
        for (i, p) in parts.iter().enumerate() {
            let formed = !matches!(p.action, Action::Skip);
            let token = i + 1 == parts.len();
            if p.checkpoint.is_some() && !formed && !token {
                return Err(fail(i, "is a checkpoint inside of attention or sampling"));
            }
            let leads = matches!(steps[i].ty.shape[..], [Dim::Seq | Dim::Out, ..]);
            let fixed = steps[i]
                .ty
                .shape
                .iter()
                .skip(1)
                .all(|d| matches!(d, Dim::Fixed(_)));
            if formed && !(leads && fixed) {
                return Err(fail(i, "has no rows of positions"));
            }
        }
        for i in 0..parts.len() {
            if reads(steps, &parts, i)
                .iter()
                .any(|p| matches!(parts[*p].action, Action::Skip))
            {
                return Err(fail(i, "reads from inside of attention or sampling"));
            }
        }
        let slots = assign(steps, &mut parts, logits);
        Ok(Self {
            parts,
            slots,
            attentions,
            checkpoints,
            sampler,
            logits,
            vocabulary,
        })
    }
}

/// What becomes of a node, attentions aside (`mix` replaces the actions of the nodes before it).
fn action(graph: &Graph, i: usize, step: &Step) -> Result<Action, EngineError> {
    let domain = |node: usize| graph.types().get(node).and_then(|t| t.shape.first());
    let same = step
        .inputs
        .iter()
        .all(|p| domain(*p) == step.ty.shape.first());
    let reduced = |node: usize| match graph.types().get(node).and_then(|t| t.shape.last()) {
        Some(Dim::Fixed(_)) => Ok(Action::Run),
        _ => Err(fail(i, "reduces over positions")),
    };
    Ok(match &step.kernel {
        Kernel::Input if step.ty.dtype == DType::I32 && step.ty.shape == [Dim::Seq] => {
            Action::Tokens
        }
        Kernel::Input => return Err(fail(i, "takes no list of tokens")),
        Kernel::Rope { .. } => Action::Rope,
        Kernel::Tail => Action::Tail,
        Kernel::Scores { .. }
        | Kernel::CausalExp { .. }
        | Kernel::Mix { .. }
        | Kernel::Transpose { .. }
        | Kernel::Sampler(_) => Action::Skip,
        // only the census is summed over what is no row of its own
        Kernel::ReduceSum if matches!(step.inputs[..], [p] if matches!(graph.nodes().get(p).map(|n| &n.op), Some(Op::Census { .. }))) => {
            Action::Skip
        }
        Kernel::View if same => Action::View,
        Kernel::Slice { axis, .. } | Kernel::Concat { axis } if same && *axis > 0 => Action::Run,
        Kernel::LayerNorm(_) | Kernel::Softmax(_) | Kernel::ReduceSum | Kernel::ArgMax if same => {
            reduced(step.inputs.first().copied().unwrap_or(0))?
        }
        Kernel::Linear(_)
        | Kernel::Limbs(_)
        | Kernel::Add { .. }
        | Kernel::Mul(_)
        | Kernel::Rescale(_)
        | Kernel::Lookup(_)
        | Kernel::Embedding { .. }
        | Kernel::Lift { .. }
        | Kernel::RmsNorm(_)
        | Kernel::Exponent { .. }
        | Kernel::Normalise(_)
            if same =>
        {
            Action::Run
        }
        _ => return Err(fail(i, "is no operator on rows of positions")),
    })
}

/// The attention that ends in node `mix`: its parameters, queries, keys, values, and the nodes it stands for.
fn attention(
    steps: &[Step],
    readers: &[Vec<usize>],
    mix: usize,
) -> Result<(Attention, [usize; 3], [usize; 3]), EngineError> {
    let inputs = |i: usize| steps.get(i).map_or(&[][..], |s| &s.inputs[..]);
    let [e, vt] = *inputs(mix) else {
        return Err(fail(mix, "has other operands than weights and values"));
    };
    let ([s], [v]) = (inputs(e), inputs(vt)) else {
        return Err(fail(mix, "is no attention"));
    };
    let (s, v) = (*s, *v);
    let [q, k] = *inputs(s) else {
        return Err(fail(mix, "is no attention"));
    };
    let alone = [s, e, vt]
        .iter()
        .all(|n| readers[*n].len() == 1 && !steps[*n].checkpoint);
    match (
        &steps[s].kernel,
        &steps[e].kernel,
        &steps[vt].kernel,
        &steps[mix].kernel,
    ) {
        (
            Kernel::Scores { heads, kv_heads },
            Kernel::CausalExp { table, shifts },
            Kernel::Transpose { perm },
            Kernel::Mix {
                kv_heads: values,
                bits,
                how,
            },
        ) if alone && perm[..] == [1, 0] && values == kv_heads => {
            let width = |n: usize| match steps[n].ty.shape[..] {
                [Dim::Seq, Dim::Fixed(w)] => Ok(w as usize),
                _ => Err(fail(n, "is no [seq, width]")),
            };
            let (a, b, c) = (width(q)?, width(k)?, width(v)?);
            if b != c || a / heads != b / kv_heads {
                return Err(fail(mix, "has values of another width than the keys"));
            }
            let shape = Heads {
                heads: *heads,
                kv_heads: *kv_heads,
                d: a / heads,
            };
            let attention = Attention::new(shape, table.clone(), shifts.clone(), *bits, *how);
            Ok((attention, [q, k, v], [s, e, vt]))
        }
        _ => Err(fail(mix, "is no attention that a cache can serve")),
    }
}

/// The sampling nodes at the end of a graph; the logits and their number.
fn sampling(graph: &Graph, steps: &[Step]) -> Result<(Sampler, usize, u32), EngineError> {
    let last = steps.len().saturating_sub(1);
    let bad = || fail(last, "is not the last of the sampling operators");
    let node = |i: usize| graph.nodes().get(i).map(|n| &n.op);
    let input = |i: usize, o: usize| {
        let of = steps.get(i).and_then(|s| s.inputs.get(o));
        of.copied().ok_or_else(bad)
    };
    let table = |i: usize| match steps.get(i).map(|s| &s.kernel) {
        Some(Kernel::Sampler(
            plan::Sampler::Cut { table }
            | plan::Sampler::Mass { table, .. }
            | plan::Sampler::Pick { table, .. },
        )) => Ok(table),
        _ => Err(bad()),
    };
    let (gap, cut, mass) = (input(last, 0)?, input(last, 1)?, input(last, 2)?);
    let sums = input(cut, 0)?;
    let census = input(sums, 0)?;
    let adjust = input(gap, 0)?;
    let mut max = input(gap, 1)?;
    while matches!(node(max), Some(Op::BlockMax { .. })) {
        max = input(max, 0)?;
    }
    let ops = (
        node(gap),
        node(sums),
        node(census),
        node(adjust),
        node(cut),
        node(mass),
        node(last),
    );
    let (
        Some(Op::Gap { limit }),
        Some(Op::ReduceSum),
        Some(Op::Census { .. }),
        Some(Op::Adjust { scale }),
        Some(Op::Cut { .. }),
        Some(Op::Mass { block: a, .. }),
        Some(Op::Pick { block: b, .. }),
    ) = ops
    else {
        return Err(bad());
    };
    let reads = max == adjust
        && input(census, 0)? == gap
        && input(mass, 0)? == gap
        && input(mass, 1)? == cut
        && input(adjust, 1)? == 0;
    if !reads || a != b || table(mass)? != table(last)? {
        return Err(bad());
    }
    let logits = input(adjust, 0)?;
    let vocabulary = match steps.get(logits).map(|s| &s.ty.shape[..]) {
        Some([Dim::Out, Dim::Fixed(n)]) => *n,
        _ => return Err(bad()),
    };
    Ok((
        Sampler::new(*scale, *limit, table(cut)?, table(last)?),
        logits,
        vocabulary,
    ))
}

/// The nodes whose rows a node reads in a pass.
fn reads(steps: &[Step], parts: &[Part], i: usize) -> Vec<usize> {
    match &parts[i].action {
        Action::Skip => Vec::new(),
        Action::Attend { from, .. } => from.to_vec(),
        _ => steps[i].inputs.clone(),
    }
}

/// Gives each node a buffer that is free from the last use of its former owner on.
fn assign(steps: &[Step], parts: &mut [Part], logits: usize) -> usize {
    let mut last_use: Vec<usize> = (0..steps.len()).collect();
    for i in 0..steps.len() {
        for p in reads(steps, parts, i) {
            last_use[steps[p].source] = i;
        }
    }
    last_use[steps[logits].source] = usize::MAX;
    let mut free: Vec<(DType, usize)> = Vec::new();
    let mut owners: Vec<(usize, usize)> = Vec::new();
    let mut slots = 0;
    for i in 0..steps.len() {
        match parts[i].action {
            Action::Skip => continue,
            Action::View => {
                parts[i].slot = parts[steps[i].source].slot;
                continue;
            }
            _ => {}
        }
        owners.retain(|(node, slot)| {
            let alive = last_use[*node] >= i;
            if !alive {
                free.push((steps[*node].ty.dtype, *slot));
            }
            alive
        });
        let found = free.iter().rposition(|(d, _)| *d == steps[i].ty.dtype);
        parts[i].slot = found.map_or_else(
            || {
                slots += 1;
                slots - 1
            },
            |at| free.swap_remove(at).1,
        );
        owners.push((i, parts[i].slot));
    }
    slots
}

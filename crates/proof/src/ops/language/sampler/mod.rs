//! Sampled tokens (docs/graph.md, "Sampling"). The nodes between logits and tokens are no tensors of the witness: what is stated here follows from the logits, the sampling statement and the tokens,
//! of which the last two are public.
//!
//! The likeliest token of an unchanged row takes one comparison a logit ([`super::greedy`]). Elsewhere `distances` gives each token's mass, `special` the logits of tokens that are penalised or biased,
//! `cut` which masses top-k, top-p and min-p keep, and `draw` that the random number falls on the token.

mod cut;
mod distances;
mod draw;
mod special;

use std::sync::Arc;

use assay_graph::{ConstId, Node, Op, Sampling, ops::sample};

use super::greedy;
use crate::{
    error::PlanError,
    ops::{Context, elementwise},
    plan::{
        builder::Builder,
        expr::{Operand, View},
        value::Value,
    },
    sampling::MASKED,
};

/// What the nodes before the token stand for: nothing reads it but `pick`.
pub(crate) fn nothing(ctx: &Context<'_>, index: u32) -> Value {
    let mut dims = vec![vec![ctx.runs]];
    dims.extend(ctx.dims(index).into_iter().map(|d| vec![d]));
    Value {
        dims,
        view: View::default(),
        ints: None,
        lo: 0,
        hi: 0,
    }
}

/// Parameters of the nodes from logits to token.
struct Steps {
    logits: u32,
    scale: u8,
    limit: u16,
    table: ConstId,
}

/// One run's sampling.
struct Rule<'a> {
    s: &'a Sampling,
    /// Fractional bits of the logits.
    scale: u8,
    /// Distance from which a token has no mass.
    limit: usize,
    /// Masses of an octave.
    table: Arc<Vec<i32>>,
    /// Prompt and answer without its last token.
    input: &'a [i32],
}

impl Rule<'_> {
    /// The divisor of logits: a greedy statement leaves them as they are.
    fn temperature(&self) -> u32 {
        if self.s.is_greedy() {
            assay_graph::sampling::ONE
        } else {
            self.s.temperature
        }
    }

    /// Mass of a distance.
    fn mass(&self, d: usize) -> i32 {
        sample::mass_of(d as i32, &self.table, self.limit as i32) as i32
    }
}

/// The node of the adjusted logits behind maxima of blocks, where they end in one maximum.
fn under_maxima(ctx: &Context<'_>, mut id: u32) -> u32 {
    while let Some(Node {
        op: Op::BlockMax { .. },
        inputs,
        ..
    }) = ctx.nodes.get(id as usize)
    {
        id = inputs.first().copied().unwrap_or(0);
    }
    id
}

/// The nodes from logits to the token at `pick`, if everything between is as it should be.
fn steps(b: &Builder, ctx: &Context<'_>, pick: &Node) -> Result<Steps, PlanError> {
    let wrong = || b.unsupported("not the sampler that is known");
    let node = |id: u32| ctx.nodes.get(id as usize).ok_or_else(wrong);
    let (Op::Pick { block, table }, [gap, cut, mass]) = (&pick.op, &pick.inputs[..]) else {
        return Err(wrong());
    };
    match (&node(*mass)?.op, &node(*mass)?.inputs[..]) {
        (Op::Mass { block: b, table: t }, [g, c]) if (b, t, g, c) == (block, table, gap, cut) => {}
        _ => return Err(wrong()),
    }
    let census = match (&node(*cut)?.op, &node(*cut)?.inputs[..]) {
        (Op::Cut { table: t }, [sums]) if t == table => match &node(*sums)?.inputs[..] {
            [census] if node(*sums)?.op == Op::ReduceSum => node(*census)?,
            _ => return Err(wrong()),
        },
        _ => return Err(wrong()),
    };
    let (Op::Gap { limit }, [adjusted, max]) = (&node(*gap)?.op, &node(*gap)?.inputs[..]) else {
        return Err(wrong());
    };
    if max == adjusted
        || under_maxima(ctx, *max) != *adjusted
        || !matches!(census.op, Op::Census { limit: l, .. } if l == *limit)
        || census.inputs != [*gap]
    {
        return Err(wrong());
    }
    match (&node(*adjusted)?.op, &node(*adjusted)?.inputs[..]) {
        (Op::Adjust { scale }, [logits, 0]) => Ok(Steps {
            logits: *logits,
            scale: *scale,
            limit: *limit,
            table: *table,
        }),
        _ => Err(wrong()),
    }
}

/// Masses of the distances of an octave, from key or constant.
fn masses(b: &mut Builder, ctx: &Context<'_>, id: ConstId) -> Result<Arc<Vec<i32>>, PlanError> {
    let table = elementwise::table(b, ctx, id)?;
    if table.iter().any(|v| !(1..=1 << 14).contains(v)) || !table.is_sorted_by(|x, y| x >= y) {
        return Err(PlanError::Key("masses that do not fall".into()));
    }
    Ok(table)
}

/// Whether the likeliest token of the model's own logits is taken.
fn is_plain(s: &Sampling) -> bool {
    s.is_greedy() && !s.has_penalties() && s.bias.is_empty()
}

/// The sampled tokens: the statement's, or what follows from the logits.
pub(crate) fn pick(b: &mut Builder, ctx: &Context<'_>, node: &Node) -> Result<Value, PlanError> {
    let steps = steps(b, ctx, node)?;
    let table = masses(b, ctx, steps.table)?;
    let x = ctx
        .values
        .get(steps.logits as usize)
        .ok_or_else(|| b.unsupported("the logits are missing"))?
        .clone();
    let [[runs], [out], [n]] = [&x.dims[0][..], &x.dims[1][..], &x.dims[2][..]] else {
        return Err(b.unsupported("the logits' dimensions are joined"));
    };
    let (runs, out, n) = (*runs, *out, *n);
    let inside = |t: &i32| usize::try_from(*t).is_ok_and(|t| t < n);
    let said = ctx.outputs.as_ref();
    if said.is_some_and(|t| t.len() != runs * out || !t.iter().all(inside)) {
        return Err(b.unsupported("a token outside the vocabulary"));
    }
    let said = said.map(|t| &t[..]);
    let tokens = if ctx.samplings.iter().all(is_plain) {
        greedy::largest(b, &x, said)?
    } else {
        if ctx.samplings.len() != runs {
            return Err(b.unsupported("a sampling statement is missing"));
        }
        let Some(Operand::Public(input)) = ctx.values[0].view.terms.first().map(|t| t.1.operand)
        else {
            return Err(b.unsupported("the tokens are missing"));
        };
        let input = Arc::clone(&b.public_of(input).data);
        let each = input.len() / runs;
        let mut tokens = Vec::new();
        for (run, s) in ctx.samplings.iter().enumerate() {
            if s.is_masked() {
                return Err(b.unsupported(MASKED));
            }
            s.check()?;
            let x = x.slice(0, run, 1).map_err(|e| b.unsupported(e))?;
            let said = said.map(|t| &t[run * out..][..out]);
            let rule = Rule {
                s,
                scale: steps.scale,
                limit: steps.limit.into(),
                table: Arc::clone(&table),
                input: &input[run * each..][..each],
            };
            tokens.extend(if is_plain(s) {
                greedy::largest(b, &x, said)?
            } else {
                draw::tokens(b, &rule, &x, said)?
            });
        }
        tokens
    };
    let tokens = Arc::new(tokens);
    let public = b.public(&[runs, out], Arc::clone(&tokens));
    Ok(Value {
        dims: vec![vec![runs], vec![out]],
        view: View::of(Operand::Public(public), 2),
        ints: b.data.is_some().then_some(tokens),
        lo: 0,
        hi: n as i64 - 1,
    })
}

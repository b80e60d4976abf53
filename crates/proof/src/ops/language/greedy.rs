//! Greedy sampling without penalties, bias and mask: the token is the lowest index of the largest logit. The nodes between logits and token are not planned at all.
//!
//! With such a statement `adjust` multiplies by 2^8, so that a distance is 0 for the largest logits only; `cut` is 0 and the threshold is 0, so that `pick` takes the first token of distance 0
//! (docs/graph.md, "Sampling").

use std::sync::Arc;

use assay_graph::{Node, Op};

use crate::{
    error::PlanError,
    ops::Context,
    plan::{
        Choice, Table, Tables,
        builder::Builder,
        expr::{Affine, Index, Operand, Term, View},
        value::Value,
    },
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

/// The node of the logits from which the token at `pick` is made, if everything between is as it should be.
fn logits(b: &Builder, ctx: &Context<'_>, pick: &Node) -> Result<u32, PlanError> {
    let wrong = || b.unsupported("not the sampler that is known");
    let node = |id: u32| ctx.nodes.get(id as usize).ok_or_else(wrong);
    let (Op::Pick { block, table }, [gap, cut, mass]) = (&pick.op, &pick.inputs[..]) else {
        return Err(wrong());
    };
    match (&node(*mass)?.op, &node(*mass)?.inputs[..]) {
        (Op::Mass { block: b, table: t }, [g, c]) if (b, t, g, c) == (block, table, gap, cut) => {}
        _ => return Err(wrong()),
    }
    if !matches!(node(*cut)?.op, Op::Cut { .. }) {
        return Err(wrong());
    }
    let (Op::Gap { .. }, [adjusted, max]) = (&node(*gap)?.op, &node(*gap)?.inputs[..]) else {
        return Err(wrong());
    };
    if max == adjusted || under_maxima(ctx, *max) != *adjusted {
        return Err(wrong());
    }
    match (&node(*adjusted)?.op, &node(*adjusted)?.inputs[..]) {
        (Op::Adjust { .. }, [logits, 0]) => Ok(*logits),
        _ => Err(wrong()),
    }
}

/// The sampled tokens: the statement's, or what follows from the logits. `L_a − L_v − [v < a] ≥ 0` for all v makes a the lowest index of the maximum.
pub(crate) fn pick(b: &mut Builder, ctx: &Context<'_>, node: &Node) -> Result<Value, PlanError> {
    let x = ctx
        .values
        .get(logits(b, ctx, node)? as usize)
        .ok_or_else(|| b.unsupported("the logits are missing"))?
        .clone();
    let [[runs], [out], [n]] = [&x.dims[0][..], &x.dims[1][..], &x.dims[2][..]] else {
        return Err(b.unsupported("the logits' dimensions are joined"));
    };
    let (runs, out, n) = (*runs, *out, *n);
    let computed = x.ints.as_ref().map(|x| {
        let first = |row: &[i32]| {
            let best = row.iter().enumerate().max_by_key(|(i, v)| (**v, n - i));
            best.map_or(0, |(i, _)| i as i32)
        };
        Arc::new(x.chunks_exact(n).map(first).collect::<Vec<i32>>())
    });
    let said = ctx.outputs.clone().or_else(|| computed.clone());
    let tokens = said.unwrap_or_else(|| Arc::new(vec![0; runs * out]));
    if tokens.len() != runs * out
        || tokens
            .iter()
            .any(|t| usize::try_from(*t).is_ok_and(|t| t >= n) || *t < 0)
    {
        return Err(b.unsupported("a token outside the vocabulary"));
    }
    let axes = [runs, out, n];
    let most = x.hi - x.lo;
    b.fits(most.saturating_mul(3))?;
    let gaps = x.ints.as_ref().map(|x| {
        let rows = x.chunks_exact(n).zip(tokens.iter());
        rows.flat_map(|(row, a)| {
            let top = row[*a as usize];
            let each = row.iter().enumerate();
            each.map(move |(v, l)| i64::from(top - l) - i64::from(v < *a as usize))
        })
        .collect::<Vec<i64>>()
    });
    let gap = if most < 1 << b.limits.limb.max(16) {
        let table = b.table(Table::Range {
            len: (most as usize + 1).next_power_of_two(),
        });
        let cells = gaps.map(|v| v.into_iter().map(|v| v as i32).collect());
        let id = b.column(&axes, Tables::One(Choice { table, offset: 0 }), cells);
        View::column(id, 3)
    } else {
        b.around(&axes, 0, most, gaps.as_deref()).view
    };
    for (i, token) in tokens.iter().enumerate() {
        let fixed = |at: usize| Affine::fixed(at as i64);
        let row = |v: &View, last: Affine| v.substitute(&[fixed(i / out), fixed(i % out), last]);
        let best = row(&x.view, fixed(*token as usize));
        let own = row(&x.view.plus(&gap), Affine::label(0));
        let before = (0..n).map(|v| i64::from(v < *token as usize)).collect();
        let mut terms = vec![Term::linear(best.minus(&own))];
        if *token > 0 {
            let scale = Some((0, b.scale(before)));
            terms.push(Term::Constant { value: -1, scale });
        }
        b.relation("no better token, and none as good before it", &[n], terms);
    }
    let shape = [runs, out];
    let public = b.public(&shape, Arc::clone(&tokens));
    let view = View {
        terms: vec![(
            1,
            crate::plan::expr::Read {
                operand: Operand::Public(public),
                indices: vec![Index::label(0), Index::label(1)],
            },
        )],
    };
    Ok(Value {
        dims: vec![vec![runs], vec![out]],
        view,
        ints: b.data.is_some().then_some(tokens),
        lo: 0,
        hi: n as i64 - 1,
    })
}

//! The likeliest token of each row: greedy sampling without penalties, bias and mask. With such a statement `adjust` multiplies by 2^8, so that a distance is 0 for the largest logits only; `cut` is 0 and
//! the threshold is 0, so that `pick` takes the first token of distance 0 (docs/graph.md, "Sampling").

use crate::{
    error::PlanError,
    plan::{
        Choice, Table, Tables,
        builder::Builder,
        expr::{Affine, Term, View},
        value::Value,
    },
};

/// The tokens that were said or, where none were, those that follow, of logits `[runs, out, n]`. `L_a − L_v − [v < a] ≥ 0` for all v makes a the lowest index of the maximum.
pub(crate) fn largest(
    b: &mut Builder,
    x: &Value,
    said: Option<&[i32]>,
) -> Result<Vec<i32>, PlanError> {
    let (runs, out, n) = (x.dim(0), x.dim(1), x.dim(2));
    let computed = x.ints.as_ref().map(|x| {
        let first = |row: &[i32]| {
            let best = row.iter().enumerate().max_by_key(|(i, v)| (**v, n - i));
            best.map_or(0, |(i, _)| i as i32)
        };
        x.chunks_exact(n).map(first).collect::<Vec<i32>>()
    });
    let said = said.map(<[i32]>::to_vec).or(computed);
    let tokens = said.unwrap_or_else(|| vec![0; runs * out]);
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
    b.spend(2 * n * tokens.len())?;
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
    Ok(tokens)
}

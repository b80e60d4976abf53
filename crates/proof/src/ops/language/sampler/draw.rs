//! The random number falls on the token.

use std::sync::Arc;

use assay_graph::ops::sample;

use super::{
    Rule,
    cut::{self, BLOCK, Kept, MOST, Span, Sums},
    distances::{Distances, distances},
};
use crate::{
    error::PlanError,
    plan::{
        builder::Builder,
        expr::{Affine, Operand, View},
        value::Value,
        wide::{Mask, Part},
    },
};

/// The tokens that were said or, where none were, those that follow, of one run's logits `[1, out, n]`.
pub(super) fn tokens(
    b: &mut Builder,
    rule: &Rule<'_>,
    x: &Value,
    said: Option<&[i32]>,
) -> Result<Vec<i32>, PlanError> {
    let (out, n) = (x.dim(1), x.dim(2));
    let distances = distances(b, rule, x, cut::known(rule, n))?;
    let kept = cut::masses(b, rule, &distances)?;
    let computed = distances.mass.ints.as_ref().map(|mass| {
        let line = |j: usize| {
            let mass = |v: usize| kept.mass(j * n + v, mass);
            let total = (0..n).map(mass).sum();
            let mut left = sample::threshold(rule.s, j as u32, total);
            let found = (0..n).find(|v| {
                left -= mass(*v);
                left < 0
            });
            found.unwrap_or(0) as i32
        };
        (0..out).map(line).collect::<Vec<i32>>()
    });
    let said = said.map(<[i32]>::to_vec).or(computed);
    let tokens = said.unwrap_or_else(|| vec![0; out]);
    drawn(b, rule, &distances, &kept, &tokens)?;
    Ok(tokens)
}

/// Masses before each token, with it or without.
fn before(
    b: &mut Builder,
    distances: &Distances,
    kept: &Kept,
    tokens: &[i32],
    with: usize,
) -> Result<Sums, PlanError> {
    let [one, out, n] = distances.axes;
    let level = kept.level.as_ref();
    let ranges: Vec<_> = (0..)
        .zip(tokens)
        .map(|(row, t)| {
            let t = *t as usize;
            row * n + t / BLOCK * BLOCK..row * n + t + with
        })
        .collect();
    let sums = cut::cells(b, distances, level, &[one, out], &ranges);
    for (row, range) in ranges.iter().enumerate() {
        let fixed = |i: usize| Affine::fixed(i as i64);
        let tokens = |v: &View| {
            let token = Affine {
                offset: (range.start - row * n) as i64,
                terms: vec![(1, 1)],
            };
            v.substitute(&[fixed(0), fixed(row), token])
        };
        let here = |v: &View| v.substitute(&[fixed(0), fixed(row)]);
        let span = Span {
            axes: &[1],
            len: range.len(),
            tokens: &tokens,
            row: &here,
            sums: &here,
        };
        cut::state(b, distances, level, &span, &sums)?;
    }
    Ok(sums)
}

/// States that `2^64·(masses before a) ≤ U·S < 2^64·(those with a's)` for each token a: the running sum of masses exceeds `⌊U·S / 2^64⌋` at a first.
fn drawn(
    b: &mut Builder,
    rule: &Rule<'_>,
    distances: &Distances,
    kept: &Kept,
    tokens: &[i32],
) -> Result<(), PlanError> {
    let [one, out, n] = distances.axes;
    let outer = [one, out];
    let blocks = n.div_ceil(BLOCK);
    let total = kept.total(b)?;
    let random = |j| match rule.s.is_greedy() {
        true => 0,
        false => i128::from(rule.s.random(j)),
    };
    let random: Vec<i128> = (0..out as u32).map(random).collect();
    let random = b.wide_known(&outer, u64::MAX.into(), &random);
    let earlier = tokens.iter().flat_map(|t| {
        let block = *t as usize / BLOCK;
        (0..blocks).map(move |i| i32::from(i < block))
    });
    let earlier: Arc<Vec<i32>> = Arc::new(earlier.collect());
    let public = b.public(&[one, out, blocks], Arc::clone(&earlier));
    let earlier = Mask {
        view: View::of(Operand::Public(public), 3),
        ints: earlier,
    };
    for (with, sign, label) in [
        (0, 1, "masses before the token"),
        (1, -1, "masses with the token"),
    ] {
        let part = before(b, distances, kept, tokens, with)?.mass;
        let away = kept.blocks.ints.as_ref().zip(part.ints.as_ref());
        let away = away.zip(total.ints.as_ref().zip(random.ints.as_ref()));
        let away = away.map(|((all, part), (total, random))| {
            let lines = all
                .chunks_exact(blocks)
                .zip(earlier.ints.chunks_exact(blocks));
            let sums = lines.zip(part).map(|((all, earlier), part)| {
                let each = all.iter().zip(earlier);
                each.map(|(m, e)| m * i128::from(*e)).sum::<i128>() + part
            });
            let each = sums.zip(total.iter().zip(random));
            each.map(|(sum, (s, u))| {
                i128::from(sign) * (u * s - (sum << 64)) - i128::from(with as u8)
            })
            .collect()
        });
        let away = b.wide(&outer, MOST << 64, away);
        b.wide_zero(
            label,
            &outer,
            &[
                Part::Product(sign, &random, &total),
                Part::Total(64, -sign, &kept.blocks, Some(&earlier)),
                Part::Raised(64, -sign, &part),
                Part::Times(-1, &away),
                Part::Constant(-(with as i128)),
            ],
        )?;
    }
    Ok(())
}

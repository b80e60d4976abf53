//! Linear layers between 16-bit integers, whose accumulators may pass the field.

use std::sync::Arc;

use assay_graph::{Const, ConstId, Node, Op, Requant};
use rayon::prelude::*;

use super::{
    low::{BITS, centered, low},
    wide::{By, LowSum, Wide, clamped, shifted},
};
use crate::{
    error::PlanError,
    ops::{
        Context,
        linear::{indexed, joined, shape},
    },
    plan::{
        Part,
        builder::Builder,
        expr::{Index, Label, Term, View},
        value::Value,
    },
};

/// What a plan must know of rows of weights. Nothing here depends on a run.
pub(crate) struct Facts {
    /// Right shift of each row.
    pub(crate) shifts: Arc<Vec<i32>>,
    /// Largest sum of a row's magnitudes.
    pub(crate) weights: i64,
    /// Largest magnitude of a bias.
    pub(crate) bias: i64,
    /// Largest magnitude of an accumulator.
    pub(crate) most: i64,
    /// Largest magnitude of an accumulator shifted right by its row's shift less a given number.
    pub(crate) quotient: i64,
}

/// Largest magnitude of a node's elements as its structure says, whatever the run.
pub(crate) fn peak(ctx: &Context<'_>, id: u32) -> i64 {
    let node = &ctx.nodes[id as usize];
    let of = |lo: i32, hi: i32| i64::from(lo).abs().max(i64::from(hi).abs());
    match &node.op {
        Op::Input { ty } => of(ty.lo, ty.hi),
        Op::Linear { out, .. }
        | Op::Conv2d { out, .. }
        | Op::Add { out, .. }
        | Op::Requant { out }
        | Op::RmsNorm { out, .. }
        | Op::LayerNorm { out, .. }
        | Op::Lift { out, .. }
        | Op::Rope { out, .. }
        | Op::Mul { out }
        | Op::Normalise { out }
        | Op::Mix { out, .. } => of(out.lo, out.hi),
        Op::Transpose { .. } | Op::Reshape { .. } | Op::Slice { .. } | Op::Tail => {
            node.inputs.first().map_or(0, |i| peak(ctx, *i))
        }
        _ => {
            let (lo, hi) = ctx.types[id as usize].dtype.range();
            of(lo, hi)
        }
    }
}

/// What bounds rows behind a root-mean-square norm: a unit vector of length at most `2^15 + √n/2`, times gains, shifted (docs/graph.md).
struct Unit {
    gains: Vec<i64>,
    biases: Vec<i64>,
    shift: i8,
}

impl Unit {
    fn of(ctx: &Context<'_>, id: u32) -> Result<Option<Self>, PlanError> {
        let Op::RmsNorm { params, out, .. } = &ctx.nodes[id as usize].op else {
            return Ok(None);
        };
        let norm = ctx.constant(*params)?.norm();
        let (gains, biases) = norm
            .into_iter()
            .map(|(g, b)| (i64::from(g), i64::from(b)))
            .unzip();
        Ok(Some(Self {
            gains,
            biases,
            shift: out.shift,
        }))
    }

    /// Largest `|Σ w·z|` (Cauchy–Schwarz); each z is rounded by at most one half, and clamping only shortens.
    fn bound(&self, weights: &[i32]) -> Option<i64> {
        if self.shift < 0 || weights.len() != self.gains.len() {
            return None;
        }
        let products = weights
            .iter()
            .zip(&self.gains)
            .map(|(w, g)| i64::from(*w) * g);
        let squares: u128 = products.map(|p| u128::from(p.unsigned_abs()).pow(2)).sum();
        let biases = weights.iter().zip(&self.biases);
        let biases: u128 = biases
            .map(|(w, b)| u128::from((i64::from(*w) * b).unsigned_abs()))
            .sum();
        let length = (1u128 << 15) + (self.gains.len() as u128).isqrt() / 2 + 1;
        let dot = (squares.isqrt() + 1)
            .checked_mul(length)?
            .checked_add(biases)?;
        let sum: i64 = weights.iter().map(|w| i64::from(*w).abs()).sum();
        i64::try_from((dot >> self.shift) + 1)
            .ok()?
            .checked_add(sum / 2 + 1)
    }
}

/// Facts of a constant's rows behind node `x`. `less` is the most that an exponent takes off a shift.
pub(crate) fn facts(
    b: &mut Builder,
    ctx: &Context<'_>,
    id: ConstId,
    x: u32,
    less: i64,
) -> Result<Facts, PlanError> {
    let (rows, _) = shape(b, ctx.kind(b, id)?)?;
    let peak = peak(ctx, x);
    let mut known: Option<[i64; 4]> = None;
    let mut number = |b: &mut Builder, i: usize| {
        b.facts.number(|| {
            if known.is_none() {
                known = Some(measure(ctx, id, x, (peak, less))?);
            }
            Ok(known.map_or(0, |k| k[i]))
        })
    };
    let (weights, bias) = (number(b, 0)?, number(b, 1)?);
    let (most, quotient) = (number(b, 2)?, number(b, 3)?);
    let shifts = b.facts.shifts(rows, || {
        let c = ctx.constant(id)?;
        Ok((0..rows as u32)
            .into_par_iter()
            .map(|r| c.row_values(r).map_or(0, |v| v.shift.into()))
            .collect())
    })?;
    Ok(Facts {
        shifts,
        weights,
        bias,
        most,
        quotient,
    })
}

fn measure(
    ctx: &Context<'_>,
    id: ConstId,
    x: u32,
    (peak, less): (i64, i64),
) -> Result<[i64; 4], PlanError> {
    let c = ctx.constant(id)?;
    let unit = Unit::of(ctx, x)?;
    let row = |r: u32| {
        let Some(row) = c.row_values(r) else {
            return [0; 4];
        };
        let sum: i64 = row.values.iter().map(|w| i64::from(*w).abs()).sum();
        let bias = i64::from(row.bias).abs();
        let whole = sum.saturating_mul(peak);
        let close = unit.as_ref().and_then(|u| u.bound(&row.values));
        let most = close.map_or(whole, |c| c.min(whole)).saturating_add(bias);
        let k = (i64::from(row.shift) - less).clamp(0, 62);
        let half = if k > 0 { 1 << (k - 1) } else { 0 };
        [sum, bias, most, most.saturating_add(half) >> k]
    };
    let larger = |a: [i64; 4], b: [i64; 4]| std::array::from_fn(|i| a[i].max(b[i]));
    Ok((0..c.kind().rows())
        .into_par_iter()
        .map(row)
        .reduce(|| [0; 4], larger))
}

/// The sum `bias + W·x` of a linear layer over the labels before x's last dimension and then the rows.
pub(crate) struct Layer {
    pub(crate) sum: Wide,
    /// Label of the rows.
    pub(crate) rows: Label,
    /// Dimensions of what comes out.
    pub(crate) dims: Vec<Vec<usize>>,
    x: Value,
    id: ConstId,
    facts: Facts,
    cols: usize,
}

impl Layer {
    pub(crate) fn new(
        b: &mut Builder,
        ctx: &Context<'_>,
        node: &Node,
        id: ConstId,
        facts: Facts,
    ) -> Result<Self, PlanError> {
        let x = ctx.operand(b, node, 0)?.clone();
        let (n, cols) = shape(b, ctx.kind(b, id)?)?;
        let last = x.dims.len() - 1;
        let rows = x.labels(last).start;
        let mut axes = x.factors();
        axes.truncate(rows);
        axes.push(n);
        let mut dims = x.dims.clone();
        dims[last] = vec![n];
        let most = facts.most;
        let mut layer = Self {
            sum: Wide {
                axes,
                terms: Vec::new(),
                ints: None,
                most,
            },
            rows,
            dims,
            x,
            id,
            facts,
            cols,
        };
        let view = layer.x.view.clone();
        layer.sum.terms = layer.terms(b, &view);
        layer.sum.ints = match (&layer.x.ints, ctx.consts) {
            (Some(x), Some(_)) => Some(products(x, ctx.constant(id)?, n, cols)),
            _ => None,
        };
        Ok(layer)
    }

    /// The sum, once.
    pub(crate) fn take(&mut self) -> Wide {
        Wide {
            axes: std::mem::take(&mut self.sum.axes),
            terms: std::mem::take(&mut self.sum.terms),
            ints: self.sum.ints.take(),
            most: self.sum.most,
        }
    }

    fn terms(&self, b: &mut Builder, x: &View) -> Vec<Term> {
        let sums = self.x.dims.last().cloned().unwrap_or_default();
        let names: Vec<Label> = (0..self.rows)
            .chain(self.rows + 1..=self.rows + sums.len())
            .collect();
        let n = self.facts.shifts.len();
        let weights = indexed(
            b.weight(self.id, Part::Values, &[n, self.cols]),
            vec![Index::label(self.rows), joined(self.rows + 1, &sums).into()],
        );
        let mut terms = vec![Term::Product {
            coefficient: 1,
            sums,
            a: x.rename(&names),
            b: weights,
        }];
        if self.facts.bias != 0 {
            let bias = b.weight(self.id, Part::Bias, &[n]);
            terms.push(Term::linear(bias.rename(&[self.rows])));
        }
        terms
    }

    /// The sum of low limbs.
    pub(crate) fn low(&self, b: &mut Builder, ctx: &Context<'_>) -> Result<LowSum, PlanError> {
        let low = low(b, &self.x)?;
        let most = self
            .facts
            .weights
            .saturating_mul(low.most)
            .saturating_add(self.facts.bias);
        b.fits(most)?;
        let x: Option<Vec<i32>> = b
            .evaluate(&low.view, &self.x.factors())
            .map(|v| v.into_iter().map(|v| v as i32).collect());
        let ints = match (x, ctx.consts) {
            (Some(x), Some(_)) => Some(products(
                &x,
                ctx.constant(self.id)?,
                self.facts.shifts.len(),
                self.cols,
            )),
            _ => None,
        };
        Ok(LowSum {
            terms: self.terms(b, &low.view),
            ints,
            most,
        })
    }
}

/// `[…, k] → […, n]`.
pub(crate) fn linear(
    b: &mut Builder,
    ctx: &Context<'_>,
    node: &Node,
    id: ConstId,
    out: &Requant,
) -> Result<Value, PlanError> {
    let facts = facts(b, ctx, id, node.inputs[0], 0)?;
    let (most, shifts) = (facts.quotient, Arc::clone(&facts.shifts));
    let mut layer = Layer::new(b, ctx, node, id, facts)?;
    let by = By {
        label: layer.rows,
        shifts,
        round: true,
    };
    let axes = layer.sum.axes.clone();
    let ints = layer.sum.ints.as_ref().map(|v| by.quotients(&axes, v));
    let ends = (out.lo.into(), out.hi.into());
    let (h, y) = clamped(b, &axes, (-most, most), ends, ints.as_deref())?;
    let sum = layer.take();
    shifted(b, sum, &by, &h, None, |b| layer.low(b, ctx))?;
    Ok(Value {
        dims: layer.dims,
        view: y.view,
        ints: y.ints.map(Arc::new),
        lo: y.lo,
        hi: y.hi,
    })
}

/// `bias + W·x` for each row of x, exactly: of 16-bit integers, as two sums of 32 bits where rows are short enough.
pub(crate) fn products(x: &[i32], constant: &Const, rows: usize, cols: usize) -> Vec<i64> {
    let lines = x.len() / cols;
    let parts: Vec<(i32, i32)> = x
        .iter()
        .map(|v| {
            let low = centered((*v).into()) as i32;
            ((*v - low) >> BITS, low)
        })
        .collect();
    let (high, low): (Vec<i32>, Vec<i32>) = parts.into_iter().unzip();
    let peak = high
        .iter()
        .map(|v| v.unsigned_abs())
        .max()
        .unwrap_or(0)
        .max(1 << (BITS - 1));
    let columns: Vec<Vec<i64>> = (0..rows as u32)
        .into_par_iter()
        .map(|r| {
            let Some(row) = constant.row_values(r) else {
                return vec![0; lines];
            };
            let w = &row.values[..];
            let sum: u64 = w.iter().map(|w| u64::from(w.unsigned_abs())).sum();
            let short = sum.saturating_mul(peak.into()) < 1 << 31;
            let dot = |x: &[i32]| {
                let pairs = x.iter().zip(w);
                if short {
                    i64::from(pairs.fold(0i32, |s, (x, w)| s.wrapping_add(x.wrapping_mul(*w))))
                } else {
                    pairs.map(|(x, w)| i64::from(*x) * i64::from(*w)).sum()
                }
            };
            let lines = high.chunks_exact(cols).zip(low.chunks_exact(cols));
            lines
                .map(|(high, low)| (dot(high) << BITS) + dot(low) + i64::from(row.bias))
                .collect()
        })
        .collect();
    let mut out = vec![0; lines * rows];
    for (r, column) in columns.iter().enumerate() {
        for (line, v) in column.iter().enumerate() {
            out[line * rows + r] = *v;
        }
    }
    out
}

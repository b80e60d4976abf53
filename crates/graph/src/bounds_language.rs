//! Bounds of the operators of language models.
//!
//! Behind a root-mean-square norm a row is `z_j = rnd(u_j·g_j + b_j, s)` with `‖u‖₂ ≤ 2^15 + √n/2`, so a dot product is at most `‖q∘g‖₂·‖u‖₂·2^−s` and a rest (Cauchy–Schwarz);
//! so is every partial sum. Where even that passes [`A_MAX`], two limbs of the weights may do (docs/graph.md, "Accumulators of 1 or 2 limbs").

use crate::{
    A_MAX,
    bounds::{Pass, Range, spread},
    consts::RowValues,
    error::GraphError,
    node::{ConstId, Node, Op, Requant},
    ops::requant,
    types::TensorType,
};

/// What is known of the rows behind a root-mean-square norm.
#[derive(Clone, Debug)]
pub(crate) struct Unit {
    /// Gain of each channel.
    gains: Vec<i32>,
    /// Bias of each channel; empty when all are 0.
    biases: Vec<i32>,
    /// Right shift after them.
    shift: i8,
}

/// `⌈v·2^−shift⌉` for `v ≥ 0`.
fn scaled(v: u128, shift: i8) -> i64 {
    let v = if shift >= 0 {
        (v >> shift).saturating_add(1)
    } else {
        v.checked_shl(u32::from(shift.unsigned_abs()))
            .unwrap_or(u128::MAX)
    };
    i64::try_from(v).unwrap_or(i64::MAX)
}

/// Sums of the positive and of the negative values; at most 2^24 values of 17 bits, so nothing wraps.
fn halves(values: &[i32]) -> (i64, i64) {
    values.iter().fold((0i64, 0i64), |(up, down), v| {
        let v = i64::from(*v);
        (up.wrapping_add(v.max(0)), down.wrapping_add(v.min(0)))
    })
}

/// `Σ (q·g)²`; products are below 2^31, so eight squares fit 64 bits.
fn squares(values: &[i32], gains: &[i32]) -> u128 {
    values
        .chunks(8)
        .zip(gains.chunks(8))
        .map(|(q, g)| {
            let part = q.iter().zip(g).fold(0u64, |sum, (q, g)| {
                let product = u64::from(q.wrapping_mul(*g).unsigned_abs());
                sum.wrapping_add(product.wrapping_mul(product))
            });
            u128::from(part)
        })
        .sum()
}

impl Unit {
    /// Largest |Σ q·z| for any subset of the columns; `|q| ≤ 2^15`.
    fn bound(&self, q: &[i32]) -> i64 {
        let (up, down) = halves(q);
        let biases: u128 = q
            .iter()
            .zip(&self.biases)
            .map(|(q, b)| u128::from((i64::from(*q) * i64::from(*b)).unsigned_abs()))
            .sum();
        let length = (1u128 << 15) + (self.gains.len() as u128).isqrt() / 2 + 1;
        let dot = (squares(q, &self.gains).isqrt() + 1)
            .saturating_mul(length)
            .saturating_add(biases);
        // each z is rounded by at most one half
        scaled(dot, self.shift).saturating_add((up - down) / 2 + 1)
    }
}

impl Pass<'_> {
    /// The fact that a norm leaves behind.
    pub(crate) fn unit(&self, node: &Node) -> Option<Unit> {
        let Op::RmsNorm { params, out, .. } = &node.op else {
            return None;
        };
        let (gains, mut biases): (Vec<i32>, Vec<i32>) = self
            .constant(*params)
            .ok()?
            .norm()
            .into_iter()
            .map(|(g, b)| (i32::from(g), b))
            .unzip();
        if biases.iter().all(|b| *b == 0) {
            biases.clear();
        }
        Some(Unit {
            gains,
            biases,
            shift: out.shift,
        })
    }

    /// Bounds of a linear: interval, Euclidean length, two limbs, in this order. `exponent` is the largest that a second operand can take off a row's shift.
    pub(crate) fn weight_rows(
        &self,
        index: u32,
        id: ConstId,
        x: Range,
        (exponent, unit): (i64, Option<&Unit>),
        out: &Requant,
    ) -> Result<Range, GraphError> {
        let constant = self.constant(id)?;
        let kind = constant.kind();
        let mut total: Option<Range> = None;
        for r in 0..kind.rows() {
            let Some(row) = constant.row_values(r) else {
                return self.fail(
                    index,
                    "the constant holds no weights, or a row's shift lies outside -15 … 31",
                );
            };
            if row.values.iter().any(|w| w.unsigned_abs() > 32_768) {
                return self.fail(index, "a weight of a block passes 16 bits");
            }
            let (lo, hi) = self.row(index, r, &row, x, (exponent, unit), out)?;
            total = Some(total.map_or((lo, hi), |(a, b)| (a.min(lo), b.max(hi))));
        }
        Ok(total.unwrap_or((0, 0)))
    }

    fn row(
        &self,
        index: u32,
        r: u32,
        row: &RowValues,
        x: Range,
        (exponent, unit): (i64, Option<&Unit>),
        out: &Requant,
    ) -> Result<Range, GraphError> {
        let mut acc = interval(row, x);
        if let Some(unit) = unit {
            let bound = unit
                .bound(&row.values)
                .saturating_add(i64::from(row.bias).abs());
            acc = (acc.0.max(-bound), acc.1.min(bound));
        }
        let Ok(lowest) = i8::try_from(i64::from(row.shift) - exponent) else {
            return self.fail(index, "an exponent takes more than a row's shift has");
        };
        let mut range: Option<Range> = None;
        for shift in [row.shift, lowest] {
            let closed = match self.close(index, r, acc, shift, out) {
                Err(GraphError::Bound { .. })
                    if shift >= 4 && Self::two_limbs(row, shift, x, unit) =>
                {
                    (
                        i64::from(requant(acc.0, shift, out)),
                        i64::from(requant(acc.1, shift, out)),
                    )
                }
                closed => closed?,
            };
            range = Some(range.map_or(closed, |(a, b)| (a.min(closed.0), b.max(closed.1))));
        }
        Ok(range.unwrap_or((0, 0)))
    }

    /// Whether `Σ q_h·x` and `Σ q_l·x + 2^(shift−1)` stay within [`A_MAX`], `q = 16·q_h + q_l`, `−8 ≤ q_l ≤ 7`.
    fn two_limbs(row: &RowValues, shift: i8, x: Range, unit: Option<&Unit>) -> bool {
        let peak = x.0.abs().max(x.1.abs());
        let high_of = |q: i64| (q + 8) >> 4;
        let bound = |values: Vec<i32>, bias: i64| {
            let (up, down) = halves(&values);
            let sum = (up - down).saturating_mul(peak);
            unit.map_or(sum, |u| sum.min(u.bound(&values)))
                .saturating_add(bias.abs())
        };
        let bias = i64::from(row.bias);
        let values = row.values.iter();
        let high = values.clone().map(|q| (q + 8) >> 4).collect();
        let high = bound(high, high_of(bias));
        let low = values.map(|q| q - (((q + 8) >> 4) << 4)).collect();
        let low = bound(low, bias - 16 * high_of(bias));
        high <= A_MAX && low.saturating_add(1 << (shift - 1)) <= A_MAX
    }

    /// Ranges of all operators of language models but linear.
    pub(crate) fn language(
        &self,
        index: u32,
        node: &Node,
        ty: &TensorType,
        x: Range,
    ) -> Result<Range, GraphError> {
        let peak = |r: Range| r.0.abs().max(r.1.abs());
        let seq = i64::from(self.header.max_seq);
        Ok(match &node.op {
            Op::Lift { weights, out } => {
                let constant = self.constant(*weights)?;
                let mut total: Option<Range> = None;
                for r in 0..constant.kind().rows() {
                    let Some(row) = constant.row_values(r) else {
                        return self.fail(index, "the constant holds no weights");
                    };
                    let Ok(shift) = i8::try_from(i16::from(row.shift) + i16::from(out.shift))
                    else {
                        return self.fail(index, "a shift lies outside -15 … 31");
                    };
                    let (lo, hi) = self.close(index, r, spread(&row.values), shift, out)?;
                    total = Some(total.map_or((lo, hi), |(a, b)| (a.min(lo), b.max(hi))));
                }
                total.unwrap_or((0, 0))
            }
            Op::RmsNorm { params, out, .. } => {
                let mut total = (i64::from(out.hi), i64::from(out.lo));
                for (channel, (gain, bias)) in
                    self.constant(*params)?.norm().into_iter().enumerate()
                {
                    let g = i64::from(gain).abs() << 15;
                    let acc = (i64::from(bias) - g, i64::from(bias) + g);
                    let (lo, hi) = self.close(index, channel as u32, acc, out.shift, out)?;
                    total = (total.0.min(lo), total.1.max(hi));
                }
                total
            }
            Op::Rope { rows, out } => {
                let angles = self.constant(*rows)?.values();
                let half = self.constant(*rows)?.kind().row_bytes(0) / 4;
                let longest = angles
                    .chunks_exact((2 * half).max(1))
                    .flat_map(|row| {
                        let (c, s) = row.split_at(half.min(row.len()));
                        c.iter().zip(s)
                    })
                    .map(|(c, s)| i64::from(*c).pow(2) + i64::from(*s).pow(2))
                    .max()
                    .unwrap_or(0);
                // a turn keeps the length of a pair: |x0·c − x1·s| ≤ ‖x‖·‖(c, s)‖
                let bound = ((2 * peak(x).pow(2)).isqrt() + 1) * (longest.isqrt() + 1);
                self.close(index, 0, (-bound, bound), out.shift, out)?
            }
            Op::Mul { out } => {
                let bound = peak(x) * peak(self.operand(node, 1));
                self.close(index, 0, (-bound, bound), out.shift, out)?
            }
            Op::Normalise { out } => {
                let e = self.operand(node, 1).1;
                let Ok(most) = i8::try_from(i64::from(out.shift) + e) else {
                    return self.fail(index, "an exponent passes 127");
                };
                let near = self.close(index, 0, x, out.shift, out)?;
                let far = (requant(x.0, most, out), requant(x.1, most, out));
                (near.0.min(i64::from(far.0)), near.1.max(i64::from(far.1)))
            }
            Op::Scores { heads, .. } => {
                let width = node
                    .inputs
                    .first()
                    .and_then(|id| self.types().get(*id as usize))
                    .and_then(|t| t.shape.last())
                    .map_or(0, |d| i64::from(d.at(self.header.max_seq.into())));
                let d = width / i64::from(*heads).max(1);
                let bound = d
                    .saturating_mul(peak(x))
                    .saturating_mul(peak(self.operand(node, 1)));
                self.limit(index, bound)?;
                (-bound, bound)
            }
            Op::CausalExp { table, .. } => {
                let values = self.constant(*table)?.values();
                let falling = values.windows(2).all(|w| matches!(w, [a, b] if a >= b));
                let first = values.first().copied().unwrap_or(0);
                if !falling || values.last() != Some(&0) || first <= 0 {
                    return self.fail(index, "table must fall from above 0 to 0");
                }
                // the sum of a row of weights is one accumulator
                self.limit(index, i64::from(first).saturating_mul(seq))?;
                (0, i64::from(first))
            }
            Op::Mix { bits, out, .. } => {
                let v = self.operand(node, 1);
                // weighted sums are formed of 256 positions each
                self.limit(
                    index,
                    x.1.saturating_mul(peak(v)).saturating_mul(seq.min(256)),
                )?;
                let mean = (v.0 << bits, v.1 << bits);
                (
                    i64::from(requant(mean.0, 0, out)),
                    i64::from(requant(mean.1, 0, out)),
                )
            }
            Op::Cut { table } | Op::Mass { table, .. } | Op::Pick { table, .. } => {
                let values = self.constant(*table)?.values();
                let falling = values.windows(2).all(|w| matches!(w, [a, b] if a >= b));
                if !falling
                    || values.first().is_none_or(|v| *v > 1 << 14)
                    || values.last().is_none_or(|v| *v <= 0)
                {
                    return self.fail(index, "table must fall from at most 2^14 and stay above 0");
                }
                (i64::from(ty.lo), i64::from(ty.hi))
            }
            _ => return self.fail(index, "no bound for this operator"),
        })
    }
}

/// Range of `bias + Σ w·x` and of all its partial sums for `x` in `[lo, hi]`.
fn interval(row: &RowValues, (lo, hi): Range) -> Range {
    let (lo, hi) = (lo.min(0), hi.max(0));
    let (positive, negative) = halves(&row.values);
    let bias = i64::from(row.bias);
    (
        bias.min(0) + positive * lo + negative * hi,
        bias.max(0) + positive * hi + negative * lo,
    )
}

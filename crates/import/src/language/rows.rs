//! Rows of real weights as rows of integers: the finest power of two that the accumulator's bound allows, block codes kept as they are.

use assay_graph::{A_MAX, BlockRow, WeightRow};

use super::source::{Linear, Matrix};
use crate::{error::ImportError, fixed::pow2, gguf::CodeLayout};

/// Largest magnitude aimed at; a little below 16 bits, because steps and offsets are rounded afterwards.
const PEAK: f64 = 32_600.0;
/// Largest magnitude of a weight.
const LIMIT: i64 = 32_767;
/// How far below the analytic guess a row is tried.
const TRIES: i32 = 12;

/// Largest n with `peak · 2^n <= limit`; 60 for a peak of 0.
fn finest(peak: f64, limit: f64) -> i32 {
    if peak > 0.0 {
        crate::float::floor_log2(limit / peak).clamp(-60, 60)
    } else {
        60
    }
}

/// What bounds the accumulator of a row.
#[derive(Clone, Debug)]
pub enum Reach {
    /// Inputs within ± this.
    Peak(i64),
    /// Behind a root-mean-square norm of these integer gains and shift, clamped to ± the last number.
    Norm(Vec<i64>, i8, i64),
    /// Nothing is multiplied (an embedding).
    Nothing,
}

/// How the rows of one matrix become integers.
pub struct Plan<'a> {
    /// Scale of each input channel.
    pub input: &'a dyn Fn(usize) -> i32,
    /// Scale of each output channel.
    pub output: &'a dyn Fn(usize) -> i32,
    /// Multiplied into all weights and biases.
    pub factor: f64,
    /// What bounds the accumulator.
    pub reach: Reach,
    /// Largest exponent that a second operand takes off the shift.
    pub exponent: i32,
    /// Whether rows may need two limbs.
    pub wide: bool,
}

/// Integer rows of a matrix.
#[derive(Clone, Debug)]
pub enum Rows {
    /// 16-bit weights.
    Weights(Vec<WeightRow>),
    /// Codes with steps and offsets.
    Blocks(CodeLayout, Vec<BlockRow>),
}

/// One row at some scale.
struct Draft {
    values: Vec<i64>,
    bias: i64,
    steps: Vec<i16>,
    offsets: Vec<i16>,
}

impl Plan<'_> {
    /// All rows of a linear layer.
    ///
    /// # Errors
    /// [`ImportError::NotFinite`] for broken weights, [`ImportError::Unsupported`] for a row whose bound can't be met.
    pub fn rows(&self, linear: &Linear) -> Result<Rows, ImportError> {
        let m = &linear.weight;
        let bias = |r: usize| {
            linear
                .bias
                .get(r)
                .map_or(0.0, |b| f64::from(*b) * self.factor)
        };
        match m.ty.layout() {
            None => {
                let mut rows = Vec::with_capacity(m.rows);
                for r in 0..m.rows {
                    let (scale, draft) = self.fit(m, r, bias(r), false)?;
                    rows.push(WeightRow {
                        shift: self.shift(scale, r) as i8,
                        bias: draft.bias as i32,
                        values: draft.values.iter().map(|v| *v as i32).collect(),
                    });
                }
                Ok(Rows::Weights(rows))
            }
            Some(layout) => {
                let mut rows = Vec::with_capacity(m.rows);
                for r in 0..m.rows {
                    let (scale, draft) = self.fit(m, r, bias(r), false)?;
                    rows.push(BlockRow {
                        shift: self.shift(scale, r) as i8,
                        bias: draft.bias as i32,
                        steps: draft.steps,
                        offsets: draft.offsets,
                        codes: m.groups(r).codes,
                    });
                }
                Ok(Rows::Blocks(layout, rows))
            }
        }
    }

    /// The finest output scale at which every row keeps the precision that its accumulator allows: shifts of rows in two limbs stay at 4 or more.
    ///
    /// # Errors
    /// As [`rows`](Self::rows).
    pub fn finest_output(&self, linear: &Linear) -> Result<i32, ImportError> {
        let m = &linear.weight;
        let mut finest = i32::MAX;
        for r in 0..m.rows {
            let (scale, _) = self.fit(m, r, 0.0, true)?;
            finest = finest.min(scale - self.exponent - 4);
        }
        Ok(finest)
    }

    fn shift(&self, scale: i32, r: usize) -> i32 {
        scale - (self.output)(r)
    }

    /// The largest scale of a row's accumulator, and the row at it; `free` looks at the accumulator alone, as if its shift were 4.
    fn fit(
        &self,
        m: &Matrix,
        r: usize,
        bias: f64,
        free: bool,
    ) -> Result<(i32, Draft), ImportError> {
        let real = m.floats(r, r + 1)?;
        let (mut peak, mut sum, mut squares) = (0f64, 0f64, 0f64);
        for (c, w) in real.iter().enumerate() {
            let w = (f64::from(*w) * self.factor).abs() * pow2(-(self.input)(c));
            peak = peak.max(w);
            sum += w;
            if let Reach::Norm(gains, shift, _) = &self.reach {
                let g = gains.get(c).copied().unwrap_or(0) as f64 * pow2(-i32::from(*shift));
                squares += (w * g).powi(2);
            }
        }
        let reach = match &self.reach {
            Reach::Nothing => 0.0,
            Reach::Peak(x) => sum * *x as f64,
            Reach::Norm(_, _, x) => (squares.sqrt() * 32_768.0).min(sum * *x as f64),
        } + bias.abs();
        let limbs = if self.wide { 16.0 } else { 1.0 };
        let start = [
            finest(peak, PEAK),
            // twice the limit: rounding and limbs can be kinder than the guess
            finest(reach, 2.0 * limbs * A_MAX as f64),
            if free { 60 } else { (self.output)(r) + 31 },
        ];
        // a row of zeros fits everything
        let start = start.into_iter().min().unwrap_or(0);
        for scale in (start - TRIES - 4..=start).rev() {
            let (shift, least) = if free {
                (4, 4)
            } else {
                let shift = self.shift(scale, r);
                (shift, shift - self.exponent)
            };
            if least < -15 {
                break;
            }
            if let Some(draft) = self.draft(m, r, &real, bias, scale)
                && self.fits(&draft, [shift, least])
            {
                return Ok((scale, draft));
            }
        }
        Err(ImportError::Unsupported {
            op: "linear".into(),
            node: format!("{} row {r}", m.name),
            why: format!(
                "no scale keeps its accumulator within the limit (largest weight {peak:e}, bias {bias:e})"
            ),
        })
    }

    /// The row at `scale`; `None` when something leaves 16 or 32 bits.
    fn draft(&self, m: &Matrix, r: usize, real: &[f32], bias: f64, scale: i32) -> Option<Draft> {
        let bias = (bias * pow2(scale)).round();
        if bias.abs() > 2_147_483_647.0 {
            return None;
        }
        let mut draft = Draft {
            values: Vec::with_capacity(real.len()),
            bias: bias as i64,
            steps: Vec::new(),
            offsets: Vec::new(),
        };
        let unit = |c: usize| self.factor * pow2(scale - (self.input)(c));
        let Some(layout) = m.ty.layout() else {
            for (c, w) in real.iter().enumerate() {
                draft.values.push((f64::from(*w) * unit(c)).round() as i64);
            }
            return draft.legal().then_some(draft);
        };
        let groups = m.groups(r);
        let n = usize::from(layout.group);
        let parts = groups.codes.chunks_exact(n);
        for (g, (codes, (d, o))) in parts
            .zip(groups.steps.iter().zip(&groups.offsets))
            .enumerate()
        {
            let unit = unit(g * n);
            let step = (d * unit).round();
            let offset = if layout.offsets {
                // the mean of the group is kept
                let mean = codes.iter().map(|c| f64::from(*c)).sum::<f64>() / n as f64;
                (o * unit + (d * unit - step) * mean).round()
            } else {
                -step * f64::from(1u32 << (layout.bits - 1))
            };
            if step.abs() > LIMIT as f64 || offset.abs() > (LIMIT + 1) as f64 {
                return None;
            }
            let (step, offset) = (step as i64, offset as i64);
            draft
                .values
                .extend(codes.iter().map(|c| step * i64::from(*c) + offset));
            draft.steps.push(i16::try_from(step).ok()?);
            if layout.offsets {
                draft.offsets.push(i16::try_from(offset).ok()?);
            }
        }
        draft.legal().then_some(draft)
    }

    /// The rules of the graph's bounds analysis: one accumulator, or two limbs where every shift is at least 4.
    fn fits(&self, draft: &Draft, shifts: [i32; 2]) -> bool {
        if matches!(self.reach, Reach::Nothing) {
            return true;
        }
        let one = self.bound(draft.values.iter().copied(), draft.bias);
        shifts.into_iter().all(|shift| {
            let half = if shift > 0 { 1i64 << (shift - 1) } else { 0 };
            let left = if shift < 0 { 1i64 << -shift } else { 1 };
            let narrow = one.saturating_mul(left).saturating_add(half) <= A_MAX;
            narrow || self.wide && shift >= 4 && self.two_limbs(draft, half)
        })
    }

    fn two_limbs(&self, draft: &Draft, half: i64) -> bool {
        let high = |q: i64| (q + 8) >> 4;
        let low = |q: i64| q - (high(q) << 4);
        let a = self.bound(draft.values.iter().map(|q| high(*q)), high(draft.bias));
        let b = self.bound(draft.values.iter().map(|q| low(*q)), low(draft.bias));
        a <= A_MAX && b.saturating_add(half) <= A_MAX
    }

    /// Largest |bias + Σ q·x|, a little above the graph's own figure.
    fn bound(&self, values: impl Iterator<Item = i64>, bias: i64) -> i64 {
        let (mut sum, mut squares) = (0i64, 0f64);
        let gains: &[i64] = match &self.reach {
            Reach::Norm(gains, _, _) => gains,
            _ => &[],
        };
        if gains.is_empty() {
            sum = values.map(i64::abs).sum();
        } else {
            for (q, g) in values.zip(gains) {
                sum += q.abs();
                squares += ((q * g) as f64).powi(2);
            }
        }
        let plain = |x: i64| sum.saturating_mul(x);
        let dot = match &self.reach {
            Reach::Nothing => 0,
            Reach::Peak(x) => plain(*x),
            Reach::Norm(gains, shift, x) => {
                let length = 32_768.0 + (gains.len() as f64).sqrt() / 2.0 + 2.0;
                let dot = squares.sqrt() * (1.0 + 1e-9) * length * pow2(-i32::from(*shift));
                plain(*x).min(dot as i64 + sum / 2 + 3)
            }
        };
        dot.saturating_add(bias.abs())
    }
}

impl Draft {
    fn legal(&self) -> bool {
        self.values.iter().all(|v| v.abs() <= LIMIT)
    }
}

//! The integer graph of a decoder evaluated exactly, all positions at once, with matrix products of doubles: for accuracy reports, independent of the engine.
//!
//! Every accumulator stays below 2^53, so doubles hold the integers exactly and any order of summation gives the same sum.

use assay_graph::{ConstId, Graph, NodeId, Op, Requant, ops};
use ndarray::{ArrayView2, ArrayViewMut2, linalg::general_mat_mul};

use super::build::LOGIT_SCALE;
use crate::error::ImportError;

/// `rnd(v, shift)` of integers held in doubles.
fn rnd(v: f64, shift: i32) -> f64 {
    let unit = f64::from_bits(((1023 - shift) as u64) << 52);
    if shift > 0 {
        (v * unit + 0.5).floor()
    } else {
        v * unit
    }
}

fn close(v: f64, shift: i32, out: &Requant) -> f64 {
    rnd(v, shift).clamp(f64::from(out.lo), f64::from(out.hi))
}

fn refuse(why: &str) -> ImportError {
    ImportError::Measure(why.to_owned())
}

/// `x [t, k] · wᵀ [k, n]`.
fn product(x: &[f64], w: &[f64], k: usize) -> Vec<f64> {
    let (t, n) = (x.len() / k.max(1), w.len() / k.max(1));
    let mut out = vec![0f64; t * n];
    if let (Ok(a), Ok(b), Ok(mut c)) = (
        ArrayView2::from_shape((t, k), x),
        ArrayView2::from_shape((n, k), w),
        ArrayViewMut2::from_shape((t, n), &mut out),
    ) {
        general_mat_mul(1.0, &a, &b.t(), 0.0, &mut c);
    }
    out
}

/// Values of a node for all tokens of all windows, row-major.
#[derive(Clone, Debug, Default)]
struct Values {
    data: Vec<f64>,
    width: usize,
}

struct Run<'a> {
    graph: &'a Graph,
    windows: &'a [Vec<u32>],
    values: Vec<Values>,
}

/// Integer logits of every position of every window, handed to `sink` in order (window, `[tokens, vocabulary]`); units of 2^−[`LOGIT_SCALE`] octaves.
/// Returns the number of elements of 16-bit linear outputs and turned queries and keys, and how many of them were clamped.
///
/// # Errors
/// [`ImportError::Measure`] when the graph is not one of [`build`](super::build()).
pub fn integer_logits(
    graph: &Graph,
    windows: &[Vec<u32>],
    mut sink: impl FnMut(usize, &[f64]),
) -> Result<(u64, u64), ImportError> {
    let nodes = graph.nodes();
    let tail = nodes.iter().position(|n| n.op == Op::Tail);
    let Some(tail) = tail else {
        return Err(refuse("the graph answers nothing"));
    };
    let mut run = Run {
        graph,
        windows,
        values: vec![Values::default(); nodes.len()],
    };
    let mut last_use = vec![0usize; nodes.len()];
    for (i, node) in nodes.iter().enumerate().take(tail + 1) {
        for input in &node.inputs {
            if let Some(slot) = last_use.get_mut(*input as usize) {
                *slot = i;
            }
        }
    }
    let (mut total, mut clamped) = (0u64, 0u64);
    for (i, node) in nodes.iter().enumerate().take(tail) {
        let values = run.node(i as NodeId, &node.op)?;
        if let Op::Linear { out, .. } | Op::Rope { out, .. } = &node.op
            && out.hi < 1 << 15
        {
            let (lo, hi) = (f64::from(out.lo), f64::from(out.hi));
            total += values.data.len() as u64;
            let at_end = values.data.iter().filter(|v| **v <= lo || **v >= hi);
            clamped += at_end.count() as u64;
        }
        if let Some(slot) = run.values.get_mut(i) {
            *slot = values;
        }
        for (v, last) in run.values.iter_mut().zip(&last_use).take(i) {
            // scores and weights are read through by `mix`
            if *last <= i && i + 4 < tail && *last + 4 < i {
                *v = Values::default();
            }
        }
    }
    let input = nodes.get(tail).and_then(|n| n.inputs.first()).copied();
    let (Some(h), Some(norm), Some(head)) = (
        input.and_then(|n| run.values.get(n as usize)).cloned(),
        nodes.get(tail + 1),
        nodes.get(tail + 2),
    ) else {
        return Err(refuse("the graph has no head"));
    };
    let Op::Linear { weights, out } = &head.op else {
        return Err(refuse("the graph has no head"));
    };
    let z = run.norm(&h, &norm.op)?;
    let rows = run.rows(*weights)?;
    let mut rest = z.data.as_slice();
    for (i, window) in windows.iter().enumerate() {
        let (own, more) = rest.split_at(window.len() * z.width);
        rest = more;
        sink(i, &rows.apply(own, &[], out));
    }
    Ok((total, clamped))
}

/// Weights of a constant as doubles.
struct Matrix {
    values: Vec<f64>,
    shifts: Vec<i32>,
    biases: Vec<f64>,
    cols: usize,
}

impl Matrix {
    fn apply(&self, x: &[f64], exponents: &[f64], out: &Requant) -> Vec<f64> {
        let n = self.shifts.len().max(1);
        let mut y = product(x, &self.values, self.cols);
        for (t, row) in y.chunks_exact_mut(n).enumerate() {
            let e = exponents.get(t).map_or(0, |e| *e as i32);
            for (v, (s, b)) in row.iter_mut().zip(self.shifts.iter().zip(&self.biases)) {
                *v = close(*v + b, s - e, out);
            }
        }
        y
    }
}

impl Run<'_> {
    fn input(&self, node: NodeId, k: usize) -> Result<&Values, ImportError> {
        self.graph
            .nodes()
            .get(node as usize)
            .and_then(|n| n.inputs.get(k))
            .and_then(|i| self.values.get(*i as usize))
            .ok_or_else(|| refuse("an operand is missing"))
    }

    fn rows(&self, id: ConstId) -> Result<Matrix, ImportError> {
        let constant = self
            .graph
            .consts()
            .get(id as usize)
            .ok_or_else(|| refuse("a constant is missing"))?;
        let mut m = Matrix {
            values: Vec::new(),
            shifts: Vec::new(),
            biases: Vec::new(),
            cols: 1,
        };
        for r in 0..constant.kind().rows() {
            let row = constant
                .row_values(r)
                .ok_or_else(|| refuse("a row can't be read"))?;
            m.cols = row.values.len();
            m.values.extend(row.values.iter().map(|v| f64::from(*v)));
            m.shifts.push(i32::from(row.shift));
            m.biases.push(f64::from(row.bias));
        }
        Ok(m)
    }

    fn table(&self, id: ConstId) -> Vec<i32> {
        let constant = self.graph.consts().get(id as usize);
        constant.map(assay_graph::Const::values).unwrap_or_default()
    }

    fn norm(&self, x: &Values, op: &Op) -> Result<Values, ImportError> {
        let Op::RmsNorm { params, eps, out } = op else {
            return Err(refuse("a norm is missing"));
        };
        let gains = self
            .graph
            .consts()
            .get(*params as usize)
            .map(assay_graph::Const::norm)
            .unwrap_or_default();
        let mut data = Vec::with_capacity(x.data.len());
        for row in x.data.chunks_exact(x.width.max(1)) {
            let row: Vec<i32> = row.iter().map(|v| *v as i32).collect();
            let unit = ops::rms_norm_unit(&row, *eps);
            data.extend(unit.iter().zip(&gains).map(|(u, (g, b))| {
                let v = f64::from(*u) * f64::from(*g) + f64::from(*b);
                close(v, i32::from(out.shift), out)
            }));
        }
        Ok(Values {
            data,
            width: x.width,
        })
    }

    fn node(&self, id: NodeId, op: &Op) -> Result<Values, ImportError> {
        let x = || self.input(id, 0);
        let map = |f: &dyn Fn(f64) -> f64| -> Result<Values, ImportError> {
            let x = x()?;
            Ok(Values {
                data: x.data.iter().map(|v| f(*v)).collect(),
                width: x.width,
            })
        };
        let both = |f: &dyn Fn(f64, f64) -> f64| -> Result<Values, ImportError> {
            let (a, b) = (x()?, self.input(id, 1)?);
            Ok(Values {
                data: a.data.iter().zip(&b.data).map(|(a, b)| f(*a, *b)).collect(),
                width: a.width,
            })
        };
        Ok(match op {
            Op::Input { .. } => Values {
                data: self
                    .windows
                    .iter()
                    .flatten()
                    .map(|t| f64::from(*t))
                    .collect(),
                width: 1,
            },
            Op::Lift { weights, out } => {
                let constant = self.graph.consts().get(*weights as usize);
                let mut values = Values::default();
                for t in &x()?.data {
                    let row = constant
                        .and_then(|c| c.row_values(*t as u32))
                        .ok_or_else(|| refuse("a token is outside the embedding"))?;
                    values.width = row.values.len();
                    let shift = i32::from(row.shift) + i32::from(out.shift);
                    let row = row.values.iter();
                    values
                        .data
                        .extend(row.map(|w| close(f64::from(*w), shift, out)));
                }
                values
            }
            Op::RmsNorm { .. } => self.norm(x()?, op)?,
            Op::Linear { weights, out } => {
                let exponents = self.input(id, 1).map(|e| e.data.as_slice());
                let m = self.rows(*weights)?;
                Values {
                    data: m.apply(&x()?.data, exponents.unwrap_or_default(), out),
                    width: m.shifts.len(),
                }
            }
            Op::Rope { rows, out } => self.turn(x()?, *rows, out)?,
            // read by `mix`, which looks at queries, keys and values itself
            Op::Scores { .. } | Op::CausalExp { .. } => Values::default(),
            Op::Transpose { .. } => x()?.clone(),
            Op::Mix { bits, out, .. } => self.mix(id, *bits, out)?,
            Op::Add { left, out } => {
                let unit = |k: usize| f64::from(1u32 << left.get(k).copied().unwrap_or(0));
                both(&|a, b| close(a * unit(0) + b * unit(1), i32::from(out.shift), out))?
            }
            Op::Mul { out } => both(&|a, b| close(a * b, i32::from(out.shift), out))?,
            Op::Lookup { table } => {
                let table = self.table(*table);
                let middle = (table.len() / 2) as f64;
                map(&|v| {
                    let entry = table.get((v + middle) as usize).copied();
                    f64::from(entry.unwrap_or(0))
                })?
            }
            Op::Exponent { bits } => {
                let x = x()?;
                let exponent = |row: &[f64]| {
                    let row: Vec<i32> = row.iter().map(|v| *v as i32).collect();
                    f64::from(ops::exponent_of(&row, *bits))
                };
                Values {
                    data: x.data.chunks_exact(x.width.max(1)).map(exponent).collect(),
                    width: 1,
                }
            }
            Op::Normalise { out } => {
                let (x, e) = (x()?, self.input(id, 1)?);
                let mut data = Vec::with_capacity(x.data.len());
                for (row, e) in x.data.chunks_exact(x.width.max(1)).zip(&e.data) {
                    let shift = i32::from(out.shift) + *e as i32;
                    data.extend(row.iter().map(|v| close(*v, shift, out)));
                }
                Values {
                    data,
                    width: x.width,
                }
            }
            _ => return Err(refuse("an operator that no decoder has")),
        })
    }

    fn turn(&self, x: &Values, rows: ConstId, out: &Requant) -> Result<Values, ImportError> {
        let constant = self.graph.consts().get(rows as usize);
        let (d, angles) = constant
            .map(|c| (c.kind().row_bytes(0) / 2, c.values()))
            .ok_or_else(|| refuse("a constant is missing"))?;
        let half = (d / 2).max(1);
        let mut data = Vec::with_capacity(x.data.len());
        let positions = self.windows.iter().flat_map(|w| 0..w.len());
        for (row, t) in x.data.chunks_exact(x.width.max(1)).zip(positions) {
            let angles = angles.get(t * d..(t + 1) * d).unwrap_or_default();
            let (c, s) = angles.split_at(half.min(angles.len()));
            for head in row.chunks_exact(2 * half) {
                let (a, b) = head.split_at(half);
                let pairs = || a.iter().zip(b).zip(c.iter().zip(s));
                let shift = i32::from(out.shift);
                data.extend(pairs().map(|((a, b), (c, s))| {
                    close(a * f64::from(*c) - b * f64::from(*s), shift, out)
                }));
                data.extend(pairs().map(|((a, b), (c, s))| {
                    close(b * f64::from(*c) + a * f64::from(*s), shift, out)
                }));
            }
        }
        Ok(Values {
            data,
            width: x.width,
        })
    }

    /// Scores, exponentials and weighted values, window after window.
    fn mix(&self, id: NodeId, bits: u8, out: &Requant) -> Result<Values, ImportError> {
        let nodes = self.graph.nodes();
        let producer = |n: NodeId, k: usize| {
            let input = nodes.get(n as usize).and_then(|n| n.inputs.get(k)).copied();
            input.ok_or_else(|| refuse("an operand is missing"))
        };
        let e = producer(id, 0)?;
        let scores = producer(e, 0)?;
        let (Some(Op::CausalExp { table, shifts }), Some(Op::Scores { heads, kv_heads })) = (
            nodes.get(e as usize).map(|n| &n.op),
            nodes.get(scores as usize).map(|n| &n.op),
        ) else {
            return Err(refuse("attention of another shape"));
        };
        let (q, k, v) = (
            self.input(scores, 0)?,
            self.input(scores, 1)?,
            self.input(id, 1)?,
        );
        let table = self.table(*table);
        let (heads, kv_heads) = (usize::from(*heads), usize::from(*kv_heads));
        let d = q.width / heads.max(1);
        let cut = |x: &Values, from: usize, n: usize, head: usize| -> Vec<f64> {
            let rows = x.data.chunks_exact(x.width.max(1)).skip(from).take(n);
            rows.filter_map(|row| row.get(head * d..(head + 1) * d))
                .flatten()
                .copied()
                .collect()
        };
        let mut data = vec![0f64; q.data.len()];
        let mut from = 0;
        for window in self.windows {
            let n = window.len();
            for head in 0..heads {
                let group = head * kv_heads / heads;
                let shift = shifts.get(head).copied().map_or(0, i32::from);
                let (qh, kh, vh) = (
                    cut(q, from, n, head),
                    cut(k, from, n, group),
                    cut(v, from, n, group),
                );
                let mut e = product(&qh, &kh, d);
                let mut sums = Vec::with_capacity(n);
                for (t, row) in e.chunks_exact_mut(n.max(1)).enumerate() {
                    let (seen, hidden) = row.split_at_mut(t + 1);
                    let max = seen.iter().copied().fold(f64::NEG_INFINITY, f64::max);
                    let last = table.len().saturating_sub(1);
                    for s in seen.iter_mut() {
                        let step = (rnd(max - *s, shift) as usize).min(last);
                        *s = table.get(step).copied().map_or(0.0, f64::from);
                    }
                    hidden.fill(0.0);
                    sums.push(seen.iter().sum::<f64>());
                }
                let columns: Vec<f64> = (0..d)
                    .flat_map(|c| vh.iter().skip(c).step_by(d).copied())
                    .collect();
                let dots = product(&e, &columns, n);
                let rows = data.chunks_exact_mut(q.width.max(1)).skip(from);
                for ((row, dots), sum) in rows.zip(dots.chunks_exact(d)).zip(&sums) {
                    let place = row.get_mut(head * d..(head + 1) * d).unwrap_or_default();
                    for (o, dot) in place.iter_mut().zip(dots) {
                        // the quotient of two exact integers: the double nearest to it can't pass the next integer
                        let sum = *sum as i64;
                        let dot = ((*dot as i64) << (bits + 1)) + sum;
                        *o = close(dot.div_euclid(2 * sum) as f64, 0, out);
                    }
                }
            }
            from += n;
        }
        Ok(Values {
            data,
            width: q.width,
        })
    }
}

/// Agreement of two models over positions with a known next token.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Agreement {
    /// Positions compared.
    pub positions: u64,
    /// Positions at which both have the same likeliest token.
    pub same_top: u64,
    /// Sum of the divergence of the integer distribution from the float one, nat.
    pub divergence: f64,
    /// Sum of the float model's negative log likelihood of the next token, nat.
    pub float_loss: f64,
    /// The integer model's.
    pub integer_loss: f64,
    /// Positions that count for the losses (all but the last of a window).
    pub predicted: u64,
}

impl Agreement {
    /// Adds one window: float logits in natural units, integer logits, `[tokens, vocabulary]`.
    pub fn add(&mut self, tokens: &[u32], float: &[f32], integer: &[f64]) {
        let n = tokens.len().max(1);
        let width = float.len() / n;
        let unit = std::f64::consts::LN_2 / f64::from(1u32 << LOGIT_SCALE);
        let rows = float
            .chunks_exact(width.max(1))
            .zip(integer.chunks_exact(width.max(1)));
        for (t, (f, i)) in rows.enumerate() {
            let f: Vec<f64> = f.iter().map(|v| f64::from(*v)).collect();
            let i: Vec<f64> = i.iter().map(|v| *v * unit).collect();
            let (lf, li) = (log_sum(&f), log_sum(&i));
            let best = |x: &[f64]| {
                let all = x.iter().enumerate();
                all.fold(
                    (0, f64::NEG_INFINITY),
                    |a, (k, v)| if *v > a.1 { (k, *v) } else { a },
                )
                .0
            };
            self.positions += 1;
            self.same_top += u64::from(best(&f) == best(&i));
            let terms = f.iter().zip(&i);
            self.divergence += terms
                .map(|(a, b)| ((a - lf).exp()) * ((a - lf) - (b - li)))
                .sum::<f64>();
            if let Some(next) = tokens.get(t + 1).map(|n| *n as usize)
                && let (Some(a), Some(b)) = (f.get(next), i.get(next))
            {
                self.predicted += 1;
                self.float_loss += lf - a;
                self.integer_loss += li - b;
            }
        }
    }

    /// Share of positions with the same likeliest token.
    pub fn top1(&self) -> f64 {
        self.same_top as f64 / self.positions.max(1) as f64
    }

    /// Mean divergence, nat.
    pub fn mean_divergence(&self) -> f64 {
        self.divergence / self.positions.max(1) as f64
    }

    /// Perplexity of the float model.
    pub fn float_perplexity(&self) -> f64 {
        (self.float_loss / self.predicted.max(1) as f64).exp()
    }

    /// Integer perplexity divided by the float one.
    pub fn perplexity_ratio(&self) -> f64 {
        ((self.integer_loss - self.float_loss) / self.predicted.max(1) as f64).exp()
    }
}

fn log_sum(x: &[f64]) -> f64 {
    let max = x.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    max + x.iter().map(|v| (v - max).exp()).sum::<f64>().ln()
}

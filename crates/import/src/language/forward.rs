//! Float reference of a decoder: the dequantised weights, f32, causal, whole windows at once. For calibration and for measuring the integer graph, nothing else.

use ndarray::{ArrayView2, linalg::general_mat_mul};

use super::source::{Linear, Weights};
use crate::error::ImportError;

/// What the reference shows of itself while it runs. Values of all tokens of all windows, row-major; widths as the configuration says.
pub trait Probe {
    /// Residual stream after the embedding and after each half layer.
    fn residual(&mut self, values: &[f32]);
    /// Output of a norm: `layer` and 0 (attention) or 1 (feed-forward); layer `layers` is the last norm.
    fn normed(&mut self, layer: usize, half: usize, values: &[f32]);
    /// Queries and keys before they are turned, and values.
    fn attention(&mut self, layer: usize, query: &[f32], key: &[f32], value: &[f32]);
    /// Gate and up, and the product that goes down.
    fn feed(&mut self, layer: usize, gate: &[f32], up: &[f32], product: &[f32]);
}

/// Looks at nothing.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoProbe;

impl Probe for NoProbe {
    fn residual(&mut self, _: &[f32]) {}
    fn normed(&mut self, _: usize, _: usize, _: &[f32]) {}
    fn attention(&mut self, _: usize, _: &[f32], _: &[f32], _: &[f32]) {}
    fn feed(&mut self, _: usize, _: &[f32], _: &[f32], _: &[f32]) {}
}

/// The float reference. Matrices are dequantised as they are needed, so memory stays small; give it many windows at once.
#[derive(Clone, Copy, Debug)]
pub struct FloatModel<'a> {
    weights: &'a Weights,
}

/// `x [t, k] · wᵀ [k, n]`.
fn product(x: &[f32], w: &[f32], k: usize) -> Vec<f32> {
    let (t, n) = (x.len() / k.max(1), w.len() / k.max(1));
    let mut out = vec![0f32; t * n];
    let (Ok(a), Ok(b)) = (
        ArrayView2::from_shape((t, k), x),
        ArrayView2::from_shape((n, k), w),
    ) else {
        return out;
    };
    if let Ok(mut c) = ndarray::ArrayViewMut2::from_shape((t, n), &mut out) {
        general_mat_mul(1.0, &a, &b.t(), 0.0, &mut c);
    }
    out
}

impl<'a> FloatModel<'a> {
    /// A reference over these weights.
    pub const fn new(weights: &'a Weights) -> Self {
        Self { weights }
    }

    /// Logits of every position of one window, `[tokens, vocabulary]`, natural units.
    ///
    /// # Errors
    /// As [`windows`](Self::windows).
    pub fn forward(&self, tokens: &[u32]) -> Result<Vec<f32>, ImportError> {
        let mut out = Vec::new();
        self.windows(&[tokens.to_vec()], &mut NoProbe, |_, logits| {
            out.extend_from_slice(logits);
        })?;
        Ok(out)
    }

    /// Runs several windows and hands the logits of each to `sink` in order (window, `[tokens, vocabulary]`).
    ///
    /// # Errors
    /// [`ImportError::Malformed`] for tokens outside the vocabulary, [`ImportError::NotFinite`] for broken weights.
    pub fn windows(
        &self,
        windows: &[Vec<u32>],
        probe: &mut dyn Probe,
        mut sink: impl FnMut(usize, &[f32]),
    ) -> Result<(), ImportError> {
        let width = self.weights.config.width;
        let z = self.hidden(windows, probe)?;
        let head = self
            .weights
            .head
            .as_ref()
            .unwrap_or(&self.weights.embedding);
        let head = head.all()?;
        let mut rest = z.as_slice();
        for (i, window) in windows.iter().enumerate() {
            let (own, more) = rest.split_at(window.len() * width);
            rest = more;
            sink(i, &product(own, &head, width));
        }
        Ok(())
    }

    /// Output of the last norm for all tokens of all windows.
    ///
    /// # Errors
    /// As [`windows`](Self::windows).
    pub fn hidden(
        &self,
        windows: &[Vec<u32>],
        probe: &mut dyn Probe,
    ) -> Result<Vec<f32>, ImportError> {
        let c = &self.weights.config;
        let mut h = Vec::new();
        for id in windows.iter().flatten() {
            let row = *id as usize;
            if row >= c.vocabulary {
                let why = format!("{id} is outside the vocabulary of {}", c.vocabulary);
                return Err(ImportError::malformed("token", why));
            }
            h.extend(self.weights.embedding.floats(row, row + 1)?);
        }
        probe.residual(&h);
        let longest = windows.iter().map(Vec::len).max().unwrap_or(0);
        let angles = Angles::new(longest, c.head_size, c.rope_base);
        for (i, layer) in self.weights.layers.iter().enumerate() {
            let z = rms_norm(&h, &layer.attention_norm, c.eps);
            probe.normed(i, 0, &z);
            let mut q = linear(&z, &layer.query)?;
            let mut k = linear(&z, &layer.key)?;
            let v = linear(&z, &layer.value)?;
            probe.attention(i, &q, &k, &v);
            let mut mixed = Vec::with_capacity(q.len());
            let (joined, kv) = (c.heads * c.head_size, c.kv_width());
            let mut at = 0;
            for window in windows {
                let n = window.len();
                let (Some(q), Some(k), Some(v)) = (
                    q.get_mut(at * joined..(at + n) * joined),
                    k.get_mut(at * kv..(at + n) * kv),
                    v.get(at * kv..(at + n) * kv),
                ) else {
                    break;
                };
                angles.turn(q, joined);
                angles.turn(k, kv);
                mixed.extend(attend(q, k, v, n, c.heads, c.kv_heads, c.head_size));
                at += n;
            }
            add(&mut h, &linear(&mixed, &layer.output)?);
            probe.residual(&h);
            let z = rms_norm(&h, &layer.feed_norm, c.eps);
            probe.normed(i, 1, &z);
            let gate = linear(&z, &layer.gate)?;
            let up = linear(&z, &layer.up)?;
            let inner: Vec<f32> = gate
                .iter()
                .zip(&up)
                .map(|(g, u)| g / (1.0 + (-g).exp()) * u)
                .collect();
            probe.feed(i, &gate, &up, &inner);
            add(&mut h, &linear(&inner, &layer.down)?);
            probe.residual(&h);
        }
        let z = rms_norm(&h, &self.weights.final_norm, c.eps);
        probe.normed(c.layers, 0, &z);
        Ok(z)
    }
}

fn linear(x: &[f32], layer: &Linear) -> Result<Vec<f32>, ImportError> {
    let mut y = product(x, &layer.weight.all()?, layer.weight.cols);
    if !layer.bias.is_empty() {
        for row in y.chunks_exact_mut(layer.bias.len()) {
            add(row, &layer.bias);
        }
    }
    Ok(y)
}

fn add(h: &mut [f32], x: &[f32]) {
    for (h, x) in h.iter_mut().zip(x) {
        *h += x;
    }
}

fn rms_norm(x: &[f32], gain: &[f32], eps: f64) -> Vec<f32> {
    let n = gain.len().max(1);
    let mut out = Vec::with_capacity(x.len());
    for row in x.chunks_exact(n) {
        let squares: f64 = row.iter().map(|v| f64::from(*v).powi(2)).sum();
        let inverse = 1.0 / (squares / n as f64 + eps).sqrt();
        out.extend(
            row.iter()
                .zip(gain)
                .map(|(v, g)| (f64::from(*v) * inverse * f64::from(*g)) as f32),
        );
    }
    out
}

/// Cosines and sines of all positions, `[positions, d/2]` pairs.
struct Angles {
    pairs: Vec<(f32, f32)>,
    half: usize,
}

impl Angles {
    fn new(positions: usize, d: usize, base: f64) -> Self {
        let half = (d / 2).max(1);
        let table = super::rope::table(positions, d, base);
        Self {
            pairs: table.iter().map(|(c, s)| (*c as f32, *s as f32)).collect(),
            half,
        }
    }

    /// Turns rows of `width` in place, position after position.
    fn turn(&self, rows: &mut [f32], width: usize) {
        for (row, turn) in rows
            .chunks_exact_mut(width)
            .zip(self.pairs.chunks(self.half))
        {
            for head in row.chunks_exact_mut(2 * self.half) {
                let (first, second) = head.split_at_mut(self.half);
                for ((a, b), (c, s)) in first.iter_mut().zip(second).zip(turn) {
                    (*a, *b) = (*a * c - *b * s, *b * c + *a * s);
                }
            }
        }
    }
}

/// Causal attention of one window.
fn attend(
    q: &[f32],
    k: &[f32],
    v: &[f32],
    n: usize,
    heads: usize,
    kv_heads: usize,
    d: usize,
) -> Vec<f32> {
    let cut = |x: &[f32], width: usize, head: usize| -> Vec<f32> {
        x.chunks_exact(width)
            .filter_map(|row| row.get(head * d..(head + 1) * d))
            .flatten()
            .copied()
            .collect()
    };
    let mut out = vec![0f32; n * heads * d];
    let scale = 1.0 / (d as f32).sqrt();
    for head in 0..heads {
        let group = head * kv_heads / heads;
        let (qh, kh, vh) = (
            cut(q, heads * d, head),
            cut(k, kv_heads * d, group),
            cut(v, kv_heads * d, group),
        );
        let mut scores = product(&qh, &kh, d);
        for (t, row) in scores.chunks_exact_mut(n.max(1)).enumerate() {
            let (seen, hidden) = row.split_at_mut(t + 1);
            let max = seen.iter().copied().fold(f32::NEG_INFINITY, f32::max);
            let mut sum = 0f32;
            for s in seen.iter_mut() {
                *s = ((*s - max) * scale).exp();
                sum += *s;
            }
            seen.iter_mut().for_each(|s| *s /= sum);
            hidden.fill(0.0);
        }
        // [n, n] · [n, d]: the second operand transposed
        let columns: Vec<f32> = (0..d)
            .flat_map(|c| vh.iter().skip(c).step_by(d).copied())
            .collect();
        let mixed = product(&scores, &columns, n);
        for (row, own) in out.chunks_exact_mut(heads * d).zip(mixed.chunks_exact(d)) {
            if let Some(place) = row.get_mut(head * d..(head + 1) * d) {
                place.copy_from_slice(own);
            }
        }
    }
    out
}

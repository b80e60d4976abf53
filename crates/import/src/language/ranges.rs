//! Ranges of a decoder's tensors over calibration text, and the power-of-two scales that follow from them.

use serde::{Deserialize, Serialize};

use super::{
    build::LOGIT_SCALE,
    config::Config,
    forward::{FloatModel, Probe},
    source::Weights,
};
use crate::{error::ImportError, fixed::bits_for};

/// `log2(e)`: logits and scores are counted in octaves.
pub const OCTAVES: f64 = std::f64::consts::LOG2_E;
/// Largest magnitude of the residual stream.
pub const MAX_RESIDUAL: f64 = 536_870_911.0;
/// Largest magnitude of activations that linear layers read.
pub const MAX_ACTIVATION: i32 = 32_639;
/// Largest magnitude of queries after rotation.
pub const MAX_QUERY: i32 = 4_095;
/// Largest magnitude of keys after rotation.
pub const MAX_KEY: i32 = 2_047;
/// Largest magnitude of values: 256 positions of weight 2^11 stay within the accumulator limit.
pub const MAX_VALUE: i32 = 2_032;
/// How many bits finer than its head's coarsest key scale a pair may be.
const FINER: i32 = 4;
/// Margin of 16-bit tensors above the calibration maximum.
const MARGIN: f64 = 2.0;
/// Margin of the product of gate and up, before it is rounded up to a power of two.
const PRODUCT_MARGIN: f64 = 1.25;

/// Largest magnitudes of one layer. Queries and keys: of each pair, as the length of the pair, which rotation keeps.
#[derive(Clone, Debug, Default, PartialEq)]
#[allow(missing_docs, reason = "named after the tensors")]
pub struct LayerPeaks {
    pub attention_norm: f64,
    pub query: Vec<f64>,
    pub key: Vec<f64>,
    pub value: Vec<f64>,
    pub feed_norm: f64,
    pub gate: f64,
    pub up: f64,
    pub product: f64,
}

/// Largest magnitudes over the calibration text.
#[derive(Clone, Debug, Default, PartialEq)]
#[allow(missing_docs, reason = "named after the tensors")]
pub struct Peaks {
    pub residual: f64,
    pub layers: Vec<LayerPeaks>,
    pub final_norm: f64,
}

struct Watch<'a> {
    config: &'a Config,
    peaks: Peaks,
}

fn widen(peak: &mut f64, values: &[f32]) {
    let most = values.iter().fold(0f32, |a, v| a.max(v.abs()));
    *peak = peak.max(f64::from(most));
}

/// Largest length of each pair (i, i + d/2) of each head.
fn widen_pairs(peaks: &mut [f64], rows: &[f32], d: usize) {
    let half = (d / 2).max(1);
    for row in rows.chunks_exact(peaks.len().max(1) * 2) {
        for (peaks, head) in peaks.chunks_exact_mut(half).zip(row.chunks_exact(2 * half)) {
            let (a, b) = head.split_at(half);
            for (p, (a, b)) in peaks.iter_mut().zip(a.iter().zip(b)) {
                *p = p.max(f64::from(*a).hypot(f64::from(*b)));
            }
        }
    }
}

impl Probe for Watch<'_> {
    fn residual(&mut self, values: &[f32]) {
        widen(&mut self.peaks.residual, values);
    }

    fn normed(&mut self, layer: usize, half: usize, values: &[f32]) {
        let peak = match (self.peaks.layers.get_mut(layer), half) {
            (Some(l), 0) => &mut l.attention_norm,
            (Some(l), _) => &mut l.feed_norm,
            (None, _) => &mut self.peaks.final_norm,
        };
        widen(peak, values);
    }

    fn attention(&mut self, layer: usize, query: &[f32], key: &[f32], value: &[f32]) {
        let d = self.config.head_size;
        let Some(l) = self.peaks.layers.get_mut(layer) else {
            return;
        };
        widen_pairs(&mut l.query, query, d);
        widen_pairs(&mut l.key, key, d);
        for row in value.chunks_exact(self.config.kv_width()) {
            for (peak, head) in l.value.iter_mut().zip(row.chunks_exact(d)) {
                widen(peak, head);
            }
        }
    }

    fn feed(&mut self, layer: usize, gate: &[f32], up: &[f32], product: &[f32]) {
        if let Some(l) = self.peaks.layers.get_mut(layer) {
            widen(&mut l.gate, gate);
            widen(&mut l.up, up);
            widen(&mut l.product, product);
        }
    }
}

impl Peaks {
    /// Runs the float reference over the windows.
    ///
    /// # Errors
    /// As [`FloatModel::windows`].
    pub fn calibrate(weights: &Weights, windows: &[Vec<u32>]) -> Result<Self, ImportError> {
        let config = &weights.config;
        let layer = LayerPeaks {
            query: vec![0.0; config.heads * config.head_size / 2],
            key: vec![0.0; config.kv_width() / 2],
            value: vec![0.0; config.kv_heads],
            ..LayerPeaks::default()
        };
        let mut watch = Watch {
            config,
            peaks: Self {
                layers: vec![layer; config.layers],
                ..Self::default()
            },
        };
        FloatModel::new(weights).hidden(windows, &mut watch)?;
        Ok(watch.peaks)
    }
}

/// Scales of one layer, as powers of two: an integer x reads as `x · 2^−scale`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LayerScales {
    /// Output of the norm before attention.
    pub attention_norm: i8,
    /// Scores of each query head, in octaves.
    pub score: Vec<i8>,
    /// Each pair of each key head, after rotation. Queries have what is missing to the score.
    pub key: Vec<i8>,
    /// Each value head.
    pub value: Vec<i8>,
    /// Output of the norm before the feed-forward layer.
    pub feed_norm: i8,
    /// Gate, before and after SiLU.
    pub gate: i8,
    /// Up.
    pub up: i8,
    /// Bits of the largest product of gate and up; the clamp is one less than that power of two.
    pub product: u8,
    /// What the attention half adds to the residual stream; at most the stream's own scale.
    pub output: i8,
    /// What the feed-forward half adds.
    pub down: i8,
}

/// Scales of a decoder: with the weights, all that the integer graph is made from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Scales {
    /// Residual stream.
    pub residual: i8,
    /// Layers in order.
    pub layers: Vec<LayerScales>,
    /// Output of the last norm, octaves included.
    pub final_norm: i8,
}

/// Largest scale at which `peak` stays within `limit`.
fn scale(peak: f64, limit: f64) -> i8 {
    bits_for(peak, limit).clamp(-15, 24) as i8
}

impl Scales {
    /// From ranges, with the margins of docs/models.md.
    pub fn new(peaks: &Peaks, config: &Config) -> Self {
        let activation = f64::from(MAX_ACTIVATION) / MARGIN;
        let norm = |peak: f64| scale(peak, activation);
        let final_norm = norm(peaks.final_norm * OCTAVES);
        // the lift of a tied embedding shifts by the logits' scale less these two, at least by -15
        let lift = 15 + LOGIT_SCALE as i8;
        let residual = scale(peaks.residual, MAX_RESIDUAL / MARGIN).min(lift - final_norm);
        let layers = peaks.layers.iter().map(|l| {
            let half = config.head_size / 2;
            let mut key = Vec::with_capacity(l.key.len());
            for head in l.key.chunks(half) {
                let own: Vec<i32> = head
                    .iter()
                    .map(|p| bits_for(*p, f64::from(MAX_KEY)).clamp(-15, 20))
                    .collect();
                let coarsest = own.iter().copied().min().unwrap_or(0);
                key.extend(own.iter().map(|s| (*s).min(coarsest + FINER) as i8));
            }
            let factor = OCTAVES / (config.head_size as f64).sqrt();
            let score = l.query.chunks(half).enumerate().map(|(head, pairs)| {
                let first = config.key_head(head) * half;
                let key = key.get(first..first + half).unwrap_or_default();
                let fits = pairs.iter().zip(key).map(|(p, k)| {
                    bits_for(p * factor, f64::from(MAX_QUERY)).clamp(-15, 20) + i32::from(*k)
                });
                // the table of exponentials has 16 steps an octave
                fits.min().unwrap_or(4).clamp(4, 35) as i8
            });
            let gate = scale(l.gate, activation).clamp(4, 12);
            let up = scale(l.up, activation);
            // massive products stand alone in their row: little margin, because each bit costs one of the residual stream
            let product = bits_for(1.0, (l.product * PRODUCT_MARGIN).max(1e-9)) + 1;
            let product = product + i32::from(gate) + i32::from(up);
            LayerScales {
                attention_norm: norm(l.attention_norm),
                score: score.collect(),
                value: l
                    .value
                    .iter()
                    .map(|p| scale(*p, f64::from(MAX_VALUE)))
                    .collect(),
                key,
                feed_norm: norm(l.feed_norm),
                gate,
                up,
                product: product.clamp(16, 30) as u8,
                output: residual,
                down: residual,
            }
        });
        Self {
            residual,
            layers: layers.collect(),
            final_norm,
        }
    }
}

//! Scales of one encoder from its calibrated ranges: the all-`i8` recipe.
//!
//! Every linear layer reads `i8`. What makes that possible without loss (measurements in docs/models.md):
//!
//! * the input of a linear layer behind a norm has its own offset and step in **each channel**; both are absorbed, offset and step by the norm's gain and
//!   bias on one side and by the weights' columns and bias on the other. Steps follow `range^a · weight^(a − 1)`, which shares the
//!   difficulty between activations and weights (Xiao et al., SmoothQuant, arXiv 2211.10438, with offsets added);
//! * the same for the weighted values of attention, through the rows of the value layer;
//! * GELU runs from `i8` to `i8` on the many ordinary channels; the [`SIDE`] channels with the largest values run beside it in `i16` with weights of their own;
//! * the residual stream stays `i16`: the norm is evaluated twice, once for the residual, once for the linear layers.

use super::{
    config::BertConfig,
    forward::Site,
    ranges::{Channel, Ranges},
    weights::{BertWeights, Linear},
};
use crate::{
    fixed::{Affine, bits_for},
    float::{exp, floor_log2, ln},
};

/// Feed-forward channels that run in `i16` beside the others.
pub const SIDE: usize = 16;
/// Left end of the GELU input range; GELU is within 0.0041 of 0 below it.
const HIDDEN_LOW: f64 = -3.0;
/// Slightly below the minimum of GELU, −0.169,97.
const ACTIVE_LOW: f64 = -0.17;
/// Share of the range in the step of a channel, for inputs behind a norm.
const NORM_EXPONENT: f64 = 0.75;
/// The same for the weighted values.
const CONTEXT_EXPONENT: f64 = 0.5;
/// Room above the largest calibrated sum.
const SUM_MARGIN: f64 = 1.5;
const I16_MAX: f64 = 32767.0;

/// Scales of one layer.
#[derive(Clone, Debug)]
pub struct LayerScales {
    /// Input of query, key and value, `i8`.
    pub attention_input: Affine,
    /// Queries, `i8`.
    pub query: Affine,
    /// Keys, `i8`.
    pub key: Affine,
    /// Right shift of the scores into `i16`.
    pub score_shift: i8,
    /// Real score (natural logarithm) of one integer step.
    pub score_step: f64,
    /// Values, `i16`.
    pub value: Affine,
    /// Right shift of the weighted values beyond the probabilities' 14 bits.
    pub value_bits: i32,
    /// Weighted values, `i8`.
    pub context: Affine,
    /// Fractional bits of residual plus attention, `i16`.
    pub attention_sum_bits: i32,
    /// Input of the feed-forward layer, `i8`.
    pub feed_input: Affine,
    /// Fractional bits of the residual after the attention's norm, `i16`.
    pub attention_residual_bits: i32,
    /// Channels that run beside, ascending.
    pub side: Vec<usize>,
    /// GELU input of the ordinary channels, `i8`.
    pub hidden: Affine,
    /// GELU output of the ordinary channels, `i8`.
    pub active: Affine,
    /// Fractional bits of residual plus feed-forward, `i16`.
    pub feed_sum_bits: i32,
    /// Fractional bits of the layer's output as residual, `i16`.
    pub residual_bits: i32,
}

/// Scales of a whole encoder.
#[derive(Clone, Debug)]
pub struct Scales {
    /// Fractional bits of the embedding rows and of their sum, `i16`.
    pub embedding_bits: i32,
    /// Fractional bits of the residual after the embedding's norm, `i16`.
    pub first_residual_bits: i32,
    /// Fractional bits of the `i16` side channels, before and after GELU.
    pub side_bits: i32,
    /// Layers.
    pub layers: Vec<LayerScales>,
}

/// Chooses all scales.
pub fn scales(config: &BertConfig, weights: &BertWeights, ranges: &Ranges) -> Scales {
    let peak_of = |values: &[f32]| values.iter().fold(0f64, |a, v| a.max(f64::from(v.abs())));
    // word and position rows each stay below 2^14, so their sum fits
    let embedding_bits = bits_for(
        peak_of(&weights.words).max(peak_of(&weights.positions)),
        16383.0,
    );
    let mut layers = Vec::with_capacity(weights.layers.len());
    let mut side_peak = 0f64;
    for (i, layer) in weights.layers.iter().enumerate() {
        let context = per_channel(
            ranges.channels(Site::Context, i),
            &[&layer.output],
            CONTEXT_EXPONENT,
        );
        let (value, value_bits) = value_scale(ranges.channels(Site::Value, i), &context);
        let (query, key, product) = balanced(
            ranges.channels(Site::Query, i),
            ranges.channels(Site::Key, i),
        );
        let unit = product / (config.head_size() as f64).sqrt();
        let score_peak = 2.0 * ranges.peak(Site::Score, i) / unit;
        let score_shift = (floor_log2(score_peak.max(1.0) / I16_MAX) + 1).clamp(0, 15);
        let (side, ordinary_top) = split(ranges.channels(Site::Active, i));
        let hidden_channels = ranges.channels(Site::Hidden, i);
        side_peak = side
            .iter()
            .filter_map(|c| hidden_channels.get(*c))
            .map(Channel::peak)
            .fold(side_peak, f64::max);
        let sum_bits = |site| bits_for(ranges.peak(site, i) * SUM_MARGIN, I16_MAX);
        let residual_peak = if i + 1 < weights.layers.len() {
            ranges.peak(Site::AttentionInput, i + 1)
        } else {
            ranges.peak(Site::Output, 0)
        };
        layers.push(LayerScales {
            attention_input: per_channel(
                ranges.channels(Site::AttentionInput, i),
                &[&layer.query, &layer.key, &layer.value],
                NORM_EXPONENT,
            ),
            query,
            key,
            score_shift: score_shift as i8,
            score_step: unit * f64::from(1u32 << score_shift),
            value,
            value_bits,
            context,
            attention_sum_bits: sum_bits(Site::AttentionSum),
            feed_input: per_channel(
                ranges.channels(Site::FeedInput, i),
                &[&layer.up],
                NORM_EXPONENT,
            ),
            attention_residual_bits: bits_for(
                ranges.peak(Site::FeedInput, i) * SUM_MARGIN,
                I16_MAX,
            ),
            side,
            hidden: between(HIDDEN_LOW, ordinary_top),
            active: between(ACTIVE_LOW, ordinary_top),
            feed_sum_bits: sum_bits(Site::FeedSum),
            residual_bits: bits_for(residual_peak * SUM_MARGIN, I16_MAX),
        });
    }
    let first_peak = ranges.peak(Site::AttentionInput, 0);
    Scales {
        embedding_bits,
        first_residual_bits: bits_for(first_peak * SUM_MARGIN, I16_MAX),
        side_bits: bits_for(side_peak * SUM_MARGIN, I16_MAX),
        layers,
    }
}

/// `i8` over all 256 values between two reals.
fn between(low: f64, high: f64) -> Affine {
    let high = high.max(low + 1e-3);
    let step = (high - low) / 255.0;
    Affine {
        mid: vec![low + 128.0 * step],
        step: vec![step],
    }
}

fn power(x: f64, exponent: f64) -> f64 {
    exp(exponent * ln(x))
}

/// Offset and step of each channel, so that every calibrated value fits ±127.
fn per_channel(channels: &[Channel], consumers: &[&Linear], exponent: f64) -> Affine {
    let mut peaks = vec![1e-6f64; channels.len()];
    for consumer in consumers {
        for (p, w) in peaks.iter_mut().zip(consumer.column_peaks()) {
            *p = p.max(f64::from(w));
        }
    }
    let half = |c: &Channel| (f64::from(c.hi - c.lo) / 2.0).max(1e-6);
    let mut step: Vec<f64> = channels
        .iter()
        .zip(&peaks)
        .map(|(c, w)| power(half(c), exponent) * power(*w, exponent - 1.0))
        .collect();
    let widest = channels
        .iter()
        .zip(&step)
        .map(|(c, s)| half(c) / s)
        .fold(1e-9, f64::max);
    for s in &mut step {
        *s *= widest / 127.0;
    }
    Affine {
        mid: channels
            .iter()
            .map(|c| f64::from(c.hi + c.lo) / 2.0)
            .collect(),
        step,
    }
}

/// Values at the offsets of the weighted values and a power of two finer.
fn value_scale(channels: &[Channel], context: &Affine) -> (Affine, i32) {
    let peak = channels
        .iter()
        .enumerate()
        .map(|(c, r)| {
            let mid = context.mid(c);
            (f64::from(r.hi) - mid)
                .abs()
                .max((f64::from(r.lo) - mid).abs())
                / context.step(c).max(f64::MIN_POSITIVE)
        })
        .fold(0f64, f64::max);
    let bits = bits_for(peak * 1.25, I16_MAX).clamp(0, 12);
    let fine = crate::fixed::pow2(-bits);
    (
        Affine {
            mid: context.mid.clone(),
            step: context.step.iter().map(|s| s * fine).collect(),
        },
        bits,
    )
}

/// Queries and keys: channel j of one is scaled up by what channel j of the other is scaled down. Returns the real product of one step of each, too.
fn balanced(queries: &[Channel], keys: &[Channel]) -> (Affine, Affine, f64) {
    let pairs: Vec<(f64, f64)> = queries
        .iter()
        .zip(keys)
        .map(|(q, k)| (q.peak().max(1e-6), k.peak().max(1e-6)))
        .collect();
    let top = pairs
        .iter()
        .map(|(q, k)| (q * k).sqrt())
        .fold(1e-6, f64::max);
    let step = |ratio: f64| top / 127.0 * ratio;
    let query = pairs.iter().map(|(q, k)| step((q / k).sqrt())).collect();
    let key = pairs.iter().map(|(q, k)| step((k / q).sqrt())).collect();
    let zero = vec![0.0; pairs.len()];
    (
        Affine {
            mid: zero.clone(),
            step: query,
        },
        Affine {
            mid: zero,
            step: key,
        },
        (top / 127.0) * (top / 127.0),
    )
}

/// The side channels (largest maxima, ascending indices) and the largest value of the others.
fn split(channels: &[Channel]) -> (Vec<usize>, f64) {
    let mut order: Vec<usize> = (0..channels.len()).collect();
    let top = |i: &usize| channels.get(*i).map_or(0.0, |c| c.hi);
    order.sort_by(|a, b| top(b).total_cmp(&top(a)).then(a.cmp(b)));
    let rest = order.split_off(SIDE.min(order.len()));
    order.sort_unstable();
    (
        order,
        rest.first().map_or(1.0, |c| f64::from(top(c)).max(0.1)),
    )
}

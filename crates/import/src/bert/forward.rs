//! The float reference of a BERT encoder, one sentence at a time.

use super::{
    config::BertConfig,
    weights::{BertWeights, Layer},
};
use crate::float;

/// A place in the network whose values calibration looks at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Site {
    /// Sum of word and position embedding, before the norm.
    Embedding,
    /// Input of query, key and value: the norm before the layer's attention.
    AttentionInput,
    /// Queries.
    Query,
    /// Keys.
    Key,
    /// Values.
    Value,
    /// Scores before softmax, scaled.
    Score,
    /// Weighted values: input of the attention's output layer.
    Context,
    /// Residual plus attention, before the norm.
    AttentionSum,
    /// Input of the feed-forward layer.
    FeedInput,
    /// Before GELU.
    Hidden,
    /// After GELU.
    Active,
    /// Output of the feed-forward layer, before the residual is added.
    FeedOutput,
    /// Residual plus feed-forward, before the norm.
    FeedSum,
    /// Output of the last norm.
    Output,
}

/// Sees every intermediate tensor of the reference.
pub trait Probe {
    /// Called once per tensor; `x` is row-major with `width` columns, `layer` is 0 for sites outside layers.
    fn see(&mut self, site: Site, layer: usize, x: &[f32], width: usize);
}

/// A probe that looks away.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoProbe;

impl Probe for NoProbe {
    fn see(&mut self, _: Site, _: usize, _: &[f32], _: usize) {}
}

/// The reference: borrowed weights and their configuration.
#[derive(Clone, Copy, Debug)]
pub struct Forward<'a> {
    /// Sizes.
    pub config: &'a BertConfig,
    /// Weights.
    pub weights: &'a BertWeights,
}

impl Forward<'_> {
    /// Sum over positions of the last hidden state, `[width]`: mean pooling without the division, which L2 normalisation cancels.
    ///
    /// Ids outside the vocabulary and positions beyond the model's count as zero rows; callers check both.
    pub fn run(&self, ids: &[u32], probe: &mut impl Probe) -> Vec<f32> {
        let d = self.config.hidden_size;
        let mut x = Vec::with_capacity(ids.len() * d);
        for (position, id) in ids.iter().enumerate() {
            let row =
                |table: &[f32], i: usize, c: usize| table.get(i * d + c).copied().unwrap_or(0.0);
            x.extend((0..d).map(|c| {
                row(&self.weights.words, *id as usize, c)
                    + row(&self.weights.positions, position, c)
            }));
        }
        probe.see(Site::Embedding, 0, &x, d);
        let eps = self.config.layer_norm_eps;
        let norm = &self.weights.embedding_norm;
        let mut x = float::layer_norm(&x, &norm.gain, &norm.bias, eps);
        for (i, layer) in self.weights.layers.iter().enumerate() {
            probe.see(Site::AttentionInput, i, &x, d);
            let context = self.attention(i, layer, &x, probe);
            probe.see(Site::Context, i, &context, d);
            let sum = add(
                &x,
                &float::linear(&context, &layer.output.weight, &layer.output.bias, d),
            );
            probe.see(Site::AttentionSum, i, &sum, d);
            let mid = float::layer_norm(
                &sum,
                &layer.attention_norm.gain,
                &layer.attention_norm.bias,
                eps,
            );
            probe.see(Site::FeedInput, i, &mid, d);
            let mut h = float::linear(&mid, &layer.up.weight, &layer.up.bias, d);
            let ffn = self.config.intermediate_size;
            probe.see(Site::Hidden, i, &h, ffn);
            for v in &mut h {
                *v = float::gelu(f64::from(*v)) as f32;
            }
            probe.see(Site::Active, i, &h, ffn);
            let out = float::linear(&h, &layer.down.weight, &layer.down.bias, ffn);
            probe.see(Site::FeedOutput, i, &out, d);
            let sum = add(&mid, &out);
            probe.see(Site::FeedSum, i, &sum, d);
            x = float::layer_norm(&sum, &layer.output_norm.gain, &layer.output_norm.bias, eps);
        }
        probe.see(Site::Output, 0, &x, d);
        let mut pooled = vec![0f64; d];
        for row in x.chunks_exact(d) {
            for (p, v) in pooled.iter_mut().zip(row) {
                *p += f64::from(*v);
            }
        }
        pooled.into_iter().map(|v| v as f32).collect()
    }

    fn attention(&self, i: usize, layer: &Layer, x: &[f32], probe: &mut impl Probe) -> Vec<f32> {
        let (d, size) = (self.config.hidden_size, self.config.head_size());
        let seq = x.len() / d;
        let q = float::linear(x, &layer.query.weight, &layer.query.bias, d);
        let k = float::linear(x, &layer.key.weight, &layer.key.bias, d);
        let v = float::linear(x, &layer.value.weight, &layer.value.bias, d);
        probe.see(Site::Query, i, &q, d);
        probe.see(Site::Key, i, &k, d);
        probe.see(Site::Value, i, &v, d);
        let scale = 1.0 / (size as f32).sqrt();
        let mut context = vec![0f32; seq * d];
        for head in 0..self.config.num_attention_heads {
            let columns = |m: &[f32]| -> Vec<f32> {
                m.chunks_exact(d)
                    .flat_map(|r| r.iter().skip(head * size).take(size).copied())
                    .collect()
            };
            let (q, k, v) = (columns(&q), columns(&k), columns(&v));
            let mut values = vec![0f32; v.len()];
            for (t, row) in v.chunks_exact(size).enumerate() {
                for (c, value) in row.iter().enumerate() {
                    if let Some(slot) = values.get_mut(c * seq + t) {
                        *slot = *value;
                    }
                }
            }
            let mut scores = float::linear(&q, &k, &[], size);
            for s in &mut scores {
                *s *= scale;
            }
            probe.see(Site::Score, i, &scores, seq);
            for row in scores.chunks_exact_mut(seq.max(1)) {
                float::softmax(row);
            }
            let out = float::linear(&scores, &values, &[], seq);
            for (target, row) in context.chunks_exact_mut(d).zip(out.chunks_exact(size)) {
                for (slot, value) in target.iter_mut().skip(head * size).zip(row) {
                    *slot = *value;
                }
            }
        }
        context
    }
}

fn add(a: &[f32], b: &[f32]) -> Vec<f32> {
    a.iter().zip(b).map(|(x, y)| x + y).collect()
}

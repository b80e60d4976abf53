//! The integer graph of a BERT encoder. Reads like the model: embedding, layers, pooling.

use assay_graph::{
    ConstId, DType, Dim, Graph, GraphBuilder, Header, NodeId, Op, Requant, TensorType, WeightRow,
};

use super::{
    config::BertConfig,
    forward::Site,
    ranges::{Channel, Ranges},
    recipe::{self, LayerScales, Scales},
    weights::{BertWeights, Layer, Linear, Norm},
};
use crate::{
    error::ImportError,
    fixed::{self, Affine, pow2, round_i32, weight_row},
    float::{self, floor_log2},
};

/// Fractional bits of the attention probabilities.
const PROBABILITY_BITS: u8 = 14;
/// A trace block is 16 KiB.
const BLOCK_BITS: u8 = 14;

/// An encoder as an integer graph, and how to read its ends.
#[derive(Clone, Debug)]
pub struct Encoder {
    /// ids `i32 [Seq]` → sums over positions `i32 [width]`.
    pub graph: Graph,
    /// Node names, in order.
    pub names: Vec<String>,
    /// Real value of one output step, before division by the number of positions.
    pub output_step: f64,
}

/// Builds the graph for at most `max_seq` positions from calibrated ranges.
///
/// # Errors
/// [`ImportError::Limit`] when `max_seq` is beyond the position embedding; [`ImportError::Graph`] when a bound or cap breaks.
pub fn build(
    config: &BertConfig,
    weights: &BertWeights,
    ranges: &Ranges,
    max_seq: u32,
) -> Result<Encoder, ImportError> {
    ImportError::check(
        "positions",
        u64::from(max_seq),
        config.max_position_embeddings as u64,
    )?;
    let scales = recipe::scales(config, weights, ranges);
    let b = GraphBuilder::new(Header {
        max_seq,
        block_bits: BLOCK_BITS,
    });
    let mut w = Writer {
        b,
        config,
        ranges,
        scales: &scales,
        side_table: 0,
    };
    let side_step = pow2(-scales.side_bits);
    let gelu = fixed::table(-32768, 32767, (-32767, 32767), |x| {
        float::gelu(x * side_step) / side_step
    });
    w.side_table = w.b.table(DType::I16, &gelu)?;
    let mut sum = w.embedding(weights, max_seq)?;
    let mut sum_bits = scales.embedding_bits;
    let mut residual_bits = scales.first_residual_bits;
    let mut norm = &weights.embedding_norm;
    for (i, (layer, s)) in weights.layers.iter().zip(&scales.layers).enumerate() {
        sum = w.layer(i, layer, s, norm, (sum, sum_bits), residual_bits)?;
        (sum_bits, residual_bits, norm) = (s.feed_sum_bits, s.residual_bits, &layer.output_norm);
    }
    let last = w.norm(
        "output.norm",
        norm,
        (sum, sum_bits),
        &Affine::power_of_two(residual_bits),
        DType::I16,
    )?;
    let columns = w.b.push(
        "output.columns",
        Op::Transpose { perm: vec![1, 0] },
        &[last],
        false,
    )?;
    w.b.push("output.sum", Op::ReduceSum, &[columns], true)?;
    let names = w.b.names().to_vec();
    Ok(Encoder {
        graph: w.b.finish()?,
        names,
        output_step: pow2(-residual_bits),
    })
}

struct Writer<'a> {
    b: GraphBuilder,
    config: &'a BertConfig,
    ranges: &'a Ranges,
    scales: &'a Scales,
    side_table: ConstId,
}

const fn requant(shift: i8, dtype: DType) -> Requant {
    let limit = match dtype {
        DType::I8 => 127,
        DType::I16 => 32767,
        DType::I32 => i32::MAX,
    };
    Requant {
        shift,
        dtype,
        lo: -limit,
        hi: limit,
    }
}

const BYTE: Requant = Requant {
    shift: 0,
    dtype: DType::I8,
    lo: -128,
    hi: 127,
};

impl Writer<'_> {
    fn embedding(&mut self, weights: &BertWeights, max_seq: u32) -> Result<NodeId, ImportError> {
        let d = self.config.hidden_size;
        let unit = pow2(self.scales.embedding_bits);
        let integers = |values: &[f32]| -> Vec<i32> {
            values
                .iter()
                .map(|v| round_i32(f64::from(*v) * unit))
                .collect()
        };
        let words = self.b.rows(DType::I16, d, &integers(&weights.words))?;
        let positions = self.b.rows(
            DType::I16,
            d,
            &integers(weights.positions.get(..max_seq as usize * d).unwrap_or(&[])),
        )?;
        let top = self.config.vocab_size as i32 - 1;
        let ids = self.b.input(TensorType {
            dtype: DType::I32,
            shape: vec![Dim::Seq],
            lo: 0,
            hi: top,
        })?;
        let rows = self.b.push(
            "embedding.words",
            Op::Embedding { rows: words },
            &[ids],
            false,
        )?;
        let add = Op::AddRows {
            rows: positions,
            left: [0, 0],
            out: requant(0, DType::I16),
        };
        Ok(self.b.push("embedding.sum", add, &[rows], false)?)
    }

    fn layer(
        &mut self,
        i: usize,
        layer: &Layer,
        s: &LayerScales,
        norm: &Norm,
        (sum, sum_bits): (NodeId, i32),
        residual_bits: i32,
    ) -> Result<NodeId, ImportError> {
        let name = |part: &str| format!("layer.{i}.{part}");
        let residual = self.norm(
            &name("residual"),
            norm,
            (sum, sum_bits),
            &Affine::power_of_two(residual_bits),
            DType::I16,
        )?;
        let input = self.norm(
            &name("attention.input"),
            norm,
            (sum, sum_bits),
            &s.attention_input,
            DType::I8,
        )?;
        let context = self.attention(i, layer, s, input)?;
        let out = Affine::power_of_two(s.attention_sum_bits);
        let rows = self.rows(&layer.output, &s.context, (Site::Context, i), &out, None);
        let attended = self.linear(
            &name("attention.output"),
            &rows,
            context,
            requant(0, DType::I16),
        )?;
        let sum = self.residual_add(
            &name("attention.sum"),
            (residual, residual_bits),
            (attended, s.attention_sum_bits),
            false,
        )?;
        let source = (sum, s.attention_sum_bits);
        let residual_bits = s.attention_residual_bits;
        let residual = self.norm(
            &name("feed.residual"),
            &layer.attention_norm,
            source,
            &Affine::power_of_two(residual_bits),
            DType::I16,
        )?;
        let input = self.norm(
            &name("feed.input"),
            &layer.attention_norm,
            source,
            &s.feed_input,
            DType::I8,
        )?;
        let fed = self.feed(i, layer, s, input)?;
        // every second layer: hashing each layer's sum costs more than 2 % of a run (docs/benchmarks.md); the output closes the last segment
        let checkpoint = i % 2 == 1 && i + 1 < self.scales.layers.len();
        self.residual_add(
            &name("feed.sum"),
            (residual, residual_bits),
            (fed, s.feed_sum_bits),
            checkpoint,
        )
    }

    fn attention(
        &mut self,
        i: usize,
        layer: &Layer,
        s: &LayerScales,
        input: NodeId,
    ) -> Result<NodeId, ImportError> {
        let name = |part: &str| format!("layer.{i}.attention.{part}");
        let from = (Site::AttentionInput, i);
        let query = self.rows(&layer.query, &s.attention_input, from, &s.query, None);
        let key = self.rows(&layer.key, &s.attention_input, from, &s.key, None);
        let value = self.rows(&layer.value, &s.attention_input, from, &s.value, None);
        let q = self.linear(&name("query"), &query, input, requant(0, DType::I8))?;
        let k = self.linear(&name("key"), &key, input, requant(0, DType::I8))?;
        let v = self.linear(&name("value"), &value, input, requant(0, DType::I16))?;
        let q = self.heads(&name("query"), q, [1, 0, 2])?;
        let k = self.heads(&name("key"), k, [1, 0, 2])?;
        let v = self.heads(&name("value"), v, [1, 2, 0])?;
        let scores = self.b.push(
            &name("scores"),
            Op::MatMul {
                out: requant(s.score_shift, DType::I16),
            },
            &[q, k],
            false,
        )?;
        // table steps between 1/64 and 1/32 where the scores are fine enough
        let shift = floor_log2(1.0 / 32.0 / s.score_step).clamp(0, 15);
        let table = self
            .b
            .table(DType::I16, &fixed::exp_table(s.score_step * pow2(shift)))?;
        let softmax = Op::Softmax {
            table,
            shift: shift as u8,
            bits: PROBABILITY_BITS,
        };
        let weights = self.b.push(&name("weights"), softmax, &[scores], false)?;
        let out = requant(PROBABILITY_BITS as i8 + s.value_bits as i8, DType::I8);
        let context = self
            .b
            .push(&name("context"), Op::MatMul { out }, &[weights, v], false)?;
        let joined = self.b.push(
            &name("context.joined"),
            Op::Transpose {
                perm: vec![1, 0, 2],
            },
            &[context],
            false,
        )?;
        let shape = vec![Dim::Seq, Dim::Fixed(self.config.hidden_size as u32)];
        Ok(self.b.push(
            &name("context.rows"),
            Op::Reshape { shape },
            &[joined],
            false,
        )?)
    }

    /// `[Seq, width]` → heads, as `[Seq, heads, size]` permuted.
    fn heads(&mut self, name: &str, x: NodeId, perm: [u8; 3]) -> Result<NodeId, ImportError> {
        let shape = vec![
            Dim::Seq,
            Dim::Fixed(self.config.num_attention_heads as u32),
            Dim::Fixed(self.config.head_size() as u32),
        ];
        let split = self
            .b
            .push(&format!("{name}.split"), Op::Reshape { shape }, &[x], false)?;
        Ok(self.b.push(
            &format!("{name}.heads"),
            Op::Transpose {
                perm: perm.to_vec(),
            },
            &[split],
            false,
        )?)
    }

    fn feed(
        &mut self,
        i: usize,
        layer: &Layer,
        s: &LayerScales,
        input: NodeId,
    ) -> Result<NodeId, ImportError> {
        let name = |part: &str| format!("layer.{i}.feed.{part}");
        let from = (Site::FeedInput, i);
        let out = Affine::power_of_two(s.feed_sum_bits);
        // ordinary channels: i8 all the way; the columns of side channels are 0
        let up = self.rows(&layer.up, &s.feed_input, from, &s.hidden, None);
        let hidden = self.linear(&name("up"), &up, input, BYTE)?;
        let (step, mid) = (s.hidden.step(0), s.hidden.mid(0));
        let gelu = fixed::table(-128, 127, (-128, 127), |x| {
            (float::gelu(mid + step * x) - s.active.mid(0)) / s.active.step(0)
        });
        let table = self.b.table(DType::I8, &gelu)?;
        let active = self
            .b
            .push(&name("active"), Op::Lookup { table }, &[hidden], false)?;
        let mut ordinary = layer.down.clone();
        for row in ordinary.weight.chunks_exact_mut(ordinary.cols.max(1)) {
            for c in &s.side {
                if let Some(w) = row.get_mut(*c) {
                    *w = 0.0;
                }
            }
        }
        let down = self.rows(&ordinary, &s.active, (Site::Active, i), &out, None);
        let main = self.linear(&name("down"), &down, active, requant(0, DType::I16))?;
        // side channels: i16
        let side_scale = Affine::power_of_two(self.scales.side_bits);
        let up = self.rows(&layer.up, &s.feed_input, from, &side_scale, Some(&s.side));
        let hidden = self.linear(&name("side.up"), &up, input, requant(0, DType::I16))?;
        let active = self.b.push(
            &name("side.active"),
            Op::Lookup {
                table: self.side_table,
            },
            &[hidden],
            false,
        )?;
        let columns = |row: &[f32]| -> Vec<f32> {
            s.side
                .iter()
                .map(|c| row.get(*c).copied().unwrap_or(0.0))
                .collect()
        };
        let down: Vec<WeightRow> = (0..layer.down.bias.len())
            .map(|r| {
                weight_row(
                    &columns(layer.down.row(r)),
                    0.0,
                    &side_scale,
                    &[],
                    (0.0, out.step(r)),
                    127.0,
                )
            })
            .collect();
        let beside = self.linear(&name("side.down"), &down, active, requant(0, DType::I16))?;
        let add = Op::Add {
            left: [0, 0],
            out: requant(0, DType::I16),
        };
        Ok(self.b.push(&name("joined"), add, &[main, beside], false)?)
    }

    /// Residual (finer) plus the output of a linear layer, at the latter's scale.
    fn residual_add(
        &mut self,
        name: &str,
        residual: (NodeId, i32),
        added: (NodeId, i32),
        checkpoint: bool,
    ) -> Result<NodeId, ImportError> {
        let fine = residual.1.max(added.1);
        let left = [
            (fine - residual.1).clamp(0, 15) as u8,
            (fine - added.1).clamp(0, 15) as u8,
        ];
        let op = Op::Add {
            left,
            out: requant((fine - added.1) as i8, DType::I16),
        };
        Ok(self.b.push(name, op, &[residual.0, added.0], checkpoint)?)
    }

    fn norm(
        &mut self,
        name: &str,
        norm: &Norm,
        (sum, sum_bits): (NodeId, i32),
        out: &Affine,
        dtype: DType,
    ) -> Result<NodeId, ImportError> {
        let (params, shift) = fixed::norm_params(&norm.gain, &norm.bias, out);
        let params = self.b.norm(&params)?;
        let eps = fixed::norm_epsilon(self.config.layer_norm_eps, norm.gain.len(), pow2(-sum_bits));
        Ok(self.b.push(
            name,
            Op::LayerNorm {
                params,
                eps,
                out: requant(shift, dtype),
            },
            &[sum],
            false,
        )?)
    }

    /// Weight rows of a layer (`only` these output channels, when given).
    fn rows(
        &self,
        layer: &Linear,
        input: &Affine,
        from: (Site, usize),
        output: &Affine,
        only: Option<&[usize]>,
    ) -> Vec<WeightRow> {
        let mean: Vec<f64> = self
            .ranges
            .channels(from.0, from.1)
            .iter()
            .map(Channel::mean)
            .collect();
        let all: Vec<usize> = (0..layer.bias.len()).collect();
        only.unwrap_or(&all)
            .iter()
            .map(|r| {
                let bias = layer.bias.get(*r).copied().unwrap_or(0.0);
                weight_row(
                    layer.row(*r),
                    bias,
                    input,
                    &mean,
                    (output.mid(*r), output.step(*r)),
                    127.0,
                )
            })
            .collect()
    }

    fn linear(
        &mut self,
        name: &str,
        rows: &[WeightRow],
        input: NodeId,
        out: Requant,
    ) -> Result<NodeId, ImportError> {
        let weights = self.b.weights(DType::I8, rows)?;
        Ok(self
            .b
            .push(name, Op::Linear { weights, out }, &[input], false)?)
    }
}

//! The integer graph of a decoder, from weights and scales (docs/graph.md, "Language models").

use assay_graph::{
    A_MAX, ConstId, DType, Dim, Graph, GraphBuilder, Header, MAX_ELEMENTS, NodeId, Op, Requant,
    TensorType,
};

use super::{
    config::Config,
    ranges::{
        LayerScales, MAX_ACTIVATION, MAX_KEY, MAX_QUERY, MAX_RESIDUAL, MAX_VALUE, OCTAVES, Scales,
    },
    rope,
    rows::{Plan, Reach, Rows},
    source::{Layer, Linear, Weights},
};
use crate::{
    error::ImportError,
    fixed::{pow2, round_i32},
    float::{exp, sigmoid},
};

/// Most positions of a graph.
pub const MAX_POSITIONS: usize = 8_192;
/// Fractional bits of logits, in octaves.
pub const LOGIT_SCALE: u8 = 8;
/// Extra bits of queries and keys before they are turned.
const SPARE_QUERY: i32 = 2;
const SPARE_KEY: i32 = 3;
/// Extra bits of weighted values.
const MIX_BITS: u8 = 4;
/// Largest gain of a norm: times 2^15 it stays within the accumulator, rounding included.
const MAX_GAIN: f64 = 32_000.0;
/// Distance, in steps of 2^−8 octaves, from which a token is out of reach: 20 octaves.
const GAP_LIMIT: u16 = 5_120;
/// Largest magnitude of what a half layer adds to the residual stream.
const MAX_BRANCH: i32 = (1 << 29) - (1 << 24);
/// Trace blocks of 16 KiB: several positions share one.
const BLOCK_BITS: u8 = 14;

/// Widths that can be chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Widths {
    /// Whether rows of q, k, v, gate, up may need two limbs.
    pub wide_inner: bool,
    /// Whether rows of output and down may.
    pub wide_outer: bool,
    /// Whether rows of the head may.
    pub wide_head: bool,
    /// Bits of the down projection's input, below a shared exponent, 7 … 14.
    pub product: u8,
}

impl Default for Widths {
    fn default() -> Self {
        Self {
            wide_inner: false,
            wide_outer: true,
            wide_head: true,
            product: 14,
        }
    }
}

impl Widths {
    /// Defaults for a size: the wider the feed-forward layer, the fewer bits its product has and the more the weights behind it, whose accumulator both share.
    pub fn of(config: &Config) -> Self {
        let product = match config.feed {
            ..2_172 => 14,
            2_172..4_344 => 13,
            _ => 12,
        };
        Self {
            product,
            ..Self::default()
        }
    }
}

/// A decoder as a graph.
#[derive(Clone, Debug)]
pub struct Decoder {
    /// The graph.
    pub graph: Graph,
    /// Names of its nodes.
    pub names: Vec<String>,
}

struct Build<'a> {
    weights: &'a Weights,
    scales: &'a Scales,
    widths: Widths,
    b: GraphBuilder,
    angles: ConstId,
    exponentials: ConstId,
    silu: Vec<(i8, ConstId)>,
}

/// A norm that was emitted: its node, and what bounds the rows behind it.
struct Normed {
    node: NodeId,
    scale: i32,
    reach: Reach,
}

const fn requant(dtype: DType, shift: i8, peak: i32) -> Requant {
    Requant {
        shift,
        dtype,
        lo: -peak,
        hi: peak,
    }
}

const fn i16_to(peak: i32) -> Requant {
    requant(DType::I16, 0, peak)
}

/// Integer gains and shift of a norm of n channels whose output reads at `scale`.
pub(super) fn gains(gain: &[f32], factor: f64, scale: i32) -> (Vec<i16>, i8) {
    let root = (gain.len() as f64).sqrt() * factor * pow2(scale - 15);
    let peak = gain.iter().fold(0f64, |a, g| a.max(f64::from(g.abs()))) * root;
    let shift = crate::fixed::bits_for(peak, MAX_GAIN).clamp(-15, 24);
    let unit = root * pow2(shift);
    let gains = gain
        .iter()
        .map(|g| (f64::from(*g) * unit).round().clamp(-MAX_GAIN, MAX_GAIN) as i16)
        .collect();
    (gains, shift as i8)
}

fn reach(gains: &[i16], shift: i8) -> Reach {
    let gains = gains.iter().map(|g| i64::from(*g)).collect();
    Reach::Norm(gains, shift, i64::from(MAX_ACTIVATION))
}

/// Scale of weighted values of input channel c of the output projection.
fn mixed_scale(weights: &Weights, scales: &LayerScales, c: usize) -> i32 {
    let head = weights.config.key_head(c / weights.config.head_size);
    let value = scales.value.get(head).copied().unwrap_or(0);
    i32::from(value) + i32::from(MIX_BITS)
}

/// Largest weighted value.
const MAX_MIXED: i32 = MAX_VALUE << MIX_BITS;

/// Largest input of the down projection.
fn most_product(widths: Widths) -> i32 {
    (1 << widths.product.min(15)).min(MAX_ACTIVATION)
}

/// Rows that add to the residual stream after attention.
fn output_plan<'a>(
    input: &'a dyn Fn(usize) -> i32,
    output: &'a dyn Fn(usize) -> i32,
    widths: Widths,
) -> Plan<'a> {
    Plan {
        input,
        output,
        factor: 1.0,
        reach: Reach::Peak(i64::from(MAX_MIXED)),
        exponent: 0,
        wide: widths.wide_outer,
    }
}

/// Rows that add to the residual stream after the feed-forward layer; the exponent of a product takes bits off their shift.
fn down_plan<'a>(
    input: &'a dyn Fn(usize) -> i32,
    output: &'a dyn Fn(usize) -> i32,
    s: &LayerScales,
    widths: Widths,
) -> Plan<'a> {
    Plan {
        input,
        output,
        factor: 1.0,
        reach: Reach::Peak(i64::from(most_product(widths))),
        exponent: (i32::from(s.product) - i32::from(widths.product)).max(0),
        wide: widths.wide_outer,
    }
}

/// Lowers the scale of what a half layer adds to the residual stream until none of its rows loses precision.
///
/// # Errors
/// Those of [`Plan::rows`].
pub fn settle(weights: &Weights, scales: &mut Scales, widths: Widths) -> Result<(), ImportError> {
    for (layer, s) in weights.layers.iter().zip(&mut scales.layers) {
        let frozen = s.clone();
        let mixed = |c: usize| mixed_scale(weights, &frozen, c);
        let plan = output_plan(&mixed, &|_| 0, widths);
        let least = |have: i8, want: i32| i32::from(have).min(want).clamp(-15, 24) as i8;
        s.output = least(s.output, plan.finest_output(&layer.output)?);
        let scale = i32::from(s.gate) + i32::from(s.up);
        let product = |_: usize| scale;
        let plan = down_plan(&product, &|_| 0, &frozen, widths);
        s.down = least(s.down, plan.finest_output(&layer.down)?);
    }
    // a left shift of the sum has at most 15 bits
    let branch = scales.layers.iter().map(|s| s.output.min(s.down)).min();
    scales.residual = scales.residual.min(branch.unwrap_or(0).saturating_add(15));
    Ok(())
}

/// Most positions of a decoder's graph: what it was trained for, at most [`MAX_POSITIONS`], at most what tensors of all positions may hold.
pub fn positions(config: &Config) -> usize {
    let most = MAX_ELEMENTS as usize;
    let widest = config.vocabulary.max(config.feed).max(config.width);
    config
        .context
        .min(MAX_POSITIONS)
        .min(most / widest)
        .min((most / config.heads).isqrt())
}

/// Builds the graph for up to `max_seq` positions.
///
/// # Errors
/// Those of [`Plan::rows`]; [`ImportError::Graph`] when the graph refuses a node.
pub fn build(
    weights: &Weights,
    scales: &Scales,
    widths: Widths,
    max_seq: usize,
) -> Result<Decoder, ImportError> {
    if scales.layers.len() != weights.layers.len() {
        let why = format!(
            "scales of {} layers for {}",
            scales.layers.len(),
            weights.layers.len()
        );
        return Err(ImportError::malformed("scales", why));
    }
    let c = &weights.config;
    let max_seq = max_seq.clamp(1, positions(c));
    let mut b = GraphBuilder::new(Header {
        max_seq: max_seq as u32,
        block_bits: BLOCK_BITS,
    });
    let angles: Vec<i32> = rope::table(max_seq, c.head_size, c.rope_base)
        .chunks_exact(c.head_size / 2)
        .flat_map(|row| {
            let part = |f: fn(&(f64, f64)) -> f64| row.iter().map(f);
            part(|a| a.0).chain(part(|a| a.1))
        })
        .map(|v| round_i32(v * 16_384.0))
        .collect();
    let angles = b.rows(DType::I16, c.head_size, &angles)?;
    let exponentials: Vec<i32> = (0..256)
        .map(|i| match i {
            255 => 0,
            i => round_i32(exp2(11.0 - f64::from(i) / 16.0)),
        })
        .collect();
    let exponentials = b.table(DType::I16, &exponentials)?;
    let mut build = Build {
        weights,
        scales,
        widths,
        b,
        angles,
        exponentials,
        silu: Vec::new(),
    };
    build.all()?;
    let names = build.b.names().to_vec();
    Ok(Decoder {
        graph: build.b.finish()?,
        names,
    })
}

fn exp2(x: f64) -> f64 {
    exp(x * std::f64::consts::LN_2)
}

impl Build<'_> {
    fn all(&mut self) -> Result<NodeId, ImportError> {
        let (weights, scales) = (self.weights, self.scales);
        let c = &weights.config;
        let tokens = self.b.input(TensorType {
            dtype: DType::I32,
            shape: vec![Dim::Seq],
            lo: 0,
            hi: c.vocabulary as i32 - 1,
        })?;
        let (final_gains, final_shift) =
            gains(&weights.final_norm, OCTAVES, i32::from(scales.final_norm));
        let (embedding, head, lift) = self.ends(&final_gains, final_shift)?;
        let residual = requant(DType::I32, lift as i8, MAX_RESIDUAL as i32);
        let op = Op::Lift {
            weights: embedding,
            out: residual,
        };
        let mut h = self.b.push("embedding", op, &[tokens], true)?;
        for (i, (layer, s)) in weights.layers.iter().zip(&scales.layers).enumerate() {
            let middle = self.attention(i, layer, s, h)?;
            h = self.feed(i, layer, s, middle)?;
        }
        let tail = self.b.push("tail", Op::Tail, &[h], false)?;
        let z = self.norm_node("final_norm", tail, &final_gains, final_shift)?;
        self.sampler(tokens, z, head)
    }

    /// Constants of embedding and head, and the shift of the lift.
    fn ends(
        &mut self,
        final_gains: &[i16],
        final_shift: i8,
    ) -> Result<(ConstId, ConstId, i32), ImportError> {
        let (weights, scales) = (self.weights, self.scales);
        let z = i32::from(scales.final_norm);
        let head = Linear {
            weight: weights.head.as_ref().unwrap_or(&weights.embedding).clone(),
            bias: Vec::new(),
        };
        let plan = Plan {
            input: &|_| z,
            output: &|_| i32::from(LOGIT_SCALE),
            factor: 1.0,
            reach: reach(final_gains, final_shift),
            exponent: 0,
            wide: self.widths.wide_head,
        };
        let head = plan.rows(&head)?;
        let head = self.constant(&head)?;
        let a_h = i32::from(scales.residual);
        if weights.head.is_none() {
            return Ok((head, head, i32::from(LOGIT_SCALE) - z - a_h));
        }
        let plan = Plan {
            input: &|_| 0,
            output: &|_| a_h,
            factor: 1.0,
            reach: Reach::Nothing,
            exponent: 0,
            wide: false,
        };
        let rows = plan.rows(&Linear {
            weight: weights.embedding.clone(),
            bias: Vec::new(),
        })?;
        Ok((self.constant(&rows)?, head, 0))
    }

    fn constant(&mut self, rows: &Rows) -> Result<ConstId, ImportError> {
        Ok(match rows {
            Rows::Weights(rows) => self.b.weights(DType::I16, rows)?,
            Rows::Blocks(layout, rows) => self.b.blocks(layout.bits, layout.group, rows)?,
        })
    }

    fn norm_node(
        &mut self,
        name: &str,
        h: NodeId,
        gains: &[i16],
        shift: i8,
    ) -> Result<NodeId, ImportError> {
        let c = &self.weights.config;
        let params: Vec<(i16, i32)> = gains.iter().map(|g| (*g, 0)).collect();
        let params = self.b.norm(&params)?;
        // ε·n at the square of the residual's scale
        let eps = c.eps * c.width as f64 * pow2(2 * i32::from(self.scales.residual));
        let op = Op::RmsNorm {
            params,
            eps: eps.round().clamp(0.0, 4e18) as u64,
            out: requant(DType::I16, shift, MAX_ACTIVATION),
        };
        Ok(self.b.push(name, op, &[h], false)?)
    }

    fn norm(
        &mut self,
        name: &str,
        h: NodeId,
        gain: &[f32],
        scale: i8,
    ) -> Result<Normed, ImportError> {
        let (gains, shift) = gains(gain, 1.0, i32::from(scale));
        Ok(Normed {
            node: self.norm_node(name, h, &gains, shift)?,
            scale: i32::from(scale),
            reach: reach(&gains, shift),
        })
    }

    /// A linear layer behind a norm.
    fn inner(
        &mut self,
        name: &str,
        z: &Normed,
        linear: &Linear,
        factor: f64,
        output: &dyn Fn(usize) -> i32,
        peak: i32,
    ) -> Result<NodeId, ImportError> {
        let plan = Plan {
            input: &|_| z.scale,
            output,
            factor,
            reach: z.reach.clone(),
            exponent: 0,
            wide: self.widths.wide_inner,
        };
        let rows = plan.rows(linear)?;
        let weights = self.constant(&rows)?;
        let op = Op::Linear {
            weights,
            out: i16_to(peak),
        };
        Ok(self.b.push(name, op, &[z.node], false)?)
    }

    fn attention(
        &mut self,
        i: usize,
        layer: &Layer,
        s: &LayerScales,
        h: NodeId,
    ) -> Result<NodeId, ImportError> {
        let weights = self.weights;
        let c = &weights.config;
        let (d, half) = (c.head_size, c.head_size / 2);
        let name = |part: &str| format!("layer.{i}.{part}");
        let z = self.norm(
            &name("attention_norm"),
            h,
            &layer.attention_norm,
            s.attention_norm,
        )?;
        let key_scale = |head: usize, pair: usize| {
            i32::from(s.key.get(head * half + pair).copied().unwrap_or(0))
        };
        let query_scale = |r: usize| {
            let head = r / d;
            let score = i32::from(s.score.get(head).copied().unwrap_or(0));
            score - key_scale(c.key_head(head), r % half) + SPARE_QUERY
        };
        let factor = OCTAVES / (d as f64).sqrt();
        // products of queries and keys of a head stay within the limit
        let most = A_MAX / (d as i64 * i64::from(MAX_KEY));
        let max_query = MAX_QUERY.min(most as i32);
        let q = self.inner(
            &name("query"),
            &z,
            &layer.query,
            factor,
            &query_scale,
            32_767,
        )?;
        let k_out = |r: usize| key_scale(r / d, r % half) + SPARE_KEY;
        let k = self.inner(&name("key"), &z, &layer.key, 1.0, &k_out, 32_767)?;
        let v_out = |r: usize| i32::from(s.value.get(r / d).copied().unwrap_or(0));
        let v = self.inner(&name("value"), &z, &layer.value, 1.0, &v_out, MAX_VALUE)?;
        let turn = |spare: i32, peak: i32| Op::Rope {
            rows: self.angles,
            out: requant(DType::I16, (14 + spare) as i8, peak),
        };
        let (turn_q, turn_k) = (turn(SPARE_QUERY, max_query), turn(SPARE_KEY, MAX_KEY));
        let q = self.b.push(&name("query_turned"), turn_q, &[q], false)?;
        let k = self.b.push(&name("key_turned"), turn_k, &[k], false)?;
        let (heads, kv_heads) = (c.heads as u16, c.kv_heads as u16);
        let op = Op::Scores { heads, kv_heads };
        let scores = self.b.push(&name("scores"), op, &[q, k], false)?;
        let op = Op::CausalExp {
            table: self.exponentials,
            shifts: s.score.iter().map(|a| (a - 4).clamp(0, 31) as u8).collect(),
        };
        let e = self.b.push(&name("weights"), op, &[scores], false)?;
        let op = Op::Transpose { perm: vec![1, 0] };
        let vt = self.b.push(&name("value_columns"), op, &[v], false)?;
        let op = Op::Mix {
            kv_heads,
            bits: MIX_BITS,
            out: i16_to(MAX_MIXED),
        };
        let mixed = self.b.push(&name("mix"), op, &[e, vt], false)?;
        let (scale, left) = self.branch(s.output);
        let rows = output_plan(&|ch| mixed_scale(weights, s, ch), &|_| scale, self.widths)
            .rows(&layer.output)?;
        let op = Op::Linear {
            weights: self.constant(&rows)?,
            out: requant(DType::I32, 0, MAX_BRANCH >> left),
        };
        let out = self.b.push(&name("output"), op, &[mixed], false)?;
        self.add(&name("middle"), h, out, left, false)
    }

    fn feed(
        &mut self,
        i: usize,
        layer: &Layer,
        s: &LayerScales,
        h: NodeId,
    ) -> Result<NodeId, ImportError> {
        let name = |part: &str| format!("layer.{i}.{part}");
        let z = self.norm(&name("feed_norm"), h, &layer.feed_norm, s.feed_norm)?;
        let gate = self.inner(
            &name("gate"),
            &z,
            &layer.gate,
            1.0,
            &|_| i32::from(s.gate),
            32_767,
        )?;
        // silu times up stays within the accumulator
        let max_up = (A_MAX / 32_767) as i32;
        let up = self.inner(
            &name("up"),
            &z,
            &layer.up,
            1.0,
            &|_| i32::from(s.up),
            max_up,
        )?;
        let table = self.silu(s.gate)?;
        let silu = self
            .b
            .push(&name("silu"), Op::Lookup { table }, &[gate], false)?;
        let peak = ((1i64 << s.product.min(30)) - 1) as i32;
        let op = Op::Mul {
            out: requant(DType::I32, 0, peak),
        };
        let product = self.b.push(&name("product"), op, &[silu, up], false)?;
        let op = Op::Exponent {
            bits: self.widths.product,
        };
        let e = self.b.push(&name("exponent"), op, &[product], false)?;
        let op = Op::Normalise {
            out: i16_to(most_product(self.widths)),
        };
        let p = self.b.push(&name("normalised"), op, &[product, e], false)?;
        let (branch, left) = self.branch(s.down);
        let scale = i32::from(s.gate) + i32::from(s.up);
        let rows = down_plan(&|_| scale, &|_| branch, s, self.widths).rows(&layer.down)?;
        let op = Op::Linear {
            weights: self.constant(&rows)?,
            out: requant(DType::I32, 0, MAX_BRANCH >> left),
        };
        let down = self.b.push(&name("down"), op, &[p, e], false)?;
        self.add(&name("residual"), h, down, left, true)
    }

    /// Scale of a branch, and how far it is shifted left when it is added to the residual stream.
    fn branch(&self, scale: i8) -> (i32, u8) {
        let residual = self.scales.residual;
        let scale = scale.min(residual);
        (i32::from(scale), (residual - scale).clamp(0, 15) as u8)
    }

    fn add(
        &mut self,
        name: &str,
        h: NodeId,
        x: NodeId,
        left: u8,
        checkpoint: bool,
    ) -> Result<NodeId, ImportError> {
        let op = Op::Add {
            left: [0, left],
            out: requant(DType::I32, 0, MAX_RESIDUAL as i32),
        };
        Ok(self.b.push(name, op, &[h, x], checkpoint)?)
    }

    /// `round(2^a·silu(x·2^−a))` for all 16-bit x; one table for each scale in use.
    fn silu(&mut self, scale: i8) -> Result<ConstId, ImportError> {
        if let Some((_, id)) = self.silu.iter().find(|(s, _)| *s == scale) {
            return Ok(*id);
        }
        let unit = pow2(i32::from(scale));
        let entry = |x: i32| {
            let g = f64::from(x) / unit;
            round_i32(g * sigmoid(g) * unit).clamp(-32_767, 32_767)
        };
        let table: Vec<i32> = (-32_768..=32_767).map(entry).collect();
        let id = self.b.table(DType::I16, &table)?;
        self.silu.push((scale, id));
        Ok(id)
    }

    fn sampler(&mut self, tokens: NodeId, z: NodeId, head: ConstId) -> Result<NodeId, ImportError> {
        let vocabulary = self.weights.config.vocabulary as u32;
        let b = &mut self.b;
        let op = Op::Linear {
            weights: head,
            out: i16_to(32_767),
        };
        let logits = b.push("logits", op, &[z], false)?;
        let op = Op::Adjust { scale: LOGIT_SCALE };
        let adjusted = b.push("adjusted", op, &[logits, tokens], false)?;
        let op = Op::BlockMax { block: 8_192 };
        let maxima = b.push("block_maxima", op, &[adjusted], false)?;
        let op = Op::BlockMax {
            block: vocabulary.div_ceil(8_192),
        };
        let max = b.push("maximum", op, &[maxima], false)?;
        let limit = GAP_LIMIT;
        let gaps = b.push("gaps", Op::Gap { limit }, &[adjusted, max], false)?;
        let op = Op::Census {
            block: 24_576,
            limit,
        };
        let census = b.push("census", op, &[gaps], false)?;
        let counts = b.push("counts", Op::ReduceSum, &[census], false)?;
        let octave: Vec<i32> = (0..256)
            .map(|i| round_i32(exp2(14.0 - f64::from(i) / 256.0)))
            .collect();
        let table = b.table(DType::I16, &octave)?;
        let cut = b.push("cut", Op::Cut { table }, &[counts], false)?;
        let block = 1_024;
        let op = Op::Mass { table, block };
        let mass = b.push("mass", op, &[gaps, cut], false)?;
        let op = Op::Pick { table, block };
        Ok(b.push("tokens", op, &[gaps, cut, mass], true)?)
    }
}

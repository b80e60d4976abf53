//! Writes the integer graph of a network, node by node.

use assay_graph::{DType, Dim, Graph, GraphBuilder, Header, NodeId, Op, Requant, TensorType, WeightRow, Window};

use super::{End, NetRanges, Profile};
use crate::{
    error::ImportError,
    fixed::{self, Affine, bits_for, pow2, round_i32, weight_row},
    float::floor_log2,
    net::{Net, NetNode, NetOp},
};

/// Room above calibrated maxima of `i16` tensors.
const MARGIN: f64 = 1.5;
const PROBABILITY_BITS: u8 = 14;

/// Where a network node lives in the graph, and how it reads.
#[derive(Clone, Copy, Debug)]
struct Placed {
    id: NodeId,
    dtype: DType,
    step: f64,
}

pub(super) struct Emitter<'a> {
    net: &'a Net,
    ranges: &'a NetRanges,
    input_range: (f64, f64),
    limits: Vec<f64>,
    /// Element type and largest magnitude of weights.
    weights: (DType, f64),
    b: GraphBuilder,
    placed: Vec<Placed>,
    /// Element type of each producing node.
    dtypes: Vec<DType>,
    /// Whether only linear layers and tables read the node, so that its step may be any number.
    free: Vec<bool>,
    /// Clamp that the only reader applies.
    fused: Vec<Option<(f64, f64)>>,
    /// Node at work.
    now: usize,
}

impl<'a> Emitter<'a> {
    pub(super) fn new(net: &'a Net, ranges: &'a NetRanges, input_range: (f64, f64), profile: Profile, limits: &[f64], block_bits: u8) -> Self {
        let (dtypes, free) = widths(net, profile);
        let b = GraphBuilder::new(Header { max_seq: 1, block_bits });
        Self { net, ranges, input_range, limits: limits.to_vec(), weights: profile.weights(), b, placed: Vec::new(), dtypes, free, fused: fused_clamps(net), now: 0 }
    }

    /// Pushes all nodes; returns how the ends read.
    pub(super) fn build(&mut self) -> Result<(End, End), ImportError> {
        let net = self.net;
        for (i, node) in net.nodes.iter().enumerate() {
            self.now = i;
            let placed = self.node(i, node)?;
            self.placed.push(placed);
        }
        let (Some(first), Some(last)) = (self.placed.first().copied(), self.placed.last().copied()) else {
            return Err(ImportError::malformed("network", "it is empty"));
        };
        // a scale or a reshape at the end leaves another node last in the graph; both ends must be what the header says
        let type_of = |p: Placed| self.b.type_of(p.id).map(|t| (t.lo, t.hi)).unwrap_or((0, 0));
        let ((lo, hi), (out_lo, out_hi)) = (type_of(first), type_of(last));
        Ok((End { step: first.step, lo, hi }, End { step: last.step, lo: out_lo, hi: out_hi }))
    }

    pub(super) fn finish(self) -> Result<(Graph, Vec<String>), ImportError> {
        let names = self.b.names().to_vec();
        Ok((self.b.finish()?, names))
    }

    /// Lowers the clamps of the nodes that feed the one whose bound broke by the factor that it broke by. False when none can go lower.
    pub(super) fn lower(&self, limits: &mut [f64], factor: f64) -> bool {
        let factor = (factor * 0.98).clamp(0.25, 0.98);
        let mut any = false;
        let inputs = self.net.nodes.get(self.now).map(|n| n.inputs.clone()).unwrap_or_default();
        for mut i in inputs {
            while let Some(node) = self.net.nodes.get(i) {
                let passes = node.op.passes_values() || matches!(node.op, NetOp::Scale(_));
                let Some(next) = node.inputs.first().filter(|_| passes) else { break };
                i = *next;
            }
            if let Some(limit) = limits.get_mut(i)
                && *limit > 256.0
            {
                *limit = (*limit * factor).floor();
                any = true;
            }
        }
        any
    }

    fn input(&self, node: &NetNode, i: usize) -> Result<Placed, ImportError> {
        let found = node.inputs.get(i).and_then(|n| self.placed.get(*n)).copied();
        found.ok_or_else(|| ImportError::malformed(format!("node `{}`", node.name), format!("operand {i} is missing")))
    }

    fn push(&mut self, name: &str, op: Op, inputs: &[NodeId]) -> Result<NodeId, ImportError> {
        Ok(self.b.push(name, op, inputs, true)?)
    }

    /// Clamp and step of a node that computes new values.
    fn target(&self, i: usize) -> (Requant, f64) {
        let dtype = self.dtypes.get(i).copied().unwrap_or(DType::I16);
        let clamp = self.fused.get(i).copied().flatten();
        let (lo, hi) = self.ranges.extent.get(i).copied().unwrap_or((0.0, 0.0));
        let peak = match clamp {
            Some((a, b)) => lo.max(a).min(b).abs().max(hi.min(b).max(a).abs()),
            None => lo.abs().max(hi.abs()),
        };
        let limit = self.limit(i, dtype);
        let step = match dtype {
            DType::I8 if self.free.get(i) == Some(&true) && peak > 0.0 => peak / limit,
            DType::I8 => pow2(-bits_for(peak, limit)),
            _ => pow2(-bits_for(peak * MARGIN, limit)),
        };
        (self.clamped(i, dtype, step), step)
    }

    fn limit(&self, i: usize, dtype: DType) -> f64 {
        match dtype {
            DType::I8 => 127.0,
            _ => self.limits.get(i).copied().unwrap_or(32767.0),
        }
    }

    /// Requantisation into a type at a step, with the fused clamp of node `i`.
    fn clamped(&self, i: usize, dtype: DType, step: f64) -> Requant {
        let limit = self.limit(i, dtype) as i32;
        let (a, b) = self.fused.get(i).copied().flatten().unwrap_or((f64::NEG_INFINITY, f64::INFINITY));
        let lo = round_i32(a / step).clamp(-limit, limit);
        let hi = round_i32(b / step).clamp(lo, limit);
        Requant { shift: 0, dtype, lo, hi }
    }

    fn shape(dims: &[usize]) -> Vec<Dim> {
        dims.iter().map(|d| Dim::Fixed(*d as u32)).collect()
    }

    fn node(&mut self, i: usize, node: &NetNode) -> Result<Placed, ImportError> {
        match &node.op {
            NetOp::Input => self.place_input(i, node),
            NetOp::Linear { weight, bias, cols } => {
                let x = self.narrow(node, 0)?;
                let (out, step) = self.target(i);
                let rows = self.rows(node, weight, bias, *cols, x.step, step);
                let weights = self.b.weights(self.weights.0, &rows)?;
                Ok(Placed { id: self.push(&node.name, Op::Linear { weights, out }, &[x.id])?, dtype: out.dtype, step })
            }
            NetOp::Conv { weight, bias, window, groups } => {
                let x = self.narrow(node, 0)?;
                let (out, step) = self.target(i);
                let rows = self.rows(node, weight, bias, weight.len() / bias.len().max(1), x.step, step);
                let weights = self.b.weights(self.weights.0, &rows)?;
                let op = Op::Conv2d { weights, window: *window, groups: *groups as u32, out };
                Ok(Placed { id: self.push(&node.name, op, &[x.id])?, dtype: out.dtype, step })
            }
            NetOp::Channel { scale, bias } => self.channel(i, node, scale, bias),
            NetOp::MatMul => self.mat_mul(i, node),
            NetOp::Add => self.add(i, node),
            NetOp::AddRows { rows } => self.add_rows(i, node, rows),
            NetOp::Map(f) => {
                let x = self.narrow(node, 0)?;
                let (out, step) = self.target(i);
                let (f, scale) = (f.clone(), x.step);
                self.table(&node.name, x, out, step, move |v| f.at(v * scale) / step)
            }
            NetOp::Clamp { lo, hi } => {
                let x = self.input(node, 0)?;
                if node.inputs.first().and_then(|p| self.fused.get(*p)).copied().flatten().is_some() {
                    return Ok(x);
                }
                let (a, b) = x.dtype.range();
                let low = round_i32(lo / x.step).clamp(a, b);
                let out = Requant { shift: 0, dtype: x.dtype, lo: low, hi: round_i32(hi / x.step).clamp(low, b) };
                Ok(Placed { id: self.push(&node.name, Op::Requant { out }, &[x.id])?, ..x })
            }
            NetOp::Scale(s) => {
                let x = self.input(node, 0)?;
                Ok(Placed { step: x.step * s, ..x })
            }
            NetOp::LayerNorm { gain, bias, eps } => {
                let x = self.wide(node, 0)?;
                let (mut out, step) = self.target(i);
                let (params, shift) = fixed::norm_params(gain, bias, &Affine::uniform(step));
                out.shift = shift;
                let params = self.b.norm(&params)?;
                let eps = fixed::norm_epsilon(*eps, gain.len(), x.step);
                Ok(Placed { id: self.push(&node.name, Op::LayerNorm { params, eps, out }, &[x.id])?, dtype: out.dtype, step })
            }
            NetOp::Softmax => {
                let x = self.wide(node, 0)?;
                let x = if x.dtype == DType::I32 { self.requant(&node.name, x, DType::I16, self.peak_of(node, 0))? } else { x };
                let shift = floor_log2(1.0 / 32.0 / x.step).clamp(0, 31);
                let table = self.b.table(DType::I16, &fixed::exp_table(x.step * pow2(shift)))?;
                let op = Op::Softmax { table, shift: shift as u8, bits: PROBABILITY_BITS };
                Ok(Placed { id: self.push(&node.name, op, &[x.id])?, dtype: DType::I16, step: pow2(-i32::from(PROBABILITY_BITS)) })
            }
            NetOp::MaxPool(window) => self.moved(node, Op::MaxPool { window: *window }),
            NetOp::AvgPool(window) => self.moved(node, Op::AvgPool { window: *window }),
            NetOp::Transpose(perm) => self.moved(node, Op::Transpose { perm: perm.iter().map(|p| *p as u8).collect() }),
            NetOp::Reshape => self.moved(node, Op::Reshape { shape: Self::shape(&node.dims) }),
            NetOp::Slice { axis, start } => {
                let len = node.dims.get(*axis).copied().unwrap_or(1) as u32;
                self.moved(node, Op::Slice { axis: *axis as u8, start: *start as u32, len })
            }
            NetOp::ReduceSum => {
                let x = self.input(node, 0)?;
                Ok(Placed { id: self.push(&node.name, Op::ReduceSum, &[x.id])?, dtype: DType::I32, step: x.step })
            }
            NetOp::ArgMax => {
                let x = self.input(node, 0)?;
                Ok(Placed { id: self.push(&node.name, Op::ArgMax, &[x.id])?, dtype: DType::I32, step: 1.0 })
            }
            NetOp::Embedding { rows, width } => {
                let x = self.input(node, 0)?;
                let dtype = self.dtypes.get(i).copied().unwrap_or(DType::I16);
                let peak = rows.iter().fold(0f64, |a, v| a.max(f64::from(v.abs())));
                let step = pow2(-bits_for(peak, self.limit(i, dtype)));
                let values: Vec<i32> = rows.iter().map(|v| round_i32(f64::from(*v) / step)).collect();
                let rows = self.b.rows(dtype, *width, &values)?;
                Ok(Placed { id: self.push(&node.name, Op::Embedding { rows }, &[x.id])?, dtype, step })
            }
            NetOp::Concat(axis) => self.concat(i, node, *axis),
        }
    }

    fn place_input(&mut self, i: usize, node: &NetNode) -> Result<Placed, ImportError> {
        let shape = Self::shape(&node.dims);
        if self.net.ids {
            let rows = self.net.nodes.iter().find_map(|n| if let NetOp::Embedding { rows, width } = &n.op { Some(rows.len() / width.max(&1)) } else { None });
            let hi = rows.unwrap_or(1).saturating_sub(1) as i32;
            let id = self.b.input(TensorType { dtype: DType::I32, shape, lo: 0, hi })?;
            return Ok(Placed { id, dtype: DType::I32, step: 1.0 });
        }
        let dtype = self.dtypes.get(i).copied().unwrap_or(DType::I16);
        let (lo, hi) = self.input_range;
        let limit = self.limit(i, dtype);
        let peak = lo.abs().max(hi.abs());
        let step = if dtype == DType::I8 && self.free.get(i) == Some(&true) { peak / limit } else { pow2(-bits_for(peak, limit)) };
        let id = self.b.input(TensorType { dtype, shape, lo: round_i32(lo / step), hi: round_i32(hi / step) })?;
        Ok(Placed { id, dtype, step })
    }

    fn rows(&self, node: &NetNode, weight: &[f32], bias: &[f32], cols: usize, input_step: f64, step: f64) -> Vec<WeightRow> {
        let channels = node.inputs.first().and_then(|i| self.ranges.mean.get(*i)).map_or(&[][..], Vec::as_slice);
        // of a grouped convolution the columns are a part of the channels, another one for each row: no correction there
        let mean: Vec<f64> = if channels.is_empty() || cols % channels.len() != 0 { Vec::new() } else { (0..cols).filter_map(|c| channels.get(c % channels.len()).copied()).collect() };
        let input = Affine::uniform(input_step);
        weight.chunks_exact(cols.max(1)).zip(bias).map(|(w, b)| weight_row(w, *b, &input, &mean, (0.0, step), self.weights.1)).collect()
    }

    fn moved(&mut self, node: &NetNode, op: Op) -> Result<Placed, ImportError> {
        let x = self.input(node, 0)?;
        Ok(Placed { id: self.push(&node.name, op, &[x.id])?, ..x })
    }

    fn peak_of(&self, node: &NetNode, i: usize) -> f64 {
        node.inputs.get(i).and_then(|n| self.ranges.peak.get(*n)).copied().unwrap_or(1.0)
    }

    /// An operand as `i8` or `i16`.
    fn narrow(&mut self, node: &NetNode, i: usize) -> Result<Placed, ImportError> {
        let x = self.input(node, i)?;
        if x.dtype == DType::I32 { self.requant(&node.name, x, DType::I16, self.peak_of(node, i)) } else { Ok(x) }
    }

    /// An operand as `i16` or `i32`.
    fn wide(&mut self, node: &NetNode, i: usize) -> Result<Placed, ImportError> {
        let x = self.input(node, i)?;
        if x.dtype == DType::I8 { self.widen(&node.name, x) } else { Ok(x) }
    }

    fn widen(&mut self, name: &str, x: Placed) -> Result<Placed, ImportError> {
        let out = Requant { shift: 0, dtype: DType::I16, lo: -128, hi: 127 };
        Ok(Placed { id: self.push(&format!("{name}.widened"), Op::Requant { out }, &[x.id])?, dtype: DType::I16, ..x })
    }

    /// Into a narrower type by the shift that just holds `peak`.
    fn requant(&mut self, name: &str, x: Placed, dtype: DType, peak: f64) -> Result<Placed, ImportError> {
        let limit = if dtype == DType::I8 { 127.0 } else { 32767.0 };
        let shift = (floor_log2((peak * MARGIN / x.step).max(1.0) / limit) + 1).clamp(0, 31);
        let out = Requant { shift: shift as i8, dtype, lo: -(limit as i32), hi: limit as i32 };
        let id = self.push(&format!("{name}.narrowed"), Op::Requant { out }, &[x.id])?;
        Ok(Placed { id, dtype, step: x.step * pow2(shift) })
    }

    fn table(&mut self, name: &str, x: Placed, out: Requant, step: f64, f: impl Fn(f64) -> f64) -> Result<Placed, ImportError> {
        let (lo, hi) = x.dtype.range();
        let entries = fixed::table(lo, hi, (out.lo, out.hi), |v| {
            let y = f(v);
            if y.is_nan() { 0.0 } else { y }
        });
        let table = self.b.table(out.dtype, &entries)?;
        Ok(Placed { id: self.push(name, Op::Lookup { table }, &[x.id])?, dtype: out.dtype, step })
    }

    /// `x` at another step: itself where it is the same, else through a table.
    fn at_step(&mut self, name: &str, x: Placed, dtype: DType, step: f64) -> Result<Placed, ImportError> {
        if x.dtype == dtype && x.step == step {
            return Ok(x);
        }
        let (lo, hi) = dtype.range();
        let ratio = x.step / step;
        let out = Requant { shift: 0, dtype, lo: lo + 1, hi };
        self.table(&format!("{name}.rescaled"), x, out, step, move |v| v * ratio)
    }

    fn mat_mul(&mut self, i: usize, node: &NetNode) -> Result<Placed, ImportError> {
        let (mut a, mut b) = (self.narrow(node, 0)?, self.narrow(node, 1)?);
        if a.dtype != b.dtype {
            for x in [&mut a, &mut b] {
                if x.dtype == DType::I8 {
                    *x = self.widen(&node.name, *x)?;
                }
            }
        }
        let (_, step) = self.target(i);
        let product = a.step * b.step;
        // the smallest shift whose step is at least the wanted one
        let shift = (0..=31).find(|s| product * pow2(*s) >= step).unwrap_or(31);
        let step = product * pow2(shift);
        let dtype = self.dtypes.get(i).copied().unwrap_or(DType::I16);
        let out = Requant { shift: shift as i8, ..self.clamped(i, dtype, step) };
        Ok(Placed { id: self.push(&node.name, Op::MatMul { out }, &[a.id, b.id])?, dtype, step })
    }

    fn add(&mut self, i: usize, node: &NetNode) -> Result<Placed, ImportError> {
        let (mut a, mut b) = (self.narrow(node, 0)?, self.narrow(node, 1)?);
        if log2(a.step / b.step).is_none() {
            b = self.at_step(&node.name, b, b.dtype, a.step.max(b.step))?;
        }
        if log2(a.step / b.step).is_none() {
            a = self.at_step(&node.name, a, a.dtype, b.step)?;
        }
        let fine = a.step.min(b.step);
        let left = |x: Placed| log2(x.step / fine).unwrap_or(0);
        let (la, lb) = (left(a), left(b));
        if la > 13 || lb > 13 {
            return Err(ImportError::malformed(format!("node `{}`", node.name), format!("operands at steps {} and {}", a.step, b.step)));
        }
        let (_, want) = self.target(i);
        let shift = (-15..=15).find(|s| fine * pow2(*s) >= want).unwrap_or(15);
        let step = fine * pow2(shift);
        let dtype = self.dtypes.get(i).copied().unwrap_or(DType::I16);
        let out = Requant { shift: shift as i8, ..self.clamped(i, dtype, step) };
        Ok(Placed { id: self.push(&node.name, Op::Add { left: [la as u8, lb as u8], out }, &[a.id, b.id])?, dtype, step })
    }

    fn add_rows(&mut self, i: usize, node: &NetNode, rows: &[f32]) -> Result<Placed, ImportError> {
        let x = self.input(node, 0)?;
        let cols = node.dims.last().copied().unwrap_or(1);
        // a mask far below every score may saturate: it stays far below
        let values: Vec<i32> = rows.iter().map(|v| round_i32(f64::from(*v) / x.step).clamp(-32767, 32767)).collect();
        let rows = self.b.rows(DType::I16, cols, &values)?;
        let (_, want) = self.target(i);
        let shift = (0..=15).find(|s| x.step * pow2(*s) >= want).unwrap_or(15);
        let step = x.step * pow2(shift);
        let dtype = self.dtypes.get(i).copied().unwrap_or(DType::I16);
        let out = Requant { shift: shift as i8, ..self.clamped(i, dtype, step) };
        Ok(Placed { id: self.push(&node.name, Op::AddRows { rows, left: [0, 0], out }, &[x.id])?, dtype, step })
    }

    /// Factors and offsets per channel that no neighbour took over: a depth-wise 1 x 1 convolution.
    fn channel(&mut self, i: usize, node: &NetNode, scale: &[f32], bias: &[f32]) -> Result<Placed, ImportError> {
        let x = self.narrow(node, 0)?;
        let (out, step) = self.target(i);
        let input = Affine::uniform(x.step);
        let rows: Vec<WeightRow> = scale.iter().zip(bias).map(|(s, b)| weight_row(&[*s], *b, &input, &[], (0.0, step), self.weights.1)).collect();
        let weights = self.b.weights(self.weights.0, &rows)?;
        let c = scale.len();
        let total: usize = node.dims.iter().product();
        let image = [1, total / c.max(1), c];
        let mut id = x.id;
        if node.dims != image {
            id = self.push(&format!("{}.image", node.name), Op::Reshape { shape: Self::shape(&image) }, &[id])?;
        }
        let window = Window { kernel: [1, 1], stride: [1, 1], pad: [0; 4] };
        id = self.push(&node.name, Op::Conv2d { weights, window, groups: c as u32, out }, &[id])?;
        if node.dims != image {
            id = self.push(&format!("{}.rows", node.name), Op::Reshape { shape: Self::shape(&node.dims) }, &[id])?;
        }
        Ok(Placed { id, dtype: out.dtype, step })
    }

    fn concat(&mut self, i: usize, node: &NetNode, axis: usize) -> Result<Placed, ImportError> {
        let dtype = self.dtypes.get(i).copied().unwrap_or(DType::I16);
        let parts = (0..node.inputs.len()).map(|k| self.narrow(node, k)).collect::<Result<Vec<_>, _>>()?;
        let step = parts.iter().map(|p| p.step).fold(0f64, f64::max);
        let mut ids = Vec::new();
        for p in parts {
            ids.push(self.at_step(&node.name, p, dtype, step)?.id);
        }
        Ok(Placed { id: self.push(&node.name, Op::Concat { axis: axis as u8 }, &ids)?, dtype, step })
    }
}

/// Exponent of an exact power of two.
fn log2(r: f64) -> Option<i32> {
    let n = floor_log2(r);
    (pow2(n) == r).then_some(n)
}

/// Element type of each node, and whether its step is free.
fn widths(net: &Net, profile: Profile) -> (Vec<DType>, Vec<bool>) {
    let consumers = net.consumers();
    let n = net.nodes.len();
    let mut wide = vec![profile != Profile::A8; n];
    let mut free = vec![true; n];
    if let Some(last) = wide.last_mut() {
        *last = true;
    }
    for i in (0..n).rev() {
        for c in consumers.get(i).into_iter().flatten() {
            let Some(reader) = net.nodes.get(*c) else { continue };
            let inherits = reader.op.passes_values() || matches!(reader.op, NetOp::Add | NetOp::AddRows { .. } | NetOp::Concat(_) | NetOp::Scale(_));
            let needs = matches!(reader.op, NetOp::LayerNorm { .. } | NetOp::Softmax | NetOp::ReduceSum) || inherits && wide.get(*c) == Some(&true);
            let pinned = matches!(reader.op, NetOp::Add | NetOp::Concat(_)) || inherits && free.get(*c) == Some(&false);
            if let Some(w) = wide.get_mut(i) {
                *w |= needs;
            }
            if let Some(f) = free.get_mut(i) {
                *f &= !pinned;
            }
        }
    }
    (wide.into_iter().map(|w| if w { DType::I16 } else { DType::I8 }).collect(), free)
}

/// Clamps that the producer of their operand can apply itself.
fn fused_clamps(net: &Net) -> Vec<Option<(f64, f64)>> {
    let uses = net.uses();
    let mut fused = vec![None; net.nodes.len()];
    for node in &net.nodes {
        let (NetOp::Clamp { lo, hi }, Some(p)) = (&node.op, node.inputs.first()) else { continue };
        let producer = net.nodes.get(*p).map(|n| &n.op);
        let can = matches!(
            producer,
            Some(NetOp::Linear { .. } | NetOp::Conv { .. } | NetOp::Channel { .. } | NetOp::Add | NetOp::AddRows { .. } | NetOp::MatMul | NetOp::LayerNorm { .. })
        );
        if can
            && uses.get(*p) == Some(&1)
            && let Some(slot) = fused.get_mut(*p)
        {
            *slot = Some((*lo, *hi));
        }
    }
    fused
}

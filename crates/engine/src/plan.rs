//! From a graph to what is executed: constants packed once, buffers assigned.

use std::{cell::RefCell, collections::HashMap, sync::Arc};

use assay_graph::{Const, DType, Data, Extent, Graph, Op, Requant, Tensor, TensorType, Window};

use crate::{
    EngineError,
    batched::{Batched, View},
    conv::{Conv, Shape},
    facts::{self, Inputs},
    linear::Linear,
    pool::Pool,
    product::Product,
    simd::{
        elementwise::Rescale, isa::Isa, language::Wide, norm::NormParams, softmax::SoftmaxParams,
    },
};

/// A table rotated so that index 0 is value 0.
pub(crate) enum Table {
    From8To8(Box<[i8; 256]>),
    From8To16(Box<[i16; 256]>),
    From16To8(Box<[i8; 65_536]>),
    From16To16(Box<[i16; 65_536]>),
}

/// An operator with its constants in the form that the kernels read.
pub(crate) enum Kernel {
    Input,
    /// Other dimensions, same bytes.
    View,
    Linear(Box<Product>),
    Conv(Box<Conv>),
    MatMul(Box<Batched>),
    Add {
        left: [u32; 2],
        how: Rescale,
    },
    AddRows {
        rows: Data,
        cols: usize,
        left: [u32; 2],
        how: Rescale,
    },
    Rescale(Rescale),
    Lookup(Arc<Table>),
    Pool {
        kind: Pool,
        window: Window,
    },
    LayerNorm(Box<NormParams>),
    Softmax(Box<SoftmaxParams>),
    ReduceSum,
    ArgMax,
    Embedding {
        rows: Data,
        cols: usize,
    },
    Transpose {
        perm: Vec<u8>,
    },
    Slice {
        axis: usize,
        start: usize,
        len: usize,
    },
    Concat {
        axis: usize,
    },
    /// A linear of block codes, of rows of two limbs, or with exponents.
    Limbs(Box<Linear>),
    Lift {
        weights: Const,
        how: Requant,
    },
    RmsNorm(Box<NormParams>),
    Rope {
        angles: Arc<Vec<i16>>,
        d: usize,
        how: Rescale,
    },
    Mul(Rescale),
    Exponent {
        bits: u32,
    },
    Normalise(Wide),
    Scores {
        heads: usize,
        kv_heads: usize,
    },
    CausalExp {
        table: Vec<i16>,
        shifts: Vec<u32>,
    },
    Mix {
        kv_heads: usize,
        bits: u32,
        how: Requant,
    },
    Tail,
    Sampler(Sampler),
}

impl Kernel {
    /// Bytes of packed weights and tables.
    pub(crate) fn bytes(&self) -> usize {
        let data = |d: &Data| d.len() * d.dtype().size();
        match self {
            Self::Limbs(l) => l.bytes(),
            Self::Linear(p) => p.bytes(),
            Self::AddRows { rows, .. } | Self::Embedding { rows, .. } => data(rows),
            Self::RmsNorm(p) | Self::LayerNorm(p) => 8 * p.gain.len(),
            _ => 0,
        }
    }
}

/// Steps of sampling; blocks are counted in elements.
pub(crate) enum Sampler {
    Adjust { scale: u8 },
    BlockMax { block: usize },
    Gap { limit: u16 },
    Census { block: usize, limit: u16 },
    Cut { table: Vec<i32> },
    Mass { table: Vec<i32>, block: usize },
    Pick { table: Vec<i32>, block: usize },
}

/// One node of the plan.
pub(crate) struct Step {
    pub(crate) kernel: Kernel,
    pub(crate) inputs: Vec<usize>,
    pub(crate) ty: TensorType,
    pub(crate) checkpoint: bool,
    /// Buffer when only the output is kept.
    pub(crate) slot: usize,
    /// What replaces the kernel when only the output is kept.
    pub(crate) lean: Lean,
    /// The node whose bytes these are: itself, or the producer behind views.
    pub(crate) source: usize,
}

/// How a node runs when intermediate outputs need not exist.
pub(crate) enum Lean {
    /// As ever.
    Same,
    /// Not at all: its only reader reads through it.
    Skipped,
    /// A product together with transpositions before and after it.
    Fused(Fused),
}

/// A product that reads its operands, and maybe writes its result, with heads and positions exchanged.
pub(crate) struct Fused {
    /// The product's node.
    pub(crate) matmul: usize,
    pub(crate) inputs: [usize; 2],
    pub(crate) views: [View; 2],
    pub(crate) heads: bool,
}

impl Step {
    /// Producers, in a run that keeps everything or only the output.
    pub(crate) fn reads(&self, lean: bool) -> &[usize] {
        match &self.lean {
            Lean::Fused(f) if lean => &f.inputs,
            Lean::Skipped if lean => &[],
            _ => &self.inputs,
        }
    }
}

/// All nodes, and the number of buffers they need.
pub(crate) struct Plan {
    pub(crate) steps: Vec<Step>,
    pub(crate) slots: usize,
    pub(crate) max_seq: u32,
}

impl Plan {
    pub(crate) fn new(isa: Isa, graph: &Graph) -> Result<Self, EngineError> {
        let mut steps: Vec<Step> = Vec::with_capacity(graph.nodes().len());
        let kept = RefCell::default();
        for (i, (node, ty)) in graph.nodes().iter().zip(graph.types()).enumerate() {
            let fail = |what| EngineError::Graph {
                node: i as u32,
                what,
            };
            let inputs: Vec<usize> = node.inputs.iter().map(|p| *p as usize).collect();
            let types: Vec<&TensorType> = inputs
                .iter()
                .map(|p| graph.types().get(*p))
                .collect::<Option<_>>()
                .ok_or(fail("operand does not exist"))?;
            let place = Place {
                isa,
                kept: &kept,
                node: i,
                graph,
                op: &node.op,
                types,
                ty,
            };
            let kernel = place.kernel().ok_or(fail(
                "constant or operand of another kind than the operator takes",
            ))?;
            let source = match (&kernel, inputs.first()) {
                (Kernel::View, Some(p)) => steps.get(*p).map_or(i, |s| s.source),
                _ => i,
            };
            steps.push(Step {
                kernel,
                inputs,
                ty: ty.clone(),
                checkpoint: node.checkpoint,
                slot: 0,
                lean: Lean::Same,
                source,
            });
        }
        fuse(&mut steps);
        let slots = assign(&mut steps);
        Ok(Self {
            steps,
            slots,
            max_seq: graph.header().max_seq,
        })
    }
}

/// Finds products between transpositions that exchange heads and positions (`[1, 0, 2]`, and `[1, 2, 0]` on the right) and nobody else reads.
fn fuse(steps: &mut [Step]) {
    let mut readers: Vec<Vec<usize>> = vec![Vec::new(); steps.len()];
    for (i, s) in steps.iter().enumerate() {
        for p in &s.inputs {
            readers[*p].push(i);
        }
    }
    let exchange = |steps: &[Step], i: usize| match &steps[i].kernel {
        Kernel::Transpose { perm } if !steps[i].checkpoint && i + 1 != steps.len() => {
            match perm[..] {
                [1, 0, 2] => Some(View::Heads),
                [1, 2, 0] => Some(View::HeadsTransposed),
                _ => None,
            }
        }
        _ => None,
    };
    for i in 0..steps.len() {
        let [a, b] = steps[i].inputs[..] else {
            continue;
        };
        if !matches!(steps[i].kernel, Kernel::MatMul(_)) || steps[i].ty.shape.len() != 3 {
            continue;
        }
        let (mut inputs, mut views) = ([a, b], [View::Plain; 2]);
        for (o, node) in [a, b].into_iter().enumerate() {
            match exchange(steps, node) {
                Some(v) if readers[node].len() == 1 && (o == 1 || v == View::Heads) => {
                    (inputs[o], views[o]) = (steps[node].inputs[0], v);
                    steps[node].lean = Lean::Skipped;
                }
                _ => {}
            }
        }
        let after = match readers[i][..] {
            [j] if !steps[i].checkpoint && exchange(steps, j) == Some(View::Heads) => Some(j),
            _ => None,
        };
        if after.is_some() {
            steps[i].lean = Lean::Skipped;
        }
        if after.is_some() || views != [View::Plain; 2] {
            steps[after.unwrap_or(i)].lean = Lean::Fused(Fused {
                matmul: i,
                inputs,
                views,
                heads: after.is_some(),
            });
        }
    }
}

/// Gives each node a buffer that is free from the last use of its former owner on; buffers keep their element type.
fn assign(steps: &mut [Step]) -> usize {
    let mut last_use: Vec<usize> = (0..steps.len()).collect();
    for i in 0..steps.len() {
        for p in steps[i].reads(true) {
            last_use[steps[*p].source] = i;
        }
    }
    if let Some(last) = steps.last() {
        last_use[last.source] = usize::MAX;
    }
    let mut free: Vec<(DType, usize)> = Vec::new();
    let mut slots = 0;
    let mut owners: Vec<(usize, usize)> = Vec::new(); // (node, slot) still alive
    for i in 0..steps.len() {
        if matches!(steps[i].lean, Lean::Skipped) {
            continue;
        }
        if steps[i].source != i {
            steps[i].slot = steps[steps[i].source].slot;
            continue;
        }
        // a buffer whose last reader came before this node is free
        owners.retain(|(node, slot)| {
            let alive = last_use[*node] >= i;
            if !alive {
                free.push((steps[*node].ty.dtype, *slot));
            }
            alive
        });
        let found = free.iter().rposition(|(d, _)| *d == steps[i].ty.dtype);
        let slot = found.map_or_else(
            || {
                slots += 1;
                slots - 1
            },
            |at| free.swap_remove(at).1,
        );
        steps[i].slot = slot;
        owners.push((i, slot));
    }
    slots
}

/// Constants that several nodes read, kept once.
#[derive(Default)]
struct Kept {
    tables: HashMap<(u32, DType), Arc<Table>>,
    angles: HashMap<u32, Arc<Vec<i16>>>,
}

struct Place<'a> {
    isa: Isa,
    kept: &'a RefCell<Kept>,
    node: usize,
    graph: &'a Graph,
    op: &'a Op,
    types: Vec<&'a TensorType>,
    ty: &'a TensorType,
}

impl Place<'_> {
    fn constant(&self, id: u32) -> Option<&Const> {
        self.graph.consts().get(id as usize)
    }

    /// `rows` or `table` values in their own type.
    fn values(&self, id: u32) -> Option<Data> {
        let constant = self.constant(id)?;
        let dtype = match constant.kind() {
            assay_graph::ConstKind::Rows { dtype, .. }
            | assay_graph::ConstKind::Table { dtype, .. } => dtype,
            _ => return None,
        };
        Data::from_bytes(dtype, constant.bytes()).ok()
    }

    fn cols(&self, id: u32) -> Option<usize> {
        match self.constant(id)?.kind() {
            assay_graph::ConstKind::Rows { cols, .. } => Some(cols as usize),
            _ => None,
        }
    }

    fn shape(&self) -> Option<Shape> {
        let image = <[usize; 3]>::try_from(self.types.first()?.dims(1u32)).ok()?;
        Some(Shape {
            image,
            out: <[usize; 3]>::try_from(self.ty.dims(1u32)).ok()?,
        })
    }

    fn norm(&self, params: u32, eps: u64, out: &Requant) -> Option<NormParams> {
        let (gain, bias) = self
            .constant(params)?
            .norm()
            .into_iter()
            .map(|(g, b)| (i32::from(g), b))
            .unzip();
        Some(NormParams {
            gain,
            bias,
            eps,
            how: Rescale::new(out),
        })
    }

    fn table(&self, id: u32) -> Option<Arc<Table>> {
        let from = self.types.first()?.dtype;
        if let Some(table) = self.kept.borrow().tables.get(&(id, from)) {
            return Some(Arc::clone(table));
        }
        let table = Arc::new(table_of(from, self.values(id)?)?);
        self.kept
            .borrow_mut()
            .tables
            .insert((id, from), Arc::clone(&table));
        Some(table)
    }

    fn angles(&self, id: u32) -> Option<Arc<Vec<i16>>> {
        if let Some(angles) = self.kept.borrow().angles.get(&id) {
            return Some(Arc::clone(angles));
        }
        let Data::I16(angles) = self.values(id)? else {
            return None;
        };
        let angles = Arc::new(angles);
        self.kept
            .borrow_mut()
            .angles
            .insert(id, Arc::clone(&angles));
        Some(angles)
    }

    fn sampler(&self) -> Option<Sampler> {
        let table = |id: u32| Some(self.constant(id)?.values());
        let block = |b: u32| (b as usize).max(1);
        Some(match self.op {
            Op::Adjust { scale } => Sampler::Adjust { scale: *scale },
            Op::BlockMax { block: b } => Sampler::BlockMax { block: block(*b) },
            Op::Gap { limit } => Sampler::Gap { limit: *limit },
            Op::Census { block: b, limit } => Sampler::Census {
                block: block(*b),
                limit: *limit,
            },
            Op::Cut { table: t } => Sampler::Cut { table: table(*t)? },
            Op::Mass { table: t, block: b } => Sampler::Mass {
                table: table(*t)?,
                block: block(*b),
            },
            Op::Pick { table: t, block: b } => Sampler::Pick {
                table: table(*t)?,
                block: block(*b),
            },
            _ => return None,
        })
    }

    fn kernel(&self) -> Option<Kernel> {
        Some(match self.op {
            Op::Input { .. } => Kernel::Input,
            Op::Reshape { .. } => Kernel::View,
            Op::Linear { weights, out } => {
                let (w, x) = (self.constant(*weights)?, self.types.first()?);
                let inputs = &self.graph.nodes().get(self.node)?.inputs;
                let facts = Inputs::of(self.isa, self.graph, *inputs.first()?)?;
                let exponents = inputs.len() > 1;
                if facts::is_needed(w, &facts, exponents) {
                    let linear = Linear::new(self.isa, w, &facts, exponents, out)?;
                    return Some(Kernel::Limbs(Box::new(linear)));
                }
                Kernel::Linear(Box::new(Product::new(
                    self.isa,
                    w,
                    0,
                    w.kind().rows() as usize,
                    x,
                    out,
                )?))
            }
            Op::Conv2d {
                weights,
                window,
                groups,
                out,
            } => {
                let (w, x) = (self.constant(*weights)?, self.types.first()?);
                Kernel::Conv(Box::new(Conv::new(
                    self.isa,
                    w,
                    *window,
                    *groups as usize,
                    self.shape()?,
                    x,
                    out,
                )?))
            }
            Op::MatMul { out } => {
                let n = self.ty.shape.last()?.at(self.graph.header().max_seq.into());
                Kernel::MatMul(Box::new(Batched::new(n as usize, out)))
            }
            Op::Add { left, out } => Kernel::Add {
                left: left.map(u32::from),
                how: Rescale::new(out),
            },
            Op::AddRows { rows, left, out } => Kernel::AddRows {
                rows: self.values(*rows)?,
                cols: self.cols(*rows)?,
                left: left.map(u32::from),
                how: Rescale::new(out),
            },
            Op::Requant { out } => Kernel::Rescale(Rescale::new(out)),
            Op::Lookup { table } => Kernel::Lookup(self.table(*table)?),
            Op::MaxPool { window } => Kernel::Pool {
                kind: Pool::Max,
                window: *window,
            },
            Op::AvgPool { window } => Kernel::Pool {
                kind: Pool::Average,
                window: *window,
            },
            Op::LayerNorm { params, eps, out } => {
                Kernel::LayerNorm(Box::new(self.norm(*params, *eps, out)?))
            }
            Op::Softmax { table, shift, bits } => {
                let table = self.constant(*table)?.values();
                Kernel::Softmax(Box::new(SoftmaxParams::new(
                    table,
                    u32::from(*shift),
                    u32::from(*bits),
                )))
            }
            Op::ReduceSum => Kernel::ReduceSum,
            Op::ArgMax => Kernel::ArgMax,
            Op::Embedding { rows } => Kernel::Embedding {
                rows: self.values(*rows)?,
                cols: self.cols(*rows)?,
            },
            Op::Transpose { perm } => Kernel::Transpose { perm: perm.clone() },
            Op::Slice { axis, start, len } => Kernel::Slice {
                axis: usize::from(*axis),
                start: *start as usize,
                len: *len as usize,
            },
            Op::Concat { axis } => Kernel::Concat {
                axis: usize::from(*axis),
            },
            Op::Lift { weights, out } => Kernel::Lift {
                weights: self.constant(*weights)?.clone(),
                how: *out,
            },
            Op::RmsNorm { params, eps, out } => {
                Kernel::RmsNorm(Box::new(self.norm(*params, *eps, out)?))
            }
            Op::Rope { rows, out } => Kernel::Rope {
                angles: self.angles(*rows)?,
                d: self.cols(*rows)?,
                how: Rescale::new(out),
            },
            Op::Mul { out } => Kernel::Mul(Rescale::new(out)),
            Op::Exponent { bits } => Kernel::Exponent {
                bits: u32::from(*bits),
            },
            Op::Normalise { out } => Kernel::Normalise(Wide::new(out)),
            Op::Scores { heads, kv_heads } => Kernel::Scores {
                heads: usize::from(*heads).max(1),
                kv_heads: usize::from(*kv_heads).max(1),
            },
            Op::CausalExp { table, shifts } => {
                let Data::I16(table) = self.values(*table)? else {
                    return None;
                };
                Kernel::CausalExp {
                    table,
                    shifts: shifts.iter().map(|s| u32::from(*s)).collect(),
                }
            }
            Op::Mix {
                kv_heads,
                bits,
                out,
            } => Kernel::Mix {
                kv_heads: usize::from(*kv_heads).max(1),
                bits: u32::from(*bits),
                how: *out,
            },
            Op::Tail => Kernel::Tail,
            Op::Adjust { .. }
            | Op::BlockMax { .. }
            | Op::Gap { .. }
            | Op::Census { .. }
            | Op::Cut { .. }
            | Op::Mass { .. }
            | Op::Pick { .. } => Kernel::Sampler(self.sampler()?),
        })
    }
}

/// Rotates a table by half, so that it is indexed by the unsigned reading of a value.
fn rotated<T: Copy, const N: usize>(mut values: Vec<T>) -> Option<Box<[T; N]>> {
    if values.len() == N {
        values.rotate_left(N / 2);
    }
    values.into_boxed_slice().try_into().ok()
}

fn table_of(from: DType, values: Data) -> Option<Table> {
    Some(match (from, values) {
        (DType::I8, Data::I8(v)) => Table::From8To8(rotated(v)?),
        (DType::I8, Data::I16(v)) => Table::From8To16(rotated(v)?),
        (DType::I16, Data::I8(v)) => Table::From16To8(rotated(v)?),
        (DType::I16, Data::I16(v)) => Table::From16To16(rotated(v)?),
        _ => return None,
    })
}

/// An empty buffer of a type.
pub(crate) fn empty(dtype: DType) -> Data {
    match dtype {
        DType::I8 => Data::I8(Vec::new()),
        DType::I16 => Data::I16(Vec::new()),
        DType::I32 => Data::I32(Vec::new()),
    }
}

/// Makes a buffer `len` elements of `dtype` long; contents are unspecified where it had elements before.
pub(crate) fn resize(data: &mut Data, dtype: DType, len: usize) {
    match (&mut *data, dtype) {
        (Data::I8(v), DType::I8) => v.resize(len, 0),
        (Data::I16(v), DType::I16) => v.resize(len, 0),
        (Data::I32(v), DType::I32) => v.resize(len, 0),
        _ => {
            *data = empty(dtype);
            resize(data, dtype, len);
        }
    }
}

/// A tensor of a plan's step.
pub(crate) fn tensor(step: &Step, extent: Extent, data: Data) -> Tensor {
    Tensor {
        dims: step.ty.dims(extent),
        data,
    }
}

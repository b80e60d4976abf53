//! The float reference of a network: every node's output for one input.

use assay_graph::Window;

use super::{Net, NetNode, NetOp};
use crate::float;

impl Net {
    /// Outputs of all nodes, in order. `input` has the product of the input's dimensions elements (ids as floats).
    ///
    /// Shapes were checked when the network was made; missing elements read as 0.
    pub fn eval(&self, input: &[f32]) -> Vec<Vec<f32>> {
        let mut out: Vec<Vec<f32>> = Vec::with_capacity(self.nodes.len());
        for node in &self.nodes {
            let operand = |i: usize| -> (&[f32], &[usize]) {
                let id = node.inputs.get(i).copied().unwrap_or(usize::MAX);
                (
                    out.get(id).map_or(&[], Vec::as_slice),
                    self.nodes.get(id).map_or(&[], |n| &n.dims),
                )
            };
            let y = if matches!(node.op, NetOp::Input) {
                input.to_vec()
            } else {
                apply(node, &operand)
            };
            out.push(y);
        }
        out
    }

    /// The network's output for one input.
    pub fn run(&self, input: &[f32]) -> Vec<f32> {
        self.eval(input).pop().unwrap_or_default()
    }
}

fn apply<'a>(node: &NetNode, operand: &dyn Fn(usize) -> (&'a [f32], &'a [usize])) -> Vec<f32> {
    let (x, dims) = operand(0);
    let last = dims.last().copied().unwrap_or(1).max(1);
    match &node.op {
        NetOp::Input => Vec::new(),
        NetOp::Linear { weight, bias, cols } => float::linear(x, weight, bias, *cols),
        NetOp::Conv {
            weight,
            bias,
            window,
            groups,
        } => conv(x, dims, weight, bias, window, *groups, &node.dims),
        NetOp::Channel { scale, bias } => rows(x, scale.len())
            .flat_map(|r| {
                r.iter()
                    .zip(scale.iter().zip(bias))
                    .map(|(v, (s, b))| v * s + b)
            })
            .collect(),
        NetOp::MatMul => {
            let (b, b_dims) = operand(1);
            let (m, n) = (
                node.dims.iter().rev().nth(1).copied().unwrap_or(1),
                b_dims.iter().rev().nth(1).copied().unwrap_or(1),
            );
            rows(x, m * last)
                .zip(rows(b, n * last))
                .flat_map(|(a, b)| float::linear(a, b, &[], last))
                .collect()
        }
        NetOp::Add => x.iter().zip(operand(1).0).map(|(a, b)| a + b).collect(),
        NetOp::AddRows { rows: add } => rows(x, add.len())
            .flat_map(|r| r.iter().zip(add).map(|(a, b)| a + b))
            .collect(),
        NetOp::Map(f) => x.iter().map(|v| f.at(f64::from(*v)) as f32).collect(),
        NetOp::Clamp { lo, hi } => x
            .iter()
            .map(|v| f64::from(*v).max(*lo).min(*hi) as f32)
            .collect(),
        NetOp::Scale(s) => x.iter().map(|v| (f64::from(*v) * s) as f32).collect(),
        NetOp::LayerNorm { gain, bias, eps } => float::layer_norm(x, gain, bias, *eps),
        NetOp::Softmax => {
            let mut y = x.to_vec();
            y.chunks_exact_mut(last).for_each(float::softmax);
            y
        }
        NetOp::MaxPool(w) => pool(x, dims, w, &node.dims, |cells| {
            cells.iter().copied().fold(f32::NEG_INFINITY, f32::max)
        }),
        NetOp::AvgPool(w) => pool(x, dims, w, &node.dims, |cells| {
            cells.iter().sum::<f32>() / cells.len().max(1) as f32
        }),
        NetOp::ReduceSum => rows(x, last)
            .map(|r| r.iter().map(|v| f64::from(*v)).sum::<f64>() as f32)
            .collect(),
        NetOp::ArgMax => rows(x, last).map(|r| arg_max(r) as f32).collect(),
        NetOp::Embedding { rows: table, width } => x
            .iter()
            .flat_map(|id| {
                (0..*width)
                    .map(move |c| table.get(*id as usize * width + c).copied().unwrap_or(0.0))
            })
            .collect(),
        NetOp::Transpose(perm) => transpose(x, dims, perm),
        NetOp::Reshape => x.to_vec(),
        NetOp::Slice { axis, start } => {
            let inner: usize = dims.iter().skip(axis + 1).product();
            let (n, len) = (
                dims.get(*axis).copied().unwrap_or(1),
                node.dims.get(*axis).copied().unwrap_or(1),
            );
            rows(x, n * inner)
                .flat_map(|r| r.iter().skip(start * inner).take(len * inner).copied())
                .collect()
        }
        NetOp::Concat(axis) => concat(node, *axis, operand),
    }
}

/// Index of the first maximum.
pub(crate) fn arg_max(row: &[f32]) -> usize {
    row.iter()
        .enumerate()
        .fold((0, f32::NEG_INFINITY), |best, (i, v)| {
            if *v > best.1 { (i, *v) } else { best }
        })
        .0
}

fn rows(x: &[f32], len: usize) -> std::slice::ChunksExact<'_, f32> {
    x.chunks_exact(len.max(1))
}

/// Elements of `x` in the order of permuted axes.
pub(crate) fn transpose<T: Copy + Default>(x: &[T], dims: &[usize], perm: &[usize]) -> Vec<T> {
    let mut strides = vec![1usize; dims.len()];
    for i in (0..dims.len().saturating_sub(1)).rev() {
        strides[i] = strides[i + 1] * dims[i + 1];
    }
    let out_dims: Vec<usize> = perm
        .iter()
        .map(|p| dims.get(*p).copied().unwrap_or(1))
        .collect();
    let out_strides: Vec<usize> = perm
        .iter()
        .map(|p| strides.get(*p).copied().unwrap_or(0))
        .collect();
    let mut at = vec![0usize; out_dims.len()];
    let mut out = Vec::with_capacity(x.len());
    for _ in 0..x.len() {
        let index: usize = at.iter().zip(&out_strides).map(|(a, s)| a * s).sum();
        out.push(x.get(index).copied().unwrap_or_default());
        for (a, d) in at.iter_mut().zip(&out_dims).rev() {
            *a += 1;
            if *a < *d {
                break;
            }
            *a = 0;
        }
    }
    out
}

fn concat<'a>(
    node: &NetNode,
    axis: usize,
    operand: &dyn Fn(usize) -> (&'a [f32], &'a [usize]),
) -> Vec<f32> {
    let parts: Vec<(&[f32], usize)> = (0..node.inputs.len())
        .map(|i| {
            let (x, dims) = operand(i);
            (x, dims.iter().skip(axis).product())
        })
        .collect();
    let outer: usize = node.dims.iter().take(axis).product();
    (0..outer)
        .flat_map(|o| {
            parts
                .iter()
                .flat_map(move |(x, len)| x.iter().skip(o * len).take(*len).copied())
        })
        .collect()
}

/// Calls `f` for every output position with the input cells (row, column) inside the image and their kernel places.
fn windows(
    window: &Window,
    dims: &[usize],
    out: &[usize],
    mut f: impl FnMut(usize, usize, &[(usize, usize, usize)]),
) {
    let (&[h, w, _], &[oh, ow, _]) = (dims, out) else {
        return;
    };
    let [kh, kw] = window.kernel.map(usize::from);
    let [sh, sw] = window.stride.map(usize::from);
    let [top, left, _, _] = window.pad.map(usize::from);
    let mut cells = Vec::with_capacity(kh * kw);
    for y in 0..oh {
        for x in 0..ow {
            cells.clear();
            for ky in 0..kh {
                for kx in 0..kw {
                    if let (Some(iy), Some(ix)) = (
                        (y * sh + ky).checked_sub(top),
                        (x * sw + kx).checked_sub(left),
                    ) && iy < h
                        && ix < w
                    {
                        cells.push((iy, ix, ky * kw + kx));
                    }
                }
            }
            f(y, x, &cells);
        }
    }
}

fn conv(
    x: &[f32],
    dims: &[usize],
    weight: &[f32],
    bias: &[f32],
    window: &Window,
    groups: usize,
    out: &[usize],
) -> Vec<f32> {
    let (&[_, w, c], &[_, _, n]) = (dims, out) else {
        return Vec::new();
    };
    let (per, fan) = (n / groups.max(1), c / groups.max(1));
    let patch = usize::from(window.kernel[0]) * usize::from(window.kernel[1]) * fan;
    let mut y = Vec::with_capacity(out.iter().product());
    windows(window, dims, out, |_, _, cells| {
        for o in 0..n {
            let first = o / per.max(1) * fan;
            let row = weight.get(o * patch..(o + 1) * patch).unwrap_or(&[]);
            let mut sum = 0f32;
            for (iy, ix, k) in cells {
                let at = (iy * w + ix) * c + first;
                if let (Some(a), Some(b)) = (x.get(at..at + fan), row.get(k * fan..(k + 1) * fan)) {
                    sum += float::dot(a, b);
                }
            }
            y.push(sum + bias.get(o).copied().unwrap_or(0.0));
        }
    });
    y
}

fn pool(
    x: &[f32],
    dims: &[usize],
    window: &Window,
    out: &[usize],
    f: impl Fn(&[f32]) -> f32,
) -> Vec<f32> {
    let &[_, w, c] = dims else { return Vec::new() };
    let mut y = Vec::with_capacity(out.iter().product());
    let mut values = Vec::new();
    windows(window, dims, out, |_, _, cells| {
        for channel in 0..c {
            values.clear();
            values.extend(
                cells
                    .iter()
                    .filter_map(|(iy, ix, _)| x.get((iy * w + ix) * c + channel)),
            );
            y.push(f(&values));
        }
    });
    y
}

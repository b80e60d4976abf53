//! One operator of the network at a time.

use assay_graph::{DType, Op, Requant, TensorType, WeightRow};

use super::{Emitter, PROBABILITY_BITS, Placed};
use crate::{
    error::ImportError,
    fixed::{self, Affine, bits_for, pow2, round_i32, weight_row},
    float::floor_log2,
    net::{NetNode, NetOp},
};

impl Emitter<'_> {
    pub(super) fn node(&mut self, i: usize, node: &NetNode) -> Result<Placed, ImportError> {
        match &node.op {
            NetOp::Input => self.place_input(i, node),
            NetOp::Linear { weight, bias, cols } => {
                let x = self.narrow(node, 0)?;
                let (out, step) = self.target(i);
                let rows = self.rows(node, weight, bias, *cols, x.step, step);
                let weights = self.b.weights(self.weights.0, &rows)?;
                Ok(Placed {
                    id: self.push(&node.name, Op::Linear { weights, out }, &[x.id])?,
                    dtype: out.dtype,
                    step,
                })
            }
            NetOp::Conv {
                weight,
                bias,
                window,
                groups,
            } => {
                let x = self.narrow(node, 0)?;
                let (out, step) = self.target(i);
                let rows = self.rows(
                    node,
                    weight,
                    bias,
                    weight.len() / bias.len().max(1),
                    x.step,
                    step,
                );
                let weights = self.b.weights(self.weights.0, &rows)?;
                let op = Op::Conv2d {
                    weights,
                    window: *window,
                    groups: *groups as u32,
                    out,
                };
                Ok(Placed {
                    id: self.push(&node.name, op, &[x.id])?,
                    dtype: out.dtype,
                    step,
                })
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
            NetOp::Clamp { lo, hi } => self.clamp(node, *lo, *hi),
            NetOp::Scale(s) => {
                let x = self.input(node, 0)?;
                Ok(Placed {
                    step: x.step * s,
                    ..x
                })
            }
            NetOp::LayerNorm { gain, bias, eps } => self.layer_norm(i, node, gain, bias, *eps),
            NetOp::Softmax => self.softmax(node),
            NetOp::MaxPool(window) => self.moved(node, Op::MaxPool { window: *window }),
            NetOp::AvgPool(window) => self.moved(node, Op::AvgPool { window: *window }),
            NetOp::Transpose(perm) => self.moved(
                node,
                Op::Transpose {
                    perm: perm.iter().map(|p| *p as u8).collect(),
                },
            ),
            NetOp::Reshape => self.moved(
                node,
                Op::Reshape {
                    shape: Self::shape(&node.dims),
                },
            ),
            NetOp::Slice { axis, start } => {
                let len = node.dims.get(*axis).copied().unwrap_or(1) as u32;
                self.moved(
                    node,
                    Op::Slice {
                        axis: *axis as u8,
                        start: *start as u32,
                        len,
                    },
                )
            }
            NetOp::ReduceSum => {
                let x = self.input(node, 0)?;
                Ok(Placed {
                    id: self.push(&node.name, Op::ReduceSum, &[x.id])?,
                    dtype: DType::I32,
                    step: x.step,
                })
            }
            NetOp::ArgMax => {
                let x = self.input(node, 0)?;
                Ok(Placed {
                    id: self.push(&node.name, Op::ArgMax, &[x.id])?,
                    dtype: DType::I32,
                    step: 1.0,
                })
            }
            NetOp::Embedding { rows, width } => self.embedding(i, node, rows, *width),
            NetOp::Concat(axis) => self.concat(i, node, *axis),
        }
    }

    pub(super) fn place_input(&mut self, i: usize, node: &NetNode) -> Result<Placed, ImportError> {
        let shape = Self::shape(&node.dims);
        if self.net.ids {
            let rows = self.net.nodes.iter().find_map(|n| {
                if let NetOp::Embedding { rows, width } = &n.op {
                    Some(rows.len() / width.max(&1))
                } else {
                    None
                }
            });
            let hi = rows.unwrap_or(1).saturating_sub(1) as i32;
            let id = self.b.input(TensorType {
                dtype: DType::I32,
                shape,
                lo: 0,
                hi,
            })?;
            return Ok(Placed {
                id,
                dtype: DType::I32,
                step: 1.0,
            });
        }
        let dtype = self.dtypes.get(i).copied().unwrap_or(DType::I16);
        let (lo, hi) = self.input_range;
        let limit = self.limit(i, dtype);
        let peak = lo.abs().max(hi.abs());
        let step = if dtype == DType::I8 && self.free.get(i) == Some(&true) {
            peak / limit
        } else {
            pow2(-bits_for(peak, limit))
        };
        let id = self.b.input(TensorType {
            dtype,
            shape,
            lo: round_i32(lo / step),
            hi: round_i32(hi / step),
        })?;
        Ok(Placed { id, dtype, step })
    }

    pub(super) fn rows(
        &self,
        node: &NetNode,
        weight: &[f32],
        bias: &[f32],
        cols: usize,
        input_step: f64,
        step: f64,
    ) -> Vec<WeightRow> {
        let channels = node
            .inputs
            .first()
            .and_then(|i| self.ranges.mean.get(*i))
            .map_or(&[][..], Vec::as_slice);
        // of a grouped convolution the columns are a part of the channels, another one for each row: no correction there
        let mean: Vec<f64> = if channels.is_empty() || !cols.is_multiple_of(channels.len()) {
            Vec::new()
        } else {
            (0..cols)
                .filter_map(|c| channels.get(c % channels.len()).copied())
                .collect()
        };
        let input = Affine::uniform(input_step);
        weight
            .chunks_exact(cols.max(1))
            .zip(bias)
            .map(|(w, b)| weight_row(w, *b, &input, &mean, (0.0, step), self.weights.1))
            .collect()
    }

    pub(super) fn moved(&mut self, node: &NetNode, op: Op) -> Result<Placed, ImportError> {
        let x = self.input(node, 0)?;
        Ok(Placed {
            id: self.push(&node.name, op, &[x.id])?,
            ..x
        })
    }

    /// A clamp of its own, unless the producer has applied it.
    fn clamp(&mut self, node: &NetNode, lo: f64, hi: f64) -> Result<Placed, ImportError> {
        let x = self.input(node, 0)?;
        if node
            .inputs
            .first()
            .and_then(|p| self.fused.get(*p))
            .copied()
            .flatten()
            .is_some()
        {
            return Ok(x);
        }
        let (a, b) = x.dtype.range();
        let low = round_i32(lo / x.step).clamp(a, b);
        let out = Requant {
            shift: 0,
            dtype: x.dtype,
            lo: low,
            hi: round_i32(hi / x.step).clamp(low, b),
        };
        Ok(Placed {
            id: self.push(&node.name, Op::Requant { out }, &[x.id])?,
            ..x
        })
    }

    fn layer_norm(
        &mut self,
        i: usize,
        node: &NetNode,
        gain: &[f32],
        bias: &[f32],
        eps: f64,
    ) -> Result<Placed, ImportError> {
        let x = self.wide(node, 0)?;
        let (mut out, step) = self.target(i);
        let (params, shift) = fixed::norm_params(gain, bias, &Affine::uniform(step));
        out.shift = shift;
        let params = self.b.norm(&params)?;
        let eps = fixed::norm_epsilon(eps, gain.len(), x.step);
        Ok(Placed {
            id: self.push(&node.name, Op::LayerNorm { params, eps, out }, &[x.id])?,
            dtype: out.dtype,
            step,
        })
    }

    fn softmax(&mut self, node: &NetNode) -> Result<Placed, ImportError> {
        let x = self.wide(node, 0)?;
        let x = if x.dtype == DType::I32 {
            self.requant(&node.name, x, DType::I16, self.peak_of(node, 0))?
        } else {
            x
        };
        let shift = floor_log2(1.0 / 32.0 / x.step).clamp(0, 31);
        let table = self
            .b
            .table(DType::I16, &fixed::exp_table(x.step * pow2(shift)))?;
        let op = Op::Softmax {
            table,
            shift: shift as u8,
            bits: PROBABILITY_BITS,
        };
        Ok(Placed {
            id: self.push(&node.name, op, &[x.id])?,
            dtype: DType::I16,
            step: pow2(-i32::from(PROBABILITY_BITS)),
        })
    }

    fn embedding(
        &mut self,
        i: usize,
        node: &NetNode,
        rows: &[f32],
        width: usize,
    ) -> Result<Placed, ImportError> {
        let x = self.input(node, 0)?;
        let dtype = self.dtypes.get(i).copied().unwrap_or(DType::I16);
        let peak = rows.iter().fold(0f64, |a, v| a.max(f64::from(v.abs())));
        let step = pow2(-bits_for(peak, self.limit(i, dtype)));
        let values: Vec<i32> = rows
            .iter()
            .map(|v| round_i32(f64::from(*v) / step))
            .collect();
        let rows = self.b.rows(dtype, width, &values)?;
        Ok(Placed {
            id: self.push(&node.name, Op::Embedding { rows }, &[x.id])?,
            dtype,
            step,
        })
    }
}

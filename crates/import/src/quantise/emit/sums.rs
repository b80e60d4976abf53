//! Operators that bring tensors of different steps together.

use assay_graph::{DType, Op, Requant, WeightRow, Window};

use super::{Emitter, Placed};
use crate::{
    error::ImportError,
    fixed::{Affine, pow2, round_i32, weight_row},
    float::floor_log2,
    net::NetNode,
};

impl Emitter<'_> {
    pub(super) fn mat_mul(&mut self, i: usize, node: &NetNode) -> Result<Placed, ImportError> {
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
        let out = Requant {
            shift: shift as i8,
            ..self.clamped(i, dtype, step)
        };
        Ok(Placed {
            id: self.push(&node.name, Op::MatMul { out }, &[a.id, b.id])?,
            dtype,
            step,
        })
    }

    pub(super) fn add(&mut self, i: usize, node: &NetNode) -> Result<Placed, ImportError> {
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
            return Err(ImportError::malformed(
                format!("node `{}`", node.name),
                format!("operands at steps {} and {}", a.step, b.step),
            ));
        }
        let (_, want) = self.target(i);
        let shift = (-15..=15).find(|s| fine * pow2(*s) >= want).unwrap_or(15);
        let step = fine * pow2(shift);
        let dtype = self.dtypes.get(i).copied().unwrap_or(DType::I16);
        let out = Requant {
            shift: shift as i8,
            ..self.clamped(i, dtype, step)
        };
        Ok(Placed {
            id: self.push(
                &node.name,
                Op::Add {
                    left: [la as u8, lb as u8],
                    out,
                },
                &[a.id, b.id],
            )?,
            dtype,
            step,
        })
    }

    pub(super) fn add_rows(
        &mut self,
        i: usize,
        node: &NetNode,
        rows: &[f32],
    ) -> Result<Placed, ImportError> {
        let x = self.input(node, 0)?;
        let cols = node.dims.last().copied().unwrap_or(1);
        // a mask far below every score may saturate: it stays far below
        let values: Vec<i32> = rows
            .iter()
            .map(|v| round_i32(f64::from(*v) / x.step).clamp(-32767, 32767))
            .collect();
        let rows = self.b.rows(DType::I16, cols, &values)?;
        let (_, want) = self.target(i);
        let shift = (0..=15).find(|s| x.step * pow2(*s) >= want).unwrap_or(15);
        let step = x.step * pow2(shift);
        let dtype = self.dtypes.get(i).copied().unwrap_or(DType::I16);
        let out = Requant {
            shift: shift as i8,
            ..self.clamped(i, dtype, step)
        };
        Ok(Placed {
            id: self.push(
                &node.name,
                Op::AddRows {
                    rows,
                    left: [0, 0],
                    out,
                },
                &[x.id],
            )?,
            dtype,
            step,
        })
    }

    /// Factors and offsets per channel that no neighbour took over: a depth-wise 1 x 1 convolution.
    pub(super) fn channel(
        &mut self,
        i: usize,
        node: &NetNode,
        scale: &[f32],
        bias: &[f32],
    ) -> Result<Placed, ImportError> {
        let x = self.narrow(node, 0)?;
        let (out, step) = self.target(i);
        let input = Affine::uniform(x.step);
        let rows: Vec<WeightRow> = scale
            .iter()
            .zip(bias)
            .map(|(s, b)| weight_row(&[*s], *b, &input, &[], (0.0, step), self.weights.1))
            .collect();
        let weights = self.b.weights(self.weights.0, &rows)?;
        let c = scale.len();
        let total: usize = node.dims.iter().product();
        let image = [1, total / c.max(1), c];
        let mut id = x.id;
        if node.dims != image {
            id = self.push(
                &format!("{}.image", node.name),
                Op::Reshape {
                    shape: Self::shape(&image),
                },
                &[id],
            )?;
        }
        let window = Window {
            kernel: [1, 1],
            stride: [1, 1],
            pad: [0; 4],
        };
        id = self.push(
            &node.name,
            Op::Conv2d {
                weights,
                window,
                groups: c as u32,
                out,
            },
            &[id],
        )?;
        if node.dims != image {
            id = self.push(
                &format!("{}.rows", node.name),
                Op::Reshape {
                    shape: Self::shape(&node.dims),
                },
                &[id],
            )?;
        }
        Ok(Placed {
            id,
            dtype: out.dtype,
            step,
        })
    }

    pub(super) fn concat(
        &mut self,
        i: usize,
        node: &NetNode,
        axis: usize,
    ) -> Result<Placed, ImportError> {
        let dtype = self.dtypes.get(i).copied().unwrap_or(DType::I16);
        let parts = (0..node.inputs.len())
            .map(|k| self.narrow(node, k))
            .collect::<Result<Vec<_>, _>>()?;
        let step = parts.iter().map(|p| p.step).fold(0f64, f64::max);
        let mut ids = Vec::new();
        for p in parts {
            ids.push(self.at_step(&node.name, p, dtype, step)?.id);
        }
        Ok(Placed {
            id: self.push(&node.name, Op::Concat { axis: axis as u8 }, &ids)?,
            dtype,
            step,
        })
    }
}

/// Exponent of an exact power of two.
fn log2(r: f64) -> Option<i32> {
    let n = floor_log2(r);
    (pow2(n) == r).then_some(n)
}

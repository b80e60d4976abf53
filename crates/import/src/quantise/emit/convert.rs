//! Operands in the width and at the step that an operator wants.

use assay_graph::{DType, Op, Requant};

use super::{Emitter, MARGIN, Placed};
use crate::{
    error::ImportError,
    fixed::{self, pow2},
    float::floor_log2,
    net::NetNode,
};

impl Emitter<'_> {
    pub(super) fn peak_of(&self, node: &NetNode, i: usize) -> f64 {
        node.inputs
            .get(i)
            .and_then(|n| self.ranges.peak.get(*n))
            .copied()
            .unwrap_or(1.0)
    }

    /// An operand as `i8` or `i16`.
    pub(super) fn narrow(&mut self, node: &NetNode, i: usize) -> Result<Placed, ImportError> {
        let x = self.input(node, i)?;
        if x.dtype == DType::I32 {
            self.requant(&node.name, x, DType::I16, self.peak_of(node, i))
        } else {
            Ok(x)
        }
    }

    /// An operand as `i16` or `i32`.
    pub(super) fn wide(&mut self, node: &NetNode, i: usize) -> Result<Placed, ImportError> {
        let x = self.input(node, i)?;
        if x.dtype == DType::I8 {
            self.widen(&node.name, x)
        } else {
            Ok(x)
        }
    }

    pub(super) fn widen(&mut self, name: &str, x: Placed) -> Result<Placed, ImportError> {
        let out = Requant {
            shift: 0,
            dtype: DType::I16,
            lo: -128,
            hi: 127,
        };
        Ok(Placed {
            id: self.push(&format!("{name}.widened"), Op::Requant { out }, &[x.id])?,
            dtype: DType::I16,
            ..x
        })
    }

    /// Into a narrower type by the shift that just holds `peak`.
    pub(super) fn requant(
        &mut self,
        name: &str,
        x: Placed,
        dtype: DType,
        peak: f64,
    ) -> Result<Placed, ImportError> {
        let limit = if dtype == DType::I8 { 127.0 } else { 32767.0 };
        let shift = (floor_log2((peak * MARGIN / x.step).max(1.0) / limit) + 1).clamp(0, 31);
        let out = Requant {
            shift: shift as i8,
            dtype,
            lo: -(limit as i32),
            hi: limit as i32,
        };
        let id = self.push(&format!("{name}.narrowed"), Op::Requant { out }, &[x.id])?;
        Ok(Placed {
            id,
            dtype,
            step: x.step * pow2(shift),
        })
    }

    pub(super) fn table(
        &mut self,
        name: &str,
        x: Placed,
        out: Requant,
        step: f64,
        f: impl Fn(f64) -> f64,
    ) -> Result<Placed, ImportError> {
        let (lo, hi) = x.dtype.range();
        let entries = fixed::table(lo, hi, (out.lo, out.hi), |v| {
            let y = f(v);
            if y.is_nan() { 0.0 } else { y }
        });
        let table = self.b.table(out.dtype, &entries)?;
        Ok(Placed {
            id: self.push(name, Op::Lookup { table }, &[x.id])?,
            dtype: out.dtype,
            step,
        })
    }

    /// `x` at another step: itself where it is the same, else through a table.
    pub(super) fn at_step(
        &mut self,
        name: &str,
        x: Placed,
        dtype: DType,
        step: f64,
    ) -> Result<Placed, ImportError> {
        if x.dtype == dtype && x.step == step {
            return Ok(x);
        }
        let (lo, hi) = dtype.range();
        let ratio = x.step / step;
        let out = Requant {
            shift: 0,
            dtype,
            lo: lo + 1,
            hi,
        };
        self.table(&format!("{name}.rescaled"), x, out, step, move |v| {
            v * ratio
        })
    }
}

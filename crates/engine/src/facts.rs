//! What is known of the inputs and the weights of a linear: how large its sums can be.

use assay_graph::{A_MAX, Const, ConstKind, Graph, Op, TensorType};

use crate::simd::{
    blocks::Coding,
    bounds::{Magnitudes, magnitudes},
    isa::Isa,
};

/// What is known of the inputs of a linear.
pub(crate) struct Inputs<'a> {
    pub(crate) ty: &'a TensorType,
    isa: Isa,
    norm: Option<Norm>,
}

/// The root-mean-square norm in front of a linear.
struct Norm {
    /// Magnitudes of gains and biases; no biases when all are 0.
    gains: Vec<u32>,
    biases: Vec<u32>,
    shift: u32,
}

impl<'a> Inputs<'a> {
    /// Of operand `node` of a graph.
    pub(crate) fn of(isa: Isa, graph: &'a Graph, node: u32) -> Option<Self> {
        let ty = graph.types().get(node as usize)?;
        let norm = match &graph.nodes().get(node as usize)?.op {
            Op::RmsNorm { params, out, .. } => u32::try_from(out.shift).ok().and_then(|shift| {
                let params = graph.consts().get(*params as usize)?.norm();
                let (gains, biases): (Vec<u32>, Vec<u32>) = params
                    .into_iter()
                    .map(|(g, b)| (u32::from(g.unsigned_abs()), b.unsigned_abs()))
                    .unzip();
                let none = biases.iter().all(|b| *b == 0);
                let biases = if none { Vec::new() } else { biases };
                Some(Norm {
                    gains,
                    biases,
                    shift,
                })
            }),
            _ => None,
        };
        Some(Self { ty, isa, norm })
    }

    /// Upper bound of `|Σ w·x|` over any subset of the columns `from …` that `w` is of.
    pub(crate) fn bound(&self, from: usize, w: &[i32]) -> i64 {
        let peak = i64::from(self.ty.lo).abs().max(i64::from(self.ty.hi).abs());
        let mut m = Magnitudes::default();
        let (gains, biases) = self.norm.as_ref().map_or((&[][..], &[][..]), |n| {
            (
                n.gains.get(from..from + w.len()).unwrap_or(&[]),
                n.biases.get(from..from + w.len()).unwrap_or(&[]),
            )
        });
        magnitudes(self.isa, w, gains, biases, &mut m);
        let sum = i64::try_from(m.ones)
            .unwrap_or(i64::MAX)
            .saturating_mul(peak);
        let Some(norm) = self.norm.as_ref().filter(|_| gains.len() == w.len()) else {
            return sum;
        };
        // Cauchy–Schwarz: ‖u‖₂ ≤ 2^15 + √n/2 behind a root-mean-square norm (docs/graph.md)
        let length = (1u128 << 15) + (norm.gains.len() as u128).isqrt() / 2 + 1;
        let dot = ((u128::from(m.squares.isqrt()) + 1) << 10) * length + u128::from(m.biases);
        let own = i64::try_from((dot >> norm.shift.min(31)) + 1).unwrap_or(i64::MAX);
        sum.min(own.saturating_add((m.ones / 2 + 1).cast_signed()))
    }

    /// The largest of `k`, `k/2`, `k/4` … (in multiples of 16, at least 16) columns, at most `part`, of which any sum with `w` fits 32 bits; 0 if there is none.
    pub(crate) fn part(&self, w: &[i32], mut part: usize) -> usize {
        let fits = |part: usize| {
            let mut chunks = w.chunks(part).enumerate();
            chunks.all(|(i, w)| self.bound(i * part, w) <= i64::from(i32::MAX))
        };
        while part > 0 && !fits(part) {
            part = if part > 16 {
                (part / 2).next_multiple_of(16)
            } else {
                0
            };
        }
        part
    }
}

/// Rows of a constant as numbers, one at a time.
pub(crate) struct Reader<'a> {
    pub(crate) isa: Isa,
    pub(crate) constant: &'a Const,
    pub(crate) coding: Option<Coding>,
    pub(crate) codes: Vec<u8>,
    pub(crate) weights: Vec<i32>,
}

impl Reader<'_> {
    /// Shift and bias of row `r`; its weights are in `self.weights` then.
    pub(crate) fn row(&mut self, r: usize) -> Option<(i8, i32)> {
        let bytes = self.constant.row(r as u32)?;
        let Some(coding) = &self.coding else {
            let row = self.constant.row_values(r as u32)?;
            self.weights = row.values;
            return Some((row.shift, row.bias));
        };
        coding.weights(self.isa, bytes, &mut self.codes, &mut self.weights);
        let (header, _) = bytes.split_first_chunk::<5>()?;
        let [shift, b @ ..] = *header;
        Some((shift.cast_signed(), i32::from_le_bytes(b)))
    }
}

/// Whether a linear needs this module: block codes, exponents, or rows that may need two limbs.
pub(crate) fn is_needed(weights: &Const, x: &Inputs<'_>, exponents: bool) -> bool {
    exponents
        || matches!(weights.kind(), ConstKind::Blocks { .. })
        || x.norm.is_some()
        || (0..weights.kind().rows()).any(|r| {
            weights.row_values(r).is_some_and(|row| {
                let half = if row.shift > 0 {
                    1i64 << (row.shift - 1)
                } else {
                    0
                };
                let scale = if row.shift < 0 { 1i64 << -row.shift } else { 1 };
                let sum = x
                    .bound(0, &row.values)
                    .saturating_add(i64::from(row.bias).abs());
                sum.saturating_mul(scale).saturating_add(half) > A_MAX
            })
        })
}

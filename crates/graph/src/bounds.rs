//! Bounds analysis: shows, from the actual constants, that no legal input can overflow an accumulator, leave a table or divide by nothing.
//!
//! Interval arithmetic over nodes in order; a linear row's interval is `bias + Σ [min(w·lo, w·hi), max(w·lo, w·hi)]`, which also bounds every partial sum in
//! any order (0 is added to each term's interval). Two more facts are carried: the sum of a softmax row is at most `2^bits + n/2`, and the Euclidean length of
//! a row behind a root-mean-square norm (bounds_language.rs).

use crate::{
    A_MAX,
    bounds_language::Unit,
    consts::{Const, ConstKind, SHIFTS, WeightView},
    encode::Structure,
    error::GraphError,
    node::{ConstId, Header, Node, Op, Requant},
    ops::requant,
    types::{DType, Extent, TensorType},
    wire::op_name,
};

/// What is known about the outputs of the nodes so far.
#[derive(Clone, Debug, Default)]
pub(crate) struct Facts {
    /// Output types with their refined ranges.
    pub(crate) types: Vec<TensorType>,
    /// Largest Σ|x| over the last axis, where better than n·max|x|.
    row_sums: Vec<Option<i64>>,
    /// Of outputs of a root-mean-square norm: what bounds a dot product with them.
    units: Vec<Option<Unit>>,
}

pub(crate) struct Pass<'a> {
    pub(crate) header: Header,
    consts: &'a [Const],
    pub(crate) name: &'a str,
    types: &'a [TensorType],
    row_sums: &'a [Option<i64>],
    units: &'a [Option<Unit>],
}

impl Facts {
    /// Checks the next node, whose type by structure is `ty`, and learns its range.
    pub(crate) fn step(
        &mut self,
        header: Header,
        consts: &[Const],
        name: &str,
        node: &Node,
        ty: &TensorType,
    ) -> Result<(), GraphError> {
        let pass = Pass {
            header,
            consts,
            name,
            types: &self.types,
            row_sums: &self.row_sums,
            units: &self.units,
        };
        let unit = pass.unit(node);
        let (lo, hi, row_sum) = pass.node(self.types.len() as u32, node, ty)?;
        self.types.push(TensorType {
            lo,
            hi,
            ..ty.clone()
        });
        self.row_sums.push(row_sum);
        self.units.push(unit);
        Ok(())
    }
}

/// Checks all bounds.
///
/// Returns the output types with ranges that take the constants' contents into account.
///
/// # Errors
/// [`GraphError::Bound`] with the node, row and value that broke; [`GraphError::Node`] for unusable tables; [`GraphError::Length`] when constants are missing.
pub fn check(
    structure: &Structure,
    consts: &[Const],
    names: &[String],
) -> Result<Vec<TensorType>, GraphError> {
    if consts.len() != structure.kinds.len() {
        return Err(GraphError::Length {
            what: "constants",
            want: structure.kinds.len(),
            have: consts.len(),
        });
    }
    let mut facts = Facts::default();
    for (i, (node, ty)) in structure.nodes.iter().zip(&structure.types).enumerate() {
        let name = names
            .get(i)
            .map_or_else(|| op_name(&node.op), String::as_str);
        facts.step(structure.header, consts, name, node, ty)?;
    }
    Ok(facts.types)
}

pub(crate) type Range = (i64, i64);

impl Pass<'_> {
    pub(crate) fn constant(&self, id: ConstId) -> Result<&Const, GraphError> {
        self.consts.get(id as usize).ok_or(GraphError::Length {
            what: "constants",
            want: id as usize + 1,
            have: self.consts.len(),
        })
    }

    pub(crate) fn types(&self) -> &[TensorType] {
        self.types
    }

    pub(crate) fn operand(&self, node: &Node, i: usize) -> Range {
        let ty = node
            .inputs
            .get(i)
            .and_then(|id| self.types.get(*id as usize));
        ty.map_or((0, 0), |t| (i64::from(t.lo), i64::from(t.hi)))
    }

    /// Checks one accumulator range against A_MAX (rounding term included) and requantises it.
    pub(crate) fn close(
        &self,
        index: u32,
        row: u32,
        (lo, hi): Range,
        shift: i8,
        out: &Requant,
    ) -> Result<Range, GraphError> {
        if !SHIFTS.contains(&shift) {
            return self.fail(index, "a shift lies outside -15 … 31");
        }
        let half = if shift > 0 { 1i64 << (shift - 1) } else { 0 };
        let left = if shift < 0 { 1i64 << -shift } else { 1 };
        let bound = lo
            .abs()
            .max(hi.abs())
            .saturating_mul(left)
            .saturating_add(half);
        if bound > A_MAX {
            return Err(GraphError::Bound {
                node: index,
                name: self.name.to_owned(),
                row,
                bound,
                limit: A_MAX,
            });
        }
        Ok((
            i64::from(requant(lo, shift, out)),
            i64::from(requant(hi, shift, out)),
        ))
    }

    fn rows(&self, index: u32, id: ConstId, x: Range, out: &Requant) -> Result<Range, GraphError> {
        let constant = self.constant(id)?;
        let mut total: Option<Range> = None;
        for row in 0..constant.kind().rows() {
            let Some(w) = constant.weight_row(row) else {
                return self.fail(
                    index,
                    "the constant is not of kind weights, or a row's shift lies outside -15 … 31",
                );
            };
            let acc = row_range(&w, x);
            let (lo, hi) = self.close(index, row, acc, w.shift, out)?;
            total = Some(total.map_or((lo, hi), |(a, b)| (a.min(lo), b.max(hi))));
        }
        Ok(total.unwrap_or((0, 0)))
    }

    pub(crate) fn fail<T>(&self, index: u32, why: &str) -> Result<T, GraphError> {
        Err(GraphError::Node {
            node: index,
            name: self.name.to_owned(),
            why: why.to_owned(),
        })
    }

    fn node(
        &self,
        index: u32,
        node: &Node,
        ty: &TensorType,
    ) -> Result<(i32, i32, Option<i64>), GraphError> {
        let extent = Extent {
            seq: self.header.max_seq,
            out: self.header.max_seq,
        };
        let x = self.operand(node, 0);
        let operand_type = node
            .inputs
            .first()
            .and_then(|id| self.types.get(*id as usize));
        let last = |t: Option<&TensorType>| {
            t.and_then(|t| t.shape.last())
                .map_or(1, |d| i64::from(d.at(extent)))
        };
        let mut row_sum = None;
        let range = match &node.op {
            Op::Input { ty } => (i64::from(ty.lo), i64::from(ty.hi)),
            Op::Linear { weights, out } => {
                let unit = node
                    .inputs
                    .first()
                    .and_then(|id| self.units.get(*id as usize))
                    .and_then(Option::as_ref);
                let exponent = match node.inputs.len() {
                    2 => self.operand(node, 1).1,
                    _ => 0,
                };
                self.weight_rows(index, *weights, x, (exponent, unit), out)?
            }
            Op::Conv2d {
                weights,
                window,
                out,
                ..
            } => {
                let x = if window.pad == [0; 4] {
                    x
                } else {
                    (x.0.min(0), x.1.max(0))
                };
                self.rows(index, *weights, x, out)?
            }
            Op::MatMul { out } => {
                let (a, b) = (x, self.operand(node, 1));
                let k = last(operand_type);
                let peak = |r: Range| r.0.abs().max(r.1.abs());
                let sums = |i: usize| {
                    node.inputs
                        .get(i)
                        .and_then(|id| self.row_sums.get(*id as usize))
                        .copied()
                        .flatten()
                };
                let by_a = sums(0).unwrap_or(k * peak(a)).saturating_mul(peak(b));
                let by_b = sums(1).unwrap_or(k * peak(b)).saturating_mul(peak(a));
                let bound = by_a.min(by_b);
                self.close(index, 0, (-bound, bound), out.shift, out)?
            }
            Op::Add { left, out } => {
                let b = self.operand(node, 1);
                let sum = (
                    (x.0 << left[0]) + (b.0 << left[1]),
                    (x.1 << left[0]) + (b.1 << left[1]),
                );
                self.close(index, 0, sum, out.shift, out)?
            }
            Op::AddRows { rows, left, out } => {
                let c = spread(&self.constant(*rows)?.values());
                let sum = (
                    (x.0 << left[0]) + (c.0 << left[1]),
                    (x.1 << left[0]) + (c.1 << left[1]),
                );
                self.close(index, 0, sum, out.shift, out)?
            }
            Op::Requant { out } => self.close(index, 0, x, out.shift, out)?,
            Op::Lookup { table } => {
                let values = self.constant(*table)?.values();
                let min = operand_type.map_or(0, |t| i64::from(t.dtype.range().0));
                let reachable = usize::try_from(x.0 - min)
                    .ok()
                    .zip(usize::try_from(x.1 - min).ok());
                match reachable.and_then(|(a, b)| values.get(a..=b)) {
                    Some(part) => spread(part),
                    None => return self.fail(index, "input range leaves the table"),
                }
            }
            Op::AvgPool { window } => {
                let cells = i64::from(window.kernel[0]) * i64::from(window.kernel[1]);
                self.limit(index, cells.saturating_mul(x.0.abs().max(x.1.abs())))?;
                x
            }
            Op::ReduceSum => {
                let n = last(operand_type);
                let range = (n.saturating_mul(x.0), n.saturating_mul(x.1));
                self.limit(index, range.0.abs().max(range.1.abs()))?;
                range
            }
            Op::LayerNorm { params, out, .. } => {
                let mut total = (i64::from(out.hi), i64::from(out.lo));
                for (channel, (gain, bias)) in
                    self.constant(*params)?.norm().into_iter().enumerate()
                {
                    let g = i64::from(gain).abs() << 15;
                    let acc = (i64::from(bias) - g, i64::from(bias) + g);
                    let (lo, hi) = self.close(index, channel as u32, acc, out.shift, out)?;
                    total = (total.0.min(lo), total.1.max(hi));
                }
                total
            }
            Op::Softmax { table, bits, .. } => {
                let values = self.constant(*table)?.values();
                let falling = values.windows(2).all(|w| matches!(w, [a, b] if a >= b));
                if !falling || values.last() != Some(&0) || values.first().is_none_or(|v| *v <= 0) {
                    return self.fail(index, "softmax table must fall from above 0 to 0");
                }
                row_sum = Some((1i64 << bits) + last(Some(ty)) / 2);
                (0, 1 << bits)
            }
            Op::Embedding { rows } => spread(&self.constant(*rows)?.values()),
            Op::Concat { .. } => (0..node.inputs.len())
                .map(|i| self.operand(node, i))
                .fold(x, |a, b| (a.0.min(b.0), a.1.max(b.1))),
            Op::MaxPool { .. }
            | Op::Transpose { .. }
            | Op::Reshape { .. }
            | Op::Slice { .. }
            | Op::Tail
            | Op::BlockMax { .. } => x,
            Op::Exponent { bits } => {
                let peak = x.0.unsigned_abs().max(x.1.unsigned_abs());
                let length = i64::from(u64::BITS - peak.leading_zeros());
                (0, (length - i64::from(*bits)).max(0))
            }
            Op::ArgMax | Op::Adjust { .. } | Op::Gap { .. } | Op::Census { .. } => {
                (i64::from(ty.lo), i64::from(ty.hi))
            }
            _ => self.language(index, node, ty, x)?,
        };
        let narrow = |v: i64| v.clamp(i64::from(i32::MIN), i64::from(i32::MAX)) as i32;
        Ok((narrow(range.0), narrow(range.1), row_sum))
    }

    pub(crate) fn limit(&self, index: u32, bound: i64) -> Result<(), GraphError> {
        if bound > A_MAX {
            return Err(GraphError::Bound {
                node: index,
                name: self.name.to_owned(),
                row: 0,
                bound,
                limit: A_MAX,
            });
        }
        Ok(())
    }
}

/// Range of `bias + Σ w·x` and of all its partial sums for `x` in `[lo, hi]`.
pub fn row_range(w: &WeightView<'_>, (lo, hi): Range) -> Range {
    // partial sums may leave out terms, so each term's interval includes 0
    let (lo, hi) = (lo.min(0), hi.max(0));
    let (mut positive, mut negative) = (0i64, 0i64);
    for v in w.iter() {
        if v > 0 {
            positive += i64::from(v);
        } else {
            negative += i64::from(v);
        }
    }
    let bias = i64::from(w.bias);
    (
        bias.min(0) + positive * lo + negative * hi,
        bias.max(0) + positive * hi + negative * lo,
    )
}

pub(crate) fn spread(values: &[i32]) -> Range {
    let lo = values.iter().copied().min().unwrap_or(0);
    let hi = values.iter().copied().max().unwrap_or(0);
    (i64::from(lo), i64::from(hi))
}

/// Largest magnitude that any accumulator of a weights constant reaches for inputs in `[lo, hi]`; for reports and for importers choosing shifts.
pub fn peak(constant: &Const, range: (i32, i32)) -> i64 {
    let ConstKind::Weights { rows, .. } = constant.kind() else {
        return 0;
    };
    let rows = (0..rows).filter_map(|r| constant.weight_row(r));
    rows.map(|w| row_range(&w, (i64::from(range.0), i64::from(range.1))))
        .map(|(a, b)| a.abs().max(b.abs()))
        .max()
        .unwrap_or(0)
}

/// Whether every value of a type fits `[lo, hi]` of a narrower one; used by builders.
pub const fn fits(lo: i32, hi: i32, dtype: DType) -> bool {
    let (a, b) = dtype.range();
    lo >= a && hi <= b
}

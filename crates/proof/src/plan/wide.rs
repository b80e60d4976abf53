//! Integers wider than the field, one for each row: limbs along an axis of their own, and sums of products of them that are 0, with carries.

use std::sync::Arc;

use super::{
    Choice, Table, Tables,
    builder::Builder,
    expr::{Affine, Index, Label, Operand, Read, Term, View},
    gadgets::Ranged,
};
use crate::error::PlanError;

/// An integer of at least 0 for each value of the outer labels: `Σ 2^(bits·k)·limb_k`.
#[derive(Clone, Debug)]
pub(crate) struct Wide {
    operand: Operand,
    outer: usize,
    limbs: usize,
    bits: u32,
    /// The largest integer that its cells can be.
    capacity: i128,
    pub(crate) ints: Option<Vec<i128>>,
}

/// A summand of what adds up to 0.
pub(crate) enum Part<'a> {
    /// A multiple of an integer.
    Times(i64, &'a Wide),
    /// A multiple of a product.
    Product(i64, &'a Wide, &'a Wide),
    /// A multiple of an integer times `2^shift`.
    Raised(u32, i64, &'a Wide),
    /// A multiple of the sum of integers along their last label times `2^shift`: of those that the row's mask names.
    Total(u32, i64, &'a Wide, Option<&'a Mask>),
    /// A view over the outer labels times `2^shift`.
    Shifted(u32, &'a Ranged),
    /// A number.
    Constant(i128),
}

/// Public zeros and ones, a line for each row.
pub(crate) struct Mask {
    pub(crate) view: View,
    pub(crate) ints: Arc<Vec<i32>>,
}

impl Wide {
    /// The limb with this index.
    fn limb(&self, index: Affine) -> View {
        let labels: Vec<Label> = (0..self.outer).collect();
        self.limb_at(&labels, index)
    }

    /// The limb with this index over these labels.
    fn limb_at(&self, labels: &[Label], index: Affine) -> View {
        let mut indices: Vec<Index> = labels.iter().copied().map(Index::label).collect();
        indices.push(index.into());
        View {
            terms: vec![(
                1,
                Read {
                    operand: self.operand,
                    indices,
                },
            )],
        }
    }

    /// The integer as a view over the outer labels, and the largest that it can be; for integers below p.
    ///
    /// # Errors
    /// [`PlanError::Range`] if its cells can be more.
    pub(crate) fn view(&self, b: &Builder) -> Result<(View, i64), PlanError> {
        let most = i64::try_from(self.capacity).unwrap_or(i64::MAX);
        b.fits(most)?;
        Ok((self.residue(), most))
    }

    /// A view over the outer labels that is congruent to the integer modulo p.
    pub(crate) fn residue(&self) -> View {
        (0..self.limbs).fold(View::default(), |v, k| {
            let limb = self.limb(Affine::fixed(k as i64));
            v.plus(&limb.scaled(1 << (self.bits as usize * k)))
        })
    }

    /// Lengths of the outer labels.
    pub(crate) fn outer_axes<const N: usize>(&self, b: &Builder) -> [usize; N] {
        let shape = b.shape(self.operand);
        std::array::from_fn(|i| shape[i])
    }

    /// The sum of the limbs: 0 exactly if the integer is.
    pub(crate) fn digits(&self) -> View {
        (0..self.limbs).fold(View::default(), |v, k| {
            v.plus(&self.limb(Affine::fixed(k as i64)))
        })
    }

    /// Limb `k` of each row.
    fn limb_ints(&self, k: usize) -> Option<impl Iterator<Item = i64> + '_> {
        let (shift, mask) = (self.bits * k as u32, (1i128 << self.bits) - 1);
        let inside = k < self.limbs;
        let ints = self.ints.as_ref()?.iter();
        Some(ints.map(move |v| {
            if inside {
                (v >> shift & mask) as i64
            } else {
                0
            }
        }))
    }
}

impl Builder {
    /// Bits of a limb: two limbs' product and many of them stay far below p, and small runs need small tables.
    const fn limb_bits(&self) -> u32 {
        if self.limits.limb >= 12 { 12 } else { 8 }
    }

    /// Cells for integers of `[0, most]`; some larger ones fit too, all below `2·most` or in one limb, negative ones don't.
    pub(crate) fn wide(&mut self, outer: &[usize], most: i128, ints: Option<Vec<i128>>) -> Wide {
        let bits = self.limb_bits();
        let length = (i128::BITS - most.leading_zeros()).max(1);
        let limbs = length.div_ceil(bits) as usize;
        let full = Choice {
            table: self.table(Table::Range { len: 1 << bits }),
            offset: 0,
        };
        // the highest limb has a range of its own, so that what fits stays near what is possible
        let rows = ((most >> (bits as usize * (limbs - 1))) as usize + 1).next_power_of_two();
        let top = Choice {
            table: self.table(Table::Range { len: rows }),
            offset: 0,
        };
        let cells = ints.as_ref().map(|v| {
            let mask = (1i128 << bits) - 1;
            let each = |v: &i128| {
                let v = *v;
                (0..limbs).map(move |k| (v >> (bits as usize * k) & mask) as i32)
            };
            v.iter().flat_map(each).collect()
        });
        let shape = [outer, &[limbs]].concat();
        let choices = (0..limbs).map(|k| if k + 1 < limbs { full } else { top });
        let tables = Tables::Axis {
            axis: outer.len(),
            choices: choices.collect::<Vec<_>>().into(),
        };
        Wide {
            operand: Operand::Column(self.column(&shape, tables, cells)),
            outer: outer.len(),
            limbs,
            bits,
            capacity: ((rows as i128) << (bits as usize * (limbs - 1))) - 1,
            ints,
        }
    }

    /// Public integers of `[0, most]`.
    pub(crate) fn wide_known(&mut self, outer: &[usize], most: i128, ints: &[i128]) -> Wide {
        let bits = self.limb_bits();
        let length = (i128::BITS - most.leading_zeros()).max(1);
        let limbs = length.div_ceil(bits) as usize;
        let mask = (1i128 << bits) - 1;
        let each = |v: &i128| {
            let v = *v;
            (0..limbs).map(move |k| (v >> (bits as usize * k) & mask) as i32)
        };
        let data = Arc::new(ints.iter().flat_map(each).collect());
        let shape = [outer, &[limbs]].concat();
        Wide {
            operand: Operand::Public(self.public(&shape, data)),
            outer: outer.len(),
            limbs,
            bits,
            capacity: most,
            ints: self.data.is_some().then(|| ints.to_vec()),
        }
    }

    /// States that the parts add up to 0 over the integers.
    ///
    /// Position k adds up what belongs to `2^(bits·k)` and the carry of position k − 1 to `2^bits` times its own carry, all below p; the last position has none. Added up with their powers, the
    /// positions give the sum of the parts, and it is 0 exactly if carries exist.
    ///
    /// # Errors
    /// [`PlanError::Range`] for parts too large.
    pub(crate) fn wide_zero(
        &mut self,
        label: &'static str,
        outer: &[usize],
        parts: &[Part<'_>],
    ) -> Result<(), PlanError> {
        let bits = self.limb_bits();
        let constant: i128 = parts
            .iter()
            .map(|p| if let Part::Constant(c) = p { *c } else { 0 })
            .sum();
        let positions = parts
            .iter()
            .map(|p| match p {
                Part::Times(_, x) => x.limbs,
                Part::Product(_, x, y) => x.limbs + y.limbs - 1,
                Part::Raised(shift, _, x) | Part::Total(shift, _, x, _) => {
                    (shift / bits) as usize + x.limbs
                }
                Part::Shifted(shift, _) => (shift / bits) as usize + 1,
                Part::Constant(c) => {
                    (i128::BITS - c.unsigned_abs().leading_zeros()).div_ceil(bits) as usize
                }
            })
            .max()
            .unwrap_or(1)
            .max(1);
        let top = (1i64 << bits) - 1;
        let constants: Vec<i64> = (0..positions)
            .map(|k| {
                let limb = constant.unsigned_abs() >> (bits as usize * k) & top as u128;
                limb as i64 * constant.signum() as i64
            })
            .collect();
        // bounds and integers of each position
        let lines: usize = outer.iter().product();
        let mut totals = self.data.is_some().then(|| vec![0i64; lines * positions]);
        let mut bounds: Vec<(i64, i64)> = constants.iter().map(|c| (*c, *c)).collect();
        let mut terms = Vec::new();
        let k = outer.len();
        for part in parts {
            match part {
                Part::Times(c, x) => {
                    for at in &mut bounds[..x.limbs] {
                        *at = (at.0 + (c * top).min(0), at.1 + (c * top).max(0));
                    }
                    for at in 0..x.limbs {
                        add(&mut totals, positions, at, x.limb_ints(at), |v| c * v);
                    }
                    terms.push(Term::linear(x.limb(Affine::label(k)).scaled(*c)));
                }
                Part::Product(c, x, y) => {
                    for i in 0..x.limbs {
                        for j in 0..y.limbs {
                            let at = &mut bounds[i + j];
                            let most = c.saturating_mul(top * top);
                            *at = (
                                at.0.saturating_add(most.min(0)),
                                at.1.saturating_add(most.max(0)),
                            );
                            let both = x.limb_ints(i).zip(y.limb_ints(j));
                            let products = both.map(|(x, y)| x.zip(y).map(|(x, y)| x * y));
                            add(&mut totals, positions, i + j, products, |v| c * v);
                        }
                    }
                    terms.push(Term::Product {
                        coefficient: *c,
                        sums: vec![x.limbs],
                        a: x.limb(Affine::label(k + 1)),
                        b: y.limb(Affine {
                            offset: 0,
                            terms: vec![(k, 1), (k + 1, -1)],
                        }),
                    });
                }
                Part::Raised(shift, c, x) => {
                    let (start, c) = ((shift / bits) as usize, c << (shift % bits));
                    for i in 0..x.limbs {
                        let at = &mut bounds[start + i];
                        *at = (at.0 + (c * top).min(0), at.1 + (c * top).max(0));
                        add(&mut totals, positions, start + i, x.limb_ints(i), |v| c * v);
                    }
                    let index = Affine {
                        offset: -(start as i64),
                        terms: vec![(k, 1)],
                    };
                    terms.push(Term::linear(x.limb(index).scaled(c)));
                }
                Part::Total(shift, c, x, mask) => {
                    let (start, c) = ((shift / bits) as usize, c << (shift % bits));
                    let len = self.shape(x.operand)[k];
                    let most = c.saturating_mul(top * len as i64);
                    for i in 0..x.limbs {
                        let at = &mut bounds[start + i];
                        *at = (
                            at.0.saturating_add(most.min(0)),
                            at.1.saturating_add(most.max(0)),
                        );
                        let limbs = x.limb_ints(i).map(|v| v.collect::<Vec<i64>>());
                        let sums = limbs.map(|v| {
                            let named = |i: usize| mask.is_none_or(|m| m.ints[i] != 0);
                            let lines = v.chunks_exact(len).enumerate();
                            lines
                                .map(|(line, v)| {
                                    let each = v.iter().enumerate();
                                    each.filter(|(i, _)| named(line * len + i))
                                        .map(|(_, v)| v)
                                        .sum()
                                })
                                .collect::<Vec<i64>>()
                        });
                        let sums = sums.map(Vec::into_iter);
                        add(&mut totals, positions, start + i, sums, |v| c * v);
                    }
                    // labels: the outer ones, the position, the summed one
                    let labels: Vec<Label> = (0..k).chain([k + 1]).collect();
                    let index = Affine {
                        offset: -(start as i64),
                        terms: vec![(k, 1)],
                    };
                    terms.push(Term::Product {
                        coefficient: c,
                        sums: vec![len],
                        a: x.limb_at(&labels, index),
                        b: mask.map_or_else(|| self.one(), |m| m.view.rename(&labels)),
                    });
                }
                Part::Shifted(shift, x) => {
                    let (at, c) = ((shift / bits) as usize, 1i64 << (shift % bits));
                    bounds[at] = (bounds[at].0 + c * x.lo, bounds[at].1 + c * x.hi);
                    let ints = x.ints.as_ref().map(|v| v.iter().map(|v| i64::from(*v)));
                    add(&mut totals, positions, at, ints, |v| c * v);
                    let here = (0..positions).map(|i| i64::from(i == at)).collect();
                    terms.push(Term::Linear {
                        view: x.view.scaled(c),
                        scale: Some((k, self.scale(here))),
                    });
                }
                Part::Constant(_) => {}
            }
        }
        if constant != 0 {
            if let Some(totals) = &mut totals {
                for (i, t) in totals.iter_mut().enumerate() {
                    *t += constants[i % positions];
                }
            }
            terms.push(Term::Constant {
                value: 1,
                scale: Some((k, self.scale(constants))),
            });
        }
        let carries = self.carries(outer, &bounds, totals)?;
        if let Some(carry) = carries {
            let mut subs: Vec<Affine> = (0..=k).map(Affine::label).collect();
            subs[k].offset = -1;
            terms.push(Term::linear(carry.substitute(&subs)));
            terms.push(Term::linear(carry.scaled(-1 << bits)));
        }
        let axes = [outer, &[positions]].concat();
        self.relation(label, &axes, terms);
        Ok(())
    }

    /// Carries out of all positions but the last, and that no position's sum can wrap.
    fn carries(
        &mut self,
        outer: &[usize],
        bounds: &[(i64, i64)],
        totals: Option<Vec<i64>>,
    ) -> Result<Option<View>, PlanError> {
        let bits = self.limb_bits();
        let inner = bounds.len() - 1;
        let (mut lo, mut hi) = (0, 0);
        let (mut least, mut most) = (0i64, 0i64);
        for b in &bounds[..inner] {
            (least, most) = ((b.0 + least) >> bits, (b.1 + most) >> bits);
            (lo, hi) = (lo.min(least), hi.max(most));
        }
        let ints = totals.map(|v| {
            let mut out = Vec::with_capacity(v.len());
            for row in v.chunks_exact(bounds.len()) {
                let mut carry = 0;
                for total in &row[..inner] {
                    carry = (total + carry) >> bits;
                    out.push(carry);
                }
            }
            out
        });
        let carry =
            (inner > 0).then(|| self.around(&[outer, &[inner]].concat(), lo, hi, ints.as_deref()));
        let (lo, hi) = carry.as_ref().map_or((0, 0), |c| (c.lo, c.hi));
        for b in bounds {
            let least = b.0.saturating_add(lo).saturating_sub(hi << bits);
            let most = b.1.saturating_add(hi).saturating_sub(lo << bits);
            self.fits(most.max(-least))?;
        }
        Ok(carry.map(|c| c.view))
    }
}

/// Adds `f` of each row's integer to a position.
fn add(
    totals: &mut Option<Vec<i64>>,
    positions: usize,
    at: usize,
    ints: Option<impl Iterator<Item = i64>>,
    f: impl Fn(i64) -> i64,
) {
    if let (Some(totals), Some(ints)) = (totals, ints) {
        for (row, v) in totals.chunks_exact_mut(positions).zip(ints) {
            row[at] += f(v);
        }
    }
}

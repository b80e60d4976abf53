//! Integers of up to 64 bits, one for each row: limbs along an axis of their own, and sums of products of them that are 0, with carries.

use super::{
    Choice, Table, Tables,
    builder::Builder,
    expr::{Affine, ColumnId, Index, Operand, Read, Term, View},
    gadgets::Ranged,
};
use crate::error::PlanError;

/// An integer of at least 0 for each value of the outer labels: `Σ 2^(bits·k)·limb_k`.
#[derive(Clone, Debug)]
pub(crate) struct Wide {
    column: ColumnId,
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
    /// A view over the outer labels times `2^shift`, a multiple of the bits of a limb.
    Shifted(u32, &'a Ranged),
    /// A number.
    Constant(i128),
}

impl Wide {
    /// The limb with this index.
    fn limb(&self, index: Affine) -> View {
        let mut indices: Vec<Index> = (0..self.outer).map(Index::label).collect();
        indices.push(index.into());
        View {
            terms: vec![(
                1,
                Read {
                    operand: Operand::Column(self.column),
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
        let view = (0..self.limbs).fold(View::default(), |v, k| {
            let limb = self.limb(Affine::fixed(k as i64));
            v.plus(&limb.scaled(1 << (self.bits as usize * k)))
        });
        Ok((view, most))
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
            column: self.column(&shape, tables, cells),
            outer: outer.len(),
            limbs,
            bits,
            capacity: ((rows as i128) << (bits as usize * (limbs - 1))) - 1,
            ints,
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
                Part::Shifted(shift, x) => {
                    let at = (shift / bits) as usize;
                    bounds[at] = (bounds[at].0 + x.lo, bounds[at].1 + x.hi);
                    let ints = x.ints.as_ref().map(|v| v.iter().map(|v| i64::from(*v)));
                    add(&mut totals, positions, at, ints, |v| v);
                    let here = (0..positions).map(|i| i64::from(i == at)).collect();
                    terms.push(Term::Linear {
                        view: x.view.clone(),
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

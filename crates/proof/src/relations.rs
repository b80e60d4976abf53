//! From relations to claims, the same on both sides: the linear parts of all relations become one functional, the products become instances of one sumcheck.

use p3_field::PrimeCharacteristicRing;

use crate::{
    field::{EF, embed},
    functional::{At, Functional, Place, Points},
    mle::log2_ceil,
    plan::{
        Plan,
        expr::{Operand, Read, Term, View},
    },
};

/// `weight · Σ_{x in the cube} E(x)·a(x)·b(x)`; E is the eq of the output labels in the cube.
pub(crate) struct Instance<'a> {
    pub(crate) weight: EF,
    pub(crate) a: &'a View,
    pub(crate) b: &'a View,
    /// Place of each label of the relation.
    pub(crate) places: Vec<Place>,
    /// Labels that both operands mention, first label highest, with their lengths.
    pub(crate) cube: Vec<usize>,
    /// How many labels are output labels; the others are summed over.
    outputs: usize,
    /// Variables of the cube.
    pub(crate) bits: usize,
    /// How many of them, from the lowest, belong to summed labels.
    pub(crate) sum_bits: usize,
}

/// What the linear parts of all relations claim: functionals of witness and weights and a number that both sides know add up to minus the products.
#[derive(Default)]
pub(crate) struct Linear {
    pub(crate) witness: Functional,
    pub(crate) weights: Functional,
    pub(crate) known: EF,
}

/// Lengths of the points that the labels need: for each place the most coordinates.
pub(crate) fn random_lengths(plan: &Plan) -> Vec<usize> {
    let mut all: Vec<usize> = Vec::new();
    for relation in &plan.relations {
        for (l, n) in relation.axes.iter().enumerate() {
            if all.len() <= l {
                all.push(0);
            }
            all[l] = all[l].max(log2_ceil(*n));
        }
    }
    all
}

/// How much is said about the products of a plan.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Sizes {
    /// Rounds of their sumcheck.
    pub(crate) rounds: usize,
    /// Claims on operands, at most.
    pub(crate) operands: usize,
    /// Products.
    pub(crate) products: usize,
}

impl Sizes {
    pub(crate) fn new(plan: &Plan) -> Self {
        let mut sizes = Self::default();
        for relation in &plan.relations {
            for term in &relation.terms {
                if let Term::Product { sums, a, b, .. } = term {
                    let lens = relation.axes.iter().chain(sums).enumerate();
                    let cube = lens.filter(|(l, _)| a.mentions(*l) && b.mentions(*l));
                    sizes.rounds = sizes.rounds.max(cube.map(|(_, n)| log2_ceil(*n)).sum());
                    sizes.operands += a.terms.len() + b.terms.len();
                    sizes.products += 1;
                }
            }
        }
        sizes
    }
}

/// Adds `factor ·` (a read at its places) to the functionals, or to what is known.
fn claim(
    points: &mut Points<'_>,
    plan: &Plan,
    read: &Read,
    places: &[Place],
    factor: EF,
    out: &mut Linear,
) {
    match read.operand {
        Operand::Column(id) => {
            let axes = points.axes(read, &plan.columns[id].shape, places);
            out.witness.add(id, axes, factor);
        }
        Operand::Weight(id) => {
            let axes = points.axes(read, &plan.weights[id].shape, places);
            out.weights.add(id, axes, factor);
        }
        Operand::Public(_) => out.known += factor * public(points, plan, read, places),
    }
}

/// A public tensor's read at its places.
pub(crate) fn public(points: &mut Points<'_>, plan: &Plan, read: &Read, places: &[Place]) -> EF {
    let Operand::Public(id) = read.operand else {
        return EF::ZERO;
    };
    let tensor = &plan.publics[id];
    let axes = points.axes(read, &tensor.shape, places);
    let mut values: Vec<EF> = Vec::new();
    // contract axis by axis from the last
    for (i, axis) in axes.iter().enumerate().rev() {
        let u = points.vector(*axis);
        let n = tensor.shape[i];
        values = if i + 1 == axes.len() {
            tensor
                .data
                .chunks_exact(n)
                .map(|line| {
                    line.iter()
                        .zip(u.iter())
                        .map(|(v, u)| *u * embed(i64::from(*v)))
                        .sum()
                })
                .collect()
        } else {
            values
                .chunks_exact(n)
                .map(|line| line.iter().zip(u.iter()).map(|(v, u)| *v * *u).sum())
                .collect()
        };
    }
    match values.first() {
        Some(v) => *v,
        None => tensor
            .data
            .first()
            .map_or(EF::ZERO, |v| embed(i64::from(*v)).into()),
    }
}

/// The linear parts, relation `i` times `powers[i]`.
pub(crate) fn linear(points: &mut Points<'_>, plan: &Plan, powers: &[EF]) -> Linear {
    let mut out = Linear::default();
    for (relation, power) in plan.relations.iter().zip(powers) {
        let places: Vec<Place> = relation
            .axes
            .iter()
            .enumerate()
            .map(|(l, n)| Place {
                len: *n,
                at: At::Random(l),
                scale: None,
            })
            .collect();
        for term in &relation.terms {
            let scaled = |scale: Option<(usize, usize)>| {
                let mut places = places.clone();
                if let Some((l, s)) = scale {
                    places[l].scale = Some(s);
                }
                places
            };
            match term {
                Term::Constant { value, scale } => {
                    let total: EF = scaled(*scale).iter().map(|p| points.total(*p)).product();
                    out.known += *power * total * embed(*value);
                }
                Term::Linear { view, scale } => {
                    let places = scaled(*scale);
                    for (c, read) in &view.terms {
                        let missing: EF = (0..places.len())
                            .filter(|l| !read.mentions(*l))
                            .map(|l| points.total(places[l]))
                            .product();
                        claim(
                            points,
                            plan,
                            read,
                            &places,
                            *power * missing * embed(*c),
                            &mut out,
                        );
                    }
                }
                Term::Product { .. } => {}
            }
        }
    }
    out
}

/// The products, with relation `i` times `powers[i]`.
pub(crate) fn instances<'a>(
    points: &mut Points<'_>,
    plan: &'a Plan,
    powers: &[EF],
) -> Vec<Instance<'a>> {
    let mut out = Vec::new();
    for (relation, power) in plan.relations.iter().zip(powers) {
        for term in &relation.terms {
            let Term::Product {
                coefficient,
                sums,
                a,
                b,
            } = term
            else {
                continue;
            };
            let outputs = relation.axes.len();
            let lens: Vec<usize> = relation.axes.iter().chain(sums).copied().collect();
            let cube: Vec<usize> = (0..lens.len())
                .filter(|l| a.mentions(*l) && b.mentions(*l))
                .collect();
            let mut places: Vec<Place> = lens
                .iter()
                .enumerate()
                .map(|(l, n)| Place {
                    len: *n,
                    at: if l < outputs { At::Random(l) } else { At::Ones },
                    scale: None,
                })
                .collect();
            let mut weight = *power * embed(*coefficient);
            for l in (0..lens.len()).filter(|l| !a.mentions(*l) && !b.mentions(*l)) {
                weight *= points.total(places[l]);
            }
            let (mut bits, mut sum_bits) = (0, 0);
            for l in cube.iter().rev() {
                places[*l].at = At::Bound(bits);
                bits += log2_ceil(lens[*l]);
                if *l >= outputs {
                    sum_bits = bits;
                }
            }
            out.push(Instance {
                weight,
                a,
                b,
                places,
                cube,
                outputs,
                bits,
                sum_bits,
            });
        }
    }
    out
}

impl Instance<'_> {
    /// The output labels of the cube at their random points, lowest coordinate first.
    pub(crate) fn eq_point(&self, points: &Points<'_>) -> Vec<EF> {
        let outputs = self.cube.iter().rev().filter(|l| **l < self.outputs);
        outputs
            .flat_map(|l| points.random[*l][..log2_ceil(self.places[*l].len)].to_vec())
            .collect()
    }

    /// Factor of a term of an operand that lacks labels which other terms of the operand mention.
    pub(crate) fn missing(&self, points: &mut Points<'_>, view: &View, read: &Read) -> EF {
        (0..self.places.len())
            .filter(|l| view.mentions(*l) && !read.mentions(*l))
            .map(|l| points.total(self.places[l]))
            .product()
    }
}

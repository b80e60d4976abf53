//! The interactive part: everything that is said about a run between the commitment of its columns and the opening.

use p3_field::PrimeCharacteristicRing;

use crate::{
    einsum,
    error::VerifyError,
    field::EF,
    functional::Points,
    links::Links,
    listener::{Listener, Value},
    lookup,
    mle::eq_points,
    plan::{Plan, stages::Stages},
    proof::{self, Atoms, Claims},
    relations::{self, Linear},
    verifier::Check,
};

/// What is left to show of a run: claims on the witness and on the weights.
pub(crate) struct Session<'a, V = EF> {
    pub(crate) points: Points<'a>,
    pub(crate) looked: lookup::Claims<V>,
    pub(crate) linear: Linear,
    /// Values of the linear parts of witness and weights.
    pub(crate) parts: [V; 2],
    pub(crate) atoms: Atoms,
    /// Values of the atoms.
    pub(crate) values: Vec<V>,
}

/// Hears what is said of a run. What concerns the weights alone is said openly.
///
/// # Errors
/// [`VerifyError`]: the first check that fails.
pub(crate) fn listen<'a, L: Listener>(
    plan: &'a Plan,
    listener: &mut L,
) -> Result<Session<'a, L::V>, VerifyError> {
    // every cell is in its table
    let looked = lookup::verify(plan, listener)?;

    // every relation holds at a random point
    let lengths = relations::random_lengths(plan);
    let random = lengths
        .iter()
        .map(|n| listener.transcript().challenges(*n))
        .collect();
    let powers = proof::powers(listener.transcript().challenge(), plan.relations.len());
    let mut points = Points::new(plan, random);
    let linear = relations::linear(&mut points, plan, &powers);
    let parts = listener.hear_where("linear parts", 2, |i| i == 1)?;
    let wrong = VerifyError::Sumcheck {
        label: einsum::LABEL,
    };
    let parts = <[L::V; 2]>::try_from(parts).map_err(|_| wrong.clone())?;
    let instances = relations::instances(&mut points, plan, &powers);
    let rounds = instances.iter().map(|i| i.bits).max().unwrap_or(0);
    let claim = L::V::sum(-linear.known, parts.iter().map(|v| (-EF::ONE, v)));
    let (point, claim) = einsum::verify(einsum::LABEL, claim, rounds, listener)?;
    points.bound = point;
    let atoms = proof::atoms(&mut points, plan, &instances);
    let values = listener.hear_where("operands", atoms.list.len(), |i| atoms.list[i].weights)?;
    let mut total = Vec::with_capacity(instances.len());
    for (i, instance) in instances.iter().enumerate() {
        let [a, b] = atoms.operands(i, &values);
        let eq = eq_points(
            &instance.eq_point(&points),
            &points.bound[instance.sum_bits..instance.bits],
        );
        let factor = instance.weight * eq * einsum::beyond(&points.bound, instance.bits);
        total.push((factor, listener.product(&a, &b)));
    }
    let products = total.iter().map(|(factor, v)| (*factor, v));
    let rest = L::V::sum(EF::ZERO, products.chain([(-EF::ONE, &claim)]));
    listener.zero(Check::Products, &rest, wrong)?;
    Ok(Session {
        points,
        looked,
        linear,
        parts,
        atoms,
        values,
    })
}

impl<V: Value> Session<'_, V> {
    /// Adds what was said of the columns that the stage shares with others.
    pub(crate) fn tie(&mut self, links: &Links<V>, stages: &Stages, stage: usize) {
        let (points, atoms) = (&mut self.points, &mut self.atoms);
        links.claim(stages, stage, points, atoms, &mut self.values);
    }

    /// The claims, added up with powers of `gamma`.
    pub(crate) fn claims(&self, gamma: EF) -> Claims<V> {
        proof::claims(
            &self.atoms,
            &self.values,
            &self.linear,
            &self.parts,
            &self.looked,
            gamma,
        )
    }
}

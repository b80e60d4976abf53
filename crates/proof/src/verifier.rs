//! The verifier: builds the plan, replays the transcript, checks every equality.

use std::sync::Arc;

use assay_graph::{Const, Extent, Graph};
use p3_field::PrimeCharacteristicRing;

use crate::{
    budget::{self, Budget},
    compile::Source,
    einsum,
    error::VerifyError,
    field::EF,
    functional::Points,
    key::{Key, ProvingKey},
    lookup,
    mle::eq_points,
    params::Side,
    pcs,
    plan::facts::Facts,
    proof::{self, Proof},
    reduce, relations,
    shards::Shards,
    statement::Mode,
    transcript::{Channel, Receiver},
};

/// What an accepted proof shows.
#[derive(Clone, Debug)]
pub struct Verified {
    /// The soundness error, term by term.
    pub budget: Budget,
}

/// Checks a proof under a key. That the key belongs to the model is the caller's to know: from a registry, or by making it again.
///
/// # Errors
/// [`VerifyError`]: the first check that fails.
pub fn verify(key: &Key, proof: &Proof) -> Result<Verified, VerifyError> {
    if proof.statement.mode != Mode::Committed {
        return Err(VerifyError::Unknown {
            what: "mode",
            have: proof.statement.mode as u32,
        });
    }
    Check::Key.holds(proof.statement.key_id == key.id(), VerifyError::KeyMismatch)?;
    check(key, None, proof)
}

/// Checks a proof with the model at hand: its weights take the place of an opening.
///
/// # Errors
/// As [`verify`].
pub fn verify_direct(graph: &Arc<Graph>, proof: &Proof) -> Result<Verified, VerifyError> {
    if proof.statement.mode != Mode::Direct {
        return Err(VerifyError::Unknown {
            what: "mode",
            have: proof.statement.mode as u32,
        });
    }
    let key = ProvingKey::direct(Arc::clone(graph))?;
    check(key.key(), Some(graph.consts()), proof)
}

/// The equalities that the verifier checks, by name: tests switch each off and see that some lie then passes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Check {
    Key,
    Model,
    Numerators,
    Denominators,
    Products,
    Witness,
    WitnessOpening,
    Weights,
    WeightsOpening,
    HeldWeights,
    Trailing,
}

#[cfg(test)]
thread_local! {
    /// The check that is switched off.
    pub(crate) static OFF: std::cell::Cell<Option<Check>> = const { std::cell::Cell::new(None) };
}

impl Check {
    /// `error` unless the check holds.
    pub(crate) fn holds(self, holds: bool, error: VerifyError) -> Result<(), VerifyError> {
        #[cfg(test)]
        let holds = holds || OFF.get() == Some(self);
        if holds { Ok(()) } else { Err(error) }
    }
}

fn check(key: &Key, consts: Option<&[Const]>, proof: &Proof) -> Result<Verified, VerifyError> {
    let statement = &proof.statement;
    Check::Model.holds(
        statement.model_id == key.model_id,
        VerifyError::ModelMismatch,
    )?;
    let (inputs, outputs) = statement.tensors(&key.structure)?;
    let source = Source {
        structure: &key.structure,
        consts: None,
        runs: statement.runs.len(),
        extent: Extent {
            seq: statement.seq,
            out: statement.out,
        },
        inputs: Arc::new(inputs),
        outputs: Some(Arc::new(outputs)),
        restless: &statement.restless,
    };
    let compiled = source.compile(
        Facts::Replay {
            facts: Arc::clone(&key.facts),
            next: 0,
        },
        false,
    )?;
    if !compiled.facts.is_spent() {
        return Err(crate::PlanError::Key("it has facts that the plan does not use".into()).into());
    }
    let plan = compiled.plan;
    let shards = Shards::new(&plan.weights);
    let pieces: &[usize] = if consts.is_none() { &shards.logs } else { &[] };
    let budget = budget::of_plan(&plan, pieces);
    budget.check()?;

    let mut receiver = Receiver::new(proof::transcript(statement, key, &plan), &proof.body);
    let root = proof::receive_root(&mut receiver)?;

    // every cell is in its table
    let looked = lookup::verify(&plan, &mut receiver)?;

    // every relation holds at a random point
    let lengths = relations::random_lengths(&plan);
    let random = lengths
        .iter()
        .map(|n| receiver.transcript().challenges(*n))
        .collect();
    let powers = proof::powers(receiver.transcript().challenge(), plan.relations.len());
    let mut points = Points::new(&plan, random);
    let linear = relations::linear(&mut points, &plan, &powers);
    let said = receiver.receive("linear parts", 2)?;
    let [linear_witness, linear_weights] = said[..] else {
        return Err(VerifyError::Sumcheck {
            label: einsum::LABEL,
        });
    };
    let instances = relations::instances(&mut points, &plan, &powers);
    let rounds = instances.iter().map(|i| i.bits).max().unwrap_or(0);
    let claim = -(linear.known + linear_witness + linear_weights);
    let (point, claim) = einsum::verify(claim, rounds, &mut receiver)?;
    points.bound = point;
    let atoms = proof::atoms(&mut points, &plan, &instances);
    let values = receiver.receive("operands", atoms.list.len())?;
    let mut total = EF::ZERO;
    for (i, instance) in instances.iter().enumerate() {
        let [a, b] = atoms.operands(i, &values);
        let eq = eq_points(
            &instance.eq_point(&points),
            &points.bound[instance.sum_bits..instance.bits],
        );
        total += instance.weight * eq * a * b * einsum::beyond(&points.bound, instance.bits);
    }
    Check::Products.holds(
        total == claim,
        VerifyError::Sumcheck {
            label: einsum::LABEL,
        },
    )?;

    // what was claimed of the witness and of the weights holds
    let gamma = receiver.transcript().challenge();
    let claims = proof::claims(
        &atoms,
        &values,
        &linear,
        [linear_witness, linear_weights],
        &looked,
        gamma,
    );
    let (point, value, claim) = reduce::verify(
        "witness",
        reduce::Order::HighestFirst,
        claims.witness_value,
        plan.witness.log,
        &mut receiver,
    )?;
    let functional = claims
        .witness
        .at(&points, &plan.witness, &point, |tile| Some(tile.offset))
        + looked.at(&plan, claims.lookup_factors, &point);
    Check::Witness.holds(
        functional * value == claim,
        VerifyError::Sumcheck { label: "witness" },
    )?;
    let bytes = receiver.section(pcs::opening_cap(plan.witness.log, Side::Witness))?;
    let opened = pcs::verify(
        &root,
        plan.witness.log,
        Side::Witness,
        &point,
        value,
        bytes,
        &mut receiver.transcript,
    );
    opened.or_else(|e| Check::WitnessOpening.holds(false, e))?;

    match consts {
        None => {
            if key.roots.len() != shards.logs.len() {
                return Err(crate::PlanError::Key("it has roots of other weights".into()).into());
            }
            // what each piece adds to the claim; the last one is what remains
            let mut rest = claims.weights_value;
            let said = receiver.receive("pieces of the weights", shards.logs.len() - 1)?;
            for (shard, (log, root)) in shards.logs.iter().zip(&key.roots).enumerate() {
                let part = said.get(shard).copied().unwrap_or(rest);
                rest -= part;
                let (point, value, claim) = reduce::verify(
                    "weights",
                    reduce::Order::LowestFirst,
                    part,
                    *log,
                    &mut receiver,
                )?;
                let functional = claims.weights.at(&points, &shards.layout, &point, |tile| {
                    Shards::offset(shard, tile)
                });
                Check::Weights.holds(
                    functional * value == claim,
                    VerifyError::Sumcheck { label: "weights" },
                )?;
                let bytes = receiver.section(pcs::opening_cap(*log, Side::Weights))?;
                let opened = pcs::verify(
                    root,
                    *log,
                    Side::Weights,
                    &point,
                    value,
                    bytes,
                    &mut receiver.transcript,
                );
                opened.or_else(|e| Check::WeightsOpening.holds(false, e))?;
            }
        }
        Some(consts) => {
            let held = crate::prover::evaluate_weights(&plan, consts, &points, &claims.weights);
            Check::HeldWeights.holds(
                held == claims.weights_value,
                VerifyError::Opening { which: "weights" },
            )?;
        }
    }
    let rest = receiver.rest();
    Check::Trailing.holds(rest == 0, VerifyError::Trailing(rest))?;
    Ok(Verified { budget })
}

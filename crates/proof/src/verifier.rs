//! The verifier: builds the plan, replays the transcript, checks every equality.

use std::sync::Arc;

use crate::{
    budget::{self, Budget},
    compile::Source,
    error::{PlanError, VerifyError},
    field::EF,
    functional::{Functional, Points},
    hiding::{self, listen::Veiled, products},
    key::{Key, ProvingKey},
    links, lookup,
    params::Side,
    pcs,
    plan::{Plan, builder::WORK, facts::Facts, layout::Tile, stages::Stages},
    proof::{self, OfWeights, Proof},
    reduce,
    sampling::decoded,
    session,
    shards::Shards,
    statement::Mode,
    transcript::{Channel, Receiver},
};
use assay_graph::{Const, Extent, Graph};

/// What an accepted proof shows.
#[derive(Clone, Debug)]
pub struct Verified {
    /// The soundness error, term by term.
    pub budget: Budget,
}

/// Checks a proof under a key, in hiding mode or not. That the key belongs to the model is the caller's to know: from a registry, or by making it again.
///
/// # Errors
/// [`VerifyError`]: the first check that fails.
pub fn verify(key: &Key, proof: &Proof) -> Result<Verified, VerifyError> {
    verify_within(key, proof, WORK)
}

/// As [`verify`], for a verifier that does so much work at most: rows of tables and elements of vectors that the plan makes it go through, about 50 ns each. [`WORK`] where nothing else is said.
///
/// # Errors
/// As [`verify`]; [`PlanError::Work`] before anything of the size is made.
pub fn verify_within(key: &Key, proof: &Proof, work: u64) -> Result<Verified, VerifyError> {
    if proof.statement.mode == Mode::Direct {
        return Err(VerifyError::Unknown {
            what: "mode",
            have: proof.statement.mode as u32,
        });
    }
    Check::Key.holds(proof.statement.key_id == key.id(), VerifyError::KeyMismatch)?;
    check(key, None, proof, work)
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
    check(key.key(), Some(graph.consts()), proof, WORK)
}

/// The equalities that the verifier checks, by name: tests switch each off and see that some lie then passes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Check {
    Key,
    Model,
    Sum,
    Denominator,
    Layer,
    Numerators,
    Denominators,
    Products,
    HiddenFactors,
    HiddenProducts,
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
        if holds || self.is_off() {
            Ok(())
        } else {
            Err(error)
        }
    }

    /// Whether a test switched the check off.
    #[cfg_attr(not(test), allow(clippy::unused_self, reason = "for tests"))]
    pub(crate) fn is_off(self) -> bool {
        #[cfg(test)]
        return OFF.get() == Some(self);
        #[cfg(not(test))]
        false
    }
}

fn check(
    key: &Key,
    consts: Option<&[Const]>,
    proof: &Proof,
    work: u64,
) -> Result<Verified, VerifyError> {
    let statement = &proof.statement;
    Check::Model.holds(
        statement.model_id == key.model_id,
        VerifyError::ModelMismatch,
    )?;
    let (inputs, outputs) = statement.tensors(&key.structure)?;
    let samplings = decoded(statement.runs.iter().map(|r| &r.sampling[..]));
    let source = Source {
        structure: &key.structure,
        consts: None,
        runs: statement.runs.len(),
        extent: Extent {
            seq: statement.seq,
            out: statement.out,
        },
        inputs: Arc::new(inputs),
        hidden: statement.mode == Mode::Hiding,
        outputs: Some(Arc::new(outputs)),
        restless: &statement.restless,
        samplings: &samplings,
    };
    let facts = Facts::Replay {
        facts: Arc::clone(&key.facts),
        next: 0,
    };
    let compiled = source.compile_within(facts, false, work)?;
    if !compiled.facts.is_spent() {
        return Err(PlanError::Key("it has facts that the plan does not use".into()).into());
    }
    let shards = Shards::new(&compiled.plan.weights);
    let stages = Stages::new(compiled.plan, statement.stage as usize)?;
    let rows = stages.rows() as u64;
    if rows > work {
        return Err(PlanError::Work {
            need: rows,
            limit: work,
        }
        .into());
    }
    let pieces: &[usize] = if consts.is_none() { &shards.logs } else { &[] };
    let budget = budget::of_stages(&stages, pieces);
    budget.check()?;

    let mut receiver = Receiver::new(proof::transcript(statement, key, &stages), &proof.body);
    let claimed = if statement.mode == Mode::Hiding {
        let (claimed, rest) = hidden_runs(&stages, receiver)?;
        receiver = rest;
        vec![claimed]
    } else {
        open_runs(&stages, &mut receiver)?
    };

    // what was claimed of the weights holds
    match consts {
        None => {
            let factors = proof::factors(stages.plans.len(), &mut receiver);
            let value = factors.iter().zip(&claimed).map(|(f, c)| *f * c.1).sum();
            let claims: Vec<OfWeights<'_>> = factors
                .into_iter()
                .zip(claimed)
                .map(|(factor, (functional, _, points))| OfWeights {
                    factor,
                    functional,
                    points,
                })
                .collect();
            pieces_of_weights(key, &shards, &claims, value, &mut receiver)?;
        }
        Some(consts) => {
            for (plan, (functional, value, points)) in stages.plans.iter().zip(&claimed) {
                let held = crate::prover::evaluate_weights(plan, consts, points, functional);
                Check::HeldWeights
                    .holds(held == *value, VerifyError::Opening { which: "weights" })?;
            }
        }
    }
    let rest = receiver.rest();
    Check::Trailing.holds(rest == 0, VerifyError::Trailing(rest))?;
    Ok(Verified { budget })
}

/// What a stage claims of the weights: a functional, its value, the points that it is about.
type Claimed<'a> = (Functional, EF, Points<'a>);

/// Checks what is said of the runs where it can be read.
fn open_runs<'a>(
    stages: &'a Stages,
    receiver: &mut Receiver<'_>,
) -> Result<Vec<Claimed<'a>>, VerifyError> {
    let roots = stages
        .plans
        .iter()
        .map(|_| proof::receive_root(receiver, proof::WITNESS))
        .collect::<Result<Vec<_>, _>>()?;
    let links = links::listen(stages, receiver)?;
    let mut claimed = Vec::with_capacity(roots.len());
    for (stage, (plan, root)) in stages.plans.iter().zip(&roots).enumerate() {
        let mut session = session::listen(plan, receiver)?;
        session.tie(&links, stages, stage);
        // what was claimed of the witness holds
        let gamma = receiver.transcript().challenge();
        let claims = session.claims(gamma);
        let points = session.points;
        let (point, value) = reduced(
            plan,
            (&claims.witness, &points),
            (&session.looked.leaves, claims.lookup_factors),
            claims.witness_value,
            receiver,
        )?;
        let (log, side) = (plan.witness.log, Side::Witness);
        let bytes = receiver.section(pcs::opening_cap(log, side))?;
        let transcript = &mut receiver.transcript;
        let opened = pcs::verify(root, log, side, &point, value, bytes, transcript);
        opened.or_else(|e| Check::WitnessOpening.holds(false, e))?;
        claimed.push((claims.weights, claims.weights_value, points));
    }
    Ok(claimed)
}

/// Checks what is said of the runs where it is hidden (docs/proof.md, "Hiding"), in one stage.
fn hidden_runs<'a, 'b>(
    stages: &'a Stages,
    mut receiver: Receiver<'b>,
) -> Result<(Claimed<'a>, Receiver<'b>), VerifyError> {
    let [plan] = &stages.plans[..] else {
        return Err(VerifyError::StatementShape {
            field: "nodes",
            why: "hidden runs have one stage".into(),
        });
    };
    let mut root = |label| proof::receive_root(&mut receiver, label);
    let roots = [root(proof::WITNESS)?, root(proof::MASK)?];
    let mut veiled = Veiled::new(receiver);
    links::listen(stages, &mut veiled)?;
    let session = session::listen(plan, &mut veiled)?;
    products::verify(&mut veiled)?;
    let Veiled {
        mut receiver,
        record,
    } = veiled;

    // all that must hold of the witness is one claim, and so it is of what masks it
    let gamma = receiver.transcript().challenge();
    let claims = session.claims(gamma);
    let mut points = session.points;
    let (functional, value) = hiding::settle(&mut points, plan, &claims, gamma, &record)?;
    let [mask] = receiver.receive(hiding::MASK, 1)?[..] else {
        return Err(VerifyError::Sumcheck {
            label: hiding::MASK,
        });
    };
    let factor = hiding::draw_factor(&mut receiver.transcript);
    let (point, value) = reduced(
        plan,
        (&functional, &points),
        (&session.looked.leaves, claims.lookup_factors),
        value + factor * mask,
        &mut receiver,
    )?;
    let log = plan.witness.log;
    let bytes = receiver.section(pcs::opening_cap(log, Side::Hidden))?;
    let claim = (&point[..], value);
    let transcript = &mut receiver.transcript;
    let opened = pcs::hiding::verify(roots, factor, log, claim, bytes, transcript);
    opened.or_else(|e| Check::WitnessOpening.holds(false, e))?;
    Ok(((claims.weights, claims.weights_value, points), receiver))
}

/// Opens the pieces of the weights at what all stages claim of them.
fn pieces_of_weights(
    key: &Key,
    shards: &Shards,
    claims: &[OfWeights<'_>],
    value: EF,
    receiver: &mut Receiver<'_>,
) -> Result<(), VerifyError> {
    let (label, side) = ("weights", Side::Weights);
    if key.roots.len() != shards.logs.len() {
        return Err(PlanError::Key("it has roots of other weights".into()).into());
    }
    // what each piece adds to the claim; the last one is what remains
    let mut rest = value;
    let said = receiver.receive("pieces of the weights", shards.logs.len() - 1)?;
    for (shard, (log, root)) in shards.logs.iter().zip(&key.roots).enumerate() {
        let part = said.get(shard).copied().unwrap_or(rest);
        rest -= part;
        let order = reduce::Order::LowestFirst;
        let (point, value, claim) = reduce::verify(label, order, part, *log, receiver)?;
        let place = |tile: &Tile| Shards::offset(shard, tile);
        let at = |c: &OfWeights<'_>| {
            c.factor * c.functional.at(&c.points, &shards.layout, &point, place)
        };
        let functional: EF = claims.iter().map(at).sum();
        Check::Weights.holds(functional * value == claim, VerifyError::Sumcheck { label })?;
        let bytes = receiver.section(pcs::opening_cap(*log, side))?;
        let transcript = &mut receiver.transcript;
        let opened = pcs::verify(root, *log, side, &point, value, bytes, transcript);
        opened.or_else(|e| Check::WeightsOpening.holds(false, e))?;
    }
    Ok(())
}

/// From the claims on the witness to its value at one point.
fn reduced(
    plan: &Plan,
    (functional, points): (&Functional, &Points<'_>),
    (leaves, factors): (&lookup::Leaves, [EF; 3]),
    claim: EF,
    receiver: &mut Receiver<'_>,
) -> Result<(Vec<EF>, EF), VerifyError> {
    let label = "witness";
    let order = reduce::Order::HighestFirst;
    let (point, value, claim) = reduce::verify(label, order, claim, plan.witness.log, receiver)?;
    let at = functional.at(points, &plan.witness, &point, |tile| Some(tile.offset))
        + leaves.at(plan, factors, &point);
    Check::Witness.holds(at * value == claim, VerifyError::Sumcheck { label })?;
    Ok((point, value))
}

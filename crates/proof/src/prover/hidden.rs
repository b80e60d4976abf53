//! The prover's part of hiding mode: randomness, and everything between the last message about the runs and the opening.

use assay_graph::Tensor;
use p3_field::PrimeCharacteristicRing;

use super::whole;
use crate::{
    error::{PlanError, ProveError},
    field::{DEGREE, EF, F},
    functional::{Functional, Points},
    hiding::{self, listen::Veiled, products},
    links,
    packed::{self, element},
    pcs::hiding::{Masked, Random, commit},
    plan::{Plan, stages::Stages},
    proof, reduce, session,
    statement::Statement,
    transcript::{Channel, Receiver, Sender, Transcript},
};

/// Randomness of the operating system, and a hash of what is proven, so that a machine that repeats its randomness does not use it for two runs.
///
/// # Errors
/// [`ProveError::Randomness`].
pub(super) fn random<'a>(
    statement: &Statement,
    inputs: impl Iterator<Item = &'a Tensor>,
) -> Result<Random, ProveError> {
    let mut fresh = [0; 32];
    getrandom::fill(&mut fresh).map_err(|e| ProveError::Randomness(e.to_string()))?;
    let mut hasher = blake3::Hasher::new_keyed(&fresh);
    hasher.update(&statement.encode());
    for input in inputs {
        hasher.update(&input.data.to_bytes());
    }
    Ok(Random::new(hasher.finalize().as_bytes()))
}

/// Commits to the cells, and to pads and mask. Returns the pads, too.
///
/// # Errors
/// As [`commit`].
pub(super) fn conceal(
    plan: &Plan,
    mut cells: Vec<F>,
    random: &mut Random,
) -> Result<(Masked, Vec<EF>), PlanError> {
    let pads: Vec<F> = (0..DEGREE * plan.pads).map(|_| random.base()).collect();
    plan.witness
        .scatter(plan.pad_tensor(), &pads, &mut cells, |v: F| v);
    let masked = commit(plan.witness.log, cells, plan.random_cells(), random)?;
    let pads = pads.chunks_exact(DEGREE);
    Ok((masked, pads.map(|c| element(|k| c[k])).collect()))
}

/// Proves what the verifier noted while it heard what was sent since the transcript's `start`, and opens the witness. Returns what is claimed of the weights.
///
/// # Errors
/// [`ProveError`]: none for messages of a prover.
pub(super) fn finish<'a>(
    (stages, plan): (&Stages, &'a Plan),
    start: Transcript,
    masked: Masked,
    sender: &mut Sender<'_>,
) -> Result<(Functional, EF, Points<'a>), ProveError> {
    let wrong = |e: crate::VerifyError| ProveError::Runs(e.to_string());
    let mut veiled = Veiled::new(Receiver::new(start, &sender.bytes));
    for label in [proof::WITNESS, proof::MASK] {
        proof::receive_root(&mut veiled.receiver, label).map_err(wrong)?;
    }
    links::listen(stages, &mut veiled).map_err(wrong)?;
    let session = session::listen(plan, &mut veiled).map_err(wrong)?;
    let (record, offset) = (veiled.record, veiled.receiver.offset());
    let transcript = veiled.receiver.transcript;
    products::prove(&record, sender);
    let mut veiled = Veiled {
        receiver: Receiver::resume(transcript, &sender.bytes, offset),
        record,
    };
    products::verify(&mut veiled).map_err(wrong)?;
    let record = veiled.record;

    let gamma = sender.transcript().challenge();
    let claims = session.claims(gamma);
    let mut points = session.points;
    let (functional, value) =
        hiding::settle(&mut points, plan, &claims, gamma, &record).map_err(wrong)?;
    let leaves = (&session.looked.leaves, claims.lookup_factors);
    let functional = whole(plan, (&functional, &points), leaves);
    let mask = packed::dot(&functional, masked.mask());
    #[cfg(test)]
    let mask = hiding::simulated(mask, || {
        let cells = <packed::Lane as p3_field::PackedValue>::pack_slice(masked.cells());
        value - packed::sum_lanes(&packed::inner(&functional, cells))
    });
    sender.send_open(hiding::MASK, &[mask]);
    let factor = hiding::draw_factor(&mut sender.transcript);
    if factor == EF::ZERO {
        return Err(ProveError::Runs("a mask that hides nothing".into()));
    }
    let line = masked.line(factor);
    let (point, _) = reduce::prove_extension(
        "witness",
        value + factor * mask,
        functional,
        packed::pack(line.elements()),
        sender,
    );
    let opening = line.open(&point, &mut sender.transcript)?;
    sender.send_section(&opening);
    Ok((claims.weights, claims.weights_value, points))
}

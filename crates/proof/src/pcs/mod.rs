//! The commitment scheme: a vector of `2^log` base-field cells is committed by a Merkle root; later the value of its multilinear extension at one point is proven.
//!
//! Points list their coordinates from the lowest bit of the index up, as in [`crate::mle`]: the value is `Σ_i eq(point, i)·cells[i]`. The root binds to one vector (unique
//! decoding). Neither a commitment nor an opening hides anything; those of [`hiding`] do.
//!
//! The caller absorbs the root into the transcript, once, before any challenge that the point depends on, and the claimed value before the opening.

pub(crate) mod codec;
// the hiding mode of the verifier is its only user
#[allow(dead_code)]
pub(crate) mod hiding;
pub(crate) mod sponge;
#[cfg(test)]
mod tests;
pub(crate) mod trees;
pub(crate) mod whir;

use crate::{
    error::{PlanError, VerifyError},
    field::{EF, F},
    params::{MAX_LOG, MIN_LOG, Row, Side, row},
    transcript::Transcript,
};
use p3_field::PrimeCharacteristicRing;

/// A Merkle root.
pub(crate) type Root = [u8; 32];

/// A committed vector with what is needed to open it. Clones share the data.
#[derive(Clone)]
pub(crate) struct Committed {
    side: Side,
    log: usize,
    root: Root,
    data: std::sync::Arc<whir::Data>,
}

impl Committed {
    /// The commitment.
    pub(crate) fn root(&self) -> Root {
        self.root
    }

    /// The cells, `2^log` of them.
    pub(crate) fn cells(&self) -> &[F] {
        &self.data.cells()[..1 << self.log]
    }
}

/// The size used for vectors of `2^log` cells.
pub(crate) fn padded(log: usize) -> usize {
    log.max(MIN_LOG)
}

fn find(
    side: Side,
    log: usize,
) -> Result<(&'static Row<'static>, &'static whir::Scheme), PlanError> {
    let limit = PlanError::Size {
        what: side.name(),
        have: log as u32,
        limit: MAX_LOG as u32,
    };
    let row = row(side, padded(log)).ok_or(limit)?;
    match whir::scheme(side, row) {
        Some(scheme) => Ok((row, scheme)),
        None => Err(PlanError::Parameters {
            what: side.name(),
            log: row.log.into(),
        }),
    }
}

/// Commits to `2^log` cells. Deterministic; touches no transcript.
///
/// # Errors
/// [`PlanError::Size`] for sizes without parameters, [`PlanError::Parameters`] where this machine derives other ones.
///
/// # Panics
/// If the number of cells is not `2^log`.
pub(crate) fn commit(log: usize, mut cells: Vec<F>, side: Side) -> Result<Committed, PlanError> {
    let (_, scheme) = find(side, log)?;
    assert_eq!(cells.len(), 1 << log, "cells of a commitment");
    cells.resize(1 << padded(log), F::ZERO);
    let (root, data) = scheme.commit(cells);
    Ok(Committed {
        side,
        log,
        root,
        data: std::sync::Arc::new(data),
    })
}

/// Proves the value at `point`, which has `log` coordinates. The cells are copied unless this was the last clone of the commitment.
///
/// # Errors
/// As [`commit`].
///
/// # Panics
/// If the point has another number of coordinates.
pub(crate) fn open(
    committed: Committed,
    point: &[EF],
    transcript: &mut Transcript,
) -> Result<Vec<u8>, PlanError> {
    let Committed {
        side, log, data, ..
    } = committed;
    assert_eq!(point.len(), log, "coordinates of a point");
    let found = find(side, log)?;
    let data = std::sync::Arc::unwrap_or_clone(data);
    prove(found, side, data, &extended(point), transcript)
}

/// The opening of a first oracle as bytes.
fn prove(
    (row, scheme): (&Row<'_>, &whir::Scheme),
    side: Side,
    data: whir::Data,
    point: &[EF],
    transcript: &mut Transcript,
) -> Result<Vec<u8>, PlanError> {
    let mut challenger = sponge::fork(transcript);
    let proof = scheme.open(data, point, &mut challenger);
    let bytes = proof.and_then(|proof| codec::write(row, &proof));
    sponge::join(challenger, transcript);
    // can't happen: the claims of an opening fit each row
    bytes.ok_or(PlanError::Parameters {
        what: side.name(),
        log: row.log.into(),
    })
}

/// Checks the opening of a first oracle.
fn check(
    (row, scheme): (&Row<'_>, &whir::Scheme),
    side: Side,
    oracle: &trees::Oracle,
    (point, value): (&[EF], EF),
    bytes: &[u8],
    transcript: &mut Transcript,
) -> Result<(), VerifyError> {
    let line = match oracle {
        trees::Oracle::Tree(_) => None,
        trees::Oracle::Line { rho, .. } => Some(*rho),
    };
    let proof = codec::read(row, line, value, bytes)?;
    let mut challenger = sponge::fork(transcript);
    if !scheme.verify(row, oracle, point, &proof, &mut challenger) {
        return Err(VerifyError::Opening { which: side.name() });
    }
    sponge::join(challenger, transcript);
    Ok(())
}

/// Checks that the vector behind `root` has the value `value` at `point`.
///
/// # Errors
/// [`VerifyError::Decode`] with offsets from the start of `bytes`, [`VerifyError::Opening`] if the proof is wrong, [`VerifyError::Plan`] as [`commit`].
pub(crate) fn verify(
    root: &Root,
    log: usize,
    side: Side,
    point: &[EF],
    value: EF,
    bytes: &[u8],
    transcript: &mut Transcript,
) -> Result<(), VerifyError> {
    let found = find(side, log)?;
    if point.len() != log {
        return Err(VerifyError::Opening { which: side.name() });
    }
    let claim = (&extended(point)[..], value);
    let oracle = trees::Oracle::Tree(*root);
    check(found, side, &oracle, claim, bytes, transcript)
}

/// Most bytes that an opening can have; 0 for sizes without parameters.
pub(crate) fn opening_cap(log: usize, side: Side) -> usize {
    row(side, padded(log)).map_or(0, |row| codec::cap(row, side == Side::Hidden))
}

/// The point in the padded vector: zeros follow the cells.
fn extended(point: &[EF]) -> Vec<EF> {
    let mut out = point.to_vec();
    out.resize(padded(point.len()), EF::ZERO);
    out
}

//! Commitments that hide: of a vector `w`, one value of the multilinear extension of `h = w + ρ·g` is proven, where `g` is a uniform vector of extension elements, committed beside `w`,
//! and `ρ ≠ 0` a challenge drawn after both.
//!
//! What the verifier sees of the opening is a function of the roots, of `h` and of the leaves of `w` that are opened (those of `g` follow). `h` is uniform because `g` is. The leaves of `w`
//! are uniform because a run of its cells, [`random_cells`], is: a column of the word of `w` takes the values of a polynomial at the opened positions, and in `n` successive coefficients
//! there is, for any `n` nonzero positions, exactly one choice for each list of values (Vandermonde). The run has more rows than there are queries, so that each leaf that stays
//! closed has full entropy, too, and its digest says nothing.
//!
//! Soundness: the opening is WHIR for `h`, whose first oracle is the line through the two words (see [`super::trees`]). Below the radius of unique decoding, a line that is close to
//! codewords for more than [`line_error`] choices of `ρ` goes through codewords: those of the only `w` and `g` that are close. As the word of `w` has values in the base field, so has `w`.
//!
//! The caller absorbs both roots before drawing `ρ` and all that a point depends on, and the claimed value before the opening.

mod random;
#[cfg(test)]
mod tests;

use p3_field::{BasedVectorSpace, Field, PrimeCharacteristicRing};
use p3_matrix::dense::DenseMatrix;
use p3_maybe_rayon::prelude::*;

pub(crate) use random::Random;

use super::{
    Root, check, find, prove,
    trees::{COMPONENT_LOG, Kept, Oracle, components, generator},
    whir,
};
use crate::{
    error::{PlanError, VerifyError},
    field::{DEGREE, EF, F},
    params::{self, Row, Side},
    transcript::Transcript,
};

/// Smallest size, as a logarithm: room for the random cells and as many others.
pub(crate) const MIN_LOG: usize = 11;
/// Largest size, as a logarithm.
pub(crate) const MAX_LOG: usize = params::MAX_LOG - COMPONENT_LOG;
/// Random rows beyond those that are opened.
const CLOSED_ROWS: usize = 4;

/// Logarithm of the cells of `w` in a leaf.
fn fold(row: &Row<'_>) -> usize {
    usize::from(row.folds[0]) - COMPONENT_LOG
}

fn random_cells_of(row: &Row<'_>) -> usize {
    (row.opened(0) + CLOSED_ROWS) << fold(row)
}

/// How many successive cells of a vector of `2^log` cells [`commit`] makes random.
///
/// # Errors
/// As [`commit`].
pub(crate) fn random_cells(log: usize) -> Result<usize, PlanError> {
    Ok(random_cells_of(find(Side::Hidden, log)?.0))
}

/// How many choices of `ρ` are bad at most: the positions of the words, and one as zero is never drawn. Sizes without parameters count as no security at all.
pub(crate) fn line_error(log: usize) -> u64 {
    params::row(Side::Hidden, log).map_or(u64::MAX, |row| (1 << row.leaves(0)) + 1)
}

/// Draws `ρ`, not zero.
pub(crate) fn draw_rho(transcript: &mut Transcript) -> EF {
    let rho = transcript.challenge();
    if rho.is_zero() { EF::ONE } else { rho }
}

/// A committed vector `w` with its mask `g`. Not cloned: a second opening under another `ρ` would give both away.
pub(crate) struct Masked {
    log: usize,
    cells: Vec<F>,
    mask: Vec<EF>,
    roots: [Root; 2],
    trees: [whir::Word; 2],
}

/// Commits to `2^log` cells, of which [`random_cells`] from `at` on are replaced by random ones, and to a random mask.
///
/// # Errors
/// [`PlanError::Size`] for sizes without parameters, [`PlanError::Parameters`] where this machine derives other ones.
///
/// # Panics
/// If the number of cells is not `2^log`, if `at` is not a multiple of the number of random cells' next power of two, or if they end past the last cell.
pub(crate) fn commit(
    log: usize,
    mut cells: Vec<F>,
    at: usize,
    random: &mut Random,
) -> Result<Masked, PlanError> {
    let (row, _) = find(Side::Hidden, log)?;
    let count = random_cells_of(row);
    assert_eq!(cells.len(), 1 << log, "cells of a commitment");
    assert!(
        at.is_multiple_of(count.next_power_of_two()),
        "the place of the random cells"
    );
    cells[at..at + count].fill_with(|| random.base());
    let mask: Vec<F> = (0..DEGREE << log).map(|_| random.base()).collect();
    let (width, rate) = (1 << fold(row), usize::from(row.rates[0]));
    let (w, tree_w) = whir::encode(&cells, width, rate);
    let (g, tree_g) = whir::encode(&mask, width * DEGREE, rate);
    Ok(Masked {
        log,
        cells,
        mask: EF::reconstitute_from_base(mask),
        roots: [w, g],
        trees: [tree_w, tree_g],
    })
}

impl Masked {
    /// The commitments to `w` and `g`.
    pub(crate) fn roots(&self) -> [Root; 2] {
        self.roots
    }

    /// `w`, with its random cells.
    pub(crate) fn cells(&self) -> &[F] {
        &self.cells
    }

    /// `g`.
    pub(crate) fn mask(&self) -> &[EF] {
        &self.mask
    }

    /// `h = w + ρ·g`.
    ///
    /// # Panics
    /// If `ρ` is zero: nothing would be hidden.
    pub(crate) fn line(self, rho: EF) -> Line {
        assert!(!rho.is_zero(), "a mask that hides nothing");
        let Self {
            log,
            cells,
            mut mask,
            trees,
            ..
        } = self;
        mask.par_iter_mut()
            .zip(&cells)
            .for_each(|(g, w)| *g = *g * rho + *w);
        Line {
            log,
            elements: mask,
            kept: Kept::Line { trees, rho },
        }
    }
}

/// The vector `h` that takes the place of `w`.
pub(crate) struct Line {
    log: usize,
    elements: Vec<EF>,
    kept: Kept<DenseMatrix<F>>,
}

impl Line {
    /// `h`. Says nothing about `w`.
    pub(crate) fn elements(&self) -> &[EF] {
        &self.elements
    }

    /// Proves the value of `h` at `point`, which has `log` coordinates.
    ///
    /// # Errors
    /// As [`commit`].
    ///
    /// # Panics
    /// If the point has another number of coordinates.
    pub(crate) fn open(
        self,
        point: &[EF],
        transcript: &mut Transcript,
    ) -> Result<Vec<u8>, PlanError> {
        let Self {
            log,
            elements,
            kept,
        } = self;
        assert_eq!(point.len(), log, "coordinates of a point");
        let found = find(Side::Hidden, log)?;
        let data = found.1.data(components(&elements), kept);
        drop(elements);
        let (point, _) = extended(point);
        prove(found, Side::Hidden, data, &point, transcript)
    }
}

/// Checks that `h` has the value `value` at `point`.
///
/// # Errors
/// [`VerifyError::Decode`] with offsets from the start of `bytes`, [`VerifyError::Opening`] if the proof is wrong, [`VerifyError::Plan`] as [`commit`].
pub(crate) fn verify(
    roots: [Root; 2],
    rho: EF,
    log: usize,
    (point, value): (&[EF], EF),
    bytes: &[u8],
    transcript: &mut Transcript,
) -> Result<(), VerifyError> {
    let found = find(Side::Hidden, log)?;
    if point.len() != log {
        return Err(VerifyError::Opening {
            which: Side::Hidden.name(),
        });
    }
    let (point, scale) = extended(point);
    let claim = (&point[..], value * scale);
    let oracle = Oracle::Line { roots, rho };
    check(found, Side::Hidden, &oracle, claim, bytes, transcript)
}

/// The point at which the vector of the components of `h` has the value of `h` at `point`, times the returned factor.
///
/// Component `c` counts `X^c`, the product of `X^(2^b)` over the bits `b` of `c`. A coordinate `x/(1 + x)` weighs a bit with `x : 1`.
fn extended(point: &[EF]) -> (Vec<EF>, EF) {
    let mut out = Vec::with_capacity(point.len() + COMPONENT_LOG);
    let (mut x, mut scale) = (generator(), EF::ONE);
    for _ in 0..COMPONENT_LOG {
        let low = (EF::ONE + x).inverse();
        scale *= low;
        out.push(x * low);
        x = x.square();
    }
    out.extend_from_slice(point);
    (out, scale)
}

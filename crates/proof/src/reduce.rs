//! From many claims about one commitment to one: a sumcheck of `Σ_z F(z)·V(z)` where F is the functional that all claims add up to and V the committed cells.
//!
//! A round's message is the constant and the leading coefficient of its quadratic. Cells that are bound from the highest variable down lie side by side in vector registers.

use p3_field::{PackedValue, PrimeCharacteristicRing};
use rayon::prelude::*;

use crate::{
    error::VerifyError,
    field::{EF, F},
    packed::{
        Base, Extension, Lane, Matrix, Numerators, Pack, add, matrix, mul, sub, sum_lanes, unpack,
    },
    transcript::{Channel, Receiver, Sender},
};

/// Which variable a round binds.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Order {
    LowestFirst,
    HighestFirst,
}

/// Value at `r` of the quadratic with this constant and leading coefficient whose values at 0 and 1 add up to `claim`.
pub(crate) fn quadratic(claim: EF, [g0, g2]: [EF; 2], r: EF) -> EF {
    let g1 = claim - g0.double() - g2;
    (g2 * r + g1) * r + g0
}

/// Packs per task.
const GRAIN: usize = 1 << 8;

fn sums(pairs: impl IndexedParallelIterator<Item = [Pack; 2]>) -> [EF; 2] {
    let zero = [[Lane::ZERO; 5]; 2];
    let total = pairs
        .with_min_len(GRAIN)
        .reduce(|| zero, |a, b| [add(&a[0], &b[0]), add(&a[1], &b[1])]);
    total.map(|p| sum_lanes(&p))
}

/// Binds the highest variable, in place.
fn fold<'a>(v: &'a mut [Pack], r: &Matrix<F>) -> &'a mut [Pack] {
    let (low, high) = v.split_at_mut(v.len() / 2);
    let pairs = low.par_iter_mut().with_min_len(GRAIN).zip(&*high);
    pairs.for_each(|(a, b)| *a = Extension::fold(a, b, r));
    low
}

/// The prover's rounds so far.
struct Rounds<'a, 's> {
    label: &'static str,
    claim: EF,
    point: Vec<EF>,
    sender: &'a mut Sender<'s>,
}

impl Rounds<'_, '_> {
    /// Sends a round's polynomial, returns the challenge.
    fn send(&mut self, g: [EF; 2]) -> EF {
        self.sender.send_open(self.label, &g);
        let r = self.sender.transcript().challenge();
        self.claim = quadratic(self.claim, g, r);
        self.point.push(r);
        r
    }

    /// The rounds for V in the extension field, and its value.
    fn finish<'p>(mut self, mut f: &'p mut [Pack], mut v: &'p mut [Pack]) -> (Vec<EF>, EF) {
        while f.len() > 1 {
            let ((f0, f1), (v0, v1)) = (f.split_at(f.len() / 2), v.split_at(v.len() / 2));
            let pair = |((f0, f1), (v0, v1)): ((&Pack, &Pack), (&Pack, &Pack))| {
                [
                    mul(f0, &Matrix::new(v0)),
                    mul(&sub(f1, f0), &Matrix::new(&sub(v1, v0))),
                ]
            };
            let g = sums(f0.par_iter().zip(f1).zip(v0.par_iter().zip(v1)).map(pair));
            let r = matrix(&self.send(g));
            f = fold(f, &r);
            v = fold(v, &r);
        }
        // within one vector register
        let (mut f, mut v) = (unpack(f), unpack(v));
        while f.len() > 1 {
            let half = f.len() / 2;
            let pairs =
                (0..half).map(|i| [f[i] * v[i], (f[i + half] - f[i]) * (v[i + half] - v[i])]);
            let g = pairs.fold([EF::ZERO; 2], |s, g| [s[0] + g[0], s[1] + g[1]]);
            let r = self.send(g);
            for all in [&mut f, &mut v] {
                *all = (0..half)
                    .map(|i| all[i] + (all[i + half] - all[i]) * r)
                    .collect();
            }
        }
        self.point.reverse();
        let value = v.first().copied().unwrap_or(EF::ZERO);
        self.sender.send_open(self.label, &[value]);
        (self.point, value)
    }
}

/// Proves `Σ F·V = claim`, highest variable first. Returns the point, lowest variable first, and V there.
pub(crate) fn prove(
    label: &'static str,
    claim: EF,
    functional: Vec<Pack>,
    cells: &[F],
    sender: &mut Sender<'_>,
) -> (Vec<EF>, EF) {
    let mut rounds = Rounds {
        label,
        claim,
        point: Vec::with_capacity(cells.len().trailing_zeros() as usize),
        sender,
    };
    let mut both = functional;
    let half = both.len() / 2;
    let lanes = Lane::pack_slice(cells);
    let (f, v) = if half > 0 {
        // the first round meets cells of the base field; what they are folded to lies where the upper half of the functional was
        let (f0, f1) = both.split_at_mut(half);
        let (v0, v1) = lanes.split_at(half);
        let base = |((f0, f1), (v0, v1)): ((&Pack, &Pack), (&Lane, &Lane))| {
            let d = *v1 - *v0;
            [f0.map(|c| c * *v0), sub(f1, f0).map(|c| c * d)]
        };
        let g = sums(f0.par_iter().zip(&*f1).zip(v0.par_iter().zip(v1)).map(base));
        let r = matrix(&rounds.send(g));
        let all = f0.par_iter_mut().zip(&mut *f1).with_min_len(GRAIN);
        all.zip(v0.par_iter().zip(v1))
            .for_each(|((f0, f1), (v0, v1))| {
                *f0 = Extension::fold(f0, f1, &r);
                *f1 = Base::fold(v0, v1, &r);
            });
        (f0, f1)
    } else {
        let zero = Lane::ZERO;
        both.extend(lanes.iter().map(|l| [*l, zero, zero, zero, zero]));
        both.split_at_mut(1)
    };
    rounds.finish(f, v)
}

/// As [`prove`], for V in the extension field.
pub(crate) fn prove_extension(
    label: &'static str,
    claim: EF,
    mut functional: Vec<Pack>,
    mut values: Vec<Pack>,
    sender: &mut Sender<'_>,
) -> (Vec<EF>, EF) {
    let rounds = Rounds {
        label,
        claim,
        point: Vec::new(),
        sender,
    };
    rounds.finish(&mut functional, &mut values)
}

/// Checks the rounds. Returns the point, V there as claimed, and what `F·V` must be.
pub(crate) fn verify(
    label: &'static str,
    order: Order,
    mut claim: EF,
    rounds: usize,
    receiver: &mut Receiver<'_>,
) -> Result<(Vec<EF>, EF, EF), VerifyError> {
    let mut point = Vec::with_capacity(rounds);
    for _ in 0..rounds {
        let g = receiver.receive(label, 2)?;
        let [g0, g2] = g[..] else {
            return Err(VerifyError::Sumcheck { label });
        };
        let r = receiver.transcript().challenge();
        claim = quadratic(claim, [g0, g2], r);
        point.push(r);
    }
    if order == Order::HighestFirst {
        point.reverse();
    }
    let value = receiver
        .receive(label, 1)?
        .first()
        .copied()
        .ok_or(VerifyError::Sumcheck { label })?;
    Ok((point, value, claim))
}

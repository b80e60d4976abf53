//! From many claims about one commitment to one: a sumcheck of `Σ_z F(z)·V(z)` where F is the functional that all claims add up to and V the committed cells.

use p3_field::{Field, PrimeCharacteristicRing};
use rayon::prelude::*;

use crate::{
    error::VerifyError,
    field::{EF, F},
    transcript::{Channel, Receiver, Sender},
};

/// Value at `r` of the quadratic with these values at 0, 1, 2.
pub(crate) fn quadratic(g: [EF; 3], r: EF) -> EF {
    let half = EF::TWO.inverse();
    let (r1, r2) = (r - EF::ONE, r - EF::TWO);
    g[0] * r1 * r2 * half - g[1] * r * r2 + g[2] * r * r1 * half
}

/// Proves `Σ F·V = claim`. Returns the point, lowest variable first, and V there.
pub(crate) fn prove(
    label: &'static str,
    mut claim: EF,
    functional: Vec<EF>,
    cells: &[F],
    sender: &mut Sender<'_>,
) -> (Vec<EF>, EF) {
    let rounds = cells.len().trailing_zeros() as usize;
    let mut point = Vec::with_capacity(rounds);
    let mut f = functional;
    let mut v: Vec<EF> = Vec::new();
    let add = |x: [EF; 2], y: [EF; 2]| [x[0] + y[0], x[1] + y[1]];
    for round in 0..rounds {
        let pair =
            |f: &[EF], v0: EF, v1: EF| [f[0] * v0, (f[1].double() - f[0]) * (v1.double() - v0)];
        let base =
            |(f, v): (&[EF], &[F])| [f[0] * v[0], (f[1].double() - f[0]) * (v[1].double() - v[0])];
        let g = if round == 0 {
            f.par_chunks_exact(2)
                .with_min_len(1 << 10)
                .zip(cells.par_chunks_exact(2))
                .map(base)
                .reduce(|| [EF::ZERO; 2], add)
        } else {
            f.par_chunks_exact(2)
                .with_min_len(1 << 10)
                .zip(v.par_chunks_exact(2))
                .map(|(f, v)| pair(f, v[0], v[1]))
                .reduce(|| [EF::ZERO; 2], add)
        };
        sender.send(label, &g);
        let r = sender.transcript().challenge();
        claim = quadratic([g[0], claim - g[0], g[1]], r);
        let fold = |p: &[EF]| p[0] + (p[1] - p[0]) * r;
        f = f
            .par_chunks_exact(2)
            .with_min_len(1 << 10)
            .map(fold)
            .collect();
        v = if round == 0 {
            cells
                .par_chunks_exact(2)
                .with_min_len(1 << 10)
                .map(|p| r * (p[1] - p[0]) + p[0])
                .collect()
        } else {
            v.par_chunks_exact(2)
                .with_min_len(1 << 10)
                .map(fold)
                .collect()
        };
        point.push(r);
    }
    let value = v
        .first()
        .copied()
        .unwrap_or_else(|| cells.first().map_or(EF::ZERO, |c| EF::from(*c)));
    sender.send(label, &[value]);
    (point, value)
}

/// Checks the rounds. Returns the point, V there as claimed, and what `F·V` must be.
pub(crate) fn verify(
    label: &'static str,
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
        claim = quadratic([g0, claim - g0, g2], r);
        point.push(r);
    }
    let value = receiver
        .receive(label, 1)?
        .first()
        .copied()
        .ok_or(VerifyError::Sumcheck { label })?;
    Ok((point, value, claim))
}

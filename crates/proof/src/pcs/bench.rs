//! Times a choice of parameters, for `examples/whir_search.rs`.

use super::{codec, sponge, whir::Scheme};
use crate::{
    field::{EF, F},
    params::Row,
    transcript::Transcript,
};

/// What one run took.
pub(crate) struct Run {
    /// Seconds for the commitment, the opening, the check.
    pub(crate) seconds: [f64; 3],
    /// Bytes of the opening.
    pub(crate) bytes: usize,
    /// Bits of the union bound.
    pub(crate) bits: f64,
}

/// Commits, opens and checks once. `None` for choices that do not exist.
pub(crate) fn run(
    log: u8,
    rates: &[u8],
    folds: &[u8],
    cells: &[F],
    point: &[EF],
    clock: &mut dyn FnMut() -> f64,
) -> Option<Run> {
    let row = Row {
        log,
        rates,
        folds,
        queries: &[],
        query_pow: &[],
        fold_pow: &[],
        tenths: 0,
    };
    let (scheme, derived) = Scheme::derive(&row)?;
    let row = Row {
        queries: &derived.queries,
        query_pow: &derived.query_pow,
        fold_pow: &derived.fold_pow,
        ..row
    };
    let value = crate::mle::eq_table(point, p3_field::PrimeCharacteristicRing::ONE);
    let value = value.iter().zip(cells).map(|(w, c)| *w * *c).sum();
    let cells = cells.to_vec();
    let start = clock();
    let data = scheme.commit(cells);
    let committed = clock();
    let root = data.root();
    let mut challenger = sponge::fork(&mut Transcript::new(b"bench"));
    let bytes = codec::write(&row, &scheme.open(data, point, &mut challenger)?)?;
    let opened = clock();
    let mut challenger = sponge::fork(&mut Transcript::new(b"bench"));
    let proof = codec::read(&row, value, &bytes).ok()?;
    let valid = scheme.verify(&row, root, point, &proof, &mut challenger);
    let verified = clock();
    assert!(valid, "an honest opening");
    Some(Run {
        seconds: [committed - start, opened - committed, verified - opened],
        bytes: bytes.len(),
        bits: f64::from(derived.tenths) / 10.0,
    })
}

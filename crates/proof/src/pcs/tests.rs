use p3_field::{BasedVectorSpace, PrimeCharacteristicRing};

use super::*;
use crate::{mle::eq_table, params};

/// Pseudo-random field elements.
pub(super) struct Numbers(u64);

impl Numbers {
    pub(super) fn next(&mut self) -> u32 {
        self.0 = self
            .0
            .wrapping_mul(6364136223846793005)
            .wrapping_add(1442695040888963407);
        (self.0 >> 33) as u32
    }
    fn base(&mut self) -> F {
        F::from_u32(self.next())
    }
    fn point(&mut self, n: usize) -> Vec<EF> {
        (0..n)
            .map(|_| EF::from_basis_coefficients_fn(|_| self.base()))
            .collect()
    }
}

fn value_at(cells: &[F], point: &[EF]) -> EF {
    eq_table(point, EF::ONE)
        .into_iter()
        .zip(cells)
        .map(|(w, c)| w * *c)
        .sum()
}

fn transcript() -> Transcript {
    Transcript::new(b"test")
}

#[test]
fn openings_verify() {
    let mut rng = Numbers(1);
    for side in Side::ALL {
        for log in [0, 1, 6, 12] {
            let cells: Vec<F> = (0..1 << log).map(|_| rng.base()).collect();
            let point = rng.point(log);
            let committed = commit(log, cells.clone(), side).unwrap();
            assert_eq!(committed.cells(), cells);
            let root = committed.root();
            let (mut p, mut v) = (transcript(), transcript());
            let bytes = open(committed, &point, &mut p).unwrap();
            assert!(bytes.len() <= opening_cap(log, side));
            let value = value_at(&cells, &point);
            verify(&root, log, side, &point, value, &bytes, &mut v).unwrap();
            assert_eq!(p.challenge(), v.challenge(), "both transcripts go on alike");
        }
    }
}

/// The table as it has to be on this machine; printed when it isn't.
#[test]
fn parameters_are_what_p3_derives() {
    let mut wrong = false;
    for side in Side::ALL {
        println!("{}", side.name());
        for log in params::MIN_LOG..=params::MAX_LOG {
            let Some(row) = row(side, log) else {
                println!("no row for {log}");
                wrong = true;
                continue;
            };
            let (_, d) = whir::Scheme::derive(row).expect("a scheme");
            wrong |= !d.agrees(row);
            println!(
                "    new({log}, &{:?}, &{:?}, &{:?}, &{:?}, &{:?}, {}),",
                row.rates, row.folds, d.queries, d.query_pow, d.fold_pow, d.tenths
            );
        }
    }
    assert!(!wrong, "the pinned rows differ from what is derived");
}

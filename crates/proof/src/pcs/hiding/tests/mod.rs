mod bytes;
mod leaves;

use std::panic::{AssertUnwindSafe, catch_unwind};

use p3_commit::Mmcs;
use p3_field::PrimeField32;
use p3_whir::pcs::proof::QueryOpenings;

use super::{
    super::{
        codec, opening_cap, sponge,
        tests::{Numbers, value_at},
        trees::{Paths, Pruned, Trees, on_line},
    },
    *,
};
use crate::mle::eq_table;

const WRONG: Result<(), VerifyError> = Err(VerifyError::Opening {
    which: "hidden witness",
});

fn row(log: usize) -> &'static Row<'static> {
    params::row(Side::Hidden, log).unwrap()
}

/// The transcript up to the challenge `ρ`.
fn transcript(roots: &[Root; 2]) -> (Transcript, EF) {
    let mut t = Transcript::new(b"test");
    t.absorb("roots", roots.as_flattened());
    let rho = draw_rho(&mut t);
    (t, rho)
}

fn masked(log: usize, seed: u8) -> Masked {
    let cells = Numbers(seed.into()).cells(log);
    commit(log, cells, 0, &mut Random::new(&[seed; 32])).unwrap()
}

/// The value of a vector of extension elements.
fn value_of(h: &[EF], point: &[EF]) -> EF {
    let weights = eq_table(point, EF::ONE);
    weights.into_iter().zip(h).map(|(w, h)| w * *h).sum()
}

/// An opening with all that its verifier knows.
#[derive(Clone)]
struct Case {
    log: usize,
    roots: [Root; 2],
    rho: EF,
    point: Vec<EF>,
    value: EF,
    bytes: Vec<u8>,
}

impl Case {
    fn new(log: usize, seed: u8) -> Self {
        Self::of(masked(log, seed), seed)
    }

    fn of(masked: Masked, seed: u8) -> Self {
        let (log, roots) = (masked.log, masked.roots());
        let point = Numbers(u64::from(seed) + 1).point(log);
        let (mut t, rho) = transcript(&roots);
        let line = masked.line(rho);
        let value = value_of(line.elements(), &point);
        let bytes = line.open(&point, &mut t).unwrap();
        Self {
            log,
            roots,
            rho,
            point,
            value,
            bytes,
        }
    }

    /// The result; a panic fails the test with the name of the case.
    fn check(&self, name: &str) -> Result<(), VerifyError> {
        let run = || {
            let (mut t, _) = transcript(&self.roots);
            let claim = (&self.point[..], self.value);
            verify(self.roots, self.rho, self.log, claim, &self.bytes, &mut t)
        };
        catch_unwind(AssertUnwindSafe(run)).unwrap_or_else(|_| panic!("{name}: a panic"))
    }

    fn is_wrong(&self, name: &str) {
        assert_eq!(self.check(name), WRONG, "{name}");
    }

    fn is_unreadable(&self, name: &str) {
        let found = self.check(name);
        assert!(
            matches!(found, Err(VerifyError::Decode { .. })),
            "{name}: {found:?}"
        );
    }

    fn read(&self) -> Result<whir::Proof, VerifyError> {
        codec::read(row(self.log), Some(self.rho), self.value, &self.bytes)
    }

    /// Decodes, changes, encodes.
    fn changed(&self, change: impl FnOnce(&mut whir::Proof)) -> Self {
        let mut proof = self.read().unwrap();
        change(&mut proof);
        let bytes = codec::write(row(self.log), &proof).unwrap();
        Self {
            bytes,
            ..self.clone()
        }
    }
}

/// The leaves and digests of the first oracle.
fn sources(proof: &mut whir::Proof) -> (&mut Vec<Vec<F>>, &mut [Pruned; 2]) {
    let openings = match proof.whir.rounds.first_mut() {
        Some(round) => &mut round.openings,
        None => &mut proof.whir.final_openings,
    };
    match openings {
        QueryOpenings::Base(o) => match &mut o.proof {
            Paths::Line { leaves, paths } => (leaves, paths),
            Paths::Tree(_) => unreachable!(),
        },
        QueryOpenings::Extension(_) => unreachable!(),
    }
}

#[test]
fn openings_verify() {
    for log in [11, 12, 13, 14, 15, 17] {
        let cells = Numbers(log as u64).cells(log);
        let count = random_cells(log).unwrap();
        let at = if log < 13 {
            0
        } else {
            count.next_power_of_two()
        };
        let make =
            |seed: u8| commit(log, cells.clone(), at, &mut Random::new(&[seed; 32])).unwrap();
        let first = make(1);
        let random = at..at + count;
        for (i, cell) in cells.iter().enumerate() {
            assert!(random.contains(&i) || first.cells()[i] == *cell);
        }
        let replaced = random.filter(|i| first.cells()[*i] != cells[*i]).count();
        assert!(replaced + 3 > count);
        assert!(first.mask().iter().all(|g| !g.is_zero()));
        assert_eq!(first.roots(), make(1).roots());
        let other = make(2);
        assert!(first.roots()[0] != other.roots()[0] && first.roots()[1] != other.roots()[1]);

        let point = Numbers(99).point(log);
        let roots = first.roots();
        let (mut p, rho) = transcript(&roots);
        let value = value_at(first.cells(), &point) + rho * value_of(first.mask(), &point);
        let line = first.line(rho);
        assert_eq!(value_of(line.elements(), &point), value);
        let bytes = line.open(&point, &mut p).unwrap();
        let cap = opening_cap(log, Side::Hidden);
        assert!(bytes.len() <= cap && cap < bytes.len() * 2, "{log}: {cap}");
        let (mut v, _) = transcript(&roots);
        verify(roots, rho, log, (&point, value), &bytes, &mut v).unwrap();
        assert_eq!(p.challenge(), v.challenge(), "both transcripts go on alike");
    }
}

#[test]
fn sizes_are_limited() {
    let mut random = Random::new(&[0; 32]);
    for log in [0, MIN_LOG - 1, MAX_LOG + 1] {
        let result = commit(log, Vec::new(), 0, &mut random);
        assert!(matches!(result, Err(PlanError::Size { .. })));
        assert_eq!(opening_cap(log, Side::Hidden), 0);
        assert_eq!(line_error(log), u64::MAX);
        assert!(random_cells(log).is_err());
        let point = vec![EF::ONE; log];
        let mut t = Transcript::new(b"test");
        let result = verify([[0; 32]; 2], EF::ONE, log, (&point, EF::ONE), &[], &mut t);
        assert!(matches!(
            result,
            Err(VerifyError::Plan(PlanError::Size { .. }))
        ));
    }
    for log in MIN_LOG..=MAX_LOG {
        let row = row(log);
        // a leaf that stays closed has at least 8 cells, 248 bits
        assert!(fold(row) >= 3);
        assert!(random_cells(log).unwrap().next_power_of_two() <= 1 << (log - 1));
        assert!(row.opened(0) + CLOSED_ROWS < 1 << row.leaves(0));
        assert_eq!(
            line_error(log),
            (1 << (log + usize::from(row.rates[0]) - fold(row))) + 1
        );
    }
}

#[test]
#[should_panic(expected = "a mask that hides nothing")]
fn a_challenge_that_hides_nothing_is_refused() {
    let _ = masked(11, 1).line(EF::ZERO);
}

#[test]
#[should_panic(expected = "the place of the random cells")]
fn random_cells_are_aligned() {
    let cells = Numbers(1).cells(12);
    let _ = commit(12, cells, 8, &mut Random::new(&[0; 32]));
}

#[test]
fn other_statements_are_rejected() {
    for log in [11, 14] {
        let case = Case::new(log, 7);
        case.check("honest").unwrap();
        let mut wrong = case.clone();
        wrong.value += EF::ONE;
        wrong.is_wrong("value");
        for i in 0..log {
            let mut wrong = case.clone();
            wrong.point[i] += EF::ONE;
            wrong.is_wrong("point");
        }
        let mut wrong = case.clone();
        wrong.point.swap(0, 1);
        wrong.is_wrong("order of the point");
        wrong.point.pop();
        wrong.is_wrong("a short point");
        for rho in [case.rho + EF::ONE, -case.rho, EF::ONE, EF::ZERO] {
            let wrong = Case {
                rho,
                ..case.clone()
            };
            wrong.is_wrong("another challenge");
        }
        let other = Case::new(log, 8);
        let bytes = Case {
            bytes: other.bytes,
            ..case.clone()
        };
        // the numbers of repeated leaves differ, so it may not even be readable
        assert!(bytes.check("opening of others").is_err());
    }
}

/// Each root is part of what is checked, apart from its place in the transcript.
#[test]
fn other_roots_are_rejected() {
    let case = Case::new(11, 7);
    let other = Case::new(11, 8);
    let mut bit = [case.roots; 2];
    bit[0][0][31] ^= 1;
    bit[1][1][0] ^= 1;
    let lists = [
        bit[0],
        bit[1],
        [case.roots[1], case.roots[0]],
        [other.roots[0], case.roots[1]],
        [case.roots[0], other.roots[1]],
        [case.roots[0]; 2],
    ];
    for roots in lists {
        let (mut t, rho) = transcript(&case.roots);
        let claim = (&case.point[..], case.value);
        let result = verify(roots, rho, 11, claim, &case.bytes, &mut t);
        assert_eq!(result, WRONG);
        let wrong = Case {
            roots,
            ..case.clone()
        };
        wrong.is_wrong("roots");
    }
}

#[test]
fn an_opening_belongs_to_its_transcript() {
    let case = Case::new(11, 9);
    let (mut t, _) = transcript(&case.roots);
    t.absorb("more", &[]);
    let claim = (&case.point[..], case.value);
    let result = verify(case.roots, case.rho, 11, claim, &case.bytes, &mut t);
    assert_eq!(result, WRONG);
}

/// Words far from all codewords, opened with the cells that they were made from.
#[test]
fn words_far_from_the_code_are_rejected() {
    for log in [11, 14] {
        for which in [0, 1] {
            let mut far = masked(log, 4);
            (far.roots[which], far.trees[which]) = whir::spoiled(&far.trees[which]);
            Case::of(far, 4).is_wrong("a word that is no codeword");
        }
    }
}

/// An opening by a prover that has other cells or masks than those committed.
#[test]
fn opened_cells_are_those_committed() {
    for log in [11, 14] {
        let mut lie = masked(log, 5);
        lie.cells[1] += F::ONE;
        Case::of(lie, 5).is_wrong("other cells");
        let mut lie = masked(log, 5);
        lie.mask[3] += EF::ONE;
        Case::of(lie, 5).is_wrong("another mask");
        let (mut lie, other) = (masked(log, 5), masked(log, 6));
        lie.trees[1] = other.trees[1].clone();
        Case::of(lie, 5).is_wrong("leaves of another mask");
    }
}

#[test]
fn changed_parts_are_rejected() {
    for log in [11, 14] {
        let case = Case::new(log, 11);
        case.changed(|_| ()).check("unchanged").unwrap();
        let cells = 1 << fold(row(log));
        type Change = fn(&mut whir::Proof, usize);
        let cases: [(&str, Change); 12] = [
            ("first sumcheck", |p, _| {
                p.whir.initial_sumcheck.polynomial_evaluations[0][0] += EF::ONE;
            }),
            ("sumcheck of a component", |p, _| {
                p.whir.initial_sumcheck.polynomial_evaluations[2][1] += EF::ONE;
            }),
            ("work at the end", |p, _| p.whir.final_pow_witness += F::ONE),
            ("last polynomial", |p, _| {
                p.whir.final_poly.as_mut().unwrap().as_mut_slice()[0] += EF::ONE;
            }),
            ("a cell of a leaf", |p, _| sources(p).0[3][5] += F::ONE),
            ("a mask in a leaf", |p, cells| {
                sources(p).0[3][cells] += F::ONE;
            }),
            ("leaves swapped", |p, _| sources(p).0.swap(0, 1)),
            ("a digest of the cells", |p, _| {
                sources(p).1[0].sibling_hashes[0][0] ^= 1;
            }),
            ("a digest of the mask", |p, _| {
                sources(p).1[1].sibling_hashes[0][0] ^= 1;
            }),
            ("digests swapped", |p, _| sources(p).1.swap(0, 1)),
            ("a digest less", |p, _| {
                let _ = sources(p).1[1].sibling_hashes.pop();
            }),
            ("a digest more", |p, _| {
                sources(p).1[0].sibling_hashes.push([0; 32]);
            }),
        ];
        for (name, change) in cases {
            case.changed(|p| change(p, cells)).is_wrong(name);
        }
    }
}

/// Leaves whose cells and masks would give the same point of the line: each tree has its say.
#[test]
fn leaves_are_bound_one_by_one() {
    let case = Case::new(11, 12);
    let cells = 1 << fold(row(11));
    let shift = F::from_u32(77);
    // w + shift, g − shift/ρ
    let less = case.rho.inverse() * shift;
    let wrong = case.changed(|p| {
        let leaf = &mut sources(p).0[2];
        leaf[0] += shift;
        let less: &[F] = less.as_basis_coefficients_slice();
        for (g, d) in leaf[cells..].iter_mut().zip(less) {
            *g -= *d;
        }
    });
    let line = |case: &Case| {
        let mut proof = case.read().unwrap();
        on_line(&sources(&mut proof).0[2], case.rho)
    };
    assert_eq!(line(&case), line(&wrong));
    wrong.is_wrong("another leaf with the same point");
}

/// What WHIR works with are the points of the line, no other cells; openings as bytes can't even say something else.
#[test]
fn points_are_those_of_the_line() {
    let case = Case::new(11, 13);
    let check = |change: &dyn Fn(&mut Vec<Vec<F>>)| {
        let mut proof = case.read().unwrap();
        let round = proof.whir.rounds.first_mut();
        match round.map_or(&mut proof.whir.final_openings, |r| &mut r.openings) {
            QueryOpenings::Base(o) => change(&mut o.rows),
            QueryOpenings::Extension(_) => unreachable!(),
        }
        let (row, scheme) = find(Side::Hidden, 11).unwrap();
        let oracle = Oracle::Line {
            roots: case.roots,
            rho: case.rho,
        };
        let (mut t, _) = transcript(&case.roots);
        let (point, scale) = extended(&case.point);
        proof.evals[0] = p3_sumcheck::OpeningBatch::new(vec![case.value * scale], Vec::new());
        scheme.verify(row, &oracle, &point, &proof, &mut sponge::fork(&mut t))
    };
    assert!(check(&|_| ()));
    assert!(!check(&|rows| rows[0][0] += F::ONE));
    assert!(
        !check(&|rows| rows[0][DEGREE] += F::ONE),
        "a component too many"
    );
    assert!(!check(&|rows| drop(rows.pop())));
    // the adapter alone, without the sumchecks around it
    let masked = masked(11, 13);
    let kept = Kept::Line {
        trees: masked.trees.clone(),
        rho: case.rho,
    };
    let oracle = Oracle::Line {
        roots: masked.roots,
        rho: case.rho,
    };
    let (row, trees) = (row(11), Trees::new());
    let (values, paths) = trees.open_multi_batch(&[3, 9, 3], &kept);
    let dimensions = p3_matrix::Dimensions {
        width: 1 << row.folds[0],
        height: 1 << row.leaves(0),
    };
    let verify = |values: &[Vec<Vec<F>>], indices: &[usize]| {
        let d = [dimensions];
        trees
            .verify_multi_batch(&oracle, &d, indices, values, &paths)
            .is_ok()
    };
    assert!(verify(&values, &[3, 9, 3]));
    assert!(!verify(&values, &[3, 9, 4]));
    assert!(!verify(&values[..2], &[3, 9]));
    for at in [0, 5, 7] {
        let mut wrong = values.clone();
        wrong[1][0][at] += F::ONE;
        assert!(!verify(&wrong, &[3, 9, 3]));
    }
}

#[test]
fn components_have_the_value_of_the_elements() {
    let mut rng = Numbers(29);
    let (h, point) = (rng.point(1 << 5), rng.point(5));
    let (long, scale) = extended(&point);
    assert_eq!(
        value_at(&components(&h), &long),
        value_of(&h, &point) * scale
    );
    assert!(!scale.is_zero());
}

#[test]
fn random_elements_differ_and_spread() {
    let (mut a, mut b) = (Random::new(&[1; 32]), Random::new(&[2; 32]));
    let n = 20_000;
    let list: Vec<u32> = (0..n).map(|_| a.base().as_canonical_u32()).collect();
    let mut sorted = list.clone();
    sorted.sort_unstable();
    sorted.dedup();
    assert!(sorted.len() + 3 > n);
    assert!(!list.contains(&b.base().as_canonical_u32()));
    // the counts of 16 equal parts: chi-square with 15 degrees of freedom, below 60 but for 2^-21
    let mut counts = [0_f64; 16];
    for v in &list {
        counts[(i64::from(*v) * 16 / crate::field::MODULUS) as usize] += 1.0;
    }
    let mean = n as f64 / 16.0;
    let chi: f64 = counts.iter().map(|c| (c - mean).powi(2) / mean).sum();
    assert!(chi < 60.0, "{chi}");
    assert_ne!(a.element(), a.element());
}

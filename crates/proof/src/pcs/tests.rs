use std::panic::{AssertUnwindSafe, catch_unwind};

use p3_field::{BasedVectorSpace, PrimeCharacteristicRing};
use p3_whir::pcs::proof::QueryOpenings;

use super::*;
use crate::{field::EF_BYTES, mle::eq_table, params::MIN_LOG};

/// Pseudo-random field elements.
pub(super) struct Numbers(pub(super) u64);

impl Numbers {
    pub(super) fn next(&mut self) -> u32 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as u32
    }

    pub(super) fn cells(&mut self, log: usize) -> Vec<F> {
        (0..1 << log).map(|_| F::from_u32(self.next())).collect()
    }

    pub(super) fn point(&mut self, n: usize) -> Vec<EF> {
        let mut one = || EF::from_basis_coefficients_fn(|_| F::from_u32(self.next()));
        (0..n).map(|_| one()).collect()
    }
}

pub(super) fn value_at(cells: &[F], point: &[EF]) -> EF {
    let weights = eq_table(point, EF::ONE);
    weights.into_iter().zip(cells).map(|(w, c)| w * *c).sum()
}

/// The digests of an oracle that has one tree.
fn digests(paths: &mut trees::Paths) -> &mut Vec<Root> {
    match paths {
        trees::Paths::Tree(paths) => &mut paths.sibling_hashes,
        trees::Paths::Line { .. } => unreachable!(),
    }
}

/// The transcript as it is before an opening.
fn transcript(root: &Root) -> Transcript {
    let mut t = Transcript::new(b"test");
    t.absorb("root", root);
    t
}

/// An opening with all that its verifier knows.
#[derive(Clone)]
struct Case {
    log: usize,
    side: Side,
    root: Root,
    point: Vec<EF>,
    value: EF,
    bytes: Vec<u8>,
}

impl Case {
    fn new(log: usize, side: Side, seed: u64) -> Self {
        let mut rng = Numbers(seed);
        let cells = rng.cells(log);
        let point = rng.point(log);
        let value = value_at(&cells, &point);
        let committed = commit(log, cells, side).unwrap();
        let root = committed.root();
        let bytes = open(committed, &point, &mut transcript(&root)).unwrap();
        Self {
            log,
            side,
            root,
            point,
            value,
            bytes,
        }
    }

    /// The result; a panic fails the test with the name of the case.
    fn check(&self, name: &str) -> Result<(), VerifyError> {
        let run = || {
            let Self {
                log, side, value, ..
            } = *self;
            let mut t = transcript(&self.root);
            verify(
                &self.root,
                log,
                side,
                &self.point,
                value,
                &self.bytes,
                &mut t,
            )
        };
        catch_unwind(AssertUnwindSafe(run)).unwrap_or_else(|_| panic!("{name}: a panic"))
    }

    fn is_wrong(&self, name: &str) {
        let which = self.side.name();
        assert_eq!(
            self.check(name),
            Err(VerifyError::Opening { which }),
            "{name}"
        );
    }

    fn is_unreadable(&self, name: &str) {
        let found = self.check(name);
        assert!(
            matches!(found, Err(VerifyError::Decode { .. })),
            "{name}: {found:?}"
        );
    }

    fn row(&self) -> &'static Row<'static> {
        row(self.side, padded(self.log)).unwrap()
    }

    /// Decodes, changes, encodes.
    fn changed(&self, change: impl FnOnce(&mut whir::Proof)) -> Self {
        let mut proof = codec::read(self.row(), None, self.value, &self.bytes).unwrap();
        change(&mut proof);
        let bytes = codec::write(self.row(), &proof).unwrap();
        Self {
            bytes,
            ..self.clone()
        }
    }
}

#[test]
fn openings_verify() {
    for side in [Side::Weights, Side::Witness] {
        for log in [0, 1, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 19] {
            let mut rng = Numbers(log as u64);
            let cells = rng.cells(log);
            let point = rng.point(log);
            let committed = commit(log, cells.clone(), side).unwrap();
            assert_eq!(committed.cells(), cells);
            let root = committed.root();
            let mut p = transcript(&root);
            let bytes = open(committed.clone(), &point, &mut p).unwrap();
            let again = open(committed, &point, &mut transcript(&root)).unwrap();
            assert_eq!(bytes, again, "the same opening each time");
            let cap = opening_cap(log, side);
            assert!(bytes.len() <= cap && cap < bytes.len() * 2, "{log}: {cap}");
            let value = value_at(&cells, &point);
            let mut v = transcript(&root);
            verify(&root, log, side, &point, value, &bytes, &mut v).unwrap();
            assert_eq!(p.challenge(), v.challenge(), "both transcripts go on alike");
        }
    }
    assert!(matches!(
        commit(28, Vec::new(), Side::Weights),
        Err(PlanError::Size { .. })
    ));
    assert_eq!(opening_cap(28, Side::Witness), 0);
}

#[test]
fn roots_are_those_of_the_cells() {
    let root = |log, cells, side| commit(log, cells, side).unwrap().root();
    let cells = Numbers(5).cells(10);
    let same = root(10, cells.clone(), Side::Witness);
    assert_eq!(root(10, cells.clone(), Side::Witness), same);
    for i in [0, 511, 1023] {
        let mut other = cells.clone();
        other[i] += F::ONE;
        assert_ne!(root(10, other, Side::Witness), same);
    }
}

/// What changes these bytes is another format.
#[test]
fn openings_are_those_of_the_parameter_set() {
    for (log, side, expected) in [
        (5, Side::Weights, "3cb26d0728312d43"),
        (12, Side::Witness, "8cb4c915e4ba62b9"),
        (15, Side::Weights, "93a05e57dec09747"),
        (16, Side::Witness, "e2d33302825a3185"),
    ] {
        let case = Case::new(log, side, 31);
        let mut hasher = blake3::Hasher::new();
        hasher.update(&case.root).update(&case.bytes);
        let digest = hasher.finalize().to_hex();
        assert_eq!(&digest[..16], expected, "2^{log}");
    }
}

#[test]
fn other_statements_are_rejected() {
    for log in [4, 8, 12, 14, 16] {
        let case = Case::new(log, Side::Witness, 7);
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
        let mut wrong = case.clone();
        wrong.root[31] ^= 1;
        wrong.is_wrong("root");
        let other = Case::new(log, Side::Witness, 8);
        let root = Case {
            root: other.root,
            ..case.clone()
        };
        root.is_wrong("root of others");
        let bytes = Case {
            bytes: other.bytes,
            ..case.clone()
        };
        // the numbers of repeated leaves differ, so it may not even be readable
        assert!(bytes.check("opening of others").is_err());
    }
}

#[test]
fn an_opening_belongs_to_its_transcript() {
    let case = Case::new(12, Side::Weights, 9);
    let Case {
        root, log, side, ..
    } = case;
    let mut t = transcript(&root);
    t.absorb("more", &[]);
    let result = verify(
        &root,
        log,
        side,
        &case.point,
        case.value,
        &case.bytes,
        &mut t,
    );
    assert_eq!(result, Err(VerifyError::Opening { which: "weights" }));
}

/// An opening by a prover that has other cells than those committed.
#[test]
fn opened_cells_are_those_committed() {
    for log in [8, 14] {
        let mut rng = Numbers(3);
        let mut cells = rng.cells(log);
        let point = rng.point(log);
        let committed = commit(log, cells.clone(), Side::Witness).unwrap();
        let root = committed.root();
        cells[1] += F::ONE;
        let value = value_at(&cells, &point);
        let lie = commit(log, cells, Side::Witness).unwrap();
        let data = whir::Data::mixed((*lie.data).clone(), &committed.data);
        let lie = Committed {
            data: std::sync::Arc::new(data),
            ..lie
        };
        let bytes = open(lie, &point, &mut transcript(&root)).unwrap();
        let case = Case {
            log,
            side: Side::Witness,
            root,
            point,
            value,
            bytes,
        };
        case.is_wrong("other cells");
    }
}

/// A committed word far from all codewords, opened with the cells of one that it was made from.
#[test]
fn words_far_from_the_code_are_rejected() {
    for log in [8, 14, 16] {
        let mut rng = Numbers(4);
        let cells = rng.cells(log);
        let point = rng.point(log);
        let value = value_at(&cells, &point);
        let honest = commit(log, cells, Side::Witness).unwrap();
        let (root, data) = whir::Data::spoiled((*honest.data).clone());
        let far = Committed {
            root,
            data: std::sync::Arc::new(data),
            ..honest
        };
        let bytes = open(far, &point, &mut transcript(&root)).unwrap();
        let case = Case {
            log,
            side: Side::Witness,
            root,
            point,
            value,
            bytes,
        };
        case.is_wrong("a word that is no codeword");
    }
}

#[test]
fn changed_parts_are_rejected() {
    let case = Case::new(16, Side::Witness, 11);
    case.changed(|_| ()).check("unchanged").unwrap();
    type Change = fn(&mut whir::Proof);
    let cases: [(&str, Change); 14] = [
        ("first sumcheck", |p| {
            p.whir.initial_sumcheck.polynomial_evaluations[0][0] += EF::ONE
        }),
        ("round sumcheck", |p| {
            p.whir.rounds[1].sumcheck.polynomial_evaluations[1][1] += EF::ONE
        }),
        ("work of a round", |p| {
            p.whir.rounds[0].pow_witness += F::ONE
        }),
        ("work at the end", |p| p.whir.final_pow_witness += F::ONE),
        ("roots swapped", |p| {
            let root = p.whir.rounds[0].commitment.clone();
            p.whir.rounds[0].commitment = p.whir.rounds[1].commitment.take();
            p.whir.rounds[1].commitment = root;
        }),
        ("last polynomial", |p| {
            p.whir.final_poly.as_mut().unwrap().as_mut_slice()[0] += EF::ONE
        }),
        ("last sumcheck", |p| {
            p.whir
                .final_sumcheck
                .as_mut()
                .unwrap()
                .polynomial_evaluations[0][0] += EF::ONE;
        }),
        ("a leaf of the commitment", |p| {
            match &mut p.whir.rounds[0].openings {
                QueryOpenings::Base(o) => o.rows[3][5] += F::ONE,
                QueryOpenings::Extension(_) => unreachable!(),
            }
        }),
        ("a leaf of a round", |p| {
            match &mut p.whir.rounds[1].openings {
                QueryOpenings::Extension(o) => o.rows[3][1] += EF::ONE,
                QueryOpenings::Base(_) => unreachable!(),
            }
        }),
        ("leaves swapped", |p| match &mut p.whir.final_openings {
            QueryOpenings::Extension(o) => o.rows.swap(0, 1),
            QueryOpenings::Base(_) => unreachable!(),
        }),
        ("a digest", |p| match &mut p.whir.rounds[0].openings {
            QueryOpenings::Base(o) => digests(&mut o.proof)[0][0] ^= 1,
            QueryOpenings::Extension(_) => unreachable!(),
        }),
        ("a digest less", |p| match &mut p.whir.rounds[0].openings {
            QueryOpenings::Base(o) => drop(digests(&mut o.proof).pop()),
            QueryOpenings::Extension(_) => unreachable!(),
        }),
        ("a digest more", |p| match &mut p.whir.rounds[0].openings {
            QueryOpenings::Base(o) => digests(&mut o.proof).push([0; 32]),
            QueryOpenings::Extension(_) => unreachable!(),
        }),
        ("a sumcheck in place of another", |p| {
            let last = p.whir.rounds.len() - 1;
            let sumcheck = p.whir.rounds[last].sumcheck.clone();
            p.whir.initial_sumcheck.polynomial_evaluations[..sumcheck.num_rounds()]
                .copy_from_slice(&sumcheck.polynomial_evaluations);
        }),
    ];
    for (name, change) in cases {
        case.changed(change).is_wrong(name);
    }
}

#[test]
fn each_byte_counts() {
    // 2^6 and 2^8: no round; 2^12: one
    for (log, step) in [(3, 1), (8, 1), (12, 29)] {
        let case = Case::new(log, Side::Weights, 13);
        for at in (0..case.bytes.len()).step_by(step) {
            for flip in [1, 0x80] {
                let mut wrong = case.clone();
                wrong.bytes[at] ^= flip;
                assert!(wrong.check("a flipped bit").is_err(), "byte {at}");
            }
        }
        for len in (0..case.bytes.len()).step_by(step) {
            let mut short = case.clone();
            short.bytes.truncate(len);
            short.is_unreadable("a truncated opening");
        }
        for more in [1, 2, 32, 100_000] {
            let mut long = case.clone();
            long.bytes.resize(case.bytes.len() + more, 0);
            long.is_unreadable("an opening with more behind it");
        }
    }
}

#[test]
fn arbitrary_bytes_are_rejected() {
    let mut rng = Numbers(17);
    for log in MIN_LOG..=18 {
        for side in [Side::Weights, Side::Witness] {
            for len in [
                0,
                1,
                100,
                opening_cap(log, side),
                opening_cap(log, side) + 1,
            ] {
                for kind in 0..3 {
                    let byte = |rng: &mut Numbers| match kind {
                        0 => 0,
                        1 => 0xff,
                        _ => rng.next() as u8 & 0x7e,
                    };
                    let case = Case {
                        log,
                        side,
                        root: [1; 32],
                        point: rng.point(log),
                        value: EF::ONE,
                        bytes: (0..len).map(|_| byte(&mut rng)).collect(),
                    };
                    assert!(case.check("arbitrary bytes").is_err());
                }
            }
        }
    }
}

#[test]
fn numbers_have_one_encoding() {
    let case = Case::new(8, Side::Weights, 19);
    let add_modulus = |at: usize| {
        let mut other = case.clone();
        let word = other.bytes[at..].first_chunk_mut::<4>().unwrap();
        let v = u32::from_le_bytes(*word).checked_add(crate::field::MODULUS as u32);
        *word = v.unwrap_or(u32::MAX).to_le_bytes();
        other
    };
    let row = case.row();
    let last = usize::from(row.folds[0]) * 2 * EF_BYTES;
    let work = last + (EF_BYTES << row.last());
    add_modulus(0).is_unreadable("an element of a sumcheck");
    add_modulus(last).is_unreadable("an element of the last polynomial");
    add_modulus(work).is_unreadable("the work");
    add_modulus(work + 4 + row.opened(0).div_ceil(8)).is_unreadable("a cell of a leaf");
    // a bit that belongs to no query
    let mut other = case.clone();
    other.bytes[work + 4] |= 0x80;
    other.is_unreadable("a bit without a query");
    // the first leaf can't have been sent before
    let mut other = case.clone();
    other.bytes[work + 4] |= 1;
    other.is_unreadable("a leaf from nowhere");
}

/// Leaves that are opened twice are sent once, and must not be sent twice.
#[test]
fn leaves_are_sent_once() {
    let case = Case::new(14, Side::Witness, 23);
    let proof = codec::read(case.row(), None, case.value, &case.bytes).unwrap();
    let QueryOpenings::Base(opened) = &proof.whir.rounds[0].openings else {
        unreachable!()
    };
    let repeated = (1..opened.rows.len()).find(|i| opened.rows[..*i].contains(&opened.rows[*i]));
    let repeated = repeated.expect("136 of 2048 leaves: some are opened twice");
    // the same opening with that leaf in full
    let row = case.row();
    let bits = usize::from(row.folds[0]) * 2 * EF_BYTES + 32 + 4;
    let mut other = case.clone();
    let before = |i: &usize| other.bytes[bits + i / 8] >> (i % 8) & 1 == 0;
    let width = 4 << row.folds[0];
    let fresh = (0..repeated).filter(before).count();
    let at = bits + row.opened(0).div_ceil(8) + fresh * width + (repeated - fresh) * 2;
    other.bytes[bits + repeated / 8] ^= 1 << (repeated % 8);
    let mut leaf = Vec::new();
    for cell in &opened.rows[repeated] {
        leaf.extend_from_slice(&p3_field::PrimeField32::as_canonical_u32(cell).to_le_bytes());
    }
    other.bytes.splice(at..at + 2, leaf);
    other.is_unreadable("a leaf twice");
}

//! Against direct evaluation, and against provers that lie.

use std::time::Instant;

use p3_field::{Field, PrimeCharacteristicRing};
use proptest::prelude::*;

use super::*;
use crate::{
    error::VerifyError,
    field::{EF_BYTES, F},
    mle::eq_table,
    transcript::{Receiver, Sender, Transcript},
};

type Tamper<'a> = &'a mut dyn FnMut(&'static str, &mut Vec<EF>);

/// Elements that follow from a seed.
struct Random(u64);

impl Random {
    fn word(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn base(&mut self) -> F {
        F::from_u64(self.word())
    }

    fn element(&mut self) -> EF {
        let c: [F; 5] = std::array::from_fn(|_| self.base());
        crate::packed::element(|i| c[i])
    }
}

/// Looked up values and a table with its multiplicities, as the lookup argument stacks them, with some padding.
fn lookups(log: usize, seed: u64) -> (Vec<F>, Vec<EF>) {
    let mut random = Random(seed);
    let alpha = random.element();
    let size = 1 << log;
    let table = size / 4;
    let values = size - table - size / 8;
    let mut count = vec![0; table.max(1)];
    let mut leaves = Vec::with_capacity(size);
    for _ in 0..values {
        let v = random.word() as usize % table.max(1);
        count[v] += 1;
        leaves.push((F::ONE, alpha - F::from_usize(v)));
    }
    leaves.resize(size - table, (F::ZERO, EF::ONE));
    for (v, n) in count.iter().enumerate().take(table) {
        leaves.push((-F::from_usize(*n), alpha - F::from_usize(v)));
    }
    if table == 0 {
        // one fraction and its opposite
        leaves = vec![(F::ONE, alpha), (-F::ONE, alpha)];
    }
    leaves.into_iter().unzip()
}

fn transcript() -> Transcript {
    Transcript::new(b"gkr test")
}

/// Fractions as they are.
pub(crate) struct Given<'a>(pub(crate) &'a [F], pub(crate) &'a [EF]);

impl Leaves for Given<'_> {
    fn numerators(&self) -> &[F] {
        self.0
    }

    fn denominator(&self, i: usize) -> EF {
        self.1[i]
    }
}

fn run(p: &[F], q: &[EF], tamper: Option<Tamper<'_>>) -> (LeafClaim, Vec<u8>) {
    let mut sender = Sender::new(transcript(), tamper);
    let claim = prove(&Given(p, q), &mut sender);
    (claim, sender.bytes)
}

fn check(log: usize, bytes: &[u8]) -> Result<LeafClaim, VerifyError> {
    let mut receiver = Receiver::new(transcript(), bytes);
    let claim = verify(log, &mut receiver)?;
    match receiver.rest() {
        0 => Ok(claim),
        n => Err(VerifyError::Trailing(n)),
    }
}

/// What the caller of the verifier checks: both extensions at the point.
fn is_true(claim: &LeafClaim, p: &[F], q: &[EF]) -> bool {
    let eq = eq_table(&claim.point, EF::ONE);
    let numerator: EF = eq.iter().zip(p).map(|(e, p)| *e * *p).sum();
    let denominator: EF = eq.iter().zip(q).map(|(e, q)| *e * *q).sum();
    claim.numerator == numerator && claim.denominator == denominator
}

#[test]
fn honest_proofs_are_accepted() {
    for log in 1..=15 {
        let (p, q) = lookups(log, log as u64);
        let (claim, bytes) = run(&p, &q, None);
        assert_eq!(bytes.len(), EF_BYTES * elements(log));
        assert_eq!(claim.point.len(), log);
        assert!(is_true(&claim, &p, &q), "2^{log}");
        assert_eq!(check(log, &bytes), Ok(claim), "2^{log}");
    }
}

/// Everything random but one fraction, which makes the sum zero; its numerator is in the base field only if the others' denominators are.
#[test]
fn random_fractions() {
    for log in 1..=12 {
        let mut random = Random(100 + log as u64);
        let mut p: Vec<F> = (0..1 << log).map(|_| random.base()).collect();
        let mut q: Vec<F> = (0..1 << log).map(|_| random.base()).collect();
        let last = p.len() - 1;
        q[last] = random.base();
        let sum: F = (0..last).map(|i| p[i] * q[i].inverse()).sum();
        p[last] = -sum * q[last];
        let q: Vec<EF> = q.into_iter().map(EF::from).collect();
        let (claim, bytes) = run(&p, &q, None);
        assert!(is_true(&claim, &p, &q), "2^{log}");
        assert_eq!(check(log, &bytes), Ok(claim), "2^{log}");
    }
}

/// The prover's messages are right for fractions of any sum, only the root is refused: the layers are compared to the naive prover.
#[test]
fn messages_equal_the_naive_provers() {
    for log in 1..=11 {
        let mut random = Random(200 + log as u64);
        let p: Vec<F> = (0..1 << log).map(|_| random.base()).collect();
        let q: Vec<EF> = (0..1 << log).map(|_| random.element()).collect();
        let (claim, bytes) = run(&p, &q, None);
        let mut sender = Sender::new(transcript(), None);
        let expected = naive(&p, &q, &mut sender);
        assert!(bytes == sender.bytes, "2^{log}");
        assert_eq!(claim, expected);
        assert!(is_true(&claim, &p, &q));
        assert!(matches!(
            check(log, &bytes),
            Err(VerifyError::Lookup {
                why: "the sum is not zero"
            })
        ));
    }
}

/// The protocol as the paper has it: whole tables of `eq`, three evaluations.
fn naive(p: &[F], q: &[EF], sender: &mut Sender<'_>) -> LeafClaim {
    use crate::transcript::Channel;
    let p = p.iter().map(|v| EF::from(*v)).collect::<Vec<_>>();
    let mut layers = vec![(p, q.to_vec())];
    while layers[layers.len() - 1].0.len() > 2 {
        let (p, q) = &layers[layers.len() - 1];
        let h = p.len() / 2;
        let next = (0..h).map(|i| (p[i] * q[i + h] + p[i + h] * q[i], q[i] * q[i + h]));
        let next = next.unzip();
        layers.push(next);
    }
    let mut point: Vec<EF> = Vec::new();
    let mut values = [EF::ZERO; 2];
    for (p, q) in layers.iter().rev() {
        let k = point.len();
        let half = 1 << k;
        let mut t = [&p[..half], &p[half..], &q[..half], &q[half..]].map(<[EF]>::to_vec);
        let mut next = Vec::new();
        if k > 0 {
            let lambda = sender.transcript().challenge();
            for j in (0..k).rev() {
                let eq = eq_table(&point[..j], EF::ONE);
                let at = |x: EF| -> EF {
                    let v = |t: &[EF], y: usize| t[y] + x * (t[y + eq.len()] - t[y]);
                    (0..eq.len())
                        .map(|y| {
                            let [p0, p1, q0, q1] = [0, 1, 2, 3].map(|i| v(&t[i], y));
                            eq[y] * (p0 * q1 + p1 * q0 + lambda * q0 * q1)
                        })
                        .sum()
                };
                let (v0, v1, v2) = (at(EF::ZERO), at(EF::ONE), at(EF::TWO));
                let quadratic = (v2 - v1.double() + v0).halve();
                sender.send(ROUND, &[v1 - v0 - quadratic, quadratic]);
                let rho = sender.transcript().challenge();
                for t in &mut t {
                    *t = (0..eq.len())
                        .map(|y| t[y] + rho * (t[y + eq.len()] - t[y]))
                        .collect();
                }
                next.insert(0, rho);
            }
        }
        let [p0, p1, q0, q1] = t.map(|t| t[0]);
        sender.send(if k == 0 { ROOT } else { LAYER }, &[p0, p1, q0, q1]);
        let mu = sender.transcript().challenge();
        values = [p0 + mu * (p1 - p0), q0 + mu * (q1 - q0)];
        next.push(mu);
        point = next;
    }
    let [numerator, denominator] = values;
    LeafClaim {
        point,
        numerator,
        denominator,
    }
}

#[test]
fn a_wrong_multiplicity_is_refused() {
    for log in [1, 3, 7, 10] {
        let (p, q) = lookups(log, 7);
        for at in [0, p.len() / 2, p.len() - 1] {
            let mut p = p.clone();
            p[at] += F::ONE;
            let (_, bytes) = run(&p, &q, None);
            let why = "the sum is not zero";
            assert_eq!(check(log, &bytes), Err(VerifyError::Lookup { why }));
        }
    }
}

#[test]
fn a_zero_denominator_is_refused() {
    for log in [1, 3, 7, 10] {
        let (mut p, mut q) = lookups(log, 8);
        q[0] = EF::ZERO;
        let (_, bytes) = run(&p, &q, None);
        let why = "the sum is not zero";
        assert_eq!(check(log, &bytes), Err(VerifyError::Lookup { why }));
        // 0/0 makes every sum 0/0
        p[0] = F::ZERO;
        let (_, bytes) = run(&p, &q, None);
        let why = "a denominator is zero";
        assert_eq!(check(log, &bytes), Err(VerifyError::Lookup { why }));
        // two of them: a/0 + b/0 = 0/0
        let last = q.len() - 1;
        p[0] = F::ONE;
        q[last] = EF::ZERO;
        let (_, bytes) = run(&p, &q, None);
        assert_eq!(check(log, &bytes), Err(VerifyError::Lookup { why }));
    }
}

#[test]
fn every_altered_element_is_refused() {
    for log in [1, 2, 4, 7, 8] {
        let (p, q) = lookups(log, 9);
        for at in 0..elements(log) {
            let mut seen = 0;
            let mut root = false;
            let mut tamper = |label: &'static str, message: &mut Vec<EF>| {
                if (seen..seen + message.len()).contains(&at) {
                    message[at - seen] += EF::from(F::TWO);
                    root = label == ROOT;
                }
                seen += message.len();
            };
            let (_, bytes) = run(&p, &q, Some(&mut tamper));
            let error = check(log, &bytes).expect_err("accepted");
            if root {
                assert!(matches!(error, VerifyError::Lookup { .. }), "{at}: {error}");
            } else {
                let label = "lookup";
                assert_eq!(error, VerifyError::Sumcheck { label }, "{at}");
            }
        }
    }
}

/// Swapped numerators and denominators, in each message in turn.
#[test]
fn exchanged_claims_are_refused() {
    let log = 7;
    let (p, q) = lookups(log, 10);
    for at in 0..log {
        let mut seen = 0;
        let mut tamper = |label: &'static str, message: &mut Vec<EF>| {
            if label != ROUND {
                if seen == at {
                    message.rotate_left(2);
                }
                seen += 1;
            }
        };
        let (_, bytes) = run(&p, &q, Some(&mut tamper));
        assert!(check(log, &bytes).is_err(), "{at}");
    }
}

/// Values that satisfy the layer's equation but are not the layer's: the next layer refuses them, and after the last one the claim is false.
#[test]
fn a_consistent_lie_ends_in_a_false_claim() {
    let log = 7;
    let (p, q) = lookups(log, 11);
    for at in 0..log {
        let mut seen = 0;
        let mut tamper = |label: &'static str, message: &mut Vec<EF>| {
            if label != ROUND {
                if seen == at {
                    let (q0, q1) = (message[2], message[3]);
                    message[0] += q0;
                    message[1] -= q1;
                }
                seen += 1;
            }
        };
        let (_, bytes) = run(&p, &q, Some(&mut tamper));
        match check(log, &bytes) {
            Ok(claim) => {
                assert_eq!(at, log - 1);
                assert!(!is_true(&claim, &p, &q));
            }
            Err(e) => {
                assert!(at < log - 1);
                assert_eq!(e, VerifyError::Sumcheck { label: "lookup" });
            }
        }
    }
}

#[test]
fn another_length_is_refused() {
    let (p, q) = lookups(6, 12);
    let (_, bytes) = run(&p, &q, None);
    for log in [0, 1, 2, 5, 7, 8, 40] {
        assert!(check(log, &bytes).is_err());
    }
    for n in 0..bytes.len() {
        let error = check(6, &bytes[..n]).expect_err("accepted");
        assert!(matches!(error, VerifyError::Decode { .. }), "{n}: {error}");
    }
}

#[test]
fn soundness_terms() {
    // by hand for 8 leaves: root μ; 1 round and λ, μ; 2 rounds and λ, μ
    assert_eq!(error_degree_sum(3), 1 + (2 + 2) + (4 + 2));
    assert_eq!(error_degree_sum(1), 1);
    assert_eq!(elements(1), 4);
    assert_eq!(elements(3), 4 + 6 + 8);
}

proptest! {
    #[test]
    fn verify_never_panics(log in 0usize..9, mut bytes in proptest::collection::vec(any::<u8>(), 0..3000)) {
        prop_assert!(check(log, &bytes).is_err());
        // canonical elements get further
        bytes.iter_mut().skip(3).step_by(4).for_each(|b| *b &= 0x3f);
        prop_assert!(check(log, &bytes).is_err());
    }

    #[test]
    fn altered_bytes_are_refused(seed in any::<u64>(), at in any::<prop::sample::Index>(), change in 1u8..) {
        let (p, q) = lookups(6, seed);
        let (_, mut bytes) = run(&p, &q, None);
        let at = at.index(bytes.len());
        bytes[at] ^= change;
        if let Ok(claim) = check(6, &bytes) {
            prop_assert!(!is_true(&claim, &p, &q));
        }
    }
}

/// `RAYON_NUM_THREADS=1 cargo test --release -p assay-proof gkr_time -- --ignored --nocapture`; `GKR_LOGS` tells the sizes.
#[test]
#[ignore = "a measurement"]
fn gkr_time() {
    let logs = std::env::var("GKR_LOGS").unwrap_or("16 20 22".into());
    for log in logs.split_whitespace().map(|v| v.parse().expect("a size")) {
        let (p, q) = lookups(log, 1);
        let mut best = f64::MAX;
        for _ in 0..(1 << 24 >> log).clamp(3, 20) {
            let mut sender = Sender::new(transcript(), None);
            let start = Instant::now();
            let claim = prove(&Given(&p, &q), &mut sender);
            best = best.min(start.elapsed().as_secs_f64());
            assert_eq!(check(log, &sender.bytes), Ok(claim));
        }
        let leaf = best * 1e9 / (1u64 << log) as f64;
        let threads = rayon::current_num_threads();
        println!("2^{log}, {threads} threads: {leaf:.1} ns per leaf, {best:.4} s");
    }
}

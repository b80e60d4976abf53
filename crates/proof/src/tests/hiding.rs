//! Proofs that hide: they hold, lies don't, and a simulator that knows no input makes them too.

use std::sync::Arc;

use assay_graph::{DType, Graph, Op};
use p3_field::PrimeCharacteristicRing;

use super::{
    encoder::softmax_graph,
    operators::{Rng, graph, out, put, tensor},
    support::inputs,
};
use crate::{
    Input, Mode, Proof, ProveError, ProvingKey, VerifyError,
    field::{EF, F},
    hiding::KNOWN,
    packed::element,
    plan::Plan,
    prove, prove_hiding,
    prover::{Tamper, prove_in},
    verifier::{Check, OFF},
    verify, verify_direct,
};

/// A layer and its activation.
pub(crate) fn linear() -> Graph {
    let mut r = Rng(5);
    let rows = r.rows(5, 12, (2, 4));
    graph(tensor(DType::I8, &[3, 12], -128, 127), |b, x| {
        let weights = b.weights(DType::I8, &rows).expect("weights");
        let clamp = out(0, DType::I8, 0, 127);
        let op = Op::Linear {
            weights,
            out: clamp,
        };
        put(b, "y", op, &[x]).expect("linear");
    })
}

struct Setting {
    key: ProvingKey,
    runs: Vec<Input>,
}

fn setting() -> Setting {
    let graph = Arc::new(linear());
    let key = ProvingKey::new(Arc::clone(&graph)).expect("a key");
    let runs = inputs(&graph, 1, 2, 3);
    Setting { key, runs }
}

impl Setting {
    fn honest(&self) -> Proof {
        prove_hiding(&self.key, &self.runs, b"context", &mut |_| {}).expect("a proof")
    }

    fn lie(&self, tamper: Tamper<'_>, outputs: Option<Vec<i32>>) -> Proof {
        let runs = (&self.runs[..], outputs);
        let proof = prove_in(Mode::Hiding, &self.key, runs, b"", &mut |_| {}, tamper);
        proof.expect("a proof")
    }

    fn message(&self, lie: &mut dyn FnMut(&'static str, &mut Vec<EF>)) -> Proof {
        let tamper = Tamper {
            messages: Some(lie),
            ..Tamper::default()
        };
        self.lie(tamper, None)
    }

    fn check(&self, proof: &Proof) -> Result<(), VerifyError> {
        verify(self.key.key(), proof).map(|_| ())
    }
}

const WITNESS: VerifyError = VerifyError::Sumcheck { label: "witness" };

#[test]
fn hidden_runs_are_proven() {
    let s = setting();
    let proof = s.honest();
    assert_eq!(proof.statement.mode, Mode::Hiding);
    assert!(proof.statement.runs.iter().all(|r| r.input.is_empty()));
    let read = Proof::decode(&proof.encode()).expect("canonical");
    let verified = verify(s.key.key(), &read).expect("verifies");
    assert!(verified.budget.bits() >= 100, "{}", verified.budget);
    for term in ["hidden products", "mask", "hidden witness"] {
        assert!(verified.budget.terms().any(|t| t.0 == term), "{term}");
    }
    // the same outputs as an open proof; no two proofs are alike
    let open = prove(&s.key, &s.runs, b"context", &mut |_| {}).expect("a proof");
    for (a, b) in open.statement.runs.iter().zip(&proof.statement.runs) {
        assert_eq!(a.output, b.output);
    }
    let again = s.honest();
    assert_eq!(again.statement, proof.statement);
    let same = again.body.iter().zip(&proof.body).filter(|(a, b)| a == b);
    assert!(same.count() < proof.body.len() / 8, "other randomness");
}

/// Softmax and what it is made of: rows, sums, exponents.
#[test]
fn rows_are_hidden() {
    let graph = Arc::new(softmax_graph(
        tensor(DType::I16, &[2, 24], -3000, 0),
        300,
        2,
        14,
    ));
    let key = ProvingKey::new(Arc::clone(&graph)).expect("a key");
    let proof = prove_hiding(&key, &inputs(&graph, 1, 1, 9), b"", &mut |_| {}).expect("a proof");
    verify(key.key(), &proof).expect("verifies");
}

/// Each element of each message, changed by one, is refused.
#[test]
fn every_message_matters() {
    let s = setting();
    let mut lengths: Vec<(&'static str, usize)> = Vec::new();
    s.message(&mut |label, message| lengths.push((label, message.len())));
    for want in [
        "gkr root",
        "gkr round",
        "gkr layer",
        "lookups",
        "linear parts",
        "products",
        "operands",
        "hidden products",
        "mask",
        "witness",
        "weights",
    ] {
        assert!(lengths.iter().any(|l| l.0 == want), "no message {want}");
    }
    for (nth, (label, len)) in lengths.iter().enumerate() {
        for which in 0..*len {
            let mut count = 0;
            let proof = s.message(&mut |_, message| {
                if count == nth {
                    message[which] += EF::ONE;
                }
                count += 1;
            });
            let refusal = s.check(&proof).expect_err("a lie");
            let expected = match *label {
                "weights" => matches!(
                    refusal,
                    VerifyError::Sumcheck { label: "weights" }
                        | VerifyError::Opening { which: "weights" }
                ),
                _ => refusal == WITNESS,
            };
            assert!(expected, "{label} {nth} {which}: {refusal:?}");
        }
    }
    // roots
    for at in [3, 40] {
        let mut proof = s.honest();
        proof.body[at] ^= 1;
        assert!(s.check(&proof).is_err());
    }
    for n in [0, 31, 63, 64, 500] {
        let mut proof = s.honest();
        proof.body.truncate(n);
        assert!(matches!(s.check(&proof), Err(VerifyError::Decode { .. })));
    }
    let mut r = Rng(78);
    let honest = s.honest();
    for _ in 0..200 {
        let mut proof = honest.clone();
        let at = r.within(0, proof.body.len() as i32 - 1) as usize;
        proof.body[at] ^= 1 << (at % 8);
        assert!(s.check(&proof).is_err(), "byte {at}");
    }
    let mut longer = s.honest();
    longer.body.push(0);
    assert_eq!(s.check(&longer), Err(VerifyError::Trailing(1)));
}

/// Cells of other runs, other outputs, multiplicities that are not those of the cells.
#[test]
fn runs_are_bound() {
    let s = setting();
    let mut outputs: Vec<i32> = Vec::new();
    let honest = s.honest();
    for run in &honest.statement.runs {
        outputs.extend(run.output.iter().map(|v| i32::from(*v as i8)));
    }
    outputs[3] ^= 1;
    assert_eq!(
        s.check(&s.lie(Tamper::default(), Some(outputs))),
        Err(WITNESS)
    );
    // each cell of the input's column, and one beyond its range
    for (at, to) in [
        (0, None),
        (35, None),
        (71, None),
        (5, Some(128)),
        (6, Some(-129)),
    ] {
        let mut change = |_: &Plan, cells: &mut Vec<Vec<i32>>| {
            let cell = &mut cells[0][at];
            *cell = to.unwrap_or(*cell ^ 1);
        };
        let tamper = Tamper {
            columns: Some(&mut change),
            ..Tamper::default()
        };
        assert_eq!(s.check(&s.lie(tamper, None)), Err(WITNESS), "cell {at}");
    }
    let mut more = |counts: &mut Vec<u32>| counts[3] += 1;
    let tamper = Tamper {
        counts: Some(&mut more),
        ..Tamper::default()
    };
    assert_eq!(s.check(&s.lie(tamper, None)), Err(WITNESS));
}

/// With a check switched off, on both sides, a lie passes that is refused with it.
#[test]
fn checks_are_needed() {
    let s = setting();
    let round = |label: &'static str, nth: usize| {
        move |s: &Setting| {
            let mut count = 0;
            s.message(&mut |l, message| {
                if l == label {
                    if count == nth {
                        message[0] += EF::ONE;
                    }
                    count += 1;
                }
            })
        }
    };
    let counts = |s: &Setting| {
        let mut more = |counts: &mut Vec<u32>| counts[3] += 1;
        let tamper = Tamper {
            counts: Some(&mut more),
            ..Tamper::default()
        };
        s.lie(tamper, None)
    };
    let factors = |s: &Setting| {
        s.message(&mut |l, message| {
            if l == "hidden products" && message.len() == 2 {
                message[0] = message[0].double();
                message[1] = message[1].halve();
            }
        })
    };
    type Liar<'a> = &'a dyn Fn(&Setting) -> Proof;
    let lies: [(Check, Liar<'_>); 6] = [
        (Check::Sum, &counts),
        (Check::Layer, &round("gkr round", 4)),
        (Check::Products, &round("products", 1)),
        (Check::HiddenProducts, &round("hidden products", 2)),
        (Check::HiddenFactors, &factors),
        (Check::Witness, &round("witness", 0)),
    ];
    for (check, liar) in lies {
        assert_eq!(s.check(&liar(&s)), Err(WITNESS), "{check:?}");
        OFF.set(Some(check));
        let proof = liar(&s);
        let passes = s.check(&proof);
        OFF.set(None);
        assert_eq!(passes, Ok(()), "{check:?}");
        assert_eq!(s.check(&proof), Err(WITNESS), "{check:?}");
    }
    // a wrong value at the end is refused by the opening, too
    let last = |s: &Setting| {
        s.message(&mut |l, message| {
            if l == "witness" && message.len() == 1 {
                message[0] += EF::ONE;
            }
        })
    };
    OFF.set(Some(Check::Witness));
    let refusal = s.check(&last(&s));
    OFF.set(None);
    let which = "hidden witness";
    assert_eq!(refusal, Err(VerifyError::Opening { which }));
}

/// Who knows the mask's factor before the mask's value is said proves anything, without an input: all else that such a prover says is random. So what a proof says tells nothing.
#[test]
fn a_simulator_needs_no_run() {
    let s = setting();
    let known = EF::from_u32(12_345).square() + EF::from_u32(99);
    for seed in 0..3 {
        let mut r = Rng(seed);
        let outputs: Vec<i32> = (0..30).map(|_| r.within(0, 127)).collect();
        // no columns, no multiplicities, and messages under pads that are not the committed ones
        let mut nothing = |_: &Plan, cells: &mut Vec<Vec<i32>>| {
            cells.iter_mut().flatten().for_each(|c| *c = 0);
        };
        let mut none = |counts: &mut Vec<u32>| counts.fill(0);
        let mut others = |pads: &mut Vec<EF>| {
            for pad in pads {
                let c: Vec<i32> = (0..5).map(|_| r.within(0, i32::MAX - 1)).collect();
                *pad = element(|k| F::from_i32(c[k]));
            }
        };
        let tamper = Tamper {
            columns: Some(&mut nothing),
            counts: Some(&mut none),
            pads: Some(&mut others),
            ..Tamper::default()
        };
        KNOWN.set(Some(known));
        let proof = s.lie(tamper, Some(outputs));
        let accepted = s.check(&proof);
        KNOWN.set(None);
        assert_eq!(accepted, Ok(()));
        assert_eq!(s.check(&proof), Err(WITNESS), "an honest factor");
    }
}

/// Statements of one mode are none of another.
#[test]
fn statements_are_of_one_mode() {
    let s = setting();
    let hidden = s.honest();
    let open = prove(&s.key, &s.runs, b"context", &mut |_| {}).expect("a proof");
    let wrong = |proof: &Proof, what| {
        let refused =
            |e| matches!(e, Err(VerifyError::StatementShape { field, .. }) if field == what);
        assert!(
            refused(Proof::decode(&proof.encode()).map(|_| ())),
            "{what}"
        );
        assert!(refused(s.check(proof)), "{what}");
    };
    let mut told = hidden.clone();
    told.statement.runs[1].input = open.statement.runs[1].input.clone();
    wrong(&told, "input");
    let mut sampled = hidden.clone();
    sampled.statement.runs[0].sampling = vec![1];
    wrong(&sampled, "input");
    let mut named = hidden.clone();
    named.statement.restless = vec![1];
    wrong(&named, "nodes");
    let mut cut = hidden.clone();
    cut.statement.stage = 1000;
    wrong(&cut, "nodes");
    let mut untold = open.clone();
    untold.statement.runs[0].input.clear();
    wrong(&untold, "input");
    let mut renamed = hidden.clone();
    renamed.statement.mode = Mode::Committed;
    wrong(&renamed, "input");
    let mut renamed = open;
    renamed.statement.mode = Mode::Hiding;
    wrong(&renamed, "input");
    // with what the other mode says of the runs, but the messages of its own
    renamed
        .statement
        .runs
        .iter_mut()
        .for_each(|r| r.input.clear());
    assert!(s.check(&renamed).is_err());
    let graph = Arc::clone(&s.key.graph);
    assert!(matches!(
        verify_direct(&graph, &hidden),
        Err(VerifyError::Unknown { what: "mode", .. })
    ));
    let mut other = hidden;
    other.statement.context = b"another".to_vec();
    assert_eq!(s.check(&other), Err(WITNESS));
}

/// What can't be hidden is refused with a reason.
#[test]
fn refusals() {
    let s = setting();
    let bare = ProvingKey::direct(Arc::clone(&s.key.graph)).expect("a key");
    let refusal = prove_hiding(&bare, &s.runs, b"", &mut |_| {});
    assert!(matches!(refusal, Err(ProveError::Runs(_))));
    // a range that the field does not hold
    let wide = graph(tensor(DType::I32, &[4], -(1 << 29), 1 << 29), |b, x| {
        let op = Op::Requant {
            out: out(20, DType::I16, -2048, 2047),
        };
        put(b, "y", op, &[x]).expect("requant");
    });
    let key = ProvingKey::new(Arc::new(wide)).expect("a key");
    let runs = inputs(&key.graph, 1, 1, 3);
    assert!(prove(&key, &runs, b"", &mut |_| {}).is_ok());
    let refusal = prove_hiding(&key, &runs, b"", &mut |_| {});
    let range = |e: &ProveError| {
        matches!(
            e,
            ProveError::Plan(crate::PlanError::Range { op: "input", .. })
        )
    };
    assert!(refusal.as_ref().is_err_and(range), "{refusal:?}");
}

//! The interactive part alone, by a verifier that is told the pads: which check sees which lie, and what nothing is said about.

use std::{collections::BTreeSet, sync::Arc};

use assay_graph::{Extent, Graph};
use p3_field::PrimeCharacteristicRing;

use super::{
    expr::Expr,
    listen::{Record, Veiled},
    products,
};
use crate::{
    Mode, Proof, ProvingKey,
    compile::Source,
    field::{EF, EF_BYTES, decode},
    links,
    listener::Listener,
    lookup::gkr,
    plan::{facts::Facts, stages::Stages},
    proof,
    prover::{Tamper, prove_in},
    session,
    tests::{hiding::linear, support::inputs},
    transcript::{Receiver, Sender, Transcript},
    verifier::Check,
};

/// What a verifier notes, and the pads.
struct Heard {
    pads_of_plan: usize,
    record: Record,
    pads: Vec<EF>,
    /// For each atom whether it is one of the weights.
    weights: Vec<bool>,
    body: Vec<u8>,
}

/// The verifier's plan of a hidden run.
fn stages(key: &ProvingKey, proof: &Proof) -> Stages {
    let statement = &proof.statement;
    let (inputs, outputs) = statement.tensors(&key.key.structure).expect("a statement");
    let source = Source {
        structure: &key.key.structure,
        consts: None,
        runs: statement.runs.len(),
        extent: Extent {
            seq: statement.seq,
            out: statement.out,
        },
        inputs: Arc::new(inputs),
        hidden: true,
        outputs: Some(Arc::new(outputs)),
        restless: &[],
        samplings: &[],
    };
    let facts = Facts::Replay {
        facts: Arc::clone(&key.key.facts),
        next: 0,
    };
    let plan = source.compile(facts, false).expect("plans").plan;
    Stages::new(plan, 0).expect("a stage")
}

/// An honest run, but for what is changed: `more` is added to a multiplicity, and messages are `lie`'s.
fn heard(graph: &Arc<Graph>, more: u32, lie: &mut dyn FnMut(&'static str, &mut Vec<EF>)) -> Heard {
    let key = ProvingKey::new(Arc::clone(graph)).expect("a key");
    let runs = inputs(graph, 1, 1, 3);
    let mut pads = Vec::new();
    let mut spy = |all: &mut Vec<EF>| pads.clone_from(all);
    let mut counts = |counts: &mut Vec<u32>| counts[3] += more;
    let tamper = Tamper {
        pads: Some(&mut spy),
        counts: Some(&mut counts),
        messages: Some(lie),
        ..Tamper::default()
    };
    let run = (&runs[..], None);
    let proof = prove_in(Mode::Hiding, &key, run, b"", &mut |_| {}, tamper).expect("a proof");
    let stages = stages(&key, &proof);
    let plan = &stages.plans[0];
    let transcript = proof::transcript(&proof.statement, key.key(), &stages);
    let mut veiled = Veiled::new(Receiver::new(transcript, &proof.body));
    for label in [proof::WITNESS, proof::MASK] {
        proof::receive_root(&mut veiled.receiver, label).expect("a root");
    }
    links::listen(&stages, &mut veiled).expect("elements");
    let session = session::listen(plan, &mut veiled).expect("elements");
    products::verify(&mut veiled).expect("elements");
    let record = veiled.record;
    let pads_of_plan = plan.pads;
    Heard {
        pads_of_plan,
        record,
        pads,
        weights: session.atoms.list.iter().map(|a| a.weights).collect(),
        body: proof.body,
    }
}

impl Record {
    /// The checks that fail.
    fn broken(&self, pads: &[EF]) -> BTreeSet<String> {
        let number = |id| {
            let at = self.place(id).expect("a number");
            self.heard[at] - pads[at]
        };
        let wrong = self.zeros.iter().filter(|z| z.1.value(number) != EF::ZERO);
        wrong.map(|(check, _)| format!("{check:?}")).collect()
    }
}

#[test]
fn each_check_alone_sees_some_lie() {
    let graph = Arc::new(linear());
    let honest = heard(&graph, 0, &mut |_, _| {});
    assert_eq!(honest.record.broken(&honest.pads), BTreeSet::new());
    let sees = |lie: &mut dyn FnMut(&'static str, &mut Vec<EF>), check: Check| {
        let heard = heard(&graph, 0, lie);
        let want = BTreeSet::from([format!("{check:?}")]);
        assert_eq!(heard.record.broken(&heard.pads), want);
    };
    for (label, nth, which, check) in [
        ("gkr round", 0, 0, Check::Layer),
        ("gkr round", 7, 1, Check::Layer),
        ("lookups", 0, 0, Check::Denominators),
        ("lookups", 0, 2, Check::Numerators),
        ("linear parts", 0, 0, Check::Products),
        ("products", 0, 0, Check::Products),
        ("products", 2, 2, Check::Products),
        ("hidden products", 1, 0, Check::HiddenProducts),
        ("hidden products", 3, 2, Check::HiddenProducts),
    ] {
        let mut count = 0;
        sees(
            &mut |l: &'static str, message: &mut Vec<EF>| {
                if l == label {
                    if count == nth {
                        message[which] += EF::ONE;
                    }
                    count += 1;
                }
            },
            check,
        );
    }
    // the last elements of the first message: the product of the random numbers, and an inverse that is none
    for (back, check) in [(1, Check::HiddenProducts), (2, Check::HiddenFactors)] {
        let mut first = true;
        sees(
            &mut |l: &'static str, message: &mut Vec<EF>| {
                if l == products::LABEL && std::mem::take(&mut first) {
                    let at = message.len() - back;
                    message[at] += EF::ONE;
                }
            },
            check,
        );
    }
    // values of both columns whose product is right
    sees(
        &mut |l: &'static str, message: &mut Vec<EF>| {
            if l == products::LABEL && message.len() == 2 {
                message[0] = message[0].double();
                message[1] = message[1].halve();
            }
        },
        Check::HiddenFactors,
    );
    let heard = heard(&graph, 1, &mut |_, _| {});
    let want = BTreeSet::from([format!("{:?}", Check::Sum)]);
    assert_eq!(heard.record.broken(&heard.pads), want);
}

/// Each number has a pad of its own, there are enough, and the random row's factors are in nothing but the two values that are said openly.
#[test]
fn pads_are_used_once() {
    let Heard {
        pads_of_plan,
        record,
        pads,
        ..
    } = heard(&Arc::new(linear()), 0, &mut |_, _| {});
    assert_eq!(pads.len(), pads_of_plan);
    let used = record.heard.len();
    assert!(
        used <= pads.len() && pads.len() <= used + 8,
        "{used} of {}",
        pads.len()
    );
    let first = record.values.expect("products");
    let fresh = [first as u32 - 2, first as u32 - 1];
    let mentions = |e: &Expr| {
        e.terms
            .iter()
            .any(|(id, c)| fresh.contains(id) && *c != EF::ZERO)
    };
    for [a, b] in &record.products {
        assert!(!mentions(a) && !mentions(b));
    }
    for (check, zero) in &record.zeros {
        assert_eq!(mentions(zero), *check == Check::HiddenFactors, "{check:?}");
    }
    assert_eq!(record.heard[first - 2..first], [EF::ZERO; 2]);
}

/// What can be read in a proof as it is: what concerns weights alone, two values that a random row masks, and what is said of the line.
#[test]
fn little_is_said_openly() {
    let mut said: Vec<(&'static str, Vec<EF>)> = Vec::new();
    let heard = heard(&Arc::new(linear()), 0, &mut |label, message| {
        said.push((label, message.clone()));
    });
    let opening = said.iter().position(|m| m.0 == "weights");
    said.truncate(opening.expect("the weights"));
    // behind two roots elements follow one another up to the opening
    let mut bytes = heard.body[64..].chunks_exact(EF_BYTES);
    let mut open: BTreeSet<(&str, usize)> = BTreeSet::new();
    let mut read: Vec<bool> = Vec::new();
    for (label, message) in &said {
        for (i, v) in message.iter().enumerate() {
            let plain = bytes.next().and_then(decode) == Some(*v);
            match *label {
                "operands" => read.push(plain),
                "witness" => assert!(plain),
                _ if plain => {
                    open.insert((label, i));
                }
                products::LABEL => assert_ne!(message.len(), 2, "the values of the columns"),
                _ => {}
            }
        }
    }
    assert_eq!(read, heard.weights);
    assert!(read.contains(&true) && read.contains(&false));
    let values = [0, 1].map(|i| (products::LABEL, i));
    let want = [("linear parts", 1), ("mask", 0)].into_iter().chain(values);
    assert_eq!(open, want.collect());
}

/// Fractions alone, with leaves that no commitment has.
fn fractions(p: &[crate::field::F], q: &[EF]) -> BTreeSet<String> {
    let pads: Vec<EF> = (0..500).map(|i| EF::from_u32(77 + i).square()).collect();
    let start = Transcript::new(b"hidden fractions");
    let mut sender = Sender::new(start.clone(), None);
    sender.hide(pads.clone());
    gkr::prove(&gkr::Given(p, q), &mut sender);
    let mut veiled = Veiled::new(Receiver::new(start.clone(), &sender.bytes));
    gkr::verify(3, &mut veiled).expect("elements");
    products::prove(&veiled.record, &mut sender);
    let mut veiled = Veiled::new(Receiver::new(start, &sender.bytes));
    gkr::verify(3, &mut veiled).expect("elements");
    products::verify(&mut veiled).expect("elements");
    veiled.record.broken(&pads)
}

#[test]
fn a_denominator_is_not_zero() {
    use crate::field::F;
    let mut p = [
        F::ONE,
        -F::ONE,
        F::TWO,
        -F::TWO,
        F::ONE,
        -F::ONE,
        F::ONE,
        -F::ONE,
    ];
    let mut q = [5, 5, 6, 6, 7, 7, 8, 8].map(EF::from_u32);
    assert_eq!(fractions(&p, &q), BTreeSet::new());
    // 0/0 makes every sum 0/0
    (p[2], q[2]) = (F::ZERO, EF::ZERO);
    let want = BTreeSet::from([format!("{:?}", Check::HiddenProducts)]);
    assert_eq!(fractions(&p, &q), want);
}

/// Products with what is known are no products of hidden numbers.
#[test]
fn known_factors_need_no_proof() {
    let transcript = Transcript::new(b"products");
    let mut veiled = Veiled::new(Receiver::new(transcript, &[]));
    let x = veiled.record.fresh();
    let three = Expr::from(EF::from_u32(3));
    let tripled = veiled.product(&three, &x);
    assert_eq!(tripled, veiled.product(&x, &three));
    assert_eq!(tripled.terms, [(0, EF::from_u32(3))]);
    assert_eq!(veiled.product(&three, &three).constant, EF::from_u32(9));
    let square = veiled.product(&x, &x);
    assert_eq!(veiled.record.place(square.terms[0].0), None, "not said yet");
    veiled.record.values = Some(1);
    assert_eq!(veiled.record.place(square.terms[0].0), Some(1));
}

//! A prover that lies, step by step, and as consistently as it can. Each lie is refused by the check that is there for it; with that check switched off it passes, so no check is idle.

use std::{collections::BTreeSet, sync::Arc};

use assay_graph::{DType, Data, Graph, GraphBuilder, Op, Tensor, Window};
use p3_field::PrimeCharacteristicRing;

use super::{
    operators::{Rng, graph, out, put, tensor},
    support::compiled,
};
use crate::{
    Input, Mode, Proof, ProvingKey, VerifyError,
    field::EF,
    oracle::{Violation, violations},
    plan::{Cell, Plan, Table, Tables, builder::LIES, expr::ColumnId},
    prove,
    prover::{Tamper, prove_tampered},
    verifier::{Check, OFF},
    verify, verify_direct,
};

/// A convolution with a pool and a head whose outputs need limbs and slack: every gadget of the networks without attention.
pub(super) fn model(seed: u64, nudge: i32) -> Arc<Graph> {
    let mut r = Rng(seed);
    let mut first = r.rows(3, 9, (4, 5));
    first
        .iter_mut()
        .zip([4, 5, 4])
        .for_each(|(row, shift)| row.shift = shift);
    first[1].values[4] = (first[1].values[4] + nudge).clamp(-128, 127);
    let (second, third) = (r.rows(4, 27, (7, 8)), r.rows(3, 4, (2, 3)));
    let body = |b: &mut GraphBuilder, x| {
        let w = b.weights(DType::I8, &first).expect("weights");
        let window = Window {
            kernel: [3, 3],
            stride: [1, 1],
            pad: [1; 4],
        };
        let y = put(
            b,
            "c",
            Op::Conv2d {
                weights: w,
                window,
                groups: 1,
                out: out(0, DType::I8, 0, 127),
            },
            &[x],
        )
        .expect("conv");
        let pool = Window {
            kernel: [2, 2],
            stride: [2, 2],
            pad: [0; 4],
        };
        let y = put(b, "p", Op::MaxPool { window: pool }, &[y]).expect("pool");
        let flat = put(
            b,
            "f",
            Op::Reshape {
                shape: vec![assay_graph::Dim::Fixed(27)],
            },
            &[y],
        )
        .expect("reshape");
        let w = b.weights(DType::I8, &second).expect("weights");
        let y = put(
            b,
            "h",
            Op::Linear {
                weights: w,
                out: out(0, DType::I8, -128, 127),
            },
            &[flat],
        )
        .expect("linear");
        let w = b.weights(DType::I8, &third).expect("weights");
        put(
            b,
            "y",
            Op::Linear {
                weights: w,
                out: out(0, DType::I16, -3000, 3000),
            },
            &[y],
        )
        .expect("linear");
    };
    Arc::new(graph(tensor(DType::I8, &[6, 6, 1], -128, 127), body))
}

pub(super) fn input(seed: u64) -> Input {
    let mut r = Rng(seed);
    let data: Vec<i8> = (0..36).map(|_| r.within(-128, 127) as i8).collect();
    Input {
        tensor: Tensor::new(vec![6, 6, 1], Data::I8(data)).expect("a tensor"),
        out: 1,
        sampling: None,
    }
}

struct Setting {
    key: ProvingKey,
    inputs: Vec<Input>,
    plan: Plan,
    data: Vec<Vec<i32>>,
    outputs: Vec<i32>,
}

fn setting() -> Setting {
    let key = ProvingKey::new(model(9, 0)).expect("a key");
    let inputs = vec![input(4), input(5)];
    let c = compiled(&key, &inputs);
    Setting {
        plan: c.plan,
        data: c.data.expect("cells"),
        outputs: c.outputs.expect("outputs").to_vec(),
        key,
        inputs,
    }
}

impl Setting {
    /// A proof about these cells instead of the honest ones, and these outputs.
    fn lie(&self, data: &[Vec<i32>], outputs: Option<Vec<i32>>) -> Proof {
        let mut swap = |_: &Plan, cells: &mut Vec<Vec<i32>>| *cells = data.to_vec();
        let tamper = Tamper {
            columns: Some(&mut swap),
            ..Tamper::default()
        };
        prove_tampered(
            &self.key,
            &self.inputs,
            b"claim 1",
            &mut |_| {},
            tamper,
            outputs,
        )
        .expect("a proof")
    }

    fn honest(&self) -> Proof {
        prove(&self.key, &self.inputs, b"claim 1", &mut |_| {}).expect("a proof")
    }

    fn refusal(&self, proof: &Proof) -> VerifyError {
        verify(self.key.key(), proof).expect_err("a lie")
    }
}

fn passes_without(check: Check, key: &crate::Key, proof: &Proof) -> bool {
    OFF.set(Some(check));
    let passes = verify(key, proof).is_ok();
    OFF.set(None);
    passes
}

const PRODUCTS: VerifyError = VerifyError::Sumcheck { label: "products" };
const NOT_ZERO: VerifyError = VerifyError::Lookup {
    why: "the sum is not zero",
};

/// Statement: 1 another input, 2 another output, 3 two runs' outputs exchanged. The lie is told before the transcript begins, so that only the relations can notice.
#[test]
fn inputs_and_outputs_are_bound() {
    let s = setting();
    let mut other = s.outputs.clone();
    other[2] += 1;
    let half = s.outputs.len() / 2;
    let mut exchanged = s.outputs.clone();
    exchanged.rotate_left(half);
    assert_ne!(exchanged, s.outputs);
    for outputs in [other, exchanged] {
        let proof = s.lie(&s.data, Some(outputs));
        assert_eq!(s.refusal(&proof), PRODUCTS);
        assert!(passes_without(Check::Products, s.key.key(), &proof));
    }
    let elsewhere = compiled(&s.key, &[input(4), input(6)]).data.expect("cells");
    let proof = s.lie(&elsewhere, None);
    assert_eq!(s.refusal(&proof), PRODUCTS, "cells of another input");
}

/// Statement: what is said after the proof was made changes the transcript. 6 another context, and every other part.
#[test]
fn the_statement_cannot_be_exchanged() {
    let s = setting();
    let honest = s.honest();
    assert!(verify(s.key.key(), &honest).is_ok());
    let mut changed = honest.clone();
    changed.statement.context = b"claim 2".to_vec();
    assert_eq!(
        s.refusal(&changed),
        VerifyError::Sumcheck { label: "lookup" }
    );
    let mut changed = honest.clone();
    changed.statement.runs[0].input[0] ^= 1;
    assert_eq!(
        s.refusal(&changed),
        VerifyError::Sumcheck { label: "lookup" }
    );
    let mut changed = honest.clone();
    // another output that the model could give, nearer to 0
    let output = s.outputs[s.outputs.len() / 2] as i16;
    let other = (output - output.signum() + i16::from(output == 0)).to_le_bytes();
    changed.statement.runs[1].output[..2].copy_from_slice(&other);
    assert_eq!(
        s.refusal(&changed),
        VerifyError::Sumcheck { label: "lookup" }
    );
    let mut changed = honest.clone();
    changed.statement.runs.swap(0, 1);
    assert_eq!(
        s.refusal(&changed),
        VerifyError::Sumcheck { label: "lookup" }
    );
    let mut changed = honest.clone();
    changed.statement.runs.pop();
    assert!(verify(s.key.key(), &changed).is_err(), "fewer runs");
    let mut changed = honest.clone();
    changed.statement.seq = 2;
    assert!(matches!(
        s.refusal(&changed),
        VerifyError::StatementShape {
            field: "positions",
            ..
        }
    ));
    // 12 the version, 10 the parameter set, 11 the mode
    let bytes = honest.encode();
    for (at, what) in [(0, "version"), (2, "parameter set"), (4, "mode")] {
        let mut bytes = bytes.clone();
        bytes[at] = 7;
        assert_eq!(
            Proof::decode(&bytes),
            Err(VerifyError::Unknown { what, have: 7 })
        );
    }
}

/// Identity: 7 and 8 another model's key, 9 one weight changed by 1, 11 modes, 44 the wrong commitment.
#[test]
fn the_model_is_bound() {
    let s = setting();
    let honest = s.honest();
    let near = ProvingKey::new(model(9, 1)).expect("a key");
    assert_eq!(
        verify(near.key(), &honest).expect_err("another key"),
        VerifyError::KeyMismatch
    );
    let mut renamed = honest.clone();
    renamed.statement.key_id = near.key().id();
    assert_eq!(
        verify(near.key(), &renamed).expect_err("another model"),
        VerifyError::ModelMismatch
    );

    // the prover runs other weights and says that they are the model's: first with its own commitment, then with the model's
    let mut liar = near.clone();
    liar.key = s.key.key.clone();
    liar.key.facts = Arc::clone(&near.key.facts);
    let mut key = s.key.key.clone();
    key.facts = Arc::clone(&near.key.facts);
    let proof = prove(&liar, &s.inputs, b"", &mut |_| {}).expect("a proof");
    assert_eq!(
        verify(&key, &proof).expect_err("other weights"),
        VerifyError::Opening { which: "weights" }
    );
    assert!(passes_without(Check::WeightsOpening, &key, &proof));
    let c = compiled(&near, &s.inputs);
    let proof = s.lie(&c.data.expect("cells"), c.outputs.map(|o| o.to_vec()));
    assert_eq!(s.refusal(&proof), PRODUCTS, "columns of other weights");

    // a commitment is needed, and a proof to those who hold the weights is none for those who do not
    let bare = ProvingKey::direct(model(9, 0)).expect("a key");
    let direct = prove(&bare, &s.inputs, b"", &mut |_| {}).expect("a proof");
    assert!(verify_direct(&model(9, 0), &direct).is_ok());
    assert_eq!(
        s.refusal(&direct),
        VerifyError::Unknown {
            what: "mode",
            have: 1
        }
    );
    let mut shown = direct.clone();
    shown.statement.mode = Mode::Committed;
    shown.statement.key_id = s.key.key().id();
    assert!(verify(s.key.key(), &shown).is_err());
    assert!(verify_direct(&model(9, 0), &honest).is_err());
    // a direct proof of columns that other weights gave
    let near_bare = ProvingKey::direct(model(9, 1)).expect("a key");
    let mut swapped = near_bare.clone();
    swapped.key = bare.key.clone();
    swapped.key.facts = Arc::clone(&near_bare.key.facts);
    let proof = prove(&swapped, &s.inputs, b"", &mut |_| {}).expect("a proof");
    assert!(verify_direct(&model(9, 0), &proof).is_err());
}

/// One cell of each column, one up and one down: the oracle and the verifier refuse the same, for the same kind of reason.
#[test]
fn no_cell_can_be_another() {
    let s = setting();
    for id in 0..s.data.len() {
        for step in [1, -1] {
            let mut data = s.data.clone();
            let at = data[id].len() / 2;
            data[id][at] += step;
            let found = violations(&s.plan, s.key.graph.consts(), &data);
            let proof = s.lie(&data, None);
            let refusal = s.refusal(&proof);
            match found.first() {
                Some(Violation::Cell(_)) => assert_eq!(refusal, NOT_ZERO, "column {id}"),
                Some(Violation::Relation { .. }) => assert_eq!(refusal, PRODUCTS, "column {id}"),
                None => panic!("column {id} may be anything: {step}"),
            }
        }
    }
}

/// The plan of a statement with other outputs.
fn with_outputs(plan: &Plan, outputs: Vec<i32>) -> Plan {
    let mut plan = plan.clone();
    if let Some(public) = plan.publics.last_mut() {
        public.data = Arc::new(outputs);
    }
    plan
}

/// The lie that violates only the given kind of constraint: found by letting every other column follow. Together the lies show that each relation and each table is needed.
#[test]
fn each_constraint_alone_stops_some_lie() {
    let s = setting();
    let mut alone: BTreeSet<(u32, &'static str)> = BTreeSet::new();
    let mut tables: BTreeSet<ColumnId> = BTreeSet::new();
    let mut note = |plan: &Plan, data: &[Vec<i32>]| {
        if let [one] = &violations(plan, s.key.graph.consts(), data)[..] {
            match one {
                Violation::Cell(id) => {
                    tables.insert(*id);
                }
                Violation::Relation { label, node, .. } => {
                    alone.insert((*node, label));
                }
            }
        }
    };
    // single cells, by steps that stay in a table or leave it
    for id in 0..s.data.len() {
        for step in [1, -1, 2, 16, 256, -256, 1 << 12, -(1 << 12), 1 << 20] {
            for at in [0, s.data[id].len() / 2, s.data[id].len() - 1] {
                let mut data = s.data.clone();
                data[id][at] += step;
                note(&s.plan, &data);
            }
        }
    }
    // two cells that a relation ties: remainder and quotient, limbs, key and value
    for a in 0..s.data.len() {
        for b in a + 1..s.data.len().min(a + 8) {
            if s.data[a].len() != s.data[b].len() {
                continue;
            }
            for (x, y) in [
                (1, 1),
                (1, -1),
                (-1, 1),
                (-1, -1),
                (256, -1),
                (-256, 1),
                (1, -256),
                (-1, 256),
                (1, -2),
                (-1, 2),
                (1, 2),
                (8, -1),
                (-8, 1),
                (1, -8),
                (-1, 8),
                (16, -1),
                (-16, 1),
                (1, -16),
                (-1, 16),
                (32, -1),
                (1, -32),
                (-1, 32),
            ] {
                for at in [0, 1, s.data[a].len() / 2, s.data[a].len() - 1] {
                    let mut data = s.data.clone();
                    data[a][at] += x;
                    data[b][at] += y;
                    note(&s.plan, &data);
                }
            }
        }
    }
    // a clamped value one lower or higher, with all that follows from it, and the statement says the wrong output too
    for (claim, at) in ["clamped", "quotient"]
        .into_iter()
        .flat_map(|c| (0..64).map(move |at| (c, at)))
    {
        for (node, step) in (0..s.key.graph.nodes().len() as u32).flat_map(|n| [(n, 1), (n, -1)]) {
            LIES.set(vec![(claim, Some(node), at, step)]);
            let lie = compiled(&s.key, &s.inputs);
            LIES.set(Vec::new());
            note(&lie.plan, &lie.data.expect("cells"));
        }
    }
    // a quotient one lower where the clamp hides it, with a remainder that makes up for it; a loser of a pool one higher
    let pairs: Vec<ColumnId> = (0..s.plan.columns.len())
        .filter(|c| s.plan.columns[*c].partner.is_some())
        .collect();
    let step = |data: &mut Vec<Vec<i32>>, column: ColumnId, at: usize, by: i32| {
        if let Some(cell) = data.get_mut(column).and_then(|c| c.get_mut(at)) {
            *cell += by;
        }
    };
    for quotient in &pairs {
        let clamped = s.plan.columns[*quotient].partner.expect("a value");
        for at in (0..s.data[*quotient].len()).step_by(3) {
            for (by, k) in [(-1, 4), (-1, 5), (-1, 7), (-1, 8), (1, 4), (1, 7)] {
                let mut data = s.data.clone();
                step(&mut data, *quotient, at, by);
                step(&mut data, clamped + 1, at, -by << k);
                note(&s.plan, &data);
            }
        }
    }
    for difference in &pairs {
        for at in (0..s.data[0].len()).step_by(5) {
            let [run, y, x, c] = [at / 108, at / 18 % 6, at / 3 % 6, at % 3];
            if y % 2 == 0 && x % 2 == 0 {
                let mut data = s.data.clone();
                step(&mut data, 1, at, 1);
                step(
                    &mut data,
                    *difference,
                    ((run * 3 + y / 2) * 3 + x / 2) * 3 + c,
                    1,
                );
                note(&s.plan, &data);
            }
        }
    }
    // outputs that the columns do not give
    let mut other = s.outputs.clone();
    other[0] += 1;
    note(&with_outputs(&s.plan, other), &s.data);
    let relations: BTreeSet<(u32, &'static str)> =
        s.plan.relations.iter().map(|r| (r.node, r.label)).collect();
    // a gadget is the same in all nodes
    let kinds = |all: &BTreeSet<(u32, &'static str)>| -> BTreeSet<&'static str> {
        all.iter().map(|(_, label)| *label).collect()
    };
    assert_eq!(
        kinds(&alone),
        kinds(&relations),
        "relations that stop a lie that nothing else stops"
    );
    // of the lookups: ranges of limbs, ranges that depend on the row, functions
    let kind = |id: &ColumnId| match &s.plan.columns[*id].cell {
        Cell::Key(Tables::One(c)) => Some((
            false,
            matches!(s.plan.tables[c.table], Table::Function { .. }),
        )),
        Cell::Key(Tables::Axis { choices, .. }) => Some((
            true,
            matches!(s.plan.tables[choices[0].table], Table::Function { .. }),
        )),
        Cell::Value { .. } | Cell::Copy => None,
    };
    let all: BTreeSet<(bool, bool)> = s.plan.leaf_columns.iter().filter_map(kind).collect();
    let needed: BTreeSet<(bool, bool)> = tables.iter().filter_map(kind).collect();
    assert_eq!(
        needed, all,
        "kinds of lookups that stop a lie that nothing else stops"
    );
}

/// Lookups: 35 a multiplicity off by one, 37 a value outside, 38 a row of another table, 39 and 40 the fractions' messages.
#[test]
fn lookups_hold() {
    let s = setting();
    let mut more = |counts: &mut Vec<u32>| counts[3] += 1;
    let tamper = Tamper {
        counts: Some(&mut more),
        ..Tamper::default()
    };
    let proof = prove_tampered(&s.key, &s.inputs, b"", &mut |_| {}, tamper, None).expect("a proof");
    assert_eq!(s.refusal(&proof), NOT_ZERO);
    // a clamp's value taken from the rows of a range: same key, value 0
    let pair = s
        .plan
        .columns
        .iter()
        .position(|c| c.partner.is_some())
        .expect("a pair");
    let value = s.plan.columns[pair].partner.expect("a partner");
    let mut data = s.data.clone();
    let at = data[value].iter().position(|v| *v != 0).expect("a value");
    data[value][at] = 0;
    assert_eq!(s.refusal(&s.lie(&data, None)), NOT_ZERO);
    let altered = |label: &'static str, which: usize, to: Option<EF>| {
        let mut first = true;
        let mut lie = |l: &'static str, message: &mut Vec<EF>| {
            if l == label && first {
                first = false;
                message[which] = to.unwrap_or(message[which] + EF::ONE);
            }
        };
        let tamper = Tamper {
            messages: Some(&mut lie),
            ..Tamper::default()
        };
        s.refusal(
            &prove_tampered(&s.key, &s.inputs, b"", &mut |_| {}, tamper, None).expect("a proof"),
        )
    };
    assert_eq!(altered("gkr root", 0, None), NOT_ZERO);
    for which in 0..3 {
        let why = if which == 2 {
            "the numerators are not those of the multiplicities"
        } else {
            "the denominators are not those of the cells"
        };
        assert_eq!(altered("lookups", which, None), VerifyError::Lookup { why });
    }
    // consistent claims about cells that were not committed pass the lookups, and the witness contradicts them
    for (check, which) in [(Check::Denominators, 0), (Check::Numerators, 2)] {
        let mut lie = |l: &'static str, message: &mut Vec<EF>| {
            if l == "lookups" {
                message[which] += EF::ONE;
            }
        };
        let tamper = Tamper {
            messages: Some(&mut lie),
            ..Tamper::default()
        };
        let proof =
            prove_tampered(&s.key, &s.inputs, b"", &mut |_| {}, tamper, None).expect("a proof");
        OFF.set(Some(check));
        let refusal = verify(s.key.key(), &proof);
        OFF.set(None);
        assert_eq!(
            refusal.expect_err("a lie"),
            VerifyError::Sumcheck { label: "witness" }
        );
    }
}

/// 42, 43: every element of every message, changed by one, is refused.
#[test]
fn every_message_matters() {
    let s = setting();
    let mut lengths: Vec<(&'static str, usize)> = Vec::new();
    let mut record =
        |label: &'static str, message: &mut Vec<EF>| lengths.push((label, message.len()));
    let tamper = Tamper {
        messages: Some(&mut record),
        ..Tamper::default()
    };
    prove_tampered(&s.key, &s.inputs, b"", &mut |_| {}, tamper, None).expect("a proof");
    let mut labels: Vec<&str> = lengths.iter().map(|l| l.0).collect();
    labels.dedup();
    let known: BTreeSet<&str> = labels.into_iter().collect();
    for want in [
        "gkr root",
        "gkr round",
        "gkr layer",
        "lookups",
        "linear parts",
        "products",
        "operands",
        "witness",
        "weights",
    ] {
        assert!(known.contains(want), "no message {want}");
    }
    for (nth, (label, len)) in lengths.iter().enumerate() {
        for which in [0, len.saturating_sub(1)] {
            if *len == 0 {
                continue;
            }
            let mut count = 0;
            let mut lie = |_: &'static str, message: &mut Vec<EF>| {
                if count == nth {
                    message[which] += EF::ONE;
                }
                count += 1;
            };
            let tamper = Tamper {
                messages: Some(&mut lie),
                ..Tamper::default()
            };
            let proof =
                prove_tampered(&s.key, &s.inputs, b"", &mut |_| {}, tamper, None).expect("a proof");
            let refusal = s.refusal(&proof);
            let expected = match *label {
                "products" | "linear parts" => {
                    matches!(refusal, VerifyError::Sumcheck { label: "products" })
                }
                "operands" => matches!(
                    refusal,
                    VerifyError::Sumcheck {
                        label: "products" | "witness" | "weights"
                    }
                ),
                "witness" => matches!(
                    refusal,
                    VerifyError::Sumcheck { label: "witness" }
                        | VerifyError::Opening { which: "witness" }
                ),
                "weights" => matches!(
                    refusal,
                    VerifyError::Sumcheck { label: "weights" }
                        | VerifyError::Opening { which: "weights" }
                ),
                _ => matches!(
                    refusal,
                    VerifyError::Lookup { .. } | VerifyError::Sumcheck { label: "lookup" }
                ),
            };
            assert!(expected, "{label} {nth} {which}: {refusal:?}");
        }
    }
}

/// The checks of the two reductions are needed: a wrong claim that nothing else sees.
#[test]
fn reductions_are_checked() {
    let s = setting();
    for (label, check) in [("witness", Check::Witness), ("weights", Check::Weights)] {
        let mut first = true;
        let mut lie = |l: &'static str, message: &mut Vec<EF>| {
            if l == label && first {
                first = false;
                message[0] += EF::ONE;
            }
        };
        let tamper = Tamper {
            messages: Some(&mut lie),
            ..Tamper::default()
        };
        let proof =
            prove_tampered(&s.key, &s.inputs, b"", &mut |_| {}, tamper, None).expect("a proof");
        assert_eq!(s.refusal(&proof), VerifyError::Sumcheck { label });
        assert!(passes_without(check, s.key.key(), &proof), "{label}");
    }
}

/// 49, 50: every byte, every length, bytes after the end.
#[test]
fn every_byte_of_a_proof_matters() {
    let s = setting();
    let proof = s.honest();
    let bytes = proof.encode();
    let check =
        |bytes: &[u8]| Proof::decode(bytes).and_then(|p| verify(s.key.key(), &p).map(|_| ()));
    assert_eq!(check(&bytes), Ok(()));
    let mut r = Rng(77);
    let head = bytes.len() - proof.body.len();
    let some: Vec<usize> = (0..head)
        .step_by(3)
        .chain((0..600).map(|_| r.within(head as i32, bytes.len() as i32 - 1) as usize))
        .collect();
    for at in some {
        let mut changed = bytes.clone();
        changed[at] ^= 1 << (at % 8);
        assert!(check(&changed).is_err(), "byte {at}");
    }
    for n in (0..bytes.len()).step_by(997) {
        assert!(check(&bytes[..n]).is_err(), "{n} bytes");
    }
    let mut longer = proof.clone();
    longer.body.push(0);
    assert_eq!(s.refusal(&longer), VerifyError::Trailing(1));
    assert!(passes_without(Check::Trailing, s.key.key(), &longer));
    // a field element that is not below the modulus
    let mut large = proof.clone();
    large.body[32..36].copy_from_slice(&[0xff; 4]);
    assert!(matches!(
        s.refusal(&large),
        VerifyError::Decode {
            why: "a field element is not canonical",
            ..
        }
    ));
    // a section that claims to be huge
    let mut huge = proof.clone();
    let n = huge.body.len();
    huge.body.truncate(n / 2);
    assert!(matches!(
        s.refusal(&huge),
        VerifyError::Decode { .. } | VerifyError::Opening { .. }
    ));
    let mut empty = proof;
    empty.body.clear();
    assert!(matches!(
        s.refusal(&empty),
        VerifyError::Decode { offset: 0, .. }
    ));
}

/// The witness' commitment: 44 exchanged roots, 48 another root after the fact.
#[test]
fn the_witness_is_committed() {
    let s = setting();
    let mut proof = s.honest();
    proof.body[5] ^= 1;
    assert_eq!(
        s.refusal(&proof),
        VerifyError::Sumcheck { label: "lookup" },
        "the root decides the challenges"
    );
    let other = prove(&s.key, &[input(4), input(6)], b"claim 1", &mut |_| {}).expect("a proof");
    let mut mixed = s.honest();
    mixed.body[..32].copy_from_slice(&other.body[..32]);
    assert!(verify(s.key.key(), &mixed).is_err());
    let mut roots = s.key.key.clone();
    roots.roots[0][0] ^= 1;
    let mut claimed = s.honest();
    claimed.statement.key_id = roots.id();
    assert!(verify(&roots, &claimed).is_err());
}

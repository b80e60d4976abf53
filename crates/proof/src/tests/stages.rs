//! Proofs in stages: the same statement as in one, and what a prover could try between them.

use std::{collections::BTreeMap, sync::Arc};

use assay_graph::{Extent, Graph};

use super::{
    language, malicious,
    support::{compiled, compiled_with},
};
use crate::{
    Input, MEMORY, Mode, PlanError, Proof, ProveError, ProvingKey, VerifyError,
    cost::choose,
    oracle,
    plan::{
        Cell, Plan,
        stages::{MAX_STAGES, Stages},
    },
    prove,
    prover::{Tamper, prove_tampered},
    verifier::{Check, OFF},
    verify, verify_direct,
};

/// A proof whose stages have at most so many cells.
fn staged(key: &ProvingKey, inputs: &[Input], most: usize) -> Result<Proof, ProveError> {
    let tamper = Tamper {
        stage: Some(most as u32),
        ..Tamper::default()
    };
    prove_tampered(key, inputs, b"stages", &mut |_| {}, tamper, None)
}

/// Models with runs: a network with convolutions, a decoder.
fn settings() -> Vec<(Arc<Graph>, Vec<Input>)> {
    let decoder = Arc::new(language::decoder(7, 2));
    let (question, _) = language::input(&decoder, &[1, 7, 30, 2, 66], 3);
    vec![
        (
            malicious::model(9, 0),
            vec![malicious::input(4), malicious::input(5)],
        ),
        (decoder, vec![question]),
    ]
}

#[test]
fn stages_prove_what_one_proves() {
    for (graph, inputs) in settings() {
        let key = ProvingKey::new(Arc::clone(&graph)).expect("a key");
        let bare = ProvingKey::direct(Arc::clone(&graph)).expect("a key");
        let whole = compiled(&key, &inputs);
        for count in [2, 3, 5] {
            let most = Stages::least(&whole.plan, count);
            let stages = Stages::new(whole.plan.clone(), most).expect("stages");
            assert!(stages.plans.len() > 1 && stages.plans.len() <= count);
            assert!(!stages.links.is_empty());
            consistent(&whole.plan, &stages);
            let data = stages.distribute(whole.data.clone().expect("cells"));
            for (plan, data) in stages.plans.iter().zip(&data) {
                assert_eq!(oracle::check(plan, graph.consts(), data), Ok(()));
            }
            let proof = staged(&key, &inputs, most).expect("a proof");
            verify(key.key(), &proof).expect("verifies");
            let read = Proof::decode(&proof.encode()).expect("a proof");
            assert_eq!(read, proof);
            let direct = staged(&bare, &inputs, most).expect("a proof");
            verify_direct(&graph, &direct).expect("verifies directly");
        }
    }
}

/// Every column is at home once, every relation is in one stage and reads the columns that it read.
fn consistent(whole: &Plan, stages: &Stages) {
    let mut homes: BTreeMap<usize, usize> = BTreeMap::new();
    for (plan, ids) in stages.plans.iter().zip(&stages.columns) {
        for (column, old) in plan.columns.iter().zip(ids) {
            assert_eq!(column.shape, whole.columns[*old].shape);
            if !matches!(column.cell, Cell::Copy) {
                *homes.entry(*old).or_default() += 1;
            }
        }
    }
    assert_eq!(homes.len(), whole.columns.len());
    assert!(homes.values().all(|n| *n == 1));
    let relations = stages
        .plans
        .iter()
        .map(|p| p.relations.len())
        .sum::<usize>();
    assert_eq!(relations, whole.relations.len());
    // each copy is tied to the column that it is a copy of
    let copies = stages.plans.iter().flat_map(|p| &p.columns);
    let copies = copies.filter(|c| matches!(c.cell, Cell::Copy)).count();
    let tied: usize = stages.links.iter().map(|l| l.ends.len() - 1).sum();
    assert_eq!(copies, tied);
    for link in &stages.links {
        let (stage, column) = link.ends[0];
        assert!(!matches!(
            stages.plans[stage].columns[column].cell,
            Cell::Copy
        ));
        for (s, c) in &link.ends {
            assert_eq!(stages.columns[*s][*c], stages.columns[stage][column]);
        }
    }
}

/// Later stages of another run, with that run's outputs: each stage by itself is right, only the links are not.
#[test]
fn stages_of_two_runs_make_no_proof() {
    let graph = malicious::model(9, 0);
    let key = ProvingKey::new(Arc::clone(&graph)).expect("a key");
    let (asked, other) = (vec![malicious::input(4)], vec![malicious::input(5)]);
    let every: Vec<u32> = (0..graph.nodes().len() as u32).collect();
    let compiled = |inputs: &[Input]| compiled_with(&key, inputs, &every);
    let (honest, lie) = (compiled(&asked), compiled(&other));
    let outputs = lie.outputs.expect("outputs").to_vec();
    assert_ne!(honest.outputs.expect("outputs").to_vec(), outputs);
    let most = Stages::least(&honest.plan, 3);
    let mut swap = |stages: &Stages, data: &mut Vec<Vec<Vec<i32>>>| {
        let foreign = stages.distribute(lie.data.clone().expect("cells"));
        for (stage, cells) in foreign.into_iter().enumerate().skip(1) {
            let plan = &stages.plans[stage];
            assert_eq!(oracle::check(plan, graph.consts(), &cells), Ok(()));
            data[stage] = cells;
        }
    };
    let tamper = Tamper {
        stages: Some(&mut swap),
        stage: Some(most as u32),
        restless: every.clone(),
        ..Tamper::default()
    };
    let proof = prove_tampered(&key, &asked, b"", &mut |_| {}, tamper, Some(outputs));
    let proof = proof.expect("bytes");
    let wrong = VerifyError::Sumcheck { label: "witness" };
    assert_eq!(verify(key.key(), &proof).expect_err("refused"), wrong);
    OFF.set(Some(Check::Witness));
    let passed = verify(key.key(), &proof);
    OFF.set(None);
    passed.expect("nothing else notices");
}

/// One cell of each copy, in a stage where nothing else follows from it or everything.
#[test]
fn copies_are_bound() {
    for (graph, inputs) in settings() {
        let key = ProvingKey::direct(Arc::clone(&graph)).expect("a key");
        let most = Stages::least(&compiled(&key, &inputs).plan, 3);
        let count = Stages::new(compiled(&key, &inputs).plan, most).expect("stages");
        for link in count.links.iter().take(12) {
            let mut change = |_: &Stages, data: &mut Vec<Vec<Vec<i32>>>| {
                let (stage, column) = link.ends[1];
                data[stage][column][0] += 1;
            };
            let tamper = Tamper {
                stages: Some(&mut change),
                stage: Some(most as u32),
                ..Tamper::default()
            };
            let proof = prove_tampered(&key, &inputs, b"", &mut |_| {}, tamper, None);
            assert!(verify_direct(&graph, &proof.expect("bytes")).is_err());
        }
    }
}

/// What is said of links, and the number of stages, can't be another.
#[test]
fn links_and_cuts_are_bound() {
    let graph = malicious::model(9, 0);
    let key = ProvingKey::new(Arc::clone(&graph)).expect("a key");
    let inputs = vec![malicious::input(4)];
    let plan = compiled(&key, &inputs).plan;
    let most = Stages::least(&plan, 3);
    for at in 0..Stages::new(plan.clone(), most).expect("stages").links.len() {
        let mut lie = |label: &'static str, message: &mut Vec<crate::field::EF>| {
            if label == crate::links::LABEL {
                message[at] += crate::field::EF::from(crate::field::embed(1));
            }
        };
        let tamper = Tamper {
            messages: Some(&mut lie),
            stage: Some(most as u32),
            ..Tamper::default()
        };
        let proof = prove_tampered(&key, &inputs, b"", &mut |_| {}, tamper, None).expect("bytes");
        let wrong = VerifyError::Sumcheck { label: "witness" };
        assert_eq!(verify(key.key(), &proof).expect_err("refused"), wrong);
    }
    let proof = staged(&key, &inputs, most).expect("a proof");
    for stage in [0, most as u32 - 1, most as u32 + 1, 1, u32::MAX] {
        let mut lie = proof.clone();
        lie.statement.stage = stage;
        verify(key.key(), &lie).expect_err("another cut");
    }
    let whole = prove(&key, &inputs, b"", &mut |_| {}).expect("a proof");
    assert_eq!(whole.statement.stage, 0, "small proofs are not cut");
    let mut lie = whole;
    lie.statement.stage = most as u32;
    verify(key.key(), &lie).expect_err("another cut");
}

#[test]
fn memory_decides_the_cut() {
    let graph = Arc::new(language::decoder(7, 12));
    let (question, _) = language::input(&graph, &[1, 7, 30, 2, 66, 5, 6, 9], 3);
    let key = ProvingKey::direct(Arc::clone(&graph)).expect("a key");
    let inputs = [question];
    let plan = compiled(&key, &inputs).plan;
    let cost = |most| crate::Cost::of(&Stages::new(plan.clone(), most as usize).expect("stages"));
    let whole = cost(0);
    assert_eq!(choose(&plan, whole.memory()), Ok(0));
    let less = choose(&plan, whole.memory() - 1).expect("a cut");
    assert!(less > 0);
    assert!(cost(less).stages > 1 && cost(less).memory() < whole.memory());
    let proof = prove(
        &key.clone().with_memory(whole.memory() - 1),
        &inputs,
        b"",
        &mut |_| {},
    );
    let proof = proof.expect("a proof");
    assert_eq!(proof.statement.stage, less);
    verify_direct(&graph, &proof).expect("verifies");
    let limit = 1 << 16;
    match choose(&plan, limit) {
        Err(PlanError::Memory { need, .. }) => assert!(need > limit),
        other => panic!("{other:?}"),
    }
    let many = Stages::new(plan.clone(), 1);
    assert!(many.is_err() || many.is_ok_and(|s| s.plans.len() <= MAX_STAGES));
}

/// What is owed before the run is known: the worst case counts, not the calm one.
#[test]
fn proofs_that_are_owed_can_be_made() {
    let graph = Arc::new(language::decoder(7, 2));
    let (question, _) = language::input(&graph, &[1, 7, 30, 2, 66], 3);
    let key = ProvingKey::direct(Arc::clone(&graph)).expect("a key");
    let extent = Extent { seq: 7, out: 3 };
    let sampling = question.sampling.as_ref();
    assert_eq!(key.key().provable(extent, sampling, MEMORY), Ok(()));
    let calm = key.key().cost(Mode::Committed, extent, 1, MEMORY);
    let calm = calm.expect("a cost").memory();
    let short = key.key().provable(extent, sampling, calm / 8);
    assert!(matches!(short, Err(PlanError::Memory { need, .. }) if need > calm / 8));
}

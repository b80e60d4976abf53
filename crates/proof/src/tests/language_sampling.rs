//! Sampled answers: every sampling statement without masks is proven, and what a lying prover could say of them.

use std::{collections::BTreeSet, sync::Arc};

use assay_graph::{Graph, Sampling, Statement, sampling::ONE};

use super::language::{
    Change, changed_decoder,
    common::{Rng, VOCABULARY, generate},
    compile, every,
};
use crate::{
    Input, ProvingKey,
    oracle::{self, Violation, violations},
    plan::{Plan, builder::LIES},
    prove, verify, verify_direct,
};

/// A model whose logits lie `peak` apart or so.
fn model(seed: u64, peak: i64) -> Arc<Graph> {
    Arc::new(changed_decoder(seed, 0, peak, Change::Nothing))
}

/// The run and the answer by the definition.
fn sampled(graph: &Graph, prompt: &[i32], out: u32, s: &Sampling) -> (Input, Vec<i32>) {
    let statement = Statement {
        sampling: s.clone(),
        masks: Vec::new(),
    };
    let (tensor, answer) = generate(graph, prompt, out, &statement);
    let input = Input {
        tensor,
        out,
        sampling: Some(s.clone()),
    };
    (input, answer)
}

/// A statement: most parameters are what one asks for, some are at their ends.
fn statement(rng: &mut Rng) -> Sampling {
    let mut pick = |values: &[i64]| values[rng.range(0, values.len() as i64 - 1) as usize];
    let one = i64::from(ONE);
    let mut s = Sampling {
        temperature: pick(&[
            0,
            655,
            1200,
            20_000,
            45_875,
            one,
            70_001,
            2 * one,
            30 * one,
            100 * one,
        ]) as u32,
        top_k: pick(&[0, 0, 1, 2, 5, 40, 69, 70, 1 << 31]) as u32,
        top_p: pick(&[one, one, 1, 5_000, 59_000, one - 1]) as u32,
        min_p: pick(&[0, 0, 1, 3_277, 40_000, one]) as u32,
        repetition: pick(&[one, one, 655, 60_000, 72_090, 100 * one]) as u32,
        frequency: pick(&[0, 0, -3_000, 20_000, 100 * one, -100 * one]) as i32,
        presence: pick(&[0, 0, 9_000, -100 * one, 100 * one]) as i32,
        ..Sampling::default()
    };
    if pick(&[0, 1]) == 1 {
        for token in [0, 3, 17, 69, 70, 1 << 20] {
            s.bias.push((
                token,
                pick(&[0, 1, -5_000, 30_000, 100 * one, -100 * one]) as i32,
            ));
        }
    }
    rng.range(0, 255);
    s.seed = std::array::from_fn(|_| rng.range(0, 255) as u8);
    s
}

#[test]
fn definition_and_columns_agree() {
    let mut rng = Rng(0x5a11);
    for (seed, peak) in [(1, 2500), (2, 40), (3, 4), (4, 300)] {
        let graph = model(seed, peak);
        let key = ProvingKey::direct(Arc::clone(&graph)).expect("a key");
        for i in 0..40 {
            let s = statement(&mut rng);
            let (input, answer) = sampled(&graph, &[1, 7, 30, 7], 3, &s);
            let compiled = compile(&key, &input, None, &every(&key));
            assert_eq!(compiled.outputs.as_deref(), Some(&answer), "{i} {s:?}");
            let data = compiled.data.expect("cells");
            let verdict = oracle::check(&compiled.plan, graph.consts(), &data);
            assert_eq!(verdict, Ok(()), "{i} {s:?}");
        }
    }
}

/// A greedy run has the plan that it has without sampling statements.
#[test]
fn greedy_runs_are_as_cheap_as_ever() {
    let graph = model(2, 40);
    let key = ProvingKey::direct(Arc::clone(&graph)).expect("a key");
    let (mut input, _) = sampled(&graph, &[1, 7, 30], 2, &Sampling::default());
    let with = compile(&key, &input, None, &[]).plan;
    input.sampling = None;
    let without = compile(&key, &input, None, &[]).plan;
    assert_eq!(with.witness.cells, without.witness.cells);
    assert_eq!(with.tables, without.tables);
    assert_eq!(with.relations.len(), without.relations.len());
    let cells = |c: &crate::plan::Column| c.shape.iter().product::<usize>();
    let picks = with.columns.iter().filter(|c| c.op == "pick");
    assert_eq!(picks.map(cells).sum::<usize>(), 2 * VOCABULARY as usize);
}

/// Statements of all kinds, of which each is tight somewhere.
fn some() -> Vec<Sampling> {
    let mut all = Vec::new();
    let one = i64::from(ONE);
    for (i, (temperature, top_k, top_p, min_p)) in [
        (45_875, 0, one, 0),
        (one, 0, one, 9_000),
        (20 * one, 9, one, 0),
        (30 * one, 0, 50_000, 0),
        (655, 30, 59_000, 2_000),
        (30 * one, 30, 59_000, 20_000),
        (one, 1, 1, one),
        (100 * one, 69, one - 1, 1),
    ]
    .into_iter()
    .enumerate()
    {
        let mut s = Sampling {
            temperature: temperature as u32,
            top_k,
            top_p: top_p as u32,
            min_p: min_p as u32,
            seed: [i as u8; 32],
            ..Sampling::default()
        };
        all.push(s.clone());
        s.repetition = if i % 2 == 0 { 72_090 } else { ONE };
        s.frequency = 20_000;
        s.bias = vec![(3, 100 * ONE as i32), (9, -100 * ONE as i32), (11, 7)];
        all.push(s);
    }
    // logits that can be at both ends
    for bias in [44, 48, 52] {
        all.push(Sampling {
            temperature: 655,
            bias: vec![(3, bias * ONE as i32), (9, -100 * ONE as i32)],
            ..Sampling::default()
        });
    }
    all
}

/// Every other token than the one that was drawn is rejected.
#[test]
fn only_the_drawn_token_is_an_answer() {
    let graph = model(4, 300);
    let key = ProvingKey::direct(Arc::clone(&graph)).expect("a key");
    for s in some() {
        let (input, answer) = sampled(&graph, &[1, 7, 30, 7], 1, &s);
        for token in 0..VOCABULARY as i32 {
            let said = compile(&key, &input, Some(vec![token]), &every(&key));
            let data = said.data.expect("cells");
            let verdict = oracle::check(&said.plan, graph.consts(), &data);
            assert_eq!(verdict.is_ok(), token == answer[0], "token {token} {s:?}");
        }
    }
}

/// The token of one random number, of one statement, is none of another.
#[test]
fn statements_decide() {
    let graph = model(4, 300);
    let key = ProvingKey::direct(Arc::clone(&graph)).expect("a key");
    let mut differ = 0;
    for s in some() {
        let (input, answer) = sampled(&graph, &[1, 7, 30, 7], 1, &s);
        for change in [
            |s: &mut Sampling| s.seed[31] ^= 0x80,
            |s: &mut Sampling| s.temperature = if s.temperature > ONE { ONE } else { 3 * ONE },
            |s: &mut Sampling| s.top_k = 2,
            |s: &mut Sampling| s.top_p = s.top_p.div_ceil(4),
            |s: &mut Sampling| s.min_p = 60_000,
            |s: &mut Sampling| s.repetition = 3 * ONE,
            |s: &mut Sampling| s.presence = -5 * ONE as i32,
            |s: &mut Sampling| s.bias = vec![(5, 3 * ONE as i32)],
        ] {
            let mut other = s.clone();
            change(&mut other);
            let (mut run, want) = sampled(&graph, &[1, 7, 30, 7], 1, &other);
            run.tensor = input.tensor.clone();
            let said = compile(&key, &run, Some(answer.clone()), &every(&key));
            let verdict = oracle::check(&said.plan, graph.consts(), &said.data.expect("cells"));
            assert_eq!(verdict.is_ok(), want == answer, "{s:?} {other:?}");
            differ += usize::from(want != answer);
        }
    }
    assert!(differ > 40, "{differ}");
}

/// What the sampler's relations are called.
fn labels(plan: &Plan) -> BTreeSet<&'static str> {
    let last = plan.relations.iter().map(|r| r.node).max();
    let own = plan.relations.iter().filter(|r| Some(r.node) == last);
    own.map(|r| r.label).collect()
}

/// Claims that are wrong by little with all that follows from them, and single cells: all are seen, and each relation sees something that nothing else does.
#[test]
fn lies_are_seen() {
    let graph = model(4, 300);
    let key = ProvingKey::direct(Arc::clone(&graph)).expect("a key");
    let (mut alone, mut known) = (BTreeSet::new(), BTreeSet::new());
    let mut cells_alone = 0;
    let mut rng = Rng(77);
    for s in some() {
        let (input, answer) = sampled(&graph, &[1, 7, 30, 7], 2, &s);
        let honest = compile(&key, &input, Some(answer.clone()), &every(&key));
        let (plan, data) = (honest.plan, honest.data.expect("cells"));
        known.extend(labels(&plan));
        let mut see = |what: &str, found: Vec<Violation>| {
            assert!(!found.is_empty(), "{what} {s:?}");
            match &found[..] {
                [Violation::Relation { label, .. }] => _ = alone.insert(*label),
                [Violation::Cell(_)] => cells_alone += 1,
                _ => {}
            }
        };
        for claim in [
            "likeliest logit",
            "distance",
            "adjusted logit",
            "top-k",
            "top-p",
            "kept mass",
            "tokens at the level",
            "all tokens at the level",
            "mass at the level",
            "upper half",
            "logit of a changed token",
            "penalised logit",
            "end of an adjusted logit",
            "change of a logit",
            "picked",
            "picked row",
        ] {
            for (at, add) in [(0, 1), (1, 1), (1, -1), (5, 1), (5, -1), (0, 2), (1, -2)] {
                LIES.set(vec![(claim, None, at, add)]);
                let told = compile(&key, &input, Some(answer.clone()), &every(&key));
                LIES.set(Vec::new());
                let lie = told.data.expect("cells");
                if lie != data {
                    see(claim, violations(&plan, graph.consts(), &lie));
                }
            }
        }
        for column in (0..data.len()).filter(|c| plan.columns[*c].op == "pick") {
            for _ in 0..3 {
                let at = rng.range(0, data[column].len() as i64 - 1) as usize;
                for add in [1, -1] {
                    let mut lie = data.clone();
                    lie[column][at] += add;
                    see("a cell", violations(&plan, graph.consts(), &lie));
                }
            }
        }
        for token in 0..VOCABULARY as i32 {
            if token != answer[1] {
                let said = vec![answer[0], token];
                let told = compile(&key, &input, Some(said), &every(&key));
                let found = violations(&told.plan, graph.consts(), &told.data.expect("cells"));
                see("a token", found);
            }
        }
    }
    known.remove("the statement's outputs");
    let unseen: Vec<_> = known.difference(&alone).collect();
    assert!(unseen.is_empty(), "{unseen:?} of {known:?}");
    assert!(cells_alone > 0);
}

#[test]
fn sampled_answers_are_proven() {
    let graph = Arc::new(changed_decoder(2, 1, 300, Change::Nothing));
    let key = ProvingKey::new(Arc::clone(&graph)).expect("a key");
    let direct = ProvingKey::direct(Arc::clone(&graph)).expect("a key");
    let some = some();
    let sampled = |s: &Sampling, prompt: &[i32]| sampled(&graph, prompt, 3, s).0;
    let plain = sampled(&Sampling::default(), &[8, 8, 8, 9, 6]);
    let prompts = [[1, 7, 30, 2, 66], [5, 5, 4, 69, 0]];
    for both in some.chunks_exact(2).step_by(2) {
        let each = both.iter().zip(&prompts);
        let mut inputs: Vec<Input> = each.map(|(s, p)| sampled(s, p)).collect();
        inputs.push(plain.clone());
        let proof = prove(&direct, &inputs[..1], b"", &mut |_| {}).expect("a proof");
        verify_direct(&graph, &proof).expect("verifies directly");
        let proof = prove(&key, &inputs, b"", &mut |_| {}).expect("a proof");
        verify(key.key(), &proof).expect("verifies");
        let mut lies = vec![proof.clone(); 5];
        lies[0].statement.runs[0].sampling[40] ^= 1;
        lies[1].statement.runs[1].sampling[5] ^= 1;
        lies[2].statement.runs[1].output[8] ^= 1;
        lies[3].statement.runs[2].output[8] ^= 1;
        lies[4].statement.runs.swap(0, 1);
        for lie in lies {
            assert!(verify(key.key(), &lie).is_err());
        }
    }
}

/// What is not proven is refused by name.
#[test]
fn grammars_are_refused() {
    let graph = model(4, 300);
    let key = ProvingKey::direct(Arc::clone(&graph)).expect("a key");
    let (input, _) = sampled(&graph, &[1, 7, 30, 7], 2, &some()[0]);
    let refused = |change: &dyn Fn(&mut Sampling)| {
        let mut input = input.clone();
        change(input.sampling.as_mut().expect("a statement"));
        prove(&key, &[input], b"", &mut |_| {})
            .expect_err("refused")
            .to_string()
    };
    assert!(refused(&|s| s.mask_root = [1; 32]).contains("mask_root"));
    assert!(refused(&|s| s.temperature = 1).contains("temperature"));
    assert!(refused(&|s| s.bias = vec![(2, 1), (1, 1)]).contains("bias"));
    let mut proof = prove(&key, std::slice::from_ref(&input), b"", &mut |_| {}).expect("a proof");
    let mut s = some()[0].clone();
    s.mask_root = [1; 32];
    proof.statement.runs[0].sampling = s.encode();
    let error = verify_direct(&graph, &proof)
        .expect_err("refused")
        .to_string();
    assert!(error.contains("mask_root"), "{error}");
}

//! Language models: the engine, node by node, and the decoder, in every schedule, give the bits of the definition.

#[path = "../../graph/tests/common/mod.rs"]
mod common;

use std::sync::Arc;

use assay_engine::{Decoder, Engine, EngineError, EngineOptions, Generated, Sequence, Tier};
use assay_graph::{
    Data, Extent, Graph, Sampling, Statement, Tensor, eval,
    trace::{Family, Tree, input_commit, leaf_hash, output_commit},
};

fn statement(seed: u8) -> Statement {
    let mut sampling = Sampling {
        max_out: 9,
        ..Sampling::default()
    };
    match seed % 4 {
        0 => {}
        1 => sampling.temperature = 50_000,
        2 => {
            sampling.temperature = 90_000;
            (sampling.top_k, sampling.top_p, sampling.min_p) = (30, 60_000, 500);
        }
        _ => {
            sampling.temperature = 65_536;
            sampling.repetition = 80_000;
            (sampling.frequency, sampling.presence) = (20_000, 9_000);
            sampling.bias = vec![(3, 90_000), (7, -90_000)];
        }
    }
    sampling.seed = [seed; 32];
    let masks = if seed >= 4 {
        let mask = |j: u8| -> Vec<u8> {
            let bytes = common::VOCABULARY.div_ceil(8) as u8;
            (0..bytes)
                .map(|i| i.wrapping_mul(89).wrapping_add(j * 31 + seed) | 0x10)
                .collect()
        };
        (0..9).map(mask).collect()
    } else {
        Vec::new()
    };
    Statement { sampling, masks }
}

/// As [`statement`] with the root of its masks for `out` tokens.
fn rooted(seed: u8, out: usize) -> Statement {
    let mut s = statement(seed);
    s.masks.truncate(out);
    if !s.masks.is_empty() {
        s.sampling.mask_root =
            assay_graph::sampling::mask_tree(s.masks.iter().map(Vec::as_slice)).root();
    }
    s
}

fn graph(seed: u64) -> Arc<Graph> {
    Arc::new(common::language_graph(seed, 2, 40))
}

fn options(tier: Tier, threads: usize) -> EngineOptions {
    EngineOptions {
        threads,
        tier: Some(tier),
    }
}

const PROMPT: [i32; 5] = [3, 60, 7, 7, 21];

#[test]
fn every_node_equals_the_definition() {
    let graph = graph(5);
    for seed in 0..6 {
        let s = rooted(seed, 4);
        let (input, answer) = common::generate(&graph, &PROMPT, 4, &s);
        let want = eval::run_with(&graph, &input, 4, Some(&s)).unwrap();
        assert_eq!(want.last().unwrap().data.to_i32(), answer);
        for tier in Tier::available() {
            for threads in [1, 3] {
                let engine = Engine::new(Arc::clone(&graph), options(tier, threads)).unwrap();
                let have = engine.run_full_language(&input, 4, &s).unwrap();
                for (i, (a, b)) in have.outputs.iter().zip(&want).enumerate() {
                    assert_eq!(
                        a, b,
                        "node {i}, {tier}, {threads} threads, statement {seed}"
                    );
                }
            }
        }
    }
}

const SALT: [u8; 32] = [7; 32];

fn unsigned(tokens: &[i32]) -> Vec<u32> {
    tokens.iter().map(|t| t.cast_unsigned()).collect()
}

/// What the receipt of an answer must commit to, by the node-by-node engine.
fn root(graph: &Arc<Graph>, prompt: &[i32], seed: u8, out: usize) -> (Vec<u32>, [u8; 32]) {
    let s = rooted(seed, out);
    let (input, answer) = common::generate(graph, prompt, out as u32, &s);
    let engine = Engine::new(Arc::clone(graph), options(Tier::Scalar, 1)).unwrap();
    let run = engine.run_full_language(&input, out as u32, &s).unwrap();
    let layout = engine.layout(Extent::answering(prompt.len() as u32, out as u32).unwrap());
    let bytes = |t: &[i32]| t.iter().flat_map(|t| t.to_le_bytes()).collect::<Vec<u8>>();
    let mut leaves = vec![input_commit(&SALT, &bytes(prompt))];
    for node in layout.checkpoints() {
        let data = run.outputs[node as usize].data.to_bytes();
        leaves.extend(
            data.chunks(layout.block_bytes())
                .map(|b| leaf_hash(Family::Trace, b)),
        );
    }
    leaves.push(output_commit(&SALT, &bytes(&answer)));
    assert_eq!(leaves.len() as u64, layout.committed_leaves());
    (unsigned(&answer), Tree::new(Family::Trace, leaves).root())
}

fn generate(decoder: &Decoder, prompt: &[i32], seed: u8, out: usize, chunk: usize) -> Generated {
    let s = statement(seed);
    let mut sequence = decoder
        .start(&unsigned(prompt), &s.sampling, &SALT)
        .unwrap();
    for j in 0..out {
        while !sequence.ready() {
            decoder.step(&mut [&mut sequence], chunk).unwrap();
        }
        sequence.sample(s.masks.get(j).map(Vec::as_slice)).unwrap();
    }
    sequence.finish().unwrap()
}

#[test]
fn every_schedule_gives_the_bits_of_the_definition() {
    let graph = graph(11);
    let long: Vec<i32> = (0..23)
        .map(|i| i * i * 7 % common::VOCABULARY as i32)
        .collect();
    for (seed, prompt, out) in [
        (0u8, &PROMPT[..], 4usize),
        (2, &long, 3),
        (3, &PROMPT, 6),
        (5, &long, 2),
        (7, &PROMPT[..1], 5),
    ] {
        let (answer, root) = root(&graph, prompt, seed, out);
        let masks = statement(seed).masks[..if seed >= 4 { out } else { 0 }].to_vec();
        for tier in Tier::available() {
            for threads in [1, 2, 4] {
                let decoder = Decoder::new(Arc::clone(&graph), options(tier, threads)).unwrap();
                for chunk in [1, 3, 17, 1000] {
                    let have = generate(&decoder, prompt, seed, out, chunk);
                    assert_eq!(
                        (&have.tokens, have.trace_root),
                        (&answer, root),
                        "{tier}, {threads} threads, chunks of {chunk}"
                    );
                    assert_eq!(have.sampling, rooted(seed, out).sampling);
                }
                let again = decoder
                    .replay(
                        &unsigned(prompt),
                        &answer,
                        &statement(seed).sampling,
                        &masks,
                        &SALT,
                    )
                    .unwrap();
                assert_eq!(again, generate(&decoder, prompt, seed, out, 5));
            }
        }
    }
}

#[test]
fn neighbours_change_nothing() {
    let graph = graph(12);
    let decoder = Decoder::new(Arc::clone(&graph), EngineOptions::default()).unwrap();
    let prompts: Vec<Vec<i32>> = (1..9)
        .map(|n| (0..n * 3).map(|i| (i * 11 + n) % 70).collect())
        .collect();
    let alone: Vec<Generated> = prompts
        .iter()
        .enumerate()
        .map(|(i, p)| generate(&decoder, p, (i % 4) as u8, 5 + i % 3, 1000))
        .collect();
    for chunk in [1, 4, 100] {
        let mut running: Vec<(usize, Sequence)> = Vec::new();
        let mut waiting: Vec<usize> = (0..prompts.len()).rev().collect();
        let mut done = 0;
        let mut turn = 0;
        while done < prompts.len() {
            // one more joins every other pass; they leave when they are done
            if turn % 2 == 0
                && let Some(i) = waiting.pop()
            {
                running.push((
                    i,
                    decoder
                        .start(
                            &unsigned(&prompts[i]),
                            &statement((i % 4) as u8).sampling,
                            &SALT,
                        )
                        .unwrap(),
                ));
            }
            turn += 1;
            let mut batch: Vec<&mut Sequence> = running.iter_mut().map(|(_, s)| s).collect();
            decoder.step(&mut batch, chunk).unwrap();
            let mut left = Vec::new();
            for (i, mut s) in running {
                if s.ready() {
                    s.sample(None).unwrap();
                }
                if s.answer().len() == 5 + i % 3 {
                    assert_eq!(
                        s.finish().unwrap(),
                        alone[i],
                        "request {i} in chunks of {chunk}"
                    );
                    done += 1;
                } else {
                    left.push((i, s));
                }
            }
            running = left;
        }
    }
}

#[test]
fn a_false_answer_is_recomputed() {
    let graph = graph(13);
    let decoder = Decoder::new(Arc::clone(&graph), EngineOptions::default()).unwrap();
    for seed in [0u8, 3] {
        let honest = generate(&decoder, &PROMPT, seed, 6, 9);
        let sampling = statement(seed).sampling;
        for at in 0..6 {
            let mut claimed = honest.tokens.clone();
            claimed[at] = (claimed[at] + 1) % common::VOCABULARY;
            let again = decoder
                .replay(&unsigned(&PROMPT), &claimed, &sampling, &[], &SALT)
                .unwrap();
            // tokens up to the false one are what an honest run samples; later ones follow from the claimed ones
            assert_eq!(again.tokens[..=at], honest.tokens[..=at]);
            let tokens: Vec<i32> = PROMPT
                .iter()
                .copied()
                .chain(claimed.iter().map(|t| t.cast_signed()))
                .take(PROMPT.len() + 5)
                .collect();
            let input = Tensor::new(vec![tokens.len()], Data::I32(tokens)).unwrap();
            let want = eval::run_with(&graph, &input, 6, Some(&statement(seed))).unwrap();
            assert_eq!(again.tokens, unsigned(&want.last().unwrap().data.to_i32()));
            // the last token is not fed back: it shows in the answer alone
            assert_eq!(again.trace_root == honest.trace_root, at == 5);
        }
    }
}

#[test]
fn requests_out_of_order_or_range_are_refused() {
    let graph = graph(14);
    let decoder = Decoder::new(Arc::clone(&graph), EngineOptions::default()).unwrap();
    let s = statement(0).sampling;
    assert!(matches!(
        decoder.start(&[], &s, &SALT),
        Err(EngineError::Positions { .. })
    ));
    assert!(matches!(
        decoder.start(&[1; 41], &s, &SALT),
        Err(EngineError::Positions {
            positions: 41,
            max_seq: 40
        })
    ));
    assert!(matches!(
        decoder.start(&[1, 70], &s, &SALT),
        Err(EngineError::Token {
            index: 1,
            token: 70,
            vocabulary: 70
        })
    ));
    let hot = Sampling {
        temperature: 1,
        ..s.clone()
    };
    assert!(matches!(
        decoder.start(&[1], &hot, &SALT),
        Err(EngineError::Statement(_))
    ));
    let mut a = decoder.start(&[1, 2], &s, &SALT).unwrap();
    assert!(matches!(a.sample(None), Err(EngineError::Order(_))));
    decoder.step(&mut [&mut a], 1).unwrap();
    assert!(!a.ready() && a.pending() == 1);
    decoder.step(&mut [&mut a], 1).unwrap();
    assert!(matches!(
        a.sample(Some(&[0xff; 3])),
        Err(EngineError::Masks { want: 9, have: 3 })
    ));
    a.sample(Some(&[0xff; 9])).unwrap();
    decoder.step(&mut [&mut a], 1).unwrap();
    assert!(matches!(a.sample(None), Err(EngineError::Masks { .. })));
    assert!(matches!(a.finish(), Err(EngineError::Order(_))));
    let other = Decoder::new(Arc::clone(&graph), EngineOptions::default()).unwrap();
    let mut b = decoder.start(&[1, 2], &s, &SALT).unwrap();
    assert!(matches!(
        other.step(&mut [&mut b], 1),
        Err(EngineError::Order(_))
    ));
    assert!(matches!(
        decoder.replay(&[1], &[], &s, &[], &SALT),
        Err(EngineError::Answer { .. })
    ));
    // an answer ends with the model's positions
    let mut c = decoder
        .start(&[1; 40], &Sampling { max_out: 100, ..s }, &SALT)
        .unwrap();
    decoder.step(&mut [&mut c], 100).unwrap();
    c.sample(None).unwrap();
    assert!(c.is_over());
    assert!(matches!(
        decoder.step(&mut [&mut c], 1),
        Err(EngineError::Positions { .. })
    ));
    assert_eq!(c.finish().unwrap().extent, Extent { seq: 40, out: 1 });
}

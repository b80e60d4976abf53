//! Language models: the engine, node by node, and the decoder, in every schedule, give the bits of the definition.

#[path = "../../graph/tests/common/mod.rs"]
#[allow(dead_code, reason = "shared with the tests of the graph")]
mod common;

use std::sync::Arc;

use assay_engine::{Engine, EngineOptions, Tier};
use assay_graph::{Graph, Sampling, Statement, eval};

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

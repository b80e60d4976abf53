//! Language models: greedy answers of small decoders, and what a lying prover could try.

use std::sync::Arc;

use assay_graph::{Graph, Statement, eval};

use super::support::compiled;
use crate::{Input, ProvingKey, oracle};

#[path = "../../../graph/tests/common/mod.rs"]
mod common;

use common::{generate, language_graph};

fn input(graph: &Graph, prompt: &[i32], out: u32) -> (Input, Vec<i32>) {
    let statement = Statement::default();
    let (tensor, answer) = generate(graph, prompt, out, &statement);
    let sampling = Some(statement.sampling);
    (
        Input {
            tensor,
            out,
            sampling,
        },
        answer,
    )
}

#[test]
fn a_decoder_answers_greedily() {
    let graph = Arc::new(language_graph(7, 2, 40));
    let (input, answer) = input(&graph, &[1, 7, 30, 2, 66], 3);
    let key = ProvingKey::direct(Arc::clone(&graph)).expect("a key");
    let compiled = compiled(&key, std::slice::from_ref(&input));
    assert_eq!(compiled.outputs.as_deref(), Some(&answer));
    let run = eval::run_with(
        &graph,
        &input.tensor,
        input.out,
        Some(&Statement::default()),
    )
    .expect("runs");
    for (i, (have, want)) in compiled.nodes.iter().zip(&run).enumerate() {
        if let Some(have) = have {
            assert_eq!(have.as_slice(), want.data.to_i32(), "node {i}");
        }
    }
    let data = compiled.data.expect("cells");
    assert_eq!(oracle::check(&compiled.plan, graph.consts(), &data), Ok(()));
}

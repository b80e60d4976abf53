//! Running a graph through everything that must agree.

use std::sync::Arc;

use assay_graph::{Data, Extent, Graph, Op, Tensor, eval};

use crate::{
    Input, Proof, ProvingKey,
    compile::{Compiled, Source},
    oracle,
    plan::facts::Facts,
    prove, prove_hiding, verify, verify_direct,
};

/// Random inputs of a graph: seeded, in range, with the ends of the range among them.
pub(crate) fn inputs(graph: &Graph, seq: u32, runs: usize, seed: u64) -> Vec<Input> {
    let ty = graph.input_type().expect("an input");
    let dims = ty.dims(seq);
    let n: usize = dims.iter().product();
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut draw = || {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        let width = (i64::from(ty.hi) - i64::from(ty.lo) + 1) as u64;
        let v = state >> 33;
        match v % 8 {
            0 => ty.lo,
            1 => ty.hi,
            _ => (i64::from(ty.lo) + (v / 8 % width) as i64) as i32,
        }
    };
    (0..runs)
        .map(|_| {
            let values: Vec<i32> = (0..n).map(|_| draw()).collect();
            let data = Data::from_i32(ty.dtype, &values).expect("in range");
            Input {
                tensor: Tensor::new(dims.clone(), data).expect("a tensor"),
                out: 1,
                sampling: None,
            }
        })
        .collect()
}

/// The prover's plan and columns.
pub(crate) fn compiled(key: &ProvingKey, inputs: &[Input]) -> Compiled {
    compiled_with(key, inputs, &[])
}

/// The plan and columns where at least these nodes are not planned as calm ones.
pub(crate) fn compiled_with(key: &ProvingKey, inputs: &[Input], restless: &[u32]) -> Compiled {
    let seq = eval::check_input(&key.graph, &inputs[0].tensor).expect("legal");
    let source = Source {
        structure: &key.key.structure,
        consts: Some(key.graph.consts()),
        runs: inputs.len(),
        extent: Extent {
            seq,
            out: inputs[0].out,
        },
        inputs: Arc::new(inputs.iter().flat_map(|i| i.tensor.data.to_i32()).collect()),
        hidden: false,
        outputs: None,
        restless,
        samplings: &[],
    };
    let facts = Facts::Replay {
        facts: Arc::clone(&key.key.facts),
        next: 0,
    };
    source.settle(&facts).expect("plans").0
}

/// Definition = columns; oracle content; proof verifies in both modes. Returns the proof.
pub(crate) fn agree(graph: Graph, seq: u32, runs: usize, seed: u64) -> (ProvingKey, Proof) {
    let graph = Arc::new(graph);
    let bare = ProvingKey::direct(Arc::clone(&graph)).expect("a key");
    let inputs = inputs(&graph, seq, runs, seed);
    let compiled = compiled(&bare, &inputs);
    let want: Vec<i32> = inputs
        .iter()
        .flat_map(|i| {
            eval::run(&graph, &i.tensor)
                .expect("runs")
                .pop()
                .expect("an output")
                .data
                .to_i32()
        })
        .collect();
    assert_eq!(
        compiled.outputs.as_deref(),
        Some(&want),
        "columns follow the definition"
    );
    // with the clamps that the run does not need, too
    let every: Vec<u32> = (0..graph.nodes().len() as u32).collect();
    for compiled in [compiled, compiled_with(&bare, &inputs, &every)] {
        assert_eq!(compiled.outputs.as_deref(), Some(&want));
        let data = compiled.data.expect("cells");
        assert_eq!(oracle::check(&compiled.plan, graph.consts(), &data), Ok(()));
    }
    let key = ProvingKey::new(Arc::clone(&graph)).expect("a key");
    let proof = prove(&key, &inputs, b"context", &mut |_| {}).expect("a proof");
    verify(key.key(), &proof).expect("verifies");
    let direct = prove(
        &ProvingKey::direct(Arc::clone(&graph)).expect("a key"),
        &inputs,
        b"",
        &mut |_| {},
    )
    .expect("a proof");
    verify_direct(&graph, &direct).expect("verifies directly");
    let tokens = |n: &assay_graph::Node| matches!(n.op, Op::Embedding { .. });
    let hidden = prove_hiding(&key, &inputs, b"", &mut |_| {});
    match hidden {
        Ok(hidden) => {
            assert!(!graph.nodes().iter().any(tokens));
            verify(key.key(), &hidden).expect("verifies hidden");
            let outputs = |p: &Proof| p.statement.runs.iter().map(|r| r.output.clone()).collect();
            let [a, b]: [Vec<Vec<u8>>; 2] = [&proof, &hidden].map(outputs);
            assert_eq!(a, b);
        }
        Err(e) => {
            assert!(graph.nodes().iter().any(tokens), "{e}");
            let why = "the ids are not public";
            assert!(e.to_string().contains(why), "{e}");
        }
    }
    (key, proof)
}

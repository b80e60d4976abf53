//! Language models: greedy answers of small decoders, and what a lying prover could try.

use std::sync::Arc;

use assay_graph::{
    DType, Dim, Extent, Graph, GraphBuilder, Header, Op, Requant, Statement, TensorType, WeightRow,
    eval,
};

use crate::{
    Input, ProvingKey,
    compile::{Compiled, Source},
    oracle,
    plan::{
        Cell,
        expr::{Operand, Term},
        facts::Facts,
    },
    prove, verify, verify_direct,
};

#[path = "../../../graph/tests/common/mod.rs"]
pub(super) mod common;

use common::{Rng, VOCABULARY, generate, language_graph, sampler};

fn limited(shift: i8, dtype: DType, most: i32) -> Requant {
    Requant {
        shift,
        dtype,
        lo: -most,
        hi: most,
    }
}

/// Rows of 16-bit weights.
fn random_rows(
    rng: &mut Rng,
    n: usize,
    cols: usize,
    shift: (i64, i64),
    peak: i64,
) -> Vec<WeightRow> {
    let mut row = || WeightRow {
        shift: rng.range(shift.0, shift.1) as i8,
        bias: rng.range(-3000, 3000),
        values: (0..cols).map(|_| rng.range(-peak, peak)).collect(),
    };
    (0..n).map(|_| row()).collect()
}

/// A decoder with the proportions of real ones: two query heads for each key head, accumulators beyond the field, products of 28 bits.
pub(super) fn decoder(seed: u64, layers: usize) -> Graph {
    changed_decoder(seed, layers, 2500, Change::Nothing)
}

/// What a decoder has that another one has not.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Change {
    Nothing,
    /// Angles of the next position.
    Angles,
    /// Tokens in pairs of which both have the same logits.
    Pairs,
    /// Another table of exponentials.
    Exponentials,
    /// Another activation.
    Activation,
}

pub(super) fn changed_decoder(seed: u64, layers: usize, peak: i64, change: Change) -> Graph {
    let rows = |rng: &mut Rng, n, cols, shift| random_rows(rng, n, cols, shift, peak);
    let mut rng = Rng(seed | 1);
    let mut b = GraphBuilder::new(Header {
        max_seq: 40,
        block_bits: 10,
    });
    let (d, heads, kv, size, inner) = (32usize, 4u16, 2u16, 8usize, 48usize);
    let ty = TensorType {
        dtype: DType::I32,
        shape: vec![Dim::Seq],
        lo: 0,
        hi: VOCABULARY as i32 - 1,
    };
    let tokens = b.input(ty).expect("tokens");
    let mut words = rows(&mut rng, VOCABULARY as usize, d, (13, 15));
    if change == Change::Pairs {
        for i in (1..words.len()).step_by(2) {
            words[i] = words[i - 1].clone();
        }
    }
    let words = b.weights(DType::I16, &words).expect("words");
    let residual = limited(0, DType::I32, (1 << 29) - 1);
    let op = Op::Lift {
        weights: words,
        out: limited(-12, DType::I32, (1 << 29) - 1),
    };
    let mut h = b.push("words", op, &[tokens], true).expect("words");
    let angles: Vec<i32> = (0..40usize)
        .flat_map(|t| {
            let turn = move |i: usize| {
                (t + usize::from(change == Change::Angles)) as f64
                    / 50f64.powf(i as f64 / (size / 2) as f64)
            };
            let cos = (0..size / 2).map(move |i| (16384.0 * turn(i).cos()).round() as i32);
            cos.chain((0..size / 2).map(move |i| (16384.0 * turn(i).sin()).round() as i32))
        })
        .collect();
    let angles = b.rows(DType::I16, size, &angles).expect("angles");
    let exp = (0..256).map(|i| match i {
        255 => 0,
        i if change == Change::Exponentials && i > 0 => 2048 - 8 * i,
        _ => (2048.0 * (-f64::from(i) / 16.0).exp2()).round() as i32,
    });
    let exp = b
        .table(DType::I16, &exp.collect::<Vec<_>>())
        .expect("table");
    let silu = (-32768..32768).map(|x| {
        let v = f64::from(x) / 256.0;
        (256.0 * v / (1.0 + (-v).exp())).round().min(32766.0) as i32
            + i32::from(change == Change::Activation)
    });
    let silu = b
        .table(DType::I16, &silu.collect::<Vec<_>>())
        .expect("table");
    let norm = |b: &mut GraphBuilder, rng: &mut Rng, x| {
        let gains: Vec<(i16, i32)> = (0..d).map(|_| (rng.range(4000, 30000) as i16, 0)).collect();
        let params = b.norm(&gains).expect("gains");
        let op = Op::RmsNorm {
            params,
            eps: 3,
            out: limited(15, DType::I16, 32639),
        };
        b.push("norm", op, &[x], false).expect("norm")
    };
    let linear = |b: &mut GraphBuilder, rows: &[WeightRow], x: &[u32], out: Requant| {
        let weights = b.weights(DType::I16, rows).expect("weights");
        let op = Op::Linear { weights, out };
        b.push("linear", op, x, false).expect("linear")
    };
    let put = |b: &mut GraphBuilder, op: Op, x: &[u32]| b.push("node", op, x, false).expect("node");
    let turn = |most| Op::Rope {
        rows: angles,
        out: limited(17, DType::I16, most),
    };
    let add = Op::Add {
        left: [0, 0],
        out: residual,
    };
    for layer in 0..layers {
        let z = norm(&mut b, &mut rng, h);
        let width = usize::from(kv) * size;
        let q = rows(&mut rng, d, d, (12, 15));
        let q = linear(&mut b, &q, &[z], limited(0, DType::I16, 32639));
        let k = rows(&mut rng, width, d, (13, 15));
        let k = linear(&mut b, &k, &[z], limited(0, DType::I16, 32639));
        let v = rows(&mut rng, width, d, (17, 18));
        let v = linear(&mut b, &v, &[z], limited(0, DType::I16, 2032));
        let q = put(&mut b, turn(4095), &[q]);
        let k = put(&mut b, turn(2047), &[k]);
        let s = put(
            &mut b,
            Op::Scores {
                heads,
                kv_heads: kv,
            },
            &[q, k],
        );
        let e = Op::CausalExp {
            table: exp,
            shifts: if layer == 0 {
                vec![16, 14, 17, 15]
            } else {
                vec![0, 0, 0, 0]
            },
        };
        let e = put(&mut b, e, &[s]);
        let v = put(&mut b, Op::Transpose { perm: vec![1, 0] }, &[v]);
        let mix = Op::Mix {
            kv_heads: kv,
            bits: 4,
            out: limited(0, DType::I16, 32512),
        };
        let o = put(&mut b, mix, &[e, v]);
        let w = rows(&mut rng, d, d, (8, 11));
        let o = linear(&mut b, &w, &[o], limited(0, DType::I32, 520_093_696));
        h = put(&mut b, add.clone(), &[h, o]);
        let z = norm(&mut b, &mut rng, h);
        let g = rows(&mut rng, inner, d, (13, 15));
        let g = linear(&mut b, &g, &[z], limited(0, DType::I16, 32639));
        let u = rows(&mut rng, inner, d, (14, 16));
        let u = linear(&mut b, &u, &[z], limited(0, DType::I16, 8128));
        let a = put(&mut b, Op::Lookup { table: silu }, &[g]);
        let product = Op::Mul {
            out: limited(0, DType::I32, 1 << 28),
        };
        let p = put(&mut b, product, &[a, u]);
        let x = put(&mut b, Op::Exponent { bits: 14 }, &[p]);
        let normalise = Op::Normalise {
            out: limited(0, DType::I16, 16384),
        };
        let n = put(&mut b, normalise, &[p, x]);
        let w = rows(&mut rng, d, inner, (19, 22));
        let f = linear(&mut b, &w, &[n, x], limited(0, DType::I32, 520_093_696));
        h = b.push("add", add.clone(), &[h, f], true).expect("add");
    }
    let t = put(&mut b, Op::Tail, &[h]);
    let z = norm(&mut b, &mut rng, t);
    let head = Op::Linear {
        weights: words,
        out: limited(0, DType::I16, 32639),
    };
    let logits = put(&mut b, head, &[z]);
    sampler(&mut b, logits, tokens, [16, 24, 20]);
    b.finish().expect("a graph")
}

pub(super) fn input(graph: &Graph, prompt: &[i32], out: u32) -> (Input, Vec<i32>) {
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
    let graph = Arc::new(decoder(7, 2));
    let (input, answer) = input(&graph, &[1, 7, 30, 2, 66], 3);
    let key = ProvingKey::direct(Arc::clone(&graph)).expect("a key");
    let compiled = compile(&key, &input, None, &every(&key));
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

#[test]
fn answers_are_proven_in_both_modes() {
    let graph = Arc::new(decoder(7, 2));
    let (first, _) = input(&graph, &[1, 7, 30, 2, 66], 3);
    let (second, _) = input(&graph, &[9, 8, 69, 0, 33], 3);
    let inputs = [first, second];
    let key = ProvingKey::new(Arc::clone(&graph)).expect("a key");
    let proof = prove(&key, &inputs, b"context", &mut |_| {}).expect("a proof");
    verify(key.key(), &proof).expect("verifies");
    for change in [
        |s: &mut crate::Statement| s.runs[1].sampling[5] = 1,
        |s: &mut crate::Statement| s.runs[0].sampling.clear(),
        |s: &mut crate::Statement| s.runs[0].input.swap(0, 4),
        |s: &mut crate::Statement| s.runs[0].output.swap(4, 8),
        |s: &mut crate::Statement| s.runs[1].output[8] ^= 1,
    ] {
        let mut lie = proof.clone();
        change(&mut lie.statement);
        assert!(verify(key.key(), &lie).is_err());
    }
    let key = ProvingKey::direct(Arc::clone(&graph)).expect("a key");
    let proof = prove(&key, &inputs[..1], b"", &mut |_| {}).expect("a proof");
    verify_direct(&graph, &proof).expect("verifies directly");
}

/// Cells that are changed one at a time are noticed, whatever their column.
#[test]
fn every_column_is_bound() {
    let graph = Arc::new(decoder(11, 1));
    let (input, _) = input(&graph, &[1, 7, 30], 2);
    let key = ProvingKey::direct(Arc::clone(&graph)).expect("a key");
    let proof = prove(&key, std::slice::from_ref(&input), b"", &mut |_| {}).expect("a proof");
    let mut rng = Rng(5);
    for restless in [every(&key), proof.statement.restless] {
        let compiled = compile(&key, &input, None, &restless);
        let data = compiled.data.expect("cells");
        let plan = &compiled.plan;
        assert_eq!(oracle::check(plan, graph.consts(), &data), Ok(()));
        for column in 0..data.len() {
            for _ in 0..2 {
                let at = rng.range(0, data[column].len() as i64 - 1) as usize;
                let mut lie = data.clone();
                lie[column][at] += if rng.range(0, 1) == 0 { 1 } else { -1 };
                assert!(
                    oracle::check(plan, graph.consts(), &lie).is_err(),
                    "column {column} ({}) cell {at}",
                    plan.columns[column].op
                );
            }
        }
    }
}

/// All nodes.
pub(super) fn every(key: &ProvingKey) -> Vec<u32> {
    (0..key.graph.nodes().len() as u32).collect()
}

/// Compiles a run for a prover that says these outputs.
pub(super) fn compile(
    key: &ProvingKey,
    input: &Input,
    outputs: Option<Vec<i32>>,
    restless: &[u32],
) -> Compiled {
    let tokens = input.tensor.data.to_i32();
    let source = Source {
        structure: &key.key.structure,
        consts: Some(key.graph.consts()),
        runs: 1,
        extent: Extent {
            seq: tokens.len() as u32,
            out: input.out,
        },
        inputs: Arc::new(tokens),
        hidden: false,
        outputs: outputs.map(Arc::new),
        restless,
        samplings: input.sampling.as_slice(),
    };
    let facts = Facts::Replay {
        facts: Arc::clone(&key.key.facts),
        next: 0,
    };
    source.compile(facts, true).expect("plans")
}

#[test]
fn calm_nodes_need_fewer_cells() {
    // one of these has a clamp that acts
    let found = (1..40).find_map(|seed| {
        let graph = Arc::new(decoder(seed, 2));
        let (input, answer) = input(&graph, &[1, 7, 30, 2, 66], 3);
        let key = ProvingKey::direct(Arc::clone(&graph)).expect("a key");
        let calm = compile(&key, &input, None, &[]);
        (!calm.restless.is_empty()).then_some((graph, input, answer, key, calm))
    });
    let (graph, input, answer, key, calm) = found.expect("a run that is not calm");
    let every = every(&key);
    let all = compile(&key, &input, None, &every);
    assert!(all.restless.is_empty());
    assert_eq!(all.outputs.as_deref(), Some(&answer));
    let data = all.data.expect("cells");
    assert_eq!(oracle::check(&all.plan, graph.consts(), &data), Ok(()));
    // calm where it is not: no witness
    let lie = calm.data.expect("cells");
    assert!(oracle::check(&calm.plan, graph.consts(), &lie).is_err());
    let proof = prove(&key, std::slice::from_ref(&input), b"", &mut |_| {}).expect("a proof");
    let restless = proof.statement.restless.clone();
    assert!(restless.len() < graph.nodes().len() / 2, "{restless:?}");
    let some = compile(&key, &input, None, &restless);
    assert!(some.restless.is_empty());
    let fewer = some.data.expect("cells");
    assert_eq!(oracle::check(&some.plan, graph.consts(), &fewer), Ok(()));
    let cells = |d: &[Vec<i32>]| d.iter().map(Vec::len).sum::<usize>();
    assert!(cells(&fewer) < cells(&data));
    let verified = crate::Statement::decode(&proof.statement.encode()).expect("a statement");
    assert_eq!(verified.0, proof.statement);
    verify_direct(&graph, &proof).expect("verifies");
    for nodes in [vec![], every, vec![2, 1], vec![1 << 20]] {
        let mut lie = proof.clone();
        lie.statement.restless = nodes;
        assert!(verify_direct(&graph, &lie).is_err());
    }
}

/// A witness that follows from other constants, consistent in itself, is no witness of this model.
#[test]
fn witnesses_of_other_models_are_rejected() {
    let graph = Arc::new(decoder(21, 1));
    let key = ProvingKey::direct(Arc::clone(&graph)).expect("a key");
    let (input, _) = input(&graph, &[1, 7, 30, 4, 12], 2);
    let honest = compile(&key, &input, None, &every(&key));
    let data = honest.data.expect("cells");
    assert_eq!(oracle::check(&honest.plan, graph.consts(), &data), Ok(()));
    for change in [Change::Angles, Change::Exponentials, Change::Activation] {
        let other = Arc::new(changed_decoder(21, 1, 2500, change));
        let key = ProvingKey::direct(Arc::clone(&other)).expect("a key");
        let lie = compile(&key, &input, None, &every(&key));
        let lie = lie.data.expect("cells");
        assert!(oracle::check(&honest.plan, graph.consts(), &lie).is_err());
    }
    // other tokens
    let mut shifted = input.clone();
    let mut tokens = input.tensor.data.to_i32();
    tokens.rotate_left(1);
    shifted.tensor.data = assay_graph::Data::I32(tokens);
    let lie = compile(&key, &shifted, None, &every(&key))
        .data
        .expect("cells");
    assert!(oracle::check(&honest.plan, graph.consts(), &lie).is_err());
}

/// Every other token than the lowest of the most likely ones is rejected.
#[test]
fn only_the_first_of_the_most_likely_tokens_is_an_answer() {
    let graph = Arc::new(changed_decoder(5, 1, 2500, Change::Pairs));
    let key = ProvingKey::direct(Arc::clone(&graph)).expect("a key");
    let (input, answer) = input(&graph, &[1, 7, 30, 4, 12], 1);
    assert_eq!(answer[0] % 2, 0, "the first of a pair");
    for token in 0..VOCABULARY as i32 {
        let said = compile(&key, &input, Some(vec![token]), &every(&key));
        let data = said.data.expect("cells");
        let verdict = oracle::check(&said.plan, graph.consts(), &data);
        assert_eq!(verdict.is_ok(), token == answer[0], "token {token}");
    }
    let proof = prove(&key, std::slice::from_ref(&input), b"", &mut |_| {}).expect("a proof");
    let mut lie = proof;
    lie.statement.runs[0].output[0] ^= 1;
    assert!(verify_direct(&graph, &lie).is_err());
}

/// Products of 16-bit numbers with exponents for 15 bits: a quotient beyond the largest one would wrap.
#[test]
fn widest_products_are_proven() {
    let graph = Arc::new(language_graph(3, 2, 32));
    let key = ProvingKey::direct(Arc::clone(&graph)).expect("a key");
    let (input, answer) = input(&graph, &[1, 7, 30, 2, 66], 3);
    let honest = compile(&key, &input, None, &every(&key));
    assert_eq!(honest.outputs.as_deref(), Some(&answer));
    let (plan, data) = (&honest.plan, honest.data.expect("cells"));
    assert_eq!(oracle::check(plan, graph.consts(), &data), Ok(()));
    let proof = prove(&key, std::slice::from_ref(&input), b"", &mut |_| {}).expect("a proof");
    verify_direct(&graph, &proof).expect("verifies");
    // a pair of the table that says of a quotient that it is beyond
    let mut seen = 0;
    for relation in &plan.relations {
        let (Term::Product { a, b, .. }, true) = (
            &relation.terms[0],
            relation.label == "no quotient beyond the ends",
        ) else {
            continue;
        };
        let operands = [a, b].map(|v| v.terms[0].1.operand);
        let [Operand::Column(largest), Operand::Column(class)] = operands else {
            continue;
        };
        let Cell::Value { key } = plan.columns[class].cell else {
            continue;
        };
        let mut lie = data.clone();
        lie[class].fill(1);
        lie[largest].fill(1);
        lie[key].fill(32_767);
        let found = oracle::violations(plan, graph.consts(), &lie);
        let named = |v: &oracle::Violation| matches!(v, oracle::Violation::Relation { label, .. } if *label == relation.label);
        seen += usize::from(found.iter().any(named));
    }
    assert!(seen > 0);
}

//! Sizes of plans of a real language model, whose graph the environment variable ASSAY_GRAPH names.

use std::{collections::BTreeMap, sync::Arc, time::Instant};

use assay_graph::{Data, Extent, Graph, Sampling, Tensor, sampling::ONE};

use super::language::compile;
use crate::{
    Input, ProvingKey,
    compile::Source,
    lookup::multiplicities,
    plan::{Cell, Column, Table, expr::Term, facts::Facts},
};

/// Sizes of SmolLM2's plan without data; needs the model.
#[test]
#[ignore = "needs a model file"]
fn sizes_of_a_real_model() {
    let Ok(path) = std::env::var("ASSAY_GRAPH") else {
        return;
    };
    let bytes = std::fs::read(path).expect("a file");
    let graph = Arc::new(Graph::from_bytes(&bytes).expect("a graph"));
    let start = Instant::now();
    let key = ProvingKey::direct(Arc::clone(&graph)).expect("a key");
    println!("key {:?}, {} facts", start.elapsed(), key.key.facts.len());
    let sampled = |top_k, top_p| Sampling {
        temperature: 45_875,
        top_k,
        top_p,
        ..Sampling::default()
    };
    let samplings = [
        Sampling::default(),
        sampled(0, ONE),
        sampled(0, 59_000),
        sampled(50, 59_000),
    ];
    let sizes = [(16, 8), (64, 16), (128, 32), (2048, 256)];
    for ((seq, out), sampling) in sizes
        .iter()
        .flat_map(|s| samplings.iter().map(move |x| (*s, x)))
    {
        let source = Source {
            structure: &key.key.structure,
            consts: None,
            runs: 1,
            extent: Extent { seq, out },
            inputs: Arc::new(vec![1; seq as usize]),
            hidden: false,
            outputs: None,
            restless: &[],
            samplings: std::slice::from_ref(sampling),
        };
        let facts = Facts::Replay {
            facts: Arc::clone(&key.key.facts),
            next: 0,
        };
        let start = Instant::now();
        let plan = match source.compile(facts, false) {
            Ok(c) => c.plan,
            Err(e) => {
                println!("T = {seq}: {e}");
                continue;
            }
        };
        let cells = |c: &Column| c.shape.iter().product::<usize>();
        let mut by_op: BTreeMap<&str, (usize, usize)> = Default::default();
        println!(
            "T = {seq}, {out} answer, top-k {}, top-p {}, {:?}: cells {} = 2^{:.2}, lookups {}, tables {} rows {}, columns {}, relations {}, witness 2^{}, leaves 2^{}",
            sampling.top_k,
            sampling.top_p,
            start.elapsed(),
            plan.columns.iter().map(cells).sum::<usize>(),
            (plan.columns.iter().map(cells).sum::<usize>() as f64).log2(),
            plan.leaf_columns
                .iter()
                .map(|c| cells(&plan.columns[*c]))
                .sum::<usize>(),
            plan.tables.len(),
            plan.tables.iter().map(Table::len).sum::<usize>(),
            plan.columns.len(),
            plan.relations.len(),
            plan.witness.log,
            plan.leaf_log,
        );
        let mut products = (0usize, 0usize);
        for r in &plan.relations {
            for t in &r.terms {
                if let Term::Product { sums, a, b, .. } = t {
                    let lens: Vec<usize> = r.axes.iter().chain(sums).copied().collect();
                    let cube: usize = (0..lens.len())
                        .filter(|l| a.mentions(*l) && b.mentions(*l))
                        .map(|l| lens[l].next_power_of_two())
                        .product();
                    products = (products.0 + 1, products.1 + cube);
                }
            }
        }
        let mut tables: BTreeMap<(&str, usize), usize> = Default::default();
        for t in &plan.tables {
            let kind = match t {
                Table::Range { .. } => "range",
                Table::Function { .. } => "function",
                _ => "other",
            };
            *tables.entry((kind, t.len())).or_default() += 1;
        }
        for ((kind, len), n) in tables.iter().filter(|t| t.0.1 * t.1 > 60000) {
            println!("  table {kind} {len} x {n}");
        }
        println!("  products {} with {} elements", products.0, products.1);
        for c in &plan.columns {
            let (op, n) = (c.op, cells(c));
            let e = by_op.entry(op).or_default();
            e.0 += n;
            e.1 += usize::from(matches!(c.cell, Cell::Key(_))) * n;
        }
        for (op, (n, keys)) in by_op {
            println!("  {op}: {n} cells, {keys} lookups");
        }
    }
}

/// Whether a run of a real model is calm; needs the model.
#[test]
#[ignore = "needs a model file"]
fn runs_of_a_real_model() {
    let Ok(path) = std::env::var("ASSAY_GRAPH") else {
        return;
    };
    let bytes = std::fs::read(path).expect("a file");
    let graph = Arc::new(Graph::from_bytes(&bytes).expect("a graph"));
    let key = ProvingKey::direct(Arc::clone(&graph)).expect("a key");
    let tokens = [
        1, 504, 3575, 282, 4649, 314, 7042, 30, 378, 260, 1313, 2, 28, 351, 253, 837,
    ];
    let input = Input {
        tensor: Tensor::new(vec![16], Data::I32(tokens.to_vec())).expect("tokens"),
        out: 8,
        sampling: None,
    };
    let start = Instant::now();
    let compiled = compile(&key, &input, None, &[]);
    for n in &compiled.restless {
        println!("{n} {:?}", graph.nodes()[*n as usize].op);
    }
    println!(
        "restless {} after {:?}: {:?}",
        compiled.restless.len(),
        start.elapsed(),
        compiled.outputs
    );
    let start = Instant::now();
    let inside = multiplicities(&compiled.plan, &compiled.data.expect("cells"));
    println!("cells {:?} {:?}", inside.map(|_| ()), start.elapsed());
}

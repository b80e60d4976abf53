//! CPU time of a MiniLM-L6 encoder: this engine, its trace commitment, and onnxruntime float32 in alternation.
//!
//! `cargo run --release -p assay-engine --example bench_minilm -- [--graph FILE] [--tokens 64] [--runs 101] [--rounds 3] [--threads 1] [--profile]`
//!
//! `FILE` holds the canonical bytes of an imported graph; without it a synthetic graph of the same shapes runs. The peer runs when
//! `ASSAY_BENCH_PYTHON` and `ASSAY_BENCH_MODEL` are set. All times are CPU time (user + system of the process); one line per round, medians at the end.

mod peer;
mod synthetic;

use std::{collections::BTreeMap, sync::Arc};

use assay_engine::{Engine, EngineOptions};
use assay_graph::{ConstKind, Data, Graph, Op, Tensor};

struct Options {
    graph: Option<String>,
    tokens: usize,
    runs: usize,
    rounds: usize,
    threads: usize,
    profile: bool,
}

fn options() -> Result<Options, String> {
    let mut o = Options {
        graph: None,
        tokens: 64,
        runs: 101,
        rounds: 3,
        threads: 1,
        profile: false,
    };
    let mut args = std::env::args().skip(1);
    while let Some(a) = args.next() {
        let mut next = || args.next().ok_or(format!("`{a}` needs a value"));
        let number = |v: String| v.parse::<usize>().map_err(|e| format!("`{v}`: {e}"));
        match a.as_str() {
            "--graph" => o.graph = Some(next()?),
            "--tokens" => o.tokens = number(next()?)?,
            "--runs" => o.runs = number(next()?)?.max(1),
            "--rounds" => o.rounds = number(next()?)?.max(1),
            "--threads" => o.threads = number(next()?)?,
            "--profile" => o.profile = true,
            _ => return Err(format!("unknown option `{a}`")),
        }
    }
    Ok(o)
}

fn cpu_ms() -> f64 {
    let t = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    t.tv_sec as f64 * 1e3 + t.tv_nsec as f64 / 1e6
}

fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// Multiply-adds of the linear layers and products of one run.
fn macs(graph: &Graph, seq: u32) -> f64 {
    let types = graph.types();
    let last = |node: u32| *types[node as usize].dims(seq).last().unwrap_or(&1) as f64;
    let nodes = graph.nodes().iter().enumerate();
    nodes
        .map(|(i, n)| match &n.op {
            Op::Linear { .. } | Op::MatMul { .. } => types[i].len(seq) as f64 * last(n.inputs[0]),
            Op::Conv2d { weights, .. } => match graph.consts()[*weights as usize].kind() {
                ConstKind::Weights { cols, .. } => types[i].len(seq) as f64 * f64::from(cols),
                _ => 0.0,
            },
            _ => 0.0,
        })
        .sum()
}

fn profile(engine: &Engine, input: &Tensor, runs: usize) -> Result<(), String> {
    let mut times: BTreeMap<(String, usize), Vec<f64>> = BTreeMap::new();
    for _ in 0..runs {
        let mut before = cpu_ms();
        engine
            .run_observed(input, &mut |n| {
                let op = format!("{:?}", n.op);
                let dims = engine.graph().types()[n.node].dims(64);
                let name = format!(
                    "{} {} {dims:?}",
                    op.split([' ', '{']).next().unwrap_or(""),
                    n.kernel
                );
                times
                    .entry((name, n.node))
                    .or_default()
                    .push(cpu_ms() - before);
                before = cpu_ms();
            })
            .map_err(|e| e.to_string())?;
    }
    let mut sums: BTreeMap<String, (f64, usize)> = BTreeMap::new();
    for ((name, _), mut t) in times {
        let s = sums.entry(name).or_default();
        *s = (s.0 + median(&mut t), s.1 + 1);
    }
    let mut sums: Vec<_> = sums.into_iter().collect();
    sums.sort_by(|a, b| b.1.0.total_cmp(&a.1.0));
    let all: f64 = sums.iter().map(|s| s.1.0).sum();
    println!(
        "profile: median CPU ms of each node, summed over nodes of one kind (dimensions at 64 tokens)"
    );
    for (name, (ms, n)) in sums {
        println!("  {ms:7.3} ms {:5.1} %  {n:3} × {name}", ms / all * 100.0);
    }
    Ok(())
}

fn main() -> Result<(), String> {
    let o = options()?;
    let (graph, what) = match &o.graph {
        Some(path) => {
            let bytes = std::fs::read(path).map_err(|e| format!("`{path}`: {e}"))?;
            (
                Graph::from_bytes(&bytes).map_err(|e| e.to_string())?,
                format!("graph `{path}`"),
            )
        }
        None => (
            synthetic::graph().map_err(|e| e.to_string())?,
            "synthetic graph of MiniLM's shapes, random weights".to_owned(),
        ),
    };
    let graph = Arc::new(graph);
    let engine = Engine::new(
        graph.clone(),
        EngineOptions {
            threads: o.threads,
            tier: None,
        },
    )
    .map_err(|e| e.to_string())?;
    let ids: Vec<i32> = (0..o.tokens as i32)
        .map(|i| 1000 + i * 449 % 29_000)
        .collect();
    let input = Tensor {
        dims: vec![o.tokens],
        data: Data::I32(ids),
    };
    let macs = macs(&graph, o.tokens as u32);
    println!(
        "{what}; {} nodes, {:.1} M multiply-adds at {} tokens; tier {}, {} threads",
        graph.nodes().len(),
        macs / 1e6,
        o.tokens,
        engine.tier(),
        o.threads
    );
    let (mut plain, mut traced, mut costs, mut peers, mut best) =
        (Vec::new(), Vec::new(), Vec::new(), Vec::new(), f64::MAX);
    for round in 0..o.rounds {
        let (mut a, mut b, mut both) = (Vec::new(), Vec::new(), Vec::new());
        for i in 0..o.runs {
            // which of the two comes first alternates, so that neither always finds warmer caches
            let mut times = [0.0; 2];
            for traced in [i % 2 == 1, i % 2 == 0] {
                let start = cpu_ms();
                if traced {
                    engine
                        .run_traced(&input, &[7; 32])
                        .map_err(|e| e.to_string())?;
                } else {
                    engine.run(&input).map_err(|e| e.to_string())?;
                }
                times[usize::from(traced)] = cpu_ms() - start;
            }
            a.push(times[0]);
            b.push(times[1]);
            both.push(times[1] - times[0]);
        }
        costs.push(median(&mut both));
        best = a.iter().copied().fold(best, f64::min);
        let (run, trace) = (median(&mut a), median(&mut b));
        print!("round {round}: run {run:.3} ms, traced {trace:.3} ms");
        plain.push(run);
        traced.push(trace);
        match peer::round(o.tokens, 41) {
            Some(Ok(p)) => {
                print!(
                    ", onnxruntime {} f32 {:.3} ms (best {:.3})",
                    p.version, p.median, p.best
                );
                peers.push(p.median);
            }
            Some(Err(e)) => print!(", peer failed: {e}"),
            None => {}
        }
        println!();
    }
    let (run, cost) = (median(&mut plain), median(&mut costs));
    println!(
        "run {run:.3} ms (best {best:.3}), {:.0} GMAC/s; trace {cost:.3} ms = {:.2} % (median of pairs)",
        macs / run / 1e6,
        cost / run * 100.0
    );
    if !peers.is_empty() {
        let peer = median(&mut peers);
        println!("onnxruntime f32 {peer:.3} ms; ratio {:.3}", run / peer);
    }
    if o.profile {
        profile(&engine, &input, o.runs)
    } else {
        Ok(())
    }
}

//! Proves a run of a graph file and says what it cost: `bench_prove GRAPH [--seq N | --tokens ID,ID,…] [--runs N] [--repeat N] [--direct | --hiding] [--memory MIB]`. Language models answer greedily with one token.
#![allow(clippy::print_stdout, reason = "a tool for people")]

use std::{sync::Arc, time::Instant};

use assay_graph::{Data, Graph, Sampling, Tensor};
use assay_proof::{Input, MEMORY, Mode, ProvingKey, prove, prove_hiding, verify, verify_direct};

fn cpu_seconds() -> f64 {
    // user and system ticks of the process, 100 a second
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields: Vec<&str> = stat
        .rsplit(") ")
        .next()
        .unwrap_or_default()
        .split(' ')
        .collect();
    let ticks = |i: usize| {
        fields
            .get(i)
            .and_then(|v| v.parse::<f64>().ok())
            .unwrap_or(0.0)
    };
    (ticks(11) + ticks(12)) / 100.0
}

fn peak_mib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status
        .lines()
        .find(|l| l.starts_with("VmHWM"))
        .unwrap_or_default();
    line.split_whitespace()
        .nth(1)
        .and_then(|v| v.parse::<u64>().ok())
        .unwrap_or(0)
        / 1024
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let args: Vec<String> = std::env::args().collect();
    let path = args.get(1).ok_or("GRAPH")?;
    let option = |name: &str| {
        args.iter()
            .position(|a| a == name)
            .and_then(|i| args.get(i + 1))
            .and_then(|v| v.parse::<usize>().ok())
    };
    let [direct, hiding] = ["--direct", "--hiding"].map(|o| args.iter().any(|a| a == o));
    let memory = option("--memory").map_or(MEMORY, |mib| (mib as u64) << 20);
    let graph = Arc::new(Graph::from_bytes(&std::fs::read(path)?)?);
    let ty = graph.input_type().ok_or("no input")?.clone();
    let tokens = args.iter().position(|a| a == "--tokens");
    let tokens: Option<Vec<i32>> = tokens
        .and_then(|i| args.get(i + 1))
        .map(|list| list.split(',').map(str::parse).collect())
        .transpose()?;
    let seq = match &tokens {
        Some(tokens) => tokens.len() as u32,
        None => option("--seq").unwrap_or(1) as u32,
    };
    let generative = graph.structure().is_generative();
    let dims = ty.dims(seq);
    let n: usize = dims.iter().product();
    let runs = option("--runs").unwrap_or(1);
    let mut state = 1u64;
    let mut draw = || {
        state = state
            .wrapping_mul(6364136223846793005)
            .wrapping_add(1442695040888963407);
        let width = (i64::from(ty.hi) - i64::from(ty.lo) + 1) as u64;
        (i64::from(ty.lo) + ((state >> 33) % width) as i64) as i32
    };
    let mut inputs = Vec::new();
    for _ in 0..runs {
        let values = match &tokens {
            Some(tokens) => tokens.clone(),
            None => (0..n).map(|_| draw()).collect(),
        };
        let data = Data::from_i32(ty.dtype, &values).ok_or("range")?;
        inputs.push(Input {
            tensor: Tensor::new(dims.clone(), data)?,
            out: 1,
            sampling: generative.then(Sampling::default),
        });
    }
    let (t, c) = (Instant::now(), cpu_seconds());
    let key = if direct {
        ProvingKey::direct(graph.clone())?
    } else {
        ProvingKey::new(graph.clone())?
    }
    .with_memory(memory);
    println!(
        "key     {:8.3} s wall {:7.2} s cpu, {} bytes, peak {} MiB",
        t.elapsed().as_secs_f64(),
        cpu_seconds() - c,
        key.key().encode().len(),
        peak_mib()
    );
    let mode = if hiding {
        Mode::Hiding
    } else {
        Mode::Committed
    };
    let extent = assay_graph::Extent { seq, out: 1 };
    let cost = key.key().cost(mode, extent, runs, memory)?;
    println!("cost    {cost:?}, about {} MiB", cost.memory() >> 20);
    let mut last = None;
    for _ in 0..option("--repeat").unwrap_or(3) {
        let (t, c) = (Instant::now(), cpu_seconds());
        // name, wall and CPU seconds, peak
        let mut steps: Vec<(String, f64, f64, u64)> = Vec::new();
        let mut step = (t, c);
        let mut end = |steps: &mut Vec<(String, f64, f64, u64)>| {
            if let Some((_, wall, cpu, peak)) = steps.last_mut() {
                (*wall, *cpu) = (step.0.elapsed().as_secs_f64(), cpu_seconds() - step.1);
                *peak = peak_mib();
            }
            step = (Instant::now(), cpu_seconds());
        };
        let prove = if hiding { prove_hiding } else { prove };
        let proof = prove(&key, &inputs, b"bench", &mut |s| {
            end(&mut steps);
            steps.push((format!("{s:?}"), 0.0, 0.0, 0));
        })?;
        end(&mut steps);
        println!(
            "prove   {:8.3} s wall {:7.2} s cpu, {} bytes, peak {} MiB",
            t.elapsed().as_secs_f64(),
            cpu_seconds() - c,
            proof.encode().len(),
            peak_mib()
        );
        for (name, wall, cpu, peak) in steps {
            println!("        {name:9} {wall:6.3} s wall {cpu:6.2} s cpu, peak {peak} MiB");
        }
        last = Some(proof);
    }
    let proof = last.ok_or("no proof")?;
    let (t, c) = (Instant::now(), cpu_seconds());
    let verified = if direct {
        verify_direct(&graph, &proof)?
    } else {
        verify(key.key(), &proof)?
    };
    println!(
        "verify  {:8.4} s wall {:7.2} s cpu",
        t.elapsed().as_secs_f64(),
        cpu_seconds() - c
    );
    println!("{verified:?}");
    Ok(())
}

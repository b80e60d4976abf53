//! Time and gas of the chain's check of a proof.
//!
//! `cargo run --release -p assay-node --example bench_proofs -- digits | GRAPH.assay [POSITIONS]` proves one run and then several in one proof, and prints bytes of key and proof, microseconds of the check
//! (one thread, median of 21) and its gas; then the same for the statement followed by junk, with as many runs as a proof on chain has room for.

use std::{sync::Arc, time::Instant};

use alloy_primitives::keccak256;
use assay_graph::{Data, Dim, Graph, Tensor};
use assay_modules::{ProofVerifier, StoredKey};
use assay_node::GraphProofs;
use assay_proof::{Input, ProvingKey, Statement, prove};

const ROOM: usize = 1024 * 1024 - 4096;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut args = std::env::args().skip(1);
    let path = args
        .next()
        .ok_or("usage: bench_proofs digits | GRAPH.assay [POSITIONS]")?;
    let graph = if path == "digits" {
        Arc::clone(&assay_import::digits()?.graph)
    } else {
        Arc::new(Graph::from_bytes(&std::fs::read(&path)?)?)
    };
    let positions = args
        .next()
        .map_or(Ok(graph.header().max_seq), |s| s.parse())?;
    let ty = graph.input_type().ok_or("empty graph")?.clone();
    let seq = if ty.shape.contains(&Dim::Seq) {
        positions
    } else {
        1
    };
    let values: Vec<i32> = (0..ty.len(seq))
        .map(|i| ty.lo + (i as i64 * 7919 % (i64::from(ty.hi) - i64::from(ty.lo) + 1)) as i32)
        .collect();
    let data = Data::from_i32(ty.dtype, &values).ok_or("range")?;
    let input = Input {
        tensor: Tensor::new(ty.dims(seq), data)?,
        out: 1,
        sampling: None,
    };
    let key = ProvingKey::new(graph)?;
    let bytes = key.key().encode();
    println!("{path}: key {} bytes", bytes.len());
    let mut one: Option<Statement> = None;
    for runs in [1, 4] {
        let proof = prove(&key, &vec![input.clone(); runs], b"", &mut |_| {})?;
        one.get_or_insert(proof.statement.clone());
        report(&format!("{runs} runs"), &bytes, &proof.encode(), true);
        report(
            &format!("{runs} runs, key remembered"),
            &bytes,
            &proof.encode(),
            false,
        );
    }
    let mut statement = one.ok_or("no proof")?;
    let run = statement.runs.first().ok_or("no run")?.clone();
    let size = run.input.len() + run.output.len() + 12;
    for runs in [1, 64, (ROOM / size).saturating_sub(2).clamp(1, 4096)] {
        statement.runs = vec![run.clone(); runs];
        let mut junk = statement.encode();
        junk.resize(ROOM.max(junk.len()), 0x5a);
        report(&format!("{runs} runs and junk"), &bytes, &junk, true);
    }
    Ok(())
}

fn report(what: &str, key: &[u8], proof: &[u8], cold: bool) {
    let mut times: Vec<f64> = Vec::new();
    let mut outcome = Ok(0);
    let key = StoredKey {
        key_id: keccak256(key),
        bytes: key,
    };
    let mut proofs = GraphProofs::default();
    for _ in 0..21 {
        if cold {
            proofs = GraphProofs::default();
        }
        let start = Instant::now();
        outcome = proofs.verify(key, proof);
        times.push(start.elapsed().as_secs_f64() * 1e6);
    }
    times.sort_by(f64::total_cmp);
    let (median, gas) = (times[10], proofs.gas(key, proof));
    println!(
        "{what}: proof {} bytes, {median:.0} us = {:.0} gas, {gas} charged, {outcome:?}",
        proof.len(),
        median * 25.0
    );
}

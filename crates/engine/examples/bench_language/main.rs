//! CPU time of a language model: decoding, prefill, replay of an answer, trace commitment, concurrent streams, memory.
//!
//! `cargo run --release -p assay-engine --example bench_language -- [--graph FILE | --shape smol|qwen] [--prompt 20] [--tokens 128] [--prefill 256] [--streams 8] [--rounds 3] [--threads 1] [--sampled] [--only decode]`
//!
//! `FILE` holds the canonical bytes of an imported graph; without it a model of the given shape with random weights runs. All times are CPU time (user + system of the process).

mod synthetic;

use std::{sync::Arc, time::Instant};

use assay_engine::{Decoder, EngineError, EngineOptions, Generated, Sequence};
use assay_graph::{
    Graph, Sampling,
    trace::{Family, leaf_hash},
};

const SALT: [u8; 32] = [1; 32];

struct Options {
    graph: Option<String>,
    shape: synthetic::Shape,
    prompt: usize,
    tokens: usize,
    prefill: usize,
    streams: usize,
    rounds: usize,
    threads: usize,
    sampled: bool,
    only: Option<String>,
}

fn options() -> Result<Options, String> {
    let mut o = Options {
        graph: None,
        shape: synthetic::Shape::SMOL,
        prompt: 20,
        tokens: 128,
        prefill: 256,
        streams: 8,
        rounds: 3,
        threads: 1,
        sampled: false,
        only: None,
    };
    let mut args = std::env::args().skip(1);
    while let Some(a) = args.next() {
        let mut next = || args.next().ok_or(format!("`{a}` needs a value"));
        let number = |v: String| v.parse::<usize>().map_err(|e| format!("`{v}`: {e}"));
        match a.as_str() {
            "--graph" => o.graph = Some(next()?),
            "--shape" => {
                o.shape = match next()?.as_str() {
                    "smol" => synthetic::Shape::SMOL,
                    "qwen" => synthetic::Shape::QWEN,
                    other => return Err(format!("no shape is called `{other}`")),
                }
            }
            "--prompt" => o.prompt = number(next()?)?,
            "--tokens" => o.tokens = number(next()?)?,
            "--prefill" => o.prefill = number(next()?)?,
            "--streams" => o.streams = number(next()?)?,
            "--rounds" => o.rounds = number(next()?)?,
            "--threads" => o.threads = number(next()?)?,
            "--sampled" => o.sampled = true,
            "--only" => o.only = Some(next()?),
            _ => return Err(format!("`{a}` is no option")),
        }
    }
    Ok(o)
}

fn cpu() -> f64 {
    let t = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    t.tv_sec as f64 + t.tv_nsec as f64 * 1e-9
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

struct Bench {
    decoder: Decoder,
    sampling: Sampling,
    vocabulary: u32,
}

impl Bench {
    fn prompt(&self, n: usize, seed: u32) -> Vec<u32> {
        (0..n as u32)
            .map(|i| (i * 7919 + seed * 104_729) % self.vocabulary)
            .collect()
    }

    fn start(&self, n: usize, seed: u32) -> Result<Sequence, EngineError> {
        self.decoder
            .start(&self.prompt(n, seed), &self.sampling, &SALT)
    }

    /// An answer of `tokens` tokens; seconds of prefill and of everything after it.
    fn generate(&self, prompt: usize, tokens: usize) -> Result<(Generated, f64, f64), EngineError> {
        let mut s = self.start(prompt, 1)?;
        let start = cpu();
        while !s.ready() {
            self.decoder.step(&mut [&mut s], 256)?;
        }
        let filled = cpu();
        s.sample(None)?;
        for _ in 1..tokens {
            self.decoder.step(&mut [&mut s], 1)?;
            s.sample(None)?;
        }
        let done = s.finish()?;
        Ok((done, filled - start, cpu() - filled))
    }

    /// Seconds for `streams` answers of `tokens` tokens, their prompts not counted.
    fn together(&self, streams: usize, prompt: usize, tokens: usize) -> Result<f64, EngineError> {
        let mut all = (0..streams)
            .map(|i| self.start(prompt, i as u32))
            .collect::<Result<Vec<_>, _>>()?;
        let mut batch: Vec<&mut Sequence> = all.iter_mut().collect();
        self.decoder.step(&mut batch, prompt)?;
        for s in &mut batch {
            s.sample(None)?;
        }
        let start = cpu();
        for _ in 1..tokens {
            self.decoder.step(&mut batch, 1)?;
            for s in &mut batch {
                s.sample(None)?;
            }
        }
        Ok(cpu() - start)
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let o = options()?;
    let start = Instant::now();
    let graph = match &o.graph {
        Some(file) => Graph::from_bytes(&std::fs::read(file)?)?,
        None => synthetic::language_model(o.shape)?,
    };
    let read = start.elapsed();
    let start = Instant::now();
    let options = EngineOptions {
        threads: o.threads,
        tier: None,
    };
    let decoder = Decoder::new(Arc::new(graph), options)?;
    println!(
        "graph in {:.2} s, packed in {:.2} s: {decoder:?}",
        read.as_secs_f64(),
        start.elapsed().as_secs_f64()
    );
    let mut sampling = Sampling {
        max_out: u32::MAX,
        ..Sampling::default()
    };
    if o.sampled {
        (sampling.temperature, sampling.top_p, sampling.repetition) = (52_429, 62_259, 72_090);
    }
    let vocabulary = decoder.vocabulary();
    let b = Bench {
        decoder,
        sampling,
        vocabulary,
    };
    println!("packed weights: {:.1} MB", b.decoder.memory() as f64 / 1e6);
    let run = |what: &str| o.only.as_deref().is_none_or(|only| only == what);
    let (mut decode, mut replays, mut prefills, mut streams) = (vec![], vec![], vec![], vec![]);
    for _ in 0..o.rounds {
        if run("decode") || run("replay") {
            let (done, first, rest) = b.generate(o.prompt, o.tokens)?;
            let per = rest / (o.tokens - 1) as f64;
            decode.push(per);
            print!("decode {:.2} ms a token ({:.0}/s)", per * 1e3, 1.0 / per);
            if run("replay") {
                let start = cpu();
                let again = b.decoder.replay(
                    &b.prompt(o.prompt, 1),
                    &done.tokens,
                    &b.sampling,
                    &[],
                    &SALT,
                )?;
                let replay = cpu() - start;
                assert_eq!(again, done, "replay differs");
                replays.push(replay / (first + rest));
                print!(
                    ", replay {:.1} ms, ratio {:.3}",
                    replay * 1e3,
                    replay / (first + rest)
                );
            }
            let block = vec![3u8; 1 << b.decoder.graph().header().block_bits];
            let start = cpu();
            for _ in 0..done.leaves {
                std::hint::black_box(leaf_hash(Family::Trace, std::hint::black_box(&block)));
            }
            let hashing = cpu() - start;
            println!(
                ", {} leaves, hashing {:.2} % of generation",
                done.leaves,
                hashing / (first + rest) * 100.0
            );
        }
        if run("prefill") {
            let mut s = b.start(o.prefill, 2)?;
            let start = cpu();
            b.decoder.step(&mut [&mut s], o.prefill)?;
            let t = cpu() - start;
            prefills.push(o.prefill as f64 / t);
            println!(
                "prefill {} tokens: {:.1} ms, {:.0}/s; cache {:.1} MB",
                o.prefill,
                t * 1e3,
                o.prefill as f64 / t,
                s.memory() as f64 / 1e6
            );
        }
        if run("streams") {
            let t = b.together(o.streams, o.prompt, o.tokens.min(64))?;
            let per = t / ((o.tokens.min(64) - 1) * o.streams) as f64;
            streams.push(per);
            println!(
                "{} streams: {:.2} ms a token ({:.0}/s together)",
                o.streams,
                per * 1e3,
                1.0 / per
            );
        }
    }
    let (decode, streams) = (median(decode), median(streams));
    println!(
        "medians: decode {:.0} tokens/s, prefill {:.0} tokens/s, replay {:.3} of generating, {} streams {:.2} × one; memory {:.1} MB",
        1.0 / decode,
        median(prefills),
        median(replays),
        o.streams,
        decode / streams,
        b.decoder.memory() as f64 / 1e6
    );
    Ok(())
}

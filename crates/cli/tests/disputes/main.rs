//! A changed weight or activation is found and settled, for every node and every constant of both models.
//!
//! One chain in this process with invariants checked at every block, one operator that lies, one watcher. For each
//! node with bytes of its own one element of its output is changed, for each constant one byte; everything after it
//! is computed from the false value by definition. Each lie is one signed request, one claim, one dispute; many of
//! them run at the same time. A false claim that stands, a fee that is not returned or stake that is not taken to the
//! last unit fails the test.
//!
//! `cargo test --release -p assay --test disputes -- --nocapture` prints what was tried, by kind. The embedder is
//! fetched once into the cache; where it can't be had, or with ASSAY_TEST_OFFLINE=1, the test says that it skips it.
#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

mod lies;
mod network;
mod table;

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Instant;

use assay_graph::{DType, Data, Tensor};
use assay_import::pull::{self, Cache, Quiet};
use assay_import::{DIGIT_SAMPLES, Model, Request};
use lies::{Lab, Liar, Lie, Script, Target};
use network::{Network, block};
use table::Table;

/// Claims that are open at the same time.
const BATCH: usize = 48;
/// Positions of a long run.
const LONG: usize = 200;
/// Positions of a run in small blocks: thousands of leaves, in the trace or in a segment.
const TALL: usize = 64;

#[tokio::test(flavor = "multi_thread")]
async fn every_changed_weight_and_activation_of_both_models_is_caught_and_settled() {
    let digits = Lab::new(digits_model());
    let sentences: Vec<Lab> = minilm().as_ref().map_or_else(Vec::new, |model| {
        let lab = Lab::new(model);
        // As registered, even its longest run is posted flat; the same network in small blocks is descended.
        let segments = lab.tall("tall-segments", false);
        let trees = lab.tall("tall-trace", true);
        vec![lab, segments, trees]
    });
    let labs: Vec<&Lab> = std::iter::once(&digits).chain(&sentences).collect();
    let script = Script::new(Mutex::new(HashMap::new()));
    let graphs = labs
        .iter()
        .map(|lab| (Arc::clone(&lab.graph), lab.name.as_str()));
    let runners = labs.iter().map(|lab| liar(lab, &script));
    let mut network = Network::start(graphs.collect(), runners.collect()).await;
    let mut table = Table::default();
    block(|| {
        let mut round = Round {
            network: &mut network,
            script: &script,
            table: &mut table,
        };
        let (input, rest) = targets(&digits);
        // Without one-shot proofs every dispute goes down to one element.
        round.network.watch(false);
        round.play("digits, elements", &digits, &rest, picture, 0);
        round.network.watch(true);
        round.play("digits", &digits, &rest, |lab, i| picture(lab, 400 + i), 0);
        // Whoever answers for another input cannot even post its leaves: the clock decides.
        round.play(
            "digits, input",
            &digits,
            &input,
            |lab, i| picture(lab, 700 + i),
            60,
        );
        if let [lab, segments, trees] = sentences.as_slice() {
            let (input, rest) = targets(lab);
            round.play("minilm, 12 tokens", lab, &rest, |_, i| sentence(12, i), 0);
            round.play("minilm, input", lab, &input, |_, i| sentence(11, i), 60);
            for (part, lab, tokens) in [
                ("minilm, 200 tokens", lab, LONG),
                ("minilm, tall segments", segments, TALL),
                ("minilm, tall trace", trees, TALL),
            ] {
                let (committed, segment) = lab.leaves(tokens as u32);
                eprintln!("{part}: {committed} leaves, at most {segment} in a segment");
                round.play(part, lab, &some(lab), |_, i| sentence(tokens, i), 0);
            }
        }
    });
    eprintln!("{table}");
    let (tried, caught, absorbed) = table.sums();
    eprintln!(
        "{tried} changes tried, {caught} reached a checkpoint and were caught, {absorbed} changed nothing"
    );
    assert_eq!(tried, caught + absorbed);
    assert!(absorbed * 20 <= tried, "most changes have to matter");
    for form in ["one shot", "flat", "timeout"] {
        assert!(table.has(form), "{form}");
    }
    if !sentences.is_empty() {
        for form in ["flat, segment flat", "flat, segment descent", "descent"] {
            assert!(table.has(form), "{form}");
        }
    }
    network.stop().await;
}

fn digits_model() -> &'static Model {
    static MODEL: OnceLock<Model> = OnceLock::new();
    MODEL.get_or_init(|| assay_import::digits().unwrap())
}

/// The embedder, where it is on this machine or can be fetched.
fn minilm() -> Option<Model> {
    if std::env::var_os("ASSAY_TEST_OFFLINE").is_some() {
        eprintln!("SKIPPED: minilm-l6, ASSAY_TEST_OFFLINE is set");
        return None;
    }
    let opened =
        Cache::from_environment().and_then(|cache| pull::open("minilm-l6", &cache, &mut Quiet));
    opened
        .inspect_err(|error| eprintln!("SKIPPED: minilm-l6: {error}"))
        .ok()
}

fn liar(lab: &Lab, script: &Script) -> Box<dyn assay_operator::ModelRunner> {
    Box::new(Liar {
        structure: lab.structure.clone(),
        model: lab.model(),
        script: Arc::clone(script),
    })
}

/// The input node, and all other nodes and constants.
fn targets(lab: &Lab) -> (Vec<Target>, Vec<Target>) {
    let nodes = lab.nodes().into_iter().map(Target::Node);
    let constants = lab.constants().into_iter().map(Target::Constant);
    nodes
        .chain(constants)
        .partition(|target| *target == Target::Node(0))
}

/// Of each operator the node in the middle, and the last node of all.
fn some(lab: &Lab) -> Vec<Target> {
    let mut kinds: BTreeMap<String, Vec<Target>> = BTreeMap::new();
    let computed = lab.nodes().into_iter().skip(1).map(Target::Node);
    let last = computed.clone().next_back();
    for target in computed {
        kinds
            .entry(lab.describe(target).1)
            .or_default()
            .push(target);
    }
    let middle = kinds.values().map(|nodes| nodes[nodes.len() / 2]);
    let middle = middle.filter(|target| Some(*target) != last);
    middle.chain(last).collect()
}

/// Seven, with one pixel of its own for each `i`.
fn picture(lab: &Lab, i: usize) -> Tensor {
    let ty = lab.graph.input_type().unwrap();
    let seven = Request::Png(DIGIT_SAMPLES[3].1);
    let mut tensor = digits_model().encode(seven).unwrap();
    let mut values = tensor.data.to_i32();
    let at = i * 37 % values.len();
    values[at] = if values[at] < ty.hi {
        values[at] + 1
    } else {
        values[at] - 1
    };
    tensor.data = Data::from_i32(ty.dtype, &values).unwrap();
    tensor
}

/// `tokens` ids with two of their own for each `i`: start, words, end.
fn sentence(tokens: usize, i: usize) -> Tensor {
    let word = |at: usize| match at {
        0 => 101,
        _ if at == tokens - 1 => 102,
        2 => 2_000 + i as i32,
        5 => 3_000 + 7 * i as i32,
        _ => 1_996 + (at as i32 * 131) % 9_000,
    };
    let ids: Vec<i32> = (0..tokens).map(word).collect();
    let data = Data::from_i32(DType::I32, &ids).unwrap();
    Tensor::new(vec![tokens], data).unwrap()
}

struct Round<'a> {
    network: &'a mut Network,
    script: &'a Script,
    table: &'a mut Table,
}

impl Round<'_> {
    fn play(
        &mut self,
        part: &str,
        lab: &Lab,
        targets: &[Target],
        input: impl Fn(&Lab, usize) -> Tensor + Sync,
        hurry: u64,
    ) {
        let start = Instant::now();
        let inputs: Vec<(Target, Tensor)> = targets
            .iter()
            .enumerate()
            .map(|(i, target)| (*target, input(lab, i)))
            .collect();
        let mut waiting = Vec::new();
        for (target, lie) in prepare(lab, &inputs) {
            match lie {
                Some(lie) => waiting.push(lie),
                None => {
                    let (what, kind) = lab.describe(target);
                    eprintln!("nothing reaches a checkpoint: {what}");
                    self.table.absorbed(part, &kind);
                }
            }
        }
        let prepared = start.elapsed();
        let count = waiting.len();
        while !waiting.is_empty() {
            let lies: Vec<Lie> = waiting.drain(..waiting.len().min(BATCH)).collect();
            let start = Instant::now();
            for lie in &lies {
                let before = self
                    .script
                    .lock()
                    .unwrap()
                    .insert(lie.input.clone(), lie.run.clone());
                assert!(before.is_none(), "{} shares its input", lie.what);
            }
            let falls = self.network.settle(&lies, hurry);
            let each = start.elapsed() / lies.len() as u32;
            for (lie, fall) in lies.iter().zip(&falls) {
                assert!(!fall.moves.is_empty(), "{}", lie.what);
                self.table.caught(part, &lie.kind, fall, each);
            }
            self.script.lock().unwrap().clear();
        }
        eprintln!(
            "{part}: {count} lies prepared in {prepared:.1?}, settled in {:.1?}",
            start.elapsed() - prepared
        );
    }
}

/// Lies are prepared by all cores.
fn prepare(lab: &Lab, inputs: &[(Target, Tensor)]) -> Vec<(Target, Option<Lie>)> {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let made = Mutex::new(Vec::new());
    let next = std::sync::atomic::AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..cores {
            scope.spawn(|| {
                while let Some((target, input)) =
                    inputs.get(next.fetch_add(1, std::sync::atomic::Ordering::Relaxed))
                {
                    let lie = lab.lie(*target, input);
                    made.lock().unwrap().push((*target, lie));
                }
            });
        }
    });
    let mut made = made.into_inner().unwrap();
    made.sort_by_key(|(target, _)| inputs.iter().position(|(known, _)| known == target));
    made
}

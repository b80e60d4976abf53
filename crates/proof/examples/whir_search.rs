//! Where the rows of `params.rs` come from: searches rates and folds of the commitment scheme, and measures choices.
//!
//! `whir_search search LOG [BYTES]` lists the cheapest choices by estimated CPU time, one for each size of opening (from BYTES down).
//! `whir_search best MAX_LOG` lists one choice per size and side: least `bytes · seconds^0.3`, where the commitment to weights counts a quarter (it is made once); rate 1/2 for long vectors.
//! `whir_search measure LOG RATES FOLDS` measures one choice, e.g. `measure 20 1,3,6 6,4,4`; `whir_search table` measures each row of the parameter set.
//! `whir_search hidden LOG` measures a commitment that hides beside a plain one.
//! CPU seconds are summed over threads; set `RAYON_NUM_THREADS=1` for figures that compare.
#![allow(dead_code, clippy::type_complexity, clippy::double_must_use)]

// the modules are private to the crate, so they are compiled once more here
#[path = "../src/error.rs"]
mod error;
#[path = "../src/field.rs"]
mod field;
#[path = "../src/mle.rs"]
mod mle;
#[path = "../src/params.rs"]
mod params;
#[path = "../src/pcs/mod.rs"]
mod pcs;
#[path = "../src/transcript.rs"]
mod transcript;

use p3_field::{BasedVectorSpace, PrimeCharacteristicRing};

use field::{EF, F};
use params::{MAX_LOG, MIN_LOG, POW_BITS, Row, Side, TERM_BITS, row};
use pcs::{
    codec, hiding, sponge,
    trees::{COMPONENT_LOG, COMPONENTS, Oracle, SOURCES},
    whir::Scheme,
};
use transcript::Transcript;

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    match args[..] {
        ["search", log] => search(number(log), f64::MAX),
        ["best", max] => best(number(max).min(MAX_LOG)),
        ["search", log, bytes] => search(number(log), number(bytes) as f64),
        ["measure", log, rates, folds] => {
            heading();
            measure(number(log) as u8, &list(rates), &list(folds));
        }
        ["hidden", log] => hidden(number(log)),
        ["table", max] => {
            for side in [Side::Weights, Side::Witness] {
                println!("{}", side.name());
                heading();
                for row in (MIN_LOG..=MAX_LOG.min(number(max))).filter_map(|log| row(side, log)) {
                    measure(row.log, row.rates, row.folds);
                }
            }
        }
        _ => {
            eprintln!(
                "best MAX_LOG | search LOG [BYTES] | measure LOG RATES FOLDS | hidden LOG | table MAX_LOG"
            )
        }
    }
}

fn number(text: &str) -> usize {
    text.parse().expect("a number")
}

fn list(text: &str) -> Vec<u8> {
    text.split(',').map(|v| number(v) as u8).collect()
}

/// CPU seconds of all threads of this process.
fn cpu() -> f64 {
    // the kernel brings the figures up to date when a thread rests
    std::thread::sleep(std::time::Duration::from_micros(200));
    let tasks = std::fs::read_dir("/proc/self/task").expect("Linux");
    let ns = tasks.flatten().filter_map(|task| {
        let stat = std::fs::read_to_string(task.path().join("schedstat")).ok()?;
        stat.split(' ').next()?.parse::<u64>().ok()
    });
    ns.sum::<u64>() as f64 * 1e-9
}

fn peak_mib() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find(|line| line.starts_with("VmHWM"));
    line.and_then(|l| l.split_whitespace().nth(1)?.parse::<usize>().ok())
        .unwrap_or(0)
        / 1024
}

fn heading() {
    println!(
        "log rates         folds          commit-s  open-s    bytes  verify-ms  bits  peak MiB"
    );
}

fn measure(log: u8, rates: &[u8], folds: &[u8]) {
    let mut state = 1_u64;
    let mut next = || {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        F::from_u32((state >> 34) as u32)
    };
    let cells: Vec<F> = (0..1_usize << log).map(|_| next()).collect();
    let point: Vec<EF> = (0..log)
        .map(|_| EF::from_basis_coefficients_fn(|_| next()))
        .collect();
    let times = if log > 22 { 1 } else { 5 };
    let mut best = [f64::MAX; 3];
    let (mut bytes, mut bits) = (0, 0.0);
    for _ in 0..times {
        let Some(run) = run(log, rates, folds, &cells, &point, &mut cpu) else {
            println!("{log:3} {rates:?} {folds:?}: not possible");
            return;
        };
        for (best, time) in best.iter_mut().zip(run.seconds) {
            *best = best.min(time);
        }
        (bytes, bits) = (run.bytes, run.bits);
    }
    let text = |list: &[u8]| list.iter().map(u8::to_string).collect::<Vec<_>>().join(",");
    println!(
        "{log:3} {:13} {:13} {:9.4} {:9.4} {bytes:8} {:8.2} {bits:7.1} {:7}",
        text(rates),
        text(folds),
        best[0],
        best[1],
        best[2] * 1e3,
        peak_mib()
    );
}

/// Commits to `2^log` cells, opens and checks, with and without hiding.
fn hidden(log: usize) {
    let mut random = hiding::Random::new(&[7; 32]);
    let cells: Vec<F> = (0..1_usize << log).map(|_| random.base()).collect();
    let point: Vec<EF> = (0..log).map(|_| random.element()).collect();
    let weights = mle::eq_table(&point, EF::ONE);
    let transcript = || Transcript::new(b"bench");
    println!("          commit-s    open-s  verify-ms     bytes  (2^{log} cells, least of 3)");
    let mut best = [[f64::MAX; 3]; 2];
    let mut bytes = [0; 2];
    for _ in 0..3 {
        let start = cpu();
        let committed = pcs::commit(log, cells.clone(), Side::Witness).expect("a size");
        let commit = cpu() - start;
        let root = committed.root();
        let start = cpu();
        let opening = pcs::open(committed, &point, &mut transcript()).expect("a size");
        let open = cpu() - start;
        let value = weights.iter().zip(&cells).map(|(w, c)| *w * *c).sum();
        let start = cpu();
        let side = Side::Witness;
        pcs::verify(&root, log, side, &point, value, &opening, &mut transcript()).expect("honest");
        let plain = [commit, open, cpu() - start];
        bytes[0] = opening.len();

        let start = cpu();
        let masked = hiding::commit(log, cells.clone(), 0, &mut random).expect("a size");
        let commit = cpu() - start;
        let roots = masked.roots();
        let mut prover = transcript();
        let start = cpu();
        let rho = hiding::draw_rho(&mut prover);
        let line = masked.line(rho);
        let made = cpu() - start;
        let h = line.elements();
        let value = weights.iter().zip(h).map(|(w, h)| *w * *h).sum();
        let start = cpu();
        let opening = line.open(&point, &mut prover).expect("a size");
        let open = made + cpu() - start;
        let mut verifier = transcript();
        let start = cpu();
        let rho = hiding::draw_rho(&mut verifier);
        let claim = (&point[..], value);
        hiding::verify(roots, rho, log, claim, &opening, &mut verifier).expect("honest");
        bytes[1] = opening.len();
        let masked = [commit, open, cpu() - start];
        for (best, times) in best.iter_mut().zip([plain, masked]) {
            for (best, time) in best.iter_mut().zip(times) {
                *best = best.min(time);
            }
        }
    }
    for (name, times, bytes) in [("plain", best[0], bytes[0]), ("hiding", best[1], bytes[1])] {
        let [commit, open, verify] = times;
        println!(
            "{name:8} {commit:9.4} {open:9.4} {:10.2} {bytes:9}",
            verify * 1e3
        );
    }
}

/// What one run took.
struct Run {
    /// Seconds for the commitment, the opening, the check.
    seconds: [f64; 3],
    /// Bytes of the opening.
    bytes: usize,
    /// Bits of the union bound.
    bits: f64,
}

/// Commits, opens and checks once. `None` for choices that do not exist.
fn run(
    log: u8,
    rates: &[u8],
    folds: &[u8],
    cells: &[F],
    point: &[EF],
    clock: &mut dyn FnMut() -> f64,
) -> Option<Run> {
    let row = Row {
        log,
        rates,
        folds,
        queries: &[],
        query_pow: &[],
        fold_pow: &[],
        tenths: 0,
    };
    let (scheme, derived) = Scheme::derive(&row)?;
    let row = Row {
        queries: &derived.queries,
        query_pow: &derived.query_pow,
        fold_pow: &derived.fold_pow,
        ..row
    };
    let value = mle::eq_table(point, EF::ONE);
    let value = value.iter().zip(cells).map(|(w, c)| *w * *c).sum();
    let cells = cells.to_vec();
    let start = clock();
    let (root, data) = scheme.commit(cells);
    let committed = clock();
    let mut challenger = sponge::fork(&mut Transcript::new(b"bench"));
    let bytes = codec::write(&row, &scheme.open(data, point, &mut challenger)?)?;
    let opened = clock();
    let mut challenger = sponge::fork(&mut Transcript::new(b"bench"));
    let proof = codec::read(&row, None, value, &bytes).ok()?;
    let valid = scheme.verify(&row, &Oracle::Tree(root), point, &proof, &mut challenger);
    let verified = clock();
    assert!(valid, "an honest opening");
    Some(Run {
        seconds: [committed - start, opened - committed, verified - opened],
        bytes: bytes.len(),
        bits: f64::from(derived.tenths) / 10.0,
    })
}

/// Estimates of a choice.
struct Estimate {
    bytes: f64,
    commit: f64,
    open: f64,
    /// Share of the cells that have to be random.
    random: f64,
    rates: Vec<u8>,
    folds: Vec<u8>,
}

fn search(log: usize, limit: f64) {
    let mut found = Vec::new();
    walk(log, false, &mut |e| found.push(e));
    found.sort_by(|a, b| (a.commit + a.open).total_cmp(&(b.commit + b.open)));
    let mut bytes = limit;
    println!("    bytes  seconds  rates folds (estimates)");
    for e in found {
        if e.bytes < bytes * 0.985 {
            let seconds = e.commit + e.open;
            println!("{:9.0} {seconds:8.4}  {:?} {:?}", e.bytes, e.rates, e.folds);
            bytes = e.bytes;
        }
    }
}

fn best(max: usize) {
    for (side, share, least, long) in [
        (Side::Weights, 0.25, MIN_LOG, 24),
        (Side::Witness, 1.0, MIN_LOG, 25),
        (Side::Hidden, 1.0, hiding::MIN_LOG, 23),
    ] {
        println!("{}", side.name());
        for log in least..=max {
            // the rest of a proof takes time, too; of a hidden vector, the random cells are no use for it
            let score = |e: &Estimate| {
                let share = share / (1.0 - e.random);
                e.bytes * (e.commit * share + e.open + 0.002).powf(0.3) / (1.0 - e.random)
            };
            let mut best: Option<Estimate> = None;
            walk(log, side == Side::Hidden, &mut |e| {
                // the codeword of a long vector is most of the memory
                if log >= long && e.rates[0] > 1 || e.random > 0.5 {
                    return;
                }
                if best.as_ref().is_none_or(|b| score(&e) < score(b)) {
                    best = Some(e);
                }
            });
            let Some(mut e) = best else { continue };
            let mut cells = log;
            if side == Side::Hidden {
                e.folds[0] += COMPONENT_LOG as u8;
                cells += COMPONENT_LOG;
            }
            println!(
                "    new({cells}, &{:?}, &{:?}, &[], &[], &[], 0), // {:.0} bytes {:.4} s",
                e.rates,
                e.folds,
                e.bytes,
                e.commit + e.open
            );
        }
    }
}

/// Visits the choices for a size.
fn walk(log: usize, hidden: bool, visit: &mut dyn FnMut(Estimate)) {
    for rate in 1..=4 {
        extend(log, hidden, log, &mut vec![rate], &mut Vec::new(), visit);
    }
}

fn extend(
    log: usize,
    hidden: bool,
    left: usize,
    rates: &mut Vec<u8>,
    folds: &mut Vec<u8>,
    visit: &mut dyn FnMut(Estimate),
) {
    let rate = usize::from(rates[rates.len() - 1]);
    for fold in 2..=left.min(9) {
        if left + rate - fold > 24 || folds.is_empty() && fold < 3 {
            continue;
        }
        folds.push(fold as u8);
        if left - fold <= 6 {
            visit(estimate(log, hidden, rates, folds));
        } else {
            for next in rate..=(rate + 2).min(6) {
                rates.push(next as u8);
                extend(log, hidden, left - fold, rates, folds, visit);
                rates.pop();
            }
        }
        folds.pop();
    }
}

/// Of a hidden vector, the size and the folds are those of the committed cells, not of their components.
fn estimate(log: usize, hidden: bool, rates: &[u8], folds: &[u8]) -> Estimate {
    let mut left = log;
    let (mut bytes, mut commit, mut ns, mut random) = (0.0, 0.0, 0.0, 0.0);
    for (i, (rate, fold)) in rates.iter().zip(folds).enumerate() {
        let (rate, fold) = (i32::from(*rate), usize::from(*fold));
        let per_query = -((1.0 + 0.5_f64.powi(rate)) / 2.0).log2();
        let queries = ((TERM_BITS - POW_BITS) as f64 / per_query).ceil();
        let leaves = left + rate as usize - fold;
        let total = (1_u64 << leaves) as f64;
        let queries = queries.min(total);
        let (cell, trees) = match (i, hidden) {
            (0, true) => (24.0, 2.0),
            (0, false) => (4.0, 1.0),
            _ => (20.0, 1.0),
        };
        let missed = |n: f64| (1.0 - 1.0 / n).powf(queries);
        let all = queries == total;
        let distinct = if all {
            total
        } else {
            total * (1.0 - missed(total))
        };
        bytes += distinct * cell * (1 << fold) as f64 + queries / 8.0 + 2.0 * (queries - distinct);
        for level in 0..leaves {
            let nodes = (1_u64 << (leaves - level)) as f64;
            if !all {
                bytes += trees * 32.0 * nodes * (missed(nodes) - (1.0 - 2.0 / nodes).powf(queries));
            }
        }
        bytes += 40.0 * fold as f64 + 42.0;
        // measured on Zen 4: codewords (with the page faults of large ones), the fold of the cells, the constraints of the queries, the work
        let words = ((1_u64 << left) << rate) as f64;
        let cells = (1_u64 << left) as f64;
        let faults = if words > 3e6 { 2.5 } else { 0.0 };
        if i == 0 {
            commit = (2.4 + faults) * words;
            // tables of 3^fold entries serve the first rounds
            let mut opened = (cells, fold);
            if hidden {
                commit *= SOURCES as f64;
                opened = (cells * COMPONENTS as f64, fold + COMPONENT_LOG);
                random = (queries + 4.0) * (1 << fold) as f64 / cells;
            }
            ns += 5.8 * opened.0 + 200.0 * 3.0_f64.powi(opened.1 as i32);
        } else {
            ns += 32.0 * words + 15.0 * cells;
        }
        ns += (1_u64 << (left - fold)) as f64 * queries * 0.4 + 0.4e6;
        left -= fold;
    }
    bytes += 20.0 * (1 << left) as f64 + 40.0 * left as f64;
    Estimate {
        bytes,
        commit: commit * 1e-9,
        open: ns * 1e-9,
        random,
        rates: rates.to_vec(),
        folds: folds.to_vec(),
    }
}

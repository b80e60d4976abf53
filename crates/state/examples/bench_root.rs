//! Cost of state root and durable write per changed account, at 200,000 accounts.
//!
//! ```text
//! cargo run --release -p assay-state --example bench_root
//! ```
//! Blocks of 4,000 balance changes, spread over all accounts. CPU is that of the whole process (utime + stime).

use std::error::Error;
use std::time::Instant;

use alloy_consensus::Header;
use alloy_primitives::{Address, B256, Bytes, KECCAK256_EMPTY, U256, keccak256};
use assay_state::{AccountChange, AccountRecord, BlockRecord, StateDiff, Store};

const ACCOUNTS: u64 = 200_000;
const CHANGES: u64 = 4_000;
const BLOCKS: u64 = 12;

fn main() -> Result<(), Box<dyn Error>> {
    let directory = tempfile::tempdir()?;
    let path = directory.path().join("state.redb");
    let mut store = Store::open(&path)?;
    for (number, first) in (0u64..).zip((0..ACCOUNTS).step_by(20_000)) {
        write(&store, number, (first..first + 20_000).map(|it| (it, 1)))?;
    }
    println!("{ACCOUNTS} accounts, {CHANGES} changes per block; us per change");
    for name in ["cold cache", "warm cache"] {
        if name == "cold cache" {
            drop(store);
            store = Store::open(&path)?;
        }
        let mut samples = Vec::new();
        for round in 0..BLOCKS {
            let number = store.head()?.map_or(0, |head| head.header.number + 1);
            let accounts = (0..CHANGES).map(|it| ((it * 7_919 + round * 31) % ACCOUNTS, 2 + round));
            samples.push(write(&store, number, accounts)?);
            if name == "cold cache" {
                drop(store);
                store = Store::open(&path)?;
            }
        }
        samples.sort_by(|a, b| a.0.total_cmp(&b.0));
        let (root, whole, wall) = samples[samples.len() / 2];
        println!(
            "{name}: root {root:.2} CPU, root and durable write {whole:.2} CPU, {wall:.2} wall"
        );
    }
    Ok(())
}

/// CPU for the root, CPU for all, wall time; microseconds per change.
fn write(
    store: &Store,
    number: u64,
    accounts: impl Iterator<Item = (u64, u64)>,
) -> Result<(f64, f64, f64), Box<dyn Error>> {
    let mut diff = StateDiff::default();
    for (index, balance) in accounts {
        let change = AccountChange {
            account: Some(AccountRecord {
                nonce: 1,
                balance: U256::from(balance),
                code_hash: KECCAK256_EMPTY,
            }),
            ..AccountChange::default()
        };
        diff.accounts
            .insert(Address::from_word(keccak256(index.to_be_bytes())), change);
    }
    let count = diff.accounts.len() as f64;
    let (cpu, start) = (cpu_micros()?, Instant::now());
    let staged = store.stage(diff)?;
    let root = cpu_micros()? - cpu;
    let header = Header {
        number,
        state_root: staged.root(),
        ..Header::default()
    };
    let record = BlockRecord {
        number,
        hash: B256::from(U256::from(number)),
        header_rlp: alloy_rlp::encode(&header),
        body: Vec::new(),
        transactions: Vec::new(),
        receipts: &[],
        system_logs: &[],
        certificate: Bytes::new(),
    };
    store.commit(staged, &record)?;
    let whole = cpu_micros()? - cpu;
    let wall = start.elapsed().as_secs_f64() * 1e6;
    Ok((root / count, whole / count, wall / count))
}

/// CPU time of all threads, from the scheduler's nanosecond counters.
fn cpu_micros() -> Result<f64, Box<dyn Error>> {
    let mut nanos = 0u64;
    for task in std::fs::read_dir("/proc/self/task")? {
        let stat = std::fs::read_to_string(task?.path().join("schedstat"))?;
        nanos += stat.split(' ').next().unwrap_or("0").parse::<u64>()?;
    }
    Ok(nanos as f64 / 1e3)
}

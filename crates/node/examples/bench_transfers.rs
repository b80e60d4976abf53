//! Transfers per CPU-second of the server process, ours against anvil, over HTTP JSON-RPC.
//!
//! ```text
//! cargo run --release -p assay-node --example bench_transfers -- [--anvil PATH] [--count 5000] [--rounds 3] [--mode one|auto|timer|serial]
//! ```
//! N `eth_sendRawTransaction` from 100 senders over 32 connections, nonces in order, no batching. CPU is
//! utime + stime of the server process from the first request until every transaction is mined, so on our side it
//! includes state root and fsync. Runs alternate; medians are printed. Only loopback is used.

#[path = "../tests/support/mod.rs"]
mod support;

use std::error::Error;
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use alloy_primitives::{Address, Bytes, keccak256};
use assay_node::{BlockMode, Genesis, Node, NodeConfig, RpcConfig};
use serde_json::json;
use support::{Account, CHAIN_ID, Client, NoModels};

const SENDERS: u64 = 100;
const CONNECTIONS: usize = 32;
/// Scheduler ticks per second in /proc, fixed at 100 on Linux.
const TICKS: f64 = 100.0;

type Failure = Box<dyn Error + Send + Sync>;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    /// Everything pooled, then one block.
    One,
    /// Blocks as transactions come.
    Auto,
    /// A block every second.
    Timer,
    /// One sender that waits for each receipt: both servers make one block per transaction.
    Serial,
}

impl Mode {
    fn parse(text: &str) -> Result<Self, Failure> {
        match text {
            "one" => Ok(Self::One),
            "auto" => Ok(Self::Auto),
            "timer" => Ok(Self::Timer),
            "serial" => Ok(Self::Serial),
            other => Err(format!("mode `{other}`: want one, auto, timer or serial").into()),
        }
    }

    /// Gas limit of a block: all transfers fit into one, or the usual limit where blocks are small anyway.
    const fn gas_limit(self) -> u64 {
        match self {
            Self::One | Self::Timer => 300_000_000,
            Self::Auto | Self::Serial => 30_000_000,
        }
    }

    const fn senders(self) -> u64 {
        match self {
            Self::Serial => 1,
            Self::One | Self::Auto | Self::Timer => SENDERS,
        }
    }

    const fn name(self) -> &'static str {
        match self {
            Self::One => "one",
            Self::Auto => "auto",
            Self::Timer => "timer",
            Self::Serial => "serial",
        }
    }
}

struct Sample {
    cpu: f64,
    sending: f64,
    wall: f64,
    blocks: u64,
    rss_mib: u64,
}

fn main() -> Result<(), Failure> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if arguments.first().map(String::as_str) == Some("serve") {
        let [_, directory, mode] = arguments.as_slice() else {
            return Err("serve DIRECTORY MODE".into());
        };
        return serve(Path::new(directory), Mode::parse(mode)?);
    }
    let option = |name: &str| {
        let at = arguments.iter().position(|it| it == name)?;
        arguments.get(at + 1).cloned()
    };
    let count: u64 = option("--count").map_or(Ok(5_000), |it| it.parse())?;
    let rounds: usize = option("--rounds").map_or(Ok(3), |it| it.parse())?;
    let anvil = option("--anvil");
    let modes = match option("--mode") {
        Some(mode) => vec![Mode::parse(&mode)?],
        None => vec![Mode::One, Mode::Timer, Mode::Auto, Mode::Serial],
    };
    println!(
        "up to {count} transfers, {SENDERS} senders, {CONNECTIONS} connections, median of {rounds}"
    );
    println!("mode   server     count  tx/CPU-s  CPU s  of it sending  wall s  blocks  RSS MiB");
    for mode in modes {
        // Blocks of their own are slow on the other side: fewer are enough.
        let count = match mode {
            Mode::One | Mode::Timer => count,
            Mode::Auto => count.min(2_000),
            Mode::Serial => count.min(500),
        };
        let load = sign(count, mode);
        let mut ours = Vec::new();
        let mut theirs = Vec::new();
        for _ in 0..rounds {
            ours.push(run_ours(mode, &load).map_err(|error| format!("assay: {error}"))?);
            if let Some(path) = &anvil {
                theirs
                    .push(run_anvil(path, mode, &load).map_err(|error| format!("anvil: {error}"))?);
            }
        }
        let ours = report(mode, "assay", count, ours);
        if !theirs.is_empty() {
            let theirs = report(mode, "anvil", count, theirs);
            println!("{:<6} ratio   {:.2}", mode.name(), ours / theirs);
        }
    }
    Ok(())
}

fn report(mode: Mode, server: &str, count: u64, mut samples: Vec<Sample>) -> f64 {
    samples.sort_by(|a, b| a.cpu.total_cmp(&b.cpu));
    let it = &samples[samples.len() / 2];
    let rate = count as f64 / it.cpu;
    println!(
        "{:<6} {server:<7} {count:>8}  {rate:>8.0}  {:>5.2}  {:>13.2}  {:>6.2}  {:>6}  {:>7}",
        mode.name(),
        it.cpu,
        it.sending,
        it.wall,
        it.blocks,
        it.rss_mib
    );
    rate
}

/// Per connection, the transactions of its senders in sending order.
fn sign(count: u64, mode: Mode) -> Vec<Vec<Bytes>> {
    let senders = mode.senders();
    let mut connections = vec![Vec::new(); CONNECTIONS];
    let accounts: Vec<Account> = (0..SENDERS).map(Account::new).collect();
    for index in 0..count {
        let (nonce, sender) = (index / senders, index % senders);
        let to = Address::from_word(keccak256((index % 2_000).to_be_bytes()));
        let raw = accounts[sender as usize].transfer(nonce, to, 1 + index);
        connections[sender as usize % CONNECTIONS].push(raw);
    }
    connections
}

fn run_ours(mode: Mode, load: &[Vec<Bytes>]) -> Result<Sample, Failure> {
    let directory = tempfile::tempdir()?;
    let mut server = Command::new(std::env::current_exe()?)
        .args(["serve", &directory.path().to_string_lossy(), mode.name()])
        .stdout(Stdio::piped())
        .spawn()?;
    let mut line = String::new();
    if let Some(out) = server.stdout.take() {
        BufReader::new(out).read_line(&mut line)?;
    }
    let result = line
        .trim()
        .parse()
        .map_err(Failure::from)
        .and_then(|address| drive(server.id(), address, mode, load));
    stop(server)?;
    result
}

fn run_anvil(path: &str, mode: Mode, load: &[Vec<Bytes>]) -> Result<Sample, Failure> {
    let port = std::net::TcpListener::bind("127.0.0.1:0")?
        .local_addr()?
        .port();
    let mut command = Command::new(path);
    command
        .args(["--silent", "--port", &port.to_string()])
        .args(["--chain-id", &CHAIN_ID.to_string()])
        .args(["--gas-limit", &mode.gas_limit().to_string()])
        .stdout(Stdio::null());
    match mode {
        Mode::One => {
            command.arg("--no-mining");
        }
        Mode::Timer => {
            command.args(["--block-time", "1"]);
        }
        // Without this it keeps a copy of the state per block and does not finish.
        Mode::Auto | Mode::Serial => {
            command.arg("--prune-history");
        }
    }
    let server = command.spawn()?;
    let address = SocketAddr::from(([127, 0, 0, 1], port));
    let result = (|| {
        let mut client = connect(address)?;
        for seed in 0..SENDERS {
            let params = json!([Account::new(seed).address, "0xd3c21bcecceda1000000"]);
            client.raw("anvil_setBalance", params)?;
        }
        drive(server.id(), address, mode, load)
    })();
    stop(server)?;
    result
}

fn stop(mut server: Child) -> Result<(), Failure> {
    server.kill()?;
    server.wait()?;
    Ok(())
}

fn connect(address: SocketAddr) -> Result<Client, Failure> {
    let deadline = Instant::now() + Duration::from_secs(30);
    loop {
        match Client::connect(address) {
            Ok(client) => return Ok(client),
            Err(error) if Instant::now() > deadline => return Err(error.into()),
            Err(_) => std::thread::sleep(Duration::from_millis(20)),
        }
    }
}

/// Sends everything, waits until the last nonce of every sender is mined.
fn drive(
    pid: u32,
    address: SocketAddr,
    mode: Mode,
    load: &[Vec<Bytes>],
) -> Result<Sample, Failure> {
    let mut control = connect(address)?;
    let count: usize = load.iter().map(Vec::len).sum();
    let clients = load
        .iter()
        .map(|_| connect(address))
        .collect::<Result<Vec<_>, _>>()?;
    let first = block_number(&mut control)?;
    let (before, start) = (cpu_seconds(pid)?, Instant::now());
    std::thread::scope(|scope| {
        let workers: Vec<_> = clients
            .into_iter()
            .zip(load)
            .map(|(mut client, transactions)| {
                scope.spawn(move || -> Result<(), Failure> {
                    for raw in transactions {
                        let mut answer = client.raw("eth_sendRawTransaction", json!([raw]))?;
                        let Some(hash) = answer.get_mut("result").map(serde_json::Value::take)
                        else {
                            return Err(answer.to_string().into());
                        };
                        if mode == Mode::Serial {
                            await_receipt(&mut client, &hash)?;
                        }
                    }
                    Ok(())
                })
            })
            .collect();
        workers.into_iter().try_for_each(|worker| {
            worker
                .join()
                .unwrap_or_else(|_| Err("a sender panicked".into()))
        })
    })?;
    let sending = cpu_seconds(pid)? - before;
    if mode == Mode::One {
        control.raw("evm_mine", json!([]))?;
    }
    let deadline = Instant::now() + Duration::from_secs(120);
    let senders = mode.senders();
    let mut open: Vec<(u64, u64)> = (0..senders)
        .map(|seed| (seed, (count as u64 + senders - 1 - seed) / senders))
        .collect();
    let mut polls = 0u64;
    while let Some((seed, want)) = open.last().copied() {
        let params = json!([Account::new(seed).address, "latest"]);
        let nonce = number(&control.raw("eth_getTransactionCount", params)?["result"])?;
        polls += 1;
        if nonce >= want {
            open.pop();
        } else if mode == Mode::Auto && polls.is_multiple_of(20) {
            // anvil now and then stops mining with transactions pending, until it is asked.
            control.raw("evm_mine", json!([]))?;
        } else if Instant::now() > deadline {
            let status = control.raw("txpool_status", json!([]))?;
            let mined = control.raw("evm_mine", json!([]))?;
            return Err(format!(
                "sender {seed} is at nonce {nonce}, want {want}; pool {status}; mining by hand {mined}"
            )
            .into());
        } else {
            std::thread::sleep(Duration::from_millis(50));
        }
    }
    Ok(Sample {
        cpu: cpu_seconds(pid)? - before,
        sending,
        wall: start.elapsed().as_secs_f64(),
        blocks: block_number(&mut control)? - first,
        rss_mib: resident_mib(pid)?,
    })
}

/// Polls every 10 ms, from 10 ms on, so that the number of polls hardly depends on the server.
fn await_receipt(client: &mut Client, hash: &serde_json::Value) -> Result<(), Failure> {
    loop {
        std::thread::sleep(Duration::from_millis(10));
        let answer = client.raw("eth_getTransactionReceipt", json!([hash]))?;
        if answer.get("result").is_some_and(|it| !it.is_null()) {
            return Ok(());
        }
    }
}

fn block_number(client: &mut Client) -> Result<u64, Failure> {
    number(&client.raw("eth_blockNumber", json!([]))?["result"])
}

fn number(value: &serde_json::Value) -> Result<u64, Failure> {
    let text = value
        .as_str()
        .ok_or_else(|| format!("not a quantity: {value}"))?;
    Ok(u64::from_str_radix(text.trim_start_matches("0x"), 16)?)
}

/// utime + stime of a process, in seconds.
fn cpu_seconds(pid: u32) -> Result<f64, Failure> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let (_, fields) = stat.rsplit_once(") ").ok_or("no fields in /proc stat")?;
    let ticks = |at: usize| -> Result<u64, Failure> {
        Ok(fields
            .split(' ')
            .nth(at)
            .ok_or("short /proc stat")?
            .parse()?)
    };
    // Fields 14 and 15, counted from 1; the first after the name is 3.
    Ok((ticks(11)? + ticks(12)?) as f64 / TICKS)
}

fn resident_mib(pid: u32) -> Result<u64, Failure> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find(|line| line.starts_with("VmRSS:"));
    let kib = line.and_then(|line| line.split_whitespace().nth(1));
    Ok(kib.ok_or("no VmRSS")?.parse::<u64>()? / 1024)
}

/// Our node in a process of its own, so that its CPU can be told apart.
fn serve(directory: &Path, mode: Mode) -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let funded: Vec<Address> = (0..SENDERS)
            .map(|seed| Account::new(seed).address)
            .collect();
        let mut config = NodeConfig::local(directory, &[], support::params(), Arc::new(NoModels));
        config.genesis = Box::new(move |sequencer| {
            let mut genesis = Genesis::local(sequencer, &funded, support::params());
            genesis.gas_limit = mode.gas_limit();
            genesis
        });
        config.rpc = Some(RpcConfig {
            development: true,
            ..RpcConfig::default()
        });
        config.block_mode = match mode {
            Mode::One => BlockMode::Manual,
            Mode::Auto | Mode::Serial => BlockMode::Instant,
            Mode::Timer => BlockMode::Interval {
                period: Duration::from_secs(1),
            },
        };
        let node = Node::open(config).await?;
        println!("{}", node.rpc_address().ok_or("no RPC")?);
        // Until the parent kills this process.
        std::future::pending::<()>().await;
        Ok(())
    })
}

//! A real node process is killed with SIGKILL at random moments under load, 200 times by default
//! (`ASSAY_CRASH_KILLS` changes that), and a quarter as often while it makes its files. No block that RPC acknowledged may be lost, and re-execution from genesis must
//! give the stored roots.

mod support;

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use alloy_primitives::{Address, B256, hex};
use assay_abi::USD;
use assay_chain::{Genesis, Store, replay};
use assay_node::{Node, NodeConfig, STATE_FILE};
use serde_json::json;
use support::{Account, Client, NoModels};

const SENDERS: u64 = 6;
const MODE_ARGUMENT: &str = "--serve-until-killed";

/// A transaction that RPC said is mined.
#[derive(Clone, Debug)]
struct Acknowledged {
    hash: B256,
    block_hash: B256,
    number: u64,
}

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    match arguments.as_slice() {
        [_, mode, directory] if mode == MODE_ARGUMENT => serve(Path::new(directory)),
        // Test runners ask for a list before they run anything.
        _ if arguments.iter().any(|it| it == "--list") => println!("crash: test"),
        _ => drive(),
    }
}

fn genesis(sequencer: Address) -> Genesis {
    let funded: Vec<Address> = (0..SENDERS)
        .map(|seed| Account::new(seed).address)
        .collect();
    let mut params = support::params();
    params.usd = funded.iter().map(|it| (*it, 1_000_000_000_000)).collect();
    Genesis::local(sequencer, &funded, params)
}

fn serve(directory: &Path) {
    let runtime = tokio::runtime::Runtime::new().expect("runtime");
    runtime.block_on(async {
        let mut config = NodeConfig::local(directory, &[], support::params(), Arc::new(NoModels));
        config.genesis = Box::new(genesis);
        let node = Node::open(config)
            .await
            .expect("the node reopens after a kill");
        println!("{}", node.rpc_address().expect("RPC"));
        std::future::pending::<()>().await;
    });
}

fn start(directory: &Path) -> Child {
    Command::new(std::env::current_exe().expect("own path"))
        .arg(MODE_ARGUMENT)
        .arg(directory)
        .stdout(Stdio::piped())
        .spawn()
        .expect("start a node")
}

/// Where the node listens; `None` when it ended before saying so.
fn address_of(node: &mut Child) -> Option<SocketAddr> {
    let mut line = String::new();
    BufReader::new(node.stdout.take()?)
        .read_line(&mut line)
        .ok()?;
    line.trim().parse().ok()
}

fn drive() {
    let kills: u64 = std::env::var("ASSAY_CRASH_KILLS")
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or(200);
    let seed: u64 = std::env::var("ASSAY_CRASH_SEED")
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or_else(|| u64::from(std::process::id()));
    println!("crash: {kills} kills, ASSAY_CRASH_SEED={seed}");
    let mut random = Random(seed | 1);
    killed_while_new(kills.div_ceil(4), &mut random);
    let directory = tempfile::tempdir().expect("directory");
    let mut acknowledged: Vec<Acknowledged> = Vec::new();
    let begun = Instant::now();
    for kill in 0..kills {
        let mut node = start(directory.path());
        // One in ten dies while it opens or repairs its database.
        if random.below(10) == 0 {
            std::thread::sleep(Duration::from_millis(random.below(40)));
            end(node);
            continue;
        }
        let address = address_of(&mut node)
            .unwrap_or_else(|| panic!("after {kill} kills the node did not start"));
        check_acknowledged(address, &acknowledged);
        let delay = Duration::from_micros(5_000 + random.below(120_000));
        acknowledged.extend(load_until_killed(node, address, delay));
    }
    let (number, blocks) = check_directory(directory.path(), &acknowledged);
    println!(
        "crash: {} transactions acknowledged, {blocks} of {number} blocks named by them, none lost; replay from genesis equals; {:.0} s",
        acknowledged.len(),
        begun.elapsed().as_secs_f64()
    );
}

/// A node that dies while it makes its files leaves a directory that the next one starts from.
fn killed_while_new(directories: u64, random: &mut Random) {
    for round in 0..directories {
        let directory = tempfile::tempdir().expect("directory");
        let node = start(directory.path());
        std::thread::sleep(Duration::from_micros(random.below(40_000)));
        end(node);
        let mut node = start(directory.path());
        assert!(
            address_of(&mut node).is_some(),
            "round {round}: a node killed while it was new does not start again"
        );
        end(node);
    }
}

fn end(mut node: Child) {
    // SIGKILL on Unix: no destructor, no flush.
    node.kill().expect("kill");
    node.wait().expect("wait");
}

/// The newest acknowledged blocks are still there after the restart.
fn check_acknowledged(address: SocketAddr, acknowledged: &[Acknowledged]) {
    let mut rpc = Client::connect(address).expect("connect");
    for it in acknowledged.iter().rev().take(3) {
        let block = rpc.ok(
            "eth_getBlockByNumber",
            json!([format!("{:#x}", it.number), false]),
        );
        assert_eq!(
            block["hash"],
            json!(it.block_hash),
            "block {} was lost",
            it.number
        );
    }
}

fn load_until_killed(node: Child, address: SocketAddr, delay: Duration) -> Vec<Acknowledged> {
    let done = AtomicBool::new(false);
    let found = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for seed in 0..SENDERS {
            let (done, found) = (&done, &found);
            scope.spawn(move || {
                // Ends with an error when the node dies, as it should.
                let _ = send_and_confirm(address, seed, done, found);
            });
        }
        std::thread::sleep(delay);
        end(node);
        done.store(true, Ordering::Relaxed);
    });
    found.into_inner().expect("no thread panicked")
}

fn send_and_confirm(
    address: SocketAddr,
    seed: u64,
    done: &AtomicBool,
    found: &Mutex<Vec<Acknowledged>>,
) -> std::io::Result<()> {
    let mut rpc = Client::connect(address)?;
    let sender = Account::new(seed);
    let answer = rpc.raw("eth_getTransactionCount", json!([sender.address, "latest"]))?;
    let text = answer["result"]
        .as_str()
        .unwrap_or("0x0")
        .trim_start_matches("0x");
    let mut nonce = u64::from_str_radix(text, 16).unwrap_or(0);
    while !done.load(Ordering::Relaxed) {
        let to = Address::from_word(alloy_primitives::keccak256(nonce.to_be_bytes()));
        let raw = if nonce % 2 == 0 {
            sender.transfer(nonce, to, 1)
        } else {
            // usd.transfer(to, 1): a module that writes storage and logs.
            let mut data = hex!("a9059cbb").to_vec();
            data.extend(to.into_word());
            data.extend(B256::with_last_byte(1));
            sender.invoke(nonce, USD, data)
        };
        let answer = rpc.raw("eth_sendRawTransaction", json!([raw]))?;
        let Some(hash) = answer["result"].as_str().map(str::to_owned) else {
            return Err(std::io::Error::other(answer.to_string()));
        };
        loop {
            let receipt = rpc.raw("eth_getTransactionReceipt", json!([hash]))?["result"].take();
            if let (Some(block_hash), Some(number)) = (
                receipt["blockHash"].as_str(),
                receipt["blockNumber"].as_str(),
            ) {
                let number = u64::from_str_radix(number.trim_start_matches("0x"), 16);
                let entry = Acknowledged {
                    hash: hash.parse().map_err(std::io::Error::other)?,
                    block_hash: block_hash.parse().map_err(std::io::Error::other)?,
                    number: number.map_err(std::io::Error::other)?,
                };
                assert_eq!(receipt["status"], json!("0x1"), "{receipt}");
                found
                    .lock()
                    .map_err(|_| std::io::Error::other("poisoned"))?
                    .push(entry);
                break;
            }
            if done.load(Ordering::Relaxed) {
                return Ok(());
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        nonce += 1;
    }
    Ok(())
}

/// Opens the database without a node: everything acknowledged is there, and re-execution gives the same chain.
fn check_directory(directory: &Path, acknowledged: &[Acknowledged]) -> (u64, usize) {
    let store = Store::open(&directory.join(STATE_FILE)).expect("open");
    let mut blocks: Vec<u64> = Vec::new();
    for it in acknowledged {
        let place = store.transaction(&it.hash).expect("read");
        assert_eq!(place.map(|(number, _)| number), Some(it.number), "{it:?}");
        let head = store.header(it.number).expect("read").expect("header");
        assert_eq!(head.hash, it.block_hash);
        blocks.push(it.number);
    }
    blocks.sort_unstable();
    blocks.dedup();
    let head = store.head().expect("read").expect("head");
    let sequencer = store
        .header(0)
        .expect("read")
        .expect("genesis")
        .header
        .beneficiary;
    let reached = replay(&store, &support::modules(), &genesis(sequencer)).expect("replay");
    assert_eq!(reached, head.header.number);
    (reached, blocks.len())
}

/// xorshift64; the seed is printed so that a failure can be repeated.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % limit
    }
}

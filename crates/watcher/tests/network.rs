//! Whole disputes over a node in this process.

mod support;

use std::sync::Arc;
use std::time::{Duration, Instant};

use assay_abi::{CLAIMS, DISPUTES, IClaims, IDisputes, IStaking, STAKING};
use assay_operator::Fault;
use assay_watcher::{ModelSource, WatcherEvent};
use support::{Network, PRICE, block, input, moves, perceptron};

const ASSERTED: u8 = 1;
const FINAL: u8 = 3;
const REJECTED: u8 = 4;

#[tokio::test(flavor = "multi_thread")]
async fn an_honest_answer_is_audited_and_paid() {
    let network = Network::start(perceptron(1, 96, 8, true), None).await;
    block(|| {
        let before = network.escrow(&network.buyer);
        let answer = network.ask(1, &input(5, 2));
        network.wait_for(answer.claim_id, &[ASSERTED]);
        let (mut watcher, events) = network.watcher(true);
        watcher.tick().unwrap();
        let agreed = WatcherEvent::Agreed {
            claim_id: answer.claim_id,
        };
        assert_eq!(events.try_iter().collect::<Vec<_>>(), [agreed]);
        network.client.increase_time(3_700).unwrap();
        network.wait_for(answer.claim_id, &[FINAL]);
        assert_eq!(
            before - network.escrow(&network.buyer),
            alloy_primitives::U256::from(PRICE)
        );
    });
}

/// Asks one question of a lying operator and lets a watcher loose.
fn caught(network: &Network, positions: usize, one_shot: bool) -> Vec<&'static str> {
    let escrow = network.escrow(&network.buyer);
    let answer = network.ask(1, &input(9, positions));
    network.wait_for(answer.claim_id, &[ASSERTED]);
    let before = network.wei(&network.watcher_key);
    let (watcher, events) = network.watcher(one_shot);
    let running = watcher.start().unwrap();
    network.wait_for(answer.claim_id, &[REJECTED]);
    let after = std::time::Instant::now();
    while network.wei(&network.watcher_key) <= before {
        assert!(after.elapsed().as_secs() < 20, "no bounty");
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    running.stop();
    assert_eq!(network.escrow(&network.buyer), escrow, "the fee comes back");
    moves(&events)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_weight_falls_in_one_transaction() {
    let graph = perceptron(2, 96, 8, true);
    let network = Network::start(
        graph,
        Some(Fault::FlipWeight {
            constant: 0,
            byte: 2,
        }),
    )
    .await;
    block(|| assert_eq!(caught(&network, 2, true), ["proveBlock"]));
}

#[tokio::test(flavor = "multi_thread")]
async fn each_node_is_caught_by_its_element() {
    for node in 1..=4 {
        let fault = Fault::FlipActivation {
            node,
            element: 33,
            xor: 5,
        };
        let network = Network::start(perceptron(3, 96, 8, true), Some(fault)).await;
        block(|| {
            assert_eq!(
                caught(&network, 2, false),
                ["name", "proveElement"],
                "node {node}"
            )
        });
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lie_inside_a_segment_is_caught() {
    for node in 2..=4 {
        let fault = Fault::FlipActivation {
            node,
            element: 7,
            xor: 96,
        };
        let network = Network::start(perceptron(4, 96, 8, false), Some(fault)).await;
        block(|| {
            assert_eq!(
                caught(&network, 2, true),
                ["name", "name", "proveElement"],
                "node {node}"
            )
        });
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_large_trace_is_descended() {
    let fault = Fault::FlipActivation {
        node: 1,
        element: 300_000,
        xor: 3,
    };
    let network = Network::start(perceptron(5, 640, 760, true), Some(fault)).await;
    block(|| {
        let moves = caught(&network, 760, true);
        assert_eq!(moves, ["pick", "pick", "pick", "proveElement"]);
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn another_graph_under_the_registered_id_is_caught() {
    let fault = Fault::OtherGraph(perceptron(99, 96, 8, true));
    let network = Network::start(perceptron(6, 96, 8, true), Some(fault)).await;
    block(|| {
        assert_eq!(caught(&network, 1, true), ["proveBlock"]);
        let line = IClaims::lineIdOfCall {
            operator: network.operator_key.address(),
            requester: network.buyer.address(),
        };
        let line = network.client.call(CLAIMS, &line).unwrap();
        let line = network
            .client
            .call(CLAIMS, &IClaims::lineCall { lineId: line })
            .unwrap();
        assert_eq!(line.outstanding, 0);
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn disputes_resume_after_restarts_of_both_sides() {
    let fault = Fault::FlipActivation {
        node: 3,
        element: 1,
        xor: 64,
    };
    let mut network = Network::start(perceptron(7, 96, 8, false), Some(fault.clone())).await;
    let answer = block(|| {
        let answer = network.ask(1, &input(1, 2));
        network.wait_for(answer.claim_id, &[ASSERTED]);
        let (mut watcher, _) = network.watcher(true);
        watcher.tick().unwrap();
        answer
    });
    let operator = network.operator.take().unwrap();
    operator.stop().await;
    network.start_operator(Some(fault)).await;
    block(|| {
        // Each look is made by a watcher that was started anew.
        for _ in 0..600 {
            let (mut watcher, _) = network.watcher(true);
            watcher.tick().unwrap();
            if network.claim(answer.claim_id).state == REJECTED {
                return;
            }
            std::thread::sleep(std::time::Duration::from_millis(30));
        }
        panic!("the claim is not rejected");
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn a_silent_asserter_loses_by_its_clock() {
    let fault = Fault::FlipActivation {
        node: 1,
        element: 1,
        xor: 64,
    };
    let mut network = Network::start(perceptron(8, 96, 8, true), Some(fault)).await;
    let (mut watcher, _) = network.watcher(true);
    let answer = block(|| {
        let answer = network.ask(1, &input(1, 2));
        network.wait_for(answer.claim_id, &[ASSERTED]);
        let job = format!(
            "{}/v1/jobs/{}",
            network.operator.as_ref().unwrap().url(),
            answer.claim_id
        );
        assert!(ureq::get(&job).call().is_ok());
        answer
    });
    // The audit must be made while the operator serves the data; its defence must not run, so it is slowed down by
    // stopping it right after the challenge.
    let operator = network.operator.take().unwrap();
    block(|| watcher.tick().unwrap());
    operator.stop().await;
    block(|| {
        network.client.increase_time(200).unwrap();
        for _ in 0..100 {
            watcher.tick().unwrap();
            if network.claim(answer.claim_id).state == REJECTED {
                return;
            }
        }
        panic!("the claim is not rejected");
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn another_length_than_the_input_has_is_caught() {
    for (signed, real, one_shot, want) in [
        (1, 2, true, &["proveBlock"][..]),
        (2, 6, false, &["name", "proveElement"][..]),
        (3, 2, true, &["proveBlock"][..]),
        (8, 3, false, &["name", "proveElement"][..]),
    ] {
        let fault = Fault::OtherLength { positions: signed };
        let network = Network::start(perceptron(9, 96, 8, true), Some(fault)).await;
        let moves = block(|| caught(&network, real, one_shot));
        assert_eq!(moves, want, "{signed} signed, {real} given");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn another_length_is_caught_by_descent() {
    for (signed, real) in [(700, 760), (760, 20)] {
        let fault = Fault::OtherLength { positions: signed };
        let network = Network::start(perceptron(9, 640, 760, true), Some(fault)).await;
        let moves = block(|| caught(&network, real, true));
        assert_eq!(moves, ["pick", "pick", "pick", "proveElement"]);
    }
}

/// Endpoints that take connections and never answer must not stop the clock of a dispute.
#[tokio::test(flavor = "multi_thread")]
async fn hanging_endpoints_do_not_stall_disputes() {
    let fault = Fault::FlipActivation {
        node: 2,
        element: 1,
        xor: 64,
    };
    let network = Network::start(perceptron(10, 96, 8, false), Some(fault)).await;
    block(|| {
        let tarpit = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let disputed = network.ask(1, &input(1, 2));
        network.wait_for(disputed.claim_id, &[ASSERTED]);
        let (mut watcher, _) = network.watcher_with(|config| {
            config.one_shot = false;
            config.fetch_timeout = Duration::from_secs(3);
        });
        watcher.tick().unwrap();
        let endpoint = format!("http://{}", tarpit.local_addr().unwrap());
        let call = IStaking::setEndpointCall { endpoint };
        let key = &network.operator_key;
        network.client.send(key, STAKING, &call).unwrap();
        for seq in 2..=7 {
            let answer = network.ask(seq, &input(seq, 1));
            network.wait_for(answer.claim_id, &[ASSERTED]);
        }
        let start = Instant::now();
        let mut longest = Duration::ZERO;
        while network.claim(disputed.claim_id).state != REJECTED {
            let begun = Instant::now();
            watcher.tick().unwrap();
            longest = longest.max(begun.elapsed());
            assert!(start.elapsed() < Duration::from_secs(15), "stalled");
            std::thread::sleep(Duration::from_millis(30));
        }
        assert!(longest < Duration::from_secs(5), "{longest:?}");
    });
}

/// A crash between the challenge and its storing: the state file knows the claim, not the dispute.
#[tokio::test(flavor = "multi_thread")]
async fn a_lost_challenge_is_found_again_without_a_second_bond() {
    let fault = Fault::FlipActivation {
        node: 2,
        element: 1,
        xor: 64,
    };
    let network = Network::start(perceptron(11, 96, 8, false), Some(fault)).await;
    block(|| {
        let answer = network.ask(1, &input(1, 2));
        network.wait_for(answer.claim_id, &[ASSERTED]);
        let (mut watcher, _) = network.watcher(true);
        watcher.tick().unwrap();
        drop(watcher);
        std::fs::remove_file(network.folder.path().join("watcher/watcher.json")).unwrap();
        let (mut watcher, _) = network.watcher(true);
        let start = Instant::now();
        while network.claim(answer.claim_id).state != REJECTED {
            watcher.tick().unwrap();
            assert!(start.elapsed() < Duration::from_secs(20), "not rejected");
            std::thread::sleep(Duration::from_millis(30));
        }
        let count = network.client.call(DISPUTES, &IDisputes::countCall {});
        assert_eq!(count.unwrap(), alloy_primitives::U256::from(1));
    });
}

/// Panics for the first questions, then answers.
#[derive(Debug)]
struct Moody(std::sync::atomic::AtomicU32, Vec<Arc<assay_graph::Graph>>);

impl ModelSource for Moody {
    fn graph(&self, model_id: alloy_primitives::B256) -> Result<assay_graph::Graph, String> {
        let asked = self.0.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        assert!(asked > 0, "bad mood");
        self.1.graph(model_id)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_panic_does_not_end_the_watcher() {
    let network = Network::start(perceptron(12, 96, 8, true), None).await;
    block(|| {
        let answer = network.ask(1, &input(1, 2));
        network.wait_for(answer.claim_id, &[ASSERTED]);
        let source = Moody(0.into(), vec![Arc::clone(&network.graph)]);
        let (watcher, events) =
            network.watcher_with(move |config| config.models = Arc::new(source));
        let running = watcher.start().unwrap();
        let wait = Duration::from_secs(10);
        let first = events.recv_timeout(wait).unwrap();
        assert!(matches!(first, WatcherEvent::Unaudited { .. }), "{first:?}");
        let agreed = WatcherEvent::Agreed {
            claim_id: answer.claim_id,
        };
        assert_eq!(events.recv_timeout(wait).unwrap(), agreed);
        running.stop();
    });
}

/// What happens while the operator is down: a claim that its files call signed is challenged, and the file of another
/// disputed job is damaged. The one must be answered whatever becomes of the other.
#[tokio::test(flavor = "multi_thread")]
async fn an_operator_answers_what_was_opened_while_it_was_down() {
    let mut network = Network::start(perceptron(13, 96, 8, true), None).await;
    let claims: Vec<_> = block(|| {
        let ask = |seq| {
            let claim_id = network.ask(seq, &input(seq, 1)).claim_id;
            network.wait_for(claim_id, &[ASSERTED]);
            claim_id
        };
        (1..=4).map(ask).collect()
    });
    // The file of the last asserted job is written after the claim is seen on the chain.
    tokio::time::sleep(Duration::from_millis(300)).await;
    network.operator.take().unwrap().stop().await;
    block(|| {
        for claim in &claims {
            let bond = IDisputes::bondOfCall { claimId: *claim };
            let bond = network.client.call(DISPUTES, &bond).unwrap();
            let call = IDisputes::challengeCall { claimId: *claim };
            let key = &network.watcher_key;
            let sent = network.client.send_value(key, DISPUTES, &call, bond);
            sent.unwrap();
        }
        for (claim, damaged) in claims.iter().zip([true, false, true, false]) {
            let file = format!("operator/jobs/{claim}.json");
            let path = network.folder.path().join(file);
            let bytes = std::fs::read(&path).unwrap();
            let mut job: serde_json::Value = serde_json::from_slice(&bytes).unwrap();
            job["state"] = serde_json::json!({"is": "signed"});
            if damaged {
                job["input"] = serde_json::json!("0x00");
            }
            std::fs::write(&path, job.to_string()).unwrap();
        }
    });
    network.start_operator(None).await;
    block(|| {
        let start = Instant::now();
        for id in [2u64, 4] {
            let call = IDisputes::disputeCall {
                id: alloy_primitives::U256::from(id),
            };
            while network.client.call(DISPUTES, &call).unwrap().turn != 2 {
                let waited = start.elapsed();
                assert!(waited < Duration::from_secs(15), "dispute {id}");
                std::thread::sleep(Duration::from_millis(30));
            }
        }
    });
}

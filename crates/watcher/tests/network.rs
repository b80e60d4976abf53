//! Whole disputes over a node in this process.

mod support;

use assay_abi::{CLAIMS, IClaims};
use assay_operator::Fault;
use assay_watcher::WatcherEvent;
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
    let network = Network::start(perceptron(5, 640, 850, true), Some(fault)).await;
    block(|| {
        let moves = caught(&network, 850, true);
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

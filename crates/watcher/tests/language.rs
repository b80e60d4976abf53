//! Language models from request to settlement, over a node in this process.

mod support;

use std::sync::Arc;

use assay_engine::EngineOptions;
use assay_graph::{Graph, Sampling};
use assay_operator::{LanguageFault, LanguageModel, with_fewer_bits};
use assay_watcher::WatcherEvent;
use support::language::{Call, ids, long_speaker, prompt, sampling, speaker};
use support::{Network, block};

const ASSERTED: u8 = 1;
const FINAL: u8 = 3;
const REJECTED: u8 = 4;

async fn honest(seed: u64) -> Network {
    let graph = speaker(seed, 2);
    let model = LanguageModel::new(Arc::clone(&graph), EngineOptions::default()).unwrap();
    Network::with_model(graph, Box::new(model), |_| ()).await
}

#[tokio::test(flavor = "multi_thread")]
async fn an_honest_answer_is_replayed_and_paid() {
    let network = honest(1).await;
    block(|| {
        let before = network.escrow(&network.buyer);
        let answer = Call::new(prompt(9), sampling(24)).answer(&network);
        assert_eq!((answer.receipt.n_in, answer.receipt.n_out), (9, 24));
        assert_eq!(answer.receipt.seq, 1);
        network.wait_for(answer.claim_id, &[ASSERTED]);
        let (mut watcher, events) = network.watcher(true);
        watcher.tick().unwrap();
        let agreed = WatcherEvent::Agreed {
            claim_id: answer.claim_id,
        };
        assert_eq!(events.try_iter().collect::<Vec<_>>(), [agreed]);
        network.client.increase_time(3_700).unwrap();
        network.wait_for(answer.claim_id, &[FINAL]);
        assert!(before > network.escrow(&network.buyer));
    });
}

/// Asks a lying operator and lets a watcher loose; the moves that were made, or nothing if the lie changes nothing that
/// is committed.
async fn caught(
    fault: LanguageFault,
    sampling: Sampling,
    one_shot: bool,
) -> Option<Vec<&'static str>> {
    caught_with(speaker(3, 2), prompt(9), fault, sampling, one_shot).await
}

async fn caught_with(
    graph: Arc<Graph>,
    prompt: Vec<u32>,
    fault: LanguageFault,
    sampling: Sampling,
    one_shot: bool,
) -> Option<Vec<&'static str>> {
    let model = LanguageModel::faulty(&graph, fault, EngineOptions::default()).unwrap();
    let network = Network::with_model(graph, Box::new(model), |_| ()).await;
    block(|| {
        let escrow = network.escrow(&network.buyer);
        let answer = Call::new(prompt, sampling).answer(&network);
        network.wait_for(answer.claim_id, &[ASSERTED]);
        let before = network.wei(&network.watcher_key);
        let (mut watcher, events) = network.watcher(one_shot);
        watcher.tick().unwrap();
        let first: Vec<_> = events.try_iter().collect();
        let agreed = |event| matches!(event, &WatcherEvent::Agreed { .. });
        if first.iter().any(agreed) {
            return None;
        }
        let running = watcher.start().unwrap();
        network.wait_for(answer.claim_id, &[REJECTED]);
        let begun = std::time::Instant::now();
        while network.wei(&network.watcher_key) <= before {
            assert!(begun.elapsed().as_secs() < 20, "no bounty");
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
        running.stop();
        assert_eq!(network.escrow(&network.buyer), escrow, "the fee comes back");
        let all = first.into_iter().chain(events.try_iter());
        let moves = all.filter_map(|event| match event {
            WatcherEvent::Moved { call, .. } => Some(call),
            _ => None,
        });
        Some(moves.collect())
    })
}

/// Whatever the lie, it ends by a proof and not by a clock.
async fn is_proven(fault: LanguageFault, sampling: Sampling) {
    for one_shot in [true, false] {
        let words = format!("{fault:?}");
        let words: String = words.chars().take(60).collect();
        let moves = caught(fault.clone(), sampling.clone(), one_shot).await;
        let moves = moves.unwrap_or_else(|| panic!("{words} went through"));
        assert!(
            matches!(moves.last(), Some(&("proveElement" | "proveBlock"))),
            "{words}: {moves:?}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn fewer_bits_per_weight_are_caught() {
    let coarse = Arc::new(with_fewer_bits(&speaker(3, 2), 2).unwrap());
    is_proven(LanguageFault::OtherGraph(coarse), sampling(12)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_long_prompt_is_descended_inside_a_layer() {
    // The trace of a layer has more than a thousand leaves here.
    let fault = LanguageFault::Flip {
        node: 5,
        element: 100 * 16 + 3,
    };
    let graph = long_speaker(3, 250);
    let moves = caught_with(graph, prompt(235), fault, sampling(8), true).await;
    let moves = moves.expect("it went through");
    assert_eq!(moves, ["name", "pick", "pick", "pick", "proveElement"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn another_model_is_caught() {
    is_proven(LanguageFault::OtherGraph(speaker(4, 2)), sampling(12)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_shortened_prompt_is_caught() {
    for signs_it in [true, false] {
        let fault = LanguageFault::ShortPrompt {
            dropped: 4,
            signs_it,
        };
        is_proven(fault, sampling(12)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn another_seed_is_caught() {
    is_proven(LanguageFault::OtherSeed, sampling(12)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_was_not_sampled_is_caught() {
    for at in [0, 6, 11] {
        is_proven(LanguageFault::WrongToken { at }, sampling(12)).await;
    }
    is_proven(LanguageFault::NoSuchToken, sampling(12)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn invented_tokens_are_caught() {
    // Sampling ends early, so that there is room to invent.
    let sampling = ending_early().await;
    is_proven(LanguageFault::Extended { added: 3 }, sampling.clone()).await;
    is_proven(LanguageFault::GoesOn, sampling).await;
}

/// A statement whose answer ends with a stop token before `max_out`.
async fn ending_early() -> Sampling {
    let graph = speaker(3, 2);
    let model = LanguageModel::new(Arc::clone(&graph), EngineOptions::default()).unwrap();
    let network = Network::with_model(graph, Box::new(model), |_| ()).await;
    block(|| {
        let free = Call::new(prompt(9), sampling(20)).answer(&network);
        Sampling {
            stop: vec![ids(&free)[5]],
            ..sampling(20)
        }
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_changed_value_of_any_part_is_caught() {
    let nodes = speaker(3, 2).nodes().len() as u32;
    // Input, words, a layer's ends and middle, logits, and each node of the sampler.
    let mut lies = 0;
    for node in [0, 1, 2, 7, 8, 11, 20, 21]
        .into_iter()
        .chain(nodes - 10..nodes)
    {
        // Some values matter to nothing that is committed.
        for element in [37, 2, 405, 1] {
            let fault = LanguageFault::Flip { node, element };
            let Some(moves) = caught(fault, sampling(12), true).await else {
                continue;
            };
            lies += 1;
            assert!(
                matches!(moves.last(), Some(&("proveElement" | "proveBlock"))),
                "node {node}: {moves:?}"
            );
            break;
        }
    }
    assert!(
        lies >= 8,
        "only {lies} of 18 changed anything that is committed"
    );
}

//! Constrained answers: masks are in the receipt, judged as they are, and held against the grammar by whoever has it.

mod support;

use std::sync::Arc;

use alloy_primitives::B256;
use assay_engine::EngineOptions;
use assay_graph::Graph;
use assay_graph::sampling::mask_tree;
use assay_operator::{Grammars, LanguageFault, LanguageModel, MaskSource};
use assay_watcher::{ModelSource, WatcherEvent};
use support::language::{Call, VOCABULARY, ids, prompt, sampling, speaker};
use support::{Network, block, moves};

const ASSERTED: u8 = 1;
const REJECTED: u8 = 4;

/// The only grammar: every token is a multiple of a number that falls with the position.
#[derive(Debug)]
struct Multiples(u32);

struct Source(u32, u32);

fn mask(of: u32) -> Vec<u8> {
    let mut mask = vec![0u8; VOCABULARY.div_ceil(8) as usize];
    for token in (0..VOCABULARY).step_by(of as usize) {
        mask[token as usize / 8] |= 1 << (token % 8);
    }
    mask
}

impl MaskSource for Source {
    fn mask(&mut self) -> Result<Vec<u8>, String> {
        if self.1 > 30 {
            return Ok(vec![0; VOCABULARY.div_ceil(8) as usize]);
        }
        Ok(mask(if self.1 < 4 { self.0 } else { 2 }))
    }

    fn accept(&mut self, token: u32) -> Result<(), String> {
        self.1 += 1;
        if token.is_multiple_of(2) {
            Ok(())
        } else {
            Err("odd".into())
        }
    }
}

impl Grammars for Multiples {
    fn source(&self, grammar: &[u8]) -> Result<Box<dyn MaskSource>, String> {
        match grammar {
            b"multiples" => Ok(Box::new(Source(self.0, 0))),
            _ => Err("no such grammar".into()),
        }
    }
}

#[derive(Debug)]
struct Models(Arc<Graph>);

impl ModelSource for Models {
    fn graph(&self, model_id: B256) -> Result<Graph, String> {
        ModelSource::graph(&vec![Arc::clone(&self.0)], model_id)
    }

    fn grammars(&self, _: B256) -> Option<Arc<dyn Grammars>> {
        Some(Arc::new(Multiples(6)))
    }
}

async fn network(fault: Option<LanguageFault>, of: u32) -> Network {
    let graph = speaker(5, 1);
    let options = EngineOptions::default();
    let model = match fault {
        None => LanguageModel::new(Arc::clone(&graph), options),
        Some(fault) => LanguageModel::faulty(&graph, fault, options),
    };
    let model = model.unwrap().with_grammars(Arc::new(Multiples(of)));
    Network::with_model(graph, Box::new(model), |_| ()).await
}

fn call() -> Call {
    Call::new(prompt(7), sampling(12)).constrained(b"multiples")
}

#[tokio::test(flavor = "multi_thread")]
async fn masks_are_in_the_receipt_and_follow_from_the_grammar() {
    let network = network(None, 6).await;
    block(|| {
        let answer = call().answer(&network);
        let tokens = ids(&answer);
        assert!(tokens.iter().take(4).all(|t| t % 6 == 0), "{tokens:?}");
        assert!(tokens.iter().all(|t| t % 2 == 0), "{tokens:?}");
        let masks: Vec<Vec<u8>> = (0..12).map(|i| mask(if i < 4 { 6 } else { 2 })).collect();
        let root = mask_tree(masks.iter().map(Vec::as_slice)).root();
        assert_eq!(answer.receipt.ext_hash, B256::from(root));
        network.wait_for(answer.claim_id, &[ASSERTED]);
        let models = Arc::new(Models(Arc::clone(&network.graph)));
        let (mut watcher, events) = network.watcher_with(|config| config.models = models);
        watcher.tick().unwrap();
        let agreed = WatcherEvent::Agreed {
            claim_id: answer.claim_id,
        };
        assert_eq!(events.try_iter().collect::<Vec<_>>(), [agreed]);
        // A grammar that nothing obeys any more ends in an error, without a receipt.
        let (status, body) = network.post(
            &serde_json::to_value(
                Call::new(prompt(7), sampling(40))
                    .constrained(b"multiples")
                    .ask(&network),
            )
            .unwrap(),
        );
        assert_eq!((status, body["code"].as_str()), (503, Some("failed")));
        // And an unknown one is refused.
        let unknown = Call::new(prompt(7), sampling(4)).constrained(b"other");
        let (status, body) = network.post(&serde_json::to_value(unknown.ask(&network)).unwrap());
        assert_eq!((status, body["code"].as_str()), (400, Some("grammar")));
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn masks_of_another_grammar_are_told() {
    let network = network(None, 2).await;
    block(|| {
        let answer = call().answer(&network);
        network.wait_for(answer.claim_id, &[ASSERTED]);
        let models = Arc::new(Models(Arc::clone(&network.graph)));
        let (mut watcher, events) = network.watcher_with(|config| config.models = models);
        watcher.tick().unwrap();
        let told = WatcherEvent::OtherMasks {
            claim_id: answer.claim_id,
            operator: network.operator_key.address(),
            position: 0,
        };
        assert_eq!(events.try_iter().collect::<Vec<_>>(), [told]);
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_the_mask_forbids_is_caught() {
    for fault in [
        LanguageFault::WrongToken { at: 2 },
        LanguageFault::OtherSeed,
        // Caught where statement and mask are read.
        LanguageFault::NoMasks,
    ] {
        let words = format!("{fault:?}");
        let network = network(Some(fault), 6).await;
        block(|| {
            let answer = call().answer(&network);
            network.wait_for(answer.claim_id, &[ASSERTED]);
            let (watcher, events) = network.watcher(false);
            let running = watcher.start().unwrap();
            network.wait_for(answer.claim_id, &[REJECTED]);
            std::thread::sleep(std::time::Duration::from_millis(200));
            running.stop();
            let moves = moves(&events);
            assert_eq!(moves.last(), Some(&"proveElement"), "{words}: {moves:?}");
        });
    }
}

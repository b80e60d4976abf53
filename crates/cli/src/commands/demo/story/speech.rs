//! The language model's part of the story: a reply that is replayed, and liars that are caught.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use alloy_primitives::{B256, U256};
use assay_engine::EngineOptions;
use assay_graph::Graph;
use assay_import::Model;
use assay_operator::{LanguageFault, LanguageModel, ModelRunner};
use assay_receipt::Bundle;
use assay_watcher::WatcherEvent;
use serde_json::{Value, json};

use super::{Demo, REJECTED};
use crate::{
    commands::{
        chat::reply,
        demo::cheat::{fewer_bits, without_layers},
        model, wallet, watcher,
    },
    exit::{Exit, stop},
    talk::{Settings, Told},
    units::{self, COIN, coin, usd},
    wrap::Wrap,
};

/// What is asked.
const QUESTION: &str = "Why is the sky blue? Answer in one short sentence.";
/// What the liars are asked.
const SHORT_QUESTION: &str = "What is the capital of France?";
/// Columns of an answer.
const WIDTH: usize = 92;
/// A reply of the demonstration.
const LONGEST: u32 = 96;
/// A reply of a liar.
const LIE: u32 = 24;
/// The same seed gives the same words, on every machine.
const SEED: i64 = 1;

/// Layers that the shallower model lacks.
const LEFT_OUT: [usize; 2] = [20, 22];

/// A way to cheat.
struct Lie {
    name: &'static str,
    what: &'static str,
    fault: LanguageFault,
}

/// Ways to be cheaper, or to steer the answer.
fn lies(graph: &Graph) -> anyhow::Result<Vec<Lie>> {
    let other = |graph: Graph| LanguageFault::OtherGraph(Arc::new(graph));
    Ok(vec![
        Lie {
            name: "fewer_bits",
            what: "fewer bits per weight: 3 instead of 4 in every third layer",
            fault: other(fewer_bits(graph)?),
        },
        Lie {
            name: "other_model",
            what: "another model: a shallower one, two of its layers do nothing",
            fault: other(without_layers(graph, &LEFT_OUT)?),
        },
        Lie {
            name: "short_prompt",
            what: "a shortened prompt: the first 8 tokens left out",
            fault: LanguageFault::ShortPrompt {
                dropped: 8,
                signs_it: false,
            },
        },
        Lie {
            name: "other_seed",
            what: "another seed: words of its own choice",
            fault: LanguageFault::OtherSeed,
        },
    ])
}

impl Demo<'_> {
    fn language(&self) -> Option<Model> {
        self.models
            .iter()
            .find(|m| model::is_language(&m.manifest))
            .cloned()
    }

    /// Asks the language model; the words go to `hear`.
    fn tell(
        &self,
        model: &Model,
        question: &str,
        longest: u32,
        hear: impl FnMut(&str),
    ) -> anyhow::Result<Told> {
        let Some(talk) = &self.talk else {
            return stop(Exit::Failed, "no gateway");
        };
        let settings = Settings {
            temperature: Some(0.7),
            seed: Some(SEED),
            max_tokens: Some(longest),
            ..Settings::default()
        };
        let messages = [json!({ "role": "user", "content": question })];
        let body = settings.body(&model.manifest.name, &messages);
        self.runtime.block_on(talk.ask(&body, hear))
    }

    fn bundle(&self, receipt: &str) -> anyhow::Result<Bundle> {
        match &self.client {
            Some(client) => client.bundle(receipt),
            None => stop(Exit::Failed, "no gateway"),
        }
    }

    /// A reply, word by word.
    pub(super) fn model_talks(&mut self) -> anyhow::Result<Vec<(String, Bundle)>> {
        let title = "A language model talks, and its reply has a receipt";
        let why = "prompt, every layer and every sampled token are in one commitment; the seed is public, so the words are the same on every machine";
        self.step(title, why);
        let Some(model) = self.language() else {
            self.shell.line("no language model on this machine, and none could be fetched: going on without (`assay pull smollm2`)");
            self.record("speech", json!({ "skipped": "no language model" }));
            return Ok(Vec::new());
        };
        let name = model.manifest.name.clone();
        self.shell.line(format!(">>> {QUESTION}"));
        self.shell.words("    ");
        let mut wrap = Wrap::new(Some(WIDTH));
        let show = |text: &str| self.shell.words(&text.replace('\n', "\n    "));
        let told = self.tell(&model, QUESTION, LONGEST, |text| show(&wrap.push(text)))?;
        show(&wrap.finish());
        self.shell.words("\n");
        self.shell.why(reply::figures(&told));
        let bundle = self.bundle(&told.receipt)?;
        let id = bundle.receipt.claim_id();
        self.shell.line(format!("receipt {id} for {name}"));
        self.check(
            !told.text.trim().is_empty() && id.to_string() == told.receipt,
            &format!(
                "the reply's {} tokens have one receipt",
                bundle.receipt.n_out
            ),
        );
        self.took.push((id, told.wait + told.flow));
        let mut facts = told.json();
        facts["model"] = json!(name);
        facts["question"] = json!(QUESTION);
        self.record("speech", facts);
        Ok(vec![(name, bundle)])
    }

    /// How a replay compares with the making of the reply.
    pub(super) fn compare(&self, id: B256, replay: Duration) {
        let Some((_, made)) = self.took.iter().find(|(claim, _)| *claim == id) else {
            return;
        };
        let share = replay.as_secs_f64() / made.as_secs_f64().max(0.001);
        self.shell.line(format!(
            "the reply took {:.2} s to make and {:.2} s to replay, {share:.2} of it: all positions go through the layers at once",
            made.as_secs_f64(),
            replay.as_secs_f64()
        ));
    }

    /// The second operator lies in four ways, one after the other.
    pub(super) fn liars_talk(&mut self) -> anyhow::Result<()> {
        let Some(model) = self.language() else {
            return Ok(());
        };
        self.step(
            "The second operator lies about the language model, in four ways",
            "replies that a buyer might believe; each receipt is replayed, disputed, and decided by recomputing one element",
        );
        self.shell.line(format!(">>> {SHORT_QUESTION}"));
        let mut facts = Vec::new();
        for lie in lies(&model.graph)? {
            facts.push(self.caught(&model, lie)?);
        }
        self.record("liars", json!(facts));
        Ok(())
    }

    fn caught(&mut self, model: &Model, lie: Lie) -> anyhow::Result<Value> {
        let cast = self.services.cast.clone();
        let (cheater, buyer, auditor) = (
            cast.cheater.address(),
            cast.buyer.address(),
            cast.watcher.address(),
        );
        let options = EngineOptions::default();
        let liar = LanguageModel::faulty(&model.graph, lie.fault, options)?;
        let runners: Vec<Box<dyn ModelRunner>> = vec![Box::new(liar)];
        self.runtime.block_on(self.services.stop_first_operator());
        let bond = units::parse("5000", COIN)?;
        let (key, receipts) = (cast.cheater.clone(), cast.cheater_receipts.clone());
        self.runtime.block_on(self.services.add_operator(
            "second-operator",
            &key,
            &receipts,
            runners,
            bond,
        ))?;
        let bonded = self.operator(cheater)?.bonded;
        let before = self.books()?;
        let escrow = wallet::holdings(&self.services.chain, buyer)?.escrow;
        let told = self.tell(model, SHORT_QUESTION, LIE, |_| {})?;
        let words = told.text.split_whitespace().collect::<Vec<_>>().join(" ");
        let mut shown: String = words.chars().take(WIDTH - 8).collect();
        if shown.len() < words.len() || told.finish == "length" {
            shown.push_str(" …");
        }
        self.shell.line(lie.what);
        self.shell.why(format!("  {shown}"));
        let bundle = self.bundle(&told.receipt)?;
        let id = bundle.receipt.claim_id();
        let started = Instant::now();
        let mut moves = Vec::new();
        let rejected = loop {
            match self.next_event()? {
                WatcherEvent::Moved { call, words, .. } => moves.push(format!("{call}: {words}")),
                WatcherEvent::Closed {
                    claim_id, rejected, ..
                } if claim_id == id => break rejected,
                WatcherEvent::Agreed { claim_id } if claim_id == id => {
                    self.check(false, "the watcher finds the lie");
                    return Ok(json!({ "lie": lie.name, "claim": id, "rejected": false }));
                }
                WatcherEvent::Unaudited { .. } | WatcherEvent::Challenged { .. } => {}
                WatcherEvent::Differs { .. } => {}
                other => self.shell.why(format!("  {}", watcher::words(&other))),
            }
        };
        let seconds = started.elapsed().as_secs_f64();
        self.wait("the claim is rejected", |demo| {
            Ok(demo.claim(id)?.state == REJECTED)
        })?;
        if let Some(last) = moves.last() {
            let word = if moves.len() == 1 { "move" } else { "moves" };
            self.shell
                .why(format!("  {} {word}, the last {last}", moves.len()));
        }
        let left = self.operator(cheater)?.bonded;
        let after = self.books()?;
        let escrow_after = wallet::holdings(&self.services.chain, buyer)?.escrow;
        let gain = |account| after.coin(account).saturating_sub(before.coin(account));
        self.check(
            rejected && left < bonded && escrow_after == escrow && gain(auditor) > U256::ZERO && gain(buyer) > U256::ZERO,
            &format!(
                "caught in {seconds:.1} s: slashed {}, buyer has its {} back and {}, watcher earned {}",
                coin(bonded.saturating_sub(left)),
                usd(U256::from(bundle.receipt.fee)),
                coin(gain(buyer)),
                coin(gain(auditor))
            ),
        );
        Ok(json!({
            "lie": lie.name, "words": told.text, "claim": id, "rejected": rejected, "seconds": seconds, "moves": moves,
            "bond_before": bonded.to_string(), "bond_after": left.to_string(), "escrow_before": escrow.to_string(), "escrow_after": escrow_after.to_string(),
            "buyer_gain": gain(buyer).to_string(), "watcher_gain": gain(auditor).to_string(),
        }))
    }
}

//! The demonstration, step by step.

mod cheater;
mod proven;
mod speech;

use std::{
    path::Path,
    sync::mpsc::Receiver,
    time::{Duration, Instant},
};

use alloy_primitives::{Address, B256, U256};
use alloy_sol_types::SolEvent;
use assay_abi::{CLAIMS, IClaims, IModels, IPools, IStaking, MODELS, POOLS, STAKING};
use assay_import::{DIGIT_SAMPLES, Model};
use assay_node::{Node, NodeHandle};
use assay_receipt::{Bundle, Replay, Report, Status, verify_bundle};
use assay_wallet::{Key, LogFilter};
use assay_watcher::WatcherEvent;
use serde_json::{Map, Value, json};
use tokio::runtime::Runtime;

use super::books::{Books, coin_change, usd_change};
use crate::{
    args::DemoArgs,
    client::{Client, Input, words},
    commands::{model, up, wallet, watcher},
    exit::{Exit, stop},
    local,
    network::{self, API_KEY, ChainOptions, Services, WINDOW},
    replay,
    shell::Shell,
    talk::Talk,
    units::{self, COIN, USD, coin, coin_exact, usd},
};

/// Longest that one thing of the story may take.
const PATIENCE: Duration = Duration::from_secs(120);
/// The model that embeds it.
const EMBEDDER: &str = "minilm-l6";
/// The sentence that is embedded.
const SENTENCE: &str = "An answer that comes with evidence is worth more than an answer.";

/// The network while it is shown, and what was found out.
struct Demo<'a> {
    shell: &'a Shell,
    runtime: &'a Runtime,
    node: NodeHandle,
    services: Services,
    models: Vec<Model>,
    client: Option<Client>,
    talk: Option<Talk>,
    /// Time that the answers of language models took, by claim.
    took: Vec<(B256, Duration)>,
    events: Option<Receiver<WatcherEvent>>,
    steps: Vec<Value>,
    failures: Vec<String>,
    number: usize,
}

/// Tells the whole story.
///
/// # Errors
/// When a part can't be started, or a statement of the story does not hold.
pub(super) fn tell(
    args: &DemoArgs,
    dir: &Path,
    shell: &Shell,
    runtime: &Runtime,
) -> anyhow::Result<()> {
    shell.line("Assay: an AI answer that comes with evidence. A whole network in this process, in a temporary folder.");
    let options = ChainOptions {
        data: Some(dir.join("chain")),
        rpc: ([127, 0, 0, 1], 0).into(),
        check_invariants: true,
    };
    let node = runtime.block_on(Node::open(network::chain_config(options)?))?;
    let services = Services::new(&node.rpc_url(), dir.to_owned())?;
    let mut demo = Demo {
        shell,
        runtime,
        node,
        services,
        models: Vec::new(),
        client: None,
        talk: None,
        took: Vec::new(),
        events: None,
        steps: Vec::new(),
        failures: Vec::new(),
        number: 0,
    };
    let told = demo.run(args);
    demo.end(told)
}

impl Demo<'_> {
    fn run(&mut self, args: &DemoArgs) -> anyhow::Result<()> {
        self.network_comes_up()?;
        self.models_are_registered(args.offline)?;
        self.operator_bonds()?;
        self.people_stake()?;
        let mut receipts = self.buyer_asks()?;
        receipts.extend(self.model_talks()?);
        self.receipts_are_verified(&receipts)?;
        self.fees_are_settled(&receipts)?;
        self.answer_is_proven()?;
        self.cheater_joins()?;
        self.cheater_is_caught()?;
        self.liars_talk()?;
        self.supply_adds_up()
    }

    fn step(&mut self, title: &str, why: &str) {
        self.number += 1;
        self.shell.step(self.number, title);
        self.shell.why(why);
    }

    fn record(&mut self, name: &str, facts: Value) {
        let step = json!({ "step": self.number, "name": name, "seconds": (self.shell.seconds() * 1000.0).round() / 1000.0, "facts": facts });
        self.steps.push(step);
    }

    fn check(&mut self, holds: bool, text: &str) {
        self.shell.check(holds, text);
        if !holds {
            self.failures.push(text.to_owned());
        }
    }

    fn key(&self, f: impl Fn(&network::Cast) -> &Key) -> Key {
        f(&self.services.cast).clone()
    }

    fn books(&self) -> anyhow::Result<Books> {
        Books::read(&self.services.chain, &self.services.cast)
    }

    fn network_comes_up(&mut self) -> anyhow::Result<()> {
        self.step("A network comes up", "one process: chain on an embedded store, later operator, watcher and gateway; the same parts run apart as `assay node`, `operator`, …");
        let (rpc, chain_id) = (self.node.rpc_url(), self.services.chain.chain_id()?);
        self.shell
            .line(format!("chain {chain_id} answers eth_* at {rpc}"));
        self.record("network", json!({ "rpc": rpc, "chain_id": chain_id }));
        Ok(())
    }

    fn models_are_registered(&mut self, offline: bool) -> anyhow::Result<()> {
        self.step("Models are registered by content hash", "the id is the hash of the integer graph, its tables and its weights: what is registered is what must be served");
        self.models = up::models(&[], offline, self.shell)?;
        let maker = self.key(|c| &c.maker);
        let mut facts = Vec::new();
        for m in self.models.clone() {
            let started = Instant::now();
            network::register_model(
                &self.services.chain,
                &maker,
                &m.graph,
                &m.manifest.name,
                local::PRICE,
                "",
            )?;
            let known = self.services.chain.call(
                MODELS,
                &IModels::modelCall {
                    modelId: m.id().into(),
                },
            )?;
            self.shell
                .line(format!("{:<10} 0x{}", m.manifest.name, m.manifest.model_id));
            self.shell.line(format!(
                "{:<10} {}, {} a call, structure on chain, registered in {:.0?}",
                "",
                model::size_words(&m.manifest),
                model::price_words(local::PRICE),
                started.elapsed()
            ));
            for report in m.manifest.accuracy.iter().take(1) {
                let figures: Vec<String> = report
                    .metrics
                    .iter()
                    .map(|x| format!("{} {:.4}", x.name, x.value))
                    .collect();
                self.shell.line(format!(
                    "{:<10} {} ({} samples)",
                    "",
                    figures.join(", "),
                    report.samples
                ));
            }
            self.check(
                known.modelId.0 == m.id(),
                &format!("the chain computed the same id for `{}`", m.manifest.name),
            );
            facts.push(json!({ "name": m.manifest.name, "model_id": known.modelId, "single_shot": known.singleShot, "price": known.price.to_string(), "accuracy": m.manifest.accuracy }));
        }
        self.record("models", json!(facts));
        self.key_is_set()
    }

    fn operator_bonds(&mut self) -> anyhow::Result<()> {
        self.step(
            "An operator bonds stake",
            "it signs a receipt for every answer; a receipt shown false costs it this stake",
        );
        let (operator, receipts) = (
            self.key(|c| &c.operator),
            self.key(|c| &c.operator_receipts),
        );
        let before = self.services.chain.balance(operator.address())?;
        let bond = units::parse(local::BOND, COIN)?;
        let runners = local::runners(&self.models)?;
        let url = self.runtime.block_on(
            self.services
                .add_operator("operator", &operator, &receipts, runners, bond),
        )?;
        let after = self.services.chain.balance(operator.address())?;
        let known = self.operator(operator.address())?;
        self.shell
            .line(format!("operator {} at {url}", operator.address()));
        self.shell.line(format!(
            "balance {}, bonded {}",
            coin_change(before, after),
            coin(known.bonded)
        ));
        self.check(known.bonded == bond, "the bond is on the chain");
        self.record("operator", json!({ "operator": operator.address(), "endpoint": url, "bonded": known.bonded.to_string(), "before": before.to_string(), "after": after.to_string() }));
        Ok(())
    }

    fn operator(&self, account: Address) -> anyhow::Result<IStaking::Operator> {
        Ok(self
            .services
            .chain
            .call(STAKING, &IStaking::operatorCall { account })?)
    }

    fn lineage(&self, name: &str) -> anyhow::Result<B256> {
        Ok(self
            .services
            .chain
            .call(
                MODELS,
                &IModels::byNameCall {
                    name: name.to_owned(),
                },
            )?
            .lineage)
    }

    fn people_stake(&mut self) -> anyhow::Result<()> {
        self.step(
            "Two people stake on a model",
            "they share its part of every fee by their shares; fees never enter the share price",
        );
        let lineage = self.lineage("digits")?;
        let mut facts = Vec::new();
        for (key, amount) in self
            .services
            .cast
            .stakers
            .clone()
            .iter()
            .zip(["1000", "3000"])
        {
            let before = self.services.chain.balance(key.address())?;
            self.services.chain.send_value(
                key,
                POOLS,
                &IPools::depositCall { lineage },
                units::parse(amount, COIN)?,
            )?;
            let after = self.services.chain.balance(key.address())?;
            self.shell.line(format!(
                "{} stakes {amount} ASSAY on digits: {}",
                key.address(),
                coin_change(before, after)
            ));
            facts.push(json!({ "staker": key.address(), "before": before.to_string(), "after": after.to_string() }));
        }
        let pool = self
            .services
            .chain
            .call(POOLS, &IPools::poolCall { lineage })?;
        self.check(
            pool.assets == units::parse("4000", COIN)?,
            "the pool holds 4,000 ASSAY",
        );
        self.record("stakes", json!(facts));
        Ok(())
    }

    fn buyer_asks(&mut self) -> anyhow::Result<Vec<(String, Bundle)>> {
        self.step(
            "A buyer asks",
            "through the HTTP API; the answer comes with the name of its receipt in a header",
        );
        let buyer = self.key(|c| &c.buyer);
        let before = wallet::holdings(&self.services.chain, buyer.address())?;
        wallet::deposit(&self.services.chain, &buyer, units::parse("10", USD)?)?;
        let after = wallet::holdings(&self.services.chain, buyer.address())?;
        self.shell.line(format!(
            "buyer {} puts 10 usd into escrow: {}",
            buyer.address(),
            usd_change(before.usd, after.usd)
        ));
        let (sender, events) = std::sync::mpsc::channel();
        self.services
            .start_watcher(self.models.clone(), Some(sender))?;
        self.events = Some(events);
        let offers = local::offers(&self.models);
        let url = self.runtime.block_on(
            self.services
                .start_gateway(([127, 0, 0, 1], 0).into(), offers),
        )?;
        self.shell
            .line(format!("gateway at {url}; a watcher follows the chain"));
        let client = Client::new(&url, API_KEY);
        self.talk = Some(Talk::new(&url, API_KEY));
        let mut receipts = Vec::new();
        let mut facts = Vec::new();
        for (name, png) in DIGIT_SAMPLES {
            let started = Instant::now();
            let reply = client.ask("digits", &Input::Png(png.to_vec()), &Map::new())?;
            let took = started.elapsed();
            self.shell.line(format!(
                "digits, picture {name}: {}   {took:.0?}",
                words(&reply.body)
            ));
            let label = reply
                .body
                .pointer("/classes/0/label")
                .and_then(Value::as_str)
                .unwrap_or_default()
                .to_owned();
            self.check(
                name.starts_with(&label) && !label.is_empty(),
                &format!("the picture of {} is read as {label}", &name[..1]),
            );
            facts.push(json!({ "model": "digits", "input": name, "answer": label, "receipt": reply.receipt, "milliseconds": took.as_millis() as u64 }));
            receipts.push(("digits".to_owned(), client.bundle(&reply.receipt)?));
        }
        if self.models.iter().any(|m| m.manifest.name == EMBEDDER) {
            let started = Instant::now();
            let reply = client.ask(EMBEDDER, &Input::Text(SENTENCE.into()), &Map::new())?;
            let took = started.elapsed();
            self.shell.line(format!("{EMBEDDER}, \"{SENTENCE}\""));
            self.shell
                .line(format!("  {}   {took:.0?}", words(&reply.body)));
            facts.push(json!({ "model": EMBEDDER, "input": SENTENCE, "receipt": reply.receipt, "milliseconds": took.as_millis() as u64 }));
            receipts.push((EMBEDDER.to_owned(), client.bundle(&reply.receipt)?));
        }
        for (model, bundle) in &receipts {
            self.shell
                .line(format!("receipt {} for {model}", bundle.receipt.claim_id()));
        }
        self.client = Some(client);
        self.record("answers", json!(facts));
        Ok(receipts)
    }

    /// What `assay verify` says, and how long the replay took.
    fn verify(&self, bundle: &Bundle) -> anyhow::Result<(Report, Duration)> {
        let id = bundle.receipt.model_id.0;
        let model = self.models.iter().find(|m| m.id() == id).cloned();
        let replay = model.map(replay::with).transpose()?;
        let took = std::cell::Cell::new(Duration::ZERO);
        let timed = |bundle: &Bundle, salt: B256, input: &[u8]| {
            let started = Instant::now();
            let outcome = replay.as_ref().ok_or("the model is not here")?(bundle, salt, input);
            took.set(started.elapsed());
            outcome
        };
        let report = verify_bundle(
            bundle,
            Some(&self.services.chain),
            replay.as_ref().map(|_| &timed as &Replay<'_>),
        )?;
        Ok((report, took.get()))
    }

    fn report(&self, report: &Report) {
        for fact in &report.facts {
            let words = format!("{}: {}", fact.name, fact.words);
            match fact.status {
                Status::Shown => self.shell.check(true, words),
                Status::False => self.shell.check(false, words),
                Status::NotShown => self.shell.line(format!("--  {words}")),
            }
        }
    }

    fn receipts_are_verified(&mut self, receipts: &[(String, Bundle)]) -> anyhow::Result<()> {
        self.step("Verify", "what `assay verify` does: every fact on its own; the replay runs the registered model again and compares bit for bit");
        let ids: Vec<B256> = receipts.iter().map(|(_, b)| b.receipt.claim_id()).collect();
        self.wait("the operator asserts its receipts", |demo| {
            let mut open = 0;
            for id in &ids {
                open += usize::from(demo.claim(*id)?.state == 0);
            }
            Ok(open == 0)
        })?;
        let mut agreed = 0;
        while agreed < ids.len() {
            match self.next_event()? {
                WatcherEvent::Agreed { claim_id } if ids.contains(&claim_id) => agreed += 1,
                WatcherEvent::Unaudited { reason, .. } => {
                    self.shell.why(format!("watcher: {reason}; tries again"))
                }
                other => self.check(
                    false,
                    &format!(
                        "the watcher had nothing to object, but: {}",
                        watcher::words(&other)
                    ),
                ),
            }
        }
        self.check(
            true,
            &format!("the watcher replayed all {agreed} answers and agrees"),
        );
        let mut facts = Vec::new();
        for (i, (model, bundle)) in receipts.iter().enumerate() {
            let (report, took) = self.verify(bundle)?;
            if i == 0 {
                self.report(&report);
                self.shell.line(format!("rests on: {}", report.rests_on));
            }
            self.check(
                !report.is_contradicted()
                    && report
                        .fact("replay")
                        .is_some_and(|f| f.status == Status::Shown),
                &format!(
                    "receipt {} of {} for {model} holds, replayed",
                    i + 1,
                    receipts.len()
                ),
            );
            self.compare(bundle.receipt.claim_id(), took);
            facts.push(serde_json::to_value(&report)?);
        }
        self.record("verification", json!(facts));
        Ok(())
    }

    fn claim(&self, id: B256) -> anyhow::Result<IClaims::Claim> {
        Ok(self
            .services
            .chain
            .call(CLAIMS, &IClaims::claimCall { claimId: id })?)
    }

    fn next_event(&self) -> anyhow::Result<WatcherEvent> {
        let event = self
            .events
            .as_ref()
            .and_then(|e| e.recv_timeout(PATIENCE).ok());
        event.map_or_else(
            || {
                stop(
                    Exit::Failed,
                    format!("the watcher said nothing for {} s", PATIENCE.as_secs()),
                )
            },
            Ok,
        )
    }

    fn wait(
        &self,
        what: &str,
        mut done: impl FnMut(&Self) -> anyhow::Result<bool>,
    ) -> anyhow::Result<()> {
        let started = Instant::now();
        while !done(self)? {
            if started.elapsed() > PATIENCE {
                return stop(
                    Exit::Failed,
                    format!("{what}: not within {} s", PATIENCE.as_secs()),
                );
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        Ok(())
    }

    fn fees_are_settled(&mut self, receipts: &[(String, Bundle)]) -> anyhow::Result<()> {
        self.step("The window passes, fees are split", &format!("nobody objected within {WINDOW} s of chain time (the local clock is moved); the split is exact to the last unit, absent roles are burnt"));
        let lineage = self.lineage("digits")?;
        let before = self.books()?;
        self.services.chain.increase_time(u64::from(WINDOW) + 60)?;
        let ids: Vec<B256> = receipts.iter().map(|(_, b)| b.receipt.claim_id()).collect();
        self.wait("the operator finalises its claims", |demo| {
            let mut left = 0;
            for id in &ids {
                left += usize::from(demo.claim(*id)?.state != FINAL);
            }
            Ok(left == 0)
        })?;
        let after = self.books()?;
        let mut fees = U256::ZERO;
        let mut splits = Vec::new();
        for (id, split) in self.splits()? {
            let claim = self.claim(id)?;
            let parts = [
                split.operator,
                split.maker,
                split.stakers,
                split.data,
                split.verifiers,
                split.treasury,
                split.burn,
            ];
            let sum: U256 = parts.iter().sum();
            fees += U256::from(claim.fee);
            if splits.is_empty() {
                let names = [
                    "operator",
                    "maker",
                    "stakers",
                    "data",
                    "verifiers",
                    "treasury",
                    "burn",
                ];
                let words: Vec<String> = names
                    .iter()
                    .zip(parts)
                    .map(|(n, p)| format!("{n} {}", units::amount(p, USD)))
                    .collect();
                self.shell.line(format!(
                    "a fee of {}: {}",
                    usd(U256::from(claim.fee)),
                    words.join(", ")
                ));
            }
            if sum != U256::from(claim.fee) {
                self.check(
                    false,
                    &format!("the parts of claim {id} are {sum}, its fee {}", claim.fee),
                );
            }
            splits.push(json!({ "claim": id, "fee": claim.fee.to_string(), "parts": parts.map(|p| p.to_string()) }));
        }
        self.check(
            splits.len() == receipts.len(),
            &format!(
                "{} fees, {} together, each split exactly",
                splits.len(),
                usd(fees)
            ),
        );
        let operator = self.services.cast.operator.address();
        self.shell.line(format!(
            "operator: {}",
            usd_change(before.usd(operator), after.usd(operator))
        ));
        let mut earned = Vec::new();
        for key in self.services.cast.stakers.clone() {
            let own = self.services.chain.call(
                POOLS,
                &IPools::stakeCall {
                    lineage,
                    account: key.address(),
                },
            )?;
            let held = self.services.chain.call(
                assay_abi::USD,
                &assay_abi::IUsd::balanceOfCall {
                    owner: key.address(),
                },
            )?;
            self.services
                .chain
                .send(&key, POOLS, &IPools::claimCall { lineage })?;
            let now = self.services.chain.call(
                assay_abi::USD,
                &assay_abi::IUsd::balanceOfCall {
                    owner: key.address(),
                },
            )?;
            self.shell.line(format!(
                "staker {}, {} staked, earned {}: {}",
                key.address(),
                coin(own.assets),
                usd(own.claimable),
                usd_change(held, now)
            ));
            self.check(
                now - held == own.claimable,
                "the staker was paid what it earned",
            );
            earned.push(json!({ "staker": key.address(), "earned": own.claimable.to_string() }));
        }
        self.record("settlement", json!({ "splits": splits, "earned": earned, "operator_before": before.usd(operator).to_string(), "operator_after": after.usd(operator).to_string() }));
        Ok(())
    }

    fn splits(&self) -> anyhow::Result<Vec<(B256, IClaims::FeeSplit)>> {
        let filter = LogFilter::new(CLAIMS, vec![IClaims::FeeSplit::SIGNATURE_HASH]);
        let logs = self
            .services
            .chain
            .logs(&filter, 0, self.services.chain.block_number()?)?;
        Ok(logs
            .iter()
            .filter_map(|log| log.decode::<IClaims::FeeSplit>())
            .map(|split| (split.claimId, split))
            .collect())
    }

    fn supply_adds_up(&mut self) -> anyhow::Result<()> {
        self.step("Supply adds up", "every coin of genesis is on an account, in a module, burnt or was a base fee; invariants were checked at every block");
        let supply = self
            .books()?
            .supply(&self.services.chain, &self.services.cast)?;
        self.shell.line(format!(
            "genesis {} = held {} + base fees {}",
            coin_exact(supply.genesis),
            coin_exact(supply.held),
            coin_exact(supply.fees)
        ));
        self.shell.line(format!(
            "issued {} = held {}",
            usd(supply.usd_issued),
            usd(supply.usd_held)
        ));
        self.check(supply.adds_up(), "to the last unit, in both denominations");
        self.record("supply", supply.json());
        Ok(())
    }

    /// Stops everything and gives the verdict on the story.
    fn end(self, told: anyhow::Result<()>) -> anyhow::Result<()> {
        let Self {
            shell,
            runtime,
            node,
            services,
            steps,
            failures,
            ..
        } = self;
        runtime.block_on(services.stop());
        runtime.block_on(node.shutdown())?;
        told?;
        let seconds = shell.seconds();
        let held = failures.is_empty();
        let text = format!(
            "\nAll of it held. {seconds:.1} s.  Next: `assay up` for a network that stays."
        );
        shell.result(
            if held { text } else { String::new() },
            &json!({ "held": held, "failures": failures, "seconds": seconds, "steps": steps }),
        );
        if held {
            Ok(())
        } else {
            stop(
                Exit::Failed,
                format!(
                    "{} statements did not hold: {}",
                    failures.len(),
                    failures.join("; ")
                ),
            )
        }
    }
}

/// States of a claim, by number (abi, `IClaims.Claim.state`).
const FINAL: u8 = 3;
/// See [`FINAL`].
const REJECTED: u8 = 4;

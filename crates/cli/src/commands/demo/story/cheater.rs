//! The second half of the story: an operator that serves a cheaper model, and what becomes of it.

use std::{sync::Arc, time::Instant};

use alloy_primitives::U256;
use assay_abi::{BURN, IBurn};
use assay_engine::EngineOptions;
use assay_import::DIGIT_SAMPLES;
use assay_operator::{Fault, FaultyModel, ModelRunner};
use assay_watcher::WatcherEvent;
use serde_json::{Map, json};

use super::{Demo, REJECTED, coin_change, usd_change};
use crate::{
    client::{Input, words},
    commands::{demo::cheat::four_bits, wallet, watcher},
    exit::{Exit, stop},
    units::{self, COIN, coin},
};

impl Demo<'_> {
    pub(super) fn cheater_joins(&mut self) -> anyhow::Result<()> {
        self.step("A second operator serves the same model with weights rounded to 4 bits", "cheaper to run, and on most inputs nobody would notice; the first operator is off-line now");
        let (operator, receipts) = (self.key(|c| &c.cheater), self.key(|c| &c.cheater_receipts));
        let Some(digits) = self.models.first().cloned() else {
            return stop(Exit::Failed, "no model");
        };
        let cheaper = four_bits(&digits.graph)?;
        self.shell
            .line(format!("registered 0x{}", digits.manifest.model_id));
        self.shell.line(format!(
            "served     0x{}",
            alloy_primitives::hex::encode(cheaper.model_id())
        ));
        let faulty = FaultyModel::new(
            &digits.graph,
            Fault::OtherGraph(Arc::new(cheaper)),
            EngineOptions::default(),
        )?;
        let runners: Vec<Box<dyn ModelRunner>> = vec![Box::new(faulty)];
        self.runtime.block_on(self.services.stop_first_operator());
        let bond = units::parse("5000", COIN)?;
        let url = self.runtime.block_on(self.services.add_operator(
            "second-operator",
            &operator,
            &receipts,
            runners,
            bond,
        ))?;
        self.shell.line(format!(
            "operator {} at {url}, bonded {}",
            operator.address(),
            coin(self.operator(operator.address())?.bonded)
        ));
        self.record(
            "cheater",
            json!({ "operator": operator.address(), "bonded": bond.to_string() }),
        );
        Ok(())
    }

    pub(super) fn cheater_is_caught(&mut self) -> anyhow::Result<()> {
        let cast = self.services.cast.clone();
        let (cheater, buyer, watcher_account) = (
            cast.cheater.address(),
            cast.buyer.address(),
            cast.watcher.address(),
        );
        let bonded = self.operator(cheater)?.bonded;
        let before = self.books()?;
        let escrow = wallet::holdings(&self.services.chain, buyer)?.escrow;
        let burnt = self.services.chain.call(BURN, &IBurn::burnedCall {})?;
        let Some(client) = self.client.take() else {
            return stop(Exit::Failed, "no gateway");
        };
        let reply = client.ask(
            "digits",
            &Input::Png(DIGIT_SAMPLES[3].1.to_vec()),
            &Map::new(),
        )?;
        self.shell.line(format!(
            "the buyer asks again, picture {}: {}",
            DIGIT_SAMPLES[3].0,
            words(&reply.body)
        ));
        let bundle = client.bundle(&reply.receipt)?;
        self.client = Some(client);
        let id = bundle.receipt.claim_id();
        self.shell.line(format!(
            "receipt {id}, exposure {}",
            coin(U256::from(bundle.receipt.exposure))
        ));

        self.step("The watcher replays, disputes, and the chain decides", "the first wrong leaf of the trace is found, its definition is evaluated by the chain on opened inputs and weights; no vote, no tolerance");
        let started = Instant::now();
        let mut moves = Vec::new();
        loop {
            let event = self.next_event()?;
            self.shell.line(watcher::words(&event));
            match event {
                WatcherEvent::Moved { call, .. } => moves.push(call),
                WatcherEvent::Closed {
                    claim_id, rejected, ..
                } if claim_id == id => {
                    self.check(rejected, "the claim was rejected");
                    break;
                }
                _ => {}
            }
        }
        let took = started.elapsed();
        self.wait("the claim is rejected", |demo| {
            Ok(demo.claim(id)?.state == REJECTED)
        })?;
        let after = self.books()?;
        let left = self.operator(cheater)?.bonded;
        let escrow_after = wallet::holdings(&self.services.chain, buyer)?.escrow;
        let burnt_after = self.services.chain.call(BURN, &IBurn::burnedCall {})?;
        self.shell.line(format!(
            "second operator, bond:  {}",
            coin_change(bonded, left)
        ));
        self.shell.line(format!(
            "buyer, escrow:          {} (the fee is back)",
            usd_change(escrow, escrow_after)
        ));
        self.shell.line(format!(
            "buyer, compensation:    {}",
            coin_change(before.coin(buyer), after.coin(buyer))
        ));
        self.shell.line(format!(
            "watcher, bounty:        {} (gas taken off)",
            coin_change(before.coin(watcher_account), after.coin(watcher_account))
        ));
        self.shell.line(format!(
            "burnt:                  {}",
            coin_change(burnt, burnt_after)
        ));
        self.check(left < bonded, "the cheater was slashed");
        self.check(
            escrow_after == escrow,
            "the buyer was refunded to the last unit",
        );
        self.check(
            after.coin(buyer) > before.coin(buyer),
            "the buyer was compensated",
        );
        self.check(
            after.coin(watcher_account) > before.coin(watcher_account),
            "the watcher was paid",
        );
        let lost = bonded.saturating_sub(left);
        self.check(
            burnt_after - burnt >= lost / U256::from(2),
            "at least half of the slash was burnt",
        );
        let (report, _) = self.verify(&bundle)?;
        self.report(&report);
        self.check(
            report.is_contradicted(),
            "`assay verify` finds the receipt false (exit code 3)",
        );
        self.record("caught", json!({
            "claim": id, "moves": moves, "seconds": took.as_secs_f64(), "bond_before": bonded.to_string(), "bond_after": left.to_string(),
            "escrow_before": escrow.to_string(), "escrow_after": escrow_after.to_string(),
            "buyer_before": before.coin(buyer).to_string(), "buyer_after": after.coin(buyer).to_string(),
            "watcher_before": before.coin(watcher_account).to_string(), "watcher_after": after.coin(watcher_account).to_string(),
            "burnt": (burnt_after - burnt).to_string(), "report": serde_json::to_value(&report)?,
        }));
        Ok(())
    }
}

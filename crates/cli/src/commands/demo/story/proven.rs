//! The part of the story in which an answer is proven, and a forged proof refused.

use std::time::{Duration, Instant};

use alloy_primitives::B256;
use assay_abi::{CLAIMS, IClaims, IModels, MODELS};
use assay_import::DIGIT_SAMPLES;
use assay_proof::Proof;
use assay_receipt::{ProofFile, Status};
use serde_json::{Map, Value, json};

use super::{Demo, FINAL};
use crate::{
    args::VerifyArgs,
    client::{Input, words},
    commands::verify,
    exit::{Exit, stop},
    keys::{self, KeySet},
    proofs,
    store::Store,
    usage,
};

impl Demo<'_> {
    /// Sets the proof key of the digits, so that the operator attests it as soon as it is bonded.
    pub(super) fn key_is_set(&mut self) -> anyhow::Result<()> {
        let Some(digits) = self.models.first().cloned() else {
            return stop(Exit::Failed, "no model");
        };
        let started = Instant::now();
        let key = proofs::key_of(&Store::open_default()?, &digits)?;
        let maker = self.key(|c| &c.maker);
        let set = keys::publish(&self.services.chain, &maker, &key, self.shell)?;
        let id = B256::from(key.id());
        self.shell.line(format!(
            "proof key of digits {id}: a commitment to its weights, {} on chain, made and set in {:.0?}",
            usage::size(key.encode().len() as u64),
            started.elapsed()
        ));
        self.check(
            set == KeySet::New(id),
            "the chain has the model's proof key",
        );
        Ok(())
    }

    /// An answer of tier zk, from the question to the claim that is final at once.
    pub(super) fn answer_is_proven(&mut self) -> anyhow::Result<()> {
        self.step("An answer is proven", "tier zk: the operator proves that the registered integers give this answer; the chain checks the proof, and nobody has to wait, watch or trust");
        let Some(model_id) = self.models.first().map(|m| B256::from(m.id())) else {
            return stop(Exit::Failed, "no model");
        };
        self.wait("the operator attests the proof key", |demo| {
            let call = IModels::proofKeyCall { modelId: model_id };
            Ok(demo.services.chain.call(MODELS, &call)?.usable)
        })?;
        self.check(
            true,
            "the operator made the key again from the weights and attested it",
        );
        let (name, png) = DIGIT_SAMPLES[0];
        let begin = Instant::now();
        let reply = self.proven_reply(png)?;
        let answered = begin.elapsed();
        let id: B256 = reply.receipt.parse()?;
        self.shell.line(format!(
            "digits, picture {name}, tier zk: {}   {answered:.0?}",
            words(&reply.body)
        ));
        self.wait("the claim is final by its proof", |demo| {
            Ok(demo.claim(id)?.state == FINAL)
        })?;
        let settled = begin.elapsed();
        let claim = self.claim(id)?;
        let now = self.services.chain.chain_millis()?;
        let proven = self
            .services
            .chain
            .call(CLAIMS, &IClaims::isProvenCall { claimId: id })?;
        self.check(
            proven && claim.deadline > now,
            &format!("the chain has checked the proof: the claim is final {settled:.1?} after the question, its window of {} s still open", (claim.deadline.saturating_sub(now)) / 1000),
        );
        let Some(client) = &self.client else {
            return stop(Exit::Failed, "no gateway");
        };
        let Ok(bytes) = client.proof(&reply.receipt)? else {
            return stop(
                Exit::Failed,
                "the operator has no proof of a claim that is final by it",
            );
        };
        let facts = self.verify_proof_file(&bytes)?;
        let file = ProofFile::decode(&bytes)?;
        self.check_forgery(&file)?;
        self.record("proof", json!({ "receipt": id, "answer": reply.body, "answered_ms": answered.as_millis() as u64, "final_ms": settled.as_millis() as u64, "proof_bytes": file.proof.len(), "key_bytes": file.key.len(), "facts": facts }));
        Ok(())
    }

    /// The first call may come before the operator has seen that its attestation was the last one needed.
    fn proven_reply(&self, png: &[u8]) -> anyhow::Result<crate::client::Reply> {
        let Some(client) = &self.client else {
            return stop(Exit::Failed, "no gateway");
        };
        let begin = Instant::now();
        let settings = Map::from_iter([("tier".to_owned(), "zk".into())]);
        loop {
            match client.ask("digits", &Input::Png(png.to_vec()), &settings) {
                Err(_) if begin.elapsed() < Duration::from_secs(10) => {
                    std::thread::sleep(Duration::from_millis(100));
                }
                reply => return reply,
            }
        }
    }

    /// What `assay verify` says about the proof file.
    fn verify_proof_file(&mut self, bytes: &[u8]) -> anyhow::Result<Value> {
        let path = self.services.dir.join("answer.proof");
        std::fs::write(&path, bytes)?;
        let args = VerifyArgs {
            receipt: path.display().to_string(),
            rpc: Some(self.services.chain.url().to_owned()),
            model: None,
            no_replay: false,
            input: None,
        };
        self.shell.line("assay verify answer.proof");
        let started = Instant::now();
        let facts = verify::proof::facts("answer.proof", bytes, &args)?;
        let took = started.elapsed();
        for fact in &facts {
            self.check(
                fact.status == Status::Shown,
                &format!("{}: {}", fact.name, fact.words),
            );
        }
        self.shell.line(format!(
            "{} checked in {took:.0?}, without running the model",
            usage::size(bytes.len() as u64)
        ));
        Ok(serde_json::to_value(&facts)?)
    }

    /// The same proof for another answer.
    fn check_forgery(&mut self, file: &ProofFile) -> anyhow::Result<()> {
        let mut proof = Proof::decode(&file.proof)?;
        let first = proof.statement.runs.first_mut();
        if let Some(byte) = first.and_then(|run| run.output.first_mut()) {
            *byte = byte.wrapping_add(1);
        }
        let call = IModels::verifyProofCall {
            proof: proof.encode().into(),
        };
        let found = self.services.chain.call(MODELS, &call)?;
        let honest = IModels::verifyProofCall {
            proof: file.proof.clone().into(),
        };
        let right = self.services.chain.call(MODELS, &honest)?;
        self.check(
            right.ok && !found.ok,
            &format!(
                "a forged proof, for an answer that differs by 1 in one number, is refused by the chain: {}",
                found.reason
            ),
        );
        Ok(())
    }
}

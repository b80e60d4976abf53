//! `assay verify` on a proof file: whether the proof holds, what it says, and whose key it was checked under.

use std::{path::Path, sync::Arc};

use alloy_primitives::B256;
use assay_abi::{CLAIM_CONTEXT, IModels, MODELS};
use assay_gateway::ImportedModel;
use assay_import::Model;
use assay_proof::{Budget, Key, Mode, Proof, VerifyError, verify, verify_direct};
use assay_receipt::{Fact, ProofFile, Status, Tier};
use assay_wallet::ChainClient;
use serde_json::{Value, json};

use crate::{
    args::VerifyArgs,
    exit::{Exit, Stop, stop},
    proofs::{self, Said},
    shell::Shell,
    speech,
    store::Store,
};

/// Runs that are shown one by one.
const SHOWN: usize = 8;

/// Facts about a proof file, for the demonstration.
///
/// # Errors
/// As [`run`].
pub(crate) fn facts(name: &str, bytes: &[u8], args: &VerifyArgs) -> anyhow::Result<Vec<Fact>> {
    Ok(Checked::new(name, bytes, args)?.facts)
}

/// Checks the bytes of a proof file.
///
/// # Errors
/// [`Exit::Failed`] for bytes that are no proof file, [`Exit::False`] when something contradicts it, [`Exit::NotFound`] for a proof that can't be checked
/// without a model that is not here.
pub(crate) fn run(
    name: &str,
    bytes: &[u8],
    args: &VerifyArgs,
    shell: &Shell,
) -> anyhow::Result<()> {
    let checked = Checked::new(name, bytes, args)?;
    shell.result(checked.words(), &checked.json());
    if checked.facts.iter().any(|f| f.status == Status::False) {
        return stop(
            Exit::False,
            "the proof shows nothing: at least one fact contradicts it",
        );
    }
    if checked
        .fact("proof")
        .is_none_or(|f| f.status != Status::Shown)
    {
        return Err(Stop::new(Exit::NotFound, "the proof could not be checked")
            .hint("it was made for verifiers that hold the weights: `--model DIR` names the model's folder")
            .into());
    }
    Ok(())
}

/// Everything found out about a proof file.
pub(crate) struct Checked {
    proof: Proof,
    sizes: (usize, usize),
    budget: Option<Budget>,
    said: Vec<Said>,
    name: Option<String>,
    facts: Vec<Fact>,
}

impl Checked {
    fn new(name: &str, bytes: &[u8], args: &VerifyArgs) -> anyhow::Result<Self> {
        let unread = |e: &dyn std::fmt::Display| {
            Stop::new(Exit::Failed, format!("`{name}` is no proof file: {e}"))
        };
        let file = ProofFile::decode(bytes).map_err(|e| unread(&e))?;
        let proof = Proof::decode(&file.proof).map_err(|e| unread(&e))?;
        let key = match file.key.as_slice() {
            [] => None,
            bytes => Some(Key::decode(bytes).map_err(|e| unread(&e))?),
        };
        let store = Store::open_default()?;
        let model = model(&store, &proof, args.model.as_deref())?;
        let codec = model.clone().map(ImportedModel::new);
        let held = holds(key.as_ref(), model.as_ref(), &proof);
        let runs = proof.statement.runs.iter();
        let said: Vec<Said> = runs.map(|run| proofs::said(codec.as_ref(), run)).collect();
        let mut facts = vec![proof_fact(&held)];
        let budget = held.and_then(Result::ok);
        let name = model.as_ref().map(|m| m.manifest.name.clone());
        facts.push(statement_fact(&proof, name.as_deref(), budget.is_some()));
        if let Some(typed) = &args.input {
            facts.push(input_fact(&proof, codec.as_ref(), typed)?);
        }
        facts.push(context_fact(&proof));
        facts.push(key_fact(
            &store,
            key.as_ref(),
            model.as_ref(),
            args.no_replay,
        ));
        facts.push(registered_fact(key.as_ref(), args.rpc.as_deref()));
        Ok(Self {
            sizes: (file.key.len(), file.proof.len()),
            proof,
            budget,
            said,
            name,
            facts,
        })
    }

    fn fact(&self, name: &str) -> Option<&Fact> {
        self.facts.iter().find(|f| f.name == name)
    }

    fn words(&self) -> String {
        let statement = &self.proof.statement;
        let mut text = format!(
            "proof of {} bytes that {} {} gives {}\n",
            self.sizes.1,
            self.name.as_deref().unwrap_or("model"),
            proofs::hash_words(statement.model_id),
            match statement.runs.len() {
                1 => "this answer".to_owned(),
                n => format!("these {n} answers"),
            }
        );
        for (i, said) in self.said.iter().take(SHOWN).enumerate() {
            let number = if self.said.len() == 1 {
                String::new()
            } else {
                format!(" {}", i + 1)
            };
            text.push_str(&format!(
                "  {:<15} {}\n  {:<15} {}\n",
                format!("input{number}"),
                said.input_words,
                format!("output{number}"),
                said.output_words
            ));
        }
        if self.said.len() > SHOWN {
            text.push_str(&format!(
                "  and {} more (--json)\n",
                self.said.len() - SHOWN
            ));
        }
        for fact in &self.facts {
            let status = fact.status.to_string();
            text.push_str(&format!(
                "  {:<15} {status:<10} {}\n",
                fact.name, fact.words
            ));
        }
        text.push_str(&format!("rests on: {}", Tier::Zk.statement()));
        let missing: Vec<&str> = self
            .facts
            .iter()
            .filter(|f| f.status == Status::NotShown)
            .map(|f| f.name)
            .collect();
        if !missing.is_empty() {
            text.push_str(&format!("\nnot checked: {}", missing.join(", ")));
        }
        text
    }

    fn json(&self) -> Value {
        let statement = &self.proof.statement;
        let bits = |tenths: u32| f64::from(tenths) / 10.0;
        let terms = self.budget.as_ref().map(|b| {
            let terms = b.terms();
            terms
                .map(|(label, tenths)| json!({ "term": label, "bits": bits(tenths) }))
                .collect::<Vec<_>>()
        });
        json!({
            "model_id": proofs::hash_words(statement.model_id),
            "model": self.name,
            "key_id": proofs::hash_words(statement.key_id),
            "mode": match statement.mode {
                Mode::Committed => "committed",
                Mode::Direct => "direct",
                Mode::Hiding => "hiding",
            },
            "positions": statement.seq,
            "runs": self.said.iter().map(Said::json).collect::<Vec<_>>(),
            "context": format!("0x{}", hex::encode(&statement.context)),
            "proof_bytes": self.sizes.1,
            "key_bytes": self.sizes.0,
            "bits": self.budget.as_ref().map(|b| bits(b.tenths())),
            "terms": terms,
            "facts": self.facts,
            "rests_on": Tier::Zk.statement(),
        })
    }
}

/// The model of the statement, if it is on this machine; the named one in any case.
fn model(store: &Store, proof: &Proof, folder: Option<&Path>) -> anyhow::Result<Option<Model>> {
    match folder {
        Some(folder) => Ok(Some(Model::load(folder)?)),
        None => Ok(store.load(&hex::encode(proof.statement.model_id)).ok()),
    }
}

/// `None` when what it takes is not here.
fn holds(
    key: Option<&Key>,
    model: Option<&Model>,
    proof: &Proof,
) -> Option<Result<Budget, VerifyError>> {
    let verified = match (proof.statement.mode, key, model) {
        (Mode::Committed | Mode::Hiding, Some(key), _) => verify(key, proof),
        (Mode::Direct, None, Some(model)) => verify_direct(&Arc::clone(&model.graph), proof),
        (Mode::Direct, None, None) => return None,
        // a key that is not needed, or one that is missing
        (Mode::Committed | Mode::Hiding, None, _) | (Mode::Direct, Some(_), _) => {
            Err(VerifyError::KeyMismatch)
        }
    };
    Some(verified.map(|v| v.budget))
}

fn proof_fact(held: &Option<Result<Budget, VerifyError>>) -> Fact {
    const NAME: &str = "proof";
    match held {
        Some(Ok(budget)) => Fact::shown(NAME, format!("it holds, {budget}")),
        Some(Err(error)) => Fact::contradicted(NAME, error.to_string()),
        None => Fact::not_shown(
            NAME,
            "it is for verifiers that hold the weights, and the model is not here",
        ),
    }
}

fn statement_fact(proof: &Proof, name: Option<&str>, holds: bool) -> Fact {
    const NAME: &str = "statement";
    let statement = &proof.statement;
    let words = format!(
        "{} of model {}{}: the outputs are those of the registered integers{}, bit for bit",
        match statement.runs.len() {
            1 => "a run".to_owned(),
            n => format!("{n} runs"),
        },
        proofs::hash_words(statement.model_id),
        name.map_or_else(String::new, |n| format!(" ({n})")),
        match statement.mode {
            Mode::Hiding => " on some legal input, which the proof hides",
            Mode::Committed | Mode::Direct => "",
        },
    );
    if holds {
        Fact::shown(NAME, words)
    } else {
        Fact::not_shown(NAME, "what it says rests on a proof that holds")
    }
}

/// Whether the proven input is the one that was named.
fn input_fact(proof: &Proof, codec: Option<&ImportedModel>, typed: &str) -> anyhow::Result<Fact> {
    const NAME: &str = "input";
    if proof.statement.mode == Mode::Hiding {
        return Ok(Fact::not_shown(NAME, "the proof hides its inputs"));
    }
    let Some(codec) = codec else {
        return Ok(Fact::not_shown(NAME, "reading it needs the model"));
    };
    let at = if codec.model().language().is_some() {
        // as a message, or as it is
        let text = proofs::typed_text(typed)?;
        let mut prompts = vec![speech::prompt(codec.model(), &text, false)?];
        prompts.extend(speech::prompt(codec.model(), &text, true).ok());
        let asked = |run| speech::tokens(run).is_some_and(|(ids, _)| prompts.contains(&ids));
        proof.statement.runs.iter().position(asked)
    } else {
        let bytes = proofs::input_bytes(codec, typed)?;
        proof.statement.runs.iter().position(|r| r.input == bytes)
    };
    Ok(match at {
        Some(i) => Fact::shown(NAME, format!("`{typed}` is the input of run {}", i + 1)),
        None => Fact::contradicted(NAME, format!("`{typed}` is the input of no run")),
    })
}

fn context_fact(proof: &Proof) -> Fact {
    const NAME: &str = "context";
    match proof.statement.context.as_slice() {
        [] => Fact::not_shown(NAME, "the proof is bound to no receipt"),
        bytes => Fact::shown(NAME, context_words(bytes)),
    }
}

/// Chain and receipt of a proof that answers a claim; else the bytes.
fn context_words(bytes: &[u8]) -> String {
    let claim = bytes
        .strip_prefix(CLAIM_CONTEXT)
        .and_then(|rest| rest.split_first_chunk::<8>())
        .filter(|(_, body)| body.len() == 32);
    match claim {
        Some((chain, body)) => format!(
            "bound to the receipt with body {} on chain {}",
            B256::from_slice(body),
            u64::from_be_bytes(*chain)
        ),
        None => format!("bound to {} bytes: 0x{}", bytes.len(), hex::encode(bytes)),
    }
}

/// Whether the key belongs to the model, by making it again.
fn key_fact(store: &Store, key: Option<&Key>, model: Option<&Model>, skip: bool) -> Fact {
    const NAME: &str = "key";
    let Some(key) = key else {
        return Fact::shown(NAME, "none is needed: the weights themselves were used");
    };
    let id = proofs::hash_words(key.id());
    let Some(model) = model else {
        let id = proofs::hash_words(key.model_id());
        return Fact::not_shown(NAME, format!("model {id} is not on this machine"));
    };
    if model.id() != key.model_id() {
        return Fact::contradicted(
            NAME,
            format!(
                "`{}` is another model than the one of the proof",
                model.manifest.name
            ),
        );
    }
    if skip {
        return Fact::not_shown(NAME, "it was not made again");
    }
    match proofs::key_of(store, model) {
        Ok(own) if own == *key => Fact::shown(
            NAME,
            format!("{id}: equal to the one made again from the model on this machine"),
        ),
        Ok(own) => Fact::contradicted(
            NAME,
            format!(
                "{id} is NOT the key of the model on this machine, which is {}",
                proofs::hash_words(own.id())
            ),
        ),
        Err(error) => Fact::not_shown(NAME, format!("it can't be made again: {error}")),
    }
}

/// Whether the chain has the key the proof was checked under.
fn registered_fact(key: Option<&Key>, rpc: Option<&str>) -> Fact {
    const NAME: &str = "registered";
    let (Some(key), Some(rpc)) = (key, rpc) else {
        return Fact::not_shown(
            NAME,
            "whether the key is registered needs the chain (--rpc)",
        );
    };
    let call = IModels::proofKeyCall {
        modelId: key.model_id().into(),
    };
    let known = match ChainClient::new(rpc).call(MODELS, &call) {
        Ok(known) => known,
        Err(error) => {
            return Fact::not_shown(NAME, format!("the chain did not answer: {error}"));
        }
    };
    let attested = format!(
        "attested by {} of {} operators{}",
        known.attesters,
        known.needed,
        if known.usable { "" } else { ", not usable yet" }
    );
    match known.keyId {
        id if id.0 == key.id() => Fact::shown(NAME, format!("the chain has this key, {attested}")),
        B256::ZERO => Fact::not_shown(NAME, "no key of this model is on the chain"),
        id => Fact::contradicted(
            NAME,
            format!("the chain has another key of this model: {id}, {attested}"),
        ),
    }
}

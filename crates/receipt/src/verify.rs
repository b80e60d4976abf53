//! Verification of a bundle: every fact on its own, with what it rests on.

use std::error::Error;

use alloy_primitives::{Address, B256};

use crate::facts::{Fact, Report};
use crate::{
    Bundle, ReceiptError, Tier, input_commit, opens_input, opens_output, recover, sampled,
};

/// Why the chain or a replay gave no answer.
pub type ViewError = Box<dyn Error + Send + Sync>;

/// What the chain says about a receipt key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChainKey {
    /// Registered for the operator and valid when the receipt was issued.
    Registered,
    /// Not a receipt key of this operator at that time.
    NotRegistered,
}

/// What the chain says about a claim.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChainClaim {
    /// State in lower case: `unknown`, `asserted`, `challenged`, `final`, `rejected`.
    pub state: String,
    /// End of the challenge window, chain seconds; `None` if there is no such claim.
    pub deadline: Option<u64>,
    /// Where this comes from, for people: for example `eth_call at block 12`.
    pub source: String,
}

/// The chain as a verification sees it. Called at most once for each fact.
pub trait ChainView {
    /// Whether `key` was a receipt key of `operator` at chain second `at`.
    ///
    /// # Errors
    /// Whatever kept the chain from answering; the fact is then `not shown`.
    fn receipt_key(&self, operator: Address, key: Address, at: u64) -> Result<ChainKey, ViewError>;

    /// State of the claim `claim_id`.
    ///
    /// # Errors
    /// Whatever kept the chain from answering; the fact is then `not shown`.
    fn claim(&self, claim_id: B256) -> Result<ChainClaim, ViewError>;
}

/// What running the model again gave.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReplayOutcome {
    /// Identity of the graph that ran.
    pub model_id: B256,
    /// Canonical output bytes.
    pub output: Vec<u8>,
    /// Root of the committed trace.
    pub trace_root: B256,
    /// Leaves of the committed trace.
    pub n_leaves: u64,
    /// Root over the token masks that the bundle's grammar gives; zero for answers that are not constrained.
    pub mask_root: B256,
}

/// Runs the model of a bundle again: `(input commitment, output commitment as the run must compute it, …)` is the
/// callee's business; it gets the bundle and the salt.
pub type Replay<'a> = dyn Fn(&Bundle, B256, &[u8]) -> Result<ReplayOutcome, ViewError> + 'a;

/// Checks everything that the bundle, the chain (if any) and the model (if any) allow to check.
///
/// # Errors
/// An error of [`crate::Receipt::check`] when the receipt is not well formed: then there is nothing to report on.
pub fn verify_bundle(
    bundle: &Bundle,
    chain: Option<&dyn ChainView>,
    replay: Option<&Replay<'_>>,
) -> Result<Report, ReceiptError> {
    bundle.receipt.check()?;
    let tier = bundle.receipt.tier()?;
    let claim_id = bundle.receipt.claim_id();
    let signer = recover(bundle.receipt.digest(&bundle.domain()), &bundle.signature);
    let claim = chain.map(|chain| chain.claim(claim_id));
    let mut facts = vec![
        signature_fact(bundle, &signer),
        key_fact(bundle, &signer, chain),
        request_fact(bundle),
        input_fact(bundle),
        output_fact(bundle),
        claim_fact(tier, &claim),
        evidence_fact(bundle, tier, &claim),
        replay_fact(bundle, replay),
    ];
    facts.extend(sampled::facts(bundle));
    Ok(Report::new(claim_id, tier, facts))
}

fn signature_fact(bundle: &Bundle, signer: &Result<Address, ReceiptError>) -> Fact {
    match signer {
        Ok(key) => Fact::shown(
            "signature",
            format!(
                "key {key} signed this receipt for chain {} and claims module {}",
                bundle.chain_id, bundle.claims
            ),
        ),
        Err(error) => Fact::contradicted("signature", error.to_string()),
    }
}

fn key_fact(
    bundle: &Bundle,
    signer: &Result<Address, ReceiptError>,
    chain: Option<&dyn ChainView>,
) -> Fact {
    const NAME: &str = "registered_key";
    let operator = bundle.receipt.operator;
    let (Ok(key), Some(chain)) = (signer, chain) else {
        return Fact::not_shown(
            NAME,
            format!("whether the key belongs to operator {operator} needs the chain"),
        );
    };
    match chain.receipt_key(operator, *key, bundle.receipt.issued_at) {
        Ok(ChainKey::Registered) => Fact::shown(
            NAME,
            format!("operator {operator} had registered key {key} when the receipt was issued"),
        ),
        Ok(ChainKey::NotRegistered) => Fact::contradicted(
            NAME,
            format!("operator {operator} had not registered key {key} when the receipt was issued"),
        ),
        Err(error) => Fact::not_shown(NAME, format!("the chain did not answer: {error}")),
    }
}

fn request_fact(bundle: &Bundle) -> Fact {
    const NAME: &str = "request";
    let Some(request) = &bundle.request else {
        return Fact::not_shown(NAME, "the request is not in the bundle");
    };
    if let Err(error) = bundle.receipt.check_answers(request) {
        return Fact::contradicted(NAME, error.to_string());
    }
    let Some(signature) = &bundle.request_signature else {
        return Fact::not_shown(
            NAME,
            "the receipt answers the request, whose signature is not in the bundle",
        );
    };
    match request.signer(&bundle.domain(), signature) {
        Ok(signer) if signer == bundle.receipt.requester => Fact::shown(
            NAME,
            format!(
                "the receipt answers the request that {signer} signed; fee {} of at most {} usd units",
                bundle.receipt.fee, request.max_fee
            ),
        ),
        Ok(signer) => Fact::contradicted(
            NAME,
            format!(
                "the request is signed by {signer}, the receipt names requester {}",
                bundle.receipt.requester
            ),
        ),
        Err(error) => Fact::contradicted(NAME, format!("request: {error}")),
    }
}

fn input_fact(bundle: &Bundle) -> Fact {
    const NAME: &str = "input";
    let (Some(salt), Some(input)) = (bundle.salt, &bundle.input) else {
        return Fact::not_shown(NAME, "input and salt are not in the bundle");
    };
    if opens_input(bundle.receipt.input_commit, salt.0, input) {
        return Fact::shown(
            NAME,
            format!("{} input bytes open the commitment", input.len()),
        );
    }
    Fact::contradicted(
        NAME,
        format!("{} input bytes do not open the commitment", input.len()),
    )
}

fn output_fact(bundle: &Bundle) -> Fact {
    const NAME: &str = "output";
    let (Some(salt), Some(output)) = (bundle.salt, &bundle.output) else {
        return Fact::not_shown(NAME, "output and salt are not in the bundle");
    };
    if opens_output(bundle.receipt.output_commit, salt.0, output) {
        return Fact::shown(
            NAME,
            format!("{} output bytes open the commitment", output.len()),
        );
    }
    Fact::contradicted(
        NAME,
        format!("{} output bytes do not open the commitment", output.len()),
    )
}

/// What the chain said about the claim, if it was asked.
type Claimed = Option<Result<ChainClaim, ViewError>>;

fn claim_fact(tier: Tier, claim: &Claimed) -> Fact {
    const NAME: &str = "claim_state";
    let claim = match claim {
        None => return Fact::not_shown(NAME, "the state of the claim needs the chain"),
        Some(Ok(claim)) => claim,
        Some(Err(error)) => {
            return Fact::not_shown(NAME, format!("the chain did not answer: {error}"));
        }
    };
    let source = &claim.source;
    match claim.state.as_str() {
        "unknown" => Fact::not_shown(NAME, format!("the chain has no such claim yet ({source})")),
        "rejected" => Fact::contradicted(
            NAME,
            format!("the claim was rejected: the answer is not to be relied on ({source})"),
        ),
        "final" if tier == Tier::Zk => Fact::shown(
            NAME,
            format!("final: the chain has checked a proof of the answer ({source})"),
        ),
        "final" => Fact::shown(
            NAME,
            format!("final: the window ended undisputed or every dispute was won ({source})"),
        ),
        state => Fact::shown(
            NAME,
            match claim.deadline {
                Some(deadline) if tier == Tier::Zk => {
                    format!("{state}, to be proven before chain second {deadline} ({source})")
                }
                Some(deadline) => {
                    format!("{state}, open to challenge until chain second {deadline} ({source})")
                }
                None => format!("{state} ({source})"),
            },
        ),
    }
}

fn evidence_fact(bundle: &Bundle, tier: Tier, claim: &Claimed) -> Fact {
    const NAME: &str = "evidence";
    match tier {
        Tier::Signed => Fact::shown(
            NAME,
            "this tier has no evidence beyond the signature and the bond",
        ),
        Tier::Optimistic => Fact::shown(
            NAME,
            format!(
                "the receipt commits to a trace of {} leaves, root {}: anyone can challenge it in the window",
                bundle.receipt.n_leaves, bundle.receipt.trace_root
            ),
        ),
        Tier::Zk => match claim {
            Some(Ok(claim)) if claim.state == "final" => Fact::shown(
                NAME,
                "a proof under the key whose hash the receipt names was accepted by the chain",
            ),
            _ => Fact::not_shown(
                NAME,
                format!(
                    "a proof is owed under the key with hash {}; the chain has not accepted one as far as is known here",
                    bundle.receipt.evidence_hash
                ),
            ),
        },
        other => Fact::not_shown(
            NAME,
            format!("evidence of tier {other} is not checked by this version"),
        ),
    }
}

fn replay_fact(bundle: &Bundle, replay: Option<&Replay<'_>>) -> Fact {
    const NAME: &str = "replay";
    let receipt = &bundle.receipt;
    let Some(replay) = replay else {
        return Fact::not_shown(NAME, format!("model {} is not at hand", receipt.model_id));
    };
    let (Some(salt), Some(input)) = (bundle.salt, &bundle.input) else {
        return Fact::not_shown(NAME, "input and salt are not in the bundle");
    };
    if input_commit(salt.0, input) != receipt.input_commit {
        return Fact::not_shown(NAME, "the input does not open the commitment");
    }
    let outcome = match replay(bundle, salt.0, input) {
        Ok(outcome) => outcome,
        Err(error) => return Fact::not_shown(NAME, format!("the model did not run: {error}")),
    };
    if outcome.model_id != receipt.model_id {
        return Fact::not_shown(
            NAME,
            format!(
                "model {} ran, the receipt names {}",
                outcome.model_id, receipt.model_id
            ),
        );
    }
    if !opens_output(receipt.output_commit, salt.0, &outcome.output) {
        return Fact::contradicted(NAME, "running the model again gives another output");
    }
    if receipt.sampling_hash != B256::ZERO && outcome.mask_root != receipt.ext_hash {
        return Fact::contradicted(
            NAME,
            "running the model again gives the same output, but the grammar allows other tokens",
        );
    }
    if receipt.trace_root == B256::ZERO {
        return Fact::shown(
            NAME,
            "running the model again gives the same output; the receipt commits to no trace",
        );
    }
    if (outcome.trace_root, outcome.n_leaves) != (receipt.trace_root, receipt.n_leaves) {
        return Fact::contradicted(
            NAME,
            format!(
                "running the model again gives the same output but another trace: root {} with {} leaves, the receipt has {} with {}",
                outcome.trace_root, outcome.n_leaves, receipt.trace_root, receipt.n_leaves
            ),
        );
    }
    Fact::shown(
        NAME,
        "running the model again gives the same output and the same trace, bit for bit",
    )
}

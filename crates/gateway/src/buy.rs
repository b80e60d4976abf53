//! One answer: sign a request, ask an operator, check the receipt, keep the bundle. The next operator if one fails.

use std::collections::HashMap;

use alloy_primitives::{Address, B256};
use assay_abi::{CLAIMS, IClaims, IModels, IStaking, MODELS, STAKING};
use assay_operator::{ApiError, RunRequest, RunResponse};
use assay_receipt::{
    Bundle, Receipt, ReceiptSignature, Request, Salt, Tier, input_commit, line_id, opens_output,
    recover,
};
use parking_lot::Mutex;

use crate::error::OperatorFault;
use crate::operators::OperatorEntry;
use crate::server::Shared;
use crate::{Account, Encoded, HttpError, ModelCodec};

/// Largest answer of an operator, bytes.
const MAX_ANSWER: u64 = 64 << 20;
/// Seconds of chain time that an operator has to answer.
const EXPIRY: u64 = 300;

/// An audit that is certain, parts per million.
const WHOLE: u32 = 1_000_000;

/// The evidence that is bought with an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wanted {
    /// A trace root that anyone may challenge.
    Optimistic,
    /// A proof; the receipt has to name this evidence.
    Proven(B256),
}

impl Wanted {
    pub(crate) const fn tier(self) -> Tier {
        match self {
            Self::Optimistic => Tier::Optimistic,
            Self::Proven(_) => Tier::Zk,
        }
    }
}

/// An answer that checked.
#[derive(Clone, Debug)]
pub(crate) struct Bought {
    pub(crate) claim_id: B256,
    pub(crate) fee: u128,
    pub(crate) output: Vec<u8>,
    pub(crate) tier: Tier,
}

/// Facts of the chain that never change, remembered.
#[derive(Default)]
pub(crate) struct Memory {
    /// Operator of each receipt key.
    keys: Mutex<HashMap<Address, Address>>,
}

impl Shared {
    /// Price of a model, `usd` base units.
    pub(crate) fn price(&self, model_id: B256) -> Result<u128, HttpError> {
        let call = IModels::modelCall { modelId: model_id };
        match self.client.call(MODELS, &call) {
            Ok(model) => Ok(model.price),
            Err(error) if error.module_error().is_some() => Err(HttpError::NoOperator(format!(
                "the chain does not know this model: {error}"
            ))),
            Err(error) => Err(error.into()),
        }
    }

    /// Price of an answer and who serves the model, after checking that the account can pay `answers` of them.
    pub(crate) fn offers(
        &self,
        account: &Account,
        model: &dyn ModelCodec,
        answers: u32,
    ) -> Result<(u128, Vec<OperatorEntry>), HttpError> {
        let fee = self.price(model.model_id())?;
        if fee > self.config.max_fee {
            return Err(HttpError::NoOperator(format!(
                "the price of {fee} usd units is above this gateway's limit of {}",
                self.config.max_fee
            )));
        }
        self.check_balance(account, fee.saturating_mul(answers.into()))?;
        let operators = self
            .operators
            .serving(&self.client, &self.agent, model.model_id())?;
        if operators.is_empty() {
            return Err(HttpError::NoOperator(format!(
                "no registered operator serves `{}` now",
                model.name()
            )));
        }
        Ok((fee, operators))
    }

    /// Buys one answer. Blocks until it is there or every operator failed.
    pub(crate) fn buy(
        &self,
        account: &Account,
        model: &dyn ModelCodec,
        input: &Encoded,
        tier: Tier,
    ) -> Result<Bought, HttpError> {
        let (fee, mut operators) = self.offers(account, model, 1)?;
        let want = self.wanted(model, tier)?;
        let mut faults = Vec::new();
        while !operators.is_empty() {
            for operator in &operators {
                match self.ask(account, model, input, operator, (fee, want)) {
                    Ok(bought) => return Ok(bought),
                    Err(Failure::Ours(error)) => return Err(error),
                    Err(Failure::Theirs(fault)) => {
                        tracing::warn!(target: "assay::gateway", operator = %operator.address, %fault, "operator failed");
                        self.metrics.operator_failures.inc();
                        self.operators.note_fault(operator.address);
                        faults.push((operator.address, fault));
                    }
                }
            }
            let asked: Vec<Address> = faults.iter().map(|(address, _)| *address).collect();
            operators =
                self.operators
                    .newcomers(&self.client, &self.agent, model.model_id(), &asked)?;
        }
        Err(none_left(&faults))
    }

    /// What a receipt of this tier has to name; of tier zk the model needs a usable key.
    pub(crate) fn wanted(&self, model: &dyn ModelCodec, tier: Tier) -> Result<Wanted, HttpError> {
        Ok(match tier {
            Tier::Zk => Wanted::Proven(self.evidence(model)?),
            _ => Wanted::Optimistic,
        })
    }

    fn check_balance(&self, account: &Account, fee: u128) -> Result<(), HttpError> {
        let buyer = account.key.address();
        let balance = self
            .client
            .call(CLAIMS, &IClaims::balanceOfCall { buyer })?;
        let balance = u128::try_from(balance).unwrap_or(u128::MAX);
        if balance >= fee {
            return Ok(());
        }
        Err(HttpError::PaymentRequired(format!(
            "account `{}` ({buyer}) has {} usd in the claims module, this call costs {} usd; deposit with `assay wallet deposit AMOUNT` or claims.deposit(uint256), then call again",
            account.name,
            usd(balance),
            usd(fee)
        )))
    }

    fn ask(
        &self,
        account: &Account,
        model: &dyn ModelCodec,
        input: &Encoded,
        operator: &OperatorEntry,
        (fee, want): (u128, Wanted),
    ) -> Result<Bought, Failure> {
        let salt = random_salt()?;
        let body = self.request(account, model, input, operator.address, salt, (fee, want))?;
        let answer = self
            .send(operator, &body)
            .map_err(|refused| match refused {
                Refused::Balance(message) => Failure::Ours(HttpError::PaymentRequired(message)),
                Refused::Other(fault) => Failure::Theirs(fault),
            })?;
        let claim_id = answer.receipt.claim_id();
        self.check(
            operator,
            &body.request,
            salt,
            (&answer.receipt, &answer.signature),
            &answer.output,
            want,
        )
        .map_err(|failure| failure.of_receipt(claim_id))?;
        self.keep(account, model, input, body, answer)
            .map_err(Failure::Ours)
    }

    /// Signs a request that leaves its place in the line to the operator.
    fn request(
        &self,
        account: &Account,
        model: &dyn ModelCodec,
        input: &Encoded,
        operator: Address,
        salt: B256,
        (fee, want): (u128, Wanted),
    ) -> Result<RunRequest, Failure> {
        let now = self
            .client
            .chain_seconds()
            .map_err(|error| Failure::Ours(error.into()))?;
        let request = Request {
            version: 1,
            line_id: line_id(operator, account.key.address()),
            seq: 0,
            model_id: model.model_id(),
            semantics: model.semantics(),
            input_commit: input_commit(salt, &input.bytes),
            sampling_hash: B256::ZERO,
            max_out: 1,
            max_fee: fee,
            value_at_risk: self.config.value_at_risk,
            tier_mask: want.tier().mask(),
            audit_ppm: self.config.audit_ppm,
            window: self.config.window,
            expiry: now.saturating_add(EXPIRY),
        };
        Ok(RunRequest {
            model_id: request.model_id,
            input: input.bytes.clone().into(),
            salt: Salt(salt),
            request_signature: request.sign(&self.domain, account.key.receipt_key()),
            request,
        })
    }

    fn send(&self, operator: &OperatorEntry, body: &RunRequest) -> Result<RunResponse, Refused> {
        let unreachable =
            |error: ureq::Error| Refused::Other(OperatorFault::Unreachable(error.to_string()));
        let url = format!("{}/v1/run", operator.endpoint);
        let mut response = self.agent.post(&url).send_json(body).map_err(unreachable)?;
        let status = response.status();
        let bytes = response
            .body_mut()
            .with_config()
            .limit(MAX_ANSWER)
            .read_to_vec()
            .map_err(unreachable)?;
        let unreadable =
            |error: serde_json::Error| Refused::Other(OperatorFault::Unreadable(error.to_string()));
        if status.is_success() {
            return serde_json::from_slice(&bytes).map_err(unreadable);
        }
        let refusal: ApiError = serde_json::from_slice(&bytes).map_err(unreadable)?;
        Err(match refusal.code.as_str() {
            "balance" => Refused::Balance(refusal.message),
            _ => Refused::Other(OperatorFault::Refused {
                code: refusal.code,
                message: refusal.message,
            }),
        })
    }

    /// Everything that must hold before an answer is passed on.
    pub(crate) fn check(
        &self,
        operator: &OperatorEntry,
        request: &Request,
        salt: B256,
        (receipt, signature): (&Receipt, &ReceiptSignature),
        output: &[u8],
        want: Wanted,
    ) -> Result<(), Check> {
        let wrong = |reason: String| Check::Wrong(reason);
        receipt.check().map_err(|error| wrong(error.to_string()))?;
        receipt
            .check_answers(request)
            .map_err(|error| wrong(error.to_string()))?;
        if receipt.operator != operator.address {
            return Err(wrong(format!("it names operator {}", receipt.operator)));
        }
        let signer = recover(receipt.digest(&self.domain), signature);
        let signer = signer.map_err(|error| wrong(error.to_string()))?;
        let owner = self.owner_of(signer).map_err(Check::Chain)?;
        if owner != operator.address {
            return Err(wrong(format!(
                "it is signed by {signer}, which is no key of this operator"
            )));
        }
        if !opens_output(receipt.output_commit, salt, output) {
            return Err(wrong("the output does not open the commitment".into()));
        }
        let (value, audit) = match want {
            Wanted::Proven(evidence) if receipt.evidence_hash != evidence => {
                return Err(wrong(
                    "it names another proof key than the registered one".into(),
                ));
            }
            // what is proven before it is paid needs no stake beyond its fee
            Wanted::Proven(_) => (0, WHOLE),
            Wanted::Optimistic => (receipt.value_at_risk, receipt.audit_ppm),
        };
        let call = IClaims::requiredExposureCall {
            fee: receipt.fee,
            valueAtRisk: value,
            auditPpm: audit,
        };
        let need = self
            .client
            .call(CLAIMS, &call)
            .map_err(|error| Check::Chain(error.into()))?;
        if receipt.exposure < need {
            return Err(wrong(format!(
                "it locks {} wei, {need} needed",
                receipt.exposure
            )));
        }
        Ok(())
    }

    /// Operator that a receipt key belongs to.
    fn owner_of(&self, key: Address) -> Result<Address, HttpError> {
        if let Some(owner) = self.memory.keys.lock().get(&key) {
            return Ok(*owner);
        }
        let owner = self
            .client
            .call(STAKING, &IStaking::keyCall { receiptKey: key })?
            .operator;
        if owner != Address::ZERO {
            self.memory.keys.lock().insert(key, owner);
        }
        Ok(owner)
    }

    fn keep(
        &self,
        account: &Account,
        model: &dyn ModelCodec,
        input: &Encoded,
        body: RunRequest,
        answer: RunResponse,
    ) -> Result<Bought, HttpError> {
        let claim_id = answer.receipt.claim_id();
        let fee = answer.receipt.fee;
        let output = answer.output.to_vec();
        let tier = answer.receipt.tier().unwrap_or(Tier::Signed);
        let mut bundle = Bundle::new(self.domain, answer.receipt, answer.signature)
            .with_opening(body.salt.0, input.bytes.clone(), output.clone())
            .with_request(body.request, body.request_signature);
        bundle.model = Some(model.name().to_owned());
        self.receipts.store(account, claim_id, &bundle)?;
        self.metrics.receipts.inc();
        self.metrics
            .fees
            .inc_by(u64::try_from(fee).unwrap_or(u64::MAX));
        Ok(Bought {
            claim_id,
            fee,
            output,
            tier,
        })
    }
}

pub(crate) enum Failure {
    Ours(HttpError),
    Theirs(OperatorFault),
}

pub(crate) enum Check {
    Wrong(String),
    Chain(HttpError),
}

impl Check {
    pub(crate) fn of_receipt(self, claim_id: B256) -> Failure {
        match self {
            Self::Wrong(reason) => Failure::Theirs(OperatorFault::Receipt { claim_id, reason }),
            Self::Chain(error) => Failure::Ours(error),
        }
    }
}

enum Refused {
    Balance(String),
    Other(OperatorFault),
}

pub(crate) fn none_left(faults: &[(Address, OperatorFault)]) -> HttpError {
    let words: Vec<String> = faults
        .iter()
        .map(|(operator, fault)| format!("{operator} {fault}"))
        .collect();
    let words = words.join("; ");
    if faults
        .iter()
        .any(|(_, fault)| matches!(fault, OperatorFault::Receipt { .. }))
    {
        return HttpError::BadReceipt(format!(
            "no operator gave an answer with a receipt that checks: {words}"
        ));
    }
    HttpError::NoOperator(format!("no operator answered: {words}"))
}

pub(crate) fn random_salt() -> Result<B256, Failure> {
    let mut salt = [0u8; 32];
    getrandom::fill(&mut salt)
        .map_err(|error| Failure::Ours(HttpError::Internal(error.to_string())))?;
    Ok(B256::from(salt))
}

/// `usd` base units as a decimal number of usd.
pub(crate) fn usd(units: u128) -> String {
    format!("{}.{:06}", units / 1_000_000, units % 1_000_000)
}

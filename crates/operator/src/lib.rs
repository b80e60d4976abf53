//! Serves models for money: runs them, signs receipts, settles and defends them.
//!
//! An [`Operator`] answers signed requests over a small HTTP API of its own (docs/api.md). For each answer it makes
//! the receipt durable, then writes `(lineId, seq, claimId)` to a log and syncs it, and only then signs; so a crash
//! cannot make it sign two receipts for one place in a line. A background thread asserts receipts on the chain,
//! finalises them after their window, and answers disputes on its clock. Everything resumes after a restart.
//!
//! Threat model: requests, inputs and the chain's contents come from strangers. A request is checked before any
//! work; work and queue are bounded. Input, output and salt of each job are readable by anyone who knows the claim
//! (development networks serve them openly, so that watchers can audit).
//!
//! Depends on `engine`, `graph`, `proof`, `receipt`, `wallet`, `abi`. Start reading at [`Operator`].

mod admit;
mod api;
mod api_language;
mod chain;
mod config;
mod defence;
mod error;
#[cfg(feature = "fault-injection")]
mod fault;
#[cfg(feature = "fault-injection")]
mod fault_language;
mod in_flight;
mod issue;
mod language;
mod ledger;
mod model;
mod operator;
mod prover;
mod wal;

pub use api::{ApiError, Ask, JobResponse, RunRequest, RunResponse, ServedModel};
pub use config::{DefendBy, OperatorConfig, ProofConfig};
pub use error::{OperatorError, Refusal, RunError};
#[cfg(feature = "fault-injection")]
pub use fault::{Fault, FaultyModel};
#[cfg(feature = "fault-injection")]
pub use fault_language::{FaultySpeaker, LanguageFault, with_fewer_bits};
pub use language::{
    Answered, Grammars, HonestSpeaker, LanguageModel, LogProbs, MAX_ALTERNATIVES, MaskSource,
    Masks, Pace, Prompt, Speaker, Talk, TalkEvent, log_probs, segment_run, token_bytes, tokens_of,
};
pub use ledger::{Job, JobState, Ledger, ProofState};
pub use model::{Execution, HonestModel, ModelRunner, block_bytes, input_tensor};
pub use operator::{Operator, Running};
pub use prover::provable;
pub use wal::WriteAheadLog;

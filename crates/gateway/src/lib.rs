//! What buyers talk to: an HTTP server that official OpenAI clients use unchanged, and that turns each call into a
//! signed request, an answer of a registered operator, and a receipt that was checked before the answer goes out.
//!
//! A buyer's API key names an account; the account's key signs requests (custodial: meant for the development network
//! and for gateways that a buyer runs itself). Requests leave their place in the exposure line to the operator; the
//! gateway tries the next operator when one fails, and keeps the bundle of each answer.
//!
//! Threat model: clients and operators are strangers. Bodies, queues and times are bounded; hosts are checked while
//! it listens on loopback; an operator's answer is used only if its receipt checks (signature of a registered key,
//! commitments, model, fee, exposure).
//!
//! Depends on `operator` (types of its API), `graph`, `text`, `receipt`, `wallet`, `abi`. Start reading at [`Gateway`], then
//! `buy` (one answer as a whole) and `lang` (answers that come token by token).

mod account;
mod buy;
mod codec;
mod config;
mod embeddings;
mod error;
mod http;
mod imported;
mod infer;
mod lang;
mod metrics;
mod multipart;
mod names;
mod operators;
mod proofs;
mod receipts;
mod server;

pub use account::Account;
pub use codec::{CodecError, Decoded, Encoded, ModelCodec, ModelKind, Prediction};
pub use config::GatewayConfig;
pub use error::{GatewayError, HttpError, ProofRefusal};
pub use imported::ImportedModel;
pub use lang::{Language, sampling_of};
pub use server::{Gateway, Running};

//! Audits what operators assert, and drives every dispute it opens to its end.
//!
//! A [`Watcher`] follows the receipts that the chain publishes, fetches input, salt and output from the operator,
//! runs its own copy of the registered model, and compares. If the trace differs it challenges with a bond, finds
//! the first wrong leaf on its turns, and proves one element (or one whole block) wrong. Everything it needs after a
//! restart is on the chain; a small state file only saves reading it from the beginning.
//!
//! Threat model: operators may serve junk, nothing, or different data to different people; the model files may be
//! anybody's. Data is used only if it opens the receipt's commitments, a model only if its hash is the registered
//! identity. Answers are bounded in size and time.
//!
//! Depends on `engine`, `graph`, `receipt`, `wallet`, `abi`, and on `operator` for the types of its HTTP API. Start
//! reading at [`Watcher`], then `audit`, then `challenge`.

mod audit;
mod backoff;
mod challenge;
mod config;
mod error;
mod events;
mod follow;
mod language;
mod models;
mod proofs;
mod state;

pub use audit::{Audit, JobData};
pub use config::WatcherConfig;
pub use error::WatcherError;
pub use events::WatcherEvent;
pub use follow::{Running, Watcher};
pub use models::{FolderModels, HttpModels, ModelSource};

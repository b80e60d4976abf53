//! Honest runs are provable and every lie is caught: small graphs of each operator, through the definition, the oracle, the prover and the verifier.

mod digests;
mod encoder;
pub(crate) mod hiding;
mod hostile;
mod language;
mod language_sampling;
mod lies;
mod malicious;
mod modulus;
mod operators;
mod sizes;
mod stages;
pub(crate) mod support;

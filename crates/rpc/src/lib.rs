//! Ethereum JSON-RPC over HTTP and WebSocket: what ethers, viem, web3.py, cast and wallets call, and nothing else.
//!
//! [`Api`] is the table of methods, synchronous and without any transport; [`serve`] puts it behind axum. An
//! unknown method is answered with exactly -32601, because viem and others probe for optional methods that way.
//!
//! Threat model: every request is hostile. Bodies, batches, responses, log ranges, filters and gas of calls are
//! bounded ([`RpcConfig`]); malformed input gives a JSON-RPC error, never a panic. The server binds to loopback by
//! default, refuses foreign `Host` headers there (DNS rebinding), and development methods are refused to peers that
//! are not on this machine.
//!
//! Depends on `chain`. Start reading at [`Api::handle`].

mod api;
mod calls;
mod config;
mod development;
mod error;
mod filters;
mod format;
mod logs;
mod params;
mod reads;
mod revert;
mod server;
mod socket;
mod submit;

pub use api::{Api, Peer};
pub use config::RpcConfig;
pub use error::{RpcError, code};
pub use server::{Server, serve};

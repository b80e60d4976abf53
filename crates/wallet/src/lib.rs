//! Keys and the way to the chain: signing keys, encrypted key files, and a blocking JSON-RPC client.
//!
//! [`Key`] signs receipts, requests and transactions. [`Keystore`] keeps keys in encrypted files. [`ChainClient`]
//! reads and writes the chain through `eth_*` methods only, so that it works against our node and any other
//! Ethereum node alike; it turns custom errors of our modules into sentences.
//!
//! Threat model: the node may answer anything; every answer is parsed into a typed value with bounded size, and no
//! answer makes the client sign something else than it was asked to. Secrets never appear in errors, logs,
//! arguments or `Debug` output.
//!
//! All calls block the thread; asynchronous services call them on a blocking thread.
//!
//! Depends on `abi`, `receipt`. Start reading at [`ChainClient`].
//!
//! ```
//! let key = assay_wallet::dev_key(0).unwrap();
//! assert_eq!(key.address().to_string(), "0xf39Fd6e51aad88F6F4ce6aB8827279cffFb92266");
//! ```

mod client;
mod dev;
mod error;
mod key;
mod keystore;
mod logs;
mod proof;
mod revert;
mod send;
mod view;

pub use client::{ChainClient, ClientOptions};
pub use dev::{DEV_MNEMONIC, DEV_WARNING, dev_key, is_dev_address};
pub use error::{ClientError, KeyError};
pub use key::Key;
pub use keystore::{KeyInfo, Keystore, MIN_PASSPHRASE};
pub use logs::{ChainLog, LogCursor, LogFilter};
pub use proof::ProvenClaim;
pub use revert::{ModuleError, describe_revert, module_errors};
pub use send::{Sent, TxOptions};

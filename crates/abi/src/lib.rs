//! Solidity interfaces and addresses of the network's modules, shared by everyone who talks to the chain.
//!
//! Ground floor: no logic, no state. Each module has one file with one `sol!` interface (functions, events, custom
//! errors) and one versioned address. An address is never reused for another ABI: a new version is a new address.
//!
//! Threat model: none of its own; whoever decodes calldata with these types must refuse trailing bytes and
//! non-canonical words (see `assay_modules`).
//!
//! Start reading at [`address`] and [`IClaims`].
//!
//! ```
//! use alloy_sol_types::SolCall;
//! let call = assay_abi::IUsd::transferCall { to: assay_abi::CLAIMS, amount: alloy_primitives::U256::from(5) };
//! assert_eq!(call.abi_encode().len(), 4 + 64);
//! ```
mod burn;
#[expect(
    clippy::too_many_arguments,
    reason = "constructors that `sol!` generates for structs take a value per field"
)]
mod claims;
mod clock;
mod disputes;
mod errors;
mod models;
mod parameters;
mod pools;
mod proof;
mod receipt;
mod staking;
mod usd;

use alloy_primitives::Address;

pub use burn::IBurn;
pub use claims::{IClaims, Request, receipt_domain};
pub use clock::IClock;
pub use disputes::IDisputes;
pub use errors::IErrors;
pub use models::IModels;
pub use parameters::IParameters;
pub use pools::IPools;
pub use proof::{
    CLAIM_CONTEXT, CLAIM_CONTEXT_BYTES, MAX_PROOF_BYTES, MAX_PROOF_KEY, MAX_PROOF_KEY_AT_ONCE,
    PROOF_KEY_PART, claim_context, proof_key_parts, zk_evidence,
};
pub use receipt::{RECEIPT_TYPE, RECEIPT_WORDS, Receipt, ReceiptWordError};
pub use staking::IStaking;
pub use usd::IUsd;

/// Address of module `number`, version `version`: `A55A`, 15 zero bytes, number (u16), version (u8).
pub const fn address(number: u16, version: u8) -> Address {
    let mut bytes = [0u8; 20];
    bytes[0] = 0xA5;
    bytes[1] = 0x5A;
    let [high, low] = number.to_be_bytes();
    bytes[17] = high;
    bytes[18] = low;
    bytes[19] = version;
    Address::new(bytes)
}

/// Stable money: ERC-20, EIP-2612, EIP-3009; 6 decimals.
pub const USD: Address = address(0x0001, 1);
/// Operators: bonds, receipt keys, endpoints.
pub const STAKING: Address = address(0x0002, 1);
/// Registry of models by content hash.
pub const MODELS: Address = address(0x0003, 1);
/// Buyers' balances, receipts, claims, settlement.
pub const CLAIMS: Address = address(0x0004, 1);
/// Disputes over claims.
pub const DISPUTES: Address = address(0x0005, 1);
/// Chain time.
pub const CLOCK: Address = address(0x0009, 1);
/// Burnt native coin and the reserve of usd that fees set aside for burning.
pub const BURN: Address = address(0x000f, 1);
/// Staking pools of model lineages.
pub const POOLS: Address = address(0x0010, 1);
/// Network parameters fixed at genesis.
pub const PARAMETERS: Address = address(0x0011, 1);

/// Every module: name, number, version, address.
pub const MODULES: [(&str, u16, u8, Address); 9] = [
    ("usd", 0x0001, 1, USD),
    ("staking", 0x0002, 1, STAKING),
    ("models", 0x0003, 1, MODELS),
    ("claims", 0x0004, 1, CLAIMS),
    ("disputes", 0x0005, 1, DISPUTES),
    ("clock", 0x0009, 1, CLOCK),
    ("burn", 0x000f, 1, BURN),
    ("pools", 0x0010, 1, POOLS),
    ("parameters", 0x0011, 1, PARAMETERS),
];

//! `usd`: stable money, 6 decimals. ERC-20, EIP-2612 `permit`, EIP-3009 transfers by signed authorisation.
//!
//! Minted at genesis only. Times of signatures are block timestamps in seconds, as those standards say.

mod authorization;
pub(crate) mod dispatch;

use alloy_primitives::{Address, B256, U256};
use alloy_sol_types::{Eip712Domain, SolEvent, SolStruct};
use assay_abi::{IErrors, IUsd, USD};
use assay_storage::{Cursor, Mapping, Place, Slot, Storage, StorageError, layout};

use crate::error::{Ruling, require, revert};
use crate::signature::signer;

pub(crate) use authorization::Authorization;

/// Name of the token and of its EIP-712 domain.
pub const NAME: &str = "Assay USD";
/// Symbol of the token.
pub const SYMBOL: &str = "aUSD";
/// Decimals of the token.
pub const DECIMALS: u8 = 6;
/// Version of the EIP-712 domain.
pub const VERSION: &str = "1";

layout! {
    /// Storage of the module.
    pub struct Usd {
        /// Sum of all balances, base units.
        pub total_supply: Slot<u128>,
        /// Base units by owner.
        pub balances: Mapping<Address, Slot<u128>>,
        /// Owner to spender to allowance; the largest value never shrinks.
        pub allowances: Mapping<Address, Mapping<Address, Slot<U256>>>,
        /// Next permit nonce by owner.
        pub nonces: Mapping<Address, Slot<u64>>,
        /// Authoriser to nonce to used.
        pub authorizations: Mapping<Address, Mapping<B256, Slot<bool>>>,
    }
}

alloy_sol_types::sol! {
    struct Permit { address owner; address spender; uint256 value; uint256 nonce; uint256 deadline; }
}

/// EIP-712 domain of permits and authorisations.
pub fn domain(chain_id: u64) -> Eip712Domain {
    alloy_sol_types::eip712_domain! { name: NAME, version: VERSION, chain_id: chain_id, verifying_contract: USD, }
}

fn emit(storage: &mut dyn Storage, event: &impl SolEvent) -> Ruling<()> {
    Ok(storage.emit(USD, event.encode_log_data())?)
}

fn now_seconds(storage: &dyn Storage) -> U256 {
    U256::from(storage.env().timestamp_ms / 1_000)
}

/// The three parts of a signature as its 65 bytes.
fn join(v: u8, r: B256, s: B256) -> Vec<u8> {
    [r.as_slice(), s.as_slice(), &[v]].concat()
}

impl Usd {
    /// At its address.
    pub fn new() -> Self {
        Self::place(&mut Cursor::new(USD))
    }

    /// Mints at genesis.
    pub(crate) fn genesis(
        &self,
        storage: &mut dyn Storage,
        mints: &[(Address, u128)],
    ) -> Result<(), StorageError> {
        for (owner, amount) in mints {
            let overflow =
                || StorageError::Fatal(format!("usd minted at genesis to {owner} overflows"));
            let supply = self
                .total_supply
                .read(storage)?
                .checked_add(*amount)
                .ok_or_else(overflow)?;
            let slot = self.balances.at(owner);
            let balance = slot
                .read(storage)?
                .checked_add(*amount)
                .ok_or_else(overflow)?;
            self.total_supply.write(storage, supply)?;
            slot.write(storage, balance)?;
            let event = IUsd::Transfer {
                from: Address::ZERO,
                to: *owner,
                amount: U256::from(*amount),
            };
            storage.emit(USD, event.encode_log_data())?;
        }
        Ok(())
    }

    /// Balance in base units.
    pub(crate) fn balance(&self, storage: &mut dyn Storage, owner: Address) -> Ruling<u128> {
        Ok(self.balances.at(&owner).read(storage)?)
    }

    /// Moves tokens; the caller has shown the right to. Returns the amount, which fits 128 bits.
    pub(crate) fn move_tokens(
        &self,
        storage: &mut dyn Storage,
        from: Address,
        to: Address,
        amount: U256,
    ) -> Ruling<u128> {
        require(!to.is_zero(), || IUsd::ERC20InvalidReceiver {
            receiver: to,
        })?;
        let source = self.balances.at(&from);
        let balance = source.read(storage)?;
        let moved = u128::try_from(amount).ok();
        let rest = moved.and_then(|moved| balance.checked_sub(moved));
        let (Some(moved), Some(rest)) = (moved, rest) else {
            return Err(revert(IUsd::ERC20InsufficientBalance {
                sender: from,
                balance: U256::from(balance),
                needed: amount,
            }));
        };
        source.write(storage, rest)?;
        let target = self.balances.at(&to);
        let sum = target.read(storage)?.checked_add(moved);
        target.write(
            storage,
            sum.ok_or_else(|| {
                revert(IErrors::Overflow {
                    operation: "usd balance".to_string(),
                })
            })?,
        )?;
        emit(storage, &IUsd::Transfer { from, to, amount })?;
        Ok(moved)
    }

    fn approve(
        &self,
        storage: &mut dyn Storage,
        owner: Address,
        spender: Address,
        amount: U256,
    ) -> Ruling<()> {
        self.allowances
            .at(&owner)
            .at(&spender)
            .write(storage, amount)?;
        emit(
            storage,
            &IUsd::Approval {
                owner,
                spender,
                amount,
            },
        )
    }

    fn transfer_from(
        &self,
        storage: &mut dyn Storage,
        spender: Address,
        from: Address,
        to: Address,
        amount: U256,
    ) -> Ruling<()> {
        let slot = self.allowances.at(&from).at(&spender);
        let allowance = slot.read(storage)?;
        if allowance != U256::MAX {
            let rest = allowance.checked_sub(amount);
            let short = || {
                revert(IUsd::ERC20InsufficientAllowance {
                    spender,
                    allowance,
                    needed: amount,
                })
            };
            slot.write(storage, rest.ok_or_else(short)?)?;
        }
        self.move_tokens(storage, from, to, amount).map(|_| ())
    }

    fn permit(&self, storage: &mut dyn Storage, call: &IUsd::permitCall) -> Ruling<()> {
        let late = now_seconds(storage) > call.deadline;
        require(!late, || IUsd::ERC2612ExpiredSignature {
            deadline: call.deadline,
        })?;
        let slot = self.nonces.at(&call.owner);
        let nonce = slot.read(storage)?;
        let (owner, spender, value, deadline) =
            (call.owner, call.spender, call.value, call.deadline);
        let permit = Permit {
            owner,
            spender,
            value,
            nonce: U256::from(nonce),
            deadline,
        };
        let digest = permit.eip712_signing_hash(&domain(storage.env().chain_id));
        let signer = signer(storage, digest, &join(call.v, call.r, call.s))?;
        require(signer == owner, || IUsd::ERC2612InvalidSigner {
            signer,
            owner,
        })?;
        slot.write(storage, nonce.saturating_add(1))?;
        self.approve(storage, owner, spender, value)
    }
}

impl Default for Usd {
    fn default() -> Self {
        Self::new()
    }
}

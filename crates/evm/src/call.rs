//! `eth_call`, `eth_estimateGas` and `eth_createAccessList`: execution on a throw-away journal.

use std::sync::Arc;

use alloy_eips::eip2930::{AccessList, AccessListItem};
use alloy_eips::eip7702::SignedAuthorization;
use alloy_primitives::{Address, B256, Bytes, KECCAK256_EMPTY, TxKind, U256, keccak256};
use assay_modules::Modules;
use assay_types::StateView;
use revm::ExecuteEvm;
use revm::context::TxEnv;
use revm::context_interface::JournalTr;
use revm::state::EvmState;

use crate::block::{ModuleEvm, build, outcome};
use crate::environment::recover_authorization;
use crate::error::{Subject, translate};
use crate::{BlockContext, ExecutionError, TransactionOutcome};

/// Gas of a plain transfer.
const TRANSFER_GAS: u64 = 21_000;

/// A call that is not a transaction: unsigned, with everything optional filled in by the caller.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CallRequest {
    /// Account the call comes from.
    pub from: Address,
    /// Destination; `None` runs `data` as creation code.
    pub to: Option<Address>,
    /// Gas limit.
    pub gas: u64,
    /// Wei per gas; 0 needs no balance for gas.
    pub gas_price: u128,
    /// Wei sent along.
    pub value: U256,
    /// Calldata.
    pub data: Bytes,
    /// EIP-2930 access list.
    pub access_list: AccessList,
    /// EIP-7702 authorizations; a non-empty list makes it a type-4 call.
    pub authorization_list: Vec<SignedAuthorization>,
}

/// Temporary change of an account for one call.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AccountOverride {
    /// Wei.
    pub balance: Option<U256>,
    /// Next nonce.
    pub nonce: Option<u64>,
    /// Code.
    pub code: Option<Bytes>,
    /// Replaces the whole storage.
    pub state: Option<Vec<(U256, U256)>>,
    /// Replaces single words.
    pub state_diff: Vec<(U256, U256)>,
}

/// What a call returned, and what it touched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CallOutcome {
    /// As for a transaction.
    pub result: TransactionOutcome,
    /// Accounts and slots that were read or written, without sender, destination and precompiles.
    pub access_list: AccessList,
}

/// Runs calls on one state; nothing they do is kept.
pub struct Caller<'a> {
    evm: ModuleEvm<'a>,
    block: BlockContext,
}

impl std::fmt::Debug for Caller<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Caller")
            .field("block", &self.block)
            .finish_non_exhaustive()
    }
}

impl<'a> Caller<'a> {
    /// Calls on the state that `view` shows, as if inside `block`.
    pub fn new(modules: Arc<Modules>, view: &'a dyn StateView, block: BlockContext) -> Self {
        let mut config = block.config();
        config.disable_nonce_check = true;
        config.disable_eip3607 = true;
        config.disable_block_gas_limit = true;
        config.disable_base_fee = true;
        Self {
            evm: build(modules, view, &block, config),
            block,
        }
    }

    /// Changes an account for the calls that follow.
    ///
    /// # Errors
    /// [`ExecutionError::Fatal`] when the view fails.
    pub fn apply(
        &mut self,
        address: Address,
        change: AccountOverride,
    ) -> Result<(), ExecutionError> {
        let fatal = |error: crate::overlay::OverlayError| ExecutionError::Fatal(error.to_string());
        let overlay = self.evm.ctx.journaled_state.db_mut();
        let mut record = overlay.account(address).map_err(fatal)?.unwrap_or_default();
        if let Some(balance) = change.balance {
            record.balance = balance;
        }
        if let Some(nonce) = change.nonce {
            record.nonce = nonce;
        }
        if let Some(code) = &change.code {
            record.code_hash = if code.is_empty() {
                KECCAK256_EMPTY
            } else {
                keccak256(code)
            };
        }
        let code = change.code.filter(|code| !code.is_empty());
        overlay.set_account(address, record, code).map_err(fatal)?;
        if let Some(state) = change.state {
            overlay.clear_words(address).map_err(fatal)?;
            for (slot, value) in state {
                overlay.set_word(address, slot, value).map_err(fatal)?;
            }
        }
        for (slot, value) in change.state_diff {
            overlay.set_word(address, slot, value).map_err(fatal)?;
        }
        Ok(())
    }

    /// Runs one call.
    ///
    /// # Errors
    /// [`ExecutionError::Invalid`] when the call cannot start (funds, intrinsic gas); a revert is an outcome.
    pub fn call(&mut self, request: &CallRequest) -> Result<CallOutcome, ExecutionError> {
        let (result, state) = self.run(request)?;
        Ok(CallOutcome {
            access_list: self.accessed(&state, request),
            result,
        })
    }

    /// Smallest gas limit with which `request` succeeds, by binary search below `request.gas`.
    ///
    /// Returns the failed outcome when it does not succeed even with all of that gas. `may_continue` is asked before
    /// each further run; when it says no, the smallest gas limit known to suffice is the answer.
    ///
    /// # Errors
    /// As for [`Caller::call`].
    pub fn estimate(
        &mut self,
        request: &CallRequest,
        may_continue: &dyn Fn() -> bool,
    ) -> Result<Result<u64, TransactionOutcome>, ExecutionError> {
        let mut request = request.clone();
        let mut high = request.gas;
        let (first, _) = self.run(&request)?;
        if !first.success {
            return Ok(Err(first));
        }
        // A plain transfer has one answer.
        if first.gas_used == TRANSFER_GAS && request.data.is_empty() {
            request.gas = TRANSFER_GAS;
            if self.succeeds(&request)? {
                return Ok(Ok(TRANSFER_GAS));
            }
        }
        // Gas used after refunds is a lower bound; nothing smaller can succeed.
        let mut low = first.gas_used.saturating_sub(1).min(high);
        // EIP-150 keeps 1/64 per frame; this guess is right for most calls and halves the search otherwise.
        let guess = first
            .gas_used
            .saturating_add(2_300)
            .saturating_mul(64)
            .div_euclid(63);
        if guess < high && guess > low {
            request.gas = guess;
            if self.succeeds(&request)? {
                high = guess;
            } else {
                low = guess;
            }
        }
        while low.saturating_add(1) < high && may_continue() {
            let middle = low.midpoint(high);
            request.gas = middle;
            if self.succeeds(&request)? {
                high = middle;
            } else {
                low = middle;
            }
        }
        Ok(Ok(high))
    }

    /// Balance of an account, to cap the gas of an estimate by what its sender can pay.
    ///
    /// # Errors
    /// [`ExecutionError::Fatal`] when the view fails.
    pub fn balance(&mut self, address: Address) -> Result<U256, ExecutionError> {
        self.evm
            .ctx
            .journaled_state
            .db_mut()
            .account(address)
            .map(|account| account.map_or(U256::ZERO, |account| account.balance))
            .map_err(|error| ExecutionError::Fatal(error.to_string()))
    }

    fn succeeds(&mut self, request: &CallRequest) -> Result<bool, ExecutionError> {
        match self.run(request) {
            Ok((outcome, _)) => Ok(outcome.success),
            Err(ExecutionError::Invalid(_)) => Ok(false),
            Err(fatal) => Err(fatal),
        }
    }

    fn run(
        &mut self,
        request: &CallRequest,
    ) -> Result<(TransactionOutcome, EvmState), ExecutionError> {
        let kind = request.to.map_or(TxKind::Create, TxKind::Call);
        let authorization_list: Vec<_> = request
            .authorization_list
            .iter()
            .map(recover_authorization)
            .collect();
        let env = TxEnv {
            tx_type: if authorization_list.is_empty() { 1 } else { 4 },
            caller: request.from,
            gas_limit: request.gas,
            gas_price: request.gas_price,
            kind,
            value: request.value,
            data: request.data.clone(),
            nonce: 0,
            chain_id: Some(self.block.chain_id),
            access_list: request.access_list.clone(),
            gas_priority_fee: None,
            blob_hashes: Vec::new(),
            max_fee_per_blob_gas: 0,
            authorization_list,
        };
        let result = self.evm.transact_one(env);
        let state = self.evm.finalize();
        let result = result.map_err(|error| {
            let subject = Subject {
                sender: request.from,
                gas: request.gas,
                cap: request.gas_price,
                base_fee: self.block.base_fee,
                block_gas: self.block.gas_limit,
                size: request.data.len(),
            };
            translate(error, &subject)
        })?;
        Ok((outcome(result), state))
    }

    fn accessed(&self, state: &EvmState, request: &CallRequest) -> AccessList {
        let warm = self.evm.ctx.journaled_state.precompile_addresses();
        let mut items: Vec<AccessListItem> = state
            .iter()
            .filter_map(|(address, account)| {
                let mut storage_keys: Vec<B256> = account
                    .storage
                    .keys()
                    .map(|slot| B256::from(slot.to_be_bytes::<32>()))
                    .collect();
                storage_keys.sort_unstable();
                let implicit = *address == request.from
                    || Some(*address) == request.to
                    || *address == self.block.beneficiary
                    || warm.contains(address);
                (!implicit || !storage_keys.is_empty()).then_some(AccessListItem {
                    address: *address,
                    storage_keys,
                })
            })
            .collect();
        items.sort_unstable_by_key(|item| item.address);
        AccessList(items)
    }
}

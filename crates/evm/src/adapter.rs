//! `assay_storage::Storage` over the EVM journal, with Ethereum's prices.

use alloy_primitives::{Address, Bytes, Log, LogData, U256};
use assay_storage::{Env, Storage, StorageError};
use revm::context_interface::cfg::GasParams;
use revm::context_interface::journaled_state::{JournalCheckpoint, TransferError};
use revm::context_interface::{Cfg, ContextTr, JournalTr};
use revm::interpreter::Gas;
use revm::state::Bytecode;

/// Gas of a native transfer by a module (specification chain.md section 7.2).
const TRANSFER_GAS: u64 = 9_000;
/// Gas of one access to transient storage (EIP-1153).
const TRANSIENT_GAS: u64 = 100;
/// Gas of a log and of each of its topics (yellow paper, appendix G).
const LOG_GAS: u64 = 375;
/// Gas of bytes kept as code: those of `CREATE` and of a byte of its code (yellow paper, appendix G); taking them away is a write.
const BLOB_GAS: u64 = 32_000;
const BLOB_BYTE_GAS: u64 = 200;
const BLOB_CLEAR_GAS: u64 = 5_000;
/// Gas of a word that is copied from code, as `EXTCODECOPY`.
const COPY_GAS: u64 = 3;
/// First byte of such code, `INVALID`: a call of it fails.
const BLOB_MARK: u8 = 0xFE;

/// A module's access to the state during one call.
pub(crate) struct JournalStorage<'a, CTX> {
    pub(crate) context: &'a mut CTX,
    pub(crate) gas: Gas,
    env: &'a Env,
    is_static: bool,
    prices: GasParams,
    checkpoints: Vec<(JournalCheckpoint, i64)>,
}

impl<'a, CTX: ContextTr> JournalStorage<'a, CTX> {
    pub(crate) fn new(context: &'a mut CTX, env: &'a Env, gas: Gas, is_static: bool) -> Self {
        let prices = context.cfg().gas_params().clone();
        Self {
            context,
            gas,
            env,
            is_static,
            prices,
            checkpoints: Vec::new(),
        }
    }

    /// Closes what the module left open, so that the journal's depth is that of the frame.
    pub(crate) fn close(&mut self) {
        while self.checkpoints.pop().is_some() {
            self.context.journal_mut().checkpoint_commit();
        }
    }

    fn refuse_static(&self) -> Result<(), StorageError> {
        if self.is_static {
            return Err(StorageError::Static);
        }
        Ok(())
    }

    fn pay(&mut self, gas: u64) -> Result<(), StorageError> {
        if self.gas.remaining() < gas || !self.gas.record_regular_cost(gas) {
            return Err(StorageError::OutOfGas);
        }
        Ok(())
    }

    /// Loads an account with its code, and pays for its first use in the transaction.
    fn load_blob(&mut self, address: Address) -> Result<Bytes, StorageError> {
        self.pay(self.prices.warm_storage_read_cost())?;
        let account = self
            .context
            .journal_mut()
            .load_account_with_code(address)
            .map_err(fatal)?;
        let code = account.data.info.code.as_ref();
        let code = code.map(Bytecode::original_bytes).unwrap_or_default();
        if account.is_cold {
            self.pay(self.prices.cold_account_additional_cost())?;
        }
        Ok(code)
    }

    /// The journal wants an account in memory before it touches its storage; nothing is charged for that, as
    /// modules are warm like precompiles.
    fn load(&mut self, address: Address) -> Result<(), StorageError> {
        self.context
            .journal_mut()
            .load_account(address)
            .map(|_| ())
            .map_err(fatal)
    }
}

fn fatal(error: impl std::fmt::Display) -> StorageError {
    StorageError::Fatal(error.to_string())
}

impl<CTX: ContextTr> Storage for JournalStorage<'_, CTX> {
    fn sload(&mut self, address: Address, slot: U256) -> Result<U256, StorageError> {
        self.pay(self.prices.warm_storage_read_cost())?;
        self.load(address)?;
        let word = self
            .context
            .journal_mut()
            .sload(address, slot)
            .map_err(fatal)?;
        if word.is_cold {
            self.pay(self.prices.cold_storage_additional_cost())?;
        }
        Ok(word.data)
    }

    fn sstore(&mut self, address: Address, slot: U256, value: U256) -> Result<(), StorageError> {
        self.refuse_static()?;
        // EIP-2200: a frame that only has the stipend may not write.
        if self.gas.remaining() <= self.prices.call_stipend() {
            return Err(StorageError::OutOfGas);
        }
        self.pay(self.prices.sstore_static_gas())?;
        self.load(address)?;
        let journal = self.context.journal_mut();
        // Changes of untouched accounts are not committed.
        journal.touch_account(address);
        let change = journal.sstore(address, slot, value).map_err(fatal)?;
        let gas = self
            .prices
            .sstore_dynamic_gas(true, &change.data, change.is_cold);
        self.pay(gas)?;
        self.gas
            .record_refund(self.prices.sstore_refund(true, &change.data));
        Ok(())
    }

    fn tload(&mut self, address: Address, slot: U256) -> Result<U256, StorageError> {
        self.pay(TRANSIENT_GAS)?;
        Ok(self.context.journal_mut().tload(address, slot))
    }

    fn tstore(&mut self, address: Address, slot: U256, value: U256) -> Result<(), StorageError> {
        self.refuse_static()?;
        self.pay(TRANSIENT_GAS)?;
        self.context.journal_mut().tstore(address, slot, value);
        Ok(())
    }

    fn blob(&mut self, address: Address) -> Result<Bytes, StorageError> {
        let code = self.load_blob(address)?;
        let words = (code.len() as u64).div_ceil(32);
        self.pay(words.saturating_mul(COPY_GAS))?;
        match code.split_first() {
            Some((&BLOB_MARK, _)) => Ok(code.slice(1..)),
            _ => Ok(Bytes::new()),
        }
    }

    fn put_blob(&mut self, address: Address, bytes: &[u8]) -> Result<(), StorageError> {
        self.refuse_static()?;
        if bytes.is_empty() {
            self.pay(BLOB_CLEAR_GAS)?;
        } else {
            let kept = (bytes.len() as u64).saturating_mul(BLOB_BYTE_GAS);
            self.pay(BLOB_GAS.saturating_add(kept))?;
        }
        // Loaded with its code: undoing the write brings the former code back.
        self.load_blob(address)?;
        let code = if bytes.is_empty() {
            Bytecode::default()
        } else {
            Bytecode::new_legacy([&[BLOB_MARK], bytes].concat().into())
        };
        self.context.journal_mut().set_code(address, code);
        Ok(())
    }

    fn emit(&mut self, address: Address, log: LogData) -> Result<(), StorageError> {
        self.refuse_static()?;
        let topics = u8::try_from(log.topics().len()).map_err(|_| {
            StorageError::Fatal(format!("event with {} topics", log.topics().len()))
        })?;
        let bytes = log.data.len() as u64;
        self.pay(LOG_GAS.saturating_add(self.prices.log_cost(topics, bytes)))?;
        self.context.journal_mut().log(Log { address, data: log });
        Ok(())
    }

    fn balance(&mut self, address: Address) -> Result<U256, StorageError> {
        self.pay(self.prices.warm_storage_read_cost())?;
        let account = self
            .context
            .journal_mut()
            .load_account(address)
            .map_err(fatal)?;
        let (balance, cold) = (account.data.info.balance, account.is_cold);
        if cold {
            self.pay(self.prices.cold_account_additional_cost())?;
        }
        Ok(balance)
    }

    fn transfer(&mut self, from: Address, to: Address, amount: U256) -> Result<bool, StorageError> {
        self.refuse_static()?;
        self.pay(TRANSFER_GAS)?;
        match self.context.journal_mut().transfer(from, to, amount) {
            Ok(None) => Ok(true),
            Ok(Some(TransferError::OutOfFunds)) => Ok(false),
            Ok(Some(other)) => Err(StorageError::Fatal(format!(
                "transfer of {amount} wei from {from} to {to}: {other:?}"
            ))),
            Err(error) => Err(fatal(error)),
        }
    }

    fn charge(&mut self, gas: u64) -> Result<(), StorageError> {
        self.pay(gas)
    }

    fn env(&self) -> &Env {
        self.env
    }

    fn is_static(&self) -> bool {
        self.is_static
    }

    fn checkpoint(&mut self) -> usize {
        let checkpoint = self.context.journal_mut().checkpoint();
        self.checkpoints.push((checkpoint, self.gas.refunded()));
        self.checkpoints.len().saturating_sub(1)
    }

    fn revert_to(&mut self, checkpoint: usize) {
        while self.checkpoints.len() > checkpoint {
            if let Some((at, refund)) = self.checkpoints.pop() {
                self.context.journal_mut().checkpoint_revert(at);
                self.gas.set_refund(refund);
            }
        }
    }

    fn commit_to(&mut self, checkpoint: usize) {
        while self.checkpoints.len() > checkpoint {
            self.checkpoints.pop();
            self.context.journal_mut().checkpoint_commit();
        }
    }
}

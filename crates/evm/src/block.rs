//! Execution of one block: begin_block, transactions, end_block, diff.

use std::sync::Arc;

use alloy_consensus::Transaction as _;
use alloy_primitives::{Address, B256, Bytes, KECCAK256_EMPTY, Log, U256, keccak256};
use assay_modules::{GenesisParams, Modules};
use assay_storage::{Storage, StorageError};
use assay_types::{AccountRecord, Recovered, StateDiff, StateView};
use revm::context::{BlockEnv, CfgEnv, Context, Evm, Journal, TxEnv};
use revm::context_interface::JournalTr;
use revm::context_interface::result::{ExecutionResult, Output};
use revm::handler::EthFrame;
use revm::handler::instructions::EthInstructions;
use revm::interpreter::Gas;
use revm::interpreter::interpreter::EthInterpreter;
use revm::{ExecuteEvm, MainBuilder, MainContext};

use crate::adapter::JournalStorage;
use crate::environment::transaction_env;
use crate::error::{Subject, translate};
use crate::overlay::Overlay;
use crate::precompile::ModulePrecompiles;
use crate::{BlockContext, ExecutionError, InvalidReason, MODULE_CODE, SYSTEM_GAS};

pub(crate) type ModuleContext<'a> =
    Context<BlockEnv, TxEnv, CfgEnv, Overlay<'a>, Journal<Overlay<'a>>, ()>;
pub(crate) type ModuleEvm<'a> = Evm<
    ModuleContext<'a>,
    (),
    EthInstructions<EthInterpreter, ModuleContext<'a>>,
    ModulePrecompiles,
    EthFrame<EthInterpreter>,
>;

/// What a transaction did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TransactionOutcome {
    /// False when it reverted or halted.
    pub success: bool,
    /// Gas used after refunds.
    pub gas_used: u64,
    /// Events in order; empty on failure.
    pub logs: Vec<Log>,
    /// Return or revert data.
    pub output: Bytes,
    /// Contract that a successful creation deployed.
    pub created: Option<Address>,
    /// Why it halted, for logs and tests.
    pub halt: Option<String>,
}

/// Executes the transactions of one block over a read-only view of the parent state.
///
/// Order of calls: [`begin`](Self::begin) once, [`transact`](Self::transact) per transaction,
/// [`end`](Self::end) once, [`finish`](Self::finish). Nothing reaches the database.
pub struct BlockExecutor<'a> {
    evm: ModuleEvm<'a>,
    block: BlockContext,
    gas_used: u64,
    system_logs: Vec<Log>,
}

impl std::fmt::Debug for BlockExecutor<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("BlockExecutor")
            .field("block", &self.block)
            .field("gas_used", &self.gas_used)
            .finish_non_exhaustive()
    }
}

pub(crate) fn build<'a>(
    modules: Arc<Modules>,
    view: &'a dyn StateView,
    block: &BlockContext,
    config: CfgEnv,
) -> ModuleEvm<'a> {
    let precompiles = ModulePrecompiles::new(modules, block.module_env());
    Context::mainnet()
        .with_db(Overlay::new(view))
        .with_block(block.block_env())
        .with_cfg(config)
        .build_mainnet()
        .with_precompiles(precompiles)
}

impl<'a> BlockExecutor<'a> {
    /// Starts a block on the state that `view` shows.
    pub fn new(modules: Arc<Modules>, view: &'a dyn StateView, block: BlockContext) -> Self {
        let config = block.config();
        Self {
            evm: build(modules, view, &block, config),
            block,
            gas_used: 0,
            system_logs: Vec::new(),
        }
    }

    /// System call of every module before the first transaction.
    ///
    /// # Errors
    /// [`ExecutionError::Fatal`] only; it must stop the node.
    pub fn begin(&mut self) -> Result<(), ExecutionError> {
        self.system("begin_block", |modules, storage| {
            modules.begin_block(storage)
        })
    }

    /// System call of every module after the last transaction.
    ///
    /// # Errors
    /// [`ExecutionError::Fatal`] only; it must stop the node.
    pub fn end(&mut self) -> Result<(), ExecutionError> {
        self.system("end_block", |modules, storage| modules.end_block(storage))
    }

    /// Runs one transaction and keeps its effects.
    ///
    /// # Errors
    /// [`ExecutionError::Invalid`] when it may not be in this block, [`ExecutionError::Fatal`] for database and
    /// invariant failures. The block is unchanged in both cases.
    pub fn transact(
        &mut self,
        transaction: &Recovered,
    ) -> Result<TransactionOutcome, ExecutionError> {
        let left = self.block.gas_limit.saturating_sub(self.gas_used);
        let gas = transaction.gas_limit();
        if gas > left {
            return Err(ExecutionError::Invalid(InvalidReason::BlockGas {
                gas,
                limit: left,
            }));
        }
        let result = self.evm.transact_one(transaction_env(transaction));
        let state = self.evm.finalize();
        let result = result.map_err(|error| {
            let subject = Subject {
                sender: transaction.sender(),
                gas,
                cap: transaction.max_fee_per_gas(),
                base_fee: self.block.base_fee,
                block_gas: left,
                size: transaction.input().len(),
            };
            translate(error, &subject)
        })?;
        self.evm
            .ctx
            .journaled_state
            .db_mut()
            .commit(state)
            .map_err(|error| ExecutionError::Fatal(error.to_string()))?;
        let outcome = outcome(result);
        self.gas_used = self.gas_used.saturating_add(outcome.gas_used);
        Ok(outcome)
    }

    /// Gas used by the transactions so far.
    pub const fn gas_used(&self) -> u64 {
        self.gas_used
    }

    /// Next nonce of an account as the block sees it now.
    ///
    /// # Errors
    /// [`ExecutionError::Fatal`] when the database fails.
    pub fn nonce(&mut self, address: Address) -> Result<u64, ExecutionError> {
        self.evm
            .ctx
            .journaled_state
            .db_mut()
            .account(address)
            .map(|account| account.map_or(0, |account| account.nonce))
            .map_err(|error| ExecutionError::Fatal(error.to_string()))
    }

    /// Checks the invariants of all modules on the state so far; changes nothing.
    ///
    /// # Errors
    /// The module's description of the first violation.
    pub fn check_invariants(&mut self) -> Result<(), String> {
        let modules = self.evm.precompiles.modules();
        let env = self.evm.precompiles.env().clone();
        let mut storage = JournalStorage::new(&mut self.evm.ctx, &env, Gas::new(u64::MAX), true);
        let result = modules.check_invariants(&mut storage);
        storage.close();
        let _ = self.evm.finalize();
        result
    }

    /// The block's changes and the events of its system calls.
    pub fn finish(self) -> (StateDiff, Vec<Log>) {
        let overlay = self.evm.ctx.journaled_state.database;
        (overlay.into_diff(), self.system_logs)
    }

    fn system(
        &mut self,
        name: &str,
        call: impl FnOnce(&Modules, &mut dyn Storage) -> Result<(), StorageError>,
    ) -> Result<(), ExecutionError> {
        let number = self.block.number;
        let fatal =
            |detail: String| ExecutionError::Fatal(format!("{name} of block {number}: {detail}"));
        let logs = system_call(&mut self.evm, call).map_err(fatal)?;
        self.system_logs.extend(logs);
        Ok(())
    }
}

fn system_call(
    evm: &mut ModuleEvm<'_>,
    call: impl FnOnce(&Modules, &mut dyn Storage) -> Result<(), StorageError>,
) -> Result<Vec<Log>, String> {
    let modules = evm.precompiles.modules();
    let env = evm.precompiles.env().clone();
    let mut storage = JournalStorage::new(&mut evm.ctx, &env, Gas::new(SYSTEM_GAS), false);
    let result = call(&modules, &mut storage);
    storage.close();
    let logs = evm.ctx.journaled_state.take_logs();
    let state = evm.finalize();
    result.map_err(|error| error.to_string())?;
    evm.ctx
        .journaled_state
        .db_mut()
        .commit(state)
        .map_err(|error| error.to_string())?;
    Ok(logs)
}

pub(crate) fn outcome(result: ExecutionResult) -> TransactionOutcome {
    let gas_used = result.tx_gas_used();
    match result {
        ExecutionResult::Success { logs, output, .. } => {
            let created = match &output {
                Output::Create(_, address) => *address,
                Output::Call(_) => None,
            };
            TransactionOutcome {
                success: true,
                gas_used,
                logs,
                output: output.into_data(),
                created,
                halt: None,
            }
        }
        ExecutionResult::Revert { output, .. } => TransactionOutcome {
            success: false,
            gas_used,
            logs: Vec::new(),
            output,
            created: None,
            halt: None,
        },
        ExecutionResult::Halt { reason, .. } => TransactionOutcome {
            success: false,
            gas_used,
            logs: Vec::new(),
            output: Bytes::new(),
            created: None,
            halt: Some(reason.to_string()),
        },
    }
}

/// Builds the state of block 0.
pub struct GenesisBuilder<'a> {
    executor: BlockExecutor<'a>,
}

impl std::fmt::Debug for GenesisBuilder<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("GenesisBuilder").finish_non_exhaustive()
    }
}

impl<'a> GenesisBuilder<'a> {
    /// Starts on an empty state with all module accounts in place: nonce 1 and code 0xFE, so that EIP-161 never
    /// removes them with their storage.
    ///
    /// # Errors
    /// [`ExecutionError::Fatal`] when the view fails.
    pub fn new(
        modules: Arc<Modules>,
        view: &'a dyn StateView,
        block: BlockContext,
    ) -> Result<Self, ExecutionError> {
        let mut builder = Self {
            executor: BlockExecutor::new(modules, view, block),
        };
        for address in Modules::addresses() {
            builder.account(*address, 1, U256::ZERO, Bytes::from_static(&MODULE_CODE))?;
        }
        Ok(builder)
    }

    /// Adds an account or a predeployed contract.
    ///
    /// # Errors
    /// [`ExecutionError::Fatal`] when the view fails.
    pub fn account(
        &mut self,
        address: Address,
        nonce: u64,
        balance: U256,
        code: Bytes,
    ) -> Result<(), ExecutionError> {
        let code_hash: B256 = if code.is_empty() {
            KECCAK256_EMPTY
        } else {
            keccak256(&code)
        };
        let record = AccountRecord {
            nonce,
            balance,
            code_hash,
        };
        let code = (!code.is_empty()).then_some(code);
        self.executor
            .evm
            .ctx
            .journaled_state
            .db_mut()
            .set_account(address, record, code)
            .map_err(|error| ExecutionError::Fatal(error.to_string()))
    }

    /// Lets the modules write their first state, and returns all of it.
    ///
    /// # Errors
    /// [`ExecutionError::Fatal`] when a module refuses the parameters.
    pub fn finish(
        mut self,
        params: &GenesisParams,
    ) -> Result<(StateDiff, Vec<Log>), ExecutionError> {
        self.executor.system("genesis", |modules, storage| {
            modules.genesis(storage, params)
        })?;
        Ok(self.executor.finish())
    }
}

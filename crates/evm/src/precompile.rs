//! Modules as stateful precompiles: the duties of specification chain.md section 7.2, in order.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use alloy_primitives::Bytes;
use assay_modules::{Call, Modules, Outcome};
use assay_storage::Env;
use revm::context_interface::{Cfg, ContextTr, JournalTr};
use revm::handler::{EthPrecompiles, PrecompileProvider};
use revm::interpreter::{CallInputs, Gas, InstructionResult, InterpreterResult};
use revm::primitives::AddressSet;
use revm::primitives::hardfork::SpecId;

use crate::adapter::JournalStorage;
use crate::environment::SPEC;

/// Gas of every module call, and per 32-byte word of its calldata.
const CALL_GAS: u64 = 200;
const WORD_GAS: u64 = 3;

/// Selector of the error `DirectCallOnly()`, the revert data of a delegated call.
pub const DIRECT_CALL_ONLY: [u8; 4] = <DirectCallOnly as alloy_sol_types::SolError>::SELECTOR;

alloy_sol_types::sol! {
    /// A module was reached through `DELEGATECALL` or `CALLCODE`.
    error DirectCallOnly();
}

/// Ethereum's precompiles and the modules.
#[derive(Clone)]
pub(crate) struct ModulePrecompiles {
    modules: Arc<Modules>,
    ethereum: EthPrecompiles,
    warm: AddressSet,
    env: Env,
}

impl std::fmt::Debug for ModulePrecompiles {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ModulePrecompiles").finish_non_exhaustive()
    }
}

impl ModulePrecompiles {
    pub(crate) fn new(modules: Arc<Modules>, env: Env) -> Self {
        let ethereum = EthPrecompiles::new(SPEC);
        let mut warm = AddressSet::default();
        warm.extend(ethereum.warm_addresses().iter().copied());
        warm.extend(Modules::addresses().iter().copied());
        Self {
            modules,
            ethereum,
            warm,
            env,
        }
    }

    pub(crate) const fn env(&self) -> &Env {
        &self.env
    }

    pub(crate) fn modules(&self) -> Arc<Modules> {
        Arc::clone(&self.modules)
    }
}

impl<CTX> PrecompileProvider<CTX> for ModulePrecompiles
where
    CTX: ContextTr<Cfg: Cfg<Spec = SpecId>>,
{
    type Output = InterpreterResult;

    fn set_spec(&mut self, spec: SpecId) -> bool {
        <EthPrecompiles as PrecompileProvider<CTX>>::set_spec(&mut self.ethereum, spec)
    }

    fn run(
        &mut self,
        context: &mut CTX,
        inputs: &CallInputs,
    ) -> Result<Option<InterpreterResult>, String> {
        if !Modules::is_module(&inputs.bytecode_address) {
            return self.ethereum.run(context, inputs);
        }
        let mut gas = Gas::new_with_regular_gas_and_reservoir(inputs.gas_limit, inputs.reservoir);
        // Another account's storage and name must not be driven by module code.
        if inputs.target_address != inputs.bytecode_address {
            return Ok(Some(InterpreterResult::new(
                InstructionResult::Revert,
                Bytes::from_static(&DIRECT_CALL_ONLY),
                gas,
            )));
        }
        let words = (inputs.input.len() as u64).div_ceil(32);
        let entry = CALL_GAS.saturating_add(WORD_GAS.saturating_mul(words));
        if gas.remaining() < entry || !gas.record_regular_cost(entry) {
            return Ok(Some(halt(InstructionResult::PrecompileOOG, gas)));
        }
        let input = inputs.input.bytes(context);
        context
            .journal_mut()
            .load_account(inputs.target_address)
            .map_err(|error| error.to_string())?;
        let mut storage = JournalStorage::new(context, &self.env, gas, inputs.is_static);
        let call = Call {
            target: inputs.target_address,
            caller: inputs.caller,
            value: inputs.call_value(),
            input: &input,
        };
        // A panic in a rule (an overflow check) must cost one transaction, not the node.
        let outcome = catch_unwind(AssertUnwindSafe(|| self.modules.call(&mut storage, call)))
            .unwrap_or_else(|_| {
                Outcome::Fatal(format!("module {} panicked", inputs.target_address))
            });
        storage.close();
        let gas = storage.gas;
        Ok(Some(match outcome {
            Outcome::Return(output) => {
                InterpreterResult::new(InstructionResult::Return, output, gas)
            }
            Outcome::Revert(output) => {
                InterpreterResult::new(InstructionResult::Revert, output, gas)
            }
            Outcome::OutOfGas => halt(InstructionResult::PrecompileOOG, gas),
            Outcome::StaticViolation => halt(InstructionResult::StateChangeDuringStaticCall, gas),
            Outcome::Fatal(error) => return Err(error),
        }))
    }

    fn warm_addresses(&self) -> &AddressSet {
        &self.warm
    }
}

/// An exceptional halt: all gas of the frame is gone.
fn halt(result: InstructionResult, mut gas: Gas) -> InterpreterResult {
    gas.spend_all();
    InterpreterResult::new(result, Bytes::new(), gas)
}

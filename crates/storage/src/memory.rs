//! Storage in memory, for tests of modules without a chain.

use std::collections::BTreeMap;

use alloy_primitives::{Address, Bytes, LogData, U256};

use crate::{Env, Storage, StorageError};

#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct State {
    slots: BTreeMap<(Address, U256), U256>,
    transient: BTreeMap<(Address, U256), U256>,
    balances: BTreeMap<Address, U256>,
    blobs: BTreeMap<Address, Bytes>,
    logs: Vec<(Address, LogData)>,
}

/// An ordered map of slots and balances; checkpoints are copies. Gas is counted by [`Storage::charge`] alone.
#[derive(Clone, Debug)]
pub struct MemoryStorage {
    /// The block that calls see.
    pub env: Env,
    /// Whether writes are refused.
    pub is_static: bool,
    /// Gas that `charge` may still take.
    pub gas: u64,
    state: State,
    checkpoints: Vec<State>,
}

impl Default for MemoryStorage {
    fn default() -> Self {
        Self {
            env: Env::default(),
            is_static: false,
            gas: u64::MAX,
            state: State::default(),
            checkpoints: Vec::new(),
        }
    }
}

impl MemoryStorage {
    /// Sets a native balance.
    pub fn set_balance(&mut self, address: Address, amount: U256) {
        self.state.balances.insert(address, amount);
    }

    /// Sum of all native balances.
    pub fn supply(&self) -> U256 {
        self.state
            .balances
            .values()
            .fold(U256::ZERO, |sum, balance| sum.saturating_add(*balance))
    }

    /// Logs since the start or the last [`take_logs`](Self::take_logs).
    pub fn logs(&self) -> &[(Address, LogData)] {
        &self.state.logs
    }

    /// Removes and returns the logs.
    pub fn take_logs(&mut self) -> Vec<(Address, LogData)> {
        core::mem::take(&mut self.state.logs)
    }

    /// Slots that are not zero, in order.
    pub fn slots(&self) -> impl Iterator<Item = (&(Address, U256), &U256)> {
        self.state.slots.iter()
    }

    /// Bytes kept outside of slots, in order.
    pub fn blobs(&self) -> impl Iterator<Item = (&Address, &Bytes)> {
        self.state.blobs.iter()
    }

    fn check_write(&self) -> Result<(), StorageError> {
        if self.is_static {
            Err(StorageError::Static)
        } else {
            Ok(())
        }
    }
}

fn put(map: &mut BTreeMap<(Address, U256), U256>, key: (Address, U256), value: U256) {
    if value.is_zero() {
        map.remove(&key);
    } else {
        map.insert(key, value);
    }
}

impl Storage for MemoryStorage {
    fn sload(&mut self, address: Address, slot: U256) -> Result<U256, StorageError> {
        Ok(self
            .state
            .slots
            .get(&(address, slot))
            .copied()
            .unwrap_or_default())
    }

    fn sstore(&mut self, address: Address, slot: U256, value: U256) -> Result<(), StorageError> {
        self.check_write()?;
        put(&mut self.state.slots, (address, slot), value);
        Ok(())
    }

    fn tload(&mut self, address: Address, slot: U256) -> Result<U256, StorageError> {
        Ok(self
            .state
            .transient
            .get(&(address, slot))
            .copied()
            .unwrap_or_default())
    }

    fn tstore(&mut self, address: Address, slot: U256, value: U256) -> Result<(), StorageError> {
        self.check_write()?;
        put(&mut self.state.transient, (address, slot), value);
        Ok(())
    }

    fn blob(&mut self, address: Address) -> Result<Bytes, StorageError> {
        Ok(self.state.blobs.get(&address).cloned().unwrap_or_default())
    }

    fn put_blob(&mut self, address: Address, bytes: &[u8]) -> Result<(), StorageError> {
        self.check_write()?;
        if bytes.is_empty() {
            self.state.blobs.remove(&address);
        } else {
            let bytes = Bytes::copy_from_slice(bytes);
            self.state.blobs.insert(address, bytes);
        }
        Ok(())
    }

    fn emit(&mut self, address: Address, log: LogData) -> Result<(), StorageError> {
        self.check_write()?;
        self.state.logs.push((address, log));
        Ok(())
    }

    fn balance(&mut self, address: Address) -> Result<U256, StorageError> {
        Ok(self
            .state
            .balances
            .get(&address)
            .copied()
            .unwrap_or_default())
    }

    fn transfer(&mut self, from: Address, to: Address, amount: U256) -> Result<bool, StorageError> {
        self.check_write()?;
        let Some(rest) = self.balance(from)?.checked_sub(amount) else {
            return Ok(false);
        };
        self.state.balances.insert(from, rest);
        let Some(sum) = self.balance(to)?.checked_add(amount) else {
            return Err(StorageError::Fatal(format!("balance of {to} overflows")));
        };
        self.state.balances.insert(to, sum);
        Ok(true)
    }

    fn charge(&mut self, gas: u64) -> Result<(), StorageError> {
        self.gas = self.gas.checked_sub(gas).ok_or(StorageError::OutOfGas)?;
        Ok(())
    }

    fn env(&self) -> &Env {
        &self.env
    }

    fn is_static(&self) -> bool {
        self.is_static
    }

    fn checkpoint(&mut self) -> usize {
        self.checkpoints.push(self.state.clone());
        self.checkpoints.len().saturating_sub(1)
    }

    fn revert_to(&mut self, checkpoint: usize) {
        if let Some(state) = self.checkpoints.get(checkpoint) {
            self.state = state.clone();
            self.checkpoints.truncate(checkpoint);
        }
    }

    fn commit_to(&mut self, checkpoint: usize) {
        self.checkpoints.truncate(checkpoint);
    }
}

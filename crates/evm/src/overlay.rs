//! Writes of the block so far, over a read-only view of the parent state.

use alloy_primitives::{Address, B256, Bytes, KECCAK256_EMPTY, U256};
use assay_types::{AccountChange, AccountRecord, StateDiff, StateView, ViewError};
use revm::database_interface::{DBErrorMarker, Database};
use revm::primitives::HashMap;
use revm::state::{AccountInfo, Bytecode, EvmState};

/// A failure of the view, as the EVM wants it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(transparent)]
pub(crate) struct OverlayError(#[from] pub(crate) ViewError);

impl DBErrorMarker for OverlayError {}

#[derive(Debug, Default)]
struct Entry {
    account: Option<AccountRecord>,
    changed: bool,
    wiped: bool,
    slots: HashMap<U256, Word>,
}

#[derive(Clone, Copy, Debug)]
struct Word {
    value: U256,
    changed: bool,
}

/// Cache and write buffer of one block (or one call).
pub(crate) struct Overlay<'a> {
    view: &'a dyn StateView,
    entries: HashMap<Address, Entry>,
    codes: HashMap<B256, Bytecode>,
    new_codes: Vec<B256>,
}

impl std::fmt::Debug for Overlay<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Overlay")
            .field("accounts", &self.entries.len())
            .finish_non_exhaustive()
    }
}

impl<'a> Overlay<'a> {
    pub(crate) fn new(view: &'a dyn StateView) -> Self {
        Self {
            view,
            entries: HashMap::default(),
            codes: HashMap::default(),
            new_codes: Vec::new(),
        }
    }

    fn entry(&mut self, address: Address) -> Result<&mut Entry, OverlayError> {
        use revm::primitives::hash_map::Entry as Place;
        match self.entries.entry(address) {
            Place::Occupied(place) => Ok(place.into_mut()),
            Place::Vacant(place) => Ok(place.insert(Entry {
                account: self.view.account(&address)?,
                ..Entry::default()
            })),
        }
    }

    /// The account as the block sees it now.
    pub(crate) fn account(
        &mut self,
        address: Address,
    ) -> Result<Option<AccountRecord>, OverlayError> {
        Ok(self.entry(address)?.account)
    }

    /// Sets an account from outside of any transaction (genesis, overrides of a call).
    pub(crate) fn set_account(
        &mut self,
        address: Address,
        record: AccountRecord,
        code: Option<Bytes>,
    ) -> Result<(), OverlayError> {
        if let Some(code) = code {
            // Invalid EIP-7702 designators are kept as plain code.
            let code = Bytecode::new_raw_checked(code.clone())
                .unwrap_or_else(|_| Bytecode::new_legacy(code));
            self.codes.insert(record.code_hash, code);
            self.new_codes.push(record.code_hash);
        }
        let entry = self.entry(address)?;
        entry.account = Some(record);
        entry.changed = true;
        Ok(())
    }

    /// Sets a word from outside of any transaction (overrides of a call).
    pub(crate) fn set_word(
        &mut self,
        address: Address,
        slot: U256,
        value: U256,
    ) -> Result<(), OverlayError> {
        let word = Word {
            value,
            changed: true,
        };
        self.entry(address)?.slots.insert(slot, word);
        Ok(())
    }

    /// Makes all words of an account zero (state override of a call).
    pub(crate) fn clear_words(&mut self, address: Address) -> Result<(), OverlayError> {
        let entry = self.entry(address)?;
        entry.slots.clear();
        entry.wiped = true;
        Ok(())
    }

    /// Takes over what a transaction did.
    pub(crate) fn commit(&mut self, state: EvmState) -> Result<(), OverlayError> {
        for (address, account) in state {
            if !account.is_touched() {
                continue;
            }
            let info = &account.info;
            let record = AccountRecord {
                nonce: info.nonce,
                balance: info.balance,
                code_hash: if info.code_hash.is_zero() {
                    KECCAK256_EMPTY
                } else {
                    info.code_hash
                },
            };
            let gone = account.is_selfdestructed() || record.is_empty();
            if !gone
                && let Some(code) = &info.code
                && !code.is_empty()
                && !self.codes.contains_key(&record.code_hash)
            {
                self.codes.insert(record.code_hash, code.clone());
                self.new_codes.push(record.code_hash);
            }
            let entry = self.entry(address)?;
            if gone {
                if entry.account.is_some() || entry.changed {
                    entry.changed = true;
                }
                entry.account = None;
                entry.wiped = true;
                entry.slots.clear();
                continue;
            }
            if account.is_created() {
                entry.slots.clear();
                entry.wiped = true;
            }
            if entry.account != Some(record) {
                entry.account = Some(record);
                entry.changed = true;
            }
            for (slot, word) in account.changed_storage_slots() {
                let word = Word {
                    value: word.present_value,
                    changed: true,
                };
                entry.slots.insert(*slot, word);
                entry.changed = true;
            }
        }
        Ok(())
    }

    /// All changes since the parent state, ordered.
    pub(crate) fn into_diff(self) -> StateDiff {
        let mut diff = StateDiff::default();
        for (address, entry) in self.entries {
            if !entry.changed {
                continue;
            }
            let slots = entry
                .slots
                .into_iter()
                .filter(|(_, word)| word.changed)
                .map(|(slot, word)| (slot, word.value))
                .collect();
            diff.accounts.insert(
                address,
                AccountChange {
                    account: entry.account,
                    wiped: entry.wiped,
                    slots,
                },
            );
        }
        for hash in self.new_codes {
            if let Some(code) = self.codes.get(&hash) {
                diff.code.insert(hash, code.original_bytes());
            }
        }
        diff
    }
}

impl Database for Overlay<'_> {
    type Error = OverlayError;

    fn basic(&mut self, address: Address) -> Result<Option<AccountInfo>, OverlayError> {
        Ok(self.account(address)?.map(|record| AccountInfo {
            balance: record.balance,
            nonce: record.nonce,
            code_hash: record.code_hash,
            account_id: None,
            code: (record.code_hash == KECCAK256_EMPTY).then(Bytecode::default),
        }))
    }

    fn code_by_hash(&mut self, hash: B256) -> Result<Bytecode, OverlayError> {
        if let Some(code) = self.codes.get(&hash) {
            return Ok(code.clone());
        }
        let bytes = self.view.code(&hash)?;
        let code = Bytecode::new_raw_checked(bytes.clone())
            .unwrap_or_else(|_| Bytecode::new_legacy(bytes));
        self.codes.insert(hash, code.clone());
        Ok(code)
    }

    fn storage(&mut self, address: Address, slot: U256) -> Result<U256, OverlayError> {
        let view = self.view;
        let entry = self.entry(address)?;
        if let Some(word) = entry.slots.get(&slot) {
            return Ok(word.value);
        }
        let value = if entry.wiped || entry.account.is_none() {
            U256::ZERO
        } else {
            view.slot(&address, &slot)?
        };
        entry.slots.insert(
            slot,
            Word {
                value,
                changed: false,
            },
        );
        Ok(value)
    }

    fn block_hash(&mut self, number: u64) -> Result<B256, OverlayError> {
        Ok(self.view.block_hash(number)?.unwrap_or_default())
    }
}

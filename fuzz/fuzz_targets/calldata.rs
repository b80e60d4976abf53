//! Calls of every module with arbitrary calldata: an answer or a revert, never a panic, never a fatal error.
//!
//! The first byte picks the module; the rest is calldata.
#![no_main]

use std::sync::Arc;

use alloy_primitives::{Address, B256, U256};
use assay_modules::{Arbiter, Call, Case, GenesisParams, ModelInfo, Modules, Outcome, SegmentInfo, Verdict};
use assay_storage::MemoryStorage;

/// Refuses everything: what lies behind it has targets of its own.
struct Refuse;

impl Arbiter for Refuse {
    fn inspect(&self, _: &[u8], _: B256, _: B256) -> Result<ModelInfo, String> {
        Err("no".into())
    }
    fn committed_leaves(&self, _: &[u8], _: u32) -> Result<u64, String> {
        Err("no".into())
    }
    fn segment_of(&self, _: &[u8], _: u32, _: u64) -> Result<SegmentInfo, String> {
        Err("no".into())
    }
    fn judge(&self, _: &Case<'_>) -> Result<Verdict, String> {
        Err("no".into())
    }
    fn gas(&self, _: &[u8], _: &[u8]) -> u64 {
        1
    }
}

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let Some((module, input)) = bytes.split_first() else { return };
    let modules = Modules { arbiter: Arc::new(Refuse) };
    let mut storage = MemoryStorage::default();
    modules.genesis(&mut storage, &GenesisParams::dev()).unwrap();
    let all = Modules::addresses();
    let target = all[usize::from(*module) % all.len()];
    let outcome = modules.call(&mut storage, Call { target, caller: Address::repeat_byte(7), value: U256::ZERO, input });
    assert!(!matches!(outcome, Outcome::Fatal(_)));
});

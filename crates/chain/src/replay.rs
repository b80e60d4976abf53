//! Re-execution of a stored chain from genesis, for audits and crash tests.

use std::sync::Arc;

use assay_modules::Modules;
use assay_state::{BlockRecord, Store};
use assay_types::{Block, Certificate};

use crate::execute::{sealed_header_rlp, verify};
use crate::{ChainError, Genesis, VerifyError};

/// Executes every block of `source` from genesis on in memory, verifying header fields, certificates and state
/// roots; returns the height reached.
///
/// Cost: recovery and execution of every transaction, one after the other.
///
/// # Errors
/// [`ChainError::Verify`] for the first block that is not what execution gives.
pub fn replay(
    source: &Store,
    modules: &Arc<Modules>,
    genesis: &Genesis,
) -> Result<u64, ChainError> {
    let store = Store::in_memory()?;
    let first = genesis.write(modules, &store)?;
    let stored = source.header(0)?.map(|head| head.hash).unwrap_or_default();
    if stored != first.hash {
        return Err(ChainError::GenesisMismatch {
            stored,
            configured: first.hash,
        });
    }
    let (mut parent, mut parent_hash) = (first.header, first.hash);
    let mut number = 0u64;
    while let Some(next) = source.block(number.saturating_add(1))? {
        number = number.saturating_add(1);
        let block = Block::decode_body(
            next.header,
            next.hash,
            &next.body,
            genesis.chain_id,
            crate::accepts_large_calldata,
        )
        .map_err(|source| ChainError::Block { number, source })?;
        let certificate = source.certificate(number)?.unwrap_or_default();
        Certificate::decode(&certificate)
            .and_then(|it| it.verify(genesis.chain_id, block.hash, genesis.sequencer))
            .map_err(|source| VerifyError::Seal { number, source })?;
        let view = store.view()?;
        let mut executed = verify(
            modules,
            &view,
            &parent,
            parent_hash,
            &block,
            genesis.chain_id,
            genesis.sequencer,
        )?;
        let staged = store.stage(std::mem::take(&mut executed.diff))?;
        if staged.root() != block.header.state_root {
            return Err(VerifyError::Field {
                number,
                field: "stateRoot",
                found: block.header.state_root.to_string(),
                want: staged.root().to_string(),
            }
            .into());
        }
        store.commit(
            staged,
            &BlockRecord {
                number,
                hash: block.hash,
                header_rlp: sealed_header_rlp(&block.header),
                body: Vec::new(),
                transactions: Vec::new(),
                receipts: &[],
                system_logs: &[],
                certificate,
            },
        )?;
        (parent, parent_hash) = (block.header, block.hash);
    }
    Ok(number)
}

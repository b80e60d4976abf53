//! The pure core: execute transactions on a parent state, and verify that a block is what execution gives.

use std::sync::Arc;

use alloy_consensus::{Header, constants::EMPTY_OMMER_ROOT_HASH};
use alloy_eips::eip2718::Encodable2718 as _;
use alloy_primitives::{B256, Bloom, Log, b256};
use alloy_rlp::{BufMut as _, Encodable as _};
use alloy_trie::root::ordered_trie_root_with_encoder;
use assay_evm::{BlockContext, BlockExecutor, ExecutionError, InvalidReason};
use assay_modules::Modules;
use assay_state::EMPTY_ROOT_HASH;
use assay_types::{
    Block, ExtraData, Recovered, SealingKey, StateDiff, StateView, StoredReceipt, logs_bloom,
    randao_mix,
};

use crate::{VerifyError, next_base_fee};

/// sha256 of the empty string: no execution requests (EIP-7685).
pub(crate) const REQUESTS_HASH: B256 =
    b256!("e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");

/// Smallest gas a transaction can use; less room than this means that the block is full.
const SMALLEST_GAS: u64 = 21_000;

/// Looks at the finished state of a block; an error makes the block fatal.
pub type Inspect<'a> = &'a dyn Fn(&mut BlockExecutor<'_>) -> Result<(), String>;

/// What the execution of a block gave.
#[derive(Clone, Debug, Default)]
pub struct Executed {
    /// Changes of the state.
    pub diff: StateDiff,
    /// Transactions that are in the block.
    pub transactions: Vec<Arc<Recovered>>,
    /// Their receipts.
    pub receipts: Vec<StoredReceipt>,
    /// Events of begin_block and end_block.
    pub system_logs: Vec<Log>,
    /// Gas used by the transactions.
    pub gas_used: u64,
    /// Candidates that were left out, and why.
    pub refused: Vec<(Arc<Recovered>, InvalidReason)>,
}

impl Executed {
    /// Filter over all events of the block.
    pub fn bloom(&self) -> Bloom {
        logs_bloom(
            self.receipts
                .iter()
                .flat_map(|receipt| &receipt.logs)
                .chain(&self.system_logs),
        )
    }
}

/// Executes `candidates` in order on the state that `view` shows: begin_block, transactions, end_block.
///
/// With `strict` the first transaction that may not be in the block is an error; without it is left out and reported
/// in [`Executed::refused`]. `inspect` sees the finished state before it is taken apart (invariant checks).
///
/// # Errors
/// [`VerifyError::Transaction`] (strict only), [`VerifyError::Fatal`].
pub fn execute(
    modules: &Arc<Modules>,
    view: &dyn StateView,
    context: &BlockContext,
    candidates: impl IntoIterator<Item = Arc<Recovered>>,
    strict: bool,
    inspect: Option<Inspect<'_>>,
) -> Result<Executed, VerifyError> {
    let number = context.number;
    let fatal = |error: ExecutionError| VerifyError::Fatal {
        number,
        detail: error.to_string(),
    };
    let mut executor = BlockExecutor::new(Arc::clone(modules), view, context.clone());
    executor.begin().map_err(fatal)?;
    let mut done = Executed::default();
    for (index, transaction) in candidates.into_iter().enumerate() {
        let room = context.gas_limit.saturating_sub(executor.gas_used());
        if !strict && room < SMALLEST_GAS {
            break;
        }
        match executor.transact(&transaction) {
            Ok(outcome) => {
                done.receipts.push(StoredReceipt {
                    kind: u8::from(transaction.tx_type()),
                    sender: transaction.sender(),
                    success: outcome.success,
                    gas_used: outcome.gas_used,
                    cumulative_gas_used: executor.gas_used(),
                    effective_gas_price: transaction.gas_price(context.base_fee),
                    created: outcome.created.unwrap_or_default(),
                    logs: outcome.logs,
                });
                done.transactions.push(transaction);
            }
            Err(ExecutionError::Invalid(reason)) if strict => {
                return Err(VerifyError::Transaction {
                    number,
                    index,
                    reason,
                });
            }
            Err(ExecutionError::Invalid(reason)) => done.refused.push((transaction, reason)),
            Err(ExecutionError::Fatal(detail)) if strict => {
                return Err(VerifyError::Fatal { number, detail });
            }
            // While building, a transaction that breaks a module is left out: one sender must not stop the chain.
            Err(ExecutionError::Fatal(detail)) => {
                tracing::error!(target: "assay::chain", hash = %transaction.hash(), detail, "transaction left out");
                done.refused
                    .push((transaction, InvalidReason::Other(detail)));
            }
        }
    }
    executor.end().map_err(fatal)?;
    done.gas_used = executor.gas_used();
    if let Some(inspect) = inspect {
        inspect(&mut executor).map_err(|detail| VerifyError::Fatal { number, detail })?;
    }
    (done.diff, done.system_logs) = executor.finish();
    Ok(done)
}

/// Checks a solo block against its parent and executes it.
///
/// The caller compares the state root of the returned diff with `block.header.state_root`, as the trie belongs to
/// the store.
///
/// # Errors
/// The first field that differs, with both values; the first bad transaction; or a fatal failure.
pub fn verify(
    modules: &Arc<Modules>,
    view: &dyn StateView,
    parent: &Header,
    parent_hash: B256,
    block: &Block,
    chain_id: u64,
    sequencer: alloy_primitives::Address,
) -> Result<Executed, VerifyError> {
    let header = &block.header;
    let number = header.number;
    let extra = ExtraData::decode(&header.extra_data)
        .map_err(|source| VerifyError::Block { number, source })?;
    let parent_ms = Block::new(parent.clone(), Vec::new(), Default::default()).timestamp();
    SealingKey::verify_reveal(sequencer, chain_id, 0, number, &block.reveal)
        .map_err(|source| VerifyError::Seal { number, source })?;

    let check = Check { number };
    check.equal("number", number, parent.number.saturating_add(1))?;
    check.equal("parentHash", header.parent_hash, parent_hash)?;
    check.equal("gasLimit", header.gas_limit, parent.gas_limit)?;
    check.equal(
        "baseFeePerGas",
        header.base_fee_per_gas,
        Some(next_base_fee(parent)),
    )?;
    check.equal(
        "mixHash",
        header.mix_hash,
        randao_mix(parent.mix_hash, &block.reveal),
    )?;
    check.equal("extraData", extra, ExtraData::solo(number, extra.millis))?;
    check.equal("miner", header.beneficiary, sequencer)?;
    if block.timestamp() <= parent_ms {
        return Err(check.differs("timestamp", block.timestamp(), format!("> {parent_ms}")));
    }
    let context = BlockContext {
        number,
        timestamp_ms: block.timestamp().get(),
        gas_limit: header.gas_limit,
        base_fee: next_base_fee(parent),
        prevrandao: parent.mix_hash,
        beneficiary: header.beneficiary,
        chain_id,
    };
    let executed = execute(
        modules,
        view,
        &context,
        block.transactions.iter().cloned(),
        true,
        None,
    )?;
    // One comparison covers every field that execution determines or that is constant.
    let want = assemble(
        parent,
        parent_hash,
        &context,
        &executed,
        header.state_root,
        &block.reveal,
    );
    check.equal("gasUsed", header.gas_used, want.gas_used)?;
    check.equal("logsBloom", header.logs_bloom, want.logs_bloom)?;
    check.equal(
        "transactionsRoot",
        header.transactions_root,
        want.transactions_root,
    )?;
    check.equal("receiptsRoot", header.receipts_root, want.receipts_root)?;
    check.equal("hash", block.hash, want.hash_slow())?;
    Ok(executed)
}

/// The header that execution gives.
pub(crate) fn assemble(
    parent: &Header,
    parent_hash: B256,
    context: &BlockContext,
    executed: &Executed,
    state_root: B256,
    reveal: &[u8],
) -> Header {
    let millis = u16::try_from(context.timestamp_ms % 1_000).unwrap_or(0);
    Header {
        parent_hash,
        ommers_hash: EMPTY_OMMER_ROOT_HASH,
        beneficiary: context.beneficiary,
        state_root,
        transactions_root: transactions_root(&executed.transactions),
        receipts_root: receipts_root(&executed.receipts),
        logs_bloom: executed.bloom(),
        number: context.number,
        gas_limit: context.gas_limit,
        gas_used: executed.gas_used,
        timestamp: context.timestamp_ms / 1_000,
        extra_data: ExtraData::solo(context.number, millis)
            .encode()
            .to_vec()
            .into(),
        mix_hash: randao_mix(parent.mix_hash, reveal),
        base_fee_per_gas: Some(context.base_fee),
        withdrawals_root: Some(EMPTY_ROOT_HASH),
        blob_gas_used: Some(0),
        excess_blob_gas: Some(0),
        parent_beacon_block_root: Some(B256::ZERO),
        requests_hash: Some(REQUESTS_HASH),
        ..Header::default()
    }
}

fn transactions_root(transactions: &[Arc<Recovered>]) -> B256 {
    ordered_trie_root_with_encoder(transactions, |transaction, out| {
        out.put_slice(transaction.raw());
    })
}

fn receipts_root(receipts: &[StoredReceipt]) -> B256 {
    ordered_trie_root_with_encoder(receipts, |receipt, out| {
        receipt.envelope().encode_2718(out);
    })
}

pub(crate) fn sealed_header_rlp(header: &Header) -> Vec<u8> {
    let mut out = Vec::with_capacity(header.length());
    header.encode(&mut out);
    out
}

struct Check {
    number: u64,
}

impl Check {
    fn equal<T: PartialEq + std::fmt::Debug>(
        &self,
        field: &'static str,
        found: T,
        want: T,
    ) -> Result<(), VerifyError> {
        if found == want {
            return Ok(());
        }
        Err(self.differs(field, found, format!("{want:?}")))
    }

    fn differs(
        &self,
        field: &'static str,
        found: impl std::fmt::Debug,
        want: String,
    ) -> VerifyError {
        VerifyError::Field {
            number: self.number,
            field,
            found: format!("{found:?}"),
            want,
        }
    }
}

//! States of earlier blocks, by applying reverse diffs in memory.

use alloy_rlp::Decodable;
use redb::ReadTransaction;

use crate::rows::{AccountRow, Undo};
use crate::view::Overlay;
use crate::{StateError, tables};

/// How many blocks back a state can be rebuilt.
pub const HISTORY_BLOCKS: u64 = 256;

/// Oldest block whose state can be rebuilt from `head`.
pub(crate) fn oldest(transaction: &ReadTransaction, head: u64) -> Result<u64, StateError> {
    let table = transaction.open_table(tables::UNDO)?;
    let first = redb::ReadableTable::first(&table)?.map(|(key, _)| key.value());
    // The undo row of block k leads from k to k - 1.
    Ok(first.map_or(head, |first| first.saturating_sub(1)))
}

/// What to lay over the state of `head` to see the state of `number`.
pub(crate) fn overlay(
    transaction: &ReadTransaction,
    number: u64,
    head: u64,
) -> Result<Overlay, StateError> {
    let table = transaction.open_table(tables::UNDO)?;
    let mut overlay = Overlay::default();
    // From the newest down: the oldest reverse diff that names a value is the one that holds.
    for block in (number.saturating_add(1)..=head).rev() {
        let row = table.get(block)?.ok_or_else(|| StateError::Corrupt {
            table: "undo",
            detail: format!("no reverse diff of block {block}"),
        })?;
        let undo = Undo::decode(&mut row.value()).map_err(|error| StateError::Corrupt {
            table: "undo",
            detail: error.to_string(),
        })?;
        for account in undo.accounts {
            let before = match account.row.len() {
                0 => None,
                _ => {
                    let bytes: &[u8; 104] =
                        account
                            .row
                            .as_ref()
                            .try_into()
                            .map_err(|_| StateError::Corrupt {
                                table: "undo",
                                detail: format!("account row of {} bytes", account.row.len()),
                            })?;
                    Some(AccountRow::decode(bytes))
                }
            };
            overlay.accounts.insert(account.address, before);
            for slot in account.slots {
                overlay
                    .slots
                    .insert((account.address, slot.slot), slot.value);
            }
        }
    }
    Ok(overlay)
}

//! redb tables (specification chain.md section 8.1). All integers in keys are big endian.

use redb::TableDefinition;

type Bytes = &'static [u8];

/// address (20) -> [`crate::rows::AccountRow`] (104).
pub(crate) const ACCOUNT: TableDefinition<'_, [u8; 20], [u8; 104]> =
    TableDefinition::new("account");
/// address (20), slot (32) -> word (32); zero words are not stored.
pub(crate) const SLOT: TableDefinition<'_, [u8; 52], [u8; 32]> = TableDefinition::new("slot");
/// code hash -> code.
pub(crate) const CODE: TableDefinition<'_, [u8; 32], Bytes> = TableDefinition::new("code");
/// 0x00, nibbles | 0x01, keccak256(address) (32), nibbles -> RLP of the node.
pub(crate) const NODE: TableDefinition<'_, Bytes, Bytes> = TableDefinition::new("node");
/// number -> block hash (32), RLP of the header.
pub(crate) const HEADER: TableDefinition<'_, u64, Bytes> = TableDefinition::new("header");
/// number -> RLP of the body.
pub(crate) const BODY: TableDefinition<'_, u64, Bytes> = TableDefinition::new("body");
/// number -> RLP of receipts and system logs.
pub(crate) const RECEIPTS: TableDefinition<'_, u64, Bytes> = TableDefinition::new("receipts");
/// number -> encoded certificate.
pub(crate) const CERTIFICATE: TableDefinition<'_, u64, Bytes> = TableDefinition::new("cert");
/// block hash -> number.
pub(crate) const NUMBER: TableDefinition<'_, [u8; 32], u64> = TableDefinition::new("number");
/// transaction hash -> number (8), index (4).
pub(crate) const TRANSACTION: TableDefinition<'_, [u8; 32], [u8; 12]> = TableDefinition::new("tx");
/// address (20), first topic or zero (32), number (8) -> nothing.
pub(crate) const LOG_INDEX: TableDefinition<'_, [u8; 60], ()> = TableDefinition::new("logidx");
/// number -> RLP of [`crate::rows::Undo`], last 256 blocks.
pub(crate) const UNDO: TableDefinition<'_, u64, Bytes> = TableDefinition::new("undo");
/// name -> value: `schema`, `head`.
pub(crate) const META: TableDefinition<'_, &str, Bytes> = TableDefinition::new("meta");

/// Version of the layout above; an older file is refused, never converted silently.
pub(crate) const SCHEMA: u64 = 1;
/// Row of [`META`] with the schema version, 8 bytes.
pub(crate) const META_SCHEMA: &str = "schema";
/// Row of [`META`] with the number of the newest block, 8 bytes.
pub(crate) const META_HEAD: &str = "head";

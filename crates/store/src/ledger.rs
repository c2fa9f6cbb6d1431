//! The ledger: one row for each charge, written in batches from a journal or an outbox.

use super::StoreError;
use async_trait::async_trait;
use domain::charge::{Adjustment, Charge};
use jiff::Timestamp;
use serde::Serialize;
use uuid::Uuid;

/// Writes the ledger, and reads its position in a journal.
#[async_trait]
pub trait Ledger: Send + Sync + 'static {
    /// Writes a batch in order, in one transaction with the position in the journal up to which the ledger is
    /// written then.
    async fn write_batch(
        &self,
        batch: &[Entry],
        position: Option<JournalPosition>,
    ) -> Result<(), StoreError>;

    /// The position up to which the ledger has the journal with this id.
    async fn position_in(&self, log: Uuid) -> Result<Option<u64>, StoreError>;

    /// The journal that the ledger was last written from.
    async fn latest_position(&self) -> Result<Option<JournalPosition>, StoreError>;

    /// Stores an entry that cannot be read or written, and the reason, for an operator to examine. Storing
    /// the same entry again changes nothing.
    async fn dead_letter(&self, entry: &str, why: &str, now: Timestamp) -> Result<(), StoreError>;
}

/// An entry of the ledger.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Entry {
    /// A call ended: its ledger row and its rollups. Repeating it changes nothing. In whatever order they
    /// arrive, the real charge replaces one that is `abandoned`, and one that the upstream reported
    /// replaces an estimate.
    Settle(Charge),
    /// An adjustment of the rollups, by a reset. Repeating it changes nothing.
    Adjust(Adjustment),
}

/// A position in a journal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct JournalPosition {
    /// The id of its log.
    pub log: Uuid,
    /// Offset in bytes; everything before it is in the ledger.
    pub position: u64,
}

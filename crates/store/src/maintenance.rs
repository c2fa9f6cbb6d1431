//! Maintenance of the store: the instance lock, partitions, pruning, health.

use super::StoreError;
use async_trait::async_trait;
use domain::day::Day;
use jiff::Timestamp;
use serde::Serialize;

/// Days for which revoked and expired keys are kept; the ledger names their ids for longer.
pub const KEYS_KEPT_DAYS: i64 = 90;
/// Rows of a kind that one [`Maintenance::prune`] deletes: few, so that it does not block other writes for long.
pub const PRUNE_BATCH: u32 = 1000;

/// Maintenance of the store itself.
#[async_trait]
pub trait Maintenance: Send + Sync + 'static {
    /// Becomes the one instance that writes the journal. An instance that held the lock before, and has
    /// lost its connection, can write no more. Commands work without the lock.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`] when another instance holds the lock.
    async fn acquire_instance_lock(&self) -> Result<(), StoreError>;

    /// Lets another instance acquire the instance lock at once. This one must acquire it again before it writes.
    async fn release_instance_lock(&self) -> Result<(), StoreError>;

    /// Deletes expired rows: keys that ended [`KEYS_KEPT_DAYS`] ago, requests for plans that were
    /// superseded as long ago, expired sessions and one-time links, quarters of an hour of past days; and request
    /// ids in the ledger rows of deleted users. The ledger, its daily sums and the audit log stay. At most
    /// [`PRUNE_BATCH`] rows of each; returns the number of rows, so 0
    /// means that nothing is left.
    async fn prune(&self, now: Timestamp) -> Result<u64, StoreError>;

    /// Creates the ledger's partitions of `from` and the week after it, where the ledger has partitions. Has
    /// to be repeated every day; charges of other days are accepted too.
    async fn create_partitions(&self, from: Day) -> Result<(), StoreError>;

    /// Deletes the rows of all days before `before` from the ledger; rollups and adjustments stay. Returns
    /// the number of rows. Does not block writers.
    async fn prune_ledger(&self, before: Day, now: Timestamp) -> Result<u64, StoreError>;

    /// Number of entries that were dead-lettered.
    async fn count_dead_letters(&self) -> Result<u64, StoreError>;

    /// Returns when the store answers and takes writes.
    async fn ping(&self) -> Result<(), StoreError>;

    /// Checks within a second whether the store can be reached. A file always can.
    async fn reach(&self) -> Reach;

    /// Number of connections, in use and in all.
    fn connections(&self) -> Connections;

    /// Closes all connections; no verb may be called afterwards.
    async fn close(&self);
}

/// Reachability of the store, from [`Maintenance::reach`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reach {
    Open,
    /// It refuses connections; the reason.
    Refused(String),
    /// It does not answer: it may be waking up.
    Silent,
}

/// Number of connections of a store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Connections {
    pub in_use: u32,
    pub open: u32,
    pub max: u32,
}

//! Usage according to the ledger and to the rollups, and their comparison.

use super::StoreError;
use async_trait::async_trait;
use domain::charge::Charge;
use domain::day::Day;
use domain::id::{KeyId, RequestId, UserId};
use serde::{Deserialize, Serialize};
use std::collections::HashSet;

/// Reading the ledger and the rollups for counters, checks and exports.
#[async_trait]
pub trait Reconciliation: Send + Sync + 'static {
    /// Returns the usage of users and keys on `from` and later, from the rollups, with adjustments.
    async fn used_since(&self, from: Day) -> Result<Vec<Used>, StoreError>;

    /// Users whose ledger and rollups disagree on a day.
    async fn rollup_drift(&self, day: Day) -> Result<Vec<Drift>, StoreError>;

    /// The day's totals per user and per key, summed from the ledger itself, with adjustments.
    async fn ledger_totals(&self, day: Day) -> Result<Vec<Used>, StoreError>;

    /// The ledger row of a request.
    async fn charge(&self, request: RequestId) -> Result<Option<Charge>, StoreError>;

    /// All ledger rows of a day, in the order of admission. For checks and exports, not for dashboards.
    async fn charges(&self, day: Day) -> Result<Vec<Charge>, StoreError>;

    /// Returns those of the charges that have a row in the ledger.
    async fn recorded(
        &self,
        charges: &[(RequestId, Day)],
    ) -> Result<HashSet<RequestId>, StoreError>;

    /// True when rows of that day were pruned: ledger and rollups cannot be compared then.
    async fn is_ledger_pruned(&self, day: Day) -> Result<bool, StoreError>;
}

/// Tokens and requests used, per user and day; per key where `key` is set.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Used {
    pub user: UserId,
    /// `None` for the whole user.
    pub key: Option<KeyId>,
    pub day: Day,
    pub tokens: u64,
    pub requests: u64,
}

/// A user-day on which ledger and rollups disagree.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Drift {
    pub user: UserId,
    pub day: Day,
    /// Tokens and requests according to the ledger.
    pub ledger: (u64, u64),
    pub rollup: (u64, u64),
}

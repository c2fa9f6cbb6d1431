//! Requests for another plan, which an admin approves or rejects.

use super::StoreError;
use crate::account::by::By;
use crate::account::id::{PlanId, UpgradeId, UserId};
use async_trait::async_trait;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// Asking and deciding. Every change is audited (`upgrade.ask`, `upgrade.approve`,
/// `upgrade.reject`, on `upgrade:ID`).
#[async_trait]
pub trait Upgrades {
    /// Asks for a plan. A user has one pending request at most: asking for the same plan again
    /// returns it, asking for another one replaces it ([`UpgradeStatus::Superseded`]).
    ///
    /// # Errors
    /// [`StoreError::Missing`] when there is no such plan or user.
    async fn ask_upgrade(&self, user: UserId, to: &PlanId, by: &By) -> Result<Upgrade, StoreError>;

    /// At most `limit` requests older than `before`, the newest first.
    async fn upgrades(
        &self,
        status: Option<UpgradeStatus>,
        before: Option<UpgradeId>,
        limit: u32,
    ) -> Result<Vec<Upgrade>, StoreError>;

    /// Approves (the user gets the plan, in the same transaction, and a new version) or rejects.
    /// `None` when there is no such request.
    async fn decide_upgrade(
        &self,
        id: UpgradeId,
        approve: bool,
        by: &By,
    ) -> Result<Option<Decided>, StoreError>;
}

/// One request.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Upgrade {
    pub id: UpgradeId,
    pub user: UserId,
    /// The plan at the time of asking.
    pub from: PlanId,
    pub to: PlanId,
    pub status: UpgradeStatus,
    pub asked_at: Timestamp,
    pub decided_at: Option<Timestamp>,
    /// As [`crate::account::by::Actor`] prints.
    pub decided_by: Option<String>,
}

/// Where a request stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum UpgradeStatus {
    Pending,
    Approved,
    Rejected,
    /// The user asked for another plan instead.
    Superseded,
}

impl UpgradeStatus {
    /// Every status.
    pub const ALL: [Self; 4] = [Self::Pending, Self::Approved, Self::Rejected, Self::Superseded];

    /// The word stored and shown.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Approved => "approved",
            Self::Rejected => "rejected",
            Self::Superseded => "superseded",
        }
    }
}

/// What became of a decision.
#[derive(Debug, Clone, PartialEq)]
pub enum Decided {
    Now(Upgrade),
    /// It was not pending any more; nothing has changed.
    Before(Upgrade),
    /// It is pending, and cannot be approved: the user has another plan by now than at the time of asking,
    /// or the plan asked for is retired. Nothing has changed.
    Outdated(Upgrade),
}

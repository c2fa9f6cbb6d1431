//! Requests for another plan, which an admin approves or rejects.

use super::StoreError;
use async_trait::async_trait;
use domain::actor::AuditContext;
use domain::id::{PlanId, UpgradeId, UserId};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// Making and deciding requests. Every change is audited (`upgrade.ask`, `upgrade.approve`,
/// `upgrade.reject`, on `upgrade:ID`).
#[async_trait]
pub trait Upgrades: Send + Sync + 'static {
    /// Requests a plan for a user. A user has at most one pending request: requesting the same plan again
    /// returns it, requesting another plan replaces it ([`UpgradeStatus::Superseded`]).
    ///
    /// # Errors
    /// [`StoreError::Missing`] when there is no such plan or user.
    async fn request_upgrade(
        &self,
        user: UserId,
        to: &PlanId,
        by: &AuditContext,
    ) -> Result<Upgrade, StoreError>;

    /// At most `limit` requests older than `before`, the newest first.
    async fn upgrades(
        &self,
        status: Option<UpgradeStatus>,
        before: Option<UpgradeId>,
        limit: u32,
    ) -> Result<Vec<Upgrade>, StoreError>;

    /// At most `limit` requests of a user, the newest first.
    async fn upgrades_of(&self, user: UserId, limit: u32) -> Result<Vec<Upgrade>, StoreError>;

    /// The newest request of a user, decided or not.
    async fn latest_upgrade(&self, user: UserId) -> Result<Option<Upgrade>, StoreError>;

    /// Approves a request (the user gets the plan and a new version, in the same transaction) or rejects it.
    /// `None` when there is no such request.
    async fn decide_upgrade(
        &self,
        id: UpgradeId,
        approve: bool,
        by: &AuditContext,
    ) -> Result<Option<Decided>, StoreError>;
}

/// A request for another plan.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Upgrade {
    pub id: UpgradeId,
    pub user: UserId,
    /// The plan at the time of the request.
    pub from: PlanId,
    pub to: PlanId,
    pub status: UpgradeStatus,
    pub asked_at: Timestamp,
    pub decided_at: Option<Timestamp>,
    /// The actor, as displayed by [`domain::actor::Actor`].
    pub decided_by: Option<String>,
}

/// The status of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum UpgradeStatus {
    Pending,
    Approved,
    Rejected,
    /// The user requested another plan instead.
    Superseded,
}

impl UpgradeStatus {
    /// Every status, in the order of declaration.
    pub const ALL: [Self; 4] = [Self::Pending, Self::Approved, Self::Rejected, Self::Superseded];

    /// The word that is stored and shown.
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

/// Outcome of [`Upgrades::decide_upgrade`].
#[derive(Debug, Clone, PartialEq)]
pub enum Decided {
    Now(Upgrade),
    /// It was decided or superseded before; nothing has changed.
    Before(Upgrade),
    /// It is pending, but cannot be approved: the user's plan has changed since the request, or the requested
    /// plan is retired. Nothing has changed.
    Outdated(Upgrade),
}

//! A request for another plan.

use domain::id::{PlanId, UpgradeId, UserId};
use jiff::Timestamp;
use serde::Serialize;
use store::upgrades::{Upgrade, UpgradeStatus};
use utoipa::ToSchema;

/// A request to change to another plan.
#[derive(Serialize, ToSchema)]
pub struct UpgradeView {
    #[schema(value_type = String, format = Uuid)]
    id: UpgradeId,
    #[schema(value_type = String, format = Uuid)]
    user_id: UserId,
    #[schema(value_type = String, example = "baby-free")]
    from: PlanId,
    #[schema(value_type = String, example = "log-min")]
    to: PlanId,
    /// `pending`, `approved`, `rejected`, or `superseded` by a newer request.
    #[schema(value_type = String, example = "pending")]
    status: UpgradeStatus,
    asked_at: Timestamp,
    #[schema(required)]
    decided_at: Option<Timestamp>,
    #[schema(required)]
    decided_by: Option<String>,
}

impl UpgradeView {
    /// The view of a request.
    #[must_use]
    pub fn of(upgrade: Upgrade) -> Self {
        Self {
            id: upgrade.id,
            user_id: upgrade.user,
            from: upgrade.from,
            to: upgrade.to,
            status: upgrade.status,
            asked_at: upgrade.asked_at,
            decided_at: upgrade.decided_at,
            decided_by: upgrade.decided_by,
        }
    }
}

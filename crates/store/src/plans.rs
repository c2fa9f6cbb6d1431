//! Plans: the limits that users subscribe to.

use super::StoreError;
use async_trait::async_trait;
use domain::actor::AuditContext;
use domain::cached_tokens::CachedTokenFraction;
use domain::id::PlanId;
use domain::plan::{Plan, PlanLimits, PolicyChange, Window};
use jiff::tz::TimeZone;
use std::sync::Arc;

/// Reading and changing plans. Every change is audited in its own transaction.
#[async_trait]
pub trait Plans: Send + Sync + 'static {
    /// All plans, the cheapest first.
    async fn plans(&self) -> Result<Vec<Plan>, StoreError>;

    /// The plan with this id.
    async fn plan(&self, id: &PlanId) -> Result<Option<Plan>, StoreError>;

    /// Inserts or updates the configured plans, except those that were changed by
    /// [`Plans::change_plan`] or added by [`Plans::add_plan`]: these stay, and their ids are returned.
    /// Users of a changed plan get a new version.
    async fn sync_plans(
        &self,
        plans: &[Plan],
        by: &AuditContext,
    ) -> Result<Vec<PlanId>, StoreError>;

    /// Adds a plan; false when its id exists, and nothing has changed.
    async fn add_plan(&self, plan: &Plan, by: &AuditContext) -> Result<bool, StoreError>;

    /// Changes a plan; its users get a new version if its limits change. `None` when there is no such
    /// plan.
    async fn change_plan(
        &self,
        id: &PlanId,
        change: &PlanChange,
        by: &AuditContext,
    ) -> Result<Option<Plan>, StoreError>;
}

/// Changes to a plan; `None` leaves a field as it is.
#[derive(Debug, Clone, Default)]
pub struct PlanChange {
    pub name: Option<String>,
    pub price_cents: Option<u32>,
    pub retired: Option<bool>,
    pub tokens_per_day: Option<u64>,
    pub cached_token_fraction: Option<CachedTokenFraction>,
    pub requests_per_day: Option<u64>,
    pub window: Option<Window>,
    pub concurrent_streams: Option<u32>,
    /// `Some(None)` if the plan has every model.
    pub models: Option<Option<Arc<[Arc<str>]>>>,
    pub time_zone: Option<TimeZone>,
    pub policy: PolicyChange,
}

impl PlanChange {
    /// Returns the plan with these changes.
    pub(super) fn applied_to(&self, plan: Plan) -> Plan {
        let Plan { id, name, price_cents, retired, limits } = plan;
        Plan {
            id,
            name: self.name.clone().unwrap_or(name),
            price_cents: self.price_cents.unwrap_or(price_cents),
            retired: self.retired.unwrap_or(retired),
            limits: PlanLimits {
                tokens_per_day: self.tokens_per_day.unwrap_or(limits.tokens_per_day),
                cached_token_fraction: self
                    .cached_token_fraction
                    .unwrap_or(limits.cached_token_fraction),
                requests_per_day: self.requests_per_day.unwrap_or(limits.requests_per_day),
                window: self.window.unwrap_or(limits.window),
                concurrent_streams: self.concurrent_streams.unwrap_or(limits.concurrent_streams),
                models: self.models.clone().unwrap_or(limits.models),
                time_zone: self.time_zone.clone().unwrap_or(limits.time_zone),
                policy: self.policy.applied_to(limits.policy),
            },
        }
    }
}

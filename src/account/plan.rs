//! A plan: what a caller may use in a day, at once, and in a burst.

use super::id::PlanId;
use jiff::tz::TimeZone;
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// What one plan grants. Prices are for display and billing; quotas are in tokens and requests.
#[derive(Debug, Clone, PartialEq)]
pub struct Plan {
    pub id: PlanId,
    /// Shown to people, such as `Baby Free`.
    pub name: String,
    /// Monthly price in US cents.
    pub price_cents: u32,
    /// Nobody can come to it any more; those who have it keep it.
    pub retired: bool,
    pub limits: PlanLimits,
}

/// The limits of a plan. All of them are checked and taken together for each request.
#[derive(Debug, Clone, PartialEq)]
pub struct PlanLimits {
    /// Upstream tokens (prompt, visible completion and reasoning) in one day of `time_zone`.
    pub tokens_per_day: u64,
    /// Admitted requests in one day of `time_zone`.
    pub requests_per_day: u64,
    /// The short-term token bucket, in requests.
    pub window: Window,
    /// Streams that may be open at the same time.
    pub concurrent_streams: u32,
    /// Models the plan may use; `None` means every model of the catalog.
    pub models: Option<Arc<[Arc<str>]>>,
    /// Where the plan's day begins.
    pub time_zone: TimeZone,
}

/// A token bucket of requests: `capacity` at once, refilled evenly over `refill_seconds`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Window {
    pub capacity: u32,
    pub refill_seconds: u32,
}

impl PlanLimits {
    /// Whether the plan includes `model` (the catalog's id, not an alias).
    #[must_use]
    pub fn allows(&self, model: &str) -> bool {
        self.models.as_ref().is_none_or(|models| models.iter().any(|m| &**m == model))
    }
}

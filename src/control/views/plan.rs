//! A plan and its limits, which are public.

use domain::cached_tokens::CachedTokenFraction;
use domain::id::PlanId;
use domain::plan::{Plan, PlanLimits, RequestPolicy, ServerTools, Window, Words};
use jiff::tz::TimeZone;
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use utoipa::ToSchema;

/// A plan with its price and limits.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct PlanView {
    #[schema(value_type = String, example = "leveler")]
    id: PlanId,
    #[schema(example = "Leveler")]
    name: String,
    /// Price per month in US cents.
    #[schema(example = 400)]
    price_cents: u32,
    /// True once the plan is closed to new subscribers.
    retired: bool,
    #[serde(flatten)]
    limits: LimitsView,
}

/// The limits of a plan.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct LimitsView {
    #[schema(example = 5000)]
    max_tokens_per_day: u64,
    /// The part of a cached prompt token that counts against `max_tokens_per_day`, 0 to 1.
    #[schema(value_type = f64, minimum = 0, maximum = 1, example = 1.0)]
    cached_token_fraction: CachedTokenFraction,
    #[schema(example = 100)]
    max_requests_per_day: u64,
    window: WindowView,
    #[schema(example = 50)]
    concurrent_streams: u32,
    /// Model ids; `null` for all models.
    #[schema(required, value_type = Option<Vec<String>>)]
    models: Option<Arc<[Arc<str>]>>,
    /// IANA time zone in which a day begins.
    #[schema(example = "UTC")]
    time_zone: String,
    #[serde(flatten)]
    policy: PolicyView,
}

/// Limits on request features that tokens do not cover.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct PolicyView {
    /// Server-side tools: `allow`, `strip` (remove from the request) or `refuse`.
    #[schema(value_type = String, example = "allow")]
    server_tools: ServerTools,
    /// Maximum number of server-side tool calls per request.
    #[schema(example = 20)]
    max_tool_calls: u32,
    /// Allowed values of `service_tier`; others are removed. `any` allows all.
    #[schema(value_type = Vec<String>)]
    service_tiers: Words,
    /// Allowed image sizes; others are refused.
    #[schema(value_type = Vec<String>)]
    image_sizes: Words,
    /// Allowed image qualities; others are refused.
    #[schema(value_type = Vec<String>)]
    image_qualities: Words,
    /// True if requests may refer to files and other objects in the upstream account.
    account_references: bool,
}

/// The short-term limit: a token bucket of `requests`, refilled over `seconds`.
#[derive(Debug, Clone, Copy, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct WindowView {
    #[schema(minimum = 1, maximum = 1_000_000, example = 100)]
    pub requests: u32,
    #[schema(minimum = 1, maximum = 86_400, example = 60)]
    pub seconds: u32,
}

impl PlanView {
    /// The view of a plan.
    #[must_use]
    pub fn of(plan: Plan) -> Self {
        Self {
            id: plan.id,
            name: plan.name,
            price_cents: plan.price_cents,
            retired: plan.retired,
            limits: LimitsView::of(plan.limits),
        }
    }
}

impl LimitsView {
    /// The view of limits.
    #[must_use]
    pub fn of(limits: PlanLimits) -> Self {
        Self {
            max_tokens_per_day: limits.tokens_per_day,
            cached_token_fraction: limits.cached_token_fraction,
            max_requests_per_day: limits.requests_per_day,
            window: limits.window.into(),
            concurrent_streams: limits.concurrent_streams,
            models: limits.models,
            time_zone: zone_name(&limits.time_zone),
            policy: PolicyView::of(limits.policy),
        }
    }
}

impl PolicyView {
    fn of(policy: RequestPolicy) -> Self {
        Self {
            server_tools: policy.server_tools,
            max_tool_calls: policy.max_tool_calls,
            service_tiers: policy.service_tiers,
            image_sizes: policy.image_sizes,
            image_qualities: policy.image_qualities,
            account_references: policy.account_references,
        }
    }
}

impl From<Window> for WindowView {
    fn from(window: Window) -> Self {
        Self { requests: window.capacity, seconds: window.refill_seconds }
    }
}

fn zone_name(zone: &TimeZone) -> String {
    zone.iana_name().unwrap_or("UTC").to_owned()
}

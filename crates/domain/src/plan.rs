//! A plan: what a caller may use in a day, at once, and in a burst.

use super::cached_tokens::CachedTokenFraction;
use super::id::PlanId;
use jiff::tz::TimeZone;
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// The limits and features of one plan. Prices are for display and billing; quotas are in tokens and
/// requests.
#[derive(Debug, Clone, PartialEq)]
pub struct Plan {
    pub id: PlanId,
    /// Shown to people, such as `Baby Free`.
    pub name: String,
    /// Monthly price in US cents.
    pub price_cents: u32,
    /// Closed to new subscribers; its present users stay on it.
    pub retired: bool,
    pub limits: PlanLimits,
}

/// The limits of a plan. All of them are checked and taken together for each request.
#[derive(Debug, Clone, PartialEq)]
pub struct PlanLimits {
    /// Upstream tokens (prompt, visible completion and reasoning) in one day of `time_zone`.
    pub tokens_per_day: u64,
    /// The part of a cached prompt token that counts against daily limits.
    pub cached_token_fraction: CachedTokenFraction,
    /// Admitted requests in one day of `time_zone`.
    pub requests_per_day: u64,
    /// The short-term token bucket, in requests.
    pub window: Window,
    /// Streams that may be open at the same time.
    pub concurrent_streams: u32,
    /// Models the plan may use; `None` means every model of the catalog.
    pub models: Option<Arc<[Arc<str>]>>,
    /// The time zone whose midnight begins the plan's day.
    pub time_zone: TimeZone,
    /// The allowed features whose cost tokens do not limit.
    pub policy: RequestPolicy,
}

/// The allowed features whose cost tokens do not limit. Stored as JSON; a missing field has its default.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct RequestPolicy {
    pub server_tools: ServerTools,
    /// Calls of tools that one request may allow the upstream; more are cut down to it.
    pub max_tool_calls: u32,
    /// Tiers a request may choose; `any` = all. Others are removed, which leaves the upstream's default.
    pub service_tiers: Words,
    /// Sizes of images; `any` = all. Others are refused.
    pub image_sizes: Words,
    /// Qualities of images; `any` = all. Others are refused.
    pub image_qualities: Words,
    /// True if requests may refer to objects stored in the operator's account, which all callers share.
    pub account_references: bool,
}

/// A list of words, shared by the records that have it.
pub type Words = Arc<[Arc<str>]>;

/// The treatment of tools that the upstream runs and bills by the call.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ServerTools {
    /// Requests with such tools pass unchanged.
    #[default]
    Allow,
    /// They are removed from the request, and the call continues without them.
    Strip,
    /// A request for them is refused.
    Refuse,
}

/// A token bucket of requests: `capacity` at once, refilled evenly over `refill_seconds`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Window {
    pub capacity: u32,
    pub refill_seconds: u32,
}

impl Plan {
    /// True if a user on the plan `current` may be on this one: a retired plan keeps its users and
    /// takes no new ones.
    #[must_use]
    pub fn is_open_to(&self, current: Option<&PlanId>) -> bool {
        !self.retired || current == Some(&self.id)
    }
}

impl PlanLimits {
    /// True if the plan includes `model` (the catalog's id, not an alias).
    #[must_use]
    pub fn allows(&self, model: &str) -> bool {
        self.models.as_ref().is_none_or(|models| models.iter().any(|m| &**m == model))
    }
}

impl Default for RequestPolicy {
    fn default() -> Self {
        let words = |words: &[&str]| words.iter().map(|word| Arc::from(*word)).collect();
        Self {
            server_tools: ServerTools::Allow,
            max_tool_calls: 20,
            service_tiers: words(&["auto", "default", "flex", "standard", "standard_only"]),
            image_sizes: words(&[
                "auto",
                "256x256",
                "512x512",
                "1024x1024",
                "1024x1536",
                "1536x1024",
                "1k",
            ]),
            image_qualities: words(&["auto", "low", "medium", "standard"]),
            account_references: false,
        }
    }
}

impl RequestPolicy {
    /// True if `word` is in the list, or `any` is.
    #[must_use]
    pub fn lists(list: &Words, word: &str) -> bool {
        list.iter().any(|listed| &**listed == "any" || listed.eq_ignore_ascii_case(word))
    }
}

/// Changes to a plan's policy; `None` changes nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PolicyChange {
    pub server_tools: Option<ServerTools>,
    pub max_tool_calls: Option<u32>,
    pub service_tiers: Option<Words>,
    pub image_sizes: Option<Words>,
    pub image_qualities: Option<Words>,
    pub account_references: Option<bool>,
}

impl PolicyChange {
    /// Returns `policy` with these changes made.
    #[must_use]
    pub fn applied_to(&self, policy: RequestPolicy) -> RequestPolicy {
        RequestPolicy {
            server_tools: self.server_tools.unwrap_or(policy.server_tools),
            max_tool_calls: self.max_tool_calls.unwrap_or(policy.max_tool_calls),
            service_tiers: self.service_tiers.clone().unwrap_or(policy.service_tiers),
            image_sizes: self.image_sizes.clone().unwrap_or(policy.image_sizes),
            image_qualities: self.image_qualities.clone().unwrap_or(policy.image_qualities),
            account_references: self.account_references.unwrap_or(policy.account_references),
        }
    }
}

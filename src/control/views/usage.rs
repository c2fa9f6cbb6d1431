//! Sums of usage: of calls, models and days.

use super::period::Period;
use domain::day::Day;
use serde::Serialize;
use store::reports::Sums;
use utoipa::ToSchema;

/// Totals of calls.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct SumsView {
    /// Calls that count against the requests per day.
    pub requests: u64,
    /// All admitted calls, including failed ones.
    pub calls: u64,
    /// Calls that the upstream failed or cut off.
    pub failed: u64,
    pub tokens: TokensView,
    pub cost_micro_dollars: i64,
    /// The cost in US cents.
    pub cost_cents: f64,
}

/// Tokens as the upstream bills them.
#[derive(Debug, Clone, Copy, Serialize, ToSchema)]
pub struct TokensView {
    pub prompt: u64,
    /// The part of `prompt` that was read from the upstream's cache.
    pub cached: u64,
    /// Visible output tokens.
    pub completion: u64,
    pub reasoning: u64,
    /// Prompt, completion and reasoning tokens. They count against the tokens per day; cached tokens count by the
    /// plan's `cached_token_fraction`.
    pub total: u64,
}

/// Totals of one model.
#[derive(Serialize, ToSchema)]
pub struct ModelSums {
    #[schema(example = "grok-4.3")]
    pub model: String,
    #[serde(flatten)]
    pub sums: SumsView,
}

/// Totals of one day.
#[derive(Serialize, ToSchema)]
pub struct DaySums {
    #[schema(value_type = String, format = Date)]
    pub day: Day,
    #[serde(flatten)]
    pub sums: SumsView,
}

impl From<Sums> for SumsView {
    fn from(sums: Sums) -> Self {
        Self {
            requests: sums.requests,
            calls: sums.calls,
            failed: sums.failed,
            tokens: TokensView {
                prompt: sums.prompt,
                cached: sums.cached,
                completion: sums.completion,
                reasoning: sums.reasoning,
                total: sums.tokens(),
            },
            cost_micro_dollars: sums.cost_micro_dollars,
            cost_cents: cents(sums.cost_micro_dollars),
        }
    }
}

/// Micro-dollars as US cents.
#[must_use]
pub fn cents(micro_dollars: i64) -> f64 {
    micro_dollars as f64 / 10_000.0
}

/// The totals of each model.
pub fn model_sums(models: Vec<(String, Sums)>) -> Vec<ModelSums> {
    models.into_iter().map(|(model, sums)| ModelSums { model, sums: sums.into() }).collect()
}

/// The totals of each day of the period, including days without calls.
pub fn day_sums(period: Period, days: Vec<(Day, Sums)>) -> Vec<DaySums> {
    let filled = period.filled(days).into_iter();
    filled.map(|(day, sums)| DaySums { day, sums: sums.into() }).collect()
}

//! The plans that a user can have, and changing to one of them.

mod compare;
mod change;

use crate::console::format::{count, dollars};
use crate::console::page::Page;
use crate::control::state::ControlState;
use axum::Router;
use axum::routing::{get, post};
use domain::cached_tokens::CachedTokenFraction;
use domain::plan::{Plan, PlanLimits, ServerTools};

/// The pages below `/console/plans`.
pub fn routes() -> Router<ControlState> {
    Router::new()
        .route("/console/plans", get(compare::show))
        .route("/console/plans/request/withdraw", post(change::withdraw))
        .route("/console/plans/{plan}", get(change::form).post(change::change))
}

/// The price of a plan.
fn price(page: &Page, plan: &Plan) -> String {
    if plan.price_cents == 0 {
        return page.t("Free").to_owned();
    }
    page.fill("{} a month", &[&dollars(i64::from(plan.price_cents) * 10_000)])
}

/// True if cached prompt tokens count in part: most plans count them in full, which nothing has to be said of.
fn counts_in_part(limits: &PlanLimits) -> bool {
    limits.cached_token_fraction != CachedTokenFraction::ONE
}

/// What a user may use, one line for each limit: its name and its value. The last is that of cached prompt tokens,
/// if it is asked for.
fn limits(page: &Page, limits: &PlanLimits, with_cached: bool) -> Vec<(String, String)> {
    let window = &limits.window;
    let capacity = count(u64::from(window.capacity));
    let models = match limits.models.as_deref() {
        None => page.t("All").to_owned(),
        Some(models) => models.join(", "),
    };
    let tools = match limits.policy.server_tools {
        ServerTools::Allow => page.t("Allowed"),
        ServerTools::Strip => page.t("Left out of requests"),
        ServerTools::Refuse => page.t("Refused"),
    };
    let percent = limits.cached_token_fraction.percent();
    let cached =
        (page.t("Cached prompt tokens"), page.fill("count as {} % of a token", &[&percent]));
    let lines = [
        (page.t("Tokens per day"), count(limits.tokens_per_day)),
        (page.t("Requests per day"), count(limits.requests_per_day)),
        (
            page.t("Short-term rate"),
            page.fill("{} requests in {} s", &[&capacity, &window.refill_seconds]),
        ),
        (page.t("Streams at the same time"), count(u64::from(limits.concurrent_streams))),
        (page.t("Models"), models),
        (page.t("Search and other tools of the upstream"), tools.to_owned()),
    ];
    let lines = lines.into_iter().chain(with_cached.then_some(cached));
    lines.map(|(name, value)| (name.to_owned(), value)).collect()
}

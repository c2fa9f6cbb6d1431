//! The plans that a user can have, and changing to one of them.

mod compare;
mod change;

use crate::console::format::{count, dollars};
use crate::console::page::Page;
use crate::control::state::ControlState;
use axum::Router;
use axum::routing::{get, post};
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

/// What a user may use, one line for each limit: its name and its value.
fn limits(page: &Page, limits: &PlanLimits) -> Vec<(String, String)> {
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
    [
        (page.t("Tokens per day"), count(limits.tokens_per_day)),
        (page.t("Requests per day"), count(limits.requests_per_day)),
        (
            page.t("Short-term rate"),
            page.fill("{} requests in {} s", &[&capacity, &window.refill_seconds]),
        ),
        (page.t("Streams at the same time"), count(u64::from(limits.concurrent_streams))),
        (page.t("Models"), models),
        (page.t("Search and other tools of the upstream"), tools.to_owned()),
    ]
    .map(|(name, value)| (name.to_owned(), value))
    .into()
}

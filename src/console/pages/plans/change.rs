//! Changing to another plan, or asking for it where an admin decides.

use super::{counts_in_part, limits, price};
use crate::config::Billing;
use crate::console::error::{PageError, html, redirect};
use crate::console::format::{Time, count};
use crate::console::forms::SafeForm;
use crate::console::page::Page;
use crate::console::session::SignedIn;
use crate::control::api_error::ApiError;
use crate::control::http::extract::PathParam;
use crate::control::routes::plans::{PlanChange, change_to};
use crate::control::routes::usage::live;
use crate::control::state::ControlState;
use askama::Template;
use axum::extract::State;
use axum::response::Response;
use domain::plan::{Plan, PlanLimits};
use store::upgrades::{Decided, UpgradeStatus};

const PATH: &str = "/console/plans";

#[derive(Template)]
#[template(path = "console/plans/change.html")]
struct ChangePage {
    page: Page,
    id: String,
    name: String,
    price: String,
    current_name: String,
    current_price: String,
    rows: Vec<LimitRow>,
    used: String,
    /// Set if the new plan has fewer tokens or requests a day than were used today.
    blocked_until: Option<Time>,
    is_manual: bool,
}

/// One limit, now and then.
struct LimitRow {
    name: String,
    now: String,
    then: String,
}

/// `GET /console/plans/{plan}`.
pub async fn form(
    State(state): State<ControlState>,
    signed_in: SignedIn,
    plan: Result<PathParam, ApiError>,
) -> Result<Response, PageError> {
    let PathParam(plan) = plan?;
    let SignedIn { current, .. } = &signed_in;
    let plan = state.open_plan(&plan, &current.user.plan).await?;
    if plan.id == current.user.plan {
        return Ok(redirect(PATH));
    }
    signed_in.confirmed(&format!("{PATH}/{}", plan.id))?;
    let user = signed_in.current.user;
    let current = state.plan_of(&user).await?;
    let usage = live::of(&state, &user).await?;
    let is_manual = state.identity.billing == Billing::Manual;
    // The overrides of an account stay when its plan changes.
    let overridden = |plan: &Plan| user.overrides.over(plan.limits.clone());
    let rows = (overridden(&current), overridden(&plan));
    html(&ChangePage::new(signed_in.page, (&current, &plan), rows, &usage, is_manual))
}

/// `POST /console/plans/{plan}`.
pub async fn change(
    State(state): State<ControlState>,
    signed_in: SignedIn,
    plan: Result<PathParam, ApiError>,
    SafeForm(()): SafeForm<()>,
) -> Result<Response, PageError> {
    let PathParam(plan) = plan?;
    let plan = state.plan(&plan).await?;
    signed_in.confirmed(&format!("{PATH}/{}", plan.id))?;
    let done = match change_to(&state, &signed_in.current, plan.id.as_str()).await {
        // A page that is sent again by mistake.
        Ok(PlanChange::Applied(_)) | Err(ApiError::SamePlan) => "changed",
        Ok(PlanChange::Requested(_)) => "requested",
        Err(error) => return Err(error.into()),
    };
    Ok(redirect(&format!("{PATH}?done={done}")))
}

/// `POST /console/plans/request/withdraw`: takes back the request that is pending.
pub async fn withdraw(
    State(state): State<ControlState>,
    signed_in: SignedIn,
    SafeForm(()): SafeForm<()>,
) -> Result<Response, PageError> {
    let current = signed_in.current;
    let latest = state.store.latest_upgrade(current.user.id).await?;
    let is_withdrawn = match latest {
        Some(latest) if latest.status == UpgradeStatus::Pending => {
            // If an admin decides at the same time, the first of the two counts.
            let decided = state.store.decide_upgrade(latest.id, false, &current.by).await?;
            matches!(decided, Some(Decided::Now(_)))
        }
        // A page that is sent again by mistake.
        Some(latest) => latest.decided_by == Some(current.by.actor.to_string()),
        None => false,
    };
    let done = if is_withdrawn { "withdrawn" } else { "decided" };
    Ok(redirect(&format!("{PATH}?done={done}")))
}

impl ChangePage {
    fn new(
        page: Page,
        (current, plan): (&Plan, &Plan),
        (now, then): (PlanLimits, PlanLimits),
        usage: &live::Usage,
        is_manual: bool,
    ) -> Self {
        let (tokens, requests) = (usage.tokens.used, usage.requests.used);
        let is_blocked = tokens >= then.tokens_per_day || requests >= then.requests_per_day;
        let with_cached = counts_in_part(&now) || counts_in_part(&then);
        let rows = limits(&page, &now, with_cached);
        let rows = rows.into_iter().zip(limits(&page, &then, with_cached));
        Self {
            rows: rows.map(|((name, now), (_, then))| LimitRow { name, now, then }).collect(),
            used: page.fill(
                "Today you have used {} tokens and {} requests. They stay counted and are measured against the new limits.",
                &[&count(tokens), &count(requests)],
            ),
            blocked_until: is_blocked.then_some(Time(usage.resets_at)),
            id: plan.id.to_string(),
            name: plan.name.clone(),
            price: price(&page, plan),
            current_name: current.name.clone(),
            current_price: price(&page, current),
            is_manual,
            page,
        }
    }
}

//! All plans, with what they cost and allow.

use super::{DoneQuery, NoFields, done_sentence};
use crate::console::error::{PageError, html};
use crate::console::format::{count, dollars};
use crate::console::forms::SafeForm;
use crate::console::page::Page;
use crate::console::query::{PageQuery, done};
use crate::console::session::{AdminOnly, AdminOrAuditor};
use crate::control::http::extract::PathParam;
use crate::control::routes::admin::overview;
use crate::control::routes::admin::plans::{PlanPatch, change_plan};
use crate::control::state::ControlState;
use askama::Template;
use axum::extract::State;
use axum::response::Response;
use domain::plan::Plan;

/// The page of all plans.
pub const PATH: &str = "/console/admin/plans";

#[derive(Template)]
#[template(path = "console/admin/plans.html")]
struct AdminPlansPage {
    page: Page,
    done: String,
    rows: Vec<PlanListRow>,
}

struct PlanListRow {
    id: String,
    name: String,
    price: String,
    tokens: String,
    requests: String,
    window: String,
    streams: String,
    models: String,
    users: String,
    retired: bool,
}

/// `GET /console/admin/plans`.
pub async fn list(
    State(state): State<ControlState>,
    reader: AdminOrAuditor,
    PageQuery(query): PageQuery<DoneQuery>,
) -> Result<Response, PageError> {
    let page = reader.page;
    let plans = state.store.plans().await?;
    let counts = overview::today(&state).await?;
    let users = |plan: &Plan| {
        let row = counts.users.by_plan.iter().find(|row| row.plan == plan.id);
        row.map_or_else(|| "0".to_owned(), |row| count(row.users))
    };
    html(&AdminPlansPage {
        done: done_sentence(&page, query.done.as_deref()),
        rows: plans.iter().map(|plan| PlanListRow::of(&page, plan, users(plan))).collect(),
        page,
    })
}

/// `POST /console/admin/plans/{id}/retire`.
pub async fn retire(
    State(state): State<ControlState>,
    admin: AdminOnly,
    PathParam(id): PathParam,
    SafeForm(_): SafeForm<NoFields>,
) -> Result<Response, PageError> {
    set_retired(&state, &admin, &id, true).await?;
    Ok(done(PATH, "plan-retired"))
}

/// `POST /console/admin/plans/{id}/reopen`.
pub async fn reopen(
    State(state): State<ControlState>,
    admin: AdminOnly,
    PathParam(id): PathParam,
    SafeForm(_): SafeForm<NoFields>,
) -> Result<Response, PageError> {
    set_retired(&state, &admin, &id, false).await?;
    Ok(done(PATH, "plan-reopened"))
}

async fn set_retired(
    state: &ControlState,
    admin: &AdminOnly,
    id: &str,
    retired: bool,
) -> Result<(), PageError> {
    admin.confirmed(PATH)?;
    let patch = PlanPatch { retired: Some(retired), ..PlanPatch::default() };
    change_plan(state, &admin.admin, id, patch).await?;
    Ok(())
}

impl PlanListRow {
    fn of(page: &Page, plan: &Plan, users: String) -> Self {
        let limits = &plan.limits;
        let (requests, seconds) =
            (count(u64::from(limits.window.capacity)), limits.window.refill_seconds);
        Self {
            id: plan.id.to_string(),
            name: plan.name.clone(),
            price: dollars(i64::from(plan.price_cents) * 10_000),
            tokens: count(limits.tokens_per_day),
            requests: count(limits.requests_per_day),
            window: page.fill("{} requests per {} s", &[&requests, &seconds]),
            streams: count(u64::from(limits.concurrent_streams)),
            models: match &limits.models {
                Some(models) => models.join(", "),
                None => page.t("All models").to_owned(),
            },
            users,
            retired: plan.retired,
        }
    }
}

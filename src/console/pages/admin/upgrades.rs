//! Requests of users for another plan.

use super::{Choice, NoFields, Tag, done_sentence};
use crate::console::error::{PageError, html, safe_next};
use crate::console::format::Time;
use crate::console::forms::SafeForm;
use crate::console::page::{Page, text};
use crate::console::query::{PageQuery, Pager, done, without_done};
use crate::console::session::{AdminOnly, AdminOrAuditor};
use crate::control::http::extract::PathParam;
use crate::control::routes::admin::upgrades::{UpgradesQuery, decide, page_of};
use crate::control::state::ControlState;
use askama::Template;
use axum::extract::State;
use axum::response::Response;
use domain::id::{PlanId, UserId};
use domain::plan::Plan;
use domain::user::{User, UserStatus};
use serde::Deserialize;
use store::upgrades::{Upgrade, UpgradeStatus};

/// The page of all requests.
const PATH: &str = "/console/admin/upgrades";

#[derive(Template)]
#[template(path = "console/admin/upgrades.html")]
struct UpgradesPage {
    page: Page,
    done: String,
    here: String,
    statuses: Vec<Choice>,
    rows: Vec<UpgradeRow>,
    pager: Pager,
}

struct UpgradeRow {
    id: String,
    user: String,
    email: String,
    from: String,
    to: String,
    status: Tag,
    asked: Time,
    decided: Option<Time>,
    is_pending: bool,
    /// True if approving it could only fail.
    is_outdated: bool,
}

/// The filter, as the address has it: `all`, or the word of a status; by default those that are pending.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UpgradesFilter {
    status: Option<String>,
    cursor: Option<String>,
    done: Option<String>,
}

/// `GET /console/admin/upgrades`.
pub async fn list(
    State(state): State<ControlState>,
    reader: AdminOrAuditor,
    PageQuery(filter): PageQuery<UpgradesFilter>,
) -> Result<Response, PageError> {
    let page = reader.page;
    let asked = filter.status.as_deref().unwrap_or("pending");
    let status = UpgradeStatus::ALL.into_iter().find(|status| status.as_str() == asked);
    let query = UpgradesQuery { status, limit: None, cursor: filter.cursor.clone() };
    let found = page_of(&state, query).await?;
    let ids: Vec<UserId> = found.data.iter().map(|upgrade| upgrade.user).collect();
    let (users, plans) = tokio::try_join!(state.store.users_by_ids(&ids), state.store.plans())?;
    let pager = Pager::new(&page.path, filter.cursor.as_deref(), found.next_cursor.as_deref());
    html(&UpgradesPage {
        done: done_sentence(&page, filter.done.as_deref()),
        here: without_done(&page.path),
        statuses: status_choices(&page, status),
        rows: found.data.iter().map(|row| UpgradeRow::of(&page, row, &users, &plans)).collect(),
        pager,
        page,
    })
}

/// `POST /console/admin/upgrades/{id}/approve`.
pub async fn approve(
    State(state): State<ControlState>,
    admin: AdminOnly,
    PathParam(id): PathParam,
    SafeForm(form): SafeForm<NoFields>,
) -> Result<Response, PageError> {
    decided(&state, &admin, &id, (form, true)).await
}

/// `POST /console/admin/upgrades/{id}/reject`.
pub async fn reject(
    State(state): State<ControlState>,
    admin: AdminOnly,
    PathParam(id): PathParam,
    SafeForm(form): SafeForm<NoFields>,
) -> Result<Response, PageError> {
    decided(&state, &admin, &id, (form, false)).await
}

async fn decided(
    state: &ControlState,
    admin: &AdminOnly,
    id: &str,
    (form, approve): (NoFields, bool),
) -> Result<Response, PageError> {
    let next = safe_next(form.next.as_deref().or(Some(PATH)));
    admin.confirmed(next)?;
    decide(state, &admin.admin, id, approve).await?;
    Ok(done(next, if approve { "approved" } else { "rejected" }))
}

fn status_choices(page: &Page, chosen: Option<UpgradeStatus>) -> Vec<Choice> {
    let all = Choice::new("all", page.t("all"), chosen.is_none());
    let choice = |status: UpgradeStatus| {
        Choice::new(status.as_str(), page.t(status_name(status)), chosen == Some(status))
    };
    UpgradeStatus::ALL.map(choice).into_iter().chain([all]).collect()
}

fn status_name(status: UpgradeStatus) -> &'static str {
    match status {
        UpgradeStatus::Pending => text("pending"),
        UpgradeStatus::Approved => text("approved"),
        UpgradeStatus::Rejected => text("rejected"),
        UpgradeStatus::Superseded => text("replaced by a later one"),
    }
}

impl UpgradeRow {
    fn of(page: &Page, upgrade: &Upgrade, users: &[User], plans: &[Plan]) -> Self {
        let user = users.iter().find(|user| user.id == upgrade.user);
        let plan = |id: &PlanId| {
            let plan = plans.iter().find(|plan| plan.id == *id);
            plan.map_or_else(|| id.to_string(), |plan| plan.name.clone())
        };
        let fits = user.is_some_and(|user| {
            let is_open = |plan: &Plan| plan.id == upgrade.to && !plan.retired;
            let is_there = user.status != UserStatus::Deleted && user.plan == upgrade.from;
            is_there && plans.iter().any(is_open)
        });
        let class = match upgrade.status {
            UpgradeStatus::Pending => "warn",
            UpgradeStatus::Approved => "good",
            UpgradeStatus::Rejected | UpgradeStatus::Superseded => "",
        };
        Self {
            id: upgrade.id.to_string(),
            user: upgrade.user.to_string(),
            email: user.map_or_else(|| upgrade.user.to_string(), |user| user.email.clone()),
            from: plan(&upgrade.from),
            to: plan(&upgrade.to),
            status: Tag::new(page, status_name(upgrade.status), class),
            asked: Time(upgrade.asked_at),
            decided: upgrade.decided_at.map(Time),
            is_pending: upgrade.status == UpgradeStatus::Pending,
            is_outdated: !fits,
        }
    }
}

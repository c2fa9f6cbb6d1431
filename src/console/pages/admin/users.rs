//! All users: search, filters, and what is done to one of them most often.

use super::{Choice, Tag, done_sentence, plan_choices, role_name};
use crate::console::error::{PageError, html};
use crate::console::format::Time;
use crate::console::page::Page;
use crate::console::query::{PageQuery, Pager, without_done};
use crate::console::session::AdminOrAuditor;
use crate::control::routes::admin::users::{UsersQuery, page_of};
use crate::control::state::ControlState;
use askama::Template;
use axum::extract::State;
use axum::response::Response;
use domain::id::UserId;
use domain::plan::Plan;
use domain::user::{Role, User, UserStatus};
use serde::Deserialize;

/// This page.
pub const PATH: &str = "/console/admin/users";

#[derive(Template)]
#[template(path = "console/admin/users.html")]
struct UsersPage {
    page: Page,
    done: String,
    /// This page, with its filters.
    here: String,
    search: String,
    plans: Vec<Choice>,
    statuses: Vec<Choice>,
    roles: Vec<Choice>,
    rows: Vec<UserListRow>,
    pager: Pager,
}

/// The filters, as the address has them.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UsersFilter {
    search: Option<String>,
    plan: Option<String>,
    status: Option<UserStatus>,
    role: Option<Role>,
    cursor: Option<String>,
    done: Option<String>,
}

/// A user with what may be done.
#[expect(clippy::struct_excessive_bools, reason = "each shows or hides one part of the row")]
struct UserListRow {
    id: String,
    email: String,
    username: String,
    role: String,
    status: Tag,
    plans: Vec<Choice>,
    registered: Time,
    is_active: bool,
    is_deleted: bool,
    has_overrides: bool,
    /// The admin, who can neither be suspended nor demoted here.
    is_oneself: bool,
}

/// `GET /console/admin/users`.
pub async fn list(
    State(state): State<ControlState>,
    reader: AdminOrAuditor,
    PageQuery(filter): PageQuery<UsersFilter>,
) -> Result<Response, PageError> {
    let AdminOrAuditor { page, reader, .. } = reader;
    let query = UsersQuery {
        search: filter.search.clone(),
        plan: filter.plan.clone(),
        status: filter.status,
        role: filter.role,
        limit: None,
        cursor: filter.cursor.clone(),
    };
    let plans = async { Ok(state.store.plans().await?) };
    let (plans, found) = tokio::try_join!(plans, page_of(&state, query))?;
    let pager = Pager::new(&page.path, filter.cursor.as_deref(), found.next_cursor.as_deref());
    let rows = found.data.iter();
    html(&UsersPage {
        done: done_sentence(&page, filter.done.as_deref()),
        here: without_done(&page.path),
        search: filter.search.unwrap_or_default(),
        plans: plans
            .iter()
            .map(|plan| {
                let is_chosen = filter.plan.as_deref() == Some(plan.id.as_str());
                Choice::new(plan.id.as_str(), &plan.name, is_chosen)
            })
            .collect(),
        statuses: status_choices(&page, filter.status),
        roles: role_choices(&page, filter.role),
        rows: rows
            .map(|(user, _)| UserListRow::of(&page, user, (&plans, reader.user.id)))
            .collect(),
        pager,
        page,
    })
}

fn status_choices(page: &Page, chosen: Option<UserStatus>) -> Vec<Choice> {
    let all = [UserStatus::Active, UserStatus::Suspended, UserStatus::Deleted];
    let choice = |status: UserStatus| {
        Choice::new(status.as_str(), page.t(super::status_name(status)), chosen == Some(status))
    };
    all.map(choice).into()
}

/// The roles, of which one may be chosen.
#[must_use]
pub fn role_choices(page: &Page, chosen: Option<Role>) -> Vec<Choice> {
    let choice =
        |role: Role| Choice::new(role.as_str(), page.t(role_name(role)), chosen == Some(role));
    Role::ALL.map(choice).into()
}

impl UserListRow {
    fn of(page: &Page, user: &User, (plans, oneself): (&[Plan], UserId)) -> Self {
        Self {
            id: user.id.to_string(),
            email: user.email.clone(),
            username: user.username.clone().unwrap_or_default(),
            role: match user.role {
                Role::User => String::new(),
                role @ (Role::Auditor | Role::Admin) => page.t(role_name(role)).to_owned(),
            },
            status: Tag::status(page, user.status),
            plans: plan_choices(plans, &user.plan),
            registered: Time(user.created_at),
            is_active: user.status == UserStatus::Active,
            is_deleted: user.status == UserStatus::Deleted,
            has_overrides: !user.overrides.is_empty(),
            is_oneself: user.id == oneself,
        }
    }
}

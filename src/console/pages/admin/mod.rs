//! The admin pages. Admins and auditors see them; to all others each is a 404. Changes are for admins, and need a
//! password that was entered recently. Forms of changes are not in the pages of auditors.

pub mod overview;
pub mod users;
pub mod user;
pub mod user_changes;
pub mod invite;
pub mod erase;
pub mod fields;
pub mod limits_form;
pub mod calls;
pub mod keys;
pub mod plans;
pub mod plan_form;
pub mod upgrades;
pub mod models;
pub mod upstreams;
pub mod usage;
pub mod announcements;
pub mod system;
pub mod audit;

use crate::console::page::{Page, text};
use crate::console::pages::usage::receipt;
use crate::control::state::ControlState;
use axum::Router;
use axum::routing::{get, post};
use domain::id::PlanId;
use domain::plan::Plan;
use domain::user::{Role, UserStatus};
use serde::Deserialize;

/// All pages below `/console/admin`.
pub fn routes() -> Router<ControlState> {
    Router::new()
        .route("/console/admin", get(overview::show))
        .route("/console/admin/users", get(users::list))
        .route("/console/admin/users/new", get(invite::form).post(invite::add))
        .route("/console/admin/users/{id}/invitation", post(invite::invite))
        .route("/console/admin/users/{id}", get(user::show))
        .route("/console/admin/users/{id}/meters", get(user::meters))
        .route("/console/admin/users/{id}/calls", get(calls::list))
        .route("/console/admin/calls/{request}", get(receipt::show_any))
        .route("/console/admin/users/{id}/change", post(user_changes::change))
        .route("/console/admin/users/{id}/limits", get(limits_form::form).post(limits_form::save))
        .route("/console/admin/users/{id}/delete", get(erase::form).post(erase::delete))
        .route(
            "/console/admin/users/{id}/second-factor/remove",
            post(user_changes::remove_second_factor),
        )
        .route("/console/admin/users/{id}/sessions/{session}/end", post(user_changes::end_session))
        .route("/console/admin/users/{id}/reset-usage", post(user_changes::reset_usage))
        .route("/console/admin/users/{id}/keys/{key}/revoke", post(user_changes::revoke_key))
        .route("/console/admin/keys", get(keys::list).post(keys::search))
        .route("/console/admin/plans", get(plans::list))
        .route("/console/admin/plans/new", get(plan_form::new).post(plan_form::add))
        .route("/console/admin/plans/{id}", get(plan_form::edit).post(plan_form::save))
        .route("/console/admin/plans/{id}/retire", post(plans::retire))
        .route("/console/admin/plans/{id}/reopen", post(plans::reopen))
        .route("/console/admin/upgrades", get(upgrades::list))
        .route("/console/admin/upgrades/{id}/approve", post(upgrades::approve))
        .route("/console/admin/upgrades/{id}/reject", post(upgrades::reject))
        .route("/console/admin/models", get(models::list))
        .route("/console/admin/upstreams", get(upstreams::list))
        .route("/console/admin/upstreams/{name}/test", post(upstreams::test))
        .route("/console/admin/usage", get(usage::show))
        .route("/console/admin/announcements", get(announcements::list).post(announcements::add))
        .route(
            "/console/admin/announcements/{id}",
            get(announcements::edit).post(announcements::save),
        )
        .route("/console/admin/announcements/{id}/end", post(announcements::end))
        .route("/console/admin/system", get(system::show))
        .route("/console/admin/system/reload", post(system::reload))
        .route("/console/admin/audit", get(audit::list))
}

/// The parameters of a page without filters.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DoneQuery {
    done: Option<String>,
}

/// A form whose fields are all in its path.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NoFields {
    /// The page to go back to.
    next: Option<String>,
}

/// An option of a `<select>`, or a box to check.
pub struct Choice {
    pub value: String,
    pub name: String,
    pub is_chosen: bool,
}

impl Choice {
    fn new(value: &str, name: &str, is_chosen: bool) -> Self {
        Self { value: value.to_owned(), name: name.to_owned(), is_chosen }
    }
}

/// A state with the class of its colour.
pub struct Tag {
    pub name: String,
    /// `good`, `warn`, `bad` or empty.
    pub class: &'static str,
}

impl Tag {
    fn new(page: &Page, name: &str, class: &'static str) -> Self {
        Self { name: page.t(name).to_owned(), class }
    }

    /// Of a user's status.
    fn status(page: &Page, status: UserStatus) -> Self {
        let class = if status == UserStatus::Active { "good" } else { "bad" };
        Self::new(page, status_name(status), class)
    }
}

fn status_name(status: UserStatus) -> &'static str {
    match status {
        UserStatus::Active => text("active"),
        UserStatus::Suspended => text("suspended"),
        UserStatus::Deleted => text("deleted"),
    }
}

fn role_name(role: Role) -> &'static str {
    match role {
        Role::User => text("user"),
        Role::Auditor => text("auditor"),
        Role::Admin => text("admin"),
    }
}

/// The plans that a user may be moved to: those open to new subscribers, and the present one.
fn plan_choices(plans: &[Plan], current: &PlanId) -> Vec<Choice> {
    let open = plans.iter().filter(|plan| plan.is_open_to(Some(current)));
    open.map(|plan| Choice::new(plan.id.as_str(), &plan.name, plan.id == *current)).collect()
}

/// The sentence for what was done before the page was shown; empty for an unknown word.
fn done_sentence(page: &Page, word: Option<&str>) -> String {
    let english = match word.unwrap_or_default() {
        "suspended" => text("The user is suspended. Sessions have ended, and calls are refused."),
        "active" => text("The user is active again. Log-in and keys work."),
        "plan" => text("The plan is changed, from the next call on."),
        "role" => text("The role is changed."),
        "limits" => text("The limits are changed, from the next call on."),
        "deleted" => text("The user is deleted."),
        "factor-removed" => {
            text("The second factor is off. The user logs in with the password alone.")
        }
        "session-ended" => text("The session has ended."),
        "reset" => text("The usage of today is reset. The ledger keeps its rows."),
        "revoked" => text("The key is revoked. Open streams end within a second."),
        "plan-added" => text("The plan is added. Users can choose it now."),
        "plan-saved" => text("The plan is saved, and holds from the next call of its users on."),
        "plan-retired" => {
            text("The plan is retired: its users keep it, no other user can choose it.")
        }
        "plan-reopened" => text("The plan is open again."),
        "approved" => text("The request is approved. The user has the new plan."),
        "rejected" => text("The request is rejected. The user keeps the plan."),
        "announced" => text("The announcement is added."),
        "announcement-saved" => text("The announcement is saved."),
        "announcement-ended" => text("The announcement has ended."),
        "reloaded" => text("The configuration is reloaded."),
        _ => return String::new(),
    };
    page.t(english).to_owned()
}

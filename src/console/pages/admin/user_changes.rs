//! What admins do to one user.

use super::NoFields;
use crate::console::error::{PageError, safe_next};
use crate::console::forms::SafeForm;
use crate::console::query::done;
use crate::console::session::AdminOnly;
use crate::control::http::extract::{PathParam, PathParams};
use crate::control::routes::admin::users::{UserPatch, change_user};
use crate::control::routes::admin::{reset, second_factor};
use crate::control::routes::{keys, sessions};
use crate::control::state::ControlState;
use axum::extract::State;
use axum::response::Response;
use domain::user::{Role, UserStatus};
use serde::Deserialize;

/// One change; the form of a list or of the user's page sends one of them.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UserForm {
    plan: Option<String>,
    status: Option<UserStatus>,
    role: Option<Role>,
    next: Option<String>,
}

/// `POST /console/admin/users/{id}/change`.
pub async fn change(
    State(state): State<ControlState>,
    admin: AdminOnly,
    PathParam(id): PathParam,
    SafeForm(form): SafeForm<UserForm>,
) -> Result<Response, PageError> {
    let next = confirmed(&admin, form.next.as_deref(), &id)?;
    let word = match (&form.plan, form.status, form.role) {
        (Some(_), ..) => "plan",
        (_, Some(status), _) => status.as_str(),
        (.., Some(_)) => "role",
        (None, None, None) => return Err(PageError::not_found()),
    };
    let patch = UserPatch {
        plan_id: form.plan,
        status: form.status,
        role: form.role,
        ..UserPatch::default()
    };
    change_user(&state, &admin.admin, &id, patch).await?;
    Ok(done(&next, word))
}

/// `POST /console/admin/users/{id}/reset-usage`.
pub async fn reset_usage(
    State(state): State<ControlState>,
    admin: AdminOnly,
    PathParam(id): PathParam,
    SafeForm(form): SafeForm<NoFields>,
) -> Result<Response, PageError> {
    let next = confirmed(&admin, form.next.as_deref(), &id)?;
    reset::reset_today(&state, &admin.admin, &id).await?;
    Ok(done(&next, "reset"))
}

/// `POST /console/admin/users/{id}/keys/{key}/revoke`.
pub async fn revoke_key(
    State(state): State<ControlState>,
    admin: AdminOnly,
    PathParams(id, key): PathParams,
    SafeForm(form): SafeForm<NoFields>,
) -> Result<Response, PageError> {
    let next = confirmed(&admin, form.next.as_deref(), &id)?;
    let user = state.user(&id).await?;
    keys::revoke_of(&state, user.id, &key, &admin.admin.by).await?;
    Ok(done(&next, "revoked"))
}

/// `POST /console/admin/users/{id}/second-factor/remove`: the user has lost the app and the recovery codes.
pub async fn remove_second_factor(
    State(state): State<ControlState>,
    admin: AdminOnly,
    PathParam(id): PathParam,
    SafeForm(form): SafeForm<NoFields>,
) -> Result<Response, PageError> {
    let next = confirmed(&admin, form.next.as_deref(), &id)?;
    second_factor::remove_of(&state, &admin.admin, &id, admin.page.language).await?;
    Ok(done(&next, "factor-removed"))
}

/// `POST /console/admin/users/{id}/sessions/{session}/end`.
pub async fn end_session(
    State(state): State<ControlState>,
    admin: AdminOnly,
    PathParams(id, session): PathParams,
    SafeForm(form): SafeForm<NoFields>,
) -> Result<Response, PageError> {
    let next = confirmed(&admin, form.next.as_deref(), &id)?;
    let user = state.user(&id).await?;
    sessions::end_one(&state, user.id, &session).await?;
    Ok(done(&next, "session-ended"))
}

/// The page that the form came from, by default the user's, if the password was entered recently.
fn confirmed(admin: &AdminOnly, asked: Option<&str>, id: &str) -> Result<String, PageError> {
    let next = match asked {
        Some(next) => safe_next(Some(next)).to_owned(),
        None => path_of(id),
    };
    admin.confirmed(&next)?;
    Ok(next)
}

/// The page of the user with this id.
#[must_use]
pub fn path_of(id: &str) -> String {
    let is_plain = id.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
    let id = if is_plain { id } else { "" };
    format!("/console/admin/users/{id}")
}

//! Removes a user's second factor, for admins: the user has lost the app and the recovery codes.

use crate::control::account_links::notify;
use crate::control::api_error::ApiError;
use crate::control::auth::Admin;
use crate::control::http::extract::{PathParam, PreferredLanguage};
use crate::control::openapi::errors::{AdminRequired, NoSecondFactor, Unavailable, UserNotFound};
use crate::control::state::ControlState;
use crate::mail::SecurityEvent;
use crate::mail::message::Language;
use axum::extract::State;
use axum::http::StatusCode;

/// Remove a user's second factor
///
/// The user can then log in with the password alone, and set up a new one. Check who asks for it.
#[utoipa::path(delete, path = "/api/v1/admin/users/{id}/second-factor", tag = "Admin",
    security(("token" = [])), params(("id" = String, Path, description = "Id of the user")),
    responses((status = 204, description = "The second factor is removed"), AdminRequired, UserNotFound,
        NoSecondFactor, Unavailable))]
pub async fn remove(
    State(state): State<ControlState>,
    admin: Admin,
    PreferredLanguage(language): PreferredLanguage,
    PathParam(id): PathParam,
) -> Result<StatusCode, ApiError> {
    remove_of(&state, &admin, &id, language).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Removes the second factor of the user with this id, who gets a notice in `language`.
pub async fn remove_of(
    state: &ControlState,
    admin: &Admin,
    id: &str,
    language: Language,
) -> Result<(), ApiError> {
    let user = state.user(id).await?;
    if user.id == admin.user.id {
        return Err(ApiError::OwnAccountLockout);
    }
    if !state.store.remove_second_factor(user.id, &admin.by).await? {
        return Err(ApiError::NoSecondFactor);
    }
    notify(state, &user, language, SecurityEvent::SecondFactorRemoved);
    Ok(())
}

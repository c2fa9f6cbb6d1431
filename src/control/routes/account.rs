//! Deletion of accounts: one's own, and for admins those of others.

use crate::control::api_error::ApiError;
use crate::control::auth::{AttemptTime, CurrentUser};
use crate::control::http::extract::JsonBody;
use crate::control::openapi::errors::{
    InvalidBody, LastAdmin, LoginRequired, RateLimited, Unavailable, WrongPassword,
};
use crate::control::state::ControlState;
use crate::control::views::fields::{Code, Password};
use axum::extract::State;
use axum::http::StatusCode;
use domain::actor::AuditContext;
use domain::id::UserId;
use serde::Deserialize;
use store::Erased;
use utoipa::ToSchema;

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct DeletionForm {
    #[serde(alias = "password")]
    current_password: Password,
    /// Required if the account has a second factor.
    #[serde(default)]
    code: Option<Code>,
}

/// Delete your account
///
/// Cannot be undone. Keys stop working with the next request, open streams end within a second, and sessions
/// end. Your name, e-mail address, password and second factor are deleted; usage stays under the id of the
/// account. `GET /api/v1/users/export` has all of it before.
#[utoipa::path(post, path = "/api/v1/users/delete-account", tag = "Accounts",
    security(("token" = [])), request_body = DeletionForm,
    responses((status = 204, description = "The account is deleted"), InvalidBody, LoginRequired,
        WrongPassword, LastAdmin, RateLimited, Unavailable))]
pub async fn delete(
    State(state): State<ControlState>,
    current: CurrentUser,
    JsonBody(form): JsonBody<DeletionForm>,
) -> Result<StatusCode, ApiError> {
    let proof = (&*form.current_password.0, form.code.as_ref().map(|code| &*code.0));
    delete_own(&state, &current, proof).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Deletes the account of the logged-in user, with the password and, if there is a second factor, a code.
pub async fn delete_own(
    state: &ControlState,
    current: &CurrentUser,
    proof: (&str, Option<&str>),
) -> Result<(), ApiError> {
    let session = (&current.user, current.session);
    state.identity.confirm(&*state.store, session, proof, AttemptTime::now()).await?;
    erase(state, current.user.id, &current.by).await
}

/// Deletes a user.
pub async fn erase(state: &ControlState, user: UserId, by: &AuditContext) -> Result<(), ApiError> {
    match state.store.erase_user(user, state.identity.secret(), by).await? {
        Erased::Done => {
            tracing::info!(%user, actor = %by.actor, "user deleted");
            Ok(())
        }
        Erased::Absent => Err(ApiError::NotFound("user")),
        Erased::LastAdmin => Err(ApiError::LastAdmin),
    }
}

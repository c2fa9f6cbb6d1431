//! Deletes a user, for admins.

use crate::control::api_error::ApiError;
use crate::control::auth::Admin;
use crate::control::http::extract::PathParam;
use crate::control::openapi::errors::{AdminRequired, OwnAccount, Unavailable, UserNotFound};
use crate::control::routes::account;
use crate::control::state::ControlState;
use axum::extract::State;
use axum::http::StatusCode;

/// Delete a user
///
/// Cannot be undone. Does what `POST /api/v1/users/delete-account` does: the person is deleted, the usage
/// stays under the id of the user.
#[utoipa::path(delete, path = "/api/v1/admin/users/{id}", tag = "Admin", security(("token" = [])),
    params(("id" = String, Path, description = "Id of the user")),
    responses((status = 204, description = "The user is deleted"), AdminRequired, UserNotFound, OwnAccount,
        Unavailable))]
pub async fn delete(
    State(state): State<ControlState>,
    admin: Admin,
    PathParam(id): PathParam,
) -> Result<StatusCode, ApiError> {
    delete_user(&state, &admin, &id).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Deletes the user with this id, who is not the admin.
pub async fn delete_user(state: &ControlState, admin: &Admin, id: &str) -> Result<(), ApiError> {
    let user = state.user(id).await?;
    if user.id == admin.user.id {
        return Err(ApiError::OwnAccountLockout);
    }
    account::erase(state, user.id, &admin.by).await
}

//! Lists and revokes a user's keys, for admins.

use crate::control::api_error::ApiError;
use crate::control::auth::{Admin, AdminReader};
use crate::control::http::extract::{PathParam, PathParams, Query};
use crate::control::http::pagination::Page;
use crate::control::openapi::errors::{
    AdminReaderRequired, AdminRequired, InvalidQuery, KeyNotFound, Unavailable, UserNotFound,
};
use crate::control::routes::keys::{self, KeysQuery};
use crate::control::state::ControlState;
use crate::control::views::key::KeyView;
use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;

/// List a user's keys
///
/// Oldest first, including revoked keys.
#[utoipa::path(get, path = "/api/v1/admin/users/{id}/keys", tag = "Admin",
    security(("token" = [])), params(("id" = String, Path, description = "Id of the user"), KeysQuery),
    responses((status = 200, body = Page<KeyView>), InvalidQuery, AdminReaderRequired, UserNotFound, Unavailable))]
pub async fn list(
    State(state): State<ControlState>,
    _reader: AdminReader,
    PathParam(id): PathParam,
    Query(query): Query<KeysQuery>,
) -> Result<Json<Page<KeyView>>, ApiError> {
    let user = state.user(&id).await?;
    keys::page_of(&state, user.id, query).await.map(Json)
}

/// Revoke a user's key
///
/// Takes effect with the next request; open streams end within a second. The user's other keys are not affected.
#[utoipa::path(delete, path = "/api/v1/admin/users/{id}/keys/{key_id}", tag = "Admin",
    security(("token" = [])),
    params(("id" = String, Path, description = "Id of the user"),
        ("key_id" = String, Path, description = "Id of the key")),
    responses((status = 204, description = "The key is revoked"), AdminRequired, UserNotFound, KeyNotFound,
        Unavailable))]
pub async fn revoke(
    State(state): State<ControlState>,
    admin: Admin,
    PathParams(id, key_id): PathParams,
) -> Result<StatusCode, ApiError> {
    let user = state.user(&id).await?;
    keys::revoke_of(&state, user.id, &key_id, &admin.by).await
}

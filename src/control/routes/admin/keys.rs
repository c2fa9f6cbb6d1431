//! Lists and revokes a user's keys, for admins.

use super::users;
use crate::control::api_error::ApiError;
use crate::control::auth::Admin;
use crate::control::http::extract::{Params, Segment, Segments};
use crate::control::http::pagination::Page;
use crate::control::openapi::errors::{Away, BadQuery, NoSuchKey, NoSuchUser, NotAdmin};
use crate::control::routes::keys::{self, KeyView, KeysQuery};
use crate::control::state::ControlState;
use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;

/// List a user's keys
///
/// The oldest first, revoked ones too.
#[utoipa::path(get, path = "/api/v1/admin/users/{id}/keys", tag = "Admin",
    security(("token" = [])), params(("id" = String, Path, description = "The user's id"), KeysQuery),
    responses((status = 200, body = Page<KeyView>), BadQuery, NotAdmin, NoSuchUser, Away))]
pub async fn list(
    State(state): State<ControlState>,
    _admin: Admin,
    Segment(id): Segment,
    Params(query): Params<KeysQuery>,
) -> Result<Json<Page<KeyView>>, ApiError> {
    let user = users::find(&state, &id).await?;
    keys::page_of(&state, user.id, query).await.map(Json)
}

/// Revoke a key of a user
///
/// Holds from the next request on; open streams end within a second. The user's other keys stay.
#[utoipa::path(delete, path = "/api/v1/admin/users/{id}/keys/{key_id}", tag = "Admin",
    security(("token" = [])),
    params(("id" = String, Path, description = "The user's id"),
        ("key_id" = String, Path, description = "The key's id")),
    responses((status = 204, description = "The key is revoked"), NotAdmin, NoSuchUser, NoSuchKey,
        Away))]
pub async fn revoke(
    State(state): State<ControlState>,
    admin: Admin,
    Segments(id, key_id): Segments,
) -> Result<StatusCode, ApiError> {
    let user = users::find(&state, &id).await?;
    let key = keys::own(&state, user.id, &key_id).await?;
    state.store.revoke_key(&key.id, &admin.by).await?;
    Ok(StatusCode::NO_CONTENT)
}

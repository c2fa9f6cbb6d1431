//! Upgrade requests, for admins: list, approve, reject.

use crate::control::api_error::ApiError;
use crate::control::auth::{Admin, AdminReader};
use crate::control::http::extract::{PathParam, Query};
use crate::control::http::pagination::{self, Page};
use crate::control::openapi::errors::{
    AdminReaderRequired, AdminRequired, AlreadyDecided, InvalidQuery, Unavailable, UpgradeNotFound,
};
use crate::control::state::ControlState;
use crate::control::views::upgrade::UpgradeView;
use axum::Json;
use axum::extract::State;
use domain::id::UpgradeId;
use serde::Deserialize;
use store::upgrades::{Decided, Upgrade, UpgradeStatus};
use utoipa::IntoParams;

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct UpgradesQuery {
    /// `pending`, `approved`, `rejected` or `superseded`; default: all.
    #[param(value_type = Option<String>, pattern = "^(pending|approved|rejected|superseded)$")]
    pub status: Option<UpgradeStatus>,
    /// Requests per page; default 50.
    #[param(minimum = 1, maximum = 200)]
    pub limit: Option<u32>,
    /// `next_cursor` of the previous page.
    pub cursor: Option<String>,
}

/// List upgrade requests
///
/// Newest first.
#[utoipa::path(get, path = "/api/v1/admin/upgrades", tag = "Admin", security(("token" = [])),
    params(UpgradesQuery),
    responses((status = 200, body = Page<UpgradeView>), InvalidQuery, AdminReaderRequired, Unavailable))]
pub async fn list(
    State(state): State<ControlState>,
    _reader: AdminReader,
    Query(query): Query<UpgradesQuery>,
) -> Result<Json<Page<UpgradeView>>, ApiError> {
    let Page { data, next_cursor } = page_of(&state, query).await?;
    Ok(Json(Page { data: data.into_iter().map(UpgradeView::of).collect(), next_cursor }))
}

/// A page of requests, the newest first.
pub async fn page_of(
    state: &ControlState,
    query: UpgradesQuery,
) -> Result<Page<Upgrade>, ApiError> {
    let limit = pagination::limit(query.limit)?;
    let before = pagination::cursor::<UpgradeId>(query.cursor.as_deref())?;
    let rows = state.store.upgrades(query.status, before, limit + 1).await?;
    Ok(Page::of(rows, limit, |row| row.id.to_string(), |row| row))
}

/// Approve an upgrade request
///
/// The new plan takes effect with the user's next request.
#[utoipa::path(post, path = "/api/v1/admin/upgrades/{id}/approve", tag = "Admin",
    security(("token" = [])), params(("id" = String, Path, description = "Id of the upgrade request")),
    responses((status = 200, body = UpgradeView), AdminRequired, UpgradeNotFound, AlreadyDecided, Unavailable))]
pub async fn approve(
    State(state): State<ControlState>,
    admin: Admin,
    PathParam(id): PathParam,
) -> Result<Json<UpgradeView>, ApiError> {
    let decided = decide(&state, &admin, &id, true).await?;
    Ok(Json(UpgradeView::of(decided)))
}

/// Reject an upgrade request
#[utoipa::path(post, path = "/api/v1/admin/upgrades/{id}/reject", tag = "Admin",
    security(("token" = [])), params(("id" = String, Path, description = "Id of the upgrade request")),
    responses((status = 200, body = UpgradeView), AdminRequired, UpgradeNotFound, AlreadyDecided, Unavailable))]
pub async fn reject(
    State(state): State<ControlState>,
    admin: Admin,
    PathParam(id): PathParam,
) -> Result<Json<UpgradeView>, ApiError> {
    let decided = decide(&state, &admin, &id, false).await?;
    Ok(Json(UpgradeView::of(decided)))
}

/// Approves or rejects the request with this id.
pub async fn decide(
    state: &ControlState,
    admin: &Admin,
    id: &str,
    approve: bool,
) -> Result<Upgrade, ApiError> {
    let id: UpgradeId = id.parse().map_err(|_| ApiError::NotFound("upgrade request"))?;
    match state.store.decide_upgrade(id, approve, &admin.by).await? {
        Some(Decided::Now(upgrade)) => Ok(upgrade),
        Some(Decided::Before(_)) => Err(ApiError::AlreadyDecided),
        Some(Decided::Outdated(_)) => Err(ApiError::UpgradeOutdated),
        None => Err(ApiError::NotFound("upgrade request")),
    }
}

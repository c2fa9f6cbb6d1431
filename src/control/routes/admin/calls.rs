//! The calls of users, for admins.

use crate::control::api_error::ApiError;
use crate::control::auth::AdminReader;
use crate::control::http::extract::{PathParam, Query};
use crate::control::http::pagination::Page;
use crate::control::openapi::errors::{
    AdminReaderRequired, CallNotFound, InvalidQuery, Unavailable, UserNotFound,
};
use crate::control::routes::usage::history::{self, ChargeView, HistoryQuery};
use crate::control::routes::usage::receipt::{self, Receipt};
use crate::control::state::ControlState;
use axum::Json;
use axum::extract::State;
use axum::http::Uri;
use axum::response::Response;

/// List a user's calls
///
/// Newest first. With `format=csv`, the `Link` header has the address of the next page.
#[utoipa::path(get, path = "/api/v1/admin/users/{id}/calls", tag = "Admin",
    security(("token" = [])),
    params(("id" = String, Path, description = "Id of the user"), HistoryQuery),
    responses((status = 200, content((Page<ChargeView> = "application/json"), (String = "text/csv"))),
        InvalidQuery, AdminReaderRequired, UserNotFound, Unavailable))]
pub async fn list(
    State(state): State<ControlState>,
    _reader: AdminReader,
    PathParam(id): PathParam,
    uri: Uri,
    Query(query): Query<HistoryQuery>,
) -> Result<Response, ApiError> {
    let user = state.user(&id).await?;
    let format = query.format.unwrap_or_default();
    let page = history::rows(&state, user.id, query).await?;
    history::reply(page, format, &uri)
}

/// Get the receipt of any call
#[utoipa::path(get, path = "/api/v1/admin/calls/{request_id}", tag = "Admin",
    security(("token" = [])),
    params(("request_id" = String, Path, description = "The `x-request-id` of the response")),
    responses((status = 200, body = Receipt), AdminReaderRequired, CallNotFound, Unavailable))]
pub async fn show(
    State(state): State<ControlState>,
    _reader: AdminReader,
    PathParam(id): PathParam,
) -> Result<Json<Receipt>, ApiError> {
    receipt::any(&state, &id).await.map(Json)
}

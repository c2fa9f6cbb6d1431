//! Announcements, for admins: list, add, change, delete.

use crate::control::api_error::ApiError;
use crate::control::auth::{Admin, AdminReader};
use crate::control::http::extract::{JsonBody, PathParam, Query};
use crate::control::http::pagination::{self, Page};
use crate::control::openapi::errors::{
    AdminReaderRequired, AdminRequired, AnnouncementNotFound, InvalidBody, InvalidQuery,
    Unavailable,
};
use crate::control::state::ControlState;
use crate::control::views::announcement::AnnouncementInFull;
use crate::control::views::fields::{AnnouncementText, present};
use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use domain::actor::AuditContext;
use domain::id;
use jiff::Timestamp;
use serde::Deserialize;
use store::announcements::{Announcement, AnnouncementChange, AnnouncementError, Level};
use utoipa::{IntoParams, ToSchema};
use uuid::Uuid;

#[derive(Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct AnnouncementsQuery {
    /// Announcements per page; default 50.
    #[param(minimum = 1, maximum = 200)]
    pub limit: Option<u32>,
    /// `next_cursor` of the previous page.
    pub cursor: Option<String>,
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct AnnouncementForm {
    pub text: AnnouncementText,
    /// `info` (default) or `warning`.
    #[serde(default)]
    #[schema(value_type = Option<String>, pattern = "^(info|warning)$", example = "warning")]
    pub level: Option<Level>,
    /// Default: now.
    #[serde(default)]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub starts_at: Option<Timestamp>,
    /// Missing or `null`: until it is deleted.
    #[serde(default)]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub ends_at: Option<Timestamp>,
}

/// Fields to change. Missing fields stay as they are.
#[derive(Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct AnnouncementPatch {
    #[serde(default)]
    pub text: Option<AnnouncementText>,
    #[serde(default)]
    #[schema(value_type = Option<String>, pattern = "^(info|warning)$", example = "warning")]
    pub level: Option<Level>,
    #[serde(default)]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub starts_at: Option<Timestamp>,
    /// `null`: until it is deleted.
    #[serde(default, deserialize_with = "present")]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub ends_at: Option<Option<Timestamp>>,
}

/// List announcements
///
/// Newest first, including past and future ones.
#[utoipa::path(get, path = "/api/v1/admin/announcements", tag = "Admin",
    security(("token" = [])), params(AnnouncementsQuery),
    responses((status = 200, body = Page<AnnouncementInFull>), InvalidQuery, AdminReaderRequired, Unavailable))]
pub async fn list(
    State(state): State<ControlState>,
    _reader: AdminReader,
    Query(query): Query<AnnouncementsQuery>,
) -> Result<Json<Page<AnnouncementInFull>>, ApiError> {
    page(&state, query).await.map(Json)
}

/// Add an announcement
#[utoipa::path(post, path = "/api/v1/admin/announcements", tag = "Admin",
    security(("token" = [])), request_body = AnnouncementForm,
    responses((status = 201, body = AnnouncementInFull), InvalidBody, AdminRequired, Unavailable))]
pub async fn add(
    State(state): State<ControlState>,
    admin: Admin,
    JsonBody(form): JsonBody<AnnouncementForm>,
) -> Result<(StatusCode, Json<AnnouncementInFull>), ApiError> {
    let added = add_as(&state, form, &admin.by).await?;
    Ok((StatusCode::CREATED, Json(added)))
}

/// Change an announcement
#[utoipa::path(patch, path = "/api/v1/admin/announcements/{id}", tag = "Admin",
    security(("token" = [])),
    params(("id" = String, Path, description = "Id of the announcement")),
    request_body = AnnouncementPatch,
    responses((status = 200, body = AnnouncementInFull), InvalidBody, AdminRequired, AnnouncementNotFound,
        Unavailable))]
pub async fn change(
    State(state): State<ControlState>,
    admin: Admin,
    PathParam(id): PathParam,
    JsonBody(form): JsonBody<AnnouncementPatch>,
) -> Result<Json<AnnouncementInFull>, ApiError> {
    change_as(&state, &id, form, &admin.by).await.map(Json)
}

/// Delete an announcement
#[utoipa::path(delete, path = "/api/v1/admin/announcements/{id}", tag = "Admin",
    security(("token" = [])),
    params(("id" = String, Path, description = "Id of the announcement")),
    responses((status = 204, description = "The announcement is deleted"), AdminRequired, AnnouncementNotFound,
        Unavailable))]
pub async fn delete(
    State(state): State<ControlState>,
    admin: Admin,
    PathParam(id): PathParam,
) -> Result<StatusCode, ApiError> {
    delete_as(&state, &id, &admin.by).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// A page of all announcements.
///
/// # Errors
/// [`ApiError::InvalidValue`] for a parameter.
pub async fn page(
    state: &ControlState,
    query: AnnouncementsQuery,
) -> Result<Page<AnnouncementInFull>, ApiError> {
    let limit = pagination::limit(query.limit)?;
    let before = pagination::cursor::<Uuid>(query.cursor.as_deref())?;
    let rows = state.store.announcements(before, limit + 1).await?;
    Ok(Page::of(rows, limit, |row| row.id.to_string(), AnnouncementInFull::from))
}

/// Adds an announcement.
///
/// # Errors
/// [`ApiError::InvalidValue`] if it would end before it begins.
pub async fn add_as(
    state: &ControlState,
    form: AnnouncementForm,
    by: &AuditContext,
) -> Result<AnnouncementInFull, ApiError> {
    let announcement = Announcement {
        id: id::sorted_by_time(),
        text: form.text.0,
        level: form.level.unwrap_or(Level::Info),
        starts_at: in_millis(form.starts_at.unwrap_or(by.at)),
        ends_at: form.ends_at.map(in_millis),
        created_by: by.actor.to_string(),
        created_at: in_millis(by.at),
    };
    if !announcement.ends_after_start() {
        return Err(ends_before_start());
    }
    state.store.add_announcement(&announcement, by).await?;
    Ok(announcement.into())
}

/// Changes an announcement.
///
/// # Errors
/// [`ApiError::NotFound`]; [`ApiError::InvalidValue`] if it would end before it begins.
pub async fn change_as(
    state: &ControlState,
    id: &str,
    form: AnnouncementPatch,
    by: &AuditContext,
) -> Result<AnnouncementInFull, ApiError> {
    let change = AnnouncementChange {
        text: form.text.map(|text| text.0),
        level: form.level,
        starts_at: form.starts_at.map(in_millis),
        ends_at: form.ends_at.map(|end| end.map(in_millis)),
    };
    let changed = state.store.change_announcement(parsed(id)?, &change, by).await;
    let changed = changed.map_err(|error| match error {
        AnnouncementError::EndsBeforeStart => ends_before_start(),
        AnnouncementError::Store(error) => error.into(),
    })?;
    changed.map(AnnouncementInFull::from).ok_or(NOT_FOUND)
}

/// Deletes an announcement.
///
/// # Errors
/// [`ApiError::NotFound`].
pub async fn delete_as(state: &ControlState, id: &str, by: &AuditContext) -> Result<(), ApiError> {
    let is_deleted = state.store.delete_announcement(parsed(id)?, by).await?;
    if is_deleted { Ok(()) } else { Err(NOT_FOUND) }
}

const NOT_FOUND: ApiError = ApiError::NotFound("announcement");

fn parsed(id: &str) -> Result<Uuid, ApiError> {
    id.parse().map_err(|_| NOT_FOUND)
}

fn ends_before_start() -> ApiError {
    ApiError::invalid("ends_at", "`ends_at` must be later than `starts_at`.")
}

/// The time as it is stored.
fn in_millis(at: Timestamp) -> Timestamp {
    Timestamp::from_millisecond(at.as_millisecond()).unwrap_or(at)
}

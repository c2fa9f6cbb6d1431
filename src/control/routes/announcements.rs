//! `GET /api/v1/announcements`: what admins announce to all callers now. Public, as plans are.

use crate::control::api_error::ApiError;
use crate::control::http::etag;
use crate::control::http::pagination::Page;
use crate::control::openapi::errors::{NotModified, Unavailable};
use crate::control::state::ControlState;
use crate::control::views::announcement::AnnouncementView;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::Response;
use jiff::Timestamp;
use system::clock;

/// List current announcements
///
/// The latest first, at most 20. Public.
#[utoipa::path(get, path = "/api/v1/announcements", tag = "Announcements",
    responses((status = 200, body = Page<AnnouncementView>), NotModified, Unavailable))]
pub async fn list(
    State(state): State<ControlState>,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let current = current(&state, clock::now()).await?;
    Ok(etag::respond(&headers, &Page::single(current)))
}

/// The announcements that are shown at `now`, the latest first.
///
/// # Errors
/// The store does not answer.
pub async fn current(
    state: &ControlState,
    now: Timestamp,
) -> Result<Vec<AnnouncementView>, ApiError> {
    let current = state.store.current_announcements(now).await?;
    Ok(current.into_iter().map(AnnouncementView::from).collect())
}

//! `GET /api/v1/announcements`: what admins announce to all callers now. Public, as plans are.

use crate::control::api_error::ApiError;
use crate::control::http::etag;
use crate::control::http::pagination::Page;
use crate::control::http::stale_cache::StaleWhileRevalidate;
use crate::control::openapi::errors::{NotModified, Unavailable};
use crate::control::state::ControlState;
use crate::control::views::announcement::AnnouncementView;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::Response;
use jiff::Timestamp;
use std::sync::Arc;
use std::time::Duration;
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

/// Cached announcements.
pub type CurrentAnnouncements = StaleWhileRevalidate<(), Vec<AnnouncementView>>;

/// A cache for seconds: every page of the console shows announcements, and none of them is urgent. While the
/// store is unavailable the last ones stay.
#[must_use]
pub fn cache() -> CurrentAnnouncements {
    StaleWhileRevalidate::new(Duration::from_secs(5), Duration::from_mins(5))
}

/// The announcements that pages show at `now`; none if the store is unavailable.
pub async fn cached(state: &ControlState, now: Timestamp) -> Arc<Vec<AnnouncementView>> {
    let store = Arc::clone(&state.store);
    let load = async move {
        let current = store.current_announcements(now).await?;
        Ok(current.into_iter().map(AnnouncementView::from).collect())
    };
    state.announcements.get((), clock::instant(), load).await.unwrap_or_default()
}

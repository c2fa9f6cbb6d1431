//! The sessions of the logged-in user: which there are, and ending them.

use crate::control::api_error::ApiError;
use crate::control::auth::CurrentUser;
use crate::control::http::extract::PathParam;
use crate::control::http::pagination::Page;
use crate::control::openapi::errors::{LoginRequired, SessionNotFound, Unavailable};
use crate::control::state::ControlState;
use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use domain::id::{SessionId, UserId};
use jiff::Timestamp;
use serde::Serialize;
use store::sessions::{SessionInfo, SessionKind};
use system::clock;
use utoipa::ToSchema;

/// A session, as its user sees it.
#[derive(Serialize, ToSchema)]
pub struct SessionView {
    #[schema(value_type = String, format = Uuid)]
    pub id: SessionId,
    /// `api` or `console`.
    #[schema(value_type = String, example = "api")]
    pub kind: &'static str,
    pub created_at: Timestamp,
    /// Last use of the session: exact to a minute for `console`, to the last refresh for `api`.
    pub last_seen_at: Timestamp,
    pub expires_at: Timestamp,
    /// The address that the session was last used from.
    #[schema(required, example = "192.0.2.1")]
    pub address: Option<String>,
    /// The program that last used the session, by its own words, which may be anything; at most 200 characters.
    #[schema(required, example = "Mozilla/5.0 ...")]
    pub user_agent: Option<String>,
    /// True for the session of this request.
    pub current: bool,
}

/// Number of sessions that were ended.
#[derive(Serialize, ToSchema)]
pub struct EndedSessions {
    pub ended: u64,
}

/// List your sessions
///
/// Newest first; an account has at most 100.
#[utoipa::path(get, path = "/api/v1/users/sessions", tag = "Accounts", security(("token" = [])),
    responses((status = 200, body = Page<SessionView>), LoginRequired, Unavailable))]
pub async fn list(
    State(state): State<ControlState>,
    current: CurrentUser,
) -> Result<Json<Page<SessionView>>, ApiError> {
    let sessions = of_user(&state, current.user.id, Some(current.session)).await?;
    Ok(Json(Page::single(sessions)))
}

/// End a session
///
/// Its tokens stop working immediately. Ending the session of the request is logging out.
#[utoipa::path(delete, path = "/api/v1/users/sessions/{id}", tag = "Accounts",
    security(("token" = [])), params(("id" = String, Path, description = "Id of the session")),
    responses((status = 204, description = "The session has ended"), LoginRequired, SessionNotFound,
        Unavailable))]
pub async fn end(
    State(state): State<ControlState>,
    current: CurrentUser,
    PathParam(id): PathParam,
) -> Result<StatusCode, ApiError> {
    end_one(&state, current.user.id, &id).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// End all other sessions
///
/// Only the session of the request continues.
#[utoipa::path(delete, path = "/api/v1/users/sessions", tag = "Accounts", security(("token" = [])),
    responses((status = 200, body = EndedSessions), LoginRequired, Unavailable))]
pub async fn end_others(
    State(state): State<ControlState>,
    current: CurrentUser,
) -> Result<Json<EndedSessions>, ApiError> {
    let ended = state.store.end_other_sessions(current.user.id, current.session).await?;
    Ok(Json(EndedSessions { ended }))
}

/// The sessions of a user that have not expired, the newest first. `current` is marked.
pub async fn of_user(
    state: &ControlState,
    user: UserId,
    current: Option<SessionId>,
) -> Result<Vec<SessionView>, ApiError> {
    let sessions = state.store.sessions_of(user, clock::now()).await?;
    Ok(sessions.into_iter().map(|session| SessionView::of(session, current)).collect())
}

/// Ends the session with this id, if it is the user's. Returns 404 for those of others so as not to reveal that
/// they exist.
pub async fn end_one(state: &ControlState, user: UserId, id: &str) -> Result<(), ApiError> {
    let session: SessionId = id.parse().map_err(|_| ApiError::NotFound("session"))?;
    if state.store.end_session_of(user, session).await? {
        Ok(())
    } else {
        Err(ApiError::NotFound("session"))
    }
}

impl SessionView {
    fn of(session: SessionInfo, current: Option<SessionId>) -> Self {
        Self {
            current: current == Some(session.id),
            id: session.id,
            kind: SessionKind::as_str(session.kind),
            created_at: session.created_at,
            last_seen_at: session.seen_at,
            expires_at: session.expires_at,
            address: session.client.address,
            user_agent: session.client.user_agent,
        }
    }
}

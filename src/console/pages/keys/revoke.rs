//! Revoking a key.

use crate::console::error::{PageError, html, redirect};
use crate::console::forms::SafeForm;
use crate::console::page::Page;
use crate::console::session::SignedIn;
use crate::control::api_error::ApiError;
use crate::control::http::extract::PathParam;
use crate::control::routes::keys;
use crate::control::state::ControlState;
use askama::Template;
use axum::extract::State;
use axum::response::Response;

#[derive(Template)]
#[template(path = "console/keys/revoke.html")]
struct RevokePage {
    page: Page,
    id: String,
    name: String,
    last_four: String,
}

/// `GET /console/keys/{id}/revoke`.
pub async fn form(
    State(state): State<ControlState>,
    signed_in: SignedIn,
    id: Result<PathParam, ApiError>,
) -> Result<Response, PageError> {
    let PathParam(id) = id?;
    let key = state.live_key(signed_in.current.user.id, &id).await?;
    let (page, id) = (signed_in.page, key.id.to_string());
    html(&RevokePage { page, id, name: key.name, last_four: key.last_four })
}

/// `POST /console/keys/{id}/revoke`.
pub async fn revoke(
    State(state): State<ControlState>,
    signed_in: SignedIn,
    id: Result<PathParam, ApiError>,
    SafeForm(()): SafeForm<()>,
) -> Result<Response, PageError> {
    let PathParam(id) = id?;
    let current = signed_in.current;
    keys::revoke_of(&state, current.user.id, &id, &current.by).await?;
    Ok(redirect("/console/keys?done=revoked"))
}

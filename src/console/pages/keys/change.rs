//! Changing a key that is not revoked.

use super::settings::{KeyFields, KeyFormPage, Settings};
use crate::console::error::{PageError, html, redirect, refused};
use crate::console::error_text::message;
use crate::console::forms::SafeForm;
use crate::console::session::SignedIn;
use crate::control::api_error::ApiError;
use crate::control::auth::CurrentUser;
use crate::control::http::extract::PathParam;
use crate::control::routes::keys;
use crate::control::state::ControlState;
use crate::control::views::limits::ModelNames;
use axum::extract::State;
use axum::response::Response;
use domain::key::Key;
use std::sync::Arc;
use store::KeyChange;
use system::clock;

/// `GET /console/keys/{id}`.
pub async fn form(
    State(state): State<ControlState>,
    signed_in: SignedIn,
    id: Result<PathParam, ApiError>,
) -> Result<Response, PageError> {
    let PathParam(id) = id?;
    let SignedIn { page, current, .. } = signed_in;
    let key = state.live_key(current.user.id, &id).await?;
    let limits = state.limits_of(&current.user).await?;
    let fields = KeyFields::of(&key);
    html(&KeyFormPage::new(page, &state, &limits, (id, fields), String::new()))
}

/// `POST /console/keys/{id}`.
pub async fn change(
    State(state): State<ControlState>,
    signed_in: SignedIn,
    id: Result<PathParam, ApiError>,
    SafeForm(fields): SafeForm<KeyFields>,
) -> Result<Response, PageError> {
    let PathParam(id) = id?;
    let SignedIn { page, current, .. } = signed_in;
    let key = state.live_key(current.user.id, &id).await?;
    let error = match fields.read(&page, Some(&key), clock::now()) {
        Ok(settings) => match apply(&state, &current, &key, settings).await {
            Ok(()) => return Ok(redirect("/console/keys?done=changed")),
            Err(error) => error,
        },
        Err(problem) => ApiError::FormField(problem),
    };
    let problem = message(&page, &error);
    let limits = state.limits_of(&current.user).await?;
    refused(&KeyFormPage::new(page, &state, &limits, (id, fields), problem), &error)
}

async fn apply(
    state: &ControlState,
    current: &CurrentUser,
    key: &Key,
    settings: Settings,
) -> Result<(), ApiError> {
    // Models that have left the configuration since may stay, but not be added again.
    let models = match (&settings.models, &key.limits.models) {
        (Some(asked), Some(known)) if is_same(asked, known) => None,
        _ => Some(state.model_ids("models", settings.models)?),
    };
    let is_expiry_new = settings.expires_at != key.expires_at;
    let change = KeyChange {
        name: Some(settings.name),
        expires_at: is_expiry_new.then_some(settings.expires_at),
        tokens_per_day: Some(settings.tokens_per_day),
        requests_per_day: Some(settings.requests_per_day),
        models,
    };
    keys::change_of(state, current, key.id.as_str(), &change).await.map(drop)
}

/// True if both are the same models, in whatever order.
fn is_same(asked: &ModelNames, known: &[Arc<str>]) -> bool {
    let mut asked: Vec<&str> = asked.0.iter().map(|id| id.0.as_str()).collect();
    let mut known: Vec<&str> = known.iter().map(|id| &**id).collect();
    asked.sort_unstable();
    known.sort_unstable();
    asked == known
}

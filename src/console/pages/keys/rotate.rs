//! Rotating a key: a new one with the same settings takes the place of the old one.

use super::created;
use crate::console::error::{PageError, html, refused};
use crate::console::error_text::message;
use crate::console::format::Time;
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
use domain::id::UserId;
use domain::key::Key;
use jiff::{SignedDuration, Timestamp};
use serde::Deserialize;
use store::{KeyFilter, LIVE_KEYS};
use system::clock;

#[derive(Template)]
#[template(path = "console/keys/rotate.html")]
struct RotatePage {
    page: Page,
    id: String,
    name: String,
    last_four: String,
    problem: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RotateKeyForm {
    #[serde(default)]
    old_key: OldKey,
}

/// When the old key stops working.
#[derive(Debug, Clone, Copy, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
enum OldKey {
    #[default]
    Now,
    Hour,
    Day,
}

impl OldKey {
    fn ends_at(self, now: Timestamp) -> Option<Timestamp> {
        let hours = match self {
            Self::Now => return None,
            Self::Hour => 1,
            Self::Day => 24,
        };
        now.checked_add(SignedDuration::from_hours(hours)).ok()
    }
}

/// `GET /console/keys/{id}/rotate`.
pub async fn form(
    State(state): State<ControlState>,
    signed_in: SignedIn,
    id: Result<PathParam, ApiError>,
) -> Result<Response, PageError> {
    let PathParam(id) = id?;
    signed_in.confirmed(&path(&id))?;
    let key = state.live_key(signed_in.current.user.id, &id).await?;
    html(&RotatePage::new(signed_in.page, &key, String::new()))
}

/// `POST /console/keys/{id}/rotate`.
pub async fn rotate(
    State(state): State<ControlState>,
    signed_in: SignedIn,
    id: Result<PathParam, ApiError>,
    SafeForm(form): SafeForm<RotateKeyForm>,
) -> Result<Response, PageError> {
    let PathParam(id) = id?;
    signed_in.confirmed(&path(&id))?;
    let SignedIn { page, current, .. } = signed_in;
    let old = state.live_key(current.user.id, &id).await?;
    if has_successor(&state, current.user.id, &old).await? {
        let problem = page.t("A newer key has this name: this one was rotated already. Revoke it when nothing uses it any more.");
        let error = ApiError::form_field(problem);
        return again(page, &old, &error);
    }
    let ends_at = form.old_key.ends_at(clock::now());
    match keys::rotate_of(&state, &current, &id, ends_at).await {
        Ok(added) => {
            let old = fate_of(&page, &old, ends_at);
            created(page, &state, added, old)
        }
        Err(error) => again(page, &old, &error),
    }
}

/// Where to go after the password was confirmed. An id that is none leads to the list.
fn path(id: &str) -> String {
    let is_id = id.bytes().all(|byte| byte.is_ascii_alphanumeric());
    if is_id { format!("/console/keys/{id}/rotate") } else { "/console/keys".to_owned() }
}

fn again(page: Page, key: &Key, error: &ApiError) -> Result<Response, PageError> {
    let problem = message(&page, error);
    refused(&RotatePage::new(page, key, problem), error)
}

/// True if a newer key with this name works. A page that is sent again by mistake makes no third key.
async fn has_successor(state: &ControlState, user: UserId, old: &Key) -> Result<bool, ApiError> {
    let filter = KeyFilter { live: true, after: Some((old.created_at, old.id.clone())) };
    let most = u32::try_from(LIVE_KEYS).unwrap_or(u32::MAX);
    let newer = state.store.keys(user, &filter, most).await?;
    Ok(newer.iter().any(|key| key.name == old.name))
}

/// What becomes of the old key.
fn fate_of(page: &Page, old: &Key, ends_at: Option<Timestamp>) -> String {
    let ends_at = ends_at.map(|at| old.expires_at.map_or(at, |expiry| expiry.min(at)));
    match ends_at {
        None => page.fill("The old key, …{}, no longer works.", &[&old.last_four]),
        Some(at) => page.fill("The old key, …{}, works until {}.", &[&old.last_four, &Time(at)]),
    }
}

impl RotatePage {
    fn new(page: Page, key: &Key, problem: String) -> Self {
        Self {
            page,
            id: key.id.to_string(),
            name: key.name.clone(),
            last_four: key.last_four.clone(),
            problem,
        }
    }
}

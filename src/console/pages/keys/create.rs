//! Creating a key.

use super::created;
use super::settings::{KeyFields, KeyFormPage, Settings};
use crate::console::error::{PageError, html, refused};
use crate::console::error_text::message;
use crate::console::forms::SafeForm;
use crate::console::page::Page;
use crate::console::session::SignedIn;
use crate::control::api_error::ApiError;
use crate::control::auth::CurrentUser;
use crate::control::routes::keys::{self, KeySettings};
use crate::control::state::ControlState;
use axum::extract::State;
use axum::response::Response;
use domain::key::{Key, KeyLimits, PlainKey};
use store::{KeyFilter, LIVE_KEYS};
use system::clock;

const PATH: &str = "/console/keys/new";

/// `GET /console/keys/new`.
pub async fn form(
    State(state): State<ControlState>,
    signed_in: SignedIn,
) -> Result<Response, PageError> {
    signed_in.confirmed(PATH)?;
    let limits = state.limits_of(&signed_in.current.user).await?;
    let fields = (String::new(), KeyFields::empty());
    html(&KeyFormPage::new(signed_in.page, &state, &limits, fields, String::new()))
}

/// `POST /console/keys/new`.
pub async fn create(
    State(state): State<ControlState>,
    signed_in: SignedIn,
    SafeForm(fields): SafeForm<KeyFields>,
) -> Result<Response, PageError> {
    signed_in.confirmed(PATH)?;
    let SignedIn { page, current, .. } = signed_in;
    match add(&page, &state, &current, &fields).await {
        Ok(added) => created(page, &state, added, String::new()),
        Err(error) => {
            let problem = message(&page, &error);
            let limits = state.limits_of(&current.user).await?;
            let fields = (String::new(), fields);
            refused(&KeyFormPage::new(page, &state, &limits, fields, problem), &error)
        }
    }
}

async fn add(
    page: &Page,
    state: &ControlState,
    current: &CurrentUser,
    fields: &KeyFields,
) -> Result<(PlainKey, Key), ApiError> {
    let settings = fields.read(page, None, clock::now());
    let settings = settings.map_err(ApiError::FormField)?;
    add_unless_named(state, current, settings).await?.ok_or_else(|| {
        let problem =
            page.t("You have a key with this name. Choose another name, or rotate that key.");
        ApiError::form_field(problem)
    })
}

/// `None` if a key with this name works: a page that is sent again by mistake makes no second key.
async fn add_unless_named(
    state: &ControlState,
    current: &CurrentUser,
    settings: Settings,
) -> Result<Option<(PlainKey, Key)>, ApiError> {
    let Settings { name, tokens_per_day, requests_per_day, models, expires_at } = settings;
    let filter = KeyFilter { live: true, after: None };
    let most = u32::try_from(LIVE_KEYS).unwrap_or(u32::MAX);
    let live = state.store.keys(current.user.id, &filter, most).await?;
    if live.iter().any(|key| key.name == name) {
        return Ok(None);
    }
    let models = state.model_ids("models", models)?;
    let limits = KeyLimits { tokens_per_day, requests_per_day, models };
    keys::create(state, current, KeySettings { name, expires_at, limits }).await.map(Some)
}

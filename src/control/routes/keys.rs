//! The API keys of the logged-in user.

use super::session::DEFAULT_KEY;
use crate::control::account_links::require_verified;
use crate::control::api_error::ApiError;
use crate::control::auth::CurrentUser;
use crate::control::http::extract::{JsonBody, PathParam, Query};
use crate::control::http::pagination::{self, Page};
use crate::control::openapi::errors::{
    EmailUnverified, InvalidBody, InvalidQuery, KeyNotFound, LoginRequired, RateLimited,
    TooManyKeys, Unavailable,
};
use crate::control::state::ControlState;
use crate::control::views::fields::{Label, present};
use crate::control::views::key::KeyView;
use crate::control::views::limits::{ModelNames, RequestsPerDay, TokensPerDay};
use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use domain::actor::AuditContext;
use domain::id::{KeyId, UserId};
use domain::key::{Key, KeyLimits, PlainKey, has_expired};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use std::fmt;
use std::str::FromStr;
use store::{KeyChange, KeyFilter, NewKey};
use system::clock;
use utoipa::{IntoParams, ToSchema};

/// A new API key with its secret.
#[derive(Serialize, ToSchema)]
pub struct NewKeyView {
    /// The API key. It cannot be shown again.
    #[schema(example = "sk-kx-...")]
    api_key: String,
    #[serde(flatten)]
    key: KeyView,
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct KeyForm {
    name: Label,
    /// When the key expires; must be in the future.
    #[serde(default)]
    expires_at: Option<Timestamp>,
    #[serde(default)]
    max_tokens_per_day: Option<TokensPerDay>,
    #[serde(default)]
    max_requests_per_day: Option<RequestsPerDay>,
    /// Ids or aliases of models, stored as ids. Models outside the plan are ignored.
    #[serde(default)]
    models: Option<ModelNames>,
}

/// A key to be replaced.
#[derive(Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RotateForm {
    /// When the old key expires; must be in the future. By default it is revoked immediately.
    #[serde(default)]
    old_expires_at: Option<Timestamp>,
}

/// The values of a key that its owner chooses.
pub struct KeySettings {
    pub name: String,
    pub expires_at: Option<Timestamp>,
    pub limits: KeyLimits,
}

/// Fields to change. Missing fields stay as they are; `null` removes a limit or the expiry.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct KeyPatch {
    #[serde(default)]
    name: Option<Label>,
    #[serde(default, deserialize_with = "present")]
    #[schema(value_type = Option<Timestamp>)]
    expires_at: Option<Option<Timestamp>>,
    #[serde(default, deserialize_with = "present")]
    #[schema(value_type = Option<TokensPerDay>)]
    max_tokens_per_day: Option<Option<TokensPerDay>>,
    #[serde(default, deserialize_with = "present")]
    #[schema(value_type = Option<RequestsPerDay>)]
    max_requests_per_day: Option<Option<RequestsPerDay>>,
    #[serde(default, deserialize_with = "present")]
    #[schema(value_type = Option<ModelNames>)]
    models: Option<Option<ModelNames>>,
}

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct KeysQuery {
    /// Keys per page; default 50.
    #[param(minimum = 1, maximum = 200)]
    limit: Option<u32>,
    /// `next_cursor` of the previous page.
    cursor: Option<String>,
}

/// The position of a key in the list.
struct KeyCursor(Timestamp, KeyId);

/// List your keys
///
/// Oldest first, including revoked keys.
#[utoipa::path(get, path = "/api/v1/keys", tag = "Keys", security(("token" = [])),
    params(KeysQuery),
    responses((status = 200, body = Page<KeyView>), InvalidQuery, LoginRequired, Unavailable))]
pub async fn list(
    State(state): State<ControlState>,
    current: CurrentUser,
    Query(query): Query<KeysQuery>,
) -> Result<Json<Page<KeyView>>, ApiError> {
    page_of(&state, current.user.id, query).await.map(Json)
}

/// Create a key
#[utoipa::path(post, path = "/api/v1/keys", tag = "Keys", security(("token" = [])),
    request_body = KeyForm,
    responses((status = 201, body = NewKeyView), InvalidBody, LoginRequired, EmailUnverified, TooManyKeys, RateLimited, Unavailable))]
pub async fn add(
    State(state): State<ControlState>,
    current: CurrentUser,
    JsonBody(form): JsonBody<KeyForm>,
) -> Result<(StatusCode, Json<NewKeyView>), ApiError> {
    let limits = KeyLimits {
        tokens_per_day: form.max_tokens_per_day.map(|limit| limit.0),
        requests_per_day: form.max_requests_per_day.map(|limit| limit.0),
        models: state.model_ids("models", form.models)?,
    };
    let settings = KeySettings { name: form.name.0, expires_at: form.expires_at, limits };
    let (plain, added) = create(&state, &current, settings).await?;
    Ok((StatusCode::CREATED, Json(NewKeyView::of(&plain, added))))
}

/// Change a key
#[utoipa::path(patch, path = "/api/v1/keys/{id}", tag = "Keys", security(("token" = [])),
    params(("id" = String, Path, description = "Id of the key")), request_body = KeyPatch,
    responses((status = 200, body = KeyView), InvalidBody, LoginRequired, KeyNotFound, RateLimited, Unavailable))]
pub async fn change(
    State(state): State<ControlState>,
    current: CurrentUser,
    PathParam(id): PathParam,
    JsonBody(form): JsonBody<KeyPatch>,
) -> Result<Json<KeyView>, ApiError> {
    let change = KeyChange {
        name: form.name.map(|name| name.0),
        expires_at: form.expires_at,
        tokens_per_day: form.max_tokens_per_day.map(|limit| limit.map(|limit| limit.0)),
        requests_per_day: form.max_requests_per_day.map(|limit| limit.map(|limit| limit.0)),
        models: form.models.map(|names| state.model_ids("models", names)).transpose()?,
    };
    let changed = change_of(&state, &current, &id, &change).await?;
    let last_used = last_used(&state, current.user.id).await?;
    Ok(Json(KeyView::of(changed, &last_used)))
}

/// Revoke a key
///
/// Takes effect with the next request; open streams end within a second.
#[utoipa::path(delete, path = "/api/v1/keys/{id}", tag = "Keys", security(("token" = [])),
    params(("id" = String, Path, description = "Id of the key")),
    responses((status = 204, description = "The key is revoked"), LoginRequired, KeyNotFound, Unavailable))]
pub async fn revoke(
    State(state): State<ControlState>,
    current: CurrentUser,
    PathParam(id): PathParam,
) -> Result<StatusCode, ApiError> {
    revoke_of(&state, current.user.id, &id, &current.by).await
}

/// Rotate a key
///
/// The new key has the name, limits, models and expiry of the old one, which stops working immediately or at
/// `old_expires_at`.
#[utoipa::path(post, path = "/api/v1/keys/{id}/rotate", tag = "Keys", security(("token" = [])),
    params(("id" = String, Path, description = "Id of the old key")), request_body = RotateForm,
    responses((status = 201, body = NewKeyView), InvalidBody, LoginRequired, EmailUnverified, KeyNotFound, TooManyKeys, RateLimited, Unavailable))]
pub async fn rotate(
    State(state): State<ControlState>,
    current: CurrentUser,
    PathParam(id): PathParam,
    JsonBody(form): JsonBody<RotateForm>,
) -> Result<(StatusCode, Json<NewKeyView>), ApiError> {
    let (plain, added) = rotate_of(&state, &current, &id, form.old_expires_at).await?;
    Ok((StatusCode::CREATED, Json(NewKeyView::of(&plain, added))))
}

/// Regenerate the default key
///
/// The previous default key stops working immediately.
#[utoipa::path(post, path = "/api/v1/users/regenerate-api-key", tag = "Keys",
    security(("token" = [])),
    responses((status = 200, body = NewKeyView), LoginRequired, EmailUnverified, TooManyKeys, RateLimited, Unavailable))]
pub async fn regenerate(
    State(state): State<ControlState>,
    current: CurrentUser,
) -> Result<Json<NewKeyView>, ApiError> {
    require_verified(&state, &current.user)?;
    state.identity.may_change(current.user.id, clock::instant())?;
    let (plain, key) = new_key(&state, DEFAULT_KEY, clock::now())?;
    let added = state.store.replace_key(current.user.id, &key, &current.by).await?;
    Ok(Json(NewKeyView::of(&plain, added)))
}

/// A page of a user's keys, including revoked ones.
pub async fn page_of(
    state: &ControlState,
    user: UserId,
    query: KeysQuery,
) -> Result<Page<KeyView>, ApiError> {
    let limit = pagination::limit(query.limit)?;
    let after = pagination::cursor(query.cursor.as_deref())?.map(|KeyCursor(at, id)| (at, id));
    let filter = KeyFilter { live: false, after };
    let keys = state.store.keys(user, &filter, limit + 1).await?;
    let last_used = last_used(state, user).await?;
    let cursor = |key: &Key| KeyCursor(key.created_at, key.id.clone()).to_string();
    Ok(Page::of(keys, limit, cursor, |key| KeyView::of(key, &last_used)))
}

/// The keys of a user that are not revoked.
pub async fn live(state: &ControlState, user: UserId) -> Result<Vec<KeyView>, ApiError> {
    let filter = KeyFilter { live: true, after: None };
    let keys = state.store.keys(user, &filter, pagination::MAX_LIMIT).await?;
    let last_used = last_used(state, user).await?;
    Ok(keys.into_iter().map(|key| KeyView::of(key, &last_used)).collect())
}

/// The time at which each key of a user was last used.
pub async fn last_used(
    state: &ControlState,
    user: UserId,
) -> Result<HashMap<KeyId, Timestamp>, ApiError> {
    Ok(state.store.last_used(user).await?.into_iter().collect())
}

/// A new key and its record, to be added.
pub fn new_key(
    state: &ControlState,
    name: &str,
    now: Timestamp,
) -> Result<(PlainKey, NewKey), ApiError> {
    let plain = PlainKey::generate().map_err(|_| ApiError::Internal)?;
    let key = NewKey::of(&plain, &state.pepper, name, now);
    Ok((plain, key))
}

/// Adds a key of the user.
pub async fn create(
    state: &ControlState,
    current: &CurrentUser,
    settings: KeySettings,
) -> Result<(PlainKey, Key), ApiError> {
    let now = clock::now();
    let KeySettings { name, expires_at, limits } = settings;
    require_verified(state, &current.user)?;
    not_expired("expires_at", expires_at, now)?;
    state.identity.may_change(current.user.id, clock::instant())?;
    let (plain, key) = new_key(state, &name, now)?;
    let key = NewKey { expires_at, limits, ..key };
    let added = state.store.add_key(current.user.id, &key, &current.by).await?;
    Ok((plain, added))
}

/// Changes a key of the user that is not revoked.
pub async fn change_of(
    state: &ControlState,
    current: &CurrentUser,
    id: &str,
    change: &KeyChange,
) -> Result<Key, ApiError> {
    let key = state.live_key(current.user.id, id).await?;
    not_expired("expires_at", change.expires_at.flatten(), clock::now())?;
    state.identity.may_change(current.user.id, clock::instant())?;
    let changed = state.store.change_key(current.user.id, &key.id, change, &current.by).await?;
    changed.ok_or(ApiError::NotFound("key"))
}

/// Adds a key with the settings of an old key of the user, which is revoked or expires at `old_ends_at`.
pub async fn rotate_of(
    state: &ControlState,
    current: &CurrentUser,
    id: &str,
    old_ends_at: Option<Timestamp>,
) -> Result<(PlainKey, Key), ApiError> {
    let now = clock::now();
    require_verified(state, &current.user)?;
    let old = state.live_key(current.user.id, id).await?;
    not_expired("old_expires_at", old_ends_at, now)?;
    if has_expired(old.expires_at, now) {
        let problem = "This key has expired. Change its expiry first, or create a new key.";
        return Err(ApiError::invalid("id", problem));
    }
    state.identity.may_change(current.user.id, clock::instant())?;
    let (plain, key) = new_key(state, &old.name, now)?;
    let key = NewKey { expires_at: old.expires_at, limits: old.limits, ..key };
    let replaced = (&old.id, old_ends_at);
    let added = state.store.rotate_key(current.user.id, replaced, &key, &current.by).await?;
    Ok((plain, added.ok_or(ApiError::NotFound("key"))?))
}

/// Revokes a key of the user that is not revoked.
pub async fn revoke_of(
    state: &ControlState,
    user: UserId,
    id: &str,
    by: &AuditContext,
) -> Result<StatusCode, ApiError> {
    let key = state.live_key(user, id).await?;
    state.store.revoke_key(&key.id, by).await?;
    Ok(StatusCode::NO_CONTENT)
}

fn not_expired(param: &str, at: Option<Timestamp>, now: Timestamp) -> Result<(), ApiError> {
    if has_expired(at, now) {
        return Err(ApiError::invalid(param, format!("`{param}` must be in the future.")));
    }
    Ok(())
}

impl fmt::Display for KeyCursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.0.as_millisecond(), self.1)
    }
}

impl FromStr for KeyCursor {
    type Err = ();
    fn from_str(text: &str) -> Result<Self, ()> {
        let (at, id) = text.split_once('.').ok_or(())?;
        let at = at.parse().ok().and_then(|ms| Timestamp::from_millisecond(ms).ok()).ok_or(())?;
        let is_id = !id.is_empty() && id.bytes().all(|byte| byte.is_ascii_alphanumeric());
        if is_id { Ok(Self(at, KeyId::from(id))) } else { Err(()) }
    }
}

impl NewKeyView {
    fn of(plain: &PlainKey, key: Key) -> Self {
        Self { api_key: plain.reveal().to_owned(), key: KeyView::of(key, &HashMap::new()) }
    }
}

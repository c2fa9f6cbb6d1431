//! One's own API keys.

use super::session::DEFAULT_KEY;
use crate::account::id::{KeyId, UserId};
use crate::account::key::{Key, KeyLimits, PlainKey};
use crate::clock;
use crate::control::api_error::ApiError;
use crate::control::auth::SignedIn;
use crate::control::http::extract::{Form, Params, Segment};
use crate::control::http::pagination::{self, Page};
use crate::control::openapi::errors::{
    Away, BadBody, BadQuery, NoSuchKey, NotSignedIn, TooManyKeys, TooOften,
};
use crate::control::state::ControlState;
use crate::control::views::fields::{Label, present};
use crate::store::{KeyChange, KeyFilter, NewKey};
use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use utoipa::{IntoParams, ToSchema};

/// Models that one key may be narrowed to.
const MOST_MODELS: usize = 100;

/// A key, without its secret.
#[derive(Serialize, ToSchema)]
pub struct KeyView {
    #[schema(value_type = String, example = "4f9KZ0q1Wm7a")]
    id: KeyId,
    #[schema(example = "laptop")]
    name: String,
    /// Its last four characters.
    #[schema(example = "x7Qa")]
    last_four: String,
    created_at: Timestamp,
    #[schema(required)]
    last_used_at: Option<Timestamp>,
    #[schema(required)]
    expires_at: Option<Timestamp>,
    #[schema(required)]
    revoked_at: Option<Timestamp>,
    /// Its own limit; `null` = the plan's alone.
    #[schema(required)]
    max_tokens_per_day: Option<u64>,
    #[schema(required)]
    max_requests_per_day: Option<u64>,
    /// `null` = every model of the plan.
    #[schema(required, value_type = Option<Vec<String>>)]
    models: Option<Arc<[Arc<str>]>>,
}

/// A new key, with its secret.
#[derive(Serialize, ToSchema)]
pub struct NewKeyView {
    /// Shown only now.
    #[schema(example = "sk-kx-...")]
    api_key: String,
    #[serde(flatten)]
    key: KeyView,
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct KeyForm {
    name: Label,
    /// When it ends by itself; later than now.
    #[serde(default)]
    expires_at: Option<Timestamp>,
    #[serde(default)]
    #[schema(maximum = 1_000_000_000_000_i64)]
    max_tokens_per_day: Option<u64>,
    #[serde(default)]
    #[schema(maximum = 1_000_000_000)]
    max_requests_per_day: Option<u64>,
    /// Ids or aliases of models, stored as ids. Models outside the plan are ignored.
    #[serde(default)]
    #[schema(max_items = 100)]
    models: Option<Vec<ModelId>>,
}

/// What is left out stays; `null` takes a limit or the expiry away.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct KeyPatch {
    #[serde(default)]
    name: Option<Label>,
    #[serde(default, deserialize_with = "present")]
    #[schema(value_type = Option<Timestamp>)]
    expires_at: Option<Option<Timestamp>>,
    #[serde(default, deserialize_with = "present")]
    #[schema(value_type = Option<u64>, maximum = 1_000_000_000_000_i64)]
    max_tokens_per_day: Option<Option<u64>>,
    #[serde(default, deserialize_with = "present")]
    #[schema(value_type = Option<u64>, maximum = 1_000_000_000)]
    max_requests_per_day: Option<Option<u64>>,
    #[serde(default, deserialize_with = "present")]
    #[schema(value_type = Option<Vec<ModelId>>, max_items = 100)]
    models: Option<Option<Vec<ModelId>>>,
}

/// The id of a model.
#[derive(Debug, Clone, Deserialize, ToSchema)]
#[serde(try_from = "String")]
#[schema(value_type = String, pattern = "^[A-Za-z0-9._:/-]{1,128}$", example = "grok-4.3")]
pub struct ModelId(String);

impl TryFrom<String> for ModelId {
    type Error = &'static str;
    fn try_from(text: String) -> Result<Self, Self::Error> {
        let is_plain = text.bytes().all(|b| b.is_ascii_alphanumeric() || b"._:/-".contains(&b));
        if is_plain && (1..=128).contains(&text.len()) {
            Ok(Self(text))
        } else {
            Err("this is not the id of a model")
        }
    }
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

/// The place of a key in the list.
struct Place(Timestamp, KeyId);

/// Your keys
///
/// The oldest first, revoked ones too.
#[utoipa::path(get, path = "/api/v1/keys", tag = "Keys", security(("token" = [])),
    params(KeysQuery),
    responses((status = 200, body = Page<KeyView>), BadQuery, NotSignedIn, Away))]
pub async fn list(
    State(state): State<ControlState>,
    who: SignedIn,
    Params(query): Params<KeysQuery>,
) -> Result<Json<Page<KeyView>>, ApiError> {
    page_of(&state, who.user.id, query).await.map(Json)
}

/// Add a key
#[utoipa::path(post, path = "/api/v1/keys", tag = "Keys", security(("token" = [])),
    request_body = KeyForm,
    responses((status = 201, body = NewKeyView), BadBody, NotSignedIn, TooManyKeys, TooOften, Away))]
pub async fn add(
    State(state): State<ControlState>,
    who: SignedIn,
    Form(form): Form<KeyForm>,
) -> Result<(StatusCode, Json<NewKeyView>), ApiError> {
    let now = clock::now();
    later_than(now, form.expires_at)?;
    let limits = KeyLimits {
        tokens_per_day: bounded("max_tokens_per_day", form.max_tokens_per_day, MOST_TOKENS)?,
        requests_per_day: bounded(
            "max_requests_per_day",
            form.max_requests_per_day,
            MOST_REQUESTS,
        )?,
        models: models(&state, "models", form.models)?,
    };
    state.identity.may_change(who.user.id, clock::instant())?;
    let (plain, key) = new_key(&state, &form.name.0, form.expires_at, limits, now)?;
    let added = state.store.add_key(who.user.id, &key, &who.by).await?;
    Ok((StatusCode::CREATED, Json(NewKeyView::of(&plain, added))))
}

/// Change a key
#[utoipa::path(patch, path = "/api/v1/keys/{id}", tag = "Keys", security(("token" = [])),
    params(("id" = String, Path, description = "The key's id")), request_body = KeyPatch,
    responses((status = 200, body = KeyView), BadBody, NotSignedIn, NoSuchKey, TooOften, Away))]
pub async fn change(
    State(state): State<ControlState>,
    who: SignedIn,
    Segment(id): Segment,
    Form(form): Form<KeyPatch>,
) -> Result<Json<KeyView>, ApiError> {
    let key = own(&state, who.user.id, &id).await?;
    later_than(clock::now(), form.expires_at.flatten())?;
    let tokens = |given| bounded("max_tokens_per_day", given, MOST_TOKENS);
    let requests = |given| bounded("max_requests_per_day", given, MOST_REQUESTS);
    let change = KeyChange {
        name: form.name.map(|name| name.0),
        expires_at: form.expires_at,
        tokens_per_day: form.max_tokens_per_day.map(tokens).transpose()?,
        requests_per_day: form.max_requests_per_day.map(requests).transpose()?,
        models: form.models.map(|ids| models(&state, "models", ids)).transpose()?,
    };
    state.identity.may_change(who.user.id, clock::instant())?;
    let changed = state.store.change_key(who.user.id, &key.id, &change, &who.by).await?;
    let changed = changed.ok_or(ApiError::NoSuch("key"))?;
    let last_used = last_used(&state, who.user.id).await?;
    Ok(Json(KeyView::of(changed, &last_used)))
}

/// Revoke a key
///
/// Holds from the next request on; open streams end within a second.
#[utoipa::path(delete, path = "/api/v1/keys/{id}", tag = "Keys", security(("token" = [])),
    params(("id" = String, Path, description = "The key's id")),
    responses((status = 204, description = "The key is dead"), NotSignedIn, NoSuchKey, Away))]
pub async fn revoke(
    State(state): State<ControlState>,
    who: SignedIn,
    Segment(id): Segment,
) -> Result<StatusCode, ApiError> {
    let key = own(&state, who.user.id, &id).await?;
    state.store.revoke_key(&key.id, &who.by).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Regenerate the default key
///
/// The old one is dead at once.
#[utoipa::path(post, path = "/api/v1/users/regenerate-api-key", tag = "Keys",
    security(("token" = [])),
    responses((status = 200, body = NewKeyView), NotSignedIn, TooManyKeys, TooOften, Away))]
pub async fn regenerate(
    State(state): State<ControlState>,
    who: SignedIn,
) -> Result<Json<NewKeyView>, ApiError> {
    state.identity.may_change(who.user.id, clock::instant())?;
    let (plain, key) = new_key(&state, DEFAULT_KEY, None, KeyLimits::default(), clock::now())?;
    let added = state.store.replace_key(who.user.id, &key, &who.by).await?;
    Ok(Json(NewKeyView::of(&plain, added)))
}

/// A page of a user's keys, as they are shown.
pub async fn page_of(
    state: &ControlState,
    user: UserId,
    query: KeysQuery,
) -> Result<Page<KeyView>, ApiError> {
    let limit = pagination::limit(query.limit)?;
    let after = pagination::cursor(query.cursor.as_deref())?.map(|Place(at, id)| (at, id));
    let filter = KeyFilter { live: false, after };
    let keys = state.store.keys(user, &filter, limit + 1).await?;
    let last_used = last_used(state, user).await?;
    let cursor = |key: &Key| Place(key.created_at, key.id.clone()).to_string();
    Ok(Page::of(keys, limit, cursor, |key| KeyView::of(key, &last_used)))
}

/// The keys of a user that are not revoked, as they are shown.
pub async fn live(state: &ControlState, user: UserId) -> Result<Vec<KeyView>, ApiError> {
    let filter = KeyFilter { live: true, after: None };
    let keys = state.store.keys(user, &filter, pagination::MOST).await?;
    let last_used = last_used(state, user).await?;
    Ok(keys.into_iter().map(|key| KeyView::of(key, &last_used)).collect())
}

async fn last_used(
    state: &ControlState,
    user: UserId,
) -> Result<HashMap<KeyId, Timestamp>, ApiError> {
    Ok(state.store.last_used(user).await?.into_iter().collect())
}

/// A new key of some user, to be added, and its text.
pub fn new_key(
    state: &ControlState,
    name: &str,
    expires_at: Option<Timestamp>,
    limits: KeyLimits,
    now: Timestamp,
) -> Result<(PlainKey, NewKey), ApiError> {
    let plain = PlainKey::generate().map_err(|_| ApiError::Internal)?;
    let key = NewKey {
        id: plain.id(),
        digest: plain.digest(&state.pepper),
        last_four: plain.last_four().to_owned(),
        name: name.to_owned(),
        created_at: now,
        expires_at,
        limits,
    };
    Ok((plain, key))
}

/// A live key of the user; whose a foreign one is, nobody learns.
pub async fn own(state: &ControlState, user: UserId, id: &str) -> Result<Key, ApiError> {
    let key = state.store.key(user, &KeyId::from(id)).await?;
    key.filter(|key| key.revoked_at.is_none()).ok_or(ApiError::NoSuch("key"))
}

/// The most that a limit of tokens a day can say.
pub const MOST_TOKENS: u64 = 1_000_000_000_000;
/// The most that a limit of requests a day can say.
pub const MOST_REQUESTS: u64 = 1_000_000_000;

/// A limit that may be left out.
pub fn bounded(param: &str, limit: Option<u64>, most: u64) -> Result<Option<u64>, ApiError> {
    match limit {
        Some(limit) if limit > most => {
            Err(ApiError::invalid(param, format!("`{param}` is at most {most}.")))
        }
        limit => Ok(limit),
    }
}

/// A list of models that may be left out, by the ids that calls are compared with; `param` is where it
/// was written.
///
/// # Errors
/// It is too long, or names what is not configured.
pub fn models(
    state: &ControlState,
    param: &str,
    names: Option<Vec<ModelId>>,
) -> Result<Option<Arc<[Arc<str>]>>, ApiError> {
    let Some(names) = names else { return Ok(None) };
    if names.len() > MOST_MODELS {
        let problem = format!("`{param}` must have at most {MOST_MODELS} entries.");
        return Err(ApiError::invalid(param, problem));
    }
    let upstreams = state.instance.upstreams.get();
    let id = |name: ModelId| {
        let id = upstreams.catalog.id_of(&name.0).cloned();
        let problem =
            || format!("`{param}` contains `{}`, which is not a model of this gateway.", name.0);
        id.ok_or_else(|| ApiError::invalid(param, problem()))
    };
    names.into_iter().map(id).collect::<Result<_, _>>().map(Some)
}

fn later_than(now: Timestamp, expires_at: Option<Timestamp>) -> Result<(), ApiError> {
    match expires_at {
        Some(end) if end <= now => {
            Err(ApiError::invalid("expires_at", "`expires_at` has passed already."))
        }
        _ => Ok(()),
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.0.as_millisecond(), self.1)
    }
}

impl FromStr for Place {
    type Err = ();
    fn from_str(text: &str) -> Result<Self, ()> {
        let (at, id) = text.split_once('.').ok_or(())?;
        let at = at.parse().ok().and_then(|ms| Timestamp::from_millisecond(ms).ok()).ok_or(())?;
        let is_id = !id.is_empty() && id.bytes().all(|byte| byte.is_ascii_alphanumeric());
        if is_id { Ok(Self(at, KeyId::from(id))) } else { Err(()) }
    }
}

impl KeyView {
    fn of(key: Key, last_used: &HashMap<KeyId, Timestamp>) -> Self {
        Self {
            last_used_at: last_used.get(&key.id).copied(),
            id: key.id,
            name: key.name,
            last_four: key.last_four,
            created_at: key.created_at,
            expires_at: key.expires_at,
            revoked_at: key.revoked_at,
            max_tokens_per_day: key.limits.tokens_per_day,
            max_requests_per_day: key.limits.requests_per_day,
            models: key.limits.models,
        }
    }
}

impl NewKeyView {
    fn of(plain: &PlainKey, key: Key) -> Self {
        Self { api_key: plain.reveal().to_owned(), key: KeyView::of(key, &HashMap::new()) }
    }
}

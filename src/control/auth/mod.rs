//! Who asks: each extractor is a rule, and a handler's arguments say which one holds for its route.
//!
//! [`SignedIn`] and [`Admin`] want an access token, whose session has to live; [`Reader`] takes an API
//! key as well. The store is asked each time: here nobody may read on for as long as a cache lives.

pub mod identity;
pub mod access_token;
pub mod passwords;
pub mod login_throttle;
pub mod throttle;

use crate::account::by::{Actor, By};
use crate::account::caller::Caller;
use crate::account::id::UserId;
use crate::account::key::PlainKey;
use crate::account::user::{Role, User, UserStatus};
use crate::clock;
use crate::control::api_error::ApiError;
use crate::control::http::middleware::Asker;
use crate::control::state::ControlState;
use access_token::{BadToken, Bearer};
use axum::extract::FromRequestParts;
use axum::http::HeaderMap;
use axum::http::header::AUTHORIZATION;
use axum::http::request::Parts;
use jiff::Timestamp;
use std::sync::Arc;

/// Keys begin with it; access tokens never do.
const KEY_PREFIX: &str = "sk-kx-";

/// Somebody logged in.
pub struct SignedIn {
    pub user: User,
    pub bearer: Bearer,
    /// For the audit log.
    pub by: By,
}

/// An admin, logged in.
pub struct Admin {
    pub user: User,
    pub by: By,
}

/// Somebody who may read their own: logged in, or with an API key.
pub enum Reader {
    User(Box<User>),
    Key(Arc<Caller>),
}

impl Reader {
    /// Whose own it is.
    #[must_use]
    pub fn id(&self) -> UserId {
        match self {
            Self::User(user) => user.id,
            Self::Key(caller) => caller.user,
        }
    }
}

impl FromRequestParts<ControlState> for SignedIn {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &ControlState) -> Result<Self, ApiError> {
        let now = clock::now();
        let token = credential(&parts.headers)?.ok_or(ApiError::NoToken)?;
        if token.starts_with(KEY_PREFIX) {
            return Err(ApiError::KeyNotEnough);
        }
        let (user, bearer) = signed_in(state, token, now).await?;
        let asker = Asker::of(&parts.extensions);
        asker.is(user.id);
        let by = By { actor: Actor::User(user.id), at: now, request: Some(asker.request_id()) };
        Ok(Self { user, bearer, by })
    }
}

impl FromRequestParts<ControlState> for Admin {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &ControlState) -> Result<Self, ApiError> {
        let SignedIn { user, by, .. } = SignedIn::from_request_parts(parts, state).await?;
        match user.role {
            Role::Admin => Ok(Self { user, by }),
            Role::User => Err(ApiError::AdminsOnly),
        }
    }
}

impl FromRequestParts<ControlState> for Reader {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &ControlState) -> Result<Self, ApiError> {
        let now = clock::now();
        let credential = credential(&parts.headers)?.ok_or(ApiError::NoKey)?;
        let reader = if credential.starts_with(KEY_PREFIX) {
            Self::Key(caller(state, credential, now).await?)
        } else {
            Self::User(Box::new(signed_in(state, credential, now).await?.0))
        };
        Asker::of(&parts.extensions).is(reader.id());
        Ok(reader)
    }
}

/// The user of a token's session, active.
async fn signed_in(
    state: &ControlState,
    token: &str,
    now: Timestamp,
) -> Result<(User, Bearer), ApiError> {
    let bearer = state.identity.tokens.read(token, now).map_err(|bad| match bad {
        BadToken::Invalid => ApiError::BadToken,
        BadToken::Expired => ApiError::ExpiredToken,
    })?;
    let user = state.store.session_user(bearer.session, now).await?;
    let user = user.filter(|user| user.id == bearer.user).ok_or(ApiError::BadToken)?;
    match user.status {
        UserStatus::Active => Ok((user, bearer)),
        UserStatus::Suspended => Err(ApiError::Suspended),
    }
}

/// The holder of a key, active and current.
async fn caller(state: &ControlState, text: &str, now: Timestamp) -> Result<Arc<Caller>, ApiError> {
    let key = PlainKey::parse(text).map_err(|_| ApiError::UnknownKey)?;
    let caller = current(state, &key).await?.ok_or(ApiError::UnknownKey)?;
    if caller.digest != key.digest(&state.pepper) {
        return Err(ApiError::UnknownKey);
    }
    if caller.key_revoked {
        return Err(ApiError::RevokedKey);
    }
    if caller.key_expires_at.is_some_and(|end| end <= now) {
        return Err(ApiError::ExpiredKey);
    }
    match caller.user_status {
        UserStatus::Active => Ok(caller),
        UserStatus::Suspended => Err(ApiError::Suspended),
    }
}

/// What stands behind `Bearer` in the one `Authorization` header: of two, somebody else may read the
/// other.
fn credential(headers: &HeaderMap) -> Result<Option<&str>, ApiError> {
    let mut values = headers.get_all(AUTHORIZATION).iter();
    let Some(value) = values.next() else { return Ok(None) };
    if values.next().is_some() {
        return Err(ApiError::BadToken);
    }
    let text = value.to_str().map_err(|_| ApiError::BadToken)?;
    let Some((scheme, credential)) = text.split_once(' ') else { return Ok(None) };
    Ok(scheme.eq_ignore_ascii_case("bearer").then_some(credential.trim()))
}

/// The record as it stands now: an outdated one is loaded once more.
async fn current(state: &ControlState, key: &PlainKey) -> Result<Option<Arc<Caller>>, ApiError> {
    let id = key.id();
    let Some(caller) = state.callers.find(&id, clock::instant()).await? else { return Ok(None) };
    if state.callers.is_current(&caller).await? {
        return Ok(Some(caller));
    }
    state.callers.forget(caller.user);
    Ok(state.callers.find(&id, clock::instant()).await?)
}

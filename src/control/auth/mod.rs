//! Who asks: each extractor is a rule, and a handler's arguments say which one holds for its route.
//!
//! [`SignedIn`] and [`Admin`] want an access token, whose session has to live; [`AnyCredential`] takes an API
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
use crate::account::user::{Role, User};
use crate::clock;
use crate::control::api_error::ApiError;
use crate::control::http::middleware::RequestContext;
use crate::control::state::ControlState;
use crate::http::bearer::{self, InvalidAuthorization};
use access_token::{Bearer, TokenError};
use axum::extract::FromRequestParts;
use axum::http::HeaderMap;
use axum::http::request::Parts;
use jiff::Timestamp;
use std::sync::Arc;

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
pub enum AnyCredential {
    User(Box<User>),
    Key(Arc<Caller>),
}

impl AnyCredential {
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
        let token = credential(&parts.headers)?.ok_or(ApiError::TokenMissing)?;
        if token.starts_with(PlainKey::PREFIX) {
            return Err(ApiError::AccessTokenRequired);
        }
        let (user, bearer) = signed_in(state, token, now).await?;
        let context = RequestContext::of(&parts.extensions);
        context.set_user(user.id);
        let by = By { actor: Actor::User(user.id), at: now, request: Some(context.request_id()) };
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

impl FromRequestParts<ControlState> for AnyCredential {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &ControlState) -> Result<Self, ApiError> {
        let now = clock::now();
        let credential = credential(&parts.headers)?.ok_or(ApiError::CredentialMissing)?;
        let reader = if credential.starts_with(PlainKey::PREFIX) {
            Self::Key(caller(state, credential, now).await?)
        } else {
            Self::User(Box::new(signed_in(state, credential, now).await?.0))
        };
        RequestContext::of(&parts.extensions).set_user(reader.id());
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
        TokenError::Invalid => ApiError::InvalidToken,
        TokenError::Expired => ApiError::ExpiredToken,
    })?;
    let user = state.store.session_user(bearer.session, now).await?;
    let user = user.filter(|user| user.id == bearer.user).ok_or(ApiError::InvalidToken)?;
    user.status.check()?;
    Ok((user, bearer))
}

/// The holder of a key who may call now, by the record as the store has it.
async fn caller(state: &ControlState, text: &str, now: Timestamp) -> Result<Arc<Caller>, ApiError> {
    let key = PlainKey::parse(text).map_err(|_| ApiError::InvalidKey)?;
    let caller = state.callers.find_current(&key.id(), clock::instant()).await?;
    let is_genuine = |caller: &Arc<Caller>| caller.digest == key.digest(&state.pepper);
    let caller = caller.filter(is_genuine).ok_or(ApiError::InvalidKey)?;
    caller.check(now)?;
    Ok(caller)
}

fn credential(headers: &HeaderMap) -> Result<Option<&str>, ApiError> {
    bearer::credential(headers).map_err(|InvalidAuthorization| ApiError::InvalidToken)
}

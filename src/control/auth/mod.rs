//! Authentication. Each extractor is a rule; the arguments of a handler show which one its route has.
//!
//! [`CurrentUser`], [`AdminReader`] and [`Admin`] require an access token of a live session, [`AnyCredential`]
//! accepts an API key as well. Sessions, roles and keys are always checked against the store, so revocation is
//! immediate.

pub mod identity;
pub mod access_token;
pub mod console_session;
pub mod passwords;
pub mod login_throttle;
pub mod second_factor;
pub mod sign_in_cookies;
pub mod throttle;
pub mod verified_user;

use crate::control::api_error::ApiError;
use crate::control::http::middleware::RequestContext;
use crate::control::state::ControlState;
use crate::http::bearer::{self, InvalidAuthorization};
use access_token::TokenError;
use axum::extract::FromRequestParts;
use axum::http::HeaderMap;
use axum::http::request::Parts;
use domain::actor::{Actor, AuditContext};
use domain::caller::Caller;
use domain::id::{SessionId, UserId};
use domain::key::PlainKey;
use domain::user::{Role, User};
use jiff::Timestamp;
use std::sync::Arc;
use std::time::Instant;
use system::clock;

/// The time of an attempt: `instant` for the waits between attempts, `time` for codes that depend on it.
#[derive(Debug, Clone, Copy)]
pub struct AttemptTime {
    pub instant: Instant,
    pub time: Timestamp,
}

impl AttemptTime {
    /// The time now, as a handler reads it.
    #[must_use]
    pub fn now() -> Self {
        Self { instant: clock::instant(), time: clock::now() }
    }
}

/// A logged-in user.
pub struct CurrentUser {
    pub user: User,
    pub session: SessionId,
    /// For the audit log.
    pub by: AuditContext,
}

/// A logged-in admin or auditor: reads the data of all users. Without an [`AuditContext`], because nothing may be
/// changed in this name.
pub struct AdminReader {
    pub user: User,
}

/// A logged-in admin: every route that changes something of others takes one.
pub struct Admin {
    pub user: User,
    /// For the audit log.
    pub by: AuditContext,
}

impl AdminReader {
    /// The user as one who reads the data of all users.
    ///
    /// # Errors
    /// [`ApiError::AdminsOnly`].
    pub fn of(CurrentUser { user, .. }: CurrentUser) -> Result<Self, ApiError> {
        if user.role.may_read_all() { Ok(Self { user }) } else { Err(ApiError::AdminsOnly) }
    }
}

impl Admin {
    /// The user as one who changes what belongs to others.
    ///
    /// # Errors
    /// [`ApiError::AdminsOnly`]; [`ApiError::ReadOnlyRole`] of one who may read it.
    pub fn of(CurrentUser { user, by, .. }: CurrentUser) -> Result<Self, ApiError> {
        match user.role {
            Role::Admin => Ok(Self { user, by }),
            Role::Auditor => Err(ApiError::ReadOnlyRole),
            Role::User => Err(ApiError::AdminsOnly),
        }
    }
}

/// A user who may read their own account: logged in, or by an API key.
pub enum AnyCredential {
    User(Box<User>),
    Key(Arc<Caller>),
}

impl AnyCredential {
    /// The user whom the credential belongs to.
    #[must_use]
    pub fn user_id(&self) -> UserId {
        match self {
            Self::User(user) => user.id,
            Self::Key(caller) => caller.user,
        }
    }
}

impl FromRequestParts<ControlState> for CurrentUser {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &ControlState) -> Result<Self, ApiError> {
        let now = clock::now();
        let token = credential(&parts.headers)?.ok_or(ApiError::TokenMissing)?;
        if token.starts_with(PlainKey::PREFIX) {
            return Err(ApiError::AccessTokenRequired);
        }
        let (user, session) = session_user(state, token, now).await?;
        let context = RequestContext::of(&parts.extensions);
        context.set_user(user.id);
        let by = AuditContext {
            actor: Actor::User(user.id),
            at: now,
            request_id: Some(context.request_id()),
        };
        Ok(Self { user, session, by })
    }
}

impl FromRequestParts<ControlState> for AdminReader {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &ControlState) -> Result<Self, ApiError> {
        Self::of(CurrentUser::from_request_parts(parts, state).await?)
    }
}

impl FromRequestParts<ControlState> for Admin {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &ControlState) -> Result<Self, ApiError> {
        Self::of(CurrentUser::from_request_parts(parts, state).await?)
    }
}

impl FromRequestParts<ControlState> for AnyCredential {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &ControlState) -> Result<Self, ApiError> {
        let now = clock::now();
        let text = credential(&parts.headers)?.ok_or(ApiError::CredentialMissing)?;
        let credential = if text.starts_with(PlainKey::PREFIX) {
            Self::Key(caller(state, text, now).await?)
        } else {
            Self::User(Box::new(session_user(state, text, now).await?.0))
        };
        RequestContext::of(&parts.extensions).set_user(credential.user_id());
        Ok(credential)
    }
}

/// The active user of a token, and the token's session.
async fn session_user(
    state: &ControlState,
    token: &str,
    now: Timestamp,
) -> Result<(User, SessionId), ApiError> {
    let subject = state.identity.tokens.read(token, now).map_err(|error| match error {
        TokenError::Invalid => ApiError::InvalidToken,
        TokenError::Expired => ApiError::ExpiredToken,
    })?;
    let user = state.store.session_user(subject.session, now).await?;
    let user = user.filter(|user| user.id == subject.user).ok_or(ApiError::InvalidToken)?;
    user.status.check()?;
    Ok((user, subject.session))
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

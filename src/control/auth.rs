//! API keys on the control plane: `Authorization: Bearer sk-kx-…` becomes a [`Caller`].
//!
//! The same record as the data plane's, but asked of the store whether it is current: here a
//! revoked key must not read for as long as a cache lives, and nothing is reserved that would tell.

use super::ControlState;
use super::api_error::ApiError;
use crate::account::caller::Caller;
use crate::account::key::PlainKey;
use crate::account::user::UserStatus;
use crate::clock;
use axum::http::HeaderMap;
use axum::http::header::AUTHORIZATION;
use jiff::Timestamp;
use std::sync::Arc;

/// The holder of the presented key, active and current.
pub async fn caller(
    state: &ControlState,
    headers: &HeaderMap,
    now: Timestamp,
) -> Result<Arc<Caller>, ApiError> {
    let key = presented(headers)?;
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

/// The key of the one `Authorization` header: of two, somebody else may read the other.
fn presented(headers: &HeaderMap) -> Result<PlainKey, ApiError> {
    let mut values = headers.get_all(AUTHORIZATION).iter();
    let value = values.next().ok_or(ApiError::NoKey)?;
    if values.next().is_some() {
        return Err(ApiError::UnknownKey);
    }
    let text = value.to_str().map_err(|_| ApiError::UnknownKey)?;
    let (scheme, key) = text.split_once(' ').ok_or(ApiError::NoKey)?;
    if !scheme.eq_ignore_ascii_case("bearer") {
        return Err(ApiError::NoKey);
    }
    PlainKey::parse(key.trim()).map_err(|_| ApiError::UnknownKey)
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

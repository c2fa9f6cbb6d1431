//! Bearer key to caller, before a byte of the body is kept.

use super::refusal::Refusal;
use crate::account::caller::Caller;
use crate::account::key::{Pepper, PlainKey};
use crate::account::user::UserStatus;
use crate::callers::cache::CallerCache;
use http::HeaderMap;
use jiff::Timestamp;
use std::sync::Arc;
use std::time::Instant;

/// Finds the caller behind the request's key. A key that cannot be one of ours costs no look-up.
///
/// # Errors
/// The refusal; which of "unknown" and "wrong secret" it was is not told.
pub async fn authenticate(
    headers: &HeaderMap,
    callers: &CallerCache,
    pepper: &Pepper,
    now: Timestamp,
    instant: Instant,
) -> Result<Arc<Caller>, Refusal> {
    let presented = bearer(headers).ok_or(Refusal::MissingKey)?;
    let key = PlainKey::parse(presented).map_err(|_| Refusal::WrongKey)?;
    let find =
        async || callers.find(&key.id(), instant).await.map_err(|_| Refusal::CallersUnavailable);
    let right = |caller: &Arc<Caller>| caller.digest == key.digest(pepper);
    let caller = find().await?.filter(right).ok_or(Refusal::WrongKey)?;
    let Err(refusal) = admissible(&caller, now) else { return Ok(caller) };
    // A resumed user is let in at once: a refusal has to be up to date.
    if callers.is_current_as_known(&caller).await {
        return Err(refusal);
    }
    callers.forget(caller.user);
    let caller = find().await?.filter(right).ok_or(Refusal::WrongKey)?;
    admissible(&caller, now).map(|()| caller)
}

/// Whether a caller whose key is right may call at all.
///
/// # Errors
/// The refusal of a revoked or expired key, or a suspended user.
pub fn admissible(caller: &Caller, now: Timestamp) -> Result<(), Refusal> {
    if caller.key_revoked {
        return Err(Refusal::RevokedKey);
    }
    if caller.key_expires_at.is_some_and(|at| at <= now) {
        return Err(Refusal::ExpiredKey);
    }
    if caller.user_status == UserStatus::Suspended {
        return Err(Refusal::SuspendedUser);
    }
    Ok(())
}

/// The token of the one `Authorization: Bearer …` header; two such headers are none.
fn bearer(headers: &HeaderMap) -> Option<&str> {
    let mut values = headers.get_all(http::header::AUTHORIZATION).iter();
    let value = values.next()?.to_str().ok()?;
    if values.next().is_some() {
        return None;
    }
    let (scheme, token) = value.split_once(' ')?;
    let token = token.trim();
    (scheme.eq_ignore_ascii_case("bearer") && !token.is_empty()).then_some(token)
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;

    #[test]
    fn only_one_bearer_header_counts() {
        let check = |values: &[&str], expected: Option<&str>| {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append("authorization", HeaderValue::from_str(value).unwrap());
            }
            assert_eq!(bearer(&headers), expected, "{values:?}");
        };
        check(&[], None);
        check(&["Bearer abc"], Some("abc"));
        check(&["bearer  abc "], Some("abc"));
        check(&["Basic abc"], None);
        check(&["Bearer"], None);
        check(&["Bearer "], None);
        check(&["Bearer a", "Bearer b"], None);
    }
}

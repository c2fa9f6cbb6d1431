//! Finds the caller by its bearer key, before the body is buffered.

use crate::callers::cache::CallerCache;
use crate::gateway::Gateway;
use crate::gateway::listener::session::Session;
use crate::gateway::response::refusal::Refusal;
use crate::gateway::response::writer::ResponseWriter;
use crate::http::bearer;
use domain::caller::{Caller, Denied};
use domain::key::{Pepper, PlainKey};
use http::HeaderMap;
use jiff::Timestamp;
use std::sync::Arc;
use std::time::Instant;

impl Gateway {
    /// The caller of a request, by the key that it presents.
    pub(crate) async fn authenticate(
        &self,
        session: &Session,
        writer: &ResponseWriter<'_>,
    ) -> Result<Arc<Caller>, Refusal> {
        let takes_api_key = writer.head.endpoint.takes_api_key();
        let presented = presented(session.headers(), takes_api_key);
        let (now, instant) = (writer.head.admitted_at, writer.head.started);
        authenticate(presented, &self.callers, &self.pepper, now, instant).await
    }

    /// The caller, whose record no admission will check again.
    pub(crate) async fn up_to_date_caller(
        &self,
        session: &Session,
        writer: &ResponseWriter<'_>,
    ) -> Result<Arc<Caller>, Refusal> {
        let caller = self.authenticate(session, writer).await?;
        if self.callers.is_current_as_known(&caller).await {
            return Ok(caller);
        }
        self.callers.forget(caller.user);
        self.authenticate(session, writer).await
    }
}

/// Finds the caller behind the `presented` key. A key that cannot be one of ours costs no look-up.
///
/// # Errors
/// The refusal, which does not distinguish an unknown key from a wrong secret.
pub async fn authenticate(
    presented: Option<&str>,
    callers: &CallerCache,
    pepper: &Pepper,
    now: Timestamp,
    instant: Instant,
) -> Result<Arc<Caller>, Refusal> {
    let presented = presented.ok_or(Refusal::MissingKey)?;
    let key = PlainKey::parse(presented).map_err(|_| Refusal::WrongKey)?;
    let right = |caller: &Arc<Caller>| caller.digest == key.digest(pepper);
    let found = callers.find(&key.id(), instant).await.map_err(|_| Refusal::CallersUnavailable)?;
    let caller = found.filter(right).ok_or(Refusal::WrongKey)?;
    let Err(denied) = caller.check(now) else { return Ok(caller) };
    // A resumed user is let in at once: a refusal has to be up to date.
    if callers.is_current_as_known(&caller).await {
        return Err(denied.into());
    }
    let fresh = callers.refresh(&caller, instant).await;
    let fresh = fresh.map_err(|_| Refusal::CallersUnavailable)?;
    let caller = fresh.filter(right).ok_or(Refusal::WrongKey)?;
    caller.check(now)?;
    Ok(caller)
}

impl From<Denied> for Refusal {
    fn from(denied: Denied) -> Self {
        match denied {
            Denied::KeyRevoked => Self::RevokedKey,
            Denied::KeyExpired => Self::ExpiredKey,
            Denied::UserSuspended => Self::SuspendedUser,
            Denied::EmailUnverified => Self::UnverifiedUser,
        }
    }
}

/// The key that a request presents: as a bearer, or as Anthropic's clients do where
/// `takes_api_key`. Two that differ are none.
#[must_use]
pub fn presented(headers: &HeaderMap, takes_api_key: bool) -> Option<&str> {
    let mut keys = headers.get_all("x-api-key").iter().filter(|_| takes_api_key);
    match (bearer::credential(headers).ok().flatten(), keys.next()) {
        (bearer, None) => bearer,
        (None, Some(_)) if headers.contains_key(http::header::AUTHORIZATION) => None,
        (bearer, Some(key)) => {
            let key = key.to_str().ok()?.trim();
            let is_one = keys.next().is_none() && bearer.is_none_or(|bearer| bearer == key);
            (is_one && !key.is_empty()).then_some(key)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;

    #[test]
    fn an_api_key_counts_where_anthropics_clients_call() {
        let check = |headers: &[(&'static str, &str)], takes: bool, expected: Option<&str>| {
            let mut map = HeaderMap::new();
            for (name, value) in headers {
                map.append(*name, HeaderValue::from_str(value).unwrap());
            }
            assert_eq!(presented(&map, takes), expected, "{headers:?}");
        };
        check(&[("x-api-key", "a")], true, Some("a"));
        check(&[("x-api-key", "a")], false, None);
        check(&[("x-api-key", "a"), ("authorization", "Bearer a")], true, Some("a"));
        check(&[("x-api-key", "a"), ("authorization", "Bearer b")], true, None);
        check(&[("x-api-key", "a"), ("authorization", "Bearer b")], false, Some("b"));
        check(&[("x-api-key", "a"), ("authorization", "Basic b")], true, None);
        check(&[("x-api-key", "a"), ("x-api-key", "a")], true, None);
        check(&[("x-api-key", " ")], true, None);
        check(&[("authorization", "Bearer b")], true, Some("b"));
    }
}

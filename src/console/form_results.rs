//! Makes forms idempotent. The same form that is sent again, by a double click, a lost reply or a reload, does
//! nothing and gets the page that the first request got.
//!
//! A form takes part if it has the hidden field [`FORM_FIELD`] with the id of its rendering. Results are in the
//! memory of this gateway, for [`RESULT_LIFETIME`] and at most [`MAX_RESULTS`] of them; some hold a secret that is shown
//! once, such as a new key. They go to the session that sent the form, and to nothing but the same bytes. The
//! result of a form that was refused is not stored, so that it can be sent again.

use super::error::FormRejected;
use super::session::session_cookie;
use crate::control::api_error::ApiError;
use crate::control::http::middleware::{BODY_BYTES, RequestContext};
use crate::control::state::ControlState;
use axum::body::{Body, Bytes, to_bytes};
use axum::extract::{Request, State};
use axum::http::request::Parts;
use axum::http::{HeaderMap, Method, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use parking_lot::Mutex;
use sha2::{Digest, Sha256};
use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};
use system::clock;
use tokio_util::task::TaskTracker;

/// The field with the id of the rendered form.
pub const FORM_FIELD: &str = "form_id";
/// Time for which the result of a form is stored.
const RESULT_LIFETIME: Duration = Duration::from_mins(5);
/// Results that are stored; the oldest is removed first.
const MAX_RESULTS: usize = 256;
/// Size of the largest page that is stored, in bytes.
const MAX_PAGE_BYTES: usize = 256 * 1024;

/// The digest of a form with its session and its path.
type FormDigest = [u8; 32];

/// The results of the forms that were taken last.
#[derive(Default)]
pub struct FormResults {
    results: Mutex<HashMap<FormDigest, FormResult>>,
    tasks: TaskTracker,
}

struct FormResult {
    sent_at: Instant,
    /// Locked while the form is worked on; `None` until it is taken, and if it was refused.
    page: Arc<tokio::sync::Mutex<Option<StoredPage>>>,
}

/// A page that answered a form.
#[derive(Clone)]
struct StoredPage {
    status: StatusCode,
    headers: HeaderMap,
    body: Bytes,
}

/// Runs each form with an id once. The work continues if the client disconnects: its second request gets the result.
pub async fn once(
    State((results, state)): State<(Arc<FormResults>, ControlState)>,
    request: Request,
    next: Next,
) -> Response {
    if request.method() != Method::POST {
        return next.run(request).await;
    }
    let (parts, body) = request.into_parts();
    let Ok(body) = to_bytes(body, BODY_BYTES).await else {
        return ApiError::BodyTooLarge { limit: BODY_BYTES }.into_response();
    };
    let digest = form_digest(&parts, &body);
    let request = Request::from_parts(parts, Body::from(body));
    let Some(digest) = digest else { return next.run(request).await };
    let page = results.page_of(digest, clock::instant());
    let sender = SenderSession::of(&request, state);
    let all = Arc::clone(&results);
    let work = results.tasks.spawn(async move {
        let mut stored = page.lock().await;
        if let Some(page) = &*stored
            && sender.may_see_results().await
        {
            return page.clone().into_response();
        }
        let response = next.run(request).await;
        let status = response.status();
        let is_refused = status.is_client_error() || status.is_server_error();
        if is_refused || response.extensions().get::<FormRejected>().is_some() {
            all.forget(&digest, &page);
            return response;
        }
        match StoredPage::of(response).await {
            Ok(page) => stored.insert(page).clone().into_response(),
            Err(error) => error.into_response(),
        }
    });
    work.await.unwrap_or_else(|_| ApiError::Internal.into_response())
}

/// The session that a form was sent with.
struct SenderSession {
    cookie: Option<String>,
    /// True if only admins may send the form.
    is_of_admin: bool,
    state: ControlState,
}

impl SenderSession {
    fn of(request: &Request, state: ControlState) -> Self {
        let over_tls = RequestContext::of(request.extensions()).over_tls;
        let cookie = session_cookie(request.headers(), over_tls).map(str::to_owned);
        let is_of_admin = request.uri().path().starts_with("/console/admin/");
        Self { cookie, is_of_admin, state }
    }

    /// False if the session has ended since, or its user is no admin any more: its results are not shown again.
    /// Visitors have no session.
    async fn may_see_results(&self) -> bool {
        let Some(cookie) = &self.cookie else { return true };
        let (identity, store) = (&self.state.identity, &*self.state.store);
        let Ok(Some((_, found))) = identity.console_session(store, cookie, clock::now()).await
        else {
            return false;
        };
        !self.is_of_admin || found.user.role.may_change_all()
    }
}

/// The digest of a form that has an id.
fn form_digest(parts: &Parts, body: &[u8]) -> Option<FormDigest> {
    let mut fields = form_urlencoded::parse(body);
    fields.find(|(name, value)| name == FORM_FIELD && !value.is_empty())?;
    let over_tls = RequestContext::of(&parts.extensions).over_tls;
    // The page for a visitor, such as one with a first key, would be shown to any sender of the same bytes.
    let cookie = session_cookie(&parts.headers, over_tls)?;
    let mut digest = Sha256::new();
    for part in [cookie.as_bytes(), parts.uri.path().as_bytes(), body] {
        digest.update(part.len().to_be_bytes());
        digest.update(part);
    }
    Some(digest.finalize().into())
}

impl FormResults {
    /// Removes the entry of a form that was refused, unless another request waits for it.
    fn forget(&self, digest: &FormDigest, page: &Arc<tokio::sync::Mutex<Option<StoredPage>>>) {
        let mut results = self.results.lock();
        // The table has one, and this request the other.
        if Arc::strong_count(page) <= 2 {
            results.remove(digest);
        }
    }

    fn page_of(
        &self,
        digest: FormDigest,
        now: Instant,
    ) -> Arc<tokio::sync::Mutex<Option<StoredPage>>> {
        let mut results = self.results.lock();
        results.retain(|_, result| now.saturating_duration_since(result.sent_at) < RESULT_LIFETIME);
        if results.len() >= MAX_RESULTS && !results.contains_key(&digest) {
            // A form that is worked on holds its lock.
            let done = results.iter().filter(|(_, result)| result.page.try_lock().is_ok());
            let oldest = done.min_by_key(|(_, result)| result.sent_at);
            if let Some(oldest) = oldest.map(|(digest, _)| *digest) {
                results.remove(&oldest);
            }
        }
        let result = results
            .entry(digest)
            .or_insert_with(|| FormResult { sent_at: now, page: Arc::default() });
        Arc::clone(&result.page)
    }
}

impl StoredPage {
    async fn of(response: Response) -> Result<Self, ApiError> {
        let (parts, body) = response.into_parts();
        let body = to_bytes(body, MAX_PAGE_BYTES).await.map_err(|_| {
            tracing::error!("console page is too large to be stored");
            ApiError::Internal
        })?;
        Ok(Self { status: parts.status, headers: parts.headers, body })
    }
}

impl IntoResponse for StoredPage {
    fn into_response(self) -> Response {
        (self.status, self.headers, self.body).into_response()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn digest(path: &str, cookie: &str, body: &str) -> Option<FormDigest> {
        let request = axum::http::Request::post(path).header("cookie", format!("kx={cookie}"));
        form_digest(&request.body(()).unwrap().into_parts().0, body.as_bytes())
    }

    #[test]
    fn a_form_is_known_by_session_path_and_bytes() {
        let first = digest("/console/keys/new", "a", "name=x&form_id=1");
        assert!(first.is_some());
        assert_eq!(first, digest("/console/keys/new", "a", "name=x&form_id=1"));
        for (path, cookie, body) in [
            ("/console/keys/new", "b", "name=x&form_id=1"),
            ("/console/keys/old", "a", "name=x&form_id=1"),
            ("/console/keys/new", "a", "name=y&form_id=1"),
            ("/console/keys/new", "a", "name=x&form_id=2"),
        ] {
            assert_ne!(digest(path, cookie, body), first, "{path} {cookie} {body}");
        }
        assert_eq!(digest("/console/keys/new", "a", "name=x"), None);
        assert_eq!(digest("/console/keys/new", "a", "name=x&form_id="), None);
    }

    #[test]
    fn results_are_bounded_in_number_and_time() {
        let (results, now) = (FormResults::default(), clock::instant());
        let digest = |n: usize| {
            let mut digest = [0; 32];
            digest[..8].copy_from_slice(&n.to_be_bytes());
            digest
        };
        let first = results.page_of(digest(0), now);
        assert!(Arc::ptr_eq(&first, &results.page_of(digest(0), now + Duration::from_secs(9))));
        for n in 1..=MAX_RESULTS {
            results.page_of(digest(n), now + Duration::from_secs(10));
        }
        assert_eq!(results.results.lock().len(), MAX_RESULTS);
        assert!(!results.results.lock().contains_key(&digest(0)), "the oldest is forgotten");
        results.page_of(digest(0), now + Duration::from_secs(10) + RESULT_LIFETIME);
        assert_eq!(results.results.lock().len(), 1, "the others are too old");
    }
}

//! A document of the provider that is fetched when it is first needed, and again when it is old.
//!
//! One request fetches at a time; others wait for its outcome. A failure counts for a few seconds, so that a provider
//! that is down is not asked by each visitor.

use super::ProviderError;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::Mutex;

/// Time after which a document is fetched again.
const LIFETIME: Duration = Duration::from_hours(1);
/// Time for which an old document is still used while the provider cannot be reached.
const STALE_LIFETIME: Duration = Duration::from_hours(24);
/// Time between two attempts while fetching fails.
const RETRY_INTERVAL: Duration = Duration::from_secs(5);

/// A document, and when it was fetched.
pub(super) struct Cached<T> {
    state: Mutex<State<T>>,
}

struct State<T> {
    document: Option<(Arc<T>, Instant)>,
    failure: Option<(String, Instant)>,
}

impl<T> Default for Cached<T> {
    fn default() -> Self {
        Self { state: Mutex::new(State { document: None, failure: None }) }
    }
}

impl<T> Cached<T> {
    /// The document, fetched if it is not there or old.
    pub async fn get(
        &self,
        now: Instant,
        fetch: impl Future<Output = Result<T, ProviderError>>,
    ) -> Result<Arc<T>, ProviderError> {
        self.not_older_than(LIFETIME, now, fetch).await
    }

    /// The document, fetched unless it is younger than `age`.
    pub async fn not_older_than(
        &self,
        age: Duration,
        now: Instant,
        fetch: impl Future<Output = Result<T, ProviderError>>,
    ) -> Result<Arc<T>, ProviderError> {
        let mut state = self.state.lock().await;
        let usable = |lifetime: Duration, state: &State<T>| {
            let (document, at) = state.document.as_ref()?;
            (now.saturating_duration_since(*at) < lifetime).then(|| Arc::clone(document))
        };
        if let Some(document) = usable(age, &state) {
            return Ok(document);
        }
        let failure = state.failure.as_ref();
        let recent = failure.filter(|(_, at)| now.saturating_duration_since(*at) < RETRY_INTERVAL);
        let failed = match recent {
            Some((cause, _)) => cause.clone(),
            None => match fetch.await {
                Ok(document) => {
                    let document = Arc::new(document);
                    state.document = Some((Arc::clone(&document), now));
                    state.failure = None;
                    return Ok(document);
                }
                Err(error) => {
                    tracing::warn!(%error, "failed to fetch a document of the sign-in provider");
                    let cause = error.to_string();
                    state.failure = Some((cause.clone(), now));
                    cause
                }
            },
        };
        usable(STALE_LIFETIME, &state).ok_or(ProviderError::Unavailable(failed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;
    use system::clock;

    #[tokio::test]
    async fn a_document_is_fetched_once_an_hour_and_after_failures_at_a_bounded_rate() {
        let (cached, start) = (Cached::default(), clock::instant());
        let (fetched, is_up) = (Cell::new(0), Cell::new(false));
        let get = async |after: Duration| {
            let fetch = async {
                fetched.set(fetched.get() + 1);
                let down = || ProviderError::Unavailable("down".to_owned());
                is_up.get().then_some(fetched.get()).ok_or_else(down)
            };
            cached.get(start + after, fetch).await.ok().map(|document| *document)
        };
        let seconds = Duration::from_secs;
        assert_eq!((get(seconds(0)).await, get(seconds(4)).await), (None, None));
        assert_eq!(fetched.get(), 1, "the failure is remembered");
        is_up.set(true);
        assert_eq!((get(seconds(5)).await, get(seconds(3604)).await), (Some(2), Some(2)));
        assert_eq!(get(seconds(3605)).await, Some(3));
        is_up.set(false);
        let later = seconds(3605) + LIFETIME;
        assert_eq!(get(later).await, Some(3), "the old one is better than none");
        assert_eq!(get(seconds(3605) + STALE_LIFETIME).await, None);
    }
}

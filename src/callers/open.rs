//! Calls that are open now, so that a revoked key or a suspended user ends them.

use domain::id::{IdMap, KeyId, UserId};
use parking_lot::Mutex;
use std::sync::Arc;
use tokio_util::sync::CancellationToken;

/// The open calls of this process.
#[derive(Debug, Clone, Default)]
pub struct OpenCalls {
    by_user: Arc<Mutex<IdMap<UserId, Vec<Entry>>>>,
}

#[derive(Debug)]
struct Entry {
    number: u64,
    key: KeyId,
    ended: CancellationToken,
}

/// An open call; dropping it ends it.
#[derive(Debug)]
pub struct OpenCall {
    calls: OpenCalls,
    user: UserId,
    number: u64,
    ended: CancellationToken,
}

impl OpenCalls {
    /// Notes a call. `number` tells calls of one user apart.
    #[must_use]
    pub fn open(&self, user: UserId, key: KeyId, number: u64) -> OpenCall {
        let ended = CancellationToken::new();
        let entry = Entry { number, key, ended: ended.clone() };
        self.by_user.lock().entry(user).or_default().push(entry);
        OpenCall { calls: self.clone(), user, number, ended }
    }

    /// True if no call is open.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.by_user.lock().is_empty()
    }

    /// The keys with which a user has calls open.
    #[must_use]
    pub fn keys(&self, user: UserId) -> Vec<KeyId> {
        self.by_user
            .lock()
            .get(&user)
            .map(|calls| calls.iter().map(|c| c.key.clone()).collect())
            .unwrap_or_default()
    }

    /// Ends the calls that a user has open with `key`.
    pub fn end(&self, user: UserId, key: &KeyId) {
        if let Some(calls) = self.by_user.lock().get(&user) {
            calls.iter().filter(|call| call.key == *key).for_each(|call| call.ended.cancel());
        }
    }
}

impl OpenCall {
    /// Resolves when the right to this call has ended.
    pub async fn ended(&self) {
        self.ended.cancelled().await;
    }
}

impl Drop for OpenCall {
    fn drop(&mut self) {
        let mut by_user = self.calls.by_user.lock();
        if let Some(calls) = by_user.get_mut(&self.user) {
            calls.retain(|call| call.number != self.number);
            if calls.is_empty() {
                by_user.remove(&self.user);
            }
        }
    }
}

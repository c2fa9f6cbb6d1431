//! Completions that are fetched later, and once.

use bytes::Bytes;
use parking_lot::Mutex;
use std::collections::HashMap;
use std::time::Instant;

/// The most completions that wait to be fetched; more are not stored.
const MAX_DEFERRED: usize = 10_000;

/// A completion stored until it is fetched.
#[derive(Debug)]
pub struct DeferredCompletion {
    pub body: Bytes,
    pub ready_at: Instant,
}

/// The stored completions by id.
#[derive(Debug, Default)]
pub struct DeferredCompletions(Mutex<HashMap<String, DeferredCompletion>>);

impl DeferredCompletions {
    pub fn insert(&self, id: &str, completion: DeferredCompletion) {
        let mut all = self.0.lock();
        if all.len() < MAX_DEFERRED {
            all.insert(id.to_owned(), completion);
        }
    }

    /// Removes and returns a completion; `Some(None)` if it is not ready at `now`, `None` if the id is
    /// unknown.
    pub fn fetch(&self, id: &str, now: Instant) -> Option<Option<DeferredCompletion>> {
        let mut all = self.0.lock();
        let is_ready = all.get(id)?.ready_at <= now;
        Some(if is_ready { all.remove(id) } else { None })
    }
}

//! Completions that are fetched later, and once.

use bytes::Bytes;
use parking_lot::Mutex;
use std::collections::HashMap;
use std::time::Instant;

/// A completion that waits to be fetched.
#[derive(Debug)]
pub struct DeferredCompletion {
    pub body: Bytes,
    pub ready_at: Instant,
}

/// What waits, by id.
#[derive(Debug, Default)]
pub struct DeferredCompletions(Mutex<HashMap<String, DeferredCompletion>>);

impl DeferredCompletions {
    pub fn insert(&self, id: &str, completion: DeferredCompletion) {
        let mut all = self.0.lock();
        all.insert(id.to_owned(), completion);
    }

    /// Gives it away if it is ready at `now`; `Some(None)` when it is not, `None` when there is none.
    pub fn fetch(&self, id: &str, now: Instant) -> Option<Option<DeferredCompletion>> {
        let mut all = self.0.lock();
        let is_ready = all.get(id)?.ready_at <= now;
        Some(if is_ready { all.remove(id) } else { None })
    }
}

//! A circuit breaker for the store: while it is unavailable, requests fail immediately.
//!
//! A server that refuses connections is down, and waiting for it is pointless; one that accepts them but is
//! slow may be waking up (Neon takes a moment) and gets its full timeout. A slow query cannot tell the two
//! apart, so the server is probed while it runs. While the server is down, one caller at a time retries it at
//! intervals, and all others fail without waiting.

use super::{Reach, Store, StoreError, UserError};
use crate::clock;
use crate::telemetry::outage::{Ended, Outage};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::time::sleep;

/// A verb that takes longer has the server tried beside it, and again after each such pause.
const SLOW: Duration = Duration::from_millis(250);
const TRY_AGAIN: Duration = Duration::from_secs(2);
/// Time between two tries while the store is away.
const TRY_PAUSE: Duration = Duration::from_millis(500);
/// A verb that failed after this long has waited for a server that says nothing.
const HUNG: Duration = Duration::from_secs(5);
/// An outage is over when nothing has failed for this long.
const QUIET: Duration = Duration::from_secs(1);

/// Open while the store can be reached.
pub(super) struct Gate {
    store: Arc<dyn Store>,
    closed: Mutex<Option<Closed>>,
    /// Held by the slow verb that tries the server beside it.
    trying: tokio::sync::Mutex<()>,
    outage: Outage,
}

/// The store is away.
struct Closed {
    reason: String,
    next_try: Instant,
}

/// An error that may say that the store is not available.
pub(super) trait StoreFailure: From<StoreError> {
    /// The reason, where it is that.
    fn unavailable(&self) -> Option<&str>;
}

impl StoreFailure for StoreError {
    fn unavailable(&self) -> Option<&str> {
        match self {
            Self::Unavailable(reason) => Some(reason),
            _ => None,
        }
    }
}

impl StoreFailure for UserError {
    fn unavailable(&self) -> Option<&str> {
        match self {
            Self::Store(error) => error.unavailable(),
            _ => None,
        }
    }
}

impl Gate {
    pub(super) fn new(store: Arc<dyn Store>) -> Self {
        Self {
            store,
            closed: Mutex::default(),
            trying: tokio::sync::Mutex::default(),
            outage: Outage::default(),
        }
    }

    /// Runs a verb, unless the store is known to be away, and for no longer than it is there.
    pub(super) async fn pass<T, E: StoreFailure>(
        &self,
        verb: impl Future<Output = Result<T, E>>,
    ) -> Result<T, E> {
        let began = clock::instant();
        let done = match self.is_closed().await {
            Some(reason) => Err(StoreError::Unavailable(reason).into()),
            None => tokio::select! {
                biased;
                done = verb => done,
                reason = self.refused() => Err(StoreError::Unavailable(reason).into()),
            },
        };
        self.record(&done, began);
        done
    }

    /// Resolves when the server refuses connections.
    async fn refused(&self) -> String {
        let mut pause = SLOW;
        loop {
            sleep(pause).await;
            // What one of many slow verbs finds out, the others learn from it.
            if let Some(closed) = self.closed().as_ref() {
                return closed.reason.clone();
            }
            pause = SLOW;
            if let Ok(_only) = self.trying.try_lock() {
                pause = TRY_AGAIN;
                if let Reach::Refused(reason) = self.store.reach().await {
                    self.close(reason.clone());
                    return reason;
                }
            }
        }
    }

    /// Returns why the store is away. The first caller whose turn it is tries whether it still is.
    async fn is_closed(&self) -> Option<String> {
        {
            let mut closed = self.closed();
            let known = closed.as_mut()?;
            let now = clock::instant();
            if now < known.next_try {
                return Some(known.reason.clone());
            }
            known.next_try = now + TRY_PAUSE;
        }
        match self.store.reach().await {
            Reach::Open => *self.closed() = None,
            Reach::Refused(reason) => self.close(reason),
            Reach::Silent => {}
        }
        self.closed().as_ref().map(|closed| closed.reason.clone())
    }

    fn close(&self, reason: String) {
        *self.closed() = Some(Closed { reason, next_try: clock::instant() + TRY_PAUSE });
    }

    /// Counts failures, and tells the log when they begin and when they end.
    fn record<T, E: StoreFailure>(&self, done: &Result<T, E>, began: Instant) {
        let now = clock::instant();
        let Some(reason) = done.as_ref().err().and_then(StoreFailure::unavailable) else {
            if self.outage.is_open()
                && let Some(Ended { lasted, failures }) = self.outage.end(now, QUIET)
            {
                tracing::info!(seconds = lasted.as_secs_f64(), failures, "store recovered");
            }
            return;
        };
        if self.outage.fail(now) {
            tracing::warn!(
                error = reason,
                "store failed; refusing requests that need it until it recovers"
            );
        }
        if now.saturating_duration_since(began) >= HUNG {
            *self.closed() = Some(Closed { reason: reason.to_owned(), next_try: now });
        }
    }

    fn closed(&self) -> MutexGuard<'_, Option<Closed>> {
        self.closed.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

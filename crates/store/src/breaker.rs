//! A circuit breaker for the store: while it is unavailable, requests fail immediately.
//!
//! A server that refuses connections is down, and waiting for it is pointless; one that accepts them but is
//! slow may be waking up (Neon takes a moment) and gets its full timeout. A slow query cannot distinguish the two
//! apart, so the server is probed while it runs. While the server is down, one caller at a time retries it at
//! intervals, and all others fail without waiting.

use super::announcements::AnnouncementError;
use super::error::StoreError;
use super::maintenance::{Maintenance, Reach};
use super::users::UserError;
use parking_lot::Mutex;
use std::time::{Duration, Instant};
use system::clock;
use telemetry::outage::{Outage, OutageSummary};
use tokio::time::sleep;

/// A verb that takes longer has the server probed while it runs.
const SLOW_INTERVAL: Duration = Duration::from_millis(250);
/// Time between two probes while verbs are slow.
const SLOW_PROBE_INTERVAL: Duration = Duration::from_secs(2);
/// Time between two probes while the store is unavailable.
const PROBE_INTERVAL: Duration = Duration::from_millis(500);
/// A verb that failed after this long has waited for a server that does not answer.
const HUNG_TIMEOUT: Duration = Duration::from_secs(5);
/// An outage is over when nothing has failed for this long.
const RECOVERY_INTERVAL: Duration = Duration::from_secs(1);

/// Closed, in the sense of a circuit, while the store can be reached.
#[derive(Default)]
pub(super) struct Breaker {
    open: Mutex<Option<Open>>,
    /// Held by the slow verb that probes the server.
    probing: tokio::sync::Mutex<()>,
    outage: Outage,
}

/// State while the store is unavailable.
struct Open {
    reason: String,
    next_probe: Instant,
}

/// An error that may mean that the store is unavailable.
pub(super) trait StoreFailure: From<StoreError> {
    /// The reason, if the store is unavailable.
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

impl StoreFailure for AnnouncementError {
    fn unavailable(&self) -> Option<&str> {
        match self {
            Self::Store(error) => error.unavailable(),
            Self::EndsBeforeStart => None,
        }
    }
}

impl Breaker {
    /// Runs a verb of `store`, unless the store is known to be unavailable, and only until it is.
    pub(super) async fn run<T, E: StoreFailure>(
        &self,
        store: &impl Maintenance,
        verb: impl Future<Output = Result<T, E>>,
    ) -> Result<T, E> {
        let began = clock::instant();
        let done = match self.unavailable(store).await {
            Some(reason) => Err(StoreError::Unavailable(reason).into()),
            None => tokio::select! {
                biased;
                done = verb => done,
                reason = self.refused(store) => Err(StoreError::Unavailable(reason).into()),
            },
        };
        self.record(&done, began);
        done
    }

    /// Resolves when the server refuses connections.
    async fn refused(&self, store: &impl Maintenance) -> String {
        let mut pause = SLOW_INTERVAL;
        loop {
            sleep(pause).await;
            // One of many slow verbs probes, and opens the breaker for all.
            if let Some(open) = self.open.lock().as_ref() {
                return open.reason.clone();
            }
            pause = SLOW_INTERVAL;
            if let Ok(_only) = self.probing.try_lock() {
                pause = SLOW_PROBE_INTERVAL;
                if let Reach::Refused(reason) = store.reach().await {
                    self.trip(reason.clone());
                    return reason;
                }
            }
        }
    }

    /// The reason if the store is unavailable. The first caller after the interval probes whether it still is.
    async fn unavailable(&self, store: &impl Maintenance) -> Option<String> {
        {
            let mut open = self.open.lock();
            let known = open.as_mut()?;
            let now = clock::instant();
            if now < known.next_probe {
                return Some(known.reason.clone());
            }
            known.next_probe = now + PROBE_INTERVAL;
        }
        match store.reach().await {
            Reach::Open => *self.open.lock() = None,
            Reach::Refused(reason) => self.trip(reason),
            Reach::Silent => {}
        }
        self.open.lock().as_ref().map(|open| open.reason.clone())
    }

    fn trip(&self, reason: String) {
        *self.open.lock() = Some(Open { reason, next_probe: clock::instant() + PROBE_INTERVAL });
    }

    /// Counts failures, and logs the beginning and the end of an outage.
    fn record<T, E: StoreFailure>(&self, done: &Result<T, E>, began: Instant) {
        let now = clock::instant();
        let Some(reason) = done.as_ref().err().and_then(StoreFailure::unavailable) else {
            if self.outage.is_open()
                && let Some(OutageSummary { lasted, failures }) =
                    self.outage.end(now, RECOVERY_INTERVAL)
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
        if now.saturating_duration_since(began) >= HUNG_TIMEOUT {
            *self.open.lock() = Some(Open { reason: reason.to_owned(), next_probe: now });
        }
    }
}

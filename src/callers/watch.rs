//! Watches for changed users: drops their cached records and ends calls whose access was revoked. It
//! reads the store when it is notified of a change, and every 30 s while there are calls; four times a second after a
//! read that failed.
//!
//! New calls do not rely on it (their reservation checks the user's version); open streams do,
//! and end within one round of it.

use super::cache::CallerCache;
use super::open::OpenCalls;
use domain::id::UserId;
use jiff::Timestamp;
use std::sync::Arc;
use std::time::Duration;
use store::{ChangeFeed, Changed, StoreError};
use system::clock;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

/// Poll interval of the store: streams must end within a second of a revocation, with room for a slow store.
const POLL_INTERVAL: Duration = Duration::from_millis(250);
/// Poll interval if changes are announced, while there are calls: the process that made a change may
/// have died before announcing it.
const ANNOUNCED_POLL_INTERVAL: Duration = Duration::from_secs(30);

/// Watches the store for changes of users, keys and plans.
pub struct Watch {
    pub store: Arc<dyn ChangeFeed>,
    pub callers: Arc<CallerCache>,
    pub open: OpenCalls,
    /// Notified of each change that this gateway learns of.
    pub changed: Arc<Notify>,
}

impl Watch {
    /// Runs until `stop` is cancelled.
    pub async fn run(self, stop: CancellationToken) {
        // If the store does not respond, the first round drops every record: slower, and correct.
        let mut since = self.store.last_change().await.unwrap_or(0);
        let mut is_known = false;
        while stop.run_until_cancelled(self.pause(is_known)).await.is_some() {
            // If the store does not respond, the next round reads the same changes.
            let polled = self.poll(since).await;
            is_known = polled.is_ok();
            since = polled.unwrap_or(since);
        }
    }

    /// Waits until the next poll; `is_known` if the last one returned all changes.
    async fn pause(&self, is_known: bool) {
        if !is_known {
            return tokio::time::sleep(POLL_INTERVAL).await;
        }
        // Without calls a missed change has no effect, and the store may be suspended.
        while tokio::time::timeout(ANNOUNCED_POLL_INTERVAL, self.changed.notified()).await.is_err()
            && !self.callers.was_asked()
            && self.open.is_empty()
        {}
    }

    /// Polls once; returns the sequence number for the next poll.
    async fn poll(&self, since: u64) -> Result<u64, StoreError> {
        let changes = self.store.changes(since).await?;
        for Changed { user, version } in changes.users {
            self.callers.forget_before(user, version);
            self.end_calls_without_right(user, clock::now()).await?;
        }
        Ok(changes.upto)
    }

    /// # Errors
    /// It cannot be determined now whether a call may continue; the next round retries.
    async fn end_calls_without_right(
        &self,
        user: UserId,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        for key in self.open.keys(user) {
            let caller = self.callers.find(&key, clock::instant()).await?;
            if caller.is_none_or(|caller| caller.check(now).is_err()) {
                self.open.end(user, &key);
            }
        }
        Ok(())
    }
}

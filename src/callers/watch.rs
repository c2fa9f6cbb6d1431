//! Watches for changed users: drops their cached records and ends calls whose access was revoked. With
//! [`Watch::changed`] it reads the store when it is notified, and every 30 s; without, four times a second.
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
    /// Notified of each announced change; `None` = the store is polled.
    pub changed: Option<Arc<Notify>>,
}

impl Watch {
    /// Runs until `stop` is cancelled.
    pub async fn run(self, stop: CancellationToken) {
        // Without an answer the first round forgets every user: slower, and right.
        let mut since = self.store.last_change().await.unwrap_or(0);
        let mut is_known = false;
        while stop.run_until_cancelled(self.pause(is_known)).await.is_some() {
            // If the store does not respond, the next round reads the same changes.
            let looked = self.look(since).await;
            is_known = looked.is_ok();
            since = looked.unwrap_or(since);
        }
    }

    /// Until it is time to look; `is_known` when the latest look told all there was.
    async fn pause(&self, is_known: bool) {
        match &self.changed {
            Some(changed) if is_known => {
                // Without calls a missed change has no effect, and the store may be suspended.
                while tokio::time::timeout(ANNOUNCED_POLL_INTERVAL, changed.notified())
                    .await
                    .is_err()
                    && !self.callers.was_asked()
                    && self.open.is_empty()
                {}
            }
            _ => tokio::time::sleep(POLL_INTERVAL).await,
        }
    }

    /// Polls once; returns the sequence number for the next poll.
    async fn look(&self, since: u64) -> Result<u64, StoreError> {
        let changes = self.store.changes(since).await?;
        for Changed { user, version } in changes.users {
            self.callers.forget_before(user, version);
            self.end_calls_without_right(user, clock::now()).await?;
        }
        Ok(changes.upto)
    }

    /// # Errors
    /// Whether a call may go on is not known; to be tried again.
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

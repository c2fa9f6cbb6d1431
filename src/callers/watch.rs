//! Watches the store for changed users: forgets their records and ends calls that lost their right.
//!
//! New calls do not rely on it (their reservation checks the user's version); open streams do,
//! and end within one round of it.

use super::cache::CallerCache;
use super::open::OpenCalls;
use crate::account::caller::Caller;
use crate::account::id::UserId;
use crate::account::user::UserStatus;
use crate::clock;
use crate::store::{Store, StoreError};
use jiff::Timestamp;
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// Time between two looks: a cut within a second, with room for a slow store.
const ROUND: Duration = Duration::from_millis(250);

/// What the watch works on.
pub struct Watch {
    pub store: Arc<dyn Store>,
    pub callers: Arc<CallerCache>,
    pub open: OpenCalls,
}

impl Watch {
    /// Runs until `stop` is cancelled.
    pub async fn run(self, stop: CancellationToken) {
        // Without an answer the first round forgets every user: slower, and right.
        let mut since = self.store.changes(0).await.map_or(0, |changes| changes.upto);
        let mut rounds = tokio::time::interval(ROUND);
        rounds.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                _ = rounds.tick() => since = self.look(since).await,
                () = stop.cancelled() => return,
            }
        }
    }

    /// One round; returns what to ask with next time. A store that does not answer is asked again.
    async fn look(&self, since: u64) -> u64 {
        let Ok(changes) = self.store.changes(since).await else { return since };
        for user in changes.users {
            self.callers.forget(user);
            if self.end_calls_without_right(user, clock::now()).await.is_err() {
                return since;
            }
        }
        changes.upto
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
            if !caller.is_some_and(|caller| has_right(&caller, now)) {
                self.open.end(user, &key);
            }
        }
        Ok(())
    }
}

fn has_right(caller: &Caller, now: Timestamp) -> bool {
    let expired = caller.key_expires_at.is_some_and(|at| at <= now);
    !caller.key_revoked && !expired && caller.user_status == UserStatus::Active
}

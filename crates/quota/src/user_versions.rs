//! Tracks the latest version of recently changed users, so that reservations with stale caller records are refused.
//!
//! A change to a user, a key or a plan applies from the next call on. With SQLite every process detects a commit
//! at once, and reads which users changed before it admits the next call. With Postgres the gateway polls four
//! times a second and confirms the changes, which commands wait for; it reads its own changes before it
//! responds to the request that made them.

use async_trait::async_trait;
use domain::id::{IdMap, UserId};
use journal::Journal;
use parking_lot::Mutex;
use std::sync::Arc;
use std::time::{Duration, Instant};
use store::change_notifier::ChangeNotifier;
use store::{ChangeFeed, Changed, CommitStamp, StoreError};
use system::clock;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

/// Time between two polls: streams of revoked callers end within a second, even with a slow store.
const POLL_INTERVAL: Duration = Duration::from_millis(250);
/// One poll in this many does not rely on the stamp: if a local store's stamp ever stopped changing, a revoked key
/// would still be refused within a second or so.
const ROUNDS_PER_FULL_POLL: u32 = 4;
/// Time limit of a poll; calls that wait for it are then refused. Readers wait for no writer, so only an
/// overloaded machine comes near it.
const POLL_TIMEOUT: Duration = Duration::from_secs(2);
/// A version is stored for at least this time, and at most twice as long: longer than a call takes from its
/// caller record to its reservation.
const VERSION_RETENTION: Duration = Duration::from_secs(15 * 60);

/// Latest versions of recently changed users.
pub struct UserVersions {
    store: Arc<dyn ChangeFeed>,
    state: Mutex<State>,
    /// Locked during a poll, so that only one runs at a time.
    polling: tokio::sync::Mutex<()>,
    /// Notified when users have changed.
    pub changed: Arc<Notify>,
}

/// When a poll queries the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Poll {
    /// A local store is queried only if its stamp has changed.
    IfCommitted,
    Always,
}

struct State {
    /// Number of the latest change that was read.
    since: u64,
    stamp: CommitStamp,
    recent: IdMap<UserId, u64>,
    older: IdMap<UserId, u64>,
    rotated: Instant,
}

impl UserVersions {
    /// Tracks every change from here on. Call it before any caller record is read.
    ///
    /// # Errors
    /// If the store does not respond.
    pub async fn start(store: Arc<dyn ChangeFeed>) -> Result<Arc<Self>, StoreError> {
        let stamp = store.commit_stamp();
        let since = store.last_change().await?;
        store.confirm_changes(since).await?;
        let (recent, older) = (IdMap::default(), IdMap::default());
        let state = State { since, stamp, recent, older, rotated: clock::instant() };
        let polling = tokio::sync::Mutex::default();
        Ok(Arc::new(Self { store, state: Mutex::new(state), polling, changed: Arc::default() }))
    }

    /// True if `version` is still the user's current one, or no change to the user is known.
    ///
    /// # Errors
    /// If something was committed, and the store does not return it.
    pub async fn is_current(&self, user: UserId, version: u64) -> Result<bool, StoreError> {
        if !self.is_up_to_date(self.store.commit_stamp()) {
            let polled = tokio::time::timeout(POLL_TIMEOUT, self.poll(Poll::IfCommitted)).await;
            polled.map_err(|_| {
                StoreError::Unavailable("the query for changed users timed out".into())
            })??;
        }
        Ok(self.state.lock().version(user).is_none_or(|current| current <= version))
    }

    /// Polls until `stop` is cancelled. Notifies `journal` if another instance has acquired the instance lock.
    pub async fn poll_loop(self: Arc<Self>, journal: Journal, stop: CancellationToken) {
        let mut rounds = (0..ROUNDS_PER_FULL_POLL).cycle();
        while stop.run_until_cancelled(tokio::time::sleep(POLL_INTERVAL)).await.is_some() {
            let kind = if rounds.next() == Some(0) { Poll::Always } else { Poll::IfCommitted };
            match self.poll(kind).await {
                Ok(()) => journal.set_superseded(false),
                Err(StoreError::Superseded) => journal.set_superseded(true),
                // Changes cannot be read now; the next round retries.
                Err(_) => {}
            }
        }
    }

    /// True if nothing can have been committed since the last poll.
    fn is_up_to_date(&self, stamp: CommitStamp) -> bool {
        match stamp {
            // Changes of a remote store are found by the poll loop alone.
            CommitStamp::Remote => true,
            CommitStamp::Unknown => false,
            CommitStamp::At(_) => self.state.lock().stamp == stamp,
        }
    }

    /// Reads the users that changed since the last poll.
    async fn poll(&self, kind: Poll) -> Result<(), StoreError> {
        let _polling = self.polling.lock().await;
        // Read before the query, so that a commit during the query causes another poll.
        let stamp = self.store.commit_stamp();
        let is_local = matches!(stamp, CommitStamp::At(_));
        if is_local && kind == Poll::IfCommitted && self.is_up_to_date(stamp) {
            return Ok(());
        }
        let since = self.state.lock().since;
        let changes = self.store.changes(since).await?;
        let has_changed = !changes.users.is_empty();
        self.state.lock().record(stamp, changes.upto, &changes.users, clock::instant());
        if has_changed {
            self.changed.notify_one();
        }
        self.store.confirm_changes(changes.upto).await
    }
}

impl State {
    fn version(&self, user: UserId) -> Option<u64> {
        self.recent.get(&user).or_else(|| self.older.get(&user)).copied()
    }

    fn record(&mut self, stamp: CommitStamp, upto: u64, users: &[Changed], now: Instant) {
        if now.saturating_duration_since(self.rotated) > VERSION_RETENTION {
            self.older = std::mem::take(&mut self.recent);
            self.rotated = now;
        }
        for Changed { user, version } in users {
            self.recent.insert(*user, *version);
        }
        (self.stamp, self.since) = (stamp, upto);
    }
}

#[async_trait]
impl ChangeNotifier for UserVersions {
    async fn notify(&self, _user: Option<UserId>) -> Result<(), StoreError> {
        self.poll(Poll::IfCommitted).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use store::Changes;

    /// A local store with one changed user and a stamp that never changes.
    struct Frozen(UserId);

    #[async_trait]
    impl ChangeFeed for Frozen {
        async fn changes(&self, _since: u64) -> Result<Changes, StoreError> {
            Ok(Changes { upto: 1, users: vec![Changed { user: self.0, version: 7 }] })
        }

        async fn last_change(&self) -> Result<u64, StoreError> {
            Ok(0)
        }

        fn commit_stamp(&self) -> CommitStamp {
            CommitStamp::At([0; 48])
        }

        async fn confirm_changes(&self, _upto: u64) -> Result<(), StoreError> {
            Ok(())
        }

        async fn is_change_confirmed(&self, _user: Option<UserId>) -> Result<bool, StoreError> {
            Ok(true)
        }
    }

    #[tokio::test]
    async fn a_full_poll_finds_changes_although_the_stamp_stays() {
        let user = UserId::new();
        let versions = UserVersions::start(Arc::new(Frozen(user))).await.unwrap();
        versions.poll(Poll::IfCommitted).await.unwrap();
        assert!(versions.is_current(user, 6).await.unwrap(), "nothing was committed");
        versions.poll(Poll::Always).await.unwrap();
        assert!(!versions.is_current(user, 6).await.unwrap());
        assert!(versions.is_current(user, 7).await.unwrap());
    }
}

//! Tracks the latest version of recently changed users, so that reservations with stale caller records are refused.
//!
//! Whoever changed a user, a key or a plan may rely on it from the next call on. With SQLite every process
//! sees at once that something was committed, and looks who it is about before it admits the next call. With
//! Postgres the gateway looks four times a second and confirms it, which commands wait for; its own changes it
//! looks up before it answers them.

use async_trait::async_trait;
use domain::id::{IdMap, UserId};
use journal::Journal;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use store::invalidation::Invalidate;
use store::{ChangeFeed, Changed, CommitStamp, StoreError};
use system::clock;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

/// Time between two looks: a stream is cut within a second, with room for a slow store.
const ROUND: Duration = Duration::from_millis(250);
/// A call that waits longer for a look is refused. Readers wait for no writer, so only a machine that is very
/// busy comes near it.
const POLL_TIMEOUT: Duration = Duration::from_secs(2);
/// A version is known for at least this long, and for twice that at most: longer than a call takes from its
/// caller record to its reservation.
const REMEMBERED: Duration = Duration::from_secs(15 * 60);

/// The versions of users that changed lately.
pub struct Versions {
    store: Arc<dyn ChangeFeed>,
    known: Mutex<Known>,
    /// Held by the one who looks.
    turn: tokio::sync::Mutex<()>,
    /// Woken when users have changed.
    pub changed: Arc<Notify>,
}

struct Known {
    /// What to ask with next time.
    since: u64,
    stamp: CommitStamp,
    recent: IdMap<UserId, u64>,
    older: IdMap<UserId, u64>,
    rotated: Instant,
}

impl Versions {
    /// Knows every change from here on. To be made before any caller record is read.
    ///
    /// # Errors
    /// When the store does not answer.
    pub async fn start(store: Arc<dyn ChangeFeed>) -> Result<Arc<Self>, StoreError> {
        let stamp = store.commit_stamp();
        let since = store.last_change().await?;
        store.confirm_changes(since).await?;
        let (recent, older) = (IdMap::default(), IdMap::default());
        let known = Known { since, stamp, recent, older, rotated: clock::instant() };
        let turn = tokio::sync::Mutex::default();
        Ok(Arc::new(Self { store, known: Mutex::new(known), turn, changed: Arc::default() }))
    }

    /// True if `version` is still the user's, as far as anything was committed.
    ///
    /// # Errors
    /// When something was committed, and the store does not say what.
    pub async fn is_current(&self, user: UserId, version: u64) -> Result<bool, StoreError> {
        if !self.is_up_to_date(self.store.commit_stamp()) {
            let looked = tokio::time::timeout(POLL_TIMEOUT, self.look()).await;
            looked.map_err(|_| {
                StoreError::Unavailable("the query for changed users timed out".into())
            })??;
        }
        Ok(self.known().version(user).is_none_or(|current| current <= version))
    }

    /// Looks again and again until `stop`. `journal` learns when the claim is another instance's.
    pub async fn watch(self: Arc<Self>, journal: Journal, stop: CancellationToken) {
        while stop.run_until_cancelled(tokio::time::sleep(ROUND)).await.is_some() {
            let stamp = self.store.commit_stamp();
            if stamp != CommitStamp::Remote && self.is_up_to_date(stamp) {
                continue;
            }
            match self.look().await {
                Ok(()) => journal.set_superseded(false),
                Err(StoreError::Superseded) => journal.set_superseded(true),
                // Changes cannot be read now; the next round retries.
                Err(_) => {}
            }
        }
    }

    /// True if nothing can have been committed since the last look.
    fn is_up_to_date(&self, stamp: CommitStamp) -> bool {
        match stamp {
            CommitStamp::Remote => true,
            CommitStamp::Unknown => false,
            CommitStamp::At(_) => self.known().stamp == stamp,
        }
    }

    async fn look(&self) -> Result<(), StoreError> {
        let _turn = self.turn.lock().await;
        // Read before the question, so that what is committed during it is looked up again.
        let stamp = self.store.commit_stamp();
        if matches!(stamp, CommitStamp::At(_)) && self.is_up_to_date(stamp) {
            return Ok(());
        }
        let since = self.known().since;
        let changes = self.store.changes(since).await?;
        let has_changed = !changes.users.is_empty();
        self.known().take(stamp, changes.upto, &changes.users, clock::instant());
        if has_changed {
            self.changed.notify_one();
        }
        self.store.confirm_changes(changes.upto).await
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Known {
    fn version(&self, user: UserId) -> Option<u64> {
        self.recent.get(&user).or_else(|| self.older.get(&user)).copied()
    }

    fn take(&mut self, stamp: CommitStamp, upto: u64, users: &[Changed], now: Instant) {
        if now.saturating_duration_since(self.rotated) > REMEMBERED {
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
impl Invalidate for Versions {
    async fn invalidate(&self, _user: Option<UserId>) -> Result<(), StoreError> {
        self.look().await
    }
}

//! The cache of caller records.
//!
//! A hit takes no lock of ours. What is cached is either the newest record or one whose user was
//! not forgotten since its load began: a load and [`CallerCache::forget`] settle the order between
//! them under one lock, so a record read before a change is never cached after the change was announced. That some other
//! users are forgotten meanwhile does not keep a record from being cached.

use domain::caller::Caller;
use domain::id::{KeyId, UserId};
use parking_lot::Mutex;
use quick_cache::sync::Cache;
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use store::{Callers, StoreError};

/// Time for which an absent key is cached: long enough to blunt guessing, short enough that a key
/// added by another process works almost at once.
const ABSENT_KEY_TTL: Duration = Duration::from_secs(5);

/// Time that a refusal waits for the store to confirm that the record is current.
const VERSION_CHECK_TIMEOUT: Duration = Duration::from_millis(300);

/// Number of forgotten users that are remembered. A load during which more are forgotten is not cached.
const LAST_FORGOTTEN: usize = 256;

/// Caller records by key, bounded in number, loaded once however many ask.
pub struct CallerCache {
    store: Arc<dyn Callers>,
    /// True if users have to verify their e-mail address before they call.
    requires_verified_email: bool,
    records: Cache<KeyId, Found>,
    index: Mutex<Index>,
    /// True if a key was looked up since the last [`was_asked`](Self::was_asked).
    asked: AtomicBool,
}

/// The result of looking a key up in the store.
#[derive(Clone)]
enum Found {
    Present(Arc<Caller>),
    Absent { since: Instant },
}

/// Which keys of a user may be cached, and who was forgotten lately.
#[derive(Default)]
struct Index {
    /// How often a user was forgotten.
    forgotten: u64,
    /// The last users that were forgotten, and the version before which their records are outdated.
    last_forgotten: VecDeque<(UserId, u64)>,
    keys: HashMap<UserId, Vec<KeyId>>,
    /// Keys listed, evicted ones too.
    listed: usize,
}

impl CallerCache {
    /// A cache over `store` that holds at most `capacity` records (present or absent).
    #[must_use]
    pub fn new(store: Arc<dyn Callers>, capacity: usize) -> Self {
        let (records, asked) = (Cache::new(capacity), AtomicBool::new(false));
        let requires_verified_email = false;
        Self { store, requires_verified_email, records, index: Mutex::default(), asked }
    }

    /// The same, with records that say whether their user has to verify the e-mail address first.
    #[must_use]
    pub fn requiring_verified_email(self, requires_verified_email: bool) -> Self {
        Self { requires_verified_email, ..self }
    }

    /// The record of a key. An absent key is remembered for a few seconds from `now`.
    ///
    /// # Errors
    /// When the record is not cached and the store does not answer.
    pub async fn find(&self, key: &KeyId, now: Instant) -> Result<Option<Arc<Caller>>, StoreError> {
        if !self.asked.load(Ordering::Relaxed) {
            self.asked.store(true, Ordering::Relaxed);
        }
        loop {
            let place = match self.records.get_value_or_guard_async(key).await {
                Ok(Found::Present(caller)) => return Ok(Some(caller)),
                Ok(found) if !found.is_outdated(now) => return Ok(None),
                Ok(_) => {
                    self.records.remove_if(key, |found| found.is_outdated(now));
                    continue;
                }
                // Ours to load; all others who ask for the key wait for `place`.
                Err(place) => place,
            };
            let began = self.index.lock().forgotten;
            let record = self.store.caller(key).await?.map(|mut caller| {
                caller.must_verify_email &= self.requires_verified_email;
                Arc::new(caller)
            });
            let mut index = self.index.lock();
            if index.may_cache(record.as_deref(), began) {
                let found = match &record {
                    Some(caller) => Found::Present(Arc::clone(caller)),
                    None => Found::Absent { since: now },
                };
                if let Some(caller) = &record {
                    index.list(caller.user, key);
                }
                // Refused only when the place itself was removed meanwhile: then it is not kept.
                let _ = place.insert(found);
                self.bound(&mut index);
            }
            return Ok(record);
        }
    }

    /// True if a lookup happened since the last call of this.
    pub fn was_asked(&self) -> bool {
        self.asked.swap(false, Ordering::Relaxed)
    }

    /// The record of a key as the store has it now: a cached one is checked against the user's version.
    ///
    /// # Errors
    /// When the store does not answer.
    pub async fn find_current(
        &self,
        key: &KeyId,
        now: Instant,
    ) -> Result<Option<Arc<Caller>>, StoreError> {
        let Some(caller) = self.find(key, now).await? else { return Ok(None) };
        if self.is_current(&caller).await? {
            return Ok(Some(caller));
        }
        self.refresh(&caller, now).await
    }

    /// Loads the record of a key again, in place of `outdated`; `None` if the key is gone.
    ///
    /// # Errors
    /// When the store does not answer.
    pub async fn refresh(
        &self,
        outdated: &Caller,
        now: Instant,
    ) -> Result<Option<Arc<Caller>>, StoreError> {
        self.forget(outdated.user);
        self.find(&outdated.key, now).await
    }

    /// Forgets the records of a user; the next [`find`](Self::find) loads them again.
    pub fn forget(&self, user: UserId) {
        self.forget_before(user, u64::MAX);
    }

    /// Forgets the records of a user that were read before `version`. Word of a change may come after
    /// the changed record, and the store may be away then.
    pub fn forget_before(&self, user: UserId, version: u64) {
        let mut index = self.index.lock();
        index.record_forgotten(user, version);
        let Index { keys, listed, .. } = &mut *index;
        let Some(keys) = keys.get_mut(&user) else { return };
        *listed -= keys.len();
        keys.retain(|key| {
            let is_new = self.records.peek(key).is_some_and(|found| found.is_since(version));
            if !is_new {
                self.records.remove(key);
            }
            is_new
        });
        *listed += keys.len();
        if keys.is_empty() {
            index.keys.remove(&user);
        }
    }

    /// Whether a refusal may rely on `caller`: it is the user's current version, or the store does not
    /// say so in a moment. A store that is away must not hold up answers.
    pub async fn is_current_as_known(&self, caller: &Caller) -> bool {
        let asked = tokio::time::timeout(VERSION_CHECK_TIMEOUT, self.is_current(caller)).await;
        !matches!(asked, Ok(Ok(false)))
    }

    /// True if `caller` is still the user's current version, according to the store itself.
    ///
    /// # Errors
    /// When the store does not answer.
    pub async fn is_current(&self, caller: &Caller) -> Result<bool, StoreError> {
        Ok(self.store.user_version(caller.user).await? == Some(caller.version))
    }

    /// Rebuilds the index once half of its entries must have been evicted, so that it stays
    /// within a fixed multiple of the records at no cost worth counting for each.
    fn bound(&self, index: &mut Index) {
        let most = usize::try_from(self.records.capacity()).unwrap_or(usize::MAX);
        if index.listed <= most.saturating_mul(2) {
            return;
        }
        index.keys.clear();
        index.listed = 0;
        for (key, found) in self.records.iter() {
            if let Found::Present(caller) = found {
                index.list(caller.user, &key);
            }
        }
    }
}

impl Found {
    fn is_since(&self, version: u64) -> bool {
        matches!(self, Self::Present(caller) if caller.version >= version)
    }

    fn is_outdated(&self, now: Instant) -> bool {
        match self {
            Self::Present(_) => false,
            Self::Absent { since } => now.saturating_duration_since(*since) >= ABSENT_KEY_TTL,
        }
    }
}

impl Index {
    fn record_forgotten(&mut self, user: UserId, version: u64) {
        self.forgotten += 1;
        if self.last_forgotten.len() == LAST_FORGOTTEN {
            self.last_forgotten.pop_front();
        }
        self.last_forgotten.push_back((user, version));
    }

    /// True if the result of a load may be cached that began when users had been forgotten `began` times. An absent
    /// key has no user that could be compared.
    fn may_cache(&self, record: Option<&Caller>, began: u64) -> bool {
        let since = usize::try_from(self.forgotten - began).unwrap_or(usize::MAX);
        let outdates = |caller: &Caller, (user, version): &(UserId, u64)| {
            *user == caller.user && caller.version < *version
        };
        match record {
            _ if since == 0 => true,
            Some(caller) if since <= self.last_forgotten.len() => {
                !self.last_forgotten.iter().rev().take(since).any(|last| outdates(caller, last))
            }
            _ => false,
        }
    }

    fn list(&mut self, user: UserId, key: &KeyId) {
        let keys = self.keys.entry(user).or_default();
        if !keys.contains(key) {
            keys.push(key.clone());
            self.listed += 1;
        }
    }
}

//! API keys. Only the hash of a key is stored.

use super::StoreError;
use async_trait::async_trait;
use domain::actor::AuditContext;
use domain::id::{KeyId, UserId};
use domain::key::{Key, KeyDigest, KeyLimits, Pepper, PlainKey};
use jiff::Timestamp;
use std::sync::Arc;

/// Keys that a user may have at the same time, not counting revoked ones.
pub const LIVE_KEYS: usize = 100;
/// Revoked keys of a user that are kept; a further one replaces the one that was revoked first.
pub const REVOKED_KEYS: u32 = 500;
/// Keys that [`all_keys`] reads in one step.
const KEY_BATCH: u32 = 500;

/// Reading and changing keys. Every change is audited in its own transaction.
#[async_trait]
pub trait Keys: Send + Sync + 'static {
    /// Adds a key. Adding the same key again changes nothing.
    async fn add_key(
        &self,
        user: UserId,
        key: &NewKey,
        by: &AuditContext,
    ) -> Result<Key, StoreError>;

    /// Changes a key that is not revoked; `None` when the user has no such key.
    async fn change_key(
        &self,
        user: UserId,
        key: &KeyId,
        change: &KeyChange,
        by: &AuditContext,
    ) -> Result<Option<Key>, StoreError>;

    /// Adds a key and revokes the user's other keys of the same name, in one transaction.
    async fn replace_key(
        &self,
        user: UserId,
        key: &NewKey,
        by: &AuditContext,
    ) -> Result<Key, StoreError>;

    /// Adds a key in place of the user's key `old`, in one transaction: the old one is revoked or, with
    /// `old_ends_at`, expires then at the latest. `None` when the user has no key `old` that is not revoked.
    async fn rotate_key(
        &self,
        user: UserId,
        (old, old_ends_at): (&KeyId, Option<Timestamp>),
        key: &NewKey,
        by: &AuditContext,
    ) -> Result<Option<Key>, StoreError>;

    /// At most `limit` keys of a user, the oldest first.
    async fn keys(
        &self,
        user: UserId,
        filter: &KeyFilter,
        limit: u32,
    ) -> Result<Vec<Key>, StoreError>;

    /// A key of a user, revoked or not; `None` when it is not this user's.
    async fn key(&self, user: UserId, key: &KeyId) -> Result<Option<Key>, StoreError>;

    /// At most `limit` keys of all users with this id or these last four characters, the newest first, each with
    /// its user; revoked ones as well.
    async fn find_keys(&self, text: &str, limit: u32) -> Result<Vec<(UserId, Key)>, StoreError>;

    /// Revokes a key; `None` when there is no such key. Revoking twice keeps the first time.
    async fn revoke_key(&self, key: &KeyId, by: &AuditContext) -> Result<Option<Key>, StoreError>;
}

/// Values of a new key.
#[derive(Debug, Clone)]
pub struct NewKey {
    pub id: KeyId,
    pub digest: KeyDigest,
    pub last_four: String,
    pub name: String,
    pub created_at: Timestamp,
    pub expires_at: Option<Timestamp>,
    pub limits: KeyLimits,
}

impl NewKey {
    /// The record of `plain`, without an expiry and limits of its own.
    #[must_use]
    pub fn of(plain: &PlainKey, pepper: &Pepper, name: &str, created_at: Timestamp) -> Self {
        Self {
            id: plain.id(),
            digest: plain.digest(pepper),
            last_four: plain.last_four().to_owned(),
            name: name.to_owned(),
            created_at,
            expires_at: None,
            limits: KeyLimits::default(),
        }
    }
}

/// A filter for the keys of a user.
#[derive(Debug, Clone, Default)]
pub struct KeyFilter {
    /// Only those that are not revoked.
    pub live: bool,
    /// Only those after this position in the list, from [`key_position`].
    pub after: Option<(Timestamp, KeyId)>,
}

/// The position of a key in its user's list.
#[must_use]
pub fn key_position(key: &Key) -> (Timestamp, KeyId) {
    (key.created_at, key.id.clone())
}

/// All keys of a user, the oldest first, including revoked ones: at most [`LIVE_KEYS`] and [`REVOKED_KEYS`].
///
/// # Errors
/// When the store does not answer.
pub async fn all_keys(store: &dyn Keys, user: UserId) -> Result<Vec<Key>, StoreError> {
    let (mut keys, mut filter) = (Vec::new(), KeyFilter::default());
    loop {
        let page = store.keys(user, &filter, KEY_BATCH).await?;
        filter.after = page.last().map(key_position);
        let is_last = page.len() < KEY_BATCH as usize;
        keys.extend(page);
        if is_last {
            return Ok(keys);
        }
    }
}

/// Changes to a key; `None` leaves a field as it is.
#[derive(Debug, Clone, Default)]
pub struct KeyChange {
    pub name: Option<String>,
    /// `Some(None)` if the key never expires.
    pub expires_at: Option<Option<Timestamp>>,
    /// `Some(None)` = the plan's again, as for the two below.
    pub tokens_per_day: Option<Option<u64>>,
    pub requests_per_day: Option<Option<u64>>,
    pub models: Option<Option<Arc<[Arc<str>]>>>,
}

impl KeyChange {
    /// Returns the key with these changes.
    pub(super) fn applied_to(&self, key: Key) -> Key {
        Key {
            name: self.name.clone().unwrap_or(key.name),
            expires_at: self.expires_at.unwrap_or(key.expires_at),
            limits: KeyLimits {
                tokens_per_day: self.tokens_per_day.unwrap_or(key.limits.tokens_per_day),
                requests_per_day: self.requests_per_day.unwrap_or(key.limits.requests_per_day),
                models: self.models.clone().unwrap_or(key.limits.models),
            },
            ..key
        }
    }
}

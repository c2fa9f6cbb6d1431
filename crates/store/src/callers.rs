//! Reads of the data plane: the caller record of a key, and the users that changed.

use super::StoreError;
use async_trait::async_trait;
use domain::caller::Caller;
use domain::id::{KeyId, UserId};

/// Reading the records of callers.
#[async_trait]
pub trait Callers: Send + Sync + 'static {
    /// Returns the caller record of a key, whatever its status.
    async fn caller(&self, key: &KeyId) -> Result<Option<Caller>, StoreError>;

    /// Returns the current version of a user; `None` if the user does not exist.
    async fn user_version(&self, user: UserId) -> Result<Option<u64>, StoreError>;
}

/// Changes to users, their keys and plans, for caches that have to follow.
#[async_trait]
pub trait ChangeFeed: Send + Sync + 'static {
    /// Users changed after `since` (0 = from the beginning), and the number to pass next time.
    async fn changes(&self, since: u64) -> Result<Changes, StoreError>;

    /// The number of the latest change.
    async fn last_change(&self) -> Result<u64, StoreError>;

    /// A stamp that differs after every commit, read without a query.
    fn commit_stamp(&self) -> CommitStamp;

    /// Confirms that the instance with the lock acts on all changes up to `upto`; commands wait for it.
    /// [`StoreError::Superseded`] when another instance has taken the lock.
    async fn confirm_changes(&self, upto: u64) -> Result<(), StoreError>;

    /// True if the instance with the lock acts on the latest change of a user (`None` = of any user), or
    /// no instance runs.
    async fn is_change_confirmed(&self, user: Option<UserId>) -> Result<bool, StoreError>;
}

/// The state of a store's commits, read without a query.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CommitStamp {
    /// Not available: changes have to be polled.
    Remote,
    /// Not readable now, so something may have been committed.
    Unknown,
    /// Differs after every commit of any process.
    At([u8; 48]),
}

/// Users that changed, up to the change with the number `upto`.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Changes {
    pub upto: u64,
    pub users: Vec<Changed>,
}

/// A changed user with its new version.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Changed {
    pub user: UserId,
    /// The new [`Caller::version`].
    pub version: u64,
}

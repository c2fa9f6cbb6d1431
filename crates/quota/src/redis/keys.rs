//! Names of keys in Redis. All keys of a user contain their partition in braces, so that a cluster stores them on
//! one node and one script may use them.

use domain::day::Day;
use domain::id::{KeyId, RequestId, UserId};

/// Number of partitions; each has an epoch, an outbox and a set of lease deadlines. It must not change where data
/// exists, because users would move to other partitions.
pub const PARTITIONS: u8 = 64;

/// Counter that every change to a user, a key or a plan increments.
pub const CHANGES: &str = "kx:changes";

/// A share of the users.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Partition(pub u8);

impl Partition {
    /// Returns the partition of a user: the last bits of a `UUIDv7` are random.
    #[must_use]
    pub fn of(user: UserId) -> Self {
        Self(user.0.as_bytes()[15] % PARTITIONS)
    }

    /// Returns every partition, in the order of their numbers.
    pub fn all() -> impl Iterator<Item = Self> {
        (0..PARTITIONS).map(Self)
    }

    /// Set while the partition's counters are complete; without it no call is admitted.
    #[must_use]
    pub fn epoch(self) -> String {
        self.name("epoch")
    }

    /// Newest version of the user that was published to Redis.
    #[must_use]
    pub fn version(self, user: UserId) -> String {
        self.name(&format!("version:{}", user.0.simple()))
    }

    /// Account of a user, over all its keys.
    #[must_use]
    pub fn user(self, user: UserId) -> String {
        self.name(&format!("user:{}", user.0.simple()))
    }

    /// Account of an API key.
    #[must_use]
    pub fn key(self, user: UserId, key: &KeyId) -> String {
        self.name(&format!("key:{}:{key}", user.0.simple()))
    }

    /// Lease of a running call, and the tombstone of one that has ended.
    #[must_use]
    pub fn lease(self, request: RequestId) -> String {
        self.name(&format!("lease:{}", request.0.simple()))
    }

    /// Tombstone of a call that ended while earlier versions of the gateway ran. It expires within a day of its last
    /// change.
    #[must_use]
    pub fn old_tombstone(self, request: RequestId) -> String {
        self.name(&format!("ended:{}", request.0.simple()))
    }

    /// Result of a reset, so that a repeated one changes nothing.
    #[must_use]
    pub fn reset(self, id: RequestId) -> String {
        self.name(&format!("reset:{}", id.0.simple()))
    }

    /// Tombstone of a correction, so that a repeated one changes nothing.
    #[must_use]
    pub fn correction(self, request: RequestId) -> String {
        self.name(&format!("corrected:{}", request.0.simple()))
    }

    /// Running calls by the time at which they count as abandoned.
    #[must_use]
    pub fn deadlines(self) -> String {
        self.name("deadlines")
    }

    /// Accounts with usage on a day.
    #[must_use]
    pub fn accounts(self, day: Day) -> String {
        self.name(&format!("accounts:{day}"))
    }

    /// Charges and adjustments that wait for the ledger.
    #[must_use]
    pub fn outbox(self) -> String {
        self.name("outbox")
    }

    /// Number of settlements and adjustments: it decreases only if Redis lost writes.
    #[must_use]
    pub fn settled(self) -> String {
        self.name("settled")
    }

    /// Number of them that are in the ledger.
    #[must_use]
    pub fn written(self) -> String {
        self.name("written")
    }

    /// The gateway that writes the outbox to the ledger.
    #[must_use]
    pub fn writer(self) -> String {
        self.name("writer")
    }

    /// The gateway that rebuilds the counters.
    #[must_use]
    pub fn rebuilder(self) -> String {
        self.name("rebuilder")
    }

    /// Gateways that are restoring their leases and charges, each with the time after which it is considered dead.
    #[must_use]
    pub fn restoring(self) -> String {
        self.name("bringing")
    }

    /// Written periodically to check that Redis accepts writes.
    pub fn write_probe(self) -> String {
        self.name("tried")
    }

    fn name(self, rest: &str) -> String {
        format!("kx:{{{}}}:{rest}", self.0)
    }
}

/// Owner of the account with this name: the inverse of [`Partition::user`] and [`Partition::key`].
#[must_use]
pub fn owner(name: &str) -> Option<(UserId, Option<KeyId>)> {
    let (_, rest) = name.split_once("}:")?;
    let (kind, rest) = rest.split_once(':')?;
    match kind {
        "user" => Some((rest.parse().ok()?, None)),
        "key" => {
            let (user, key) = rest.split_once(':')?;
            Some((user.parse().ok()?, Some(KeyId::from(key))))
        }
        _ => None,
    }
}

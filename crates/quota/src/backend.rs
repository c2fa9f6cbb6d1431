//! The interface between quota rules and the back ends that store usage and leases.

use super::rules::{Debit, Scope};
use async_trait::async_trait;
use domain::charge::{Adjustment, Charge, Lease};
use domain::day::Day;
use domain::id::{KeyId, RequestId, UserId};
use domain::limit::LimitKind;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use store::Used;

/// Stores usage and leases. A back end makes no decision of its own: it takes all debits of a claim or none,
/// and stores the lease.
#[async_trait]
pub trait QuotaBackend: Send + Sync + 'static {
    /// Takes every debit of `claim`, or none. On [`TakeOutcome::Granted`] the lease is durable.
    async fn take(&self, claim: Claim, now: Timestamp) -> Result<TakeOutcome, QuotaUnavailable>;

    /// Extends a running call's reservation by up to `want` tokens, or not at all if fewer than `least` are
    /// free. The extension is durable on return.
    async fn extend(
        &self,
        request: RequestId,
        want: u64,
        least: u64,
    ) -> Result<ExtendOutcome, QuotaUnavailable>;

    /// Ends a lease: the used tokens are charged, the rest of the reservation is returned, and one ledger row
    /// is written. A second settlement of a request changes nothing. Durable on return, even if the future is
    /// dropped after its first poll. Returns the tokens charged beyond a limit, because more was used than
    /// reserved and no more was free.
    async fn settle(&self, charge: Charge) -> u64;

    /// Resets a user's day: usage becomes 0, calls in flight keep their reservations. The ledger gets one
    /// [`Adjustment`] for each key with usage. Repeating a reset with the same id changes nothing. Durable on
    /// return.
    async fn reset(&self, reset: &Reset) -> Result<RemovedUsage, QuotaUnavailable>;

    /// Corrects the charge of a call that has ended: the usage of its day changes by the difference, and its
    /// ledger row is replaced. Repeating the correction of a call changes nothing. Durable on return.
    async fn correct(&self, correction: &Correction) -> Result<(), QuotaUnavailable>;

    /// Returns the usage and reservations on `day` of a user, and of one of its keys.
    async fn usage_snapshot(
        &self,
        user: UserId,
        key: Option<&KeyId>,
        day: Day,
        now: Timestamp,
    ) -> Result<UsageSnapshot, QuotaUnavailable>;

    /// Returns the usage on `day` of every user and key, for `usage verify`.
    async fn used_on(&self, day: Day) -> Result<Vec<Used>, QuotaUnavailable>;

    /// Checks that calls can be admitted.
    async fn ping(&self) -> Result<(), QuotaUnavailable>;

    /// Returns the time that determines the day, where the local time is `here`: gateways that share a back
    /// end also share a clock.
    fn now(&self, here: Timestamp) -> Timestamp {
        here
    }

    /// Number of open leases.
    fn open_leases(&self) -> u64;
}

/// Request of one call for admission.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Claim {
    /// `reserved` is set by the back end to the granted tokens.
    pub lease: Lease,
    /// Checked in order; the first that does not fit determines the refusal.
    pub debits: Vec<Debit>,
    /// Shared within a process only, so it is not serialized.
    #[serde(skip)]
    pub observed: ObservedTokens,
}

/// Tokens of a running call observed so far, prompt included. Users are not charged by them: they show how much
/// of an abandoned call's reservation was observed as used.
#[derive(Debug, Clone, Default)]
pub struct ObservedTokens(Arc<AtomicU64>);

impl ObservedTokens {
    /// Replaces the number.
    pub fn set(&self, tokens: u64) {
        self.0.store(tokens, Ordering::Relaxed);
    }

    /// Returns the latest number.
    #[must_use]
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// The actual charge of a call that was charged by an estimate.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Correction {
    /// The charge reported by the upstream.
    pub charge: Charge,
    /// Tokens that the estimate counted against daily limits.
    pub before: u64,
}

/// A reset of a user's day.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Reset {
    pub id: RequestId,
    pub user: UserId,
    /// All keys of the user, revoked ones too.
    pub keys: Vec<KeyId>,
    pub day: Day,
    pub at: Timestamp,
    /// The actor: `user:ID`, `operator` or `gateway`.
    pub by: String,
}

impl Reset {
    /// Returns the ledger entry for the usage that was `removed` from a key.
    #[must_use]
    pub fn adjustment(&self, key: &KeyId, removed: RemovedUsage) -> Adjustment {
        let negative = |number: u64| i64::try_from(number).map_or(i64::MIN, |number| -number);
        Adjustment {
            reset: self.id,
            user: self.user,
            key: key.clone(),
            day: self.day,
            tokens: negative(removed.tokens),
            requests: negative(removed.requests),
            at: self.at,
            by: self.by.clone(),
        }
    }
}

/// Usage that a [`Reset`] removed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RemovedUsage {
    pub tokens: u64,
    pub requests: u64,
}

/// Outcome of a [`Claim`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum TakeOutcome {
    Granted(Grant),
    Refused(QuotaRefusal),
    /// The caller record is out of date: reload it and claim again.
    Stale,
}

/// Reservation of an admitted call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Grant {
    /// Total number of reserved tokens.
    pub tokens: u64,
    /// Tokens that could still be added, under the strictest limit, without those that other calls are expected
    /// to use.
    pub free: u64,
    #[serde(rename = "standing")]
    pub snapshot: UsageSnapshot,
}

/// Outcome of an extension.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum ExtendOutcome {
    /// Number of tokens that were added.
    Added(u64),
    /// Nothing was added: other calls have reserved the rest.
    #[serde(rename = "Held")]
    Blocked,
    /// Nothing was added: the limit is reached.
    Exhausted,
}

/// The debit that did not fit.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct QuotaRefusal {
    pub limit: LimitKind,
    /// True if the call would fit once the running calls have ended.
    pub by_open_calls: bool,
    /// The user or key that has the limit.
    pub scope: Scope,
    /// Milliseconds until a request fits, for the window.
    pub retry_after_ms: u64,
    #[serde(rename = "standing")]
    pub snapshot: UsageSnapshot,
}

/// Tokens and requests of one day.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DayTally {
    pub tokens_used: u64,
    pub tokens_reserved: u64,
    /// Number of admitted calls, running ones included.
    pub requests_used: u64,
}

/// Usage of a user at one moment, without the limits.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct UsageSnapshot {
    /// Usage of the whole user on the day.
    pub user: DayTally,
    /// Usage of the requested key on the day.
    pub key: DayTally,
    pub streams_open: u64,
    /// Requests left in the window's bucket, rounded down; `None` if it is unused, and so full.
    pub window_left: Option<u64>,
    /// Milliseconds until the bucket is full again.
    pub window_full_in_ms: u64,
}

/// The back end cannot be reached or written; nothing was taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
#[error("the quota store is unavailable")]
pub struct QuotaUnavailable;

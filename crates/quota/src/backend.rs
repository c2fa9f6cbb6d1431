//! The seam between quota and where its numbers are kept.

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

/// Where quota numbers live. A back end decides nothing: it takes all debits of a claim or none,
/// and afterwards knows the lease.
#[async_trait]
pub trait QuotaBackend: Send + Sync + 'static {
    /// Takes every debit of `claim`, or none. On [`TakeOutcome::Granted`] the lease is durable.
    async fn take(&self, claim: Claim, now: Timestamp) -> Result<TakeOutcome, QuotaUnavailable>;

    /// Raises a running call's reservation by up to `want` tokens, and by nothing when fewer than
    /// `least` are free. What was added is durable on return.
    async fn extend(
        &self,
        request: RequestId,
        want: u64,
        least: u64,
    ) -> Result<ExtendOutcome, QuotaUnavailable>;

    /// Ends a lease: what was used is used, what was only reserved is free again, one ledger row
    /// follows. A second settlement of a request changes nothing. Durable on return; it happens
    /// even when the future is dropped after its first poll. Returns the tokens that went past a
    /// limit, because more was used than reserved and no room was left.
    async fn settle(&self, charge: Charge) -> u64;

    /// Resets a user's day: nothing is used, calls in flight keep their reservations. One
    /// [`Adjustment`] for each key that had used something follows into the ledger. A reset that is
    /// repeated under its id changes nothing more. Durable on return.
    async fn reset(&self, reset: &Reset) -> Result<RemovedUsage, QuotaUnavailable>;

    /// Sets right what a call that has ended was charged: the numbers of its day change by the
    /// difference, its ledger row is replaced. A repeated correction of a call changes nothing more.
    /// Durable on return.
    async fn correct(&self, correction: &Correction) -> Result<(), QuotaUnavailable>;

    /// What a user, and of it one key, has used and holds on `day`.
    async fn standing(
        &self,
        user: UserId,
        key: Option<&KeyId>,
        day: Day,
        now: Timestamp,
    ) -> Result<Standing, QuotaUnavailable>;

    /// Everything used and held, per user and key, on `day`: for `usage verify`.
    async fn used_on(&self, day: Day) -> Result<Vec<Used>, QuotaUnavailable>;

    /// Answers when calls can be admitted.
    async fn ping(&self) -> Result<(), QuotaUnavailable>;

    /// The time by which days begin and end, when it is `here` on this machine: gateways that share
    /// counters share a clock too.
    fn now(&self, here: Timestamp) -> Timestamp {
        here
    }

    /// How many leases are open.
    fn open_leases(&self) -> u64;
}

/// What one admission asks for.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Claim {
    /// `reserved` is what will be granted; the back end fills it in.
    pub lease: Lease,
    /// Checked in order; the first that does not fit names the refusal.
    pub debits: Vec<Debit>,
    /// Shared within a process only.
    #[serde(skip)]
    pub observed: ObservedTokens,
}

/// Tokens that a running call has come to, prompt included, as its stream last judged them. No user is
/// charged by it: it tells how much of what a dead gateway's call held was seen.
#[derive(Debug, Clone, Default)]
pub struct ObservedTokens(Arc<AtomicU64>);

impl ObservedTokens {
    pub fn set(&self, tokens: u64) {
        self.0.store(tokens, Ordering::Relaxed);
    }

    #[must_use]
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// The true charge of a call that was charged by an estimate.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Correction {
    /// As the upstream reported it.
    pub charge: Charge,
    /// Tokens of the estimate.
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
    /// Who does it: `user:ID`, `operator` or `gateway`.
    pub by: String,
}

impl Reset {
    /// What follows into the ledger when `removed` was taken from a key.
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

/// What a [`Reset`] took away.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RemovedUsage {
    pub tokens: u64,
    pub requests: u64,
}

/// The answer to a [`Claim`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum TakeOutcome {
    Granted(Grant),
    Refused(QuotaRefusal),
    /// The caller's record is out of date: load it again and decide again.
    Stale,
}

/// An admitted call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Grant {
    /// Tokens reserved in all.
    pub tokens: u64,
    /// Tokens that could still be added to this call, by the tightest of its limits, without touching
    /// what other calls are likely to take.
    pub free: u64,
    pub standing: Standing,
}

/// The answer to a running call that needs more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum ExtendOutcome {
    /// This many tokens were added.
    Added(u64),
    /// Nothing was added, but there would be room were it not for other calls.
    #[serde(rename = "Held")]
    Blocked,
    /// Nothing was added, and the limit is reached.
    Exhausted,
}

/// Which debit did not fit.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct QuotaRefusal {
    pub limit: LimitKind,
    /// True when finished calls alone would leave room: only running ones are in the way.
    pub by_open_calls: bool,
    /// Whose limit it was.
    pub scope: Scope,
    /// For the window: until a request fits, in milliseconds.
    pub retry_after_ms: u64,
    pub standing: Standing,
}

/// Tokens and requests of one day.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DayTally {
    pub tokens_used: u64,
    pub tokens_reserved: u64,
    /// Running calls too.
    pub requests_used: u64,
}

/// A user's numbers at one moment. Limits are the caller's business.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Standing {
    /// The whole user's day.
    pub user: DayTally,
    /// The day of the key that was asked for.
    pub key: DayTally,
    pub streams_open: u64,
    /// Requests left in the window bucket, rounded down; `None` = untouched, so full.
    pub window_left: Option<u64>,
    /// Until the bucket is full again.
    pub window_full_in_ms: u64,
}

/// The numbers cannot be reached or written; nothing was taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
#[error("the quota store is unavailable")]
pub struct QuotaUnavailable;

//! Quota in Redis, shared by any number of gateways.
//!
//! Each verb is one script and one round trip, and safe to repeat: a lease, and later a tombstone,
//! have the request's id. A command without a reply is sent once more. If that fails too, a take is
//! refused and rolled back as soon as Redis recovers, an extension is not granted, a reset fails, and a
//! settlement is retried until it is answered.
//!
//! [`RedisQuota`] has its fields and its [`QuotaBackend`] here, and one file for each verb: `take`, `extend`, `settle`,
//! `reset`, `correct`, `reports`, `leases` (renew, restore, reap), `rebuild` and `change_notifier`.

pub mod connection;
mod change_notifier;
mod local_journal;
mod take;
mod extend;
mod settle;
mod health;
mod keys;
mod leases;
mod client;
mod outbox;
mod rebuild;
mod reports;
mod reset;
mod correct;
mod scripts;
mod skew;
mod spool;
mod reconciler;
mod codec;

pub use change_notifier::RedisChangeNotifier;
pub use health::{ClusterView, HealthPoller};
pub use outbox::OutboxDrainer;
pub use spool::Spool;

use super::backend::{Claim, Correction, DayTally, ExtendOutcome, QuotaBackend, QuotaUnavailable};
use super::backend::{RemovedUsage, Reset, TakeOutcome, UsageSnapshot};
use crate::redis::connection::RedisConn;
use async_trait::async_trait;
use client::ScriptClient;
use codec::TakeReply;
use domain::charge::{Charge, Lease, TokenCount};
use domain::day::Day;
use domain::id::{KeyId, RequestId, UserId};
use jiff::{SignedDuration, Timestamp};
use keys::Partition;
use local_journal::{Call, LocalJournal};
use skew::Skew;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use store::Used;
use system::clock;
use telemetry::labels::RedisOp;
use telemetry::metrics::Metrics;

/// A command repeated within this time finds that it was carried out; a charge repeated later is not
/// counted, see [`REBOOK_WINDOW`].
const TOMBSTONE_TTL: Duration = Duration::from_secs(15 * 60);
/// Tombstone lifetime of reaped leases: a gateway may resume its calls within this time.
const REAPED_TOMBSTONE_TTL: Duration = Duration::from_secs(24 * 60 * 60);
/// A call that ended longer ago may have lost its tombstone. Below the tombstone lifetime, to allow for clock skew.
const REBOOK_WINDOW: SignedDuration = SignedDuration::from_mins(10);

/// Source of the time in scripts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Clock {
    /// Redis' own: the same for every gateway.
    Redis,
    /// The `now` argument of the caller.
    Given,
}

/// Settings of the quota in Redis.
#[derive(Debug, Clone, Copy)]
pub struct Settings {
    pub clock: Clock,
    /// Time without renewal after which a call counts as abandoned.
    pub lease: Duration,
    /// No call is admitted while more charges than this wait for the ledger.
    pub max_backlog: u64,
    /// Time between two comparisons of counters and ledger.
    pub compare: Duration,
}

/// Quota in Redis, shared by all gateways.
pub struct RedisQuota {
    client: ScriptClient,
    settings: Settings,
    local_journal: LocalJournal,
    /// True if more charges than `max_backlog` wait for the ledger.
    is_full: AtomicBool,
    skew: Skew,
    /// Random id of this gateway.
    gateway: String,
    /// True if a change to users, keys or plans could not be published to the other gateways.
    has_unpublished: AtomicBool,
    /// Keeps charges on disk while Redis is unreachable.
    spool: OnceLock<Spool>,
}

impl RedisQuota {
    /// Creates a back end on `connection`; nothing is sent yet.
    #[must_use]
    pub fn new(connection: RedisConn, settings: Settings, metrics: Arc<Metrics>) -> Self {
        Self {
            client: ScriptClient::new(connection, metrics),
            settings,
            local_journal: LocalJournal::default(),
            is_full: AtomicBool::new(false),
            skew: Skew::default(),
            gateway: clock::unique().simple().to_string(),
            has_unpublished: AtomicBool::new(false),
            spool: OnceLock::new(),
        }
    }

    /// Also keeps charges on disk while Redis does not accept them.
    pub fn use_spool(&self, spool: Spool) {
        let _ = self.spool.set(spool);
    }

    /// Returns the time as an argument of scripts; empty for Redis' own.
    fn script_time(&self, now: Timestamp) -> String {
        match self.settings.clock {
            Clock::Redis => String::new(),
            Clock::Given => now.as_millisecond().to_string(),
        }
    }
}

#[async_trait]
impl QuotaBackend for RedisQuota {
    async fn take(&self, claim: Claim, now: Timestamp) -> Result<TakeOutcome, QuotaUnavailable> {
        if self.client.is_unreachable() || self.is_full.load(Ordering::Relaxed) {
            return Err(QuotaUnavailable);
        }
        match self.send_take(&claim, now).await? {
            TakeReply::Granted(grant) => {
                let debits = codec::debits(&claim.debits);
                let lease = Lease { reserved: grant.tokens, ..claim.lease };
                self.local_journal.open(Call { lease, debits, observed: claim.observed });
                self.client.metrics.usage_admitted.increment(1);
                Ok(TakeOutcome::Granted(grant))
            }
            TakeReply::Refused(refused) => Ok(TakeOutcome::Refused(refused)),
            TakeReply::Stale => Ok(TakeOutcome::Stale),
            TakeReply::Settled | TakeReply::Rebuild => Err(QuotaUnavailable),
        }
    }

    async fn extend(
        &self,
        request: RequestId,
        want: u64,
        least: u64,
    ) -> Result<ExtendOutcome, QuotaUnavailable> {
        let Some(Call { lease, .. }) = self.local_journal.call(request) else {
            return Ok(ExtendOutcome::Exhausted);
        };
        let mut extended = self.send_extend(&lease, want, least).await?;
        if extended.is_none()
            && let Some(call) = self.local_journal.call(request)
        {
            self.restore(call).await?;
            extended = self.send_extend(&lease, want, least).await?;
        }
        // The lease has ended for good: its gateway was presumed dead.
        let extended = extended.unwrap_or(ExtendOutcome::Exhausted);
        if let ExtendOutcome::Added(tokens) = extended {
            self.local_journal.raise(request, tokens);
        }
        Ok(extended)
    }

    async fn settle(&self, charge: Charge) -> u64 {
        self.settle_and_track(charge).await.map_or(0, |reply| reply.overshoot)
    }

    async fn reset(&self, reset: &Reset) -> Result<RemovedUsage, QuotaUnavailable> {
        self.send_reset(reset).await
    }

    async fn correct(&self, correction: &Correction) -> Result<(), QuotaUnavailable> {
        self.send_correction(correction).await
    }

    async fn usage_snapshot(
        &self,
        user: UserId,
        key: Option<&KeyId>,
        day: Day,
        now: Timestamp,
    ) -> Result<UsageSnapshot, QuotaUnavailable> {
        if self.client.is_unreachable() {
            return Err(QuotaUnavailable);
        }
        let at = Partition::of(user);
        // Without a key the user's account is read twice, and the second result is dropped.
        let of_key = key.map_or_else(|| at.user(user), |key| at.key(user, key));
        let keys = [at.epoch(), at.user(user), of_key];
        let arguments = [codec::day(day), self.script_time(now)];
        let script = &self.client.scripts.usage_snapshot;
        let reply = self.client.run(RedisOp::UsageSnapshot, script, &keys, &arguments).await?;
        let mut snapshot = codec::usage_snapshot(&reply)?;
        if key.is_none() {
            snapshot.key = DayTally::default();
        }
        Ok(snapshot)
    }

    async fn used_on(&self, day: Day) -> Result<Vec<Used>, QuotaUnavailable> {
        let mut rows = Vec::new();
        for partition in Partition::all() {
            rows.extend(self.used_in(partition, day).await?);
        }
        Ok(rows)
    }

    /// Checks with a write, because a replica or an isolated primary answers everything else.
    async fn ping(&self) -> Result<(), QuotaUnavailable> {
        if self.client.is_unreachable() || self.is_full.load(Ordering::Relaxed) {
            return Err(QuotaUnavailable);
        }
        self.takes_writes().await
    }

    fn now(&self, here: Timestamp) -> Timestamp {
        self.skew.redis_time(here)
    }

    fn open_leases(&self) -> u64 {
        self.local_journal.count()
    }
}

fn milliseconds(time: Duration) -> String {
    time.as_millis().to_string()
}

fn to_json(charge: &Charge) -> String {
    serde_json::to_string(charge).expect("a charge is plain data")
}

/// Charge for a call whose gateway died; the reaper adds the tokens reserved by then.
fn abandoned_charge(lease: &Lease) -> Charge {
    Charge::abandoned(lease, TokenCount::default())
}

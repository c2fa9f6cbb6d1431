//! Quota in Redis, shared by any number of gateways.
//!
//! Each verb is one script and one round trip, and safe to repeat: a lease, and later a tombstone,
//! have the request's id. A command without a reply is sent once more. If that fails too, a take is
//! refused and rolled back as soon as Redis recovers, an extension is not granted, a reset fails, and a
//! settlement is retried until it is answered.

pub mod connection;
mod invalidation;
mod local_journal;
mod correct;
mod health;
mod keys;
mod leases;
mod client;
mod outbox;
mod rebuild;
mod reports;
mod reset;
mod scripts;
mod skew;
mod spool;
mod reconciler;
mod codec;

pub use health::{ClusterView, HealthPoller};
pub use invalidation::InvalidationPublisher;
pub use outbox::OutboxDrainer;
pub use spool::Spool;

use super::backend::{Claim, Correction, DayTally, ExtendOutcome, QuotaBackend, QuotaUnavailable};
use super::backend::{RemovedUsage, Reset, Standing, TakeOutcome};
use crate::redis::connection::RedisConn;
use async_trait::async_trait;
use client::{CommandError, RETRY_MAX_INTERVAL, RETRY_MIN_INTERVAL, ScriptClient};
use codec::{SettleEnd, SettleReply, TakeReply};
use domain::charge::{Charge, Lease, Status, TokenCount};
use domain::day::Day;
use domain::id::{KeyId, RequestId, UserId};
use jiff::{SignedDuration, Timestamp};
use keys::Partition;
use local_journal::{Call, LocalJournal, Unconfirmed};
use redis::Value;
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

    async fn send_take(
        &self,
        claim: &Claim,
        now: Timestamp,
    ) -> Result<TakeReply, QuotaUnavailable> {
        let lease = &claim.lease;
        let at = Partition::of(lease.user);
        let keys = [
            at.epoch(),
            at.version(lease.user),
            at.lease(lease.request),
            at.tombstone(lease.request),
            at.user(lease.user),
            at.key(lease.user, &lease.key),
            at.deadlines(),
            at.accounts(lease.day),
        ];
        let arguments = [
            lease.request.0.simple().to_string(),
            lease.version.to_string(),
            self.script_time(now),
            milliseconds(self.settings.lease),
            codec::debits(&claim.debits),
            lease.day.to_string(),
            to_json(&abandoned_charge(lease)),
        ];
        let take = &self.client.scripts.take;
        let (done, outcome_unknown) =
            self.client.run_with_outcome(RedisOp::Take, take, &keys, &arguments).await;
        let reply = match done {
            Ok(reply) => codec::take_reply(&reply, &claim.debits)?,
            Err(CommandError::Rejected) => return Err(QuotaUnavailable),
            Err(CommandError::Unknown) => return self.mark_uncertain(lease),
        };
        match reply {
            TakeReply::Granted(_) => Ok(reply),
            // An earlier attempt was executed and reaped since, or may still be executed once the cause of the
            // later rejection has passed.
            TakeReply::Settled => self.mark_uncertain(lease),
            _ if outcome_unknown => self.mark_uncertain(lease),
            _ => Ok(reply),
        }
    }

    /// Refuses a take that may have been executed, and schedules its rollback.
    fn mark_uncertain<T>(&self, lease: &Lease) -> Result<T, QuotaUnavailable> {
        self.local_journal.add_uncertain_take(lease.clone());
        Err(QuotaUnavailable)
    }

    /// Rolls back a take whose outcome is unknown. If it was reaped and charged, a charge of zero replaces
    /// the estimate.
    ///
    /// # Errors
    /// Redis cannot be reached.
    pub async fn rollback_take(&self, lease: &Lease) -> Result<(), QuotaUnavailable> {
        let at = Partition::of(lease.user);
        let keys = [
            at.lease(lease.request),
            at.tombstone(lease.request),
            at.user(lease.user),
            at.key(lease.user, &lease.key),
            at.deadlines(),
        ];
        let arguments = [lease.request.0.simple().to_string(), milliseconds(TOMBSTONE_TTL)];
        let rollback = &self.client.scripts.rollback_take;
        let reply = self.client.run(RedisOp::Settle, rollback, &keys, &arguments).await?;
        if codec::word(&reply)? == "reaped" {
            self.charge_zero(lease).await?;
        }
        self.local_journal.rolled_back(lease.request);
        Ok(())
    }

    async fn charge_zero(&self, lease: &Lease) -> Result<(), QuotaUnavailable> {
        let charge = Charge { status: Status::Failed, counted: false, ..abandoned_charge(lease) };
        let (keys, arguments) = self.settlement(&charge, EndEvidence::Reported);
        let settle = &self.client.scripts.settle;
        let reply = self.client.run(RedisOp::Settle, settle, &keys, &arguments).await?;
        self.local_journal.settled(charge, codec::settle_reply(&reply)?.watermark);
        Ok(())
    }

    /// Returns the current keys and arguments of `settle.lua`.
    fn settlement(&self, charge: &Charge, ended: EndEvidence<'_>) -> ([String; 9], [String; 9]) {
        let is_estimate = charge.status == Status::Abandoned;
        let tombstone = if is_estimate { REAPED_TOMBSTONE_TTL } else { TOMBSTONE_TTL };
        let at = Partition::of(charge.user);
        let keys = [
            at.lease(charge.request),
            at.tombstone(charge.request),
            at.user(charge.user),
            at.key(charge.user, &charge.key),
            at.deadlines(),
            at.outbox(),
            at.settled(),
            at.epoch(),
            at.accounts(charge.day),
        ];
        let arguments = [
            charge.request.0.simple().to_string(),
            codec::exact(charge.tokens.total()).to_string(),
            u8::from(charge.counted).to_string(),
            to_json(charge),
            milliseconds(tombstone),
            charge.day.to_string(),
            u8::from(ended_lately(charge, self.skew.redis_time(clock::now()))).to_string(),
            u8::from(is_estimate).to_string(),
            match ended {
                EndEvidence::Reported => String::new(),
                EndEvidence::Expired { now } => now.to_owned(),
            },
        ];
        (keys, arguments)
    }

    /// Sends a charge until Redis replies. It is kept on disk meanwhile if the first attempt fails.
    async fn send_settle(&self, charge: &Charge) -> Vec<Value> {
        let settle = &self.client.scripts.settle;
        let mut pause = RETRY_MIN_INTERVAL;
        loop {
            let (keys, arguments) = self.settlement(charge, EndEvidence::Reported);
            if let Ok(reply) = self.client.run(RedisOp::Settle, settle, &keys, &arguments).await {
                if let Some(spool) = self.spool.get().filter(|_| pause > RETRY_MIN_INTERVAL) {
                    spool.acknowledge(charge.request);
                }
                return reply;
            }
            if let Some(spool) = self.spool.get().filter(|_| pause == RETRY_MIN_INTERVAL) {
                spool.write(charge);
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(RETRY_MAX_INTERVAL);
        }
    }

    /// Settles a call, and tracks its charge until it is in the ledger.
    async fn settle_and_track(&self, charge: Charge) -> Option<SettleReply> {
        let reply = self.send_settle(&charge).await;
        let Ok(settled) = codec::settle_reply(&reply) else {
            tracing::error!(request_id = %charge.request, ?reply, "unexpected settle reply from redis");
            return None;
        };
        self.local_journal.settled(charge, settled.watermark);
        Some(settled)
    }

    /// Resends a charge that Redis may have lost. Returns true if it was lost.
    async fn resend_charge(&self, unconfirmed: &Unconfirmed) -> Result<bool, QuotaUnavailable> {
        let charge = &unconfirmed.charge;
        // A call that was charged for a dead gateway may have been restored by it: then it is alive.
        let ended = match charge.status {
            Status::Abandoned => EndEvidence::Expired { now: "now" },
            _ => EndEvidence::Reported,
        };
        let (keys, mut arguments) = self.settlement(charge, ended);
        let [_, _, _, text, ..] = &mut arguments;
        *text = outbox::marked_as_repeated(text);
        let settle = &self.client.scripts.settle;
        let reply = self.client.run(RedisOp::Settle, settle, &keys, &arguments).await?;
        let reply = codec::settle_reply(&reply)?;
        self.local_journal.confirm(unconfirmed, reply.watermark);
        let was_lost = reply.end == SettleEnd::Settled;
        if was_lost {
            self.client.metrics.redis_lost_writes.increment(1);
        }
        Ok(was_lost)
    }

    /// Extends a lease. `None` if Redis has no such lease.
    async fn send_extend(
        &self,
        known: &Lease,
        want: u64,
        least: u64,
    ) -> Result<Option<ExtendOutcome>, QuotaUnavailable> {
        let at = Partition::of(known.user);
        let keys = [
            at.lease(known.request),
            at.user(known.user),
            at.key(known.user, &known.key),
            at.epoch(),
        ];
        let numbers = [known.reserved, want, least].map(|n| codec::exact(n).to_string());
        let extend = &self.client.scripts.extend;
        codec::extend_reply(&self.client.run(RedisOp::Extend, extend, &keys, &numbers).await?)
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
        // EndEvidence permanently: its gateway was presumed dead.
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

    async fn standing(
        &self,
        user: UserId,
        key: Option<&KeyId>,
        day: Day,
        now: Timestamp,
    ) -> Result<Standing, QuotaUnavailable> {
        if self.client.is_unreachable() {
            return Err(QuotaUnavailable);
        }
        let at = Partition::of(user);
        // Without a key it is the user's own account once more, whose numbers are then dropped.
        let of_key = key.map_or_else(|| at.user(user), |key| at.key(user, key));
        let keys = [at.user(user), of_key];
        let arguments = [day.to_string(), self.script_time(now)];
        let script = &self.client.scripts.standing;
        let reply = self.client.run(RedisOp::Standing, script, &keys, &arguments).await?;
        let mut standing = codec::standing(&reply)?;
        if key.is_none() {
            standing.key = DayTally::default();
        }
        Ok(standing)
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

/// Evidence that a call has ended.
#[derive(Debug, Clone, Copy)]
enum EndEvidence<'a> {
    /// Its gateway reported the end.
    Reported,
    /// Its lease was not renewed: the call has ended if the lease is still expired at this time, `now` or in
    /// milliseconds since 1970.
    Expired { now: &'a str },
}

fn milliseconds(time: Duration) -> String {
    time.as_millis().to_string()
}

fn to_json(charge: &Charge) -> String {
    serde_json::to_string(charge).expect("a charge is plain data")
}

fn ended_lately(charge: &Charge, now: Timestamp) -> bool {
    let ran = SignedDuration::from_millis(i64::from(charge.total_ms));
    now.duration_since(charge.admitted_at) - ran < REBOOK_WINDOW
}

/// Charge for a call whose gateway died; the reaper adds the tokens reserved by then.
fn abandoned_charge(lease: &Lease) -> Charge {
    Charge::abandoned(lease, TokenCount::default())
}

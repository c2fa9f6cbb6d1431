//! Quota numbers in Redis, shared by any number of gateways.
//!
//! Each verb is one script and one round trip, and safe to repeat: a lease, and later a tombstone,
//! bear the request's id. A command without an answer is sent once more; then a take is refused
//! and withdrawn as soon as Redis is back, an extension is not granted, a reset is left to be asked
//! for again, and a settlement goes on being sent until it is answered.

mod announce;
mod calls;
mod correct;
mod keeper;
mod keys;
mod leases;
mod link;
mod outbox;
mod rebuild;
mod reports;
mod reset;
mod scripts;
mod skew;
mod spool;
mod warden;
mod wire;

pub use announce::Herald;
pub use keeper::{Keeper, Look};
pub use outbox::Scribe;
pub use spool::Spool;

use super::counters::{Claim, Correction, Counters, CountersError, DayTally, Extended};
use super::counters::{Removed, Reset, Standing, Taken};
use crate::account::charge::{Charge, Lease, Status, TokenCount};
use crate::account::day::Day;
use crate::account::id::{KeyId, RequestId, UserId};
use crate::clock;
use crate::redis_conn::RedisConn;
use crate::store::Used;
use crate::telemetry::labels::RedisOp;
use crate::telemetry::metrics::Metrics;
use async_trait::async_trait;
use calls::{Call, Calls, Doubtful};
use jiff::{SignedDuration, Timestamp};
use keys::Partition;
use link::{FIRST_PAUSE, LAST_PAUSE, Link, Unanswered};
use redis::Value;
use skew::Skew;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use wire::{SettleEnd, SettleReply, TakeReply};

/// A command repeated within this time finds that it was carried out; a charge repeated later is not
/// counted, see [`LATELY`].
const TOMBSTONE: Duration = Duration::from_secs(15 * 60);
/// Tombstone lifetime of reaped leases: a gateway may resume its calls within this time.
const LONG_TOMBSTONE: Duration = Duration::from_secs(24 * 60 * 60);
/// A call that ended longer ago may have lost its tombstone. Below the tombstone lifetime, to allow for clock skew.
const LATELY: SignedDuration = SignedDuration::from_mins(10);

/// Where scripts have the time from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Clock {
    /// Redis' own: the same for every gateway.
    Redis,
    /// The caller's `now`.
    Given,
}

/// How the counters behave.
#[derive(Debug, Clone, Copy)]
pub struct Settings {
    pub clock: Clock,
    /// After this long without renewal a call counts as abandoned.
    pub lease: Duration,
    /// No call is admitted while more charges than this wait for the ledger.
    pub max_backlog: u64,
    /// Time between two comparisons of counters and ledger.
    pub compare: Duration,
}

/// Counters in Redis.
pub struct RedisCounters {
    link: Link,
    settings: Settings,
    calls: Calls,
    /// More charges wait for the ledger than may.
    is_full: AtomicBool,
    skew: Skew,
    /// Tells gateways apart.
    gateway: String,
    /// A change to users, keys or plans could not be announced to the other gateways.
    is_untold: AtomicBool,
    /// Where charges wait on disk while Redis is away.
    spool: OnceLock<Spool>,
}

impl RedisCounters {
    /// Counters on `connection`; nothing is sent yet.
    #[must_use]
    pub fn new(connection: RedisConn, settings: Settings, metrics: Arc<Metrics>) -> Self {
        Self {
            link: Link::new(connection, metrics),
            settings,
            calls: Calls::default(),
            is_full: AtomicBool::new(false),
            skew: Skew::default(),
            gateway: clock::unique().simple().to_string(),
            is_untold: AtomicBool::new(false),
            spool: OnceLock::new(),
        }
    }

    /// Keeps charges on disk too while Redis does not take them.
    pub fn keep_on_disk(&self, spool: Spool) {
        let _ = self.spool.set(spool);
    }

    /// The time as an argument of scripts.
    fn told(&self, now: Timestamp) -> String {
        match self.settings.clock {
            Clock::Redis => String::new(),
            Clock::Given => now.as_millisecond().to_string(),
        }
    }

    async fn send_take(&self, claim: &Claim, now: Timestamp) -> Result<TakeReply, CountersError> {
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
            self.told(now),
            milliseconds(self.settings.lease),
            wire::debits(&claim.debits),
            lease.day.to_string(),
            written(&abandoned(lease)),
        ];
        let take = &self.link.scripts.take;
        let (done, fell_silent) = self.link.run_told(RedisOp::Take, take, &keys, &arguments).await;
        let reply = match done {
            Ok(reply) => wire::take_reply(&reply, &claim.debits)?,
            Err(Unanswered::Refused) => return Err(CountersError),
            Err(Unanswered::Silent) => return self.doubt(lease),
        };
        match reply {
            TakeReply::Granted(_) => Ok(reply),
            // An earlier sending was carried out, and ended since by a reaper; or may be carried out
            // yet, when what refused the later one has passed.
            TakeReply::Settled => self.doubt(lease),
            _ if fell_silent => self.doubt(lease),
            _ => Ok(reply),
        }
    }

    /// Refuses a take that may have been carried out; it is withdrawn soon.
    fn doubt<T>(&self, lease: &Lease) -> Result<T, CountersError> {
        self.calls.doubt(lease.clone());
        Err(CountersError)
    }

    /// Undoes a take whose answer never came. Where a reaper has charged it, a charge of nothing takes
    /// that one's place.
    ///
    /// # Errors
    /// Redis cannot be reached.
    pub async fn withdraw(&self, lease: &Lease) -> Result<(), CountersError> {
        let at = Partition::of(lease.user);
        let keys = [
            at.lease(lease.request),
            at.tombstone(lease.request),
            at.user(lease.user),
            at.key(lease.user, &lease.key),
            at.deadlines(),
        ];
        let arguments = [lease.request.0.simple().to_string(), milliseconds(TOMBSTONE)];
        let withdraw = &self.link.scripts.withdraw;
        let reply = self.link.run(RedisOp::Settle, withdraw, &keys, &arguments).await?;
        if wire::word(&reply)? == "reaped" {
            self.charge_nothing(lease).await?;
        }
        self.calls.withdrawn(lease.request);
        Ok(())
    }

    async fn charge_nothing(&self, lease: &Lease) -> Result<(), CountersError> {
        let charge = Charge { status: Status::Failed, counted: false, ..abandoned(lease) };
        let (keys, arguments) = self.settlement(&charge, Ended::Known);
        let settle = &self.link.scripts.settle;
        let reply = self.link.run(RedisOp::Settle, settle, &keys, &arguments).await?;
        self.calls.settled(charge, wire::settle_reply(&reply)?.told);
        Ok(())
    }

    /// Keys and arguments of `settle.lua`, as they are now.
    fn settlement(&self, charge: &Charge, ended: Ended<'_>) -> ([String; 9], [String; 9]) {
        let is_estimate = charge.status == Status::Abandoned;
        let tombstone = if is_estimate { LONG_TOMBSTONE } else { TOMBSTONE };
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
            wire::exact(charge.tokens.total()).to_string(),
            u8::from(charge.counted).to_string(),
            written(charge),
            milliseconds(tombstone),
            charge.day.to_string(),
            u8::from(ended_lately(charge, self.skew.there(clock::now()))).to_string(),
            u8::from(is_estimate).to_string(),
            match ended {
                Ended::Known => String::new(),
                Ended::Unrenewed { now } => now.to_owned(),
            },
        ];
        (keys, arguments)
    }

    /// Sends a charge until it is answered; on disk meanwhile, when the first try is not.
    async fn send_settle(&self, charge: &Charge) -> Vec<Value> {
        let settle = &self.link.scripts.settle;
        let mut pause = FIRST_PAUSE;
        loop {
            let (keys, arguments) = self.settlement(charge, Ended::Known);
            if let Ok(reply) = self.link.run(RedisOp::Settle, settle, &keys, &arguments).await {
                if let Some(spool) = self.spool.get().filter(|_| pause > FIRST_PAUSE) {
                    spool.taken(charge.request);
                }
                return reply;
            }
            if let Some(spool) = self.spool.get().filter(|_| pause == FIRST_PAUSE) {
                spool.keep(charge);
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(LAST_PAUSE);
        }
    }

    /// Settles, and remembers the charge until it is in the ledger.
    async fn settle_remembered(&self, charge: Charge) -> Option<SettleReply> {
        let reply = self.send_settle(&charge).await;
        let Ok(settled) = wire::settle_reply(&reply) else {
            tracing::error!(request_id = %charge.request, ?reply, "unexpected settle reply from redis");
            return None;
        };
        self.calls.settled(charge, settled.told);
        Some(settled)
    }

    /// Sends a charge once more that Redis may have lost. Returns whether it had.
    async fn settle_again(&self, doubtful: &Doubtful) -> Result<bool, CountersError> {
        let charge = &doubtful.charge;
        // A call that was charged for a dead gateway may have been restored by it: then it is alive.
        let ended = match charge.status {
            Status::Abandoned => Ended::Unrenewed { now: "now" },
            _ => Ended::Known,
        };
        let (keys, mut arguments) = self.settlement(charge, ended);
        let [_, _, _, text, ..] = &mut arguments;
        *text = outbox::marked_as_repeated(text);
        let settle = &self.link.scripts.settle;
        let reply = self.link.run(RedisOp::Settle, settle, &keys, &arguments).await?;
        let reply = wire::settle_reply(&reply)?;
        self.calls.confirm(doubtful, reply.told);
        let was_lost = reply.end == SettleEnd::Settled;
        if was_lost {
            self.link.metrics.redis_lost_writes.increment(1);
        }
        Ok(was_lost)
    }

    /// `None` = Redis has no such lease.
    async fn send_extend(
        &self,
        held: &Lease,
        want: u64,
        least: u64,
    ) -> Result<Option<Extended>, CountersError> {
        let at = Partition::of(held.user);
        let keys =
            [at.lease(held.request), at.user(held.user), at.key(held.user, &held.key), at.epoch()];
        let numbers = [held.reserved, want, least].map(|n| wire::exact(n).to_string());
        let extend = &self.link.scripts.extend;
        wire::extend_reply(&self.link.run(RedisOp::Extend, extend, &keys, &numbers).await?)
    }
}

#[async_trait]
impl Counters for RedisCounters {
    async fn take(&self, claim: Claim, now: Timestamp) -> Result<Taken, CountersError> {
        if self.link.is_away() || self.is_full.load(Ordering::Relaxed) {
            return Err(CountersError);
        }
        match self.send_take(&claim, now).await? {
            TakeReply::Granted(grant) => {
                let debits = wire::debits(&claim.debits);
                let lease = Lease { reserved: grant.tokens, ..claim.lease };
                self.calls.open(Call { lease, debits, so_far: claim.so_far });
                self.link.metrics.usage_admitted.increment(1);
                Ok(Taken::Granted(grant))
            }
            TakeReply::Refused(refused) => Ok(Taken::Refused(refused)),
            TakeReply::Stale => Ok(Taken::Stale),
            TakeReply::Settled | TakeReply::Rebuild => Err(CountersError),
        }
    }

    async fn extend(
        &self,
        request: RequestId,
        want: u64,
        least: u64,
    ) -> Result<Extended, CountersError> {
        let Some(Call { lease, .. }) = self.calls.call(request) else {
            return Ok(Extended::Exhausted);
        };
        let mut extended = self.send_extend(&lease, want, least).await?;
        if extended.is_none()
            && let Some(call) = self.calls.call(request)
        {
            self.restore(call).await?;
            extended = self.send_extend(&lease, want, least).await?;
        }
        // Ended permanently: its gateway was presumed dead.
        let extended = extended.unwrap_or(Extended::Exhausted);
        if let Extended::Added(tokens) = extended {
            self.calls.raise(request, tokens);
        }
        Ok(extended)
    }

    async fn settle(&self, charge: Charge) -> u64 {
        self.settle_remembered(charge).await.map_or(0, |reply| reply.overshoot)
    }

    async fn reset(&self, reset: &Reset) -> Result<Removed, CountersError> {
        self.send_reset(reset).await
    }

    async fn correct(&self, correction: &Correction) -> Result<(), CountersError> {
        self.send_correction(correction).await
    }

    async fn standing(
        &self,
        user: UserId,
        key: Option<&KeyId>,
        day: Day,
        now: Timestamp,
    ) -> Result<Standing, CountersError> {
        if self.link.is_away() {
            return Err(CountersError);
        }
        let at = Partition::of(user);
        // Without a key it is the user's own account once more, whose numbers are then dropped.
        let of_key = key.map_or_else(|| at.user(user), |key| at.key(user, key));
        let keys = [at.user(user), of_key];
        let arguments = [day.to_string(), self.told(now)];
        let script = &self.link.scripts.standing;
        let reply = self.link.run(RedisOp::Standing, script, &keys, &arguments).await?;
        let mut standing = wire::standing(&reply)?;
        if key.is_none() {
            standing.key = DayTally::default();
        }
        Ok(standing)
    }

    async fn used_on(&self, day: Day) -> Result<Vec<Used>, CountersError> {
        let mut rows = Vec::new();
        for partition in Partition::all() {
            rows.extend(self.used_in(partition, day).await?);
        }
        Ok(rows)
    }

    /// Asks for a write: a replica, and a primary that is cut off, answer everything else.
    async fn ping(&self) -> Result<(), CountersError> {
        if self.link.is_away() || self.is_full.load(Ordering::Relaxed) {
            return Err(CountersError);
        }
        self.takes_writes().await
    }

    fn now(&self, here: Timestamp) -> Timestamp {
        self.skew.there(here)
    }

    fn open_leases(&self) -> u64 {
        self.calls.count()
    }
}

/// How it is known that a call is over.
#[derive(Debug, Clone, Copy)]
enum Ended<'a> {
    Known,
    /// Its lease was not renewed: it is over if that is so still at this time, `now` or in
    /// milliseconds since 1970.
    Unrenewed {
        now: &'a str,
    },
}

fn milliseconds(time: Duration) -> String {
    time.as_millis().to_string()
}

fn written(charge: &Charge) -> String {
    serde_json::to_string(charge).expect("a charge is plain data")
}

fn ended_lately(charge: &Charge, now: Timestamp) -> bool {
    let ran = SignedDuration::from_millis(i64::from(charge.total_ms));
    now.duration_since(charge.admitted_at) - ran < LATELY
}

/// The charge for a call whose gateway died; the reaper adds what the call then has reserved.
fn abandoned(lease: &Lease) -> Charge {
    Charge::abandoned(lease, TokenCount::default())
}

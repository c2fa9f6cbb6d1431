//! Quota numbers in Redis, shared by any number of gateways.
//!
//! Each verb is one script and one round trip, and safe to repeat: a lease, and later a tombstone,
//! bear the request's id. A command without an answer is sent once more; then a take is refused
//! and withdrawn as soon as Redis is back, an extension is not granted, and a settlement goes on
//! being sent until it is answered.

mod keys;
mod scripts;
mod wire;

use super::counters::{Claim, Counters, CountersError, DayTally, Extended, Standing, Taken};
use crate::account::charge::{Charge, Lease, Source, Status, TokenCount};
use crate::account::day::Day;
use crate::account::id::{KeyId, RequestId, UserId};
use crate::redis_conn::RedisConn;
use crate::store::Used;
use async_trait::async_trait;
use jiff::Timestamp;
use keys::Partition;
use redis::Value;
use scripts::{Script, Scripts};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use wire::{SettleReply, TakeReply};

/// Longer than any command is repeated.
const TOMBSTONE_MS: u64 = 15 * 60 * 1000;
const FIRST_PAUSE: Duration = Duration::from_millis(20);
const LAST_PAUSE: Duration = Duration::from_secs(1);

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
}

/// Counters in Redis.
pub struct RedisCounters {
    connection: RedisConn,
    scripts: Scripts,
    settings: Settings,
    /// The calls of this gateway that hold something.
    open: Mutex<HashMap<RequestId, Open>>,
}

/// A running call.
#[derive(Debug, Clone)]
struct Open {
    user: UserId,
    key: KeyId,
    reserved: u64,
}

impl RedisCounters {
    /// Counters on `connection`; nothing is sent yet.
    #[must_use]
    pub fn new(connection: RedisConn, settings: Settings) -> Self {
        Self { connection, scripts: Scripts::new(), settings, open: Mutex::default() }
    }

    /// Begins each partition that has no epoch with what the ledger says was used.
    ///
    /// # Errors
    /// Redis cannot be reached; partitions not yet begun go on refusing.
    pub async fn begin(&self, used: &[Used]) -> Result<(), CountersError> {
        for partition in Partition::all() {
            let mine = used.iter().filter(|row| Partition::of(row.user) == partition);
            let mut load = redis::pipe();
            load.atomic();
            for row in mine {
                let account = match &row.key {
                    None => partition.user(row.user),
                    Some(key) => partition.key(row.user, key),
                };
                let day = row.day;
                load.hset(&account, format!("{day}:u"), row.tokens).ignore();
                load.hset(&account, format!("{day}:r"), 0).ignore();
                load.hset(&account, format!("{day}:q"), row.requests).ignore();
                load.sadd(partition.accounts(day), &account).ignore();
            }
            load.set(partition.epoch(), 1).ignore();
            self.load_partition(partition, &load).await?;
        }
        Ok(())
    }

    async fn load_partition(
        &self,
        partition: Partition,
        load: &redis::Pipeline,
    ) -> Result<(), CountersError> {
        let exists = redis::cmd("EXISTS").arg(partition.epoch()).to_owned();
        let exists: bool = self.connection.send(&exists).await.map_err(|e| unreachable(&e))?;
        if !exists {
            self.connection.send_all(load).await.map_err(|e| unreachable(&e))?;
        }
        Ok(())
    }

    /// Runs a script, once more when no answer came.
    async fn run(
        &self,
        script: &Script,
        keys: &[String],
        arguments: &[String],
    ) -> Result<Vec<Value>, CountersError> {
        match script.run(&self.connection, keys, arguments).await {
            Err(e) if is_silence(&e) => script.run(&self.connection, keys, arguments).await,
            done => done,
        }
        .map_err(|e| unreachable(&e))
    }

    /// Runs a script until it is answered.
    async fn run_to_end(
        &self,
        script: &Script,
        keys: &[String],
        arguments: &[String],
    ) -> Vec<Value> {
        let mut pause = FIRST_PAUSE;
        loop {
            if let Ok(reply) = self.run(script, keys, arguments).await {
                return reply;
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(LAST_PAUSE);
        }
    }

    fn now(&self, now: Timestamp) -> String {
        match self.settings.clock {
            Clock::Redis => String::new(),
            Clock::Given => now.as_millisecond().to_string(),
        }
    }

    fn open(&self) -> MutexGuard<'_, HashMap<RequestId, Open>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
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
            self.now(now),
            self.settings.lease.as_millis().to_string(),
            wire::debits(&claim.debits),
            lease.day.to_string(),
            serde_json::to_string(&abandoned(lease)).map_err(|_| CountersError)?,
        ];
        let reply = self.run(&self.scripts.take, &keys, &arguments).await?;
        wire::take_reply(&reply, &claim.debits)
    }

    /// Undoes a take whose answer never came.
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
        let arguments = [lease.request.0.simple().to_string(), TOMBSTONE_MS.to_string()];
        self.run(&self.scripts.withdraw, &keys, &arguments).await?;
        self.open().remove(&lease.request);
        Ok(())
    }

    async fn report(&self, account: &str, day: Day) -> Result<Option<Used>, CountersError> {
        let Some((user, key)) = keys::owner(account) else { return Ok(None) };
        let mut ask = redis::cmd("HMGET");
        ask.arg(account).arg(&[format!("{day}:u"), format!("{day}:q"), format!("{day}:o")]);
        let numbers: (Option<u64>, Option<u64>, Option<u64>) =
            self.connection.send(&ask).await.map_err(|e| unreachable(&e))?;
        let (tokens, Some(requests), open) = numbers else { return Ok(None) };
        let requests = requests.saturating_sub(open.unwrap_or(0));
        Ok(Some(Used { user, key, day, tokens: tokens.unwrap_or(0), requests }))
    }
}

#[async_trait]
impl Counters for RedisCounters {
    async fn take(&self, claim: Claim, now: Timestamp) -> Result<Taken, CountersError> {
        match self.send_take(&claim, now).await? {
            TakeReply::Granted(grant) => {
                let lease = claim.lease;
                let open = Open { user: lease.user, key: lease.key, reserved: grant.tokens };
                self.open().insert(lease.request, open);
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
        let Some(open) = self.open().get(&request).cloned() else {
            return Ok(Extended::Exhausted);
        };
        let at = Partition::of(open.user);
        let keys = [at.lease(request), at.user(open.user), at.key(open.user, &open.key)];
        let numbers = [open.reserved, want, least].map(|n| wire::exact(n).to_string());
        let reply = self.run(&self.scripts.extend, &keys, &numbers).await?;
        let extended = wire::extend_reply(&reply)?;
        if let Extended::Added(tokens) = extended
            && let Some(open) = self.open().get_mut(&request)
        {
            open.reserved += tokens;
        }
        Ok(extended)
    }

    async fn settle(&self, charge: Charge) -> u64 {
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
        ];
        let arguments = [
            charge.request.0.simple().to_string(),
            wire::exact(charge.tokens.total()).to_string(),
            u8::from(charge.counted).to_string(),
            serde_json::to_string(&charge).unwrap_or_default(),
            TOMBSTONE_MS.to_string(),
            String::new(),
        ];
        let reply = self.run_to_end(&self.scripts.settle, &keys, &arguments).await;
        self.open().remove(&charge.request);
        match wire::settle_reply(&reply) {
            Ok(SettleReply::Settled { overshoot }) => overshoot,
            _ => 0,
        }
    }

    async fn standing(
        &self,
        user: UserId,
        key: Option<&KeyId>,
        day: Day,
        now: Timestamp,
    ) -> Result<Standing, CountersError> {
        let at = Partition::of(user);
        // Without a key it is the user's own account once more, whose numbers are then dropped.
        let of_key = key.map_or_else(|| at.user(user), |key| at.key(user, key));
        let keys = [at.user(user), of_key];
        let arguments = [day.to_string(), self.now(now)];
        let mut standing =
            wire::standing(&self.run(&self.scripts.standing, &keys, &arguments).await?)?;
        if key.is_none() {
            standing.key = DayTally::default();
        }
        Ok(standing)
    }

    async fn used_on(&self, day: Day) -> Result<Vec<Used>, CountersError> {
        let mut rows = Vec::new();
        for partition in Partition::all() {
            let members = redis::cmd("SMEMBERS").arg(partition.accounts(day)).to_owned();
            let accounts: Vec<String> =
                self.connection.send(&members).await.map_err(|e| unreachable(&e))?;
            for account in accounts {
                rows.extend(self.report(&account, day).await?);
            }
        }
        Ok(rows)
    }

    async fn ping(&self) -> Result<(), CountersError> {
        self.connection.send(&redis::cmd("PING")).await.map_err(|e| unreachable(&e))
    }

    fn open_leases(&self) -> u64 {
        self.open().len() as u64
    }
}

/// What a call is charged whose gateway died: the reaper adds what it then holds.
fn abandoned(lease: &Lease) -> Charge {
    Charge {
        request: lease.request,
        user: lease.user,
        key: lease.key.clone(),
        model: Arc::clone(&lease.model),
        upstream: "".into(),
        day: lease.day,
        admitted_at: lease.admitted_at,
        tokens: TokenCount::default(),
        cost_micro_dollars: 0,
        status: Status::Abandoned,
        source: Source::Estimated,
        counted: true,
        first_token_ms: None,
        total_ms: 0,
    }
}

/// Whether a command may or may not have been carried out, so that only its repetition tells.
fn is_silence(error: &redis::RedisError) -> bool {
    error.is_io_error() || error.is_timeout() || error.is_connection_dropped()
}

/// The cause goes to the log, here; callers only learn that the quota store is away.
fn unreachable(error: &redis::RedisError) -> CountersError {
    tracing::warn!(%error, "redis did not do what it was asked");
    CountersError
}

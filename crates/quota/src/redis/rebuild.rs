//! Rebuilds counters from the ledger if Redis has lost them, and repairs them if they differ.
//!
//! A partition without an epoch admits no calls. Gateways first resend what they know to be settled
//! and restore the leases of their running calls; then one of them sets the counters to what the
//! ledger says and opens the partition again.
//!
//! Usage read from the ledger is valid only if no charge waited before the read and none has been settled since.

use super::RedisQuota;
use super::client::NO_ARGUMENTS;
use super::codec::{self, PartitionState};
use super::health::ClusterView;
use super::keys::Partition;
use super::outbox::{OutboxContext, Retry};
use crate::backend::QuotaUnavailable;
use domain::actor::AuditContext;
use domain::day::Day;
use futures_util::future::try_join_all;
use jiff::ToSpan;
use jiff::tz::TimeZone;
use std::collections::{HashMap, HashSet};
use std::time::{Duration, Instant};
use store::Used;
use store::audit::Change;
use system::clock;

/// Time for all gateways to notice a lost partition and to announce that they are restoring it; see `restoring.lua`.
const RESTORE_WAIT_TIMEOUT: Duration = Duration::from_millis(2500);
/// Lifetime of the lock for a rebuild: another gateway takes over after this.
const REBUILDER_LOCK_TTL: Duration = Duration::from_secs(15);
/// Time to write audit entries; charges wait for it.
const AUDIT_TIMEOUT: Duration = Duration::from_secs(2);
/// Accounts set by one command. Takes wait for it, and an account costs Redis about as much as a take.
const ACCOUNT_BATCH: usize = 25;

/// State of the outbox drainer between rounds.
#[derive(Default)]
pub(super) struct Rebuild {
    /// Time at which each partition was first seen without an epoch.
    missing: HashMap<Partition, Instant>,
    /// Partitions that this gateway wrote to since their counters were last compared with the ledger.
    written: HashSet<Partition>,
    compared: Option<Instant>,
}

impl Rebuild {
    /// Rebuilds those partitions without an epoch that all gateways had time to restore.
    pub(super) async fn round(
        &mut self,
        context: &OutboxContext,
        missing: &[Partition],
    ) -> Result<(), Retry> {
        self.update_missing(missing);
        let waited = |p: &&Partition| {
            self.missing.get(p).is_some_and(|at| at.elapsed() >= RESTORE_WAIT_TIMEOUT)
        };
        let mut acquired = Vec::new();
        for partition in missing.iter().filter(waited) {
            if context.acquire_lock(&partition.rebuilder(), REBUILDER_LOCK_TTL).await? {
                acquired.push(*partition);
            }
        }
        if acquired.is_empty() {
            return Ok(());
        }
        loop {
            let written = context.write_some(&acquired).await?;
            self.record_written(&written);
            if written.is_empty() {
                return rebuild(context, &acquired).await;
            }
        }
    }

    /// Records when each partition was first seen without an epoch. Logs when the first goes missing and when all are back.
    fn update_missing(&mut self, missing: &[Partition]) {
        let were_complete = self.missing.is_empty();
        self.missing.retain(|partition, _| missing.contains(partition));
        for partition in missing {
            self.missing.entry(*partition).or_insert_with(clock::instant);
        }
        match (were_complete, self.missing.is_empty()) {
            (true, false) => tracing::warn!(
                partitions = missing.len(),
                "redis has no counters for some partitions; their users' calls are refused until the counters are rebuilt from the ledger"
            ),
            (false, true) => tracing::info!("redis has the counters of all partitions"),
            _ => {}
        }
    }

    /// Records that these partitions have new rows in the ledger.
    pub(super) fn record_written(&mut self, partitions: &[Partition]) {
        self.written.extend(partitions);
    }

    /// Compares counters with the ledger periodically, in the partitions that were written to; an idle ledger is
    /// not queried.
    pub(super) async fn compare(
        &mut self,
        context: &OutboxContext,
        view: &ClusterView,
    ) -> Result<(), Retry> {
        let pause = context.quota.settings.compare;
        let is_due = self.compared.is_none_or(|at| at.elapsed() >= pause);
        if !is_due || self.written.is_empty() {
            return Ok(());
        }
        self.compared = Some(clock::instant());
        let quiet =
            view.partitions.iter().filter(|part| part.is_open && part.settled == part.written);
        let quiet: Vec<Partition> =
            quiet.map(|part| part.partition).filter(|p| self.written.contains(p)).collect();
        if quiet.is_empty() {
            return Ok(());
        }
        let states = context.quota.states(&quiet).await?;
        let used = context.store.used_since(earliest()).await?;
        for (partition, state) in quiet.into_iter().zip(states) {
            if state.is_complete() && repair(context, partition, &state, &used).await? {
                self.written.remove(&partition);
            }
        }
        Ok(())
    }
}

/// Sets the counters of partitions from the ledger, and opens them.
async fn rebuild(context: &OutboxContext, partitions: &[Partition]) -> Result<(), Retry> {
    let states = context.quota.states(partitions).await?;
    if !states.iter().any(PartitionState::can_open) {
        return Ok(());
    }
    let used = context.store.used_since(earliest()).await?;
    for (partition, state) in partitions.iter().zip(states) {
        if state.can_open() {
            // Where a call was settled meanwhile, the next round reads the ledger again.
            context.quota.open_partition(*partition, &state, &used).await?;
        }
    }
    Ok(())
}

/// Sets accounts that differ from the ledger. Returns false if a charge was settled meanwhile.
async fn repair(
    context: &OutboxContext,
    partition: Partition,
    state: &PartitionState,
    used: &[Used],
) -> Result<bool, Retry> {
    let mine: Vec<&Used> = of(partition, used).collect();
    for (day, rows) in by_day(&mine) {
        let counted = context.quota.used_in(partition, day).await?;
        let counted: HashMap<_, &Used> =
            counted.iter().map(|row| ((row.user, row.key.as_ref()), row)).collect();
        let counted = |row: &Used| counted.get(&(row.user, row.key.as_ref())).copied();
        let differs = |row: &&Used| counted(row) != Some(*row);
        let different: Vec<&Used> = rows.iter().copied().filter(differs).collect();
        if let Some(first) = different.first() {
            let (accounts, was) = (different.len(), counted(first));
            tracing::error!(accounts, first_ledger = ?first, first_counter = ?was, "quota drift repaired");
        }
        for some in different.chunks(ACCOUNT_BATCH) {
            if context.quota.load_accounts(partition, day, state, some).await? != "loaded" {
                return Ok(false);
            }
            context.metrics.quota_drift.increment(some.len() as u64);
            for row in some {
                let was = counted(row);
                tracing::debug!(ledger = ?row, counter = ?was, "quota drift of an account repaired");
            }
            let audited = audit(context, some.iter().map(|row| (counted(row), *row)));
            if tokio::time::timeout(AUDIT_TIMEOUT, audited).await.is_err() {
                tracing::warn!("timed out writing audit entries");
            }
        }
    }
    Ok(true)
}

/// Writes repaired accounts to the audit log, as far as the store accepts it.
async fn audit(context: &OutboxContext, repaired: impl Iterator<Item = (Option<&Used>, &Used)>) {
    let by = AuditContext::gateway(clock::now());
    for (was, is) in repaired {
        if let Err(error) = context.store.append_audit(&Change::of_counters(was, is), &by).await {
            tracing::warn!(%error, "failed to write audit entry");
            return;
        }
    }
}

impl RedisQuota {
    /// Opens each partition that has no epoch with the usage of the ledger (`used`). The ledger must have every
    /// settled call.
    ///
    /// # Errors
    /// Redis cannot be reached; partitions that are not open yet still refuse calls.
    pub async fn begin(&self, used: &[Used]) -> Result<(), QuotaUnavailable> {
        let all: Vec<Partition> = Partition::all().collect();
        let states = self.states(&all).await?;
        for (partition, state) in all.into_iter().zip(states) {
            self.open_partition(partition, &state, used).await?;
        }
        Ok(())
    }

    /// Opens a partition, unless a call was settled since `state` was read.
    async fn open_partition(
        &self,
        partition: Partition,
        state: &PartitionState,
        used: &[Used],
    ) -> Result<(), QuotaUnavailable> {
        if !state.epoch.is_empty() {
            return Ok(());
        }
        let mine: Vec<&Used> = of(partition, used).collect();
        for (day, rows) in by_day(&mine) {
            for some in rows.chunks(ACCOUNT_BATCH) {
                self.load_accounts(partition, day, state, some).await?;
            }
        }
        let keys = [partition.epoch(), partition.settled(), partition.restoring()];
        let arguments = [clock::unique().simple().to_string(), state.number.to_string()];
        let open = &self.client.scripts.open_partition;
        let reply = self.client.run_bulk(open, &keys, &arguments).await?;
        if codec::word(&reply)? == "open" {
            tracing::debug!(
                partition = partition.0,
                accounts = mine.len(),
                "loaded counters of a partition"
            );
        }
        Ok(())
    }

    /// Sets accounts, unless a call was settled since `state` was read. Returns the first word of the reply.
    async fn load_accounts(
        &self,
        partition: Partition,
        day: Day,
        state: &PartitionState,
        rows: &[&Used],
    ) -> Result<String, QuotaUnavailable> {
        let mut keys = vec![partition.epoch(), partition.settled(), partition.accounts(day)];
        let mut arguments = vec![codec::day(day), state.epoch.clone(), state.number.to_string()];
        for row in rows {
            keys.push(match &row.key {
                None => partition.user(row.user),
                Some(key) => partition.key(row.user, key),
            });
            arguments.extend([codec::exact(row.tokens).to_string(), row.requests.to_string()]);
        }
        let load = &self.client.scripts.load_accounts;
        let reply = self.client.run_bulk(load, &keys, &arguments).await?;
        Ok(codec::word(&reply)?.to_owned())
    }

    /// Reads the state of each partition.
    async fn states(
        &self,
        partitions: &[Partition],
    ) -> Result<Vec<PartitionState>, QuotaUnavailable> {
        let state = async |partition: &Partition| {
            let keys = [partition.epoch(), partition.settled(), partition.outbox()];
            let (client, state) = (&self.client, &self.client.scripts.partition_state);
            codec::state(&client.run_bulk(state, &keys, NO_ARGUMENTS).await?)
        };
        try_join_all(partitions.iter().map(state)).await
    }
}

impl PartitionState {
    /// True if a ledger that is read now has everything in the partition's counters.
    fn is_complete(&self) -> bool {
        !self.epoch.is_empty() && self.waiting == 0
    }

    /// True if the partition may be opened from a ledger that is read now.
    fn can_open(&self) -> bool {
        self.epoch.is_empty() && self.waiting == 0
    }
}

fn of(partition: Partition, used: &[Used]) -> impl Iterator<Item = &Used> {
    used.iter().filter(move |row| Partition::of(row.user) == partition)
}

fn by_day<'a>(rows: &[&'a Used]) -> Vec<(Day, Vec<&'a Used>)> {
    let mut days: HashMap<Day, Vec<&Used>> = HashMap::new();
    for row in rows {
        days.entry(row.day).or_default().push(row);
    }
    days.into_iter().collect()
}

/// Oldest day that may still be queried, in any time zone of a plan.
fn earliest() -> Day {
    Day(Day::at(clock::now(), &TimeZone::UTC).0.saturating_sub(2.days()))
}

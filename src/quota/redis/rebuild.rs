//! Counters from the ledger: when Redis has lost them, and when they differ.
//!
//! A partition without an epoch admits no calls. Gateways first resend what they know to be settled
//! and bring back the leases of their running calls; then one of them sets the counters to what the
//! ledger says and opens the partition again.
//!
//! A ledger is relied on only if no charge waited before it was read, and none has come since.

use super::RedisCounters;
use super::keeper::Look;
use super::keys::Partition;
use super::outbox::{Desk, Later};
use super::wire::{self, State};
use crate::account::by::By;
use crate::account::day::Day;
use crate::clock;
use crate::quota::counters::CountersError;
use crate::store::Used;
use crate::store::audit::Change;
use futures_util::future::try_join_all;
use jiff::ToSpan;
use jiff::tz::TimeZone;
use std::collections::{HashMap, HashSet};
use std::time::{Duration, Instant};

/// Time for all gateways to notice. Those that then say that they bring back what they know are waited
/// for; see `bring.lua`.
const GRACE: Duration = Duration::from_millis(2500);
/// A gateway that dies while it rebuilds is followed by another after this.
const OWNED: Duration = Duration::from_secs(15);
/// Writing the audit log must not delay charges for longer.
const NOTING: Duration = Duration::from_secs(2);
/// Accounts set by one command: takes wait for its end, and an account costs Redis about as much as one.
const AT_ONCE: usize = 25;

/// What a scribe remembers between rounds.
#[derive(Default)]
pub(super) struct Rebuild {
    /// Since when each partition has been seen without an epoch.
    missing: HashMap<Partition, Instant>,
    /// Partitions that this gateway wrote to since their counters were last compared with the ledger.
    written: HashSet<Partition>,
    compared: Option<Instant>,
}

impl Rebuild {
    /// Rebuilds those of the partitions without an epoch whose time has come.
    pub(super) async fn round(&mut self, desk: &Desk, missing: &[Partition]) -> Result<(), Later> {
        self.missing.retain(|partition, _| missing.contains(partition));
        for partition in missing {
            self.missing.entry(*partition).or_insert_with(clock::instant);
        }
        let waited = |p: &&Partition| self.missing.get(p).is_some_and(|at| at.elapsed() >= GRACE);
        let mut ours = Vec::new();
        for partition in missing.iter().filter(waited) {
            if desk.is_ours(&partition.rebuilder(), OWNED).await? {
                ours.push(*partition);
            }
        }
        if ours.is_empty() {
            return Ok(());
        }
        loop {
            let written = desk.write_some(&ours).await?;
            self.note_written(&written);
            if written.is_empty() {
                return rebuild(desk, &ours).await;
            }
        }
    }

    /// Notes that these partitions have new rows in the ledger.
    pub(super) fn note_written(&mut self, partitions: &[Partition]) {
        self.written.extend(partitions);
    }

    /// Compares counters with the ledger now and then, where there was something to write: a ledger
    /// that is not written to is not woken.
    pub(super) async fn compare(&mut self, desk: &Desk, look: &Look) -> Result<(), Later> {
        let pause = desk.counters.settings.compare;
        let is_due = self.compared.is_none_or(|at| at.elapsed() >= pause);
        if !is_due || self.written.is_empty() {
            return Ok(());
        }
        self.compared = Some(clock::instant());
        let quiet = look.parts.iter().filter(|part| part.is_begun && part.settled == part.written);
        let quiet: Vec<Partition> =
            quiet.map(|part| part.partition).filter(|p| self.written.contains(p)).collect();
        if quiet.is_empty() {
            return Ok(());
        }
        let states = desk.counters.states(&quiet).await?;
        let used = desk.store.used_since(earliest()).await?;
        for (partition, state) in quiet.into_iter().zip(states) {
            if state.has_counters() && mend(desk, partition, &state, &used).await? {
                self.written.remove(&partition);
            }
        }
        Ok(())
    }
}

/// Sets the counters of partitions to what the ledger says, and begins them.
async fn rebuild(desk: &Desk, partitions: &[Partition]) -> Result<(), Later> {
    let states = desk.counters.states(partitions).await?;
    if !states.iter().any(State::is_to_begin) {
        return Ok(());
    }
    let used = desk.store.used_since(earliest()).await?;
    for (partition, state) in partitions.iter().zip(states) {
        if state.is_to_begin() {
            // Where a call was settled meanwhile, the next round reads the ledger again.
            desk.counters.begin_one(*partition, &state, &used).await?;
        }
    }
    Ok(())
}

/// Sets accounts that differ from the ledger. False when a charge came in between.
async fn mend(
    desk: &Desk,
    partition: Partition,
    state: &State,
    used: &[Used],
) -> Result<bool, Later> {
    let mine: Vec<&Used> = of(partition, used).collect();
    for (day, rows) in by_day(&mine) {
        let counted = desk.counters.used_in(partition, day).await?;
        let counted: HashMap<_, &Used> =
            counted.iter().map(|row| ((row.user, row.key.as_ref()), row)).collect();
        let counted = |row: &Used| counted.get(&(row.user, row.key.as_ref())).copied();
        let differs = |row: &&Used| counted(row) != Some(*row);
        let different: Vec<&Used> = rows.iter().copied().filter(differs).collect();
        if let Some(first) = different.first() {
            let (accounts, was) = (different.len(), counted(first));
            tracing::error!(accounts, first_ledger = ?first, first_counter = ?was, "quota drift repaired");
        }
        for some in different.chunks(AT_ONCE) {
            if desk.counters.load(partition, day, state, some).await? != "loaded" {
                return Ok(false);
            }
            desk.metrics.quota_drift.increment(some.len() as u64);
            for row in some {
                let was = counted(row);
                tracing::debug!(ledger = ?row, counter = ?was, "quota drift of an account repaired");
            }
            let noted = note(desk, some.iter().map(|row| (counted(row), *row)));
            if tokio::time::timeout(NOTING, noted).await.is_err() {
                tracing::warn!("timed out writing audit entries");
            }
        }
    }
    Ok(true)
}

/// Has the audit log tell of accounts that were mended, as far as the store takes it.
async fn note(desk: &Desk, mended: impl Iterator<Item = (Option<&Used>, &Used)>) {
    let by = By::gateway(clock::now());
    for (was, is) in mended {
        if let Err(error) = desk.store.append_audit(&Change::of_counters(was, is), &by).await {
            tracing::warn!(%error, "failed to write audit entry");
            return;
        }
    }
}

impl RedisCounters {
    /// Begins each partition that has no epoch with what the ledger says was used. No call may have
    /// been settled that the ledger does not have.
    ///
    /// # Errors
    /// Redis cannot be reached; partitions not yet begun go on refusing.
    pub async fn begin(&self, used: &[Used]) -> Result<(), CountersError> {
        let all: Vec<Partition> = Partition::all().collect();
        let states = self.states(&all).await?;
        for (partition, state) in all.into_iter().zip(states) {
            self.begin_one(partition, &state, used).await?;
        }
        Ok(())
    }

    /// Begins a partition, unless a call was settled since it stood as `state` says.
    async fn begin_one(
        &self,
        partition: Partition,
        state: &State,
        used: &[Used],
    ) -> Result<(), CountersError> {
        if !state.epoch.is_empty() {
            return Ok(());
        }
        let mine: Vec<&Used> = of(partition, used).collect();
        for (day, rows) in by_day(&mine) {
            for some in rows.chunks(AT_ONCE) {
                self.load(partition, day, state, some).await?;
            }
        }
        let keys = [partition.epoch(), partition.settled(), partition.bringing()];
        let arguments = [clock::unique().simple().to_string(), state.number.to_string()];
        let begin = &self.link.scripts.begin;
        let reply = self.link.run_bulk(begin, &keys, &arguments).await?;
        if wire::word(&reply)? == "begun" {
            tracing::debug!(
                partition = partition.0,
                accounts = mine.len(),
                "loaded counters of a partition"
            );
        }
        Ok(())
    }

    /// Sets accounts, unless something has happened since the partition stood as `state` says.
    /// Returns the script's answer.
    async fn load(
        &self,
        partition: Partition,
        day: Day,
        state: &State,
        rows: &[&Used],
    ) -> Result<String, CountersError> {
        let mut keys = vec![partition.epoch(), partition.settled(), partition.accounts(day)];
        let mut arguments = vec![day.to_string(), state.epoch.clone(), state.number.to_string()];
        for row in rows {
            keys.push(match &row.key {
                None => partition.user(row.user),
                Some(key) => partition.key(row.user, key),
            });
            arguments.extend([wire::exact(row.tokens).to_string(), row.requests.to_string()]);
        }
        let load = &self.link.scripts.load;
        let reply = self.link.run_bulk(load, &keys, &arguments).await?;
        Ok(wire::word(&reply)?.to_owned())
    }

    /// How each of the partitions stands.
    async fn states(&self, partitions: &[Partition]) -> Result<Vec<State>, CountersError> {
        let state = async |partition: &Partition| {
            let keys = [partition.epoch(), partition.settled(), partition.outbox()];
            let (link, state) = (&self.link, &self.link.scripts.state);
            wire::state(&link.run_bulk(state, &keys, &[]).await?)
        };
        try_join_all(partitions.iter().map(state)).await
    }
}

impl State {
    /// Whether a ledger that is read now has all that the partition's counters have.
    fn has_counters(&self) -> bool {
        !self.epoch.is_empty() && self.waiting == 0
    }

    /// Whether the partition may be begun from a ledger that is read now.
    fn is_to_begin(&self) -> bool {
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

/// No plan's day that may still be asked for is older.
fn earliest() -> Day {
    Day(Day::at(clock::now(), &TimeZone::UTC).0.saturating_sub(2.days()))
}

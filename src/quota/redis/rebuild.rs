//! Counters from the ledger: when Redis has lost them, and when they differ.
//!
//! A partition without an epoch admits nobody. Gateways first write to the ledger what they know to
//! be settled and bring back the leases of their running calls; then one of them sets the counters
//! to what the ledger says and begins the partition anew.

use super::keeper::Look;
use super::keys::Partition;
use super::outbox::{Desk, Later};
use super::{RedisCounters, wire};
use crate::account::day::Day;
use crate::clock;
use crate::quota::counters::CountersError;
use crate::store::{Entry, Used};
use crate::telemetry::labels::RedisOp;
use jiff::ToSpan;
use jiff::tz::TimeZone;
use std::collections::{HashMap, HashSet};
use std::time::{Duration, Instant};

/// Time for all gateways to notice and to write what they know, before the ledger is read.
const GRACE: Duration = Duration::from_millis(2500);
/// A gateway that dies while it rebuilds is followed by another after this.
const OWNED: Duration = Duration::from_secs(15);
/// Accounts set by one command.
const AT_ONCE: usize = 200;

/// What a scribe remembers between rounds.
#[derive(Default)]
pub(super) struct Rebuild {
    /// Since when each partition has been seen without an epoch.
    missing: HashMap<Partition, Instant>,
    /// Partitions written to since their counters were last compared with the ledger.
    written: HashSet<Partition>,
    compared: Option<Instant>,
    /// Whether the ledger had any rows when a partition was first seen without an epoch.
    is_used: Option<bool>,
}

impl Rebuild {
    /// Rebuilds those of the partitions without an epoch whose time has come.
    pub(super) async fn round(&mut self, desk: &Desk, missing: &[Partition]) -> Result<(), Later> {
        self.missing.retain(|partition, _| missing.contains(partition));
        if missing.is_empty() {
            self.is_used = None;
            return Ok(());
        }
        for partition in missing {
            self.missing.entry(*partition).or_insert_with(clock::instant);
            if bring_to_ledger(desk, *partition).await? {
                // Another may have read the ledger before.
                self.written.insert(*partition);
            }
        }
        let mut ours = Vec::new();
        for partition in missing {
            if desk.is_ours(&partition.rebuilder(), OWNED).await? {
                ours.push(*partition);
            }
        }
        if ours.is_empty() {
            return Ok(());
        }
        let waited = |p: &Partition| self.missing.get(p).is_some_and(|at| at.elapsed() >= GRACE);
        if !ours.iter().all(waited) && !self.is_first(desk).await? {
            return Ok(());
        }
        rebuild(desk, &ours).await
    }

    /// Whether the ledger knows of no use at all: then nothing can have been lost.
    async fn is_first(&mut self, desk: &Desk) -> Result<bool, Later> {
        if self.is_used.is_none() {
            self.is_used = Some(!desk.store.used_since(earliest()).await?.is_empty());
        }
        Ok(self.is_used == Some(false))
    }

    /// Notes that these partitions have new rows in the ledger.
    pub(super) fn note_written(&mut self, partitions: &[Partition]) {
        self.written.extend(partitions);
    }

    /// Compares counters with the ledger now and then, where there was something to write: a ledger
    /// that nobody writes is not woken.
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
        let numbers = desk.counters.settled(&quiet).await?;
        let used = desk.store.used_since(earliest()).await?;
        for (partition, number) in quiet.into_iter().zip(numbers) {
            if mend(desk, partition, number, &used).await? {
                self.written.remove(&partition);
            }
        }
        Ok(())
    }
}

/// Writes to the ledger what this gateway knows to be settled in a partition that was lost. False
/// when it knows of nothing.
async fn bring_to_ledger(desk: &Desk, partition: Partition) -> Result<bool, Later> {
    let charges = desk.counters.calls.take_sent(partition);
    if charges.is_empty() {
        return Ok(false);
    }
    tracing::warn!(partition = partition.0, charges = charges.len(), "writing charges again");
    let entries: Vec<(Entry, &str)> =
        charges.iter().map(|charge| (Entry::Settle(charge.clone()), "")).collect();
    let written = desk.write(&entries).await;
    if written.is_err() {
        desk.counters.calls.put_back(partition, charges);
    }
    written.map(|()| true)
}

/// Sets the counters of partitions to what the ledger says, and begins them.
async fn rebuild(desk: &Desk, partitions: &[Partition]) -> Result<(), Later> {
    let numbers = desk.counters.settled(partitions).await?;
    while desk.write_some(partitions).await? > 0 {}
    let used = desk.store.used_since(earliest()).await?;
    for (partition, number) in partitions.iter().zip(numbers) {
        // Where a call was settled meanwhile, the next round reads the ledger again.
        desk.counters.begin_one(*partition, number, &used).await?;
    }
    Ok(())
}

/// Sets accounts that differ from the ledger. False when a charge came in between.
async fn mend(
    desk: &Desk,
    partition: Partition,
    number: u64,
    used: &[Used],
) -> Result<bool, Later> {
    let mine: Vec<&Used> = of(partition, used).collect();
    for (day, rows) in by_day(&mine) {
        let counted = desk.counters.used_in(partition, day).await?;
        let differs = |row: &&Used| {
            let same = |other: &&Used| (other.user, &other.key) == (row.user, &row.key);
            counted.iter().find(same).is_none_or(|other| *other != **row)
        };
        let different: Vec<&Used> = rows.iter().copied().filter(differs).collect();
        for some in different.chunks(AT_ONCE) {
            if desk.counters.load(partition, day, &number.to_string(), some).await? != "loaded" {
                return Ok(false);
            }
            for row in some {
                let was = counted.iter().find(|it| (it.user, &it.key) == (row.user, &row.key));
                tracing::error!(?row, ?was, "counters differed from the ledger and were set to it");
            }
            desk.metrics.quota_drift.increment(some.len() as u64);
        }
    }
    Ok(true)
}

impl RedisCounters {
    /// Begins each partition that has no epoch with what the ledger says was used. No call may have
    /// been settled that the ledger does not have.
    ///
    /// # Errors
    /// Redis cannot be reached; partitions not yet begun go on refusing.
    pub async fn begin(&self, used: &[Used]) -> Result<(), CountersError> {
        let all: Vec<Partition> = Partition::all().collect();
        let numbers = self.settled(&all).await?;
        for (partition, number) in all.into_iter().zip(numbers) {
            self.begin_one(partition, number, used).await?;
        }
        Ok(())
    }

    /// Begins a partition, unless a call was settled after `number` others.
    async fn begin_one(
        &self,
        partition: Partition,
        number: u64,
        used: &[Used],
    ) -> Result<(), CountersError> {
        let mine: Vec<&Used> = of(partition, used).collect();
        for (day, rows) in by_day(&mine) {
            for some in rows.chunks(AT_ONCE) {
                self.load(partition, day, "", some).await?;
            }
        }
        let keys = [partition.epoch(), partition.outbox(), partition.settled()];
        let arguments = [clock::unique().simple().to_string(), number.to_string()];
        let begin = &self.link.scripts.begin;
        let reply = self.link.run(RedisOp::Flush, begin, &keys, &arguments).await?;
        if wire::word(&reply)? == "begun" {
            tracing::debug!(partition = partition.0, accounts = mine.len(), "counters begun");
        }
        Ok(())
    }

    /// Sets accounts; `number` as `load.lua` takes it. Returns its answer.
    async fn load(
        &self,
        partition: Partition,
        day: Day,
        number: &str,
        rows: &[&Used],
    ) -> Result<String, CountersError> {
        let mut keys = vec![
            partition.epoch(),
            partition.outbox(),
            partition.settled(),
            partition.accounts(day),
        ];
        let mut arguments = vec![day.to_string(), number.to_owned()];
        for row in rows {
            keys.push(match &row.key {
                None => partition.user(row.user),
                Some(key) => partition.key(row.user, key),
            });
            arguments.extend([wire::exact(row.tokens).to_string(), row.requests.to_string()]);
        }
        let load = &self.link.scripts.load;
        let reply = self.link.run(RedisOp::Flush, load, &keys, &arguments).await?;
        Ok(wire::word(&reply)?.to_owned())
    }

    /// How many calls were settled in each of the partitions.
    async fn settled(&self, partitions: &[Partition]) -> Result<Vec<u64>, CountersError> {
        let names: Vec<String> = partitions.iter().map(|p| p.settled()).collect();
        let numbers: Vec<Option<u64>> = self.link.ask(redis::cmd("MGET").arg(names)).await?;
        Ok(numbers.into_iter().map(|number| number.unwrap_or(0)).collect())
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

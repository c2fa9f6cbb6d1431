//! Charges and adjustments from Redis into the ledger.
//!
//! An entry is removed from Redis only when the ledger has it, and the ledger stores each once, so a batch may
//! be repeated by another gateway. One gateway writes a partition at a time, so that batches
//! are large; if two do, because one was presumed dead, they write the same rows.

use super::RedisCounters;
use super::keeper::Look;
use super::keys::Partition;
use super::link::Unanswered;
use super::rebuild::Rebuild;
use super::wire;
use crate::clock;
use crate::quota::counters::CountersError;
use crate::store::{Entry, Store, StoreError};
use crate::telemetry::metrics::Metrics;
use crate::telemetry::outage::{Ended, Outage};
use redis::Value;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// Entries read from one partition at once.
const SOME: usize = 250;
/// Entries written at once: beyond it a commit gets longer and no cheaper for each.
const BATCH: usize = 1000;
/// How long one turn may take: then missing partitions and newer looks get theirs.
const TURN: Duration = Duration::from_secs(1);
/// A gateway that has not written for this long is followed by another.
const OWNED: Duration = Duration::from_secs(3);
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LAST_PAUSE: Duration = Duration::from_secs(5);
/// How long the last charges may take when the gateway ends; others write what is left.
const LAST_ORDERS: Duration = Duration::from_secs(5);

/// The worker. [`Scribe::run`] ends when it is stopped.
pub struct Scribe {
    desk: Desk,
    looks: watch::Receiver<Look>,
    rebuild: Rebuild,
    /// Where the next batch begins, so that no partition is always the last.
    first: usize,
}

/// What a scribe writes from and to.
pub(super) struct Desk {
    pub(super) counters: Arc<RedisCounters>,
    pub(super) store: Arc<dyn Store>,
    pub(super) metrics: Arc<Metrics>,
    /// Tells gateways apart.
    gateway: String,
}

/// An entry of an outbox.
struct Waiting {
    partition: Partition,
    id: String,
    is_adjustment: bool,
    text: String,
}

/// Work was not done, and is to be tried again.
#[derive(Debug, thiserror::Error)]
pub(super) enum Later {
    #[error("redis does not respond")]
    Redis,
    #[error("{0}")]
    Store(#[from] StoreError),
}

impl From<CountersError> for Later {
    fn from(_: CountersError) -> Self {
        Self::Redis
    }
}

impl From<Unanswered> for Later {
    fn from(_: Unanswered) -> Self {
        Self::Redis
    }
}

impl Scribe {
    /// A scribe that writes what `looks` finds to be waiting.
    #[must_use]
    pub fn new(
        counters: Arc<RedisCounters>,
        store: Arc<dyn Store>,
        metrics: Arc<Metrics>,
        looks: watch::Receiver<Look>,
    ) -> Self {
        let gateway = clock::unique().simple().to_string();
        let desk = Desk { counters, store, metrics, gateway };
        Self { desk, looks, rebuild: Rebuild::default(), first: 0 }
    }

    /// Runs until `stop` is cancelled, and then until nothing waits, within a few seconds.
    pub async fn run(mut self, stop: CancellationToken) {
        let (mut pause, outage) = (FIRST_PAUSE, Outage::default());
        while stop.run_until_cancelled(self.looks.changed()).await.is_some_and(|ok| ok.is_ok()) {
            match self.round().await {
                Ok(()) => {
                    pause = FIRST_PAUSE;
                    if let Some(Ended { lasted, failures }) =
                        outage.end(clock::instant(), Duration::ZERO)
                    {
                        let seconds = lasted.as_secs_f64();
                        tracing::info!(seconds, failures, "ledger writes recovered");
                    }
                }
                Err(later) => {
                    if outage.fail(clock::instant()) {
                        tracing::warn!(error = %later, "ledger write failed, retrying; charges stay in redis");
                    }
                    stop.run_until_cancelled(tokio::time::sleep(jittered(pause))).await;
                    pause = (pause * 2).min(LAST_PAUSE);
                }
            }
        }
        let rest = async {
            let all: Vec<Partition> = Partition::all().collect();
            while self.desk.write_some(&all).await.is_ok_and(|written| !written.is_empty()) {}
        };
        if tokio::time::timeout(LAST_ORDERS, rest).await.is_err() {
            tracing::warn!("shutdown: leaving charges in redis for another gateway to write");
        }
    }

    async fn round(&mut self) -> Result<(), Later> {
        let look = self.looks.borrow_and_update().clone();
        let missing: Vec<Partition> = look.without_epoch().collect();
        self.rebuild.round(&self.desk, &missing).await?;
        let busy: Vec<Partition> = look
            .parts
            .iter()
            .filter(|part| part.settled > part.written)
            .map(|part| part.partition)
            .collect();
        self.write(&busy).await?;
        self.rebuild.compare(&self.desk, &look).await
    }

    /// Writes what waits in these partitions, for one turn.
    async fn write(&mut self, busy: &[Partition]) -> Result<(), Later> {
        let began = clock::instant();
        while !busy.is_empty() && began.elapsed() < TURN {
            let (before, after) = busy.split_at(self.first % busy.len());
            let busy = [after, before].concat();
            self.first = self.first.wrapping_add(BATCH / SOME);
            let written = self.desk.write_some(&busy).await?;
            self.rebuild.note_written(&written);
            if written.len() < SOME {
                return Ok(());
            }
        }
        Ok(())
    }
}

/// How a charge in JSON ends that Redis may have taken before.
const REPEATED: &str = r#","repeated":true}"#;

/// A charge in JSON, marked as sent again. Whoever reads it as a charge does not see the mark.
pub(super) fn marked_as_repeated(charge: &str) -> String {
    charge.strip_suffix('}').map_or_else(|| charge.to_owned(), |open| format!("{open}{REPEATED}"))
}

/// Gateways that were stopped by one thing must not come back all at once.
fn jittered(pause: Duration) -> Duration {
    pause.mul_f64(0.5 + clock::chance() / 2.0)
}

impl Waiting {
    fn entry(&self) -> serde_json::Result<Entry> {
        if self.is_adjustment {
            serde_json::from_str(&self.text).map(Entry::Adjust)
        } else {
            serde_json::from_str(&self.text).map(Entry::Settle)
        }
    }
}

impl Desk {
    /// Writes what waits in those of `partitions` that are ours. Returns of which
    /// partition each entry was.
    pub(super) async fn write_some(
        &self,
        partitions: &[Partition],
    ) -> Result<Vec<Partition>, Later> {
        let mut waiting = Vec::new();
        for partition in partitions {
            if waiting.len() < BATCH && self.is_ours(&partition.writer(), OWNED).await? {
                waiting.extend(self.read(*partition).await?);
            }
        }
        if waiting.is_empty() {
            return Ok(Vec::new());
        }
        let began = clock::instant();
        let mut entries = Vec::with_capacity(waiting.len());
        for one in &waiting {
            match one.entry() {
                Ok(entry) => entries.push((entry, &*one.text)),
                Err(e) => self.bury(&one.text, &e.to_string()).await?,
            }
        }
        let new = self.new_charges(&entries).await?;
        self.write(&entries).await?;
        self.metrics.usage_flush_seconds.record(clock::instant().duration_since(began));
        self.metrics.usage_persisted.increment(new);
        self.take_out(&waiting).await?;
        Ok(waiting.into_iter().map(|one| one.partition).collect())
    }

    /// How many of the entries are charges that the ledger does not have yet. It is asked only of those
    /// that were sent again after Redis had lost them, some of which may have been written before that.
    async fn new_charges(&self, entries: &[(Entry, &str)]) -> Result<u64, Later> {
        let (mut charges, mut repeated) = (0, Vec::new());
        for (entry, text) in entries {
            let Entry::Settle(charge) = entry else { continue };
            charges += 1;
            if text.ends_with(REPEATED) {
                repeated.push((charge.request, charge.day));
            }
        }
        if repeated.is_empty() {
            return Ok(charges);
        }
        let recorded = self.store.recorded(&repeated).await?;
        Ok(charges.saturating_sub(recorded.len() as u64))
    }

    /// Whether a lock is ours for a while from now.
    pub(super) async fn is_ours(&self, name: &str, time: Duration) -> Result<bool, Later> {
        let link = &self.counters.link;
        let arguments = [self.gateway.clone(), time.as_millis().to_string()];
        let own = &link.scripts.own;
        let reply = link.run_bulk(own, &[name.to_owned()], &arguments).await?;
        Ok(wire::word(&reply)? == "owned")
    }

    async fn read(&self, partition: Partition) -> Result<Vec<Waiting>, Later> {
        let mut ask = redis::cmd("XRANGE");
        ask.arg(partition.outbox()).arg("-").arg("+").arg("COUNT").arg(SOME);
        let entries: Vec<(String, HashMap<String, String>)> =
            self.counters.link.ask_bulk(&ask).await?;
        let waiting = |(id, mut fields): (String, HashMap<String, String>)| {
            let adjustment = fields.remove("adjust");
            let is_adjustment = adjustment.is_some();
            let text = adjustment.or_else(|| fields.remove("charge")).unwrap_or_default();
            Waiting { partition, id, is_adjustment, text }
        };
        Ok(entries.into_iter().map(waiting).collect())
    }

    /// Writes entries; those that the ledger will never take are buried, so that they hold up none.
    pub(super) async fn write(&self, entries: &[(Entry, &str)]) -> Result<(), Later> {
        let mut heap = vec![entries];
        while let Some(some) = heap.pop() {
            let entries: Vec<Entry> = some.iter().map(|(entry, _)| entry.clone()).collect();
            match self.store.journal(&entries, None).await {
                Ok(()) => {}
                Err(StoreError::Corrupt(_)) if some.len() > 1 => {
                    let (first, second) = some.split_at(some.len() / 2);
                    heap.extend([second, first]);
                }
                Err(StoreError::Corrupt(why)) => {
                    for (_, text) in some {
                        self.bury(text, &why).await?;
                    }
                }
                Err(e) => return Err(e.into()),
            }
        }
        Ok(())
    }

    async fn bury(&self, text: &str, why: &str) -> Result<(), Later> {
        tracing::error!(
            error = why,
            entry = text,
            "ledger permanently rejected an outbox entry, moved it to the dead letters"
        );
        self.metrics.usage_dead.increment(1);
        Ok(self.store.dead_letter(text, why, clock::now()).await?)
    }

    async fn take_out(&self, waiting: &[Waiting]) -> Result<(), Later> {
        let link = &self.counters.link;
        for some in waiting.chunk_by(|a, b| a.partition == b.partition) {
            let Some(first) = some.first() else { continue };
            let ids: Vec<String> = some.iter().map(|one| one.id.clone()).collect();
            let at = first.partition;
            let keys = [at.outbox(), at.written(), at.settled()];
            let _: Vec<Value> = link.run_bulk(&link.scripts.written, &keys, &ids).await?;
        }
        Ok(())
    }
}

//! Moves charges and adjustments from the outboxes in Redis to the ledger.
//!
//! An entry is removed from Redis only when the ledger has it, and the ledger stores each once, so a batch may
//! be repeated by another gateway. One gateway writes a partition at a time, so that batches
//! are large; if two do, because one was presumed dead, they write the same rows.

use super::RedisQuota;
use super::client::CommandError;
use super::codec;
use super::health::ClusterView;
use super::keys::Partition;
use super::rebuild::Rebuild;
use crate::backend::QuotaUnavailable;
use redis::Value;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;
use store::{Entry, Store, StoreError};
use system::clock;
use telemetry::metrics::Metrics;
use telemetry::outage::{Outage, OutageSummary};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// Entries read from one partition by one command.
const READ_BATCH: usize = 250;
/// Entries written by one transaction; larger ones take longer without a lower cost per entry.
const WRITE_BATCH: usize = 1000;
/// Time limit of one write round, after which lost partitions and the next poll are handled.
const ROUND_TIMEOUT: Duration = Duration::from_secs(1);
/// Lifetime of the lock on an outbox: another gateway takes over after this time without a write.
const WRITER_LOCK_TTL: Duration = Duration::from_secs(3);
const RETRY_MIN_INTERVAL: Duration = Duration::from_millis(100);
const RETRY_MAX_INTERVAL: Duration = Duration::from_secs(5);
/// Time to write the last charges at shutdown; other gateways write the rest.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(5);

/// Background task that writes outbox entries to the ledger; see [`OutboxDrainer::run`].
pub struct OutboxDrainer {
    context: OutboxContext,
    views: watch::Receiver<ClusterView>,
    rebuild: Rebuild,
    /// Index of the first partition of the next batch; it rotates so that no partition is always last.
    first: usize,
}

/// Source and destination of the outbox entries.
pub(super) struct OutboxContext {
    pub(super) quota: Arc<RedisQuota>,
    pub(super) store: Arc<dyn Store>,
    pub(super) metrics: Arc<Metrics>,
    /// Identifies this gateway as a lock owner.
    gateway: String,
}

/// A charge or adjustment in an outbox.
struct OutboxEntry {
    partition: Partition,
    id: String,
    is_adjustment: bool,
    text: String,
}

/// Error after which the work is retried.
#[derive(Debug, thiserror::Error)]
pub(super) enum Retry {
    #[error("redis does not respond")]
    Redis,
    #[error("{0}")]
    Store(#[from] StoreError),
}

impl From<QuotaUnavailable> for Retry {
    fn from(_: QuotaUnavailable) -> Self {
        Self::Redis
    }
}

impl From<CommandError> for Retry {
    fn from(_: CommandError) -> Self {
        Self::Redis
    }
}

impl OutboxDrainer {
    /// Creates a drainer that writes the entries `views` reports as waiting.
    #[must_use]
    pub fn new(
        quota: Arc<RedisQuota>,
        store: Arc<dyn Store>,
        metrics: Arc<Metrics>,
        views: watch::Receiver<ClusterView>,
    ) -> Self {
        let gateway = clock::unique().simple().to_string();
        let context = OutboxContext { quota, store, metrics, gateway };
        Self { context, views, rebuild: Rebuild::default(), first: 0 }
    }

    /// Runs until `stop` is cancelled, then until the outboxes are empty, for a few seconds at most.
    pub async fn run(mut self, stop: CancellationToken) {
        let (mut pause, outage) = (RETRY_MIN_INTERVAL, Outage::default());
        while stop.run_until_cancelled(self.views.changed()).await.is_some_and(|ok| ok.is_ok()) {
            match self.round().await {
                Ok(()) => {
                    pause = RETRY_MIN_INTERVAL;
                    if let Some(OutageSummary { lasted, failures }) =
                        outage.end(clock::instant(), Duration::ZERO)
                    {
                        let seconds = lasted.as_secs_f64();
                        tracing::info!(seconds, failures, "ledger writes recovered");
                    }
                }
                Err(error) => {
                    if outage.fail(clock::instant()) {
                        tracing::warn!(%error, "ledger write failed, retrying; charges stay in redis");
                    }
                    stop.run_until_cancelled(tokio::time::sleep(jittered(pause))).await;
                    pause = (pause * 2).min(RETRY_MAX_INTERVAL);
                }
            }
        }
        let rest = async {
            let all: Vec<Partition> = Partition::all().collect();
            while !self.context.write_some(&all).await?.is_empty() {}
            Ok::<(), Retry>(())
        };
        let error = match tokio::time::timeout(SHUTDOWN_TIMEOUT, rest).await {
            Ok(Ok(())) => return,
            Ok(Err(error)) => error.to_string(),
            Err(_) => format!("not written within {SHUTDOWN_TIMEOUT:?}"),
        };
        tracing::warn!(error, "shutdown: leaving charges in redis for another gateway to write");
    }

    async fn round(&mut self) -> Result<(), Retry> {
        let view = self.views.borrow_and_update().clone();
        let missing: Vec<Partition> = view.without_epoch().collect();
        self.rebuild.round(&self.context, &missing).await?;
        let busy: Vec<Partition> = view
            .partitions
            .iter()
            .filter(|part| part.settled > part.written)
            .map(|part| part.partition)
            .collect();
        self.write(&busy).await?;
        self.rebuild.compare(&self.context, &view).await
    }

    /// Writes the waiting entries of these partitions, for at most [`ROUND_TIMEOUT`].
    async fn write(&mut self, busy: &[Partition]) -> Result<(), Retry> {
        let began = clock::instant();
        while !busy.is_empty() && began.elapsed() < ROUND_TIMEOUT {
            let (before, after) = busy.split_at(self.first % busy.len());
            let busy = [after, before].concat();
            self.first = self.first.wrapping_add(WRITE_BATCH / READ_BATCH);
            let written = self.context.write_some(&busy).await?;
            self.rebuild.record_written(&written);
            if written.len() < READ_BATCH {
                return Ok(());
            }
        }
        Ok(())
    }
}

/// Last member of a charge in JSON that may have been sent before.
const REPEATED: &str = r#","repeated":true}"#;

/// Marks a charge in JSON as resent. Deserializing it as a charge ignores the mark.
pub(super) fn marked_as_repeated(charge: &str) -> String {
    charge.strip_suffix('}').map_or_else(|| charge.to_owned(), |open| format!("{open}{REPEATED}"))
}

/// Randomizes a pause so that gateways that failed together do not retry together.
fn jittered(pause: Duration) -> Duration {
    pause.mul_f64(0.5 + clock::chance() / 2.0)
}

impl OutboxEntry {
    fn entry(&self) -> serde_json::Result<Entry> {
        if self.is_adjustment {
            serde_json::from_str(&self.text).map(Entry::Adjust)
        } else {
            serde_json::from_str(&self.text).map(Entry::Settle)
        }
    }
}

impl OutboxContext {
    /// Writes the waiting entries of those of `partitions` whose lock this gateway has. Returns the partition of
    /// each entry.
    pub(super) async fn write_some(
        &self,
        partitions: &[Partition],
    ) -> Result<Vec<Partition>, Retry> {
        let mut waiting = Vec::new();
        for partition in partitions {
            if waiting.len() < WRITE_BATCH
                && self.acquire_lock(&partition.writer(), WRITER_LOCK_TTL).await?
            {
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
                Err(e) => self.dead_letter(&one.text, &e.to_string()).await?,
            }
        }
        let new = self.new_charges(&entries).await?;
        self.write(&entries).await?;
        self.metrics.usage_flush_seconds.record(clock::instant().duration_since(began));
        self.metrics.usage_persisted.increment(new);
        self.acknowledge(&waiting).await?;
        Ok(waiting.into_iter().map(|one| one.partition).collect())
    }

    /// Number of charges that the ledger does not have yet. The ledger is queried only for resent charges, which may
    /// have been written before Redis lost them.
    async fn new_charges(&self, entries: &[(Entry, &str)]) -> Result<u64, Retry> {
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

    /// Acquires or renews a lock for `time`. False if another gateway has it.
    pub(super) async fn acquire_lock(&self, name: &str, time: Duration) -> Result<bool, Retry> {
        let client = &self.quota.client;
        let arguments = [self.gateway.clone(), time.as_millis().to_string()];
        let script = &client.scripts.acquire_lock;
        let reply = client.run_bulk(script, &[name.to_owned()], &arguments).await?;
        Ok(codec::word(&reply)? == "owned")
    }

    async fn read(&self, partition: Partition) -> Result<Vec<OutboxEntry>, Retry> {
        let mut command = redis::cmd("XRANGE");
        command.arg(partition.outbox()).arg("-").arg("+").arg("COUNT").arg(READ_BATCH);
        let entries: Vec<(String, HashMap<String, String>)> =
            self.quota.client.query_bulk(&command).await?;
        let waiting = |(id, mut fields): (String, HashMap<String, String>)| {
            let adjustment = fields.remove("adjust");
            let is_adjustment = adjustment.is_some();
            let text = adjustment.or_else(|| fields.remove("charge")).unwrap_or_default();
            OutboxEntry { partition, id, is_adjustment, text }
        };
        Ok(entries.into_iter().map(waiting).collect())
    }

    /// Writes entries. Those that the ledger permanently rejects become dead letters, so that they block no others.
    pub(super) async fn write(&self, entries: &[(Entry, &str)]) -> Result<(), Retry> {
        let mut heap = vec![entries];
        while let Some(some) = heap.pop() {
            let entries: Vec<Entry> = some.iter().map(|(entry, _)| entry.clone()).collect();
            match self.store.write_batch(&entries, None).await {
                Ok(()) => {}
                Err(StoreError::Corrupt(_)) if some.len() > 1 => {
                    let (first, second) = some.split_at(some.len() / 2);
                    heap.extend([second, first]);
                }
                Err(StoreError::Corrupt(why)) => {
                    for (_, text) in some {
                        self.dead_letter(text, &why).await?;
                    }
                }
                Err(e) => return Err(e.into()),
            }
        }
        Ok(())
    }

    async fn dead_letter(&self, text: &str, why: &str) -> Result<(), Retry> {
        tracing::error!(
            error = why,
            entry = text,
            "ledger permanently rejected an outbox entry, moved it to the dead letters"
        );
        self.metrics.usage_dead.increment(1);
        Ok(self.store.dead_letter(text, why, clock::now()).await?)
    }

    async fn acknowledge(&self, waiting: &[OutboxEntry]) -> Result<(), Retry> {
        let client = &self.quota.client;
        for some in waiting.chunk_by(|a, b| a.partition == b.partition) {
            let Some(first) = some.first() else { continue };
            let ids: Vec<String> = some.iter().map(|one| one.id.clone()).collect();
            let at = first.partition;
            let keys = [at.outbox(), at.written(), at.settled()];
            let _: Vec<Value> = client.run_bulk(&client.scripts.ack_outbox, &keys, &ids).await?;
        }
        Ok(())
    }
}

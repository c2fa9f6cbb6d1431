//! Polls Redis four times a second for reachability, partition state and cache-invalidation counters.
//! Acting on it is left to the reconciler and the outbox drainer.

use super::codec::Watermark;
use super::keys::{self, Partition};
use super::reconciler::Reconciler;
use super::{RedisQuota, skew};
use crate::backend::QuotaUnavailable;
use redis::Value;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};
use system::clock;
use telemetry::metrics::Metrics;
use tokio::sync::{Notify, watch};
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use uuid::Uuid;

/// Time between two polls: short enough to end streams of revoked callers and to notice an outage within a second.
const POLL_INTERVAL: Duration = Duration::from_millis(250);

/// State of all partitions at one poll.
#[derive(Debug, Clone, Default)]
pub struct ClusterView {
    pub(super) partitions: Vec<PartitionView>,
    /// Number of changes to users, keys and plans so far.
    changes: u64,
    /// Run ids of the servers, if they report them.
    servers: Option<String>,
    /// Time since which Redis has answered every poll.
    pub(super) contact: Option<Instant>,
}

/// State of one partition at one poll.
#[derive(Debug, Clone, Copy)]
pub(super) struct PartitionView {
    pub(super) partition: Partition,
    /// True if the partition has an epoch and admits calls.
    pub(super) is_open: bool,
    epoch: Option<Uuid>,
    pub(super) settled: u64,
    pub(super) written: u64,
}

/// Background task that polls Redis; see `HealthPoller::run`.
pub struct HealthPoller {
    quota: Arc<RedisQuota>,
    metrics: Arc<Metrics>,
    /// Receives the result of each poll; the reconciler and the outbox drainer wait for it.
    views: watch::Sender<ClusterView>,
    /// Notified when users, keys or plans have changed.
    changed: Arc<Notify>,
    /// Runs the reconciler's long tasks.
    tasks: TaskTracker,
    previous: PreviousPoll,
}

struct PreviousPoll {
    changes: Option<u64>,
    /// Number of charges that had reached the ledger.
    written: u64,
    servers: Option<String>,
    /// Time since which Redis has answered every poll.
    contact: Option<Instant>,
}

impl HealthPoller {
    /// Creates a poller for `counters`.
    #[must_use]
    pub fn new(
        quota: Arc<RedisQuota>,
        metrics: Arc<Metrics>,
        changed: Arc<Notify>,
        tasks: TaskTracker,
    ) -> Self {
        let previous = PreviousPoll { changes: None, written: 0, servers: None, contact: None };
        Self { quota, metrics, views: watch::Sender::default(), changed, tasks, previous }
    }

    /// Subscribes to the results of the polls.
    #[must_use]
    pub fn views(&self) -> watch::Receiver<ClusterView> {
        self.views.subscribe()
    }

    /// Runs until `stop` is cancelled.
    pub async fn run(self, stop: CancellationToken) {
        let quota = Arc::clone(&self.quota);
        let reconciler = Reconciler::new(quota, self.views(), self.tasks.clone());
        tokio::join!(self.poll_until(stop.clone()), reconciler.run(stop));
    }

    async fn poll_until(mut self, stop: CancellationToken) {
        let mut rounds = tokio::time::interval(POLL_INTERVAL);
        rounds.set_missed_tick_behavior(MissedTickBehavior::Delay);
        while stop.run_until_cancelled(rounds.tick()).await.is_some() {
            // A failed round is retried by the next one.
            let _ = self.round().await;
        }
    }

    async fn round(&mut self) -> Result<(), QuotaUnavailable> {
        // Before the poll, so that a settlement in between cannot seem to have been lost.
        let last = self.quota.local_journal.last();
        let mut view = match self.poll().await {
            Ok(view) => view,
            Err(e) => {
                self.previous.contact = None;
                self.quota.client.set_unreachable(true);
                return Err(e);
            }
        };
        self.quota.client.set_unreachable(false);
        self.quota.end_outage().await;
        self.notify_of_changes(view.changes);
        view.contact = Some(*self.previous.contact.get_or_insert_with(clock::instant));
        self.update_backlog(&view);
        let is_another_server = self.is_restarted(&view);
        self.compare(&view, &last, is_another_server);
        self.views.send_replace(view);
        Ok(self.quota.publish_pending().await?)
    }

    async fn poll(&self) -> Result<ClusterView, QuotaUnavailable> {
        let names = |p: Partition| [p.epoch(), p.settled(), p.written()];
        let mut command = redis::cmd("MGET");
        command.arg(keys::CHANGES).arg(Partition::all().flat_map(names).collect::<Vec<_>>());
        let texts: Vec<Option<String>> = self.quota.client.query(&command).await?;
        let number =
            |text: &Option<String>| text.as_ref().and_then(|t| t.parse().ok()).unwrap_or(0);
        let (changes, partitions) = texts.split_first().ok_or(QuotaUnavailable)?;
        let part = |(partition, texts): (Partition, &[Option<String>])| PartitionView {
            partition,
            is_open: texts[0].is_some(),
            epoch: texts[0].as_ref().and_then(|text| text.parse().ok()),
            settled: number(&texts[1]),
            written: number(&texts[2]),
        };
        let partitions = Partition::all().zip(partitions.chunks_exact(3)).map(part).collect();
        // After the numbers: if the servers are unchanged, the numbers are theirs.
        let servers = self.servers().await?;
        Ok(ClusterView { partitions, changes: number(changes), servers, contact: None })
    }

    /// Reads the run ids of the servers, and updates the clock skew. `None` if the servers do not report them.
    async fn servers(&self) -> Result<Option<String>, QuotaUnavailable> {
        let mut command = redis::cmd("INFO");
        let before = clock::now();
        let info = self.quota.client.query_if_allowed::<Value>(command.arg("server")).await?;
        let Some(info) = info.map(|info| format!("{info:?}")) else { return Ok(None) };
        if let Some(time) = skew::time_in(&info) {
            self.quota.skew.learn(time, before, clock::now());
        }
        Ok(run_ids(&info))
    }

    /// True if a server was restarted or replaced since the last poll.
    fn is_restarted(&mut self, view: &ClusterView) -> bool {
        if view.servers.is_none() || view.servers == self.previous.servers {
            return false;
        }
        std::mem::replace(&mut self.previous.servers, view.servers.clone()).is_some()
    }

    /// Notifies of changes to users, keys and plans. Also after an outage, during which one may have been missed.
    fn notify_of_changes(&mut self, changes: u64) {
        let was_away = self.previous.contact.is_none();
        if self.previous.changes != Some(changes) || was_away {
            self.previous.changes = Some(changes);
            self.changed.notify_one();
        }
    }

    /// Records the number of charges that wait for the ledger, and stops admission before Redis runs out of memory.
    fn update_backlog(&mut self, view: &ClusterView) {
        let (backlog, now) = (view.backlog(), clock::instant());
        let written = view.partitions.iter().map(|part| part.written).sum();
        if std::mem::replace(&mut self.previous.written, written) != written {
            self.metrics.usage_backlog.progress(now);
        }
        self.metrics.usage_backlog.set(backlog, now);
        let is_full = backlog > self.quota.settings.max_backlog;
        if self.quota.is_full.swap(is_full, Ordering::Relaxed) != is_full {
            tracing::warn!(backlog, is_full, "ledger backlog is growing");
        }
    }

    /// Compares the state with the watermarks reported before the poll (`last`). A new server or epoch restarts
    /// the numbers, so every charge sent to the old one becomes unconfirmed.
    fn compare(&self, view: &ClusterView, last: &[Option<Watermark>], is_another_server: bool) {
        let calls = &self.quota.local_journal;
        for (part, last) in view.partitions.iter().zip(last) {
            let is_new = calls.is_new_epoch(
                part.partition,
                Watermark { epoch: part.epoch, number: part.settled },
            );
            let has_lost =
                last.is_some_and(|last| last.epoch == part.epoch && last.number > part.settled);
            if is_new || has_lost || is_another_server {
                calls.mark_all_unconfirmed(part.partition);
            } else if let Some(epoch) = part.epoch {
                calls.written(part.partition, epoch, part.written);
            }
        }
    }
}

impl ClusterView {
    /// True if every partition admits calls.
    #[must_use]
    pub fn is_open(&self) -> bool {
        !self.partitions.is_empty() && self.partitions.iter().all(|part| part.is_open)
    }

    /// Returns the partitions that admit no calls because Redis has lost them.
    pub(super) fn without_epoch(&self) -> impl Iterator<Item = Partition> {
        self.partitions.iter().filter(|part| !part.is_open).map(|part| part.partition)
    }

    /// Number of charges that wait for the ledger.
    #[must_use]
    pub fn backlog(&self) -> u64 {
        self.partitions.iter().map(|part| part.settled.saturating_sub(part.written)).sum()
    }
}

/// Extracts the run ids from a reply to `INFO`, of one server or of all nodes of a cluster.
fn run_ids(info: &str) -> Option<String> {
    let ids = info.split("run_id:").skip(1);
    let hex = |rest: &str| rest.chars().take_while(char::is_ascii_hexdigit).collect::<String>();
    let mut ids: Vec<String> = ids.map(hex).collect();
    ids.sort_unstable();
    (!ids.is_empty()).then(|| ids.join(" "))
}

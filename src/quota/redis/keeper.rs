//! Looks whether Redis is there and whole, and what is new, several times a second whatever else
//! happens. What there is to do about it, the warden and the scribe do.

use super::keys::{self, Partition};
use super::warden::Warden;
use super::wire::Told;
use super::{RedisCounters, skew};
use crate::clock;
use crate::quota::counters::CountersError;
use crate::telemetry::metrics::Metrics;
use redis::Value;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};
use tokio::sync::{Notify, watch};
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use uuid::Uuid;

/// Time between two looks: an open stream is cut within a second, and so is a new outage seen.
const LOOK: Duration = Duration::from_millis(250);

/// One look at all partitions.
#[derive(Debug, Clone, Default)]
pub struct Look {
    pub(super) parts: Vec<PartLook>,
    /// Changes to users, keys and plans so far.
    changes: u64,
    /// The running servers by their own ids, where they tell.
    servers: Option<String>,
    /// Since when Redis has answered every look.
    pub(super) contact: Option<Instant>,
}

/// One partition at a moment.
#[derive(Debug, Clone, Copy)]
pub(super) struct PartLook {
    pub(super) partition: Partition,
    /// Whether its counters are whole.
    pub(super) is_begun: bool,
    epoch: Option<Uuid>,
    pub(super) settled: u64,
    pub(super) written: u64,
}

/// The worker. `Keeper::run` ends when it is stopped.
pub struct Keeper {
    counters: Arc<RedisCounters>,
    metrics: Arc<Metrics>,
    /// Told of every look; the warden and the scribe wait for it.
    looks: watch::Sender<Look>,
    /// Woken when users, keys or plans changed.
    changed: Arc<Notify>,
    /// For what the warden leaves to others.
    tasks: TaskTracker,
    seen: Seen,
}

struct Seen {
    changes: Option<u64>,
    /// Charges that had reached the ledger.
    written: u64,
    servers: Option<String>,
    /// Since when Redis has answered every look.
    contact: Option<Instant>,
}

impl Keeper {
    /// A keeper of the calls of `counters`.
    #[must_use]
    pub fn new(
        counters: Arc<RedisCounters>,
        metrics: Arc<Metrics>,
        changed: Arc<Notify>,
        tasks: TaskTracker,
    ) -> Self {
        let seen = Seen { changes: None, written: 0, servers: None, contact: None };
        Self { counters, metrics, looks: watch::Sender::default(), changed, tasks, seen }
    }

    /// Every look, as it is taken.
    #[must_use]
    pub fn looks(&self) -> watch::Receiver<Look> {
        self.looks.subscribe()
    }

    /// Runs until `stop` is cancelled.
    pub async fn run(self, stop: CancellationToken) {
        let counters = Arc::clone(&self.counters);
        let warden = Warden::new(counters, self.looks(), self.tasks.clone());
        tokio::join!(self.keep_looking(stop.clone()), warden.run(stop));
    }

    async fn keep_looking(mut self, stop: CancellationToken) {
        let mut rounds = tokio::time::interval(LOOK);
        rounds.set_missed_tick_behavior(MissedTickBehavior::Delay);
        while stop.run_until_cancelled(rounds.tick()).await.is_some() {
            // What fails is tried again in the next round.
            let _ = self.round().await;
        }
    }

    async fn round(&mut self) -> Result<(), CountersError> {
        // Before the look, so that a settlement in between cannot seem to have been lost.
        let last = self.counters.calls.last();
        let mut look = match self.look().await {
            Ok(look) => look,
            Err(e) => {
                self.seen.contact = None;
                self.counters.link.set_away(true);
                return Err(e);
            }
        };
        self.counters.link.set_away(false);
        self.counters.end_outage().await;
        self.notice_changes(look.changes);
        look.contact = Some(*self.seen.contact.get_or_insert_with(clock::instant));
        self.weigh(&look);
        let is_another_server = self.notice_servers(&look);
        self.compare(&look, &last, is_another_server);
        self.looks.send_replace(look);
        Ok(self.counters.announce_untold().await?)
    }

    async fn look(&self) -> Result<Look, CountersError> {
        let names = |p: Partition| [p.epoch(), p.settled(), p.written()];
        let mut ask = redis::cmd("MGET");
        ask.arg(keys::CHANGES).arg(Partition::all().flat_map(names).collect::<Vec<_>>());
        let texts: Vec<Option<String>> = self.counters.link.ask(&ask).await?;
        let number =
            |text: &Option<String>| text.as_ref().and_then(|t| t.parse().ok()).unwrap_or(0);
        let (changes, parts) = texts.split_first().ok_or(CountersError)?;
        let part = |(partition, texts): (Partition, &[Option<String>])| PartLook {
            partition,
            is_begun: texts[0].is_some(),
            epoch: texts[0].as_ref().and_then(|text| text.parse().ok()),
            settled: number(&texts[1]),
            written: number(&texts[2]),
        };
        let parts = Partition::all().zip(parts.chunks_exact(3)).map(part).collect();
        // After the numbers: when these are the servers we know, the numbers are theirs.
        let servers = self.servers().await?;
        Ok(Look { parts, changes: number(changes), servers, contact: None })
    }

    /// Which servers run, and by the way what time it is there. `None` where servers do not tell.
    async fn servers(&self) -> Result<Option<String>, CountersError> {
        let mut ask = redis::cmd("INFO");
        let before = clock::now();
        let told = self.counters.link.ask_if_allowed::<Value>(ask.arg("server")).await?;
        let Some(told) = told.map(|told| format!("{told:?}")) else { return Ok(None) };
        if let Some(time) = skew::time_in(&told) {
            self.counters.skew.learn(time, before, clock::now());
        }
        Ok(run_ids(&told))
    }

    /// Whether a server was restarted, or another has taken its place.
    fn notice_servers(&mut self, look: &Look) -> bool {
        if look.servers.is_none() || look.servers == self.seen.servers {
            return false;
        }
        std::mem::replace(&mut self.seen.servers, look.servers.clone()).is_some()
    }

    /// After an outage too: a change may have gone unheard.
    fn notice_changes(&mut self, changes: u64) {
        let was_away = self.seen.contact.is_none();
        if self.seen.changes != Some(changes) || was_away {
            self.seen.changes = Some(changes);
            self.changed.notify_one();
        }
    }

    /// Notes how much waits for the ledger, and closes admission before memory ends.
    fn weigh(&mut self, look: &Look) {
        let (backlog, now) = (look.backlog(), clock::instant());
        let written = look.parts.iter().map(|part| part.written).sum();
        if std::mem::replace(&mut self.seen.written, written) != written {
            self.metrics.usage_backlog.progress(now);
        }
        self.metrics.usage_backlog.set(backlog, now);
        let is_full = backlog > self.counters.settings.max_backlog;
        if self.counters.is_full.swap(is_full, Ordering::Relaxed) != is_full {
            tracing::warn!(backlog, is_full, "ledger backlog is growing");
        }
    }

    /// Compares what Redis has with what it had reported: `last` was reported before the poll. Another
    /// server, or another epoch, restarts the numbers: what the former one had taken is then unconfirmed,
    /// whatever its number.
    fn compare(&self, look: &Look, last: &[Option<Told>], is_another_server: bool) {
        let calls = &self.counters.calls;
        for (part, last) in look.parts.iter().zip(last) {
            let is_new = calls
                .is_new_epoch(part.partition, Told { epoch: part.epoch, number: part.settled });
            let has_lost =
                last.is_some_and(|last| last.epoch == part.epoch && last.number > part.settled);
            if is_new || has_lost || is_another_server {
                calls.doubt_all(part.partition);
            } else if let Some(epoch) = part.epoch {
                calls.written(part.partition, epoch, part.written);
            }
        }
    }
}

impl Look {
    /// Whether every partition can admit calls.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        !self.parts.is_empty() && self.parts.iter().all(|part| part.is_begun)
    }

    /// Partitions that admit no calls: Redis has lost them.
    pub(super) fn without_epoch(&self) -> impl Iterator<Item = Partition> {
        self.parts.iter().filter(|part| !part.is_begun).map(|part| part.partition)
    }

    /// Charges that wait for the ledger.
    #[must_use]
    pub fn backlog(&self) -> u64 {
        self.parts.iter().map(|part| part.settled.saturating_sub(part.written)).sum()
    }
}

/// The run ids in an answer to `INFO`, of one server or of all of a cluster.
fn run_ids(told: &str) -> Option<String> {
    let ids = told.split("run_id:").skip(1);
    let hex = |rest: &str| rest.chars().take_while(char::is_ascii_hexdigit).collect::<String>();
    let mut ids: Vec<String> = ids.map(hex).collect();
    ids.sort_unstable();
    (!ids.is_empty()).then(|| ids.join(" "))
}

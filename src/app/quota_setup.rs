//! Which counters a gateway counts with: its own, or those in Redis that it shares.

use crate::config::{self, Config, Durability, Redis};
use crate::hot_restart::successor::Takeover;
use anyhow::Context;
use domain::charge::Lease;
use domain::day::Day;
use jiff::ToSpan;
use jiff::tz::TimeZone;
use journal::disk::Folder;
use journal::log::LogSettings;
use journal::segment::SEGMENT_BYTES;
use journal::{self, AdoptedJournal, Journal, StartedJournal};
use quota::backend::QuotaBackend;
use quota::memory::MemoryQuota;
use quota::redis::connection::RedisConn;
use quota::redis::connection::preflight::{self, Finding, Severity};
use quota::redis::{Clock, ClusterView, HealthPoller, OutboxDrainer, RedisQuota, Settings, Spool};
use quota::transferable::TransferableQuota;
use quota::user_versions::UserVersions;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;
use store::Store;
use system::clock;
use system::private_files;
use system::supervisor::Supervisor;
use telemetry::metrics::Metrics;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// Time for the counters to be rebuilt; after it the start fails.
const REBUILD_TIMEOUT: Duration = Duration::from_secs(60);

/// The quota backend, and the store that the rest of the gateway uses.
pub(super) struct QuotaSetup {
    pub(super) store: Arc<dyn Store>,
    pub(super) quota: Arc<dyn QuotaBackend>,
    /// Notified of each change to users, keys and plans, if changes are announced.
    pub(super) changed: Arc<Notify>,
    /// The same backend, if another process can take it over.
    pub(super) transferable: Option<TransferableQuota>,
    /// Calls of the process before this one, which it still serves.
    pub(super) adopted: Vec<Lease>,
    /// A duplicate of the lock on the journal's folder.
    pub(super) journal_lock: Option<OwnedFd>,
}

/// Dependencies of the quota backend.
pub(super) struct QuotaDeps<'a> {
    /// The process that this one replaces.
    pub(super) takeover: Option<&'a mut Takeover>,
    pub(super) store: Arc<dyn Store>,
    pub(super) metrics: Arc<Metrics>,
    pub(super) workers: &'a Supervisor,
    /// Tracks tasks that end without being stopped.
    pub(super) tasks: TaskTracker,
    /// Cancelled when the last call has settled.
    pub(super) stop: CancellationToken,
}

/// Settles what a dead process left, and rebuilds the counters from the ledger.
pub(super) async fn start(config: &Config, deps: QuotaDeps<'_>) -> anyhow::Result<QuotaSetup> {
    match &config.redis {
        None => start_in_memory(config, deps).await,
        Some(redis) => start_with_redis(config, redis, deps).await,
    }
}

async fn start_in_memory(config: &Config, deps: QuotaDeps<'_>) -> anyhow::Result<QuotaSetup> {
    let QuotaDeps { store, metrics, workers, tasks, stop, takeover } = deps;
    let (state, lock) = match takeover {
        Some(takeover) => (takeover.take().await?, takeover.journal_lock()),
        None => (None, None),
    };
    store.acquire_instance_lock().await.context("cannot use the database")?;
    let folder = journal_folder(&config.journal, lock)?;
    let journal_lock = folder.duplicate_lock()?;
    let versions = UserVersions::start(store.clone()).await.context("cannot read the users")?;
    let parts = journal_parts(&config.journal, folder, &store, &metrics, workers, &stop);
    let (journal, adopted) = start_journal(parts, state.is_some()).await?;
    let from = Day::at(clock::now(), &TimeZone::UTC).0.saturating_sub(2.days());
    let used = store.used_since(Day(from)).await.context("cannot read the usage of recent days")?;
    workers.spawn("versions", Arc::clone(&versions).poll_loop(journal.clone(), stop));
    let changed = Arc::clone(&versions.changed);
    let own = MemoryQuota::rebuilt(&used, journal.clone(), Arc::clone(&versions));
    own.adopt(state.unwrap_or_default(), &adopted);
    let quota = TransferableQuota::new(Arc::new(own), journal, tasks);
    let store = store.publishing(versions);
    let transferable = Some(quota.clone());
    let quota = Arc::new(quota);
    Ok(QuotaSetup { store, quota, changed, transferable, adopted, journal_lock })
}

/// Opens the journal. Leases in it are open calls of a predecessor that still serves them (`is_handed_over`), or
/// of one that died.
async fn start_journal(
    parts: journal::JournalDeps<'_>,
    is_handed_over: bool,
) -> anyhow::Result<(Journal, Vec<Lease>)> {
    if is_handed_over {
        let AdoptedJournal { journal, open } = journal::adopt(parts).await?;
        return Ok((journal, open));
    }
    let StartedJournal { journal, abandoned } = journal::start(parts).await?;
    report_abandoned(abandoned);
    Ok((journal, Vec::new()))
}

/// The journal's folder, with the lock of the process to take over from, or our own.
fn journal_folder(config: &config::Journal, lock: Option<OwnedFd>) -> anyhow::Result<Folder> {
    let folder = match lock {
        Some(lock) => Folder::take_over(&config.folder, lock),
        None => Folder::create(&config.folder),
    };
    folder.with_context(|| format!("cannot use the journal folder {}", config.folder.display()))
}

fn journal_parts<'a>(
    config: &config::Journal,
    folder: Folder,
    store: &Arc<dyn Store>,
    metrics: &Arc<Metrics>,
    workers: &'a Supervisor,
    stop: &CancellationToken,
) -> journal::JournalDeps<'a> {
    let settings = LogSettings {
        synced: config.durability == Durability::Power,
        segment_bytes: SEGMENT_BYTES,
        max_backlog_bytes: config.max_backlog_bytes,
    };
    journal::JournalDeps {
        disk: Arc::new(folder),
        settings,
        store: store.clone(),
        metrics: Arc::clone(metrics),
        workers,
        stop: stop.clone(),
    }
}

pub(super) fn report_abandoned(calls: usize) {
    if calls > 0 {
        tracing::warn!(
            calls,
            "charged the full reservation of calls that were in flight when the previous process died; the ledger \
             has them with the status `abandoned`"
        );
    }
}

/// Refuses a Redis on which quotas would not hold, and says what another may lose.
async fn check_redis(connection: &RedisConn) -> anyhow::Result<()> {
    let found =
        preflight::check_server(connection, clock::now()).await.map_err(anyhow::Error::msg)?;
    for Finding { severity, text } in found {
        match severity {
            Severity::Ok => {}
            Severity::Warning => tracing::warn!("{text}"),
            Severity::Refusal => anyhow::bail!(text),
        }
    }
    Ok(())
}

async fn start_with_redis(
    config: &Config,
    redis: &Redis,
    deps: QuotaDeps<'_>,
) -> anyhow::Result<QuotaSetup> {
    let QuotaDeps { store, metrics, workers, tasks, stop, .. } = deps;
    // This gateway keeps none, but one that ran here without Redis may have.
    if Folder::holds_log(&config.journal.folder) {
        let folder = journal_folder(&config.journal, None)?;
        let parts = journal_parts(&config.journal, folder, &store, &metrics, workers, &stop);
        report_abandoned(journal::finish(parts).await?);
        // All of it is in the ledger, and no process writes to it.
        if let Err(error) = Folder::remove_log(&config.journal.folder) {
            tracing::warn!(%error, "failed to delete a journal that is fully written to the ledger");
        }
    }
    if redis.spool.exists() {
        private_files::check_folder(&redis.spool).context("cannot use the spool folder")?;
    }
    let connection = RedisConn::open(&redis.urls).await.context("cannot reach Redis")?;
    check_redis(&connection).await?;
    let settings = Settings {
        clock: Clock::Redis,
        lease: redis.lease,
        max_backlog: redis.max_backlog,
        compare: redis.compare,
    };
    let quota = Arc::new(RedisQuota::new(connection, settings, Arc::clone(&metrics)));
    quota.use_spool(Spool::new(&redis.spool));
    let changed = Arc::new(Notify::new());
    let poller =
        HealthPoller::new(Arc::clone(&quota), Arc::clone(&metrics), Arc::clone(&changed), tasks);
    let mut views = poller.views();
    let drainer =
        OutboxDrainer::new(Arc::clone(&quota), Arc::clone(&store), metrics, poller.views());
    workers.spawn("redis-health", poller.run(stop.clone()));
    workers.spawn("outbox-drainer", drainer.run(stop));
    let opened = tokio::time::timeout(REBUILD_TIMEOUT, views.wait_for(ClusterView::is_open)).await;
    opened.context("Redis does not respond, or its counters could not be rebuilt")??;
    let publisher = Arc::new(quota.change_notifier(store.clone()));
    let store = store.publishing(publisher);
    Ok(QuotaSetup {
        store,
        quota,
        changed,
        transferable: None,
        adopted: Vec::new(),
        journal_lock: None,
    })
}

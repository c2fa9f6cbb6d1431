//! Which counters a gateway counts with: its own, or those in Redis that it shares.

use crate::account::day::Day;
use crate::clock;
use crate::config::{self, Config, Durability, Redis};
use crate::journal::disk::Folder;
use crate::journal::log::LogSettings;
use crate::journal::segment::SEGMENT_BYTES;
use crate::journal::{self, Started};
use crate::private_files;
use crate::quota::counters::Counters;
use crate::quota::memory::MemoryCounters;
use crate::quota::redis::{Clock, Keeper, Look, RedisCounters, Scribe, Settings, Spool};
use crate::quota::versions::Versions;
use crate::redis_conn::RedisConn;
use crate::redis_look::{self, Finding, Severity};
use crate::store::Store;
use crate::store::announced::Announced;
use crate::telemetry::metrics::Metrics;
use crate::workers::Workers;
use anyhow::Context;
use jiff::ToSpan;
use jiff::tz::TimeZone;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// How long counters may take to be rebuilt before a gateway gives up its start.
const REBUILT: Duration = Duration::from_secs(60);

/// Counters, and the store as the rest of the gateway is to use it.
pub(super) struct Counting {
    pub(super) store: Arc<dyn Store>,
    pub(super) counters: Arc<dyn Counters>,
    /// Notified of each change to users, keys and plans, if changes are announced.
    pub(super) changed: Option<Arc<Notify>>,
}

/// What counting needs.
pub(super) struct Means<'a> {
    pub(super) store: Arc<dyn Store>,
    pub(super) metrics: Arc<Metrics>,
    pub(super) workers: &'a Workers,
    /// For work that ends by itself.
    pub(super) tasks: TaskTracker,
    /// Cancelled when the last call has settled.
    pub(super) stop: CancellationToken,
}

/// Settles what a dead process left, and rebuilds the counters from the ledger.
pub(super) async fn start(config: &Config, means: Means<'_>) -> anyhow::Result<Counting> {
    match &config.redis {
        None => own(config, means).await,
        Some(redis) => shared(config, redis, means).await,
    }
}

async fn own(config: &Config, means: Means<'_>) -> anyhow::Result<Counting> {
    let Means { store, metrics, workers, stop, .. } = means;
    store.claim().await.context("cannot use the database")?;
    let versions = Versions::start(Arc::clone(&store)).await.context("cannot read the users")?;
    let parts = journal_parts(&config.journal, &store, &metrics, workers, &stop)?;
    let Started { journal, abandoned } = journal::start(parts).await?;
    report_abandoned(abandoned);
    let from = Day::at(clock::now(), &TimeZone::UTC).0.saturating_sub(2.days());
    let used = store.used_since(Day(from)).await.context("cannot read the usage of recent days")?;
    workers.spawn("versions", Arc::clone(&versions).watch(journal.clone(), stop));
    let changed = Some(Arc::clone(&versions.changed));
    let counters = Arc::new(MemoryCounters::rebuilt(&used, journal, Arc::clone(&versions)));
    let store = Arc::new(Announced::new(store, versions));
    Ok(Counting { store, counters, changed })
}

fn journal_parts<'a>(
    config: &config::Journal,
    store: &Arc<dyn Store>,
    metrics: &Arc<Metrics>,
    workers: &'a Workers,
    stop: &CancellationToken,
) -> anyhow::Result<journal::Parts<'a>> {
    let settings = LogSettings {
        synced: config.durability == Durability::Power,
        segment_bytes: SEGMENT_BYTES,
        most_behind: config.most_behind,
    };
    let folder = Folder::create(&config.folder)
        .with_context(|| format!("cannot use the journal folder {}", config.folder.display()))?;
    Ok(journal::Parts {
        disk: Arc::new(folder),
        settings,
        store: Arc::clone(store),
        metrics: Arc::clone(metrics),
        workers,
        stop: stop.clone(),
    })
}

fn report_abandoned(calls: usize) {
    if calls > 0 {
        tracing::warn!(calls, "charged calls that were in flight when the previous process died");
    }
}

/// Refuses a Redis on which quotas would not hold, and says what another may lose.
async fn rely_on(connection: &RedisConn) -> anyhow::Result<()> {
    let found = redis_look::look(connection, clock::now()).await.map_err(anyhow::Error::msg)?;
    for Finding { severity, text } in found {
        match severity {
            Severity::Ok => {}
            Severity::Warning => tracing::warn!("{text}"),
            Severity::Refusal => anyhow::bail!(text),
        }
    }
    Ok(())
}

async fn shared(config: &Config, redis: &Redis, means: Means<'_>) -> anyhow::Result<Counting> {
    let Means { store, metrics, workers, tasks, stop } = means;
    // This gateway keeps none, but one that ran here without Redis may have.
    if Folder::holds_log(&config.journal.folder) {
        let parts = journal_parts(&config.journal, &store, &metrics, workers, &stop)?;
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
    rely_on(&connection).await?;
    let settings = Settings {
        clock: Clock::Redis,
        lease: redis.lease,
        max_backlog: redis.max_backlog,
        compare: redis.compare,
    };
    let counters = Arc::new(RedisCounters::new(connection, settings, Arc::clone(&metrics)));
    counters.keep_on_disk(Spool::new(&redis.spool));
    let changed = Arc::new(Notify::new());
    let keeper =
        Keeper::new(Arc::clone(&counters), Arc::clone(&metrics), Arc::clone(&changed), tasks);
    let mut looks = keeper.looks();
    let scribe = Scribe::new(Arc::clone(&counters), Arc::clone(&store), metrics, keeper.looks());
    workers.spawn("keeper", keeper.run(stop.clone()));
    workers.spawn("scribe", scribe.run(stop));
    let begun = tokio::time::timeout(REBUILT, looks.wait_for(Look::is_whole)).await;
    begun.context("Redis does not respond, or its counters could not be rebuilt")??;
    let herald = Arc::new(counters.herald(Arc::clone(&store)));
    let store = Arc::new(Announced::new(store, herald));
    Ok(Counting { store, counters, changed: Some(changed) })
}

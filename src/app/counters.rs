//! Which counters a gateway counts with: its own, or those in Redis that it shares.

use crate::account::day::Day;
use crate::clock;
use crate::config::{Config, Redis};
use crate::private_files;
use crate::quota::counters::Counters;
use crate::quota::memory::MemoryCounters;
use crate::quota::redis::{Clock, Keeper, Look, RedisCounters, Scribe, Settings, Spool};
use crate::redis_conn::RedisConn;
use crate::redis_look::{self, Finding, Severity};
use crate::store::Store;
use crate::store::announced::Announced;
use crate::telemetry::metrics::Metrics;
use crate::usage::journal::Journal;
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
    /// Woken by every change to users, keys and plans, where somebody tells.
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
        None => own(means).await,
        Some(redis) => shared(redis, means).await,
    }
}

async fn own(means: Means<'_>) -> anyhow::Result<Counting> {
    let Means { store, metrics, workers, stop, .. } = means;
    store.claim().await.context("cannot use the database")?;
    abandon(&*store).await?;
    let from = Day::at(clock::now(), &TimeZone::UTC).0.saturating_sub(2.days());
    let used = store.used_since(Day(from)).await.context("cannot read what was used")?;
    let journal = Journal::start(Arc::clone(&store), metrics, workers, stop);
    let counters = Arc::new(MemoryCounters::rebuilt(&used, journal));
    Ok(Counting { store, counters, changed: None })
}

/// Charges what a process that kept its leases in the store left there.
async fn abandon(store: &dyn Store) -> anyhow::Result<()> {
    let abandoned =
        store.abandon_leases(clock::now()).await.context("cannot settle open leases")?;
    if !abandoned.is_empty() {
        tracing::warn!(calls = abandoned.len(), "charged calls that an earlier process left open");
    }
    Ok(())
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

async fn shared(redis: &Redis, means: Means<'_>) -> anyhow::Result<Counting> {
    let Means { store, metrics, workers, tasks, stop } = means;
    // This gateway keeps none, but the one that ran here before may have.
    abandon(&*store).await?;
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
    begun.context("Redis does not answer, or its counters could not be rebuilt")??;
    let herald = Arc::new(counters.herald(Arc::clone(&store)));
    let store = Arc::new(Announced::new(store, herald));
    Ok(Counting { store, counters, changed: Some(changed) })
}

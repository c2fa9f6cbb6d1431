//! Periodic tasks: noticing changes, metrics, probes of upstreams, partitions and pruning of the store.

use super::Services;
use crate::callers::watch::Watch;
use crate::config::Config;
use crate::gateway::Gateway;
use crate::links::Links;
use crate::mail::Mailer;
use crate::mail::delivery::Delivery;
use crate::mail::smtp::Smtp;
use crate::oidc::Provider;
use crate::upstream::{UpstreamStatus, Upstreams, probe};
use arc_swap::ArcSwap;
use domain::day::Day;
use jiff::tz::TimeZone;
use jiff::{Timestamp, ToSpan};
use std::sync::Arc;
use std::time::Duration;
use store::Maintenance;
use system::clock;
use system::supervisor::Supervisor;
use telemetry::metrics::Metrics;
use tokio_util::sync::CancellationToken;

/// Time between two runs that create partitions for the coming week and prune old rows.
const MAINTENANCE_INTERVAL: Duration = Duration::from_secs(24 * 60 * 60);
/// Time between two runs that fold recorded durations into histogram buckets.
const METRICS_UPKEEP_INTERVAL: Duration = Duration::from_secs(5);

/// Starts the task that sends mails, if a mail server is configured.
///
/// # Errors
/// The settings of the mail server cannot be used.
pub(super) fn spawn_mail(
    config: &Config,
    parts: &Services,
    links: &Arc<Links>,
    workers: &Supervisor,
    stop: &CancellationToken,
) -> anyhow::Result<Mailer> {
    let metrics = Arc::clone(&parts.metrics);
    let (Some(settings), Some(public_url)) = (&config.mail, &config.public_url) else {
        return Ok(Mailer::off(metrics));
    };
    let delivery = Delivery {
        smtp: Smtp::new(settings, public_url)?,
        store: Arc::clone(&parts.store),
        links: Arc::clone(links),
        metrics: Arc::clone(&metrics),
    };
    let (mailer, jobs) = Mailer::queued(metrics);
    workers.spawn("mail", delivery.run(jobs, stop.clone()));
    Ok(mailer)
}

/// Checks the sign-in provider once, if one is configured. One that is down is a warning: the next sign-in tries again.
pub(super) fn spawn_provider_check(
    config: &Config,
    workers: &Supervisor,
    stop: &CancellationToken,
) {
    let Some(settings) = config.oidc.clone() else { return };
    let stop = stop.clone();
    workers.spawn("sign-in provider", async move {
        let issuer = settings.issuer.clone();
        let provider = Provider::new(settings);
        if let Some(Err(error)) = stop.run_until_cancelled(provider.check()).await {
            tracing::warn!(issuer, %error, "the sign-in provider cannot be used now");
        }
        stop.cancelled().await;
    });
}

/// Starts the tasks that run while the gateway runs.
pub(super) fn spawn(
    workers: &Supervisor,
    parts: &Services,
    gateway: &Gateway,
    stop: &CancellationToken,
) {
    let watch = Watch {
        store: parts.store.clone(),
        callers: Arc::clone(&parts.callers),
        open: gateway.open_calls.clone(),
        changed: parts.changed.clone(),
    };
    workers.spawn("watch", watch.run(stop.clone()));
    let metrics = Arc::clone(&parts.metrics);
    workers.spawn("upkeep", upkeep(metrics, parts.upstreams.clone(), stop.clone()));
    workers.spawn("probe", probe::run(parts.upstreams.clone(), stop.clone()));
    workers.spawn("days", create_partitions(parts.store.clone(), stop.clone()));
    workers.spawn("prune", prune(parts.store.clone(), stop.clone()));
}

async fn upkeep(
    metrics: Arc<Metrics>,
    upstreams: Arc<ArcSwap<Upstreams>>,
    stop: CancellationToken,
) {
    let mut rounds = tokio::time::interval(METRICS_UPKEEP_INTERVAL);
    while stop.run_until_cancelled(rounds.tick()).await.is_some() {
        metrics.upkeep();
        for status in upstreams.load().statuses(clock::instant()) {
            let UpstreamStatus { name, phase, in_flight, queued, .. } = status;
            metrics.upstream_breaker(&name).set(phase.number());
            metrics.upstream_in_flight(&name).set(f64::from(in_flight));
            metrics.upstream_queued(&name).set(queued as f64);
        }
    }
}

/// A day's charges are taken without it, and go where they belong once it succeeds.
async fn create_partitions(store: Arc<dyn Maintenance>, stop: CancellationToken) {
    while stop.run_until_cancelled(tokio::time::sleep(MAINTENANCE_INTERVAL)).await.is_some() {
        if let Err(e) = store.create_partitions(yesterday(clock::now())).await {
            tracing::error!(error = %e, "failed to prepare the ledger for the coming days, retrying in a day");
        }
    }
}

/// At the start and then every day; what fails is tried again with the next.
async fn prune(store: Arc<dyn Maintenance>, stop: CancellationToken) {
    let mut days = tokio::time::interval(MAINTENANCE_INTERVAL);
    while stop.run_until_cancelled(days.tick()).await.is_some() {
        let mut pruned = 0;
        let ended = loop {
            match store.prune(clock::now()).await {
                Ok(0) => break Ok(pruned),
                // The rest is deleted after the next start.
                Ok(more) if stop.is_cancelled() => break Ok(pruned + more),
                Ok(more) => pruned += more,
                Err(e) => break Err(e),
            }
        };
        match ended {
            Ok(0) => {}
            Ok(rows) => tracing::info!(rows, "deleted expired keys, sessions and rollups"),
            Err(error) => {
                tracing::warn!(%error, "failed to delete old rows, retrying in a day");
            }
        }
    }
}

/// The earliest day that a plan's time zone may still have.
pub(super) fn yesterday(now: Timestamp) -> Day {
    Day(Day::at(now, &TimeZone::UTC).0.saturating_sub(1.days()))
}

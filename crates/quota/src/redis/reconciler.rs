//! Reconciles this gateway's state with Redis: renews and restores leases, resends unconfirmed charges, rolls
//! back uncertain takes, and reaps leases of dead gateways.
//!
//! Runs after each poll and never delays it. A round does a bounded part of each job, all of them concurrently;
//! failed work is retried after the next poll.

use super::health::ClusterView;
use super::keys::Partition;
use super::{RedisQuota, milliseconds};
use crate::backend::QuotaUnavailable;
use futures_util::future::{join_all, try_join_all};
use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};
use system::clock;
use telemetry::labels::RedisOp;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// Time between two searches for expired leases.
const REAP_INTERVAL: Duration = Duration::from_secs(1);
/// Lifetime of the keys written to check that Redis accepts writes.
const WRITE_PROBE_TTL: Duration = Duration::from_secs(10);
/// Time between two scans of the spool folder for files of dead processes.
const SPOOL_SCAN_INTERVAL: Duration = Duration::from_secs(30);
/// A gateway that stops announcing its restore for this long is considered dead.
const RESTORING_TTL: Duration = Duration::from_secs(5);
/// Gives up waiting for a restore after this long.
const RESTORE_TIMEOUT: Duration = Duration::from_secs(30);
/// Charges resent, and takes rolled back, in one round.
const RESEND_BATCH: usize = 500;
/// Charges of an abandoned spool file sent concurrently.
const SPOOL_SEND_BATCH: usize = 100;
/// Time to roll back uncertain takes at shutdown.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(1);

/// Background task that runs after each poll; see [`Reconciler::run`].
pub(super) struct Reconciler {
    quota: Arc<RedisQuota>,
    views: watch::Receiver<ClusterView>,
    /// Runs work that takes longer than a round.
    tasks: TaskTracker,
    /// Time at which each partition was first seen without an epoch.
    missing: HashMap<Partition, Instant>,
    /// Partitions without an epoch to which this gateway has restored everything it knows.
    restored: HashSet<Partition>,
    renewed: Instant,
    reaped: Option<Instant>,
    /// Time since which every write probe has succeeded.
    writable: Option<Instant>,
    spool_scanned: Option<Instant>,
    /// Number of lost charges that were resent and not logged yet.
    lost_charges: u64,
}

impl Reconciler {
    pub(super) fn new(
        quota: Arc<RedisQuota>,
        views: watch::Receiver<ClusterView>,
        tasks: TaskTracker,
    ) -> Self {
        Self {
            quota,
            views,
            tasks,
            missing: HashMap::new(),
            restored: HashSet::new(),
            renewed: clock::instant(),
            reaped: None,
            writable: None,
            spool_scanned: None,
            lost_charges: 0,
        }
    }

    /// Runs until `stop` is cancelled.
    pub(super) async fn run(mut self, stop: CancellationToken) {
        while stop.run_until_cancelled(self.views.changed()).await.is_some_and(|ok| ok.is_ok()) {
            let view = self.views.borrow_and_update().clone();
            let quota = Arc::clone(&self.quota);
            let reaping = self.should_reap(&view).await;
            let reaped = async { if reaping { quota.reap(None).await } else { Ok(()) } };
            // Failed work is retried in the next round.
            let _ = tokio::join!(self.restore_missing(&view), quota.rollback_some(), reaped);
            self.send_abandoned_files();
        }
        // No other gateway knows of these.
        let _ = tokio::time::timeout(SHUTDOWN_TIMEOUT, self.quota.rollback_all()).await;
    }

    /// Renews and restores leases and resends charges. A partition without an epoch is not opened before
    /// every gateway has restored what it knows.
    async fn restore_missing(&mut self, view: &ClusterView) -> Result<(), QuotaUnavailable> {
        let missing: HashSet<Partition> = view.without_epoch().collect();
        self.missing.retain(|partition, _| missing.contains(partition));
        self.restored.retain(|partition| missing.contains(partition));
        let mut restoring: Vec<Partition> = missing.difference(&self.restored).copied().collect();
        restoring.retain(|partition| {
            self.missing.entry(*partition).or_insert_with(clock::instant).elapsed()
                < RESTORE_TIMEOUT
        });
        // All of them run to completion, because a partition that cannot be written must not stop the others.
        let announced = self.announce_restoring(&restoring, RESTORING_TTL).await;
        let renewed = self.renew(&missing).await;
        let sent = self.resend_charges().await;
        announced.and(renewed).and(sent)?;
        let unconfirmed = self.quota.local_journal.with_unconfirmed_charges();
        self.log_lost_charges(unconfirmed.is_empty());
        let restored =
            restoring.iter().copied().filter(|partition| !unconfirmed.contains(partition));
        let restored: Vec<Partition> = restored.collect();
        self.announce_restoring(&restored, Duration::ZERO).await?;
        self.restored.extend(restored);
        Ok(())
    }

    async fn announce_restoring(
        &self,
        partitions: &[Partition],
        time: Duration,
    ) -> Result<(), QuotaUnavailable> {
        let client = &self.quota.client;
        let arguments = [self.quota.gateway.clone(), time.as_millis().to_string()];
        let announce = async |partition: &Partition| {
            let keys = [partition.restoring()];
            client.run(RedisOp::Renew, &client.scripts.restoring, &keys, &arguments).await
        };
        try_join_all(partitions.iter().map(announce)).await?;
        Ok(())
    }

    /// Renews all leases when renewal is due, and immediately where some may be lost.
    async fn renew(&mut self, missing: &HashSet<Partition>) -> Result<(), QuotaUnavailable> {
        let quota = &self.quota;
        let is_due = self.renewed.elapsed() >= quota.settings.lease / 3;
        let uncertain = quota.local_journal.take_uncertain_partitions();
        let restored = quota.restore_in(&uncertain).await;
        if restored.is_err() {
            quota.local_journal.mark_leases_uncertain(&uncertain);
        }
        let renewed = quota.renew_in(|partition| is_due || missing.contains(&partition)).await;
        if is_due && renewed.is_ok() {
            self.renewed = clock::instant();
        }
        restored.and(renewed)
    }

    /// Resends some of the charges that Redis may have lost. Resending a charge that it still has changes nothing.
    async fn resend_charges(&mut self) -> Result<(), QuotaUnavailable> {
        let unconfirmed = self.quota.local_journal.unconfirmed_charges(RESEND_BATCH);
        let resent = unconfirmed.iter().map(|charge| self.quota.resend_charge(charge));
        let mut done = Ok(());
        for sent in join_all(resent).await {
            match sent {
                Ok(was_lost) => self.lost_charges += u64::from(was_lost),
                Err(e) => done = Err(e),
            }
        }
        done
    }

    /// Logs one line for all charges that were lost in one failure, once the last one is resent.
    fn log_lost_charges(&mut self, all_are_resent: bool) {
        let charges = self.lost_charges;
        if charges > 0 && all_are_resent {
            tracing::error!(
                charges,
                "redis lost charges that it had acknowledged; this gateway has sent its own again"
            );
            self.lost_charges = 0;
        }
    }

    /// True if leases may be reaped now. While Redis was down or read-only no gateway could renew, so reaping
    /// waits for one lease time after it recovers.
    async fn should_reap(&mut self, view: &ClusterView) -> bool {
        let lease = self.quota.settings.lease;
        if self.reaped.is_some_and(|at| at.elapsed() < REAP_INTERVAL.min(lease)) {
            return false;
        }
        self.reaped = Some(clock::instant());
        if self.quota.takes_writes().await.is_err() {
            self.writable = None;
            return false;
        }
        let writable = *self.writable.get_or_insert_with(clock::instant);
        let for_long = |since: Instant| since.elapsed() >= lease;
        for_long(writable) && view.contact.is_some_and(for_long)
    }

    /// Sends the charges in spool files that dead processes left.
    fn send_abandoned_files(&mut self) {
        if self.spool_scanned.is_some_and(|at| at.elapsed() < SPOOL_SCAN_INTERVAL) {
            return;
        }
        self.spool_scanned = Some(clock::instant());
        let quota = Arc::clone(&self.quota);
        let Some(spool) = quota.spool.get().cloned() else { return };
        self.tasks.spawn(async move {
            let files = tokio::task::spawn_blocking(move || spool.abandoned_files()).await;
            let files = match files {
                Ok(Ok(files)) => files,
                Ok(Err(error)) => {
                    return tracing::error!(%error, "failed to read the spool folder");
                }
                Err(_) => return,
            };
            for file in files {
                for some in file.charges.chunks(SPOOL_SEND_BATCH) {
                    join_all(some.iter().cloned().map(|it| quota.settle_and_track(it))).await;
                }
                let charges = file.charges.len();
                tracing::warn!(charges, "sent charges that a dead process left in the spool");
                let _ = tokio::task::spawn_blocking(move || file.finish()).await;
            }
        });
    }
}

impl RedisQuota {
    /// Checks that Redis accepts writes, on each master of a cluster. A master with too few replicas or a full disk
    /// still answers reads.
    pub(super) async fn takes_writes(&self) -> Result<(), QuotaUnavailable> {
        let all = if self.client.is_cluster() { usize::MAX } else { 1 };
        let probes = Partition::all().take(all).map(async |partition| {
            let mut write = redis::cmd("SET");
            write.arg(partition.write_probe()).arg(1).arg("PX").arg(milliseconds(WRITE_PROBE_TTL));
            self.client.query::<String>(&write).await
        });
        try_join_all(probes).await?;
        Ok(())
    }

    /// Ends an outage, if there is one, once Redis accepts writes; reads are not enough because a replica answers them.
    pub(super) async fn end_outage(&self) {
        if self.client.has_outage() && self.takes_writes().await.is_ok() {
            self.client.end_outage();
        }
    }
}

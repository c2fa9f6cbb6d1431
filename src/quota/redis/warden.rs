//! Reconciles this gateway's state with Redis: renews and restores leases, resends unconfirmed charges, rolls
//! back uncertain takes, and reaps leases of dead gateways.
//!
//! It works on what the keeper sees and never holds it up. Each round does a bounded part of each
//! work, all of them at once: what fails is tried again at the next look.

use super::keeper::Look;
use super::keys::Partition;
use super::{RedisCounters, milliseconds};
use crate::clock;
use crate::quota::counters::CountersError;
use crate::telemetry::labels::RedisOp;
use futures_util::future::{join_all, try_join_all};
use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// Time between two searches for calls whose gateway is gone.
const REAP: Duration = Duration::from_secs(1);
/// How long what tries whether Redis takes writes stays there.
const TRIED: Duration = Duration::from_secs(10);
/// Time between two searches for what dead processes left on disk.
const SEARCH: Duration = Duration::from_secs(30);
/// A gateway that stops announcing its restore for this long is considered dead.
const BRINGING: Duration = Duration::from_secs(5);
/// Gives up waiting for a restore after this long.
const PATIENCE: Duration = Duration::from_secs(30);
/// Charges sent again, and takes withdrawn, in one round.
const SOME: usize = 500;
/// Charges that a dead process left, sent at once.
const AT_ONCE: usize = 100;
/// How long takes that are still in doubt may hold up the end.
const LAST_ORDERS: Duration = Duration::from_secs(1);

/// The worker. [`Warden::run`] ends when it is stopped.
pub(super) struct Warden {
    counters: Arc<RedisCounters>,
    looks: watch::Receiver<Look>,
    /// For what takes longer than a round.
    tasks: TaskTracker,
    /// Since when partitions have been seen without an epoch.
    missing: HashMap<Partition, Instant>,
    /// Those of them to which this gateway has restored all that it knows.
    brought: HashSet<Partition>,
    renewed: Instant,
    reaped: Option<Instant>,
    /// Since when Redis has taken every write that tried whether it does.
    writable: Option<Instant>,
    searched: Option<Instant>,
    /// Charges that Redis had lost, sent again and not yet told to the log.
    lost_charges: u64,
}

impl Warden {
    pub(super) fn new(
        counters: Arc<RedisCounters>,
        looks: watch::Receiver<Look>,
        tasks: TaskTracker,
    ) -> Self {
        Self {
            counters,
            looks,
            tasks,
            missing: HashMap::new(),
            brought: HashSet::new(),
            renewed: clock::instant(),
            reaped: None,
            writable: None,
            searched: None,
            lost_charges: 0,
        }
    }

    /// Runs until `stop` is cancelled.
    pub(super) async fn run(mut self, stop: CancellationToken) {
        while stop.run_until_cancelled(self.looks.changed()).await.is_some_and(|ok| ok.is_ok()) {
            let look = self.looks.borrow_and_update().clone();
            let counters = Arc::clone(&self.counters);
            let reaping = self.is_to_reap(&look).await;
            let reaped = async { if reaping { counters.reap(None).await } else { Ok(()) } };
            // What fails is tried again in the next round.
            let _ = tokio::join!(self.bring(&look), counters.withdraw_some(), reaped);
            self.search();
        }
        // No other gateway knows of these.
        let _ = tokio::time::timeout(LAST_ORDERS, self.counters.withdraw_all()).await;
    }

    /// Keeps leases and charges where they belong. A partition without an epoch is not begun before
    /// all that is known here is back.
    async fn bring(&mut self, look: &Look) -> Result<(), CountersError> {
        let missing: HashSet<Partition> = look.without_epoch().collect();
        self.missing.retain(|partition, _| missing.contains(partition));
        self.brought.retain(|partition| missing.contains(partition));
        let mut bringing: Vec<Partition> = missing.difference(&self.brought).copied().collect();
        bringing.retain(|partition| {
            self.missing.entry(*partition).or_insert_with(clock::instant).elapsed() < PATIENCE
        });
        // All of them run to their end: a partition that cannot be written must not stop the others.
        let said = self.say_bringing(&bringing, BRINGING).await;
        let renewed = self.renew(&missing).await;
        let sent = self.send_again().await;
        said.and(renewed).and(sent)?;
        let doubtful = self.counters.calls.with_doubtful_charges();
        self.log_lost_charges(doubtful.is_empty());
        let brought = bringing.iter().copied().filter(|partition| !doubtful.contains(partition));
        let brought: Vec<Partition> = brought.collect();
        self.say_bringing(&brought, Duration::ZERO).await?;
        self.brought.extend(brought);
        Ok(())
    }

    async fn say_bringing(
        &self,
        partitions: &[Partition],
        time: Duration,
    ) -> Result<(), CountersError> {
        let link = &self.counters.link;
        let arguments = [self.counters.gateway.clone(), time.as_millis().to_string()];
        let say = async |partition: &Partition| {
            let keys = [partition.bringing()];
            link.run(RedisOp::Renew, &link.scripts.bring, &keys, &arguments).await
        };
        try_join_all(partitions.iter().map(say)).await?;
        Ok(())
    }

    /// Renews all leases when it is time to, and at once where some may be gone.
    async fn renew(&mut self, missing: &HashSet<Partition>) -> Result<(), CountersError> {
        let counters = &self.counters;
        let is_due = self.renewed.elapsed() >= counters.settings.lease / 3;
        let doubtful = counters.calls.take_doubtful();
        let restored = counters.restore_in(&doubtful).await;
        if restored.is_err() {
            counters.calls.doubt_leases(&doubtful);
        }
        let renewed = counters.renew_in(|partition| is_due || missing.contains(&partition)).await;
        if is_due && renewed.is_ok() {
            self.renewed = clock::instant();
        }
        restored.and(renewed)
    }

    /// Sends again some of the charges that Redis may have lost; those that it still knows change
    /// nothing.
    async fn send_again(&mut self) -> Result<(), CountersError> {
        let doubtful = self.counters.calls.doubtful_charges(SOME);
        let again = doubtful.iter().map(|charge| self.counters.settle_again(charge));
        let mut done = Ok(());
        for sent in join_all(again).await {
            match sent {
                Ok(was_lost) => self.lost_charges += u64::from(was_lost),
                Err(e) => done = Err(e),
            }
        }
        done
    }

    /// One line for all charges that one failure of Redis lost, when the last one is back.
    fn log_lost_charges(&mut self, all_are_back: bool) {
        let charges = self.lost_charges;
        if charges > 0 && all_are_back {
            tracing::error!(charges, "resent acknowledged charges that redis lost");
            self.lost_charges = 0;
        }
    }

    /// While Redis was down or read-only, no gateway could renew: living gateways need time to do so.
    async fn is_to_reap(&mut self, look: &Look) -> bool {
        let lease = self.counters.settings.lease;
        if self.reaped.is_some_and(|at| at.elapsed() < REAP.min(lease)) {
            return false;
        }
        self.reaped = Some(clock::instant());
        if self.counters.takes_writes().await.is_err() {
            self.writable = None;
            return false;
        }
        let writable = *self.writable.get_or_insert_with(clock::instant);
        let for_long = |since: Instant| since.elapsed() >= lease;
        for_long(writable) && look.contact.is_some_and(for_long)
    }

    /// Sends what dead processes left on disk.
    fn search(&mut self) {
        if self.searched.is_some_and(|at| at.elapsed() < SEARCH) {
            return;
        }
        self.searched = Some(clock::instant());
        let counters = Arc::clone(&self.counters);
        let Some(spool) = counters.spool.get().cloned() else { return };
        self.tasks.spawn(async move {
            let left = tokio::task::spawn_blocking(move || spool.left()).await;
            let left = match left {
                Ok(Ok(left)) => left,
                Ok(Err(error)) => {
                    return tracing::error!(%error, "failed to read the spool folder");
                }
                Err(_) => return,
            };
            for left in left {
                for some in left.charges.chunks(AT_ONCE) {
                    join_all(some.iter().cloned().map(|it| counters.settle_remembered(it))).await;
                }
                let charges = left.charges.len();
                tracing::warn!(charges, "sent charges that a dead process left in the spool");
                let _ = tokio::task::spawn_blocking(move || left.done()).await;
            }
        });
    }
}

impl RedisCounters {
    /// Whether Redis takes writes: each master of a cluster by itself. One that is short of replicas, or
    /// whose disk is full, answers reads all the same.
    pub(super) async fn takes_writes(&self) -> Result<(), CountersError> {
        let all = if self.link.is_cluster() { usize::MAX } else { 1 };
        let tried = Partition::all().take(all).map(async |partition| {
            let mut write = redis::cmd("SET");
            write.arg(partition.tried()).arg(1).arg("PX").arg(milliseconds(TRIED));
            self.link.ask::<String>(&write).await
        });
        try_join_all(tried).await?;
        Ok(())
    }

    /// Ends an outage, if there is one, once Redis takes writes: a replica answers reads.
    pub(super) async fn end_outage(&self) {
        if self.link.has_outage() && self.takes_writes().await.is_ok() {
            self.link.end_outage();
        }
    }

    /// Undoes takes whose answer never came.
    async fn withdraw_some(&self) -> Result<(), CountersError> {
        let doubted = self.calls.doubted();
        let withdrawn = doubted.iter().take(SOME).map(|lease| self.withdraw(lease));
        join_all(withdrawn).await.into_iter().collect()
    }

    async fn withdraw_all(&self) -> Result<(), CountersError> {
        while !self.calls.doubted().is_empty() {
            self.withdraw_some().await?;
        }
        Ok(())
    }
}

//! The quota of a gateway without Redis: [`MemoryQuota`], which a hot restart can transfer to another process while
//! calls run.
//!
//! It starts in this process. [`release`](TransferableQuota::release) stops it between two operations; operations
//! that arrive meanwhile wait. Then either the successor has it, and every operation is sent there
//! ([`forward`](TransferableQuota::forward)), or the transfer failed, and it continues here
//! ([`resume`](TransferableQuota::resume)).

use super::backend::{
    Claim, Correction, ExtendOutcome, QuotaBackend, QuotaUnavailable, RemovedUsage, Reset,
    TakeOutcome, UsageSnapshot,
};
use super::memory::MemoryQuota;
use super::model::OpenState;
use super::remote::RemoteQuota;
use async_trait::async_trait;
use domain::charge::Charge;
use domain::day::Day;
use domain::id::{KeyId, RequestId, UserId};
use jiff::Timestamp;
use journal::{Journal, NotReleased};
use std::sync::Arc;
use std::time::Duration;
use store::Used;
use tokio::sync::watch;
use tokio_util::task::TaskTracker;
use tokio_util::task::task_tracker::TaskTrackerToken;

/// Time limit for running operations to end before the quota is released.
const RELEASE_TIMEOUT: Duration = Duration::from_secs(10);

/// Quota that is in this process or in its successor; clones share it.
#[derive(Clone)]
pub struct TransferableQuota {
    own: Arc<MemoryQuota>,
    journal: Journal,
    /// Operations on `own`; closed while it is released.
    operations: TaskTracker,
    location: watch::Sender<Location>,
    tasks: TaskTracker,
}

/// Process that has the quota.
#[derive(Clone)]
enum Location {
    Local,
    /// It is being transferred, so operations wait.
    InTransfer,
    Successor(Arc<RemoteQuota>),
}

/// Back end that executes an operation.
enum Target {
    Own(TaskTrackerToken),
    Remote(Arc<RemoteQuota>),
}

impl TransferableQuota {
    /// Creates quota in this process; `journal` makes `own` durable. Settlements that wait for a transfer run
    /// on `tasks`.
    #[must_use]
    pub fn new(own: Arc<MemoryQuota>, journal: Journal, tasks: TaskTracker) -> Self {
        let (location, _) = watch::channel(Location::Local);
        Self { own, journal, operations: TaskTracker::new(), location, tasks }
    }

    /// Waits for running operations, and closes the journal with everything in the ledger. Returns the state that
    /// the ledger does not have. Operations wait from here on.
    ///
    /// # Errors
    /// [`NotReleased`] if that takes longer than 10 seconds; the quota then continues here.
    pub async fn release(&self) -> Result<OpenState, NotReleased> {
        self.location.send_replace(Location::InTransfer);
        self.operations.close();
        let released = async {
            self.operations.wait().await;
            self.journal.release().await
        };
        match tokio::time::timeout(RELEASE_TIMEOUT, released).await {
            Ok(Ok(())) => Ok(self.own.open_state()),
            _ => {
                self.resume();
                Err(NotReleased)
            }
        }
    }

    /// Continues in this process after a release.
    pub fn resume(&self) {
        self.journal.resume();
        self.operations.reopen();
        self.location.send_replace(Location::Local);
    }

    /// Sends every operation to the successor from here on.
    pub fn forward(&self, successor: Arc<RemoteQuota>) {
        self.location.send_replace(Location::Successor(successor));
    }

    async fn target(&self) -> Target {
        loop {
            let token = self.operations.token();
            // With the token held, a release that closes the tracker waits for this operation.
            if !self.operations.is_closed() {
                return Target::Own(token);
            }
            drop(token);
            let mut location = self.location.subscribe();
            let settled =
                location.wait_for(|location| !matches!(location, Location::InTransfer)).await;
            if let Ok(Location::Successor(successor)) = settled.as_deref() {
                return Target::Remote(Arc::clone(successor));
            }
        }
    }
}

#[async_trait]
impl QuotaBackend for TransferableQuota {
    async fn take(&self, claim: Claim, now: Timestamp) -> Result<TakeOutcome, QuotaUnavailable> {
        match self.target().await {
            Target::Own(_operation) => self.own.take(claim, now).await,
            Target::Remote(remote) => remote.take(claim, now).await,
        }
    }

    async fn extend(
        &self,
        request: RequestId,
        want: u64,
        least: u64,
    ) -> Result<ExtendOutcome, QuotaUnavailable> {
        match self.target().await {
            Target::Own(_operation) => self.own.extend(request, want, least).await,
            Target::Remote(remote) => remote.extend(request, want, least).await,
        }
    }

    async fn settle(&self, charge: Charge) -> u64 {
        let token = self.operations.token();
        if !self.operations.is_closed() {
            let overshoot = self.own.settle(charge).await;
            drop(token);
            return overshoot;
        }
        drop(token);
        // It must happen even if this future is dropped, so a task of its own waits.
        let quota = self.clone();
        let settled = self.tasks.spawn(async move {
            match quota.target().await {
                Target::Own(_operation) => quota.own.settle(charge).await,
                Target::Remote(remote) => remote.settle(charge).await,
            }
        });
        settled.await.unwrap_or(0)
    }

    async fn reset(&self, reset: &Reset) -> Result<RemovedUsage, QuotaUnavailable> {
        match self.target().await {
            Target::Own(_operation) => self.own.reset(reset).await,
            Target::Remote(remote) => remote.reset(reset).await,
        }
    }

    async fn correct(&self, correction: &Correction) -> Result<(), QuotaUnavailable> {
        match self.target().await {
            Target::Own(_operation) => self.own.correct(correction).await,
            Target::Remote(remote) => remote.correct(correction).await,
        }
    }

    async fn usage_snapshot(
        &self,
        user: UserId,
        key: Option<&KeyId>,
        day: Day,
        now: Timestamp,
    ) -> Result<UsageSnapshot, QuotaUnavailable> {
        match self.target().await {
            Target::Own(_operation) => self.own.usage_snapshot(user, key, day, now).await,
            Target::Remote(remote) => remote.usage_snapshot(user, key, day, now).await,
        }
    }

    async fn used_on(&self, day: Day) -> Result<Vec<Used>, QuotaUnavailable> {
        match self.target().await {
            Target::Own(_operation) => self.own.used_on(day).await,
            Target::Remote(remote) => remote.used_on(day).await,
        }
    }

    async fn ping(&self) -> Result<(), QuotaUnavailable> {
        match self.target().await {
            Target::Own(_operation) => self.own.ping().await,
            Target::Remote(remote) => remote.ping().await,
        }
    }

    fn open_leases(&self) -> u64 {
        match &*self.location.borrow() {
            Location::Successor(remote) => remote.open_leases(),
            Location::Local | Location::InTransfer => self.own.open_leases(),
        }
    }
}

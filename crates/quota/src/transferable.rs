//! Counters of this process that another process can take over while calls run.
//!
//! They are first this process' own. [`release`](TransferableQuota::release) stops them between two
//! operations; operations that come meanwhile wait. Then either the successor has them, and every operation is
//! sent there ([`forward`](TransferableQuota::forward)), or it failed, and they go on here
//! ([`resume`](TransferableQuota::resume)).

use super::backend::{
    Claim, Correction, ExtendOutcome, QuotaBackend, QuotaUnavailable, RemovedUsage, Reset,
    Standing, TakeOutcome,
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

/// How long operations under way may take before the counters are released.
const RELEASE_TIMEOUT: Duration = Duration::from_secs(10);

/// See the module.
#[derive(Clone)]
pub struct TransferableQuota {
    own: Arc<MemoryQuota>,
    journal: Journal,
    /// Operations on `own`; closed once it is not used any more.
    operations: TaskTracker,
    place: watch::Sender<Place>,
    tasks: TaskTracker,
}

/// Where the numbers are.
#[derive(Clone)]
enum Place {
    Here,
    /// Being handed over.
    Between,
    Successor(Arc<RemoteQuota>),
}

/// The counters that an operation is performed on.
enum Target {
    Own(TaskTrackerToken),
    Remote(Arc<RemoteQuota>),
}

impl TransferableQuota {
    /// Counters in this process; `journal` is what makes `own` durable. Settlements that wait for a hand-over
    /// run on `tasks`.
    #[must_use]
    pub fn new(own: Arc<MemoryQuota>, journal: Journal, tasks: TaskTracker) -> Self {
        let (place, _) = watch::channel(Place::Here);
        Self { own, journal, operations: TaskTracker::new(), place, tasks }
    }

    /// Waits for the operations under way, and closes the journal with everything in the ledger. Returns what
    /// the ledger does not have. Operations wait from here on.
    ///
    /// # Errors
    /// [`NotReleased`] if that takes too long; the counters go on here.
    pub async fn release(&self) -> Result<OpenState, NotReleased> {
        self.place.send_replace(Place::Between);
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

    /// Goes on here after a release.
    pub fn resume(&self) {
        self.journal.resume();
        self.operations.reopen();
        self.place.send_replace(Place::Here);
    }

    /// Sends every operation to the successor from here on.
    pub fn forward(&self, successor: Arc<RemoteQuota>) {
        self.place.send_replace(Place::Successor(successor));
    }

    async fn target(&self) -> Target {
        loop {
            let token = self.operations.token();
            // The token came first: who closed the tracker since then waits for it.
            if !self.operations.is_closed() {
                return Target::Own(token);
            }
            drop(token);
            let mut place = self.place.subscribe();
            let settled = place.wait_for(|place| !matches!(place, Place::Between)).await;
            if let Ok(Place::Successor(successor)) = settled.as_deref() {
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
        // It must happen even if this future is dropped, so it does not wait in it.
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

    async fn standing(
        &self,
        user: UserId,
        key: Option<&KeyId>,
        day: Day,
        now: Timestamp,
    ) -> Result<Standing, QuotaUnavailable> {
        match self.target().await {
            Target::Own(_operation) => self.own.standing(user, key, day, now).await,
            Target::Remote(remote) => remote.standing(user, key, day, now).await,
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
        match &*self.place.borrow() {
            Place::Successor(remote) => remote.open_leases(),
            Place::Here | Place::Between => self.own.open_leases(),
        }
    }
}

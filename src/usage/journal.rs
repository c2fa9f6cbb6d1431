//! The journal: leases, extensions, charges and adjustments, written in batches by one task.
//!
//! Writes that arrive while a batch is being committed form the next batch, so the rate of
//! commits follows the store's speed, not the number of calls. A lease that cannot be written is
//! refused at once; everything else is kept and written again until it succeeds.
//!
//! One queue holds them all, so entries of one request are written in the order they were given.
//! It is bounded without ever making a charge wait for room: at most [`WAITING_OPENS`] leases, for
//! each open lease one charge and the extensions its call still waits for, and the adjustments that
//! admins ask for by hand.

use super::writer::{Gauges, Item, Waiter, Writer};
use crate::account::charge::{Adjustment, Charge, Lease};
use crate::account::id::RequestId;
use crate::store::{Entry, Store};
use crate::telemetry::metrics::Metrics;
use crate::workers::Workers;
use futures_util::future::join_all;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio_util::sync::CancellationToken;

/// Leases that may wait to be written; more are refused, since they would wait for seconds.
const WAITING_OPENS: usize = 16_384;

/// A handle to the writer; clones share it.
#[derive(Clone)]
pub struct Journal {
    queue: mpsc::UnboundedSender<Item>,
    room: Arc<Semaphore>,
    state: Arc<State>,
}

/// What the writer tells of itself.
#[derive(Default)]
pub(super) struct State {
    pub(super) unwritable: AtomicU64,
    pub(super) is_away: AtomicBool,
}

/// The journal did not take a lease.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    /// The user changed since the caller record was read.
    #[error("the caller's record is out of date")]
    Stale,
    /// The store cannot write now.
    #[error("the ledger cannot be written")]
    Unavailable,
}

impl Journal {
    /// Starts the writer on `workers`. It ends after `stop` is cancelled, once the queue is empty and
    /// all of it is written: cancel `stop` when the last call has settled. Should the store stay
    /// away it goes on trying; what it holds then is charged from the open leases at the next start.
    #[must_use]
    #[expect(clippy::needless_pass_by_value, reason = "a part that runs owns what it was given")]
    pub fn start(
        store: Arc<dyn Store>,
        metrics: Arc<Metrics>,
        workers: &Workers,
        stop: CancellationToken,
    ) -> Self {
        Self::start_with(store, Gauges::of(&metrics), workers, stop)
    }

    pub(super) fn start_with(
        store: Arc<dyn Store>,
        gauges: Gauges,
        workers: &Workers,
        stop: CancellationToken,
    ) -> Self {
        let (queue, entries) = mpsc::unbounded_channel();
        let state = Arc::new(State::default());
        let writer = Writer::new(store, gauges, entries, Arc::clone(&state), stop);
        workers.spawn("journal", writer.run());
        Self { queue, room: Arc::new(Semaphore::new(WAITING_OPENS)), state }
    }

    /// Returns when the lease is durable. A caller that stops waiting cannot know whether it is,
    /// and must settle the request.
    ///
    /// # Errors
    /// [`OpenError`]; then no lease is left behind.
    pub async fn open(&self, lease: Lease) -> Result<(), OpenError> {
        let room = Arc::clone(&self.room).try_acquire_owned();
        let _room = room.map_err(|_| OpenError::Unavailable)?;
        let answer = self.enqueue(Entry::Open(lease)).ok_or(OpenError::Unavailable)?;
        answer.await.unwrap_or(Err(OpenError::Unavailable))
    }

    /// Returns when the raised reservation is durable. Waits for as long as the store is away.
    pub async fn extend(&self, request: RequestId, reserved: u64) {
        if let Some(answer) = self.enqueue(Entry::Extend { request, reserved }) {
            // No answer means that the writer ended; the lease then still holds what it held.
            let _ = answer.await;
        }
    }

    /// Returns when the charge is durable. Waits for as long as the store is away; the charge is
    /// kept even when the caller of this function does not wait for it, once it was polled.
    pub async fn settle(&self, charge: Charge) {
        let request = charge.request;
        let Some(answer) = self.enqueue(Entry::Settle(charge)) else {
            tracing::error!(
                %request,
                "charge came after the journal had ended, its lease is charged at the next start"
            );
            return;
        };
        // No answer means that the writer was ended by force; the lease is charged then.
        let _ = answer.await;
    }

    /// Returns when the adjustments are durable. Waits for as long as the store is away; they are kept
    /// even when the caller of this function does not wait for it, once it was polled. False when
    /// the journal has ended, or the store refuses one of them for good.
    pub async fn adjust(&self, adjustments: Vec<Adjustment>) -> bool {
        let entries = adjustments.into_iter().map(Entry::Adjust);
        let answers: Option<Vec<_>> = entries.map(|entry| self.enqueue(entry)).collect();
        let Some(answers) = answers else { return false };
        join_all(answers).await.iter().all(|answer| matches!(answer, Ok(Ok(()))))
    }

    /// Entries the store refused for good, each of which was buried. Anything but 0 is a defect.
    #[must_use]
    pub fn unwritable(&self) -> u64 {
        self.state.unwritable.load(Ordering::Relaxed)
    }

    /// Whether the latest try to write failed because the store cannot be written.
    #[must_use]
    pub fn is_away(&self) -> bool {
        self.state.is_away.load(Ordering::Relaxed)
    }

    /// `None` when the writer has ended.
    fn enqueue(&self, entry: Entry) -> Option<oneshot::Receiver<Result<(), OpenError>>> {
        let (waiter, answer) = oneshot::channel();
        self.queue.send((entry, Waiter(waiter))).ok()?;
        Some(answer)
    }
}

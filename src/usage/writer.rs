//! The task behind the journal: takes what waits, commits it, answers, and tries again.
//!
//! It alone decides what happens when the store fails. While it does, leases are refused within
//! [`PATIENCE`] of one try, so a call never hangs; all else is kept in order and tried for ever. An
//! entry that is itself to blame is singled out by halving the batches, buried, logged and counted,
//! so that it cannot hold up the others; its lease stays and is charged at the next start.

use super::journal::{OpenError, State};
use crate::account::id::RequestId;
use crate::clock;
use crate::store::{Entry, Store, StoreError, Written};
use crate::telemetry::backlog::Backlog;
use crate::telemetry::metrics::Metrics;
use metrics::{Counter, Histogram};
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

/// Entries in one transaction: beyond it a commit gets longer and no cheaper for each.
const BATCH: usize = 512;
const FIRST_RETRY: Duration = Duration::from_millis(20);
const LAST_RETRY: Duration = Duration::from_secs(1);
/// A lease waits for a retry that comes this soon, and is refused when the next one is further off.
const PATIENCE: Duration = Duration::from_millis(500);

/// What waits to be written, and who waits for it.
pub(super) type Item = (Entry, Waiter);

/// The other end may be gone: charges are written all the same.
pub(super) struct Waiter(pub(super) oneshot::Sender<Result<(), OpenError>>);

/// The metrics this task moves.
#[derive(Clone)]
pub(super) struct Gauges {
    pub(super) admitted: Counter,
    pub(super) persisted: Counter,
    pub(super) backlog: Backlog,
    pub(super) flush_seconds: Histogram,
    pub(super) dead: Counter,
}

pub(super) struct Writer {
    store: Arc<dyn Store>,
    gauges: Gauges,
    queue: mpsc::UnboundedReceiver<Item>,
    stop: CancellationToken,
    state: Arc<State>,
    /// Taken from the queue and not yet written, the oldest first.
    pending: VecDeque<Item>,
    /// How many to commit together: halved to find an entry that the store refuses.
    batch: usize,
    outage: Option<Outage>,
}

/// The store failed, and is asked again later and later.
#[derive(Clone, Copy)]
struct Outage {
    began: Instant,
    failures: u64,
    retry_at: Instant,
    pause: Duration,
}

impl Writer {
    pub(super) fn new(
        store: Arc<dyn Store>,
        gauges: Gauges,
        queue: mpsc::UnboundedReceiver<Item>,
        state: Arc<State>,
        stop: CancellationToken,
    ) -> Self {
        let pending = VecDeque::new();
        Self { store, gauges, queue, stop, state, pending, batch: BATCH, outage: None }
    }

    /// Runs until the queue is closed and everything in it is written.
    pub(super) async fn run(mut self) {
        loop {
            match self.outage {
                Some(outage) => self.wait_for_retry(outage).await,
                None => self.take_waiting().await,
            }
            if self.pending.is_empty() && self.queue.is_closed() && self.queue.is_empty() {
                self.gauges.backlog.set(0, clock::instant());
                return;
            }
            self.commit().await;
        }
    }

    /// Takes what waits. Waits itself only when there is nothing left to write.
    async fn take_waiting(&mut self) {
        while let Ok(item) = self.queue.try_recv() {
            self.pending.push_back(item);
            if self.pending.len() >= BATCH {
                return;
            }
        }
        while self.pending.is_empty() && self.receive().await {}
    }

    /// Goes on taking entries while the store is left alone.
    async fn wait_for_retry(&mut self, outage: Outage) {
        let retry = sleep_until(outage.retry_at);
        tokio::pin!(retry);
        let mut open = true;
        loop {
            tokio::select! {
                biased;
                () = &mut retry => return,
                more = self.receive(), if open => open = more,
            }
            if outage.retry_at.duration_since(Instant::now()) > PATIENCE
                && let Some((_, waiter)) = self.pending.pop_back_if(|item| is_open(item))
            {
                waiter.answer(Err(OpenError::Unavailable));
            }
        }
    }

    /// Receives entries, or closes the queue when told to stop; false when it is closed and empty.
    /// Safe to drop half way.
    async fn receive(&mut self) -> bool {
        let closed = self.queue.is_closed();
        tokio::select! {
            biased;
            item = self.queue.recv() => match item {
                Some(item) => self.pending.push_back(item),
                None => return false,
            },
            () = self.stop.cancelled(), if !closed => self.queue.close(),
        }
        true
    }

    async fn commit(&mut self) {
        let count = self.pending.len().min(self.batch);
        let (entries, waiters): (Vec<Entry>, Vec<Waiter>) = self.pending.drain(..count).unzip();
        self.show_depth(count);
        let began = Instant::now();
        let written = self.store.journal(&entries).await;
        self.gauges.flush_seconds.record(began.elapsed());
        match written {
            Ok(written) => self.committed(&entries, waiters, &written),
            Err(StoreError::Unavailable(why)) => {
                self.put_back(entries, waiters);
                self.store_failed(&why);
            }
            Err(e) if count > 1 => {
                tracing::warn!(error = %e, count, "store refused a batch, looking for the entry");
                self.put_back(entries, waiters);
                self.batch = count / 2;
            }
            Err(e) => self.give_up(entries, waiters, &e).await,
        }
        self.show_depth(0);
    }

    /// What waits, with `committing` entries that are being written.
    fn show_depth(&self, committing: usize) {
        let waiting = committing + self.pending.len() + self.queue.len();
        self.gauges.backlog.set(waiting as u64, clock::instant());
    }

    fn committed(&mut self, entries: &[Entry], waiters: Vec<Waiter>, written: &[Written]) {
        self.store_answered();
        self.gauges.backlog.progress(clock::instant());
        self.batch = (self.batch * 2).min(BATCH);
        let (mut admitted, mut persisted) = (0, 0);
        for ((entry, waiter), written) in entries.iter().zip(waiters).zip(written) {
            match (entry, written) {
                (_, Written::Stale) => {
                    waiter.answer(Err(OpenError::Stale));
                    continue;
                }
                (Entry::Open(_), Written::Done) => admitted += 1,
                (Entry::Settle(_), Written::Done) => persisted += 1,
                (Entry::Extend { .. } | Entry::Adjust(_), Written::Done) => {}
            }
            waiter.answer(Ok(()));
        }
        self.gauges.admitted.increment(admitted);
        self.gauges.persisted.increment(persisted);
    }

    fn store_answered(&mut self) {
        if let Some(Outage { began, failures, .. }) = self.outage.take() {
            let seconds = began.elapsed().as_secs_f64();
            tracing::info!(seconds, failures, "ledger writes recovered");
            self.state.is_away.store(false, Ordering::Relaxed);
        }
    }

    fn store_failed(&mut self, why: &str) {
        let now = Instant::now();
        let next = match self.outage {
            Some(Outage { began, failures, pause, .. }) => {
                let pause = (pause * 2).min(LAST_RETRY);
                Outage { began, failures: failures + 1, retry_at: now + pause, pause }
            }
            None => {
                tracing::warn!(error = why, "ledger write failed, retrying");
                let (retry_at, pause) = (now + FIRST_RETRY, FIRST_RETRY);
                Outage { began: now, failures: 1, retry_at, pause }
            }
        };
        self.state.is_away.store(true, Ordering::Relaxed);
        self.outage = Some(next);
        self.refuse_opens();
    }

    fn refuse_opens(&mut self) {
        for item in std::mem::take(&mut self.pending) {
            if is_open(&item) {
                item.1.answer(Err(OpenError::Unavailable));
            } else {
                self.pending.push_back(item);
            }
        }
    }

    fn put_back(&mut self, entries: Vec<Entry>, waiters: Vec<Waiter>) {
        for item in entries.into_iter().zip(waiters).rev() {
            self.pending.push_front(item);
        }
    }

    /// The store will never take these. Each is buried whole, or tried again when that cannot be
    /// done now either.
    async fn give_up(&mut self, entries: Vec<Entry>, waiters: Vec<Waiter>, why: &StoreError) {
        for entry in &entries {
            if let Err(StoreError::Unavailable(away)) = self.bury(entry, why).await {
                self.put_back(entries, waiters);
                self.store_failed(&away);
                return;
            }
            let request = request_of(entry);
            tracing::error!(%request, error = %why, ?entry, "store refused a journal entry for good");
            self.state.unwritable.fetch_add(1, Ordering::Relaxed);
            self.gauges.dead.increment(1);
        }
        self.store_answered();
        for waiter in waiters {
            waiter.answer(Err(OpenError::Unavailable));
        }
    }

    async fn bury(&self, entry: &Entry, why: &StoreError) -> Result<(), StoreError> {
        let text = serde_json::to_string(entry).expect("an entry is plain data");
        self.store.bury(&text, &why.to_string(), clock::now()).await
    }
}

impl Waiter {
    fn answer(self, answer: Result<(), OpenError>) {
        // Nobody waits any more: nothing to tell.
        let _ = self.0.send(answer);
    }
}

impl Gauges {
    pub(super) fn of(metrics: &Metrics) -> Self {
        Self {
            admitted: metrics.usage_admitted.clone(),
            persisted: metrics.usage_persisted.clone(),
            backlog: metrics.usage_backlog.clone(),
            flush_seconds: metrics.usage_flush_seconds.clone(),
            dead: metrics.usage_dead.clone(),
        }
    }
}

fn is_open((entry, _): &Item) -> bool {
    matches!(entry, Entry::Open(_))
}

fn request_of(entry: &Entry) -> RequestId {
    match entry {
        Entry::Open(lease) => lease.request,
        Entry::Extend { request, .. } => *request,
        Entry::Settle(charge) => charge.request,
        Entry::Adjust(adjustment) => adjustment.reset,
    }
}

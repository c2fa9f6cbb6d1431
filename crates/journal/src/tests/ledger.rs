//! A ledger in memory, and a journal over it, for the tests of the projection.

use super::super::log::LogSettings;
use super::super::recovery::JournalError;
use super::super::{Journal, JournalDeps, StartedJournal, start};
use super::{FakeDisk, charge, lease};
use domain::charge::{Charge, Lease, Status};
use domain::id::RequestId;
use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use store::fake::{Answer, FakeStore, Query};
use store::{self, Entry, JournalPosition, StoreError};
use system::supervisor::Supervisor;
use telemetry::metrics::Metrics;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

/// A ledger in memory that takes whole batches, and counts every entry that it is given.
#[derive(Clone, Default)]
pub(super) struct Ledger(Arc<Mutex<LedgerState>>);

#[derive(Default)]
pub(super) struct LedgerState {
    pub(super) rows: HashMap<RequestId, Charge>,
    pub(super) adjustments: usize,
    /// How often each charge was written.
    pub(super) times: HashMap<RequestId, usize>,
    pub(super) marks: HashMap<Uuid, u64>,
    pub(super) latest: Option<Uuid>,
    pub(super) dead_lettered: usize,
    pub(super) is_away: bool,
    pub(super) is_superseded: bool,
    /// A charge that it always rejects.
    pub(super) bad: Option<RequestId>,
    /// True if batches wait until the test releases them.
    pub(super) is_paused: bool,
    pub(super) pending: Vec<(Vec<Entry>, Option<JournalPosition>, Answer<()>)>,
}

impl Ledger {
    pub(super) fn state(&self) -> std::sync::MutexGuard<'_, LedgerState> {
        self.0.lock().unwrap()
    }

    /// The store over it; it answers until the store is dropped.
    pub(super) fn store(&self) -> Arc<dyn store::Ledger> {
        let (store, mut queries) = FakeStore::new();
        let ledger = self.clone();
        tokio::spawn(async move {
            while let Some(query) = queries.recv().await {
                ledger.answer(query);
            }
        });
        store
    }

    fn answer(&self, query: Query) {
        let mut state = self.state();
        match query {
            Query::Journal(batch, position, answer) if state.is_paused => {
                state.pending.push((batch, position, answer));
            }
            Query::Journal(batch, position, answer) => {
                let _ = answer.send(state.write(batch, position));
            }
            Query::Position(log, answer) => {
                let _ = answer.send(Ok(state.marks.get(&log).copied()));
            }
            Query::LatestPosition(answer) => {
                let latest =
                    state.latest.map(|log| JournalPosition { log, position: state.marks[&log] });
                let _ = answer.send(Ok(latest));
            }
            Query::DeadLetter(answer) => {
                state.dead_lettered += 1;
                let _ = answer.send(Ok(()));
            }
            Query::Caller(_) => panic!("no test queries callers"),
        }
    }

    /// Writes the one batch that waits. Returns the number of its entries.
    pub(super) fn release(&self) -> usize {
        let mut state = self.state();
        let (batch, position, answer) = state.pending.pop().expect("no batch waits");
        assert!(state.pending.is_empty(), "there is one batch at a time");
        let count = batch.len();
        let _ = answer.send(state.write(batch, position));
        count
    }

    /// A copy, as a killed process leaves it.
    pub(super) fn copy(&self) -> Self {
        let state = self.state();
        let copy = LedgerState {
            rows: state.rows.clone(),
            adjustments: state.adjustments,
            times: state.times.clone(),
            marks: state.marks.clone(),
            latest: state.latest,
            dead_lettered: state.dead_lettered,
            ..LedgerState::default()
        };
        Self(Arc::new(Mutex::new(copy)))
    }
}

impl LedgerState {
    fn write(
        &mut self,
        batch: Vec<Entry>,
        position: Option<JournalPosition>,
    ) -> Result<(), StoreError> {
        if self.is_superseded {
            return Err(StoreError::Superseded);
        }
        if self.is_away {
            return Err(StoreError::Unavailable("away".into()));
        }
        let is_bad = |entry: &Entry| matches!(entry, Entry::Settle(charge) if Some(charge.request) == self.bad);
        if batch.iter().any(is_bad) {
            return Err(StoreError::Corrupt("overflow".into()));
        }
        for entry in batch {
            match entry {
                Entry::Settle(charge) => {
                    *self.times.entry(charge.request).or_default() += 1;
                    let row = self.rows.entry(charge.request).or_insert_with(|| charge.clone());
                    if row.status == Status::Abandoned {
                        *row = charge;
                    }
                }
                Entry::Adjust(_) => self.adjustments += 1,
            }
        }
        if let Some(JournalPosition { log, position }) = position {
            let known = self.marks.entry(log).or_default();
            *known = position.max(*known);
            self.latest = Some(log);
        }
        Ok(())
    }
}

/// A journal over a disk and a ledger.
pub(super) struct Setup {
    pub(super) journal: Journal,
    pub(super) abandoned: usize,
    pub(super) workers: Supervisor,
    pub(super) stop: CancellationToken,
}

pub(super) const SMALL: LogSettings =
    LogSettings { synced: false, segment_bytes: 2_000, max_backlog_bytes: 1 << 20 };

impl Setup {
    pub(super) async fn start(disk: &FakeDisk, ledger: &Ledger) -> Self {
        Self::try_start(disk, ledger, SMALL).await.unwrap()
    }

    pub(super) async fn try_start(
        disk: &FakeDisk,
        ledger: &Ledger,
        settings: LogSettings,
    ) -> Result<Self, JournalError> {
        let (workers, stop) = (Supervisor::default(), CancellationToken::new());
        workers.shut_down();
        let parts = JournalDeps {
            disk: Arc::new(disk.clone()),
            settings,
            store: ledger.store(),
            metrics: Arc::new(Metrics::new(&[], &[])),
            workers: &workers,
            stop: stop.clone(),
        };
        let StartedJournal { journal, abandoned } = start(parts).await?;
        Ok(Self { journal, abandoned, workers, stop })
    }

    pub(super) async fn call(&self, tokens: u64) -> Lease {
        let lease = lease(tokens);
        self.journal.open(lease.clone()).await.unwrap();
        self.journal.settle(charge(&lease, tokens)).await;
        lease
    }

    pub(super) async fn end(self) {
        self.stop.cancel();
        self.workers.wait().await;
    }
}

/// Polls until it holds.
pub(super) async fn soon(what: &str, mut holds: impl FnMut() -> bool) {
    for _ in 0..2_000 {
        if holds() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    panic!("not soon: {what}");
}

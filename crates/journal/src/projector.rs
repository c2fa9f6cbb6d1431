//! The task that brings the journal into the ledger: batches in one transaction with their position.
//!
//! The store takes an entry with the position after it or not at all, so a kill at any point makes the next
//! start read on from there. While the store fails nothing is lost, and it is asked again later and later;
//! an entry that is itself to blame is singled out by halving, kept among the dead, logged and counted.

use super::disk::DiskFile;
use super::log::Log;
use super::reader::{FRAME_HEAD, MAX_PAYLOAD, Reader};
use super::record::Record;
use super::recovery::{self, JournalError, path, read};
use super::segment::{self, HEAD};
use super::tail::Segment;
use metrics::{Counter, Gauge, Histogram};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};
use store::{Entry, Ledger, Mark, StoreError};
use system::clock;
use telemetry::backlog::Backlog;
use telemetry::metrics::Metrics;
use tokio_util::sync::CancellationToken;

/// Bytes of the log in one batch: about two thousand calls. A larger one is no cheaper for each.
const BATCH: usize = MAX_PAYLOAD + FRAME_HEAD;
/// Time between batches: long enough that a transaction pays off, short enough that a batch delays no calls.
const PAUSE: Duration = Duration::from_millis(50);
const FIRST_RETRY: Duration = Duration::from_millis(20);
const LAST_RETRY: Duration = Duration::from_secs(1);
/// How long a store that fails is still asked once the gateway ends.
const LAST_TRIES: Duration = Duration::from_secs(5);

/// The metrics this task moves.
#[derive(Clone)]
pub(super) struct Gauges {
    pub(super) persisted: Counter,
    pub(super) backlog: Backlog,
    pub(super) behind: Gauge,
    pub(super) flush_seconds: Histogram,
    pub(super) dead: Counter,
}

impl Gauges {
    pub(super) fn of(metrics: &Metrics) -> Self {
        Self {
            persisted: metrics.usage_persisted.clone(),
            backlog: metrics.usage_backlog.clone(),
            behind: metrics.journal_behind.clone(),
            flush_seconds: metrics.usage_flush_seconds.clone(),
            dead: metrics.usage_dead.clone(),
        }
    }
}

pub(super) struct Projector {
    log: Arc<Log>,
    store: Arc<dyn Ledger>,
    gauges: Gauges,
    unwritable: Arc<AtomicU64>,
    /// Everything before it was read; what it held for the ledger is there.
    at: u64,
    /// The segment that `at` lies in, once it is open.
    open: Option<(Segment, Box<dyn DiskFile>)>,
    /// Entries of the ledger that were read.
    entries: u64,
    outage: Option<Outage>,
}

#[derive(Clone, Copy)]
struct Outage {
    began: Instant,
    failures: u64,
    pause: Duration,
}

/// A piece of the log.
struct Batch {
    entries: Vec<Entry>,
    end: u64,
}

impl Projector {
    pub(super) fn new(
        log: Arc<Log>,
        store: Arc<dyn Ledger>,
        gauges: Gauges,
        unwritable: Arc<AtomicU64>,
    ) -> Self {
        let at = log.projected();
        Self { log, store, gauges, unwritable, at, open: None, entries: 0, outage: None }
    }

    /// Runs until `stop` is cancelled and the ledger has everything, or cannot take it.
    pub(super) async fn run(&mut self, stop: &CancellationToken) {
        let mut stopped_at = None;
        loop {
            if stop.is_cancelled() {
                stopped_at.get_or_insert_with(clock::instant);
            }
            match self.catch_up().await {
                Ok(()) if stopped_at.is_some() => return,
                Ok(()) => {
                    stop.run_until_cancelled(self.log.arrived.notified()).await;
                    stop.run_until_cancelled(tokio::time::sleep(PAUSE)).await;
                }
                Err(error) => {
                    let pause = self.failed(&error);
                    let since = stopped_at.map(|at| clock::instant().duration_since(at));
                    if since.is_some_and(|since| since > LAST_TRIES) {
                        let bytes = self.log.behind();
                        tracing::warn!(
                            bytes,
                            "shutdown before the whole journal was written to the ledger; the rest is written at the next start"
                        );
                        return;
                    }
                    tokio::time::sleep(pause).await;
                }
            }
        }
    }

    /// Writes everything that is in the log now.
    pub(super) async fn catch_up(&mut self) -> Result<(), JournalError> {
        while let Some(batch) = self.next()? {
            self.show_depth(batch.entries.len());
            let count = batch.entries.len() as u64;
            if count > 0 {
                let began = clock::instant();
                let done = self.write(&batch.entries, Some(self.mark(batch.end))).await;
                self.gauges.flush_seconds.record(clock::instant().duration_since(began));
                done.inspect_err(|_| self.open = None)?;
                self.gauges.backlog.progress(clock::instant());
            }
            if count > 0 {
                self.recovered();
            }
            (self.at, self.entries) = (batch.end, self.entries + count);
            self.log.set_projected(batch.end);
            self.show_depth(0);
            self.delete_segments().await?;
        }
        Ok(())
    }

    fn mark(&self, position: u64) -> Mark {
        Mark { log: self.log.id().0, position }
    }

    /// The next piece of the log; `None` when all of it was read. Reads it again until it was written.
    fn next(&mut self) -> Result<Option<Batch>, JournalError> {
        let io = |source| JournalError::Io { folder: self.log.disk().name(), source };
        let segments = self.log.segments();
        let mut place = recovery::segment_of(&segments, self.at);
        let Some(mut segment) = segments.get(place).copied() else { return Ok(None) };
        if self.at >= segment.end() {
            place += 1;
            let Some(next) = segments.get(place) else { return Ok(None) };
            segment = *next;
        }
        if self.open.as_ref().is_none_or(|(open, _)| open.base != segment.base) {
            let file = self.log.disk().open(&segment::file_name(segment.base)).map_err(io)?;
            self.open = Some((segment, file));
        }
        let Some((_, file)) = &self.open else { return Ok(None) };
        let offset = self.at.saturating_sub(segment.base).max(HEAD as u64);
        let bytes = read(&**file, offset, segment.length, BATCH).map_err(io)?;
        let mut records = Reader::new(&bytes, self.log.id().seed());
        let entries = records.by_ref().filter_map(|framed| ledger_entry(framed.record)).collect();
        let read = records.at() as u64;
        let end = segment.base + offset + read;
        if read > 0 || (offset == HEAD as u64 && segment.length == offset && self.at < end) {
            return Ok(Some(Batch { entries, end }));
        }
        let at = offset;
        Err(JournalError::Cut { file: path(self.log.disk(), segment.base), at })
    }

    /// Writes entries with their mark; those that the ledger will never take are kept among the dead.
    async fn write(&self, entries: &[Entry], mark: Option<Mark>) -> Result<(), StoreError> {
        let mut parts = vec![(entries, mark)];
        while let Some((part, mark)) = parts.pop() {
            match self.store.journal(part, mark).await {
                Ok(()) => {
                    let charges = part.iter().filter(|entry| matches!(entry, Entry::Settle(_)));
                    self.gauges.persisted.increment(charges.count() as u64);
                }
                Err(StoreError::Corrupt(why)) if part.len() > 1 => {
                    tracing::warn!(
                        error = why,
                        count = part.len(),
                        "ledger rejected a batch, searching for the invalid entry"
                    );
                    let (first, second) = part.split_at(part.len() / 2);
                    parts.extend([(second, mark), (first, None)]);
                }
                Err(StoreError::Corrupt(why)) if part.len() == 1 => {
                    self.bury(&part[0], &why).await?;
                    parts.push((&[], mark));
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    async fn bury(&self, entry: &Entry, why: &str) -> Result<(), StoreError> {
        let text = serde_json::to_string(entry).expect("an entry is plain data");
        self.store.dead_letter(&text, why, clock::now()).await?;
        tracing::error!(
            error = why,
            ?entry,
            "ledger permanently rejected a journal entry, moved it to the dead letters"
        );
        self.unwritable.fetch_add(1, Ordering::Relaxed);
        self.gauges.dead.increment(1);
        Ok(())
    }

    /// Deletes segments that lie before the one being read, after the ledger knows that it has them.
    async fn delete_segments(&mut self) -> Result<(), JournalError> {
        let segments = self.log.segments();
        let place = recovery::segment_of(&segments, self.at);
        let Some(current) = segments.get(place).filter(|_| place > 0) else { return Ok(()) };
        self.store.journal(&[], Some(self.mark(self.at))).await?;
        if let Err(error) = self.log.delete_before(current.base) {
            tracing::warn!(%error, "failed to delete a journal segment, retrying later");
        }
        Ok(())
    }

    /// What waits, with `in_batch` entries that are being written.
    fn show_depth(&self, in_batch: usize) {
        let waiting = self.log.entries().saturating_sub(self.entries).max(in_batch as u64);
        self.gauges.backlog.set(waiting, clock::instant());
        self.gauges.behind.set(self.log.behind() as f64);
    }

    fn recovered(&mut self) {
        if let Some(Outage { began, failures, .. }) = self.outage.take() {
            let seconds = clock::instant().duration_since(began).as_secs_f64();
            tracing::info!(seconds, failures, "ledger writes recovered");
            self.log.set_superseded(false);
        }
    }

    /// Returns the time to let pass before the next try.
    fn failed(&mut self, error: &JournalError) -> Duration {
        self.show_depth(0);
        if matches!(error, JournalError::Ledger(StoreError::Superseded)) {
            self.log.set_superseded(true);
        }
        let outage = match self.outage {
            Some(Outage { began, failures, pause }) => {
                Outage { began, failures: failures + 1, pause: (pause * 2).min(LAST_RETRY) }
            }
            None => {
                match error {
                    JournalError::Ledger(error) => {
                        tracing::warn!(%error, "ledger write failed, retrying; charges stay in the journal");
                    }
                    _ => tracing::error!(%error, "failed to read the journal, retrying"),
                }
                Outage { began: clock::instant(), failures: 1, pause: FIRST_RETRY }
            }
        };
        self.outage = Some(outage);
        outage.pause
    }
}

/// What of the log goes into the ledger.
pub(super) fn ledger_entry(record: Record) -> Option<Entry> {
    match record {
        Record::Settle(charge) => Some(Entry::Settle(charge)),
        Record::Adjust(adjustment) => Some(Entry::Adjust(adjustment)),
        Record::Open(_) | Record::Extend { .. } | Record::Withdraw { .. } => None,
    }
}

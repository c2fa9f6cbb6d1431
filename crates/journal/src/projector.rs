//! Background task that writes the journal to the ledger: each batch in one transaction with its position.
//!
//! The store writes an entry together with the position after it or not at all, so after a kill at any point the
//! next start continues from there. While the store fails nothing is lost, and writes are retried with backoff. An
//! entry that the ledger rejects is found by halving the batch, dead-lettered, logged and counted.

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
use store::{Entry, JournalPosition, Ledger, StoreError};
use system::clock;
use telemetry::backlog::Backlog;
use telemetry::metrics::Metrics;
use tokio_util::sync::CancellationToken;

/// Bytes of the log in one batch: about two thousand calls. A larger batch costs no less per call.
const BATCH_BYTES: usize = MAX_PAYLOAD + FRAME_HEAD;
/// Pause between rounds: long enough that a transaction pays off, short enough that a batch delays no calls.
const ROUND_INTERVAL: Duration = Duration::from_millis(50);
const RETRY_MIN_INTERVAL: Duration = Duration::from_millis(20);
const RETRY_MAX_INTERVAL: Duration = Duration::from_secs(1);
/// Time for which writes to a failing store are retried at shutdown.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(5);

/// Metrics of the projector.
#[derive(Clone)]
pub(super) struct ProjectorMetrics {
    pub(super) persisted: Counter,
    pub(super) backlog: Backlog,
    pub(super) behind: Gauge,
    pub(super) flush_seconds: Histogram,
    pub(super) dead: Counter,
}

impl ProjectorMetrics {
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

/// Writes the journal to the ledger; see [`Projector::run`].
pub(super) struct Projector {
    log: Arc<Log>,
    store: Arc<dyn Ledger>,
    gauges: ProjectorMetrics,
    dead_letters: Arc<AtomicU64>,
    /// Position up to which the log was read and written to the ledger.
    at: u64,
    /// Open file of the segment that contains `at`.
    open: Option<(Segment, Box<dyn DiskFile>)>,
    /// Number of ledger entries that were written.
    entries: u64,
    outage: Option<Outage>,
}

#[derive(Clone, Copy)]
struct Outage {
    began: Instant,
    failures: u64,
    pause: Duration,
}

/// Ledger entries of a part of the log, which ends at position `end`.
struct Batch {
    entries: Vec<Entry>,
    end: u64,
    /// True if the log ended there when the batch was read.
    is_latest: bool,
}

/// Result of one step of the projector.
#[derive(PartialEq)]
enum Progress {
    /// Nothing: the ledger has the whole log.
    AtEnd,
    /// Wrote the log up to where it ended when the step began.
    WroteLatest,
    /// Wrote a batch; more of the log was there already.
    Behind,
}

impl Projector {
    pub(super) fn new(
        log: Arc<Log>,
        store: Arc<dyn Ledger>,
        gauges: ProjectorMetrics,
        dead_letters: Arc<AtomicU64>,
    ) -> Self {
        let at = log.ledger_position();
        Self { log, store, gauges, dead_letters, at, open: None, entries: 0, outage: None }
    }

    /// Runs until `stop` is cancelled and the ledger has everything, or fails for [`SHUTDOWN_TIMEOUT`].
    pub(super) async fn run(&mut self, stop: &CancellationToken) {
        let mut stopped_at = None;
        loop {
            if stop.is_cancelled() {
                stopped_at.get_or_insert_with(clock::instant);
            }
            let written = match stopped_at {
                Some(_) => self.catch_up().await,
                None => self.write_round().await,
            };
            match written {
                Ok(()) if stopped_at.is_some() => return,
                Ok(()) => {
                    // Otherwise entries remain, and no further one may arrive to wake the projector.
                    if self.log.backlog_bytes() == 0 {
                        stop.run_until_cancelled(self.log.arrived.notified()).await;
                    }
                    stop.run_until_cancelled(tokio::time::sleep(ROUND_INTERVAL)).await;
                }
                Err(error) => {
                    let pause = self.failed(&error);
                    let since = stopped_at.map(|at| clock::instant().duration_since(at));
                    if since.is_some_and(|since| since > SHUTDOWN_TIMEOUT) {
                        let bytes = self.log.backlog_bytes();
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

    /// Writes everything in the log to the ledger.
    pub(super) async fn catch_up(&mut self) -> Result<(), JournalError> {
        while self.write_next().await? != Progress::AtEnd {}
        Ok(())
    }

    /// Writes the log as it is now to the ledger. Entries that arrive during the last batch wait for the next round: they would
    /// make a small batch, and each batch has a fixed cost.
    async fn write_round(&mut self) -> Result<(), JournalError> {
        loop {
            match self.write_next().await? {
                Progress::Behind => {}
                // The step at the end of the log ends the outage; no further entry may arrive to start another round.
                Progress::WroteLatest if self.outage.is_some() => {}
                Progress::WroteLatest | Progress::AtEnd => return Ok(()),
            }
        }
    }

    /// Writes the next batch to the ledger.
    async fn write_next(&mut self) -> Result<Progress, JournalError> {
        let Some(Batch { entries, end, is_latest }) = self.next()? else {
            // If the last step failed after its batch, nothing else deletes the segments and ends the outage.
            if self.outage.is_some() {
                self.delete_segments().await?;
                self.recovered();
            }
            return Ok(Progress::AtEnd);
        };
        let count = entries.len();
        self.show_depth(count);
        if count > 0 {
            let began = clock::instant();
            let done = self.write(&entries, Some(self.position(end))).await;
            self.gauges.flush_seconds.record(clock::instant().duration_since(began));
            done.inspect_err(|_| self.open = None)?;
            self.gauges.backlog.progress(clock::instant());
            self.recovered();
        }
        (self.at, self.entries) = (end, self.entries + count as u64);
        self.log.set_ledger_position(end);
        self.show_depth(0);
        self.delete_segments().await?;
        Ok(if is_latest { Progress::WroteLatest } else { Progress::Behind })
    }

    fn position(&self, position: u64) -> JournalPosition {
        JournalPosition { log: self.log.id().0, position }
    }

    /// Reads the next batch; `None` at the end of the log. Returns the same batch until it was written.
    fn next(&mut self) -> Result<Option<Batch>, JournalError> {
        let io = |source| JournalError::Io { folder: self.log.disk().name(), source };
        let segments = self.log.segments();
        let mut index = recovery::segment_of(&segments, self.at);
        let Some(mut segment) = segments.get(index).copied() else { return Ok(None) };
        if self.at >= segment.end() {
            index += 1;
            let Some(next) = segments.get(index) else { return Ok(None) };
            segment = *next;
        }
        if self.open.as_ref().is_none_or(|(open, _)| open.base != segment.base) {
            let file = self.log.disk().open(&segment::file_name(segment.base)).map_err(io)?;
            self.open = Some((segment, file));
        }
        let Some((_, file)) = &self.open else { return Ok(None) };
        let offset = self.at.saturating_sub(segment.base).max(HEAD as u64);
        let bytes = read(&**file, offset, segment.length, BATCH_BYTES).map_err(io)?;
        let mut records = Reader::new(&bytes, self.log.id().seed());
        let entries = records.by_ref().filter_map(|framed| ledger_entry(framed.record)).collect();
        let read = records.at() as u64;
        let end = segment.base + offset + read;
        let is_latest = index + 1 == segments.len() && bytes.len() < BATCH_BYTES;
        if read > 0 || (offset == HEAD as u64 && segment.length == offset && self.at < end) {
            return Ok(Some(Batch { entries, end, is_latest }));
        }
        Err(JournalError::Cut { file: path(self.log.disk(), segment.base), at: offset })
    }

    /// Writes entries with the position after them; those that the ledger rejects permanently are dead-lettered.
    async fn write(
        &self,
        entries: &[Entry],
        position: Option<JournalPosition>,
    ) -> Result<(), StoreError> {
        let mut parts = vec![(entries, position)];
        while let Some((part, position)) = parts.pop() {
            match self.store.write_batch(part, position).await {
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
                    parts.extend([(second, position), (first, None)]);
                }
                Err(StoreError::Corrupt(why)) if part.len() == 1 => {
                    self.dead_letter(&part[0], &why).await?;
                    parts.push((&[], position));
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    async fn dead_letter(&self, entry: &Entry, why: &str) -> Result<(), StoreError> {
        let text = serde_json::to_string(entry).expect("an entry is plain data");
        self.store.dead_letter(&text, why, clock::now()).await?;
        tracing::error!(
            error = why,
            ?entry,
            "ledger permanently rejected a journal entry, moved it to the dead letters"
        );
        self.dead_letters.fetch_add(1, Ordering::Relaxed);
        self.gauges.dead.increment(1);
        Ok(())
    }

    /// Deletes the segments before the current one, after their position was written to the ledger.
    async fn delete_segments(&mut self) -> Result<(), JournalError> {
        let segments = self.log.segments();
        let index = recovery::segment_of(&segments, self.at);
        let Some(current) = segments.get(index).filter(|_| index > 0) else { return Ok(()) };
        self.store.write_batch(&[], Some(self.position(self.at))).await?;
        if let Err(error) = self.log.delete_before(current.base) {
            tracing::warn!(%error, "failed to delete a journal segment, retrying with the next batch");
        }
        Ok(())
    }

    /// Exports the backlog, including the `in_batch` entries that are being written.
    fn show_depth(&self, in_batch: usize) {
        let waiting = self.log.entries().saturating_sub(self.entries).max(in_batch as u64);
        self.gauges.backlog.set(waiting, clock::instant());
        self.gauges.behind.set(self.log.backlog_bytes() as f64);
    }

    fn recovered(&mut self) {
        if let Some(Outage { began, failures, .. }) = self.outage.take() {
            let seconds = clock::instant().duration_since(began).as_secs_f64();
            tracing::info!(seconds, failures, "ledger writes recovered");
            self.log.set_superseded(false);
        }
    }

    /// Records a failure. Returns the pause before the retry.
    fn failed(&mut self, error: &JournalError) -> Duration {
        self.show_depth(0);
        if matches!(error, JournalError::Ledger(StoreError::Superseded)) {
            self.log.set_superseded(true);
        }
        let outage = match self.outage {
            Some(Outage { began, failures, pause }) => {
                Outage { began, failures: failures + 1, pause: (pause * 2).min(RETRY_MAX_INTERVAL) }
            }
            None => {
                match error {
                    JournalError::Ledger(error) => {
                        tracing::warn!(%error, "ledger write failed, retrying; charges stay in the journal");
                    }
                    _ => tracing::error!(%error, "failed to read the journal, retrying"),
                }
                Outage { began: clock::instant(), failures: 1, pause: RETRY_MIN_INTERVAL }
            }
        };
        self.outage = Some(outage);
        outage.pause
    }
}

/// Returns the ledger entry of a record; `None` if it has none.
pub(super) fn ledger_entry(record: Record) -> Option<Entry> {
    match record {
        Record::Settle(charge) => Some(Entry::Settle(charge)),
        Record::Adjust(adjustment) => Some(Entry::Adjust(adjustment)),
        Record::Open(_) | Record::Extend { .. } | Record::Withdraw { .. } => None,
    }
}

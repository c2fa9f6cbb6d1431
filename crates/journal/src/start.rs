//! Startup of the journal: reads what a dead process left, writes it to the ledger, and charges its open leases.

use super::Journal;
use super::disk::Disk;
use super::leases::OpenLeases;
use super::log::{Log, LogSettings, LogState};
use super::projector::{Projector, ProjectorMetrics, ledger_entry};
use super::record::Record;
use super::recovery::{self, JournalError, Scan, SegmentList, TornRecord};
use super::segment::{self, LogId};
use super::tail::{Segment, create_segment};
use domain::charge::{Charge, Lease};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use store::{JournalPosition, Ledger};
use system::clock;
use system::supervisor::Supervisor;
use telemetry::metrics::Metrics;
use tokio_util::sync::CancellationToken;

/// Dependencies of a journal.
pub struct JournalDeps<'a> {
    pub disk: Arc<dyn Disk>,
    pub settings: LogSettings,
    pub store: Arc<dyn Ledger>,
    pub metrics: Arc<Metrics>,
    pub workers: &'a Supervisor,
    /// Cancelled when the last call has settled; the rest of the journal is then written to the ledger.
    pub stop: CancellationToken,
}

/// A running journal.
pub struct StartedJournal {
    pub journal: Journal,
    /// Number of calls that an earlier process left open and that are now charged.
    pub abandoned: usize,
}

/// A running journal, and the calls that are open in it.
pub struct AdoptedJournal {
    pub journal: Journal,
    pub open: Vec<Lease>,
}

/// Reads the log, writes the entries that the ledger lacks, charges every open lease as `abandoned`, and starts the
/// projector. The ledger is complete when this returns.
///
/// # Errors
/// [`JournalError`]: the folder, a record or the ledger cannot be used.
pub async fn start(parts: JournalDeps<'_>) -> Result<StartedJournal, JournalError> {
    let (workers, stop) = (parts.workers.clone(), parts.stop.clone());
    let (journal, projector, abandoned) = charge_abandoned_leases(parts).await?;
    run(&journal, projector, &workers, stop);
    Ok(StartedJournal { journal, abandoned })
}

/// Like [`start`], but the open leases stay open: they belong to a process that still serves their calls.
///
/// # Errors
/// The errors of [`start`].
pub async fn adopt(parts: JournalDeps<'_>) -> Result<AdoptedJournal, JournalError> {
    let (workers, stop) = (parts.workers.clone(), parts.stop.clone());
    let resumed = read_released(&*parts.disk, &*parts.store).await?;
    let ProjectedJournal { journal, projector, leases } = open(parts, resumed).await?;
    run(&journal, projector, &workers, stop);
    Ok(AdoptedJournal { journal, open: leases })
}

fn run(journal: &Journal, projector: Projector, workers: &Supervisor, stop: CancellationToken) {
    let release = Arc::clone(&journal.shared.release);
    workers.spawn("journal", async move { release.run(projector, stop).await });
}

/// Writes an abandoned journal to the ledger, and charges its open leases. Returns the number of leases.
///
/// # Errors
/// The errors of [`start`].
pub async fn finish(parts: JournalDeps<'_>) -> Result<usize, JournalError> {
    let (_, _, abandoned) = charge_abandoned_leases(parts).await?;
    Ok(abandoned)
}

/// A journal whose entries are all in the ledger.
struct ProjectedJournal {
    journal: Journal,
    projector: Projector,
    leases: Vec<Lease>,
}

async fn open(parts: JournalDeps<'_>, resumed: LogState) -> Result<ProjectedJournal, JournalError> {
    let JournalDeps { disk, settings, store, metrics, .. } = parts;
    let leases = resumed.leases.to_vec();
    let failures = metrics.journal_failures.clone();
    let folder = disk.name();
    let log = Log::resume(disk, settings, resumed, failures)
        .map_err(|source| JournalError::Io { folder, source })?;
    let dead_letters = Arc::new(AtomicU64::new(0));
    let journal =
        Journal::new(Arc::clone(&log), metrics.usage_admitted.clone(), Arc::clone(&dead_letters));
    let mut projector = Projector::new(log, store, ProjectorMetrics::of(&metrics), dead_letters);
    projector.catch_up().await?;
    Ok(ProjectedJournal { journal, projector, leases })
}

async fn charge_abandoned_leases(
    parts: JournalDeps<'_>,
) -> Result<(Journal, Projector, usize), JournalError> {
    let resumed = resume(&*parts.disk, &*parts.store, parts.settings).await?;
    let ProjectedJournal { journal, mut projector, leases } = open(parts, resumed).await?;
    let log = &journal.shared.log;
    let mut appended = 0;
    for lease in &leases {
        appended = log.push(Record::Settle(Charge::abandoned_in_full(lease)));
    }
    log.write_with_others(appended).await;
    log.wait_durable(appended, true).await;
    projector.catch_up().await?;
    Ok((journal, projector, leases.len()))
}

/// Reads a log that the previous process has released. Nothing in the folder is changed, because that process may
/// have resumed meanwhile and still write there.
async fn read_released(disk: &dyn Disk, store: &dyn Ledger) -> Result<LogState, JournalError> {
    let not_released = || JournalError::NotReleased { folder: disk.name() };
    let listed = recovery::list(disk)?.ok_or_else(not_released)?;
    let position = store.position_in(listed.log.0).await?.unwrap_or(0);
    let Scan { leases, entries, torn } = recovery::scan(disk, &listed, position)?;
    let SegmentList { log: id, segments } = listed;
    let first = segments.first().map_or(0, |first| first.base);
    let end = segments.last().map_or(0, Segment::end);
    if torn.is_some() || entries > 0 || position > end {
        return Err(not_released());
    }
    Ok(LogState { id, segments, leases, ledger_position: position.max(first), entries })
}

/// Reads the log, or creates one, and prepares it for writing.
async fn resume(
    disk: &dyn Disk,
    store: &dyn Ledger,
    settings: LogSettings,
) -> Result<LogState, JournalError> {
    let io = |source| JournalError::Io { folder: disk.name(), source };
    recovery::remove_drafts(disk).map_err(io)?;
    let latest = store.latest_position().await?;
    let Some(listed) = recovery::list(disk)? else {
        let id = LogId(clock::unique());
        warn_of_other_log(disk, id, latest);
        let (_, first) = create_segment(disk, id, 0, &[]).map_err(io)?;
        let (segments, leases) = (vec![first], OpenLeases::default());
        return Ok(LogState { id, segments, leases, ledger_position: 0, entries: 0 });
    };
    warn_of_other_log(disk, listed.log, latest);
    let known = store.position_in(listed.log.0).await?;
    let position = known.unwrap_or(0);
    let scanned = recovery::scan(disk, &listed, position)?;
    if known.is_none() && scanned.entries > 0 {
        tracing::warn!(
            log = %listed.log, folder = disk.name(), charges = scanned.entries,
            "the database has no charges of this journal yet; writing all of them"
        );
    }
    if listed.segments.last().is_some_and(|last| position > last.end()) {
        rescue(disk, &listed, store).await?;
    }
    let first = listed.segments.first().map_or(0, |first| first.base);
    if position < first {
        tracing::warn!(
            log = %listed.log, from = position, to = first,
            "the journal starts after the position stored in the database; charges in between are missing \
             (was an older database restored?)"
        );
    }
    continue_log(disk, listed, scanned, position, settings).map_err(io)
}

/// Writes every charge in the folder to the ledger, which records each once. For a folder that ends before the
/// database's position: it may be an older copy that was written to.
async fn rescue(
    disk: &dyn Disk,
    listed: &SegmentList,
    store: &dyn Ledger,
) -> Result<(), JournalError> {
    const RESCUE_BATCH: usize = 1_000;
    for segment in &listed.segments {
        let mut entries = Vec::new();
        recovery::each_record(disk, listed.log, *segment, |_, record| {
            entries.extend(ledger_entry(record));
        })?;
        for part in entries.chunks(RESCUE_BATCH) {
            store.write_batch(part, None).await?;
        }
    }
    Ok(())
}

/// Truncates a torn record. A log that is shorter than the database's position continues at that position.
fn continue_log(
    disk: &dyn Disk,
    listed: SegmentList,
    scanned: Scan,
    position: u64,
    settings: LogSettings,
) -> std::io::Result<LogState> {
    let SegmentList { log: id, mut segments } = listed;
    if let (Some(TornRecord { base, at, length }), Some(last)) = (scanned.torn, segments.last_mut())
    {
        let file = disk.open(&segment::file_name(base))?;
        file.truncate(at)?;
        if settings.synced {
            file.sync()?;
        }
        last.length = at;
        tracing::warn!(
            file = recovery::path(disk, base),
            at,
            bytes = length - at,
            "truncated the journal: its last record was incomplete"
        );
    }
    let end = segments.last().map_or(0, Segment::end);
    if position > end {
        tracing::warn!(
            log = %id, end, position,
            "the journal ends before the position stored in the database (a power cut?); continuing from there"
        );
        let (_, next) = create_segment(disk, id, position, &scanned.leases.to_vec())?;
        for old in segments.drain(..) {
            disk.remove(&segment::file_name(old.base))?;
        }
        segments.push(next);
    }
    let Scan { leases, entries, .. } = scanned;
    let first = segments.first().map_or(0, |first| first.base);
    Ok(LogState { id, segments, leases, ledger_position: position.max(first), entries })
}

fn warn_of_other_log(disk: &dyn Disk, id: LogId, latest: Option<JournalPosition>) {
    if let Some(JournalPosition { log, position }) = latest.filter(|latest| latest.log != id.0) {
        tracing::warn!(
            log = %id, folder = disk.name(), before = %LogId(log), position,
            "the database was last written from a different journal; unwritten charges of that journal stay in \
             its folder"
        );
    }
}

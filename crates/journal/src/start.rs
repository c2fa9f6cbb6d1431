//! The start of the journal: what a dead process left is read, written to the ledger, and charged.

use super::Journal;
use super::disk::Disk;
use super::leases::OpenLeases;
use super::log::{Log, LogSettings, Resumed};
use super::projector::{Gauges, Projector, ledger_entry};
use super::record::Record;
use super::recovery::{self, JournalError, Listed, Scanned, Torn};
use super::segment::{self, LogId};
use super::tail::{Segment, make_segment};
use domain::charge::{Charge, Lease};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use store::{Ledger, Mark};
use system::clock;
use system::supervisor::Supervisor;
use telemetry::metrics::Metrics;
use tokio_util::sync::CancellationToken;

/// What a journal works with.
pub struct Parts<'a> {
    pub disk: Arc<dyn Disk>,
    pub settings: LogSettings,
    pub store: Arc<dyn Ledger>,
    pub metrics: Arc<Metrics>,
    pub workers: &'a Supervisor,
    /// Cancelled when the last call has settled; the ledger then gets what is left.
    pub stop: CancellationToken,
}

/// A journal that runs.
pub struct Started {
    pub journal: Journal,
    /// Calls that an earlier process left open, now charged.
    pub abandoned: usize,
}

/// A journal that runs, and the calls that are open in it.
pub struct Adopted {
    pub journal: Journal,
    pub open: Vec<Lease>,
}

/// Reads the log, writes to the ledger what it lacks, charges every lease without an end as `abandoned`, and
/// starts the projector. The ledger is complete when this returns.
///
/// # Errors
/// [`JournalError`]: the folder, a record or the ledger cannot be used.
pub async fn start(parts: Parts<'_>) -> Result<Started, JournalError> {
    let (workers, stop) = (parts.workers.clone(), parts.stop.clone());
    let (journal, projector, abandoned) = settle_past(parts).await?;
    run(&journal, projector, &workers, stop);
    Ok(Started { journal, abandoned })
}

/// As [`start`], but the open leases stay open: they belong to a process that still serves their calls.
///
/// # Errors
/// As [`start`].
pub async fn adopt(parts: Parts<'_>) -> Result<Adopted, JournalError> {
    let (workers, stop) = (parts.workers.clone(), parts.stop.clone());
    let resumed = handed_over(&*parts.disk, &*parts.store).await?;
    let Opened { journal, projector, leases } = open(parts, resumed).await?;
    run(&journal, projector, &workers, stop);
    Ok(Adopted { journal, open: leases })
}

fn run(journal: &Journal, projector: Projector, workers: &Supervisor, stop: CancellationToken) {
    let release = Arc::clone(&journal.shared.release);
    workers.spawn("journal", async move { release.run(projector, stop).await });
}

/// Writes an abandoned journal to the ledger, and charges its open leases. Returns the number of leases.
///
/// # Errors
/// As [`start`].
pub async fn finish(parts: Parts<'_>) -> Result<usize, JournalError> {
    let (_, _, abandoned) = settle_past(parts).await?;
    Ok(abandoned)
}

/// A journal that the ledger has all of.
struct Opened {
    journal: Journal,
    projector: Projector,
    leases: Vec<Lease>,
}

async fn open(parts: Parts<'_>, resumed: Resumed) -> Result<Opened, JournalError> {
    let Parts { disk, settings, store, metrics, .. } = parts;
    let leases = resumed.leases.to_vec();
    let failures = metrics.journal_failures.clone();
    let folder = disk.name();
    let log = Log::resume(disk, settings, resumed, failures)
        .map_err(|source| JournalError::Io { folder, source })?;
    let unwritable = Arc::new(AtomicU64::new(0));
    let journal =
        Journal::new(Arc::clone(&log), metrics.usage_admitted.clone(), Arc::clone(&unwritable));
    let mut projector = Projector::new(log, store, Gauges::of(&metrics), unwritable);
    projector.catch_up().await?;
    Ok(Opened { journal, projector, leases })
}

async fn settle_past(parts: Parts<'_>) -> Result<(Journal, Projector, usize), JournalError> {
    let resumed = resume(&*parts.disk, &*parts.store, parts.settings).await?;
    let Opened { journal, mut projector, leases } = open(parts, resumed).await?;
    let log = &journal.shared.log;
    let mut upto = 0;
    for lease in &leases {
        upto = log.append(Record::Settle(Charge::abandoned_in_full(lease)));
    }
    log.safe(upto, true).await;
    projector.catch_up().await?;
    Ok((journal, projector, leases.len()))
}

/// The log as the process before this one released it. Nothing in the folder changes: should that process have
/// resumed meanwhile, because this one took too long, it still writes there.
async fn handed_over(disk: &dyn Disk, store: &dyn Ledger) -> Result<Resumed, JournalError> {
    let not_released = || JournalError::NotReleased { folder: disk.name() };
    let listed = recovery::list(disk)?.ok_or_else(not_released)?;
    let mark = store.mark(listed.log.0).await?.unwrap_or(0);
    let Scanned { leases, entries, torn } = recovery::scan(disk, &listed, mark)?;
    let Listed { log: id, segments } = listed;
    let first = segments.first().map_or(0, |first| first.base);
    let end = segments.last().map_or(0, Segment::end);
    if torn.is_some() || entries > 0 || mark > end {
        return Err(not_released());
    }
    Ok(Resumed { id, segments, leases, projected: mark.max(first), entries })
}

/// Finds the log, or makes one, and makes it fit to be written on.
async fn resume(
    disk: &dyn Disk,
    store: &dyn Ledger,
    settings: LogSettings,
) -> Result<Resumed, JournalError> {
    let io = |source| JournalError::Io { folder: disk.name(), source };
    recovery::remove_drafts(disk).map_err(io)?;
    let latest = store.latest_mark().await?;
    let Some(listed) = recovery::list(disk)? else {
        let id = LogId(clock::unique());
        warn_of_another(disk, id, latest);
        let (_, first) = make_segment(disk, id, 0, &[]).map_err(io)?;
        let (segments, leases) = (vec![first], OpenLeases::default());
        return Ok(Resumed { id, segments, leases, projected: 0, entries: 0 });
    };
    warn_of_another(disk, listed.log, latest);
    let known = store.mark(listed.log.0).await?;
    if known.is_none() {
        tracing::warn!(
            log = %listed.log, folder = disk.name(),
            "the database has no charges of this journal yet; writing all of them"
        );
    }
    let mark = known.unwrap_or(0);
    let scanned = recovery::scan(disk, &listed, mark)?;
    if listed.segments.last().is_some_and(|last| mark > last.end()) {
        rescue(disk, &listed, store).await?;
    }
    let first = listed.segments.first().map_or(0, |first| first.base);
    if mark < first {
        tracing::warn!(
            log = %listed.log, from = mark, to = first,
            "the journal starts after the position stored in the database; charges in between are missing \
             (was an older database restored?)"
        );
    }
    continue_log(disk, listed, scanned, mark, settings).map_err(io)
}

/// Writes every charge in the folder to the ledger, which takes each once. For a folder that ends before the
/// database's position: it may be an older copy that was written on.
async fn rescue(disk: &dyn Disk, listed: &Listed, store: &dyn Ledger) -> Result<(), JournalError> {
    const AT_ONCE: usize = 1_000;
    for segment in &listed.segments {
        let mut entries = Vec::new();
        recovery::each_record(disk, listed.log, *segment, |_, record| {
            entries.extend(ledger_entry(record));
        })?;
        for part in entries.chunks(AT_ONCE) {
            store.journal(part, None).await?;
        }
    }
    Ok(())
}

/// Cuts a torn end off; a log that is shorter than what the database has of it goes on after that.
fn continue_log(
    disk: &dyn Disk,
    listed: Listed,
    scanned: Scanned,
    mark: u64,
    settings: LogSettings,
) -> std::io::Result<Resumed> {
    let Listed { log: id, mut segments } = listed;
    if let (Some(Torn { base, at, length }), Some(last)) = (scanned.torn, segments.last_mut()) {
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
    if mark > end {
        tracing::warn!(
            log = %id, end, mark,
            "the journal ends before the position stored in the database (a power cut?); continuing from there"
        );
        let (_, next) = make_segment(disk, id, mark, &scanned.leases.to_vec())?;
        for old in segments.drain(..) {
            disk.remove(&segment::file_name(old.base))?;
        }
        segments.push(next);
    }
    let Scanned { leases, entries, .. } = scanned;
    let first = segments.first().map_or(0, |first| first.base);
    Ok(Resumed { id, segments, leases, projected: mark.max(first), entries })
}

fn warn_of_another(disk: &dyn Disk, id: LogId, latest: Option<Mark>) {
    if let Some(Mark { log, position }) = latest.filter(|latest| latest.log != id.0) {
        tracing::warn!(
            log = %id, folder = disk.name(), before = %LogId(log), position,
            "the database was last written from a different journal; unwritten charges of that journal stay in \
             its folder"
        );
    }
}

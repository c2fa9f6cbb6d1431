//! The log of a running gateway: records in the order in which they were appended, segment after segment.
//!
//! An entry is encoded into a buffer under one short lock that is never held across I/O. Its task lets others that
//! are ready append theirs, and then, if it finds no write in progress, writes the whole buffer in one `write`: no task
//! waits for a thread while the disk keeps up. A thread of its own writes instead where every write is to be synced,
//! and while the disk is slow or full.
//!
//! What could not be written stays in the buffer and is written again to the same place, so the log never
//! has a gap, and entries that came meanwhile follow in their order.

mod write;

use crate::disk::Disk;
use crate::leases::OpenLeases;
use crate::reader;
use crate::record::Record;
use crate::segment::{self, LogId};
use crate::tail::{Segment, Tail};
use crate::wakeup::Wakeup;
use metrics::Counter;
use parking_lot::Mutex;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};
use system::clock;
use tokio::sync::Notify;

/// A write that takes longer is stuck: no call is admitted until it ends. Long enough that a busy machine with a
/// healthy disk does not count as stuck.
const STUCK_WRITE_TIMEOUT: Duration = Duration::from_millis(600);

/// Settings of the log of a gateway.
#[derive(Debug, Clone, Copy)]
pub struct LogSettings {
    /// Sync every write before acknowledging it.
    pub synced: bool,
    /// Size at which a new segment begins, in bytes.
    pub segment_bytes: u64,
    /// Bytes that may wait for the ledger; no call is admitted beyond them.
    pub max_backlog_bytes: u64,
}

/// State of a log when it is opened.
pub(super) struct LogState {
    pub(super) id: LogId,
    /// The oldest first; writing continues in the last one.
    pub(super) segments: Vec<Segment>,
    pub(super) leases: OpenLeases,
    /// Position up to which the ledger has the log.
    pub(super) ledger_position: u64,
    /// Number of ledger entries after that position.
    pub(super) entries: u64,
}

/// The log of a running gateway.
pub struct Log {
    disk: Arc<dyn Disk>,
    id: LogId,
    settings: LogSettings,
    pending: Mutex<Pending>,
    tail: Mutex<Tail>,
    segments: Mutex<Vec<Segment>>,
    /// Number of appended bytes that are written (and synced).
    durable: AtomicU64,
    /// Notified when `durable` or `failing` changes.
    progress: Notify,
    /// Notified when something was written, for the projector.
    pub(super) arrived: Notify,
    /// Position after the last byte written.
    end: AtomicU64,
    ledger_position: AtomicU64,
    ledger_position_moved: Notify,
    /// True if the latest write failed.
    failing: AtomicBool,
    /// Start of the current write, in milliseconds since `origin` plus one; 0 if none is running.
    writing_since: AtomicU64,
    /// Time until which the thread writes, in milliseconds since `origin`.
    slow_until: AtomicU64,
    /// True if another instance has the instance lock.
    superseded: AtomicBool,
    origin: Instant,
    wakeup: Wakeup,
    failures: Counter,
}

/// Appended records that are not being written yet.
struct Pending {
    bytes: Vec<u8>,
    /// Number of bytes appended since the start.
    appended: u64,
    leases: OpenLeases,
    /// Number of ledger entries appended since the start, and before it if the ledger lacks them.
    entries: u64,
}

impl Log {
    /// Resumes writing at the position in `resumed`, and starts the writer thread.
    ///
    /// # Errors
    /// If the last segment cannot be opened, or no thread can be had.
    pub(super) fn resume(
        disk: Arc<dyn Disk>,
        settings: LogSettings,
        resumed: LogState,
        failures: Counter,
    ) -> io::Result<Arc<Self>> {
        let LogState { id, segments, leases, ledger_position, entries } = resumed;
        let last = segments.last().copied().ok_or_else(|| io::Error::other("it has no segment"))?;
        let file = disk.open(&segment::file_name(last.base))?;
        let tail = Tail::new(file, last, settings.segment_bytes);
        let log = Arc::new(Self {
            disk,
            id,
            settings,
            pending: Mutex::new(Pending { bytes: Vec::new(), appended: 0, leases, entries }),
            tail: Mutex::new(tail),
            segments: Mutex::new(segments),
            durable: AtomicU64::new(0),
            progress: Notify::new(),
            arrived: Notify::new(),
            end: AtomicU64::new(last.end()),
            ledger_position: AtomicU64::new(ledger_position.min(last.end())),
            ledger_position_moved: Notify::new(),
            failing: AtomicBool::new(false),
            writing_since: AtomicU64::new(0),
            slow_until: AtomicU64::new(0),
            superseded: AtomicBool::new(false),
            origin: clock::instant(),
            wakeup: Wakeup::default(),
            failures,
        });
        let writer = Arc::clone(&log);
        std::thread::Builder::new().name("journal".to_owned()).spawn(move || writer.run())?;
        Ok(log)
    }

    /// Stops the thread once the buffer is written, or cannot be written.
    pub(super) fn close(&self) {
        self.wakeup.send(|signals| signals.is_closed = true);
    }

    #[must_use]
    pub fn id(&self) -> LogId {
        self.id
    }

    pub(super) fn disk(&self) -> &dyn Disk {
        &*self.disk
    }

    /// True if leases can be written, and not too much waits for the ledger.
    pub(super) fn accepts_leases(&self) -> bool {
        !self.is_failing()
            && !self.superseded.load(Ordering::Relaxed)
            && self.backlog_bytes() <= self.settings.max_backlog_bytes
    }

    /// True while writes fail or hang.
    pub(super) fn is_failing(&self) -> bool {
        if self.failing.load(Ordering::Relaxed) {
            return true;
        }
        let since = self.writing_since.load(Ordering::Relaxed);
        since != 0 && self.millis() > since + millis(STUCK_WRITE_TIMEOUT)
    }

    /// Number of bytes that wait for the ledger.
    #[must_use]
    pub fn backlog_bytes(&self) -> u64 {
        self.end
            .load(Ordering::Relaxed)
            .saturating_sub(self.ledger_position.load(Ordering::Relaxed))
    }

    /// Sets if another instance has the instance lock, so that no call may be admitted here.
    pub(super) fn set_superseded(&self, is_superseded: bool) {
        self.superseded.store(is_superseded, Ordering::Relaxed);
    }

    /// Appends a record to the buffer, which [`write_with_others`](Self::write_with_others) or
    /// [`drive`](Self::drive) must then write. Returns the number of appended bytes to wait for.
    pub(super) fn push(&self, record: Record) -> u64 {
        let mut pending = self.pending.lock();
        let before = pending.bytes.len();
        reader::append(&record, self.id.seed(), &mut pending.bytes);
        pending.appended += (pending.bytes.len() - before) as u64;
        pending.entries += u64::from(record.is_for_ledger());
        let ended = pending.leases.apply(record);
        let appended = pending.appended;
        drop(pending);
        // Freed without the lock.
        drop(ended);
        appended
    }

    /// Writes the first `appended` bytes since the start, unless another task does. The tasks that are ready to run
    /// append theirs first, so that one write has the records of all. The bytes are written also if this future is
    /// dropped after its first poll.
    pub(super) async fn write_with_others(&self, appended: u64) {
        let write = WriteOnDrop { log: self, appended };
        // The thread of a synced log collects the records itself.
        if !self.settings.synced {
            tokio::task::yield_now().await;
        }
        drop(write);
    }

    /// True if the first `appended` bytes since the start are written.
    pub(super) fn is_durable(&self, appended: u64) -> bool {
        self.durable.load(Ordering::Acquire) >= appended
    }

    /// Waits until the first `appended` bytes since the start are written. If a write fails, waits for its retry
    /// if `retries` is true, and otherwise returns false.
    pub(super) async fn wait_durable(&self, appended: u64, retries: bool) -> bool {
        loop {
            if self.is_durable(appended) {
                return true;
            }
            let moved = self.progress.notified();
            tokio::pin!(moved);
            moved.as_mut().enable();
            if self.is_durable(appended) {
                return true;
            }
            if !retries && self.failing.load(Ordering::Relaxed) {
                return false;
            }
            moved.await;
        }
    }

    /// Number of bytes appended since the start.
    pub(super) fn appended(&self) -> u64 {
        self.pending.lock().appended
    }

    /// Number of ledger entries appended since the start, and before it if the ledger lacks them.
    pub(super) fn entries(&self) -> u64 {
        self.pending.lock().entries
    }

    /// Position after the last byte written.
    pub(super) fn end(&self) -> u64 {
        self.end.load(Ordering::Acquire)
    }

    pub(super) fn ledger_position(&self) -> u64 {
        self.ledger_position.load(Ordering::Acquire)
    }

    /// Waits until the ledger has everything up to `position`.
    pub(super) async fn wait_for_ledger(&self, position: u64) {
        loop {
            let moved = self.ledger_position_moved.notified();
            tokio::pin!(moved);
            moved.as_mut().enable();
            if self.ledger_position() >= position {
                return;
            }
            moved.await;
        }
    }

    pub(super) fn set_ledger_position(&self, position: u64) {
        self.ledger_position.store(position, Ordering::Release);
        self.ledger_position_moved.notify_waiters();
    }

    pub(super) fn segments(&self) -> Vec<Segment> {
        self.segments.lock().clone()
    }

    /// Deletes the segments before the one at `base`; the ledger has all of them.
    pub(super) fn delete_before(&self, base: u64) -> io::Result<()> {
        let old: Vec<Segment> =
            self.segments.lock().iter().filter(|one| one.base < base).copied().collect();
        for one in old {
            match self.disk.remove(&segment::file_name(one.base)) {
                Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
                _ => self.segments.lock().retain(|listed| *listed != one),
            }
        }
        Ok(())
    }

    fn is_slow(&self) -> bool {
        let until = self.slow_until.load(Ordering::Relaxed);
        until != 0 && self.millis() < until
    }

    fn millis(&self) -> u64 {
        self.millis_at(clock::instant())
    }

    fn millis_at(&self, now: Instant) -> u64 {
        millis(now.saturating_duration_since(self.origin))
    }
}

/// Writes what has been appended, unless another task has.
struct WriteOnDrop<'a> {
    log: &'a Log,
    appended: u64,
}

impl Drop for WriteOnDrop<'_> {
    fn drop(&mut self) {
        if !self.log.is_durable(self.appended) {
            self.log.drive();
        }
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

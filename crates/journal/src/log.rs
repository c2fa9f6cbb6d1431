//! The log as it is written: records in the order in which they were given, a segment after the other.
//!
//! An entry is encoded into a buffer under one short lock that is never held across I/O. The task that finds no
//! write in progress writes the whole buffer in one `write`: no task waits for a thread while the disk keeps up. A thread of its own writes instead where every write is to be synced,
//! and while the disk is slow or full.
//!
//! What could not be written stays in the buffer and is written again to the same place, so the log never
//! has a gap, and entries that came meanwhile follow in their order.

use super::bell::Bell;
use super::disk::Disk;
use super::leases::OpenLeases;
use super::reader;
use super::record::Record;
use super::segment::{self, LogId};
use super::tail::{Segment, Tail, make_segment};
use domain::charge::Lease;
use metrics::Counter;
use parking_lot::Mutex;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};
use system::clock;
use tokio::sync::Notify;

/// A write that takes longer is stuck: no call is admitted until it ends. A busy machine is slower than a
/// healthy disk, and must not count as a stuck one.
const STUCK: Duration = Duration::from_millis(600);
/// After a write that took this long the thread writes for a while, so that no call's own task is held up.
const SLOW: Duration = Duration::from_millis(100);
const SLOW_FOR: Duration = Duration::from_secs(10);
const FIRST_RETRY: Duration = Duration::from_millis(20);
const LAST_RETRY: Duration = Duration::from_millis(500);
/// A buffer that has grown beyond this is given back.
const BUFFER: usize = 1 << 20;

/// What decides how the log is written.
#[derive(Debug, Clone, Copy)]
pub struct LogSettings {
    /// Sync every write before acknowledging it.
    pub synced: bool,
    /// Size at which a segment is followed by another.
    pub segment_bytes: u64,
    /// Bytes that may wait for the ledger; no call is admitted beyond them.
    pub most_behind: u64,
}

/// Where a log stands when it is opened.
pub(super) struct Resumed {
    pub(super) id: LogId,
    /// The oldest first; the last one is written on.
    pub(super) segments: Vec<Segment>,
    pub(super) leases: OpenLeases,
    /// Position up to which the ledger has it.
    pub(super) projected: u64,
    /// Entries of the ledger behind that position.
    pub(super) entries: u64,
}

/// The log of a running gateway.
pub struct Log {
    disk: Arc<dyn Disk>,
    id: LogId,
    settings: LogSettings,
    head: Mutex<Head>,
    tail: Mutex<Tail>,
    segments: Mutex<Vec<Segment>>,
    /// Of all bytes that were pushed, how many are written (and synced).
    safe: AtomicU64,
    /// Notified when `safe` or `failing` changes.
    safe_moved: Notify,
    /// Something was written since the projector last looked.
    pub(super) arrived: Notify,
    /// Position after the last byte written.
    end: AtomicU64,
    projected: AtomicU64,
    projected_moved: Notify,
    /// The latest write failed.
    failing: AtomicBool,
    /// When the write under way began, in milliseconds since `origin` and one more; 0 = none is.
    writing_since: AtomicU64,
    /// The thread writes until then.
    slow_until: AtomicU64,
    /// Another instance writes the ledger now.
    superseded: AtomicBool,
    origin: Instant,
    bell: Bell,
    failures: Counter,
}

/// What was pushed and is not being written yet.
struct Head {
    pending: Vec<u8>,
    /// Bytes that were ever pushed.
    pushed: u64,
    leases: OpenLeases,
    /// Entries of the ledger that were ever pushed.
    entries: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Flushed {
    Nothing,
    Written,
    Failed,
}

impl Log {
    /// Resumes writing at the position in `resumed`, and starts the writer thread.
    ///
    /// # Errors
    /// If the last segment cannot be opened, or no thread can be had.
    pub(super) fn resume(
        disk: Arc<dyn Disk>,
        settings: LogSettings,
        resumed: Resumed,
        failures: Counter,
    ) -> io::Result<Arc<Self>> {
        let Resumed { id, segments, leases, projected, entries } = resumed;
        let last = segments.last().copied().ok_or_else(|| io::Error::other("it has no segment"))?;
        let file = disk.open(&segment::file_name(last.base))?;
        let tail = Tail::new(file, last, settings.segment_bytes);
        let log = Arc::new(Self {
            disk,
            id,
            settings,
            head: Mutex::new(Head { pending: Vec::new(), pushed: 0, leases, entries }),
            tail: Mutex::new(tail),
            segments: Mutex::new(segments),
            safe: AtomicU64::new(0),
            safe_moved: Notify::new(),
            arrived: Notify::new(),
            end: AtomicU64::new(last.end()),
            projected: AtomicU64::new(projected.min(last.end())),
            projected_moved: Notify::new(),
            failing: AtomicBool::new(false),
            writing_since: AtomicU64::new(0),
            slow_until: AtomicU64::new(0),
            superseded: AtomicBool::new(false),
            origin: clock::instant(),
            bell: Bell::default(),
            failures,
        });
        let writer = Arc::clone(&log);
        std::thread::Builder::new().name("journal".to_owned()).spawn(move || writer.run())?;
        Ok(log)
    }

    /// Ends the thread once what waits is written, or cannot be.
    pub(super) fn close(&self) {
        self.bell.ring(|ring| ring.is_closed = true);
    }

    #[must_use]
    pub fn id(&self) -> LogId {
        self.id
    }

    pub(super) fn disk(&self) -> &dyn Disk {
        &*self.disk
    }

    /// True unless a lease could not be written now, or more waits for the ledger than may.
    pub(super) fn takes_calls(&self) -> bool {
        !self.is_failing()
            && !self.superseded.load(Ordering::Relaxed)
            && self.behind() <= self.settings.most_behind
    }

    /// True while writes fail or hang.
    pub(super) fn is_failing(&self) -> bool {
        if self.failing.load(Ordering::Relaxed) {
            return true;
        }
        let since = self.writing_since.load(Ordering::Relaxed);
        since != 0 && self.millis() > since + millis(STUCK)
    }

    /// Bytes that wait for the ledger.
    #[must_use]
    pub fn behind(&self) -> u64 {
        self.end.load(Ordering::Relaxed).saturating_sub(self.projected.load(Ordering::Relaxed))
    }

    /// Says whether another instance has taken over the ledger, so that no call may be admitted here.
    pub(super) fn set_superseded(&self, is_superseded: bool) {
        self.superseded.store(is_superseded, Ordering::Relaxed);
    }

    /// Gives an entry to the log and sees that it is written. Returns what to wait for.
    pub(super) fn append(&self, record: Record) -> u64 {
        let upto = self.push(record);
        self.drive();
        upto
    }

    /// Gives an entry to the log; it is written with the next.
    pub(super) fn push(&self, record: Record) -> u64 {
        let mut head = self.head.lock();
        let before = head.pending.len();
        reader::append(&record, self.id.seed(), &mut head.pending);
        head.pushed += (head.pending.len() - before) as u64;
        head.entries += u64::from(record.is_for_ledger());
        let ended = head.leases.apply(record);
        let pushed = head.pushed;
        drop(head);
        // Freed without the lock.
        drop(ended);
        pushed
    }

    /// True once everything up to `upto` is written; false when it cannot be now.
    pub(super) fn is_safe(&self, upto: u64) -> bool {
        self.safe.load(Ordering::Acquire) >= upto
    }

    /// Resolves once everything up to `upto` is written. With `patient` false it returns false if the
    /// write failed.
    pub(super) async fn safe(&self, upto: u64, patient: bool) -> bool {
        loop {
            if self.is_safe(upto) {
                return true;
            }
            let moved = self.safe_moved.notified();
            tokio::pin!(moved);
            moved.as_mut().enable();
            if self.is_safe(upto) {
                return true;
            }
            if !patient && self.failing.load(Ordering::Relaxed) {
                return false;
            }
            moved.await;
        }
    }

    /// Bytes that were ever pushed.
    pub(super) fn pushed(&self) -> u64 {
        self.head.lock().pushed
    }

    /// Entries of the ledger that were ever pushed, those found at the start included.
    pub(super) fn entries(&self) -> u64 {
        self.head.lock().entries
    }

    /// Position after the last byte written.
    pub(super) fn end(&self) -> u64 {
        self.end.load(Ordering::Acquire)
    }

    pub(super) fn projected(&self) -> u64 {
        self.projected.load(Ordering::Acquire)
    }

    /// Resolves once the ledger has everything up to `position`.
    pub(super) async fn projected_to(&self, position: u64) {
        loop {
            let moved = self.projected_moved.notified();
            tokio::pin!(moved);
            moved.as_mut().enable();
            if self.projected() >= position {
                return;
            }
            moved.await;
        }
    }

    pub(super) fn set_projected(&self, position: u64) {
        self.projected.store(position, Ordering::Release);
        self.projected_moved.notify_waiters();
    }

    pub(super) fn segments(&self) -> Vec<Segment> {
        self.segments.lock().clone()
    }

    /// Deletes the segments before the one that begins at `base`; the ledger has all of them.
    pub(super) fn delete_before(&self, base: u64) -> io::Result<()> {
        let old: Vec<Segment> =
            self.segments.lock().iter().filter(|one| one.base < base).copied().collect();
        for one in old {
            match self.disk.remove(&segment::file_name(one.base)) {
                Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
                _ => self.segments.lock().retain(|kept| *kept != one),
            }
        }
        Ok(())
    }

    /// Writes what was pushed, here or by the thread.
    pub(super) fn drive(&self) {
        if self.settings.synced || self.failing.load(Ordering::Relaxed) || self.is_slow() {
            self.bell.ring(|ring| ring.is_rung = true);
            return;
        }
        loop {
            let flushed = match self.tail.try_lock() {
                Some(mut tail) => self.flush(&mut tail),
                // Whoever writes looks afterwards whether more has come.
                None => return,
            };
            if flushed == Flushed::Failed {
                self.bell.ring(|ring| ring.is_rung = true);
                return;
            }
            if self.head.lock().pending.is_empty() {
                return;
            }
        }
    }

    /// The thread: writes when the bell rings, and again and again while that fails.
    fn run(&self) {
        let mut pause = FIRST_RETRY;
        loop {
            let is_closed = self.bell.wait();
            loop {
                // The tail is free again before the head is looked at: who found it taken relies on that look.
                let flushed = self.flush(&mut self.tail.lock());
                match flushed {
                    Flushed::Nothing if self.head.lock().pending.is_empty() => break,
                    Flushed::Nothing => {}
                    Flushed::Written => pause = FIRST_RETRY,
                    Flushed::Failed if self.bell.pause(pause) => return,
                    Flushed::Failed => pause = (pause * 2).min(LAST_RETRY),
                }
            }
            if is_closed {
                return;
            }
        }
    }

    /// One write of everything that waits.
    fn flush(&self, tail: &mut Tail) -> Flushed {
        let open = self.take_pending(tail);
        if tail.waiting.is_empty() {
            return Flushed::Nothing;
        }
        let began = clock::instant();
        self.writing_since.store(self.millis_at(began) + 1, Ordering::Relaxed);
        let written = tail.write(self.settings.synced);
        self.writing_since.store(0, Ordering::Relaxed);
        let took = clock::instant().duration_since(began);
        if took > SLOW && !self.settings.synced {
            self.slow_until.store(self.millis() + millis(SLOW_FOR), Ordering::Relaxed);
        }
        if let Err(error) = written {
            self.failed(tail, &error);
            return Flushed::Failed;
        }
        self.written(tail);
        if let Some(leases) = open {
            self.writing_since.store(self.millis() + 1, Ordering::Relaxed);
            self.roll(tail, &leases);
            self.writing_since.store(0, Ordering::Relaxed);
            self.arrived.notify_one();
        }
        Flushed::Written
    }

    /// Moves what is pending to the tail. Returns the leases open after it when another segment is due.
    fn take_pending(&self, tail: &mut Tail) -> Option<Vec<Lease>> {
        let mut head = self.head.lock();
        if tail.waiting.is_empty() {
            std::mem::swap(&mut tail.waiting, &mut head.pending);
        } else {
            tail.waiting.append(&mut head.pending);
        }
        tail.upto = head.pushed;
        let length = tail.segment.length + tail.waiting.len() as u64;
        let is_full = !tail.waiting.is_empty() && length >= tail.roll_at;
        is_full.then(|| head.leases.to_vec())
    }

    fn written(&self, tail: &mut Tail) {
        tail.segment.length += tail.waiting.len() as u64;
        tail.waiting.clear();
        tail.waiting.shrink_to(BUFFER);
        if let Some(last) = self.segments.lock().last_mut() {
            last.length = tail.segment.length;
        }
        self.end.store(tail.segment.end(), Ordering::Release);
        self.safe.store(tail.upto, Ordering::Release);
        if let Some((began, failures)) = tail.outage.take() {
            self.failing.store(false, Ordering::Relaxed);
            let seconds = clock::instant().duration_since(began).as_secs_f64();
            tracing::info!(seconds, failures, "journal writes recovered");
        }
        self.safe_moved.notify_waiters();
        self.arrived.notify_one();
    }

    fn failed(&self, tail: &mut Tail, error: &io::Error) {
        self.failing.store(true, Ordering::Relaxed);
        self.failures.increment(1);
        match &mut tail.outage {
            Some((_, failures)) => *failures += 1,
            None => {
                let folder = self.disk.name();
                tracing::error!(
                    %error, folder,
                    "journal write failed; refusing new calls until it succeeds"
                );
                tail.outage = Some((clock::instant(), 1));
            }
        }
        self.safe_moved.notify_waiters();
    }

    /// Goes on in another segment, which begins with the leases that are open. When it cannot be made, the
    /// present one just grows.
    fn roll(&self, tail: &mut Tail, open: &[Lease]) {
        let base = tail.segment.end();
        // The next segment may survive a power cut, so what comes before it has to, whatever the setting.
        let made = tail.file.sync().and_then(|()| make_segment(&*self.disk, self.id, base, open));
        match made {
            Ok((file, segment)) => {
                self.segments.lock().push(segment);
                (tail.file, tail.segment) = (file, segment);
                tail.roll_at = self.settings.segment_bytes + segment.length;
                self.end.store(segment.end(), Ordering::Release);
            }
            Err(error) => {
                tail.roll_at = tail.segment.length + self.settings.segment_bytes / 8;
                tracing::warn!(%error, "failed to create the next journal segment, retrying later");
            }
        }
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

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

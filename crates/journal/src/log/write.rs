//! Writes the buffer of the log to its segments, in the task that finds no write running or in the thread.

use super::{Log, millis};
use crate::tail::{Tail, create_segment};
use domain::charge::Lease;
use std::io;
use std::sync::atomic::Ordering;
use std::time::Duration;
use system::clock;

/// After a write that took longer than this the thread does the writing, so that no call waits for a slow disk.
const SLOW_WRITE_TIMEOUT: Duration = Duration::from_millis(100);
/// Time for which the thread writes after a slow write.
const SLOW_DISK_INTERVAL: Duration = Duration::from_secs(10);
const RETRY_MIN_INTERVAL: Duration = Duration::from_millis(20);
const RETRY_MAX_INTERVAL: Duration = Duration::from_millis(500);
/// Capacity in bytes that the write buffer keeps after a write.
const BUFFER_BYTES: usize = 1 << 20;

/// Outcome of one write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum FlushOutcome {
    Nothing,
    Written,
    Failed,
}

impl Log {
    /// Writes the buffer, in this task or in the thread.
    pub(crate) fn drive(&self) {
        if self.settings.synced || self.failing.load(Ordering::Relaxed) || self.is_slow() {
            self.wakeup.send(|signals| signals.is_requested = true);
            return;
        }
        loop {
            let flushed = match self.tail.try_lock() {
                Some(mut tail) => self.flush(&mut tail),
                // The current writer checks afterwards for more.
                None => return,
            };
            if flushed == FlushOutcome::Failed {
                self.wakeup.send(|signals| signals.is_requested = true);
                return;
            }
            if self.pending.lock().bytes.is_empty() {
                return;
            }
        }
    }

    /// Runs the thread: writes on request, and retries while writes fail.
    pub(super) fn run(&self) {
        let mut pause = RETRY_MIN_INTERVAL;
        loop {
            let is_closed = self.wakeup.wait();
            loop {
                // The tail is unlocked before `pending` is checked: a task that found it locked relies on that check.
                let flushed = self.flush(&mut self.tail.lock());
                match flushed {
                    FlushOutcome::Nothing if self.pending.lock().bytes.is_empty() => break,
                    FlushOutcome::Nothing => {}
                    FlushOutcome::Written => pause = RETRY_MIN_INTERVAL,
                    FlushOutcome::Failed if self.wakeup.pause(pause) => return,
                    FlushOutcome::Failed => pause = (pause * 2).min(RETRY_MAX_INTERVAL),
                }
            }
            if is_closed {
                return;
            }
        }
    }

    /// Writes the whole buffer once.
    fn flush(&self, tail: &mut Tail) -> FlushOutcome {
        let open = self.take_pending(tail);
        if tail.unwritten.is_empty() {
            return FlushOutcome::Nothing;
        }
        let began = clock::instant();
        self.writing_since.store(self.millis_at(began) + 1, Ordering::Relaxed);
        let written = tail.write(self.settings.synced);
        self.writing_since.store(0, Ordering::Relaxed);
        let took = clock::instant().duration_since(began);
        if took > SLOW_WRITE_TIMEOUT && !self.settings.synced {
            self.slow_until.store(self.millis() + millis(SLOW_DISK_INTERVAL), Ordering::Relaxed);
        }
        if let Err(error) = written {
            self.failed(tail, &error);
            return FlushOutcome::Failed;
        }
        self.written(tail);
        if let Some(leases) = open {
            self.writing_since.store(self.millis() + 1, Ordering::Relaxed);
            self.roll(tail, &leases);
            self.writing_since.store(0, Ordering::Relaxed);
            self.arrived.notify_one();
        }
        FlushOutcome::Written
    }

    /// Moves the buffer to the tail. Returns the open leases after it if a new segment is due.
    fn take_pending(&self, tail: &mut Tail) -> Option<Vec<Lease>> {
        let mut pending = self.pending.lock();
        if tail.unwritten.is_empty() {
            std::mem::swap(&mut tail.unwritten, &mut pending.bytes);
        } else {
            tail.unwritten.append(&mut pending.bytes);
        }
        tail.appended = pending.appended;
        let length = tail.segment.length + tail.unwritten.len() as u64;
        let is_full = !tail.unwritten.is_empty() && length >= tail.roll_at;
        is_full.then(|| pending.leases.to_vec())
    }

    fn written(&self, tail: &mut Tail) {
        tail.segment.length += tail.unwritten.len() as u64;
        tail.unwritten.clear();
        tail.unwritten.shrink_to(BUFFER_BYTES);
        if let Some(last) = self.segments.lock().last_mut() {
            last.length = tail.segment.length;
        }
        self.end.store(tail.segment.end(), Ordering::Release);
        self.durable.store(tail.appended, Ordering::Release);
        if let Some((began, failures)) = tail.outage.take() {
            self.failing.store(false, Ordering::Relaxed);
            let seconds = clock::instant().duration_since(began).as_secs_f64();
            tracing::info!(seconds, failures, "journal writes recovered");
        }
        self.progress.notify_waiters();
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
        self.progress.notify_waiters();
    }

    /// Continues in a new segment, which begins with the open leases. If it cannot be created, the current one
    /// grows.
    fn roll(&self, tail: &mut Tail, open: &[Lease]) {
        let base = tail.segment.end();
        // The next segment may survive a power cut, so the segments before it must too, whatever the setting.
        let made = tail.file.sync().and_then(|()| create_segment(&*self.disk, self.id, base, open));
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
}

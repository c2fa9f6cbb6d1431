//! The journal: one append-only log of leases, extensions, charges and adjustments in the data directory.
//!
//! A lease is written before the request to the upstream, a charge before the end of the response. The ledger is a
//! projection of the journal: [`projector`] writes it in batches, exactly once. A call waits for one `write` and
//! for no database, so it continues while the database is unreachable.
//!
//! [`record`], [`reader`] and [`segment`] are the format, pure; [`log`] writes it; [`recovery`] reads it at
//! startup; [`disk`] abstracts the folder.

pub mod record;
pub mod reader;
pub mod segment;
pub mod disk;
pub mod recovery;
pub mod leases;
pub mod tail;
pub mod log;
mod wakeup;
mod projector;
mod release;
mod start;
#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "a test joins what it spawns")]
mod tests;

use domain::charge::{Adjustment, Charge, Lease};
use domain::id::RequestId;
use log::Log;
use metrics::Counter;
use record::Record;
pub use release::NotReleased;
use release::Release;
pub use start::{AdoptedJournal, JournalDeps, StartedJournal, adopt, finish, start};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Time limit for a lease to become durable; after it the lease is withdrawn.
const OPEN_TIMEOUT: Duration = Duration::from_millis(800);

/// A handle to the journal; clones share it.
#[derive(Clone)]
pub struct Journal {
    shared: Arc<Shared>,
}

struct Shared {
    log: Arc<Log>,
    admitted: Counter,
    dead_letters: Arc<AtomicU64>,
    release: Arc<Release>,
}

impl Drop for Shared {
    fn drop(&mut self) {
        self.log.close();
    }
}

/// The journal is not writable, so no call can be admitted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the journal is not writable")]
pub struct Unavailable;

impl Journal {
    fn new(log: Arc<Log>, admitted: Counter, dead_letters: Arc<AtomicU64>) -> Self {
        let release = Arc::default();
        Self { shared: Arc::new(Shared { log, admitted, dead_letters, release }) }
    }

    /// Returns when the lease is durable, or after [`OPEN_TIMEOUT`]. If this future is dropped the lease may be
    /// durable, so the request must be settled.
    ///
    /// # Errors
    /// [`Unavailable`]; then no lease is left behind.
    pub async fn open(&self, lease: Lease) -> Result<(), Unavailable> {
        let log = &self.shared.log;
        if !log.accepts_leases() {
            return Err(Unavailable);
        }
        let request = lease.request;
        let appended = log.push(Record::Open(lease));
        // The time limit covers the yield too: a task that runs meanwhile may block in its write.
        let written = tokio::time::timeout(OPEN_TIMEOUT, async {
            log.write_with_others(appended).await;
            log.wait_durable(appended, false).await
        });
        if written.await != Ok(true) && !log.is_durable(appended) {
            log.push(Record::Withdraw { request });
            log.drive();
            return Err(Unavailable);
        }
        self.shared.admitted.increment(1);
        Ok(())
    }

    /// Returns when the extended reservation is durable. Waits while the disk is not writable.
    pub async fn extend(&self, request: RequestId, reserved: u64) {
        self.write(Record::Extend { request, reserved }).await;
    }

    /// Returns when the charge is durable. Waits while the disk is not writable; the charge is written even if
    /// this future is dropped after its first poll.
    pub async fn settle(&self, charge: Charge) {
        self.write(Record::Settle(charge)).await;
    }

    /// Appends a charge to the buffer of the log. Returns the number of appended bytes to pass
    /// to [`wait_durable`](Self::wait_durable).
    #[must_use]
    pub fn push(&self, charge: Charge) -> u64 {
        self.shared.log.push(Record::Settle(charge))
    }

    /// Returns when the first `appended` bytes since the start are durable. Waits while the disk is not writable.
    pub async fn wait_durable(&self, appended: u64) {
        self.shared.log.write_with_others(appended).await;
        self.shared.log.wait_durable(appended, true).await;
    }

    /// Returns when the adjustments are durable, like [`settle`](Self::settle).
    pub async fn adjust(&self, adjustments: Vec<Adjustment>) {
        let mut appended = 0;
        for adjustment in adjustments {
            appended = self.shared.log.push(Record::Adjust(adjustment));
        }
        self.wait_durable(appended).await;
    }

    /// Returns when the ledger has everything that is in the journal now.
    pub async fn wait_projected(&self) {
        let log = &self.shared.log;
        // Including what is in the buffer and not written yet.
        self.wait_durable(log.appended()).await;
        log.wait_for_ledger(log.end()).await;
    }

    /// Number of entries that the ledger rejected permanently and that were dead-lettered. More than 0 is a bug.
    #[must_use]
    pub fn dead_letters(&self) -> u64 {
        self.shared.dead_letters.load(Ordering::Relaxed)
    }

    /// True while no call can be admitted: the disk is not writable, or too much waits for the ledger.
    #[must_use]
    pub fn is_unavailable(&self) -> bool {
        !self.shared.log.accepts_leases()
    }

    /// Refuses calls while another instance has the instance lock.
    pub fn set_superseded(&self, is_superseded: bool) {
        self.shared.log.set_superseded(is_superseded);
    }

    /// Writes everything to the ledger and stops, so that another process can open the journal. Nothing may be
    /// appended from here on, unless the journal is [resumed](Self::resume).
    ///
    /// # Errors
    /// [`NotReleased`] if the ledger does not have everything; the journal must then be resumed.
    pub async fn release(&self) -> Result<(), NotReleased> {
        let log = &self.shared.log;
        self.wait_durable(log.appended()).await;
        self.shared.release.stop_projector().await;
        if log.backlog_bytes() == 0 { Ok(()) } else { Err(NotReleased) }
    }

    /// Continues after a release, if no other process has written to the journal.
    pub fn resume(&self) {
        self.shared.release.resume_projector();
    }

    async fn write(&self, record: Record) {
        let appended = self.shared.log.push(record);
        self.wait_durable(appended).await;
    }
}

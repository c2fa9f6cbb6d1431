//! The journal: one append-only log of leases, extensions, charges and adjustments in the data folder.
//!
//! A lease is in it before the upstream is asked, a charge before the end of the answer leaves. The ledger is
//! its projection: [`projector`] brings it there in batches, exactly once. So a call waits for one `write`
//! and for no database, and goes on while there is none.
//!
//! [`record`], [`reader`] and [`segment`] are the format, pure; [`log`] writes it; [`recovery`] reads it at a
//! start; [`disk`] is the seam to the folder.

pub mod record;
pub mod reader;
pub mod segment;
pub mod disk;
pub mod recovery;
pub mod leases;
pub mod tail;
pub mod log;
mod bell;
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
pub use start::{Adopted, Parts, Started, adopt, finish, start};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// How long a lease may take to be written. A write that has not ended by then is withdrawn.
const OPEN_TIMEOUT: Duration = Duration::from_millis(800);

/// A handle to the journal; clones share it.
#[derive(Clone)]
pub struct Journal {
    shared: Arc<Shared>,
}

struct Shared {
    log: Arc<Log>,
    admitted: Counter,
    unwritable: Arc<AtomicU64>,
    release: Arc<Release>,
}

impl Drop for Shared {
    fn drop(&mut self) {
        self.log.close();
    }
}

/// The journal cannot take a lease now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the journal is not writable")]
pub struct Unavailable;

impl Journal {
    fn new(log: Arc<Log>, admitted: Counter, unwritable: Arc<AtomicU64>) -> Self {
        let release = Arc::default();
        Self { shared: Arc::new(Shared { log, admitted, unwritable, release }) }
    }

    /// Returns when the lease is durable, or after [`OPEN_TIMEOUT`]. A caller that stops waiting cannot know
    /// whether it is, and must settle the request.
    ///
    /// # Errors
    /// [`Unavailable`]; then no lease is left behind.
    pub async fn open(&self, lease: Lease) -> Result<(), Unavailable> {
        let log = &self.shared.log;
        if !log.takes_calls() {
            return Err(Unavailable);
        }
        let request = lease.request;
        let upto = log.append(Record::Open(lease));
        if !log.is_safe(upto) {
            let written = tokio::time::timeout(OPEN_TIMEOUT, log.safe(upto, false)).await;
            if written != Ok(true) && !log.is_safe(upto) {
                log.push(Record::Withdraw { request });
                log.drive();
                return Err(Unavailable);
            }
        }
        self.shared.admitted.increment(1);
        Ok(())
    }

    /// Returns when the raised reservation is durable. Waits for as long as the disk takes nothing.
    pub async fn extend(&self, request: RequestId, reserved: u64) {
        self.write(Record::Extend { request, reserved }).await;
    }

    /// Returns when the charge is durable. Waits for as long as the disk takes nothing; the charge is kept
    /// even when the caller of this function does not wait for it, once it was polled.
    pub async fn settle(&self, charge: Charge) {
        self.write(Record::Settle(charge)).await;
    }

    /// Gives a charge to the log; [`written`](Self::written) then waits for what is returned.
    #[must_use]
    pub fn push(&self, charge: Charge) -> u64 {
        self.shared.log.push(Record::Settle(charge))
    }

    /// Returns when what was pushed is durable. Waits for as long as the disk takes nothing.
    pub async fn written(&self, upto: u64) {
        self.shared.log.drive();
        self.shared.log.safe(upto, true).await;
    }

    /// Returns when the adjustments are durable; as [`settle`](Self::settle).
    pub async fn adjust(&self, adjustments: Vec<Adjustment>) {
        let mut upto = 0;
        for adjustment in adjustments {
            upto = self.shared.log.append(Record::Adjust(adjustment));
        }
        self.shared.log.safe(upto, true).await;
    }

    /// Returns when the ledger has everything that is in the journal now.
    pub async fn projected(&self) {
        let log = &self.shared.log;
        // Also what was given to the log and is not written yet.
        self.written(log.pushed()).await;
        log.projected_to(log.end()).await;
    }

    /// Entries that the ledger refused for good, each of which was buried. Anything but 0 is a defect.
    #[must_use]
    pub fn unwritable(&self) -> u64 {
        self.shared.unwritable.load(Ordering::Relaxed)
    }

    /// True while no call can be admitted: the disk takes nothing, or too much waits for the ledger.
    #[must_use]
    pub fn is_unavailable(&self) -> bool {
        !self.shared.log.takes_calls()
    }

    /// Admits no call from here on, as long as another instance holds the ledger.
    pub fn set_superseded(&self, is_superseded: bool) {
        self.shared.log.set_superseded(is_superseded);
    }

    /// Writes everything to the ledger and stops, so that another process can open the journal. Nothing may be
    /// given to the journal from here on, unless it is [resumed](Self::resume).
    ///
    /// # Errors
    /// [`NotReleased`] if the ledger does not take everything; the journal must be resumed.
    pub async fn release(&self) -> Result<(), NotReleased> {
        let log = &self.shared.log;
        self.written(log.pushed()).await;
        self.shared.release.stop_projector().await;
        if log.behind() == 0 { Ok(()) } else { Err(NotReleased) }
    }

    /// Goes on after a release, if no other process has written to the journal.
    pub fn resume(&self) {
        self.shared.release.resume_projector();
    }

    async fn write(&self, record: Record) {
        let log = &self.shared.log;
        let upto = log.append(record);
        log.safe(upto, true).await;
    }
}

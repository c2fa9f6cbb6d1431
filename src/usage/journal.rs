//! The journal: leases, extensions and charges, written in batches by one task.
//!
//! Writes that arrive while a batch is being committed form the next batch, so the rate of
//! commits follows the store's speed, not the number of calls. A lease that cannot be written is
//! refused at once; an extension or a charge is kept and written again until it succeeds.

use crate::account::charge::{Charge, Lease};
use crate::account::id::RequestId;
use crate::store::Store;
use crate::telemetry::metrics::Metrics;
use std::sync::Arc;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// A handle to the writer; clones share it.
#[derive(Clone)]
pub struct Journal {}

/// The journal did not take a lease.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    /// The user changed since the caller record was read.
    #[error("the caller's record is out of date")]
    Stale,
    /// The store cannot write now.
    #[error("the ledger cannot be written")]
    Unavailable,
}

impl Journal {
    /// Starts the writer on `tasks`. It ends, with everything written, after `stop` is cancelled
    /// and the last handle's entries are in.
    #[must_use]
    pub fn start(
        store: Arc<dyn Store>,
        metrics: Arc<Metrics>,
        tasks: &TaskTracker,
        stop: CancellationToken,
    ) -> Self {
        let _ = (store, metrics, tasks, stop);
        Self {}
    }

    /// Returns when the lease is durable.
    ///
    /// # Errors
    /// [`OpenError`]; then no lease is left behind.
    pub async fn open(&self, lease: Lease) -> Result<(), OpenError> {
        let _ = lease;
        Err(OpenError::Unavailable)
    }

    /// Returns when the raised reservation is durable. Waits for as long as the store is away.
    pub async fn extend(&self, request: RequestId, reserved: u64) {
        let _ = (request, reserved);
    }

    /// Returns when the charge is durable. Waits for as long as the store is away; the charge is
    /// kept even when the caller of this function does not wait for it.
    pub async fn settle(&self, charge: Charge) {
        let _ = charge;
    }
}

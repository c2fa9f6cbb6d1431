//! A journal over a store, in a folder of its own.

use knockx::journal::disk::Folder;
use knockx::journal::log::LogSettings;
use knockx::journal::{self, Journal, Parts};
use knockx::quota::memory::MemoryCounters;
use knockx::quota::versions::Versions;
use knockx::store::{Store, Used};
use knockx::telemetry::metrics::Metrics;
use knockx::workers::Workers;
use std::path::Path;
use std::sync::Arc;
use tokio_util::sync::CancellationToken;

/// Starts a journal in `folder`; it ends when `stop` is cancelled.
pub async fn start(
    store: &Arc<dyn Store>,
    folder: &Path,
    workers: &Workers,
    stop: &CancellationToken,
) -> Journal {
    let parts = Parts {
        disk: Arc::new(Folder::create(folder).unwrap()),
        settings: LogSettings { synced: false, segment_bytes: 20_000, most_behind: 1 << 30 },
        store: store.clone(),
        metrics: Arc::new(Metrics::new(&[], &[])),
        workers,
        stop: stop.clone(),
    };
    journal::start(parts).await.unwrap().journal
}

/// Counters in memory over such a journal.
pub async fn counters(
    store: &Arc<dyn Store>,
    used: &[Used],
    folder: &Path,
    (workers, stop): (&Workers, &CancellationToken),
) -> MemoryCounters {
    let versions = Versions::start(store.clone()).await.unwrap();
    MemoryCounters::rebuilt(used, start(store, folder, workers, stop).await, versions)
}

//! A journal over a store, in a folder of its own.

use journal::disk::Folder;
use journal::log::LogSettings;
use journal::{self, Journal, JournalDeps};
use quota::memory::MemoryQuota;
use quota::user_versions::UserVersions;
use std::path::Path;
use std::sync::Arc;
use store::{Store, Used};
use system::supervisor::Supervisor;
use telemetry::metrics::Metrics;
use tokio_util::sync::CancellationToken;

/// Starts a journal in `folder`; it ends when `stop` is cancelled.
pub async fn start(
    store: &Arc<dyn Store>,
    folder: &Path,
    workers: &Supervisor,
    stop: &CancellationToken,
) -> Journal {
    let parts = JournalDeps {
        disk: Arc::new(Folder::create(folder).unwrap()),
        settings: LogSettings { synced: false, segment_bytes: 20_000, max_backlog_bytes: 1 << 30 },
        store: store.clone(),
        metrics: Arc::new(Metrics::new(&[], &[])),
        workers,
        stop: stop.clone(),
    };
    journal::start(parts).await.unwrap().journal
}

/// Counters in memory over such a journal.
pub async fn quota(
    store: &Arc<dyn Store>,
    used: &[Used],
    folder: &Path,
    (workers, stop): (&Supervisor, &CancellationToken),
) -> MemoryQuota {
    let versions = UserVersions::start(store.clone()).await.unwrap();
    MemoryQuota::rebuilt(used, start(store, folder, workers, stop).await, versions)
}

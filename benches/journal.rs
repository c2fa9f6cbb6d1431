//! The cost of a call's two entries in the journal, one task after the other and many at once.
//!
//! `cargo bench --bench journal` writes to a temporary folder; `TMPDIR` chooses the disk.

use domain::charge::{Lease, TokenCount};
use domain::id::UserId;
use jiff::Timestamp;
use journal::disk::Folder;
use journal::log::LogSettings;
use journal::segment::SEGMENT_BYTES;
use journal::{self, Journal, JournalDeps};
use knockx::config::{Database, Durability};
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;
use system::supervisor::Supervisor;
use telemetry::metrics::Metrics;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

const CALLS: usize = 100_000;
const SYNCED_CALLS: usize = 2_000;
const TASKS: usize = 64;

fn main() {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let runtime = runtime.expect("a runtime");
    runtime.block_on(async {
        measure("process", false, CALLS).await;
        measure("power", true, SYNCED_CALLS).await;
    });
}

#[expect(clippy::disallowed_methods, reason = "what takes the time is measured from outside")]
async fn measure(name: &str, synced: bool, calls: usize) {
    let folder = tempfile::tempdir().expect("a folder");
    let (workers, stop) = (Supervisor::default(), CancellationToken::new());
    workers.shut_down();
    let journal = start(folder.path(), synced, &workers, &stop).await;
    for tasks in [1, TASKS] {
        let tracker = TaskTracker::new();
        let began = Instant::now();
        for _ in 0..tasks {
            let journal = journal.clone();
            tracker.spawn(async move {
                for _ in 0..calls / tasks {
                    call(&journal).await;
                }
            });
        }
        tracker.close();
        tracker.wait().await;
        let each = began.elapsed().as_secs_f64() * 1e6 / calls as f64;
        let began = Instant::now();
        journal.wait_projected().await;
        let rest = began.elapsed().as_millis();
        println!(
            "{name}, {tasks} at once: {each:.2} us a call; the ledger had all of it {rest} ms later"
        );
    }
    stop.cancel();
    workers.wait().await;
}

async fn start(
    folder: &Path,
    synced: bool,
    workers: &Supervisor,
    stop: &CancellationToken,
) -> Journal {
    let durability = if synced { Durability::Power } else { Durability::Process };
    let database = Database::Sqlite { path: folder.join("k.db"), durability };
    let parts = JournalDeps {
        disk: Arc::new(Folder::create(&folder.join("journal")).expect("a folder")),
        settings: LogSettings { synced, segment_bytes: SEGMENT_BYTES, max_backlog_bytes: 4 << 30 },
        store: store::open(&database).await.expect("a store"),
        metrics: Arc::new(Metrics::new(&[], &[])),
        workers,
        stop: stop.clone(),
    };
    journal::start(parts).await.expect("a journal").journal
}

async fn call(journal: &Journal) {
    let day = "2026-01-02".parse().expect("a day");
    let (user, at) = (UserId::default(), Timestamp::UNIX_EPOCH);
    let lease = domain::testing::lease(user, "0aB1cD2eF3gH", day, at);
    let lease = Lease { reserved: 1_000, ..lease };
    let tokens = TokenCount { prompt: 900, cached: 100, completion: 90, reasoning: 10 };
    let charge = domain::testing::charge(&lease, tokens);
    journal.open(lease).await.expect("it is written");
    journal.settle(charge).await;
}

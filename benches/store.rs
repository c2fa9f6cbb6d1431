//! Ledger rows a second through the journal, one batch after the other, for each dialect:
//! `scripts/servers run cargo bench --bench store`. Without `KNOCKX_TEST_POSTGRES`, SQLite alone.

#![allow(clippy::disallowed_methods, reason = "a measurement reads the clock and the environment")]

use domain::charge::TokenCount;
use domain::id::UserId;
use domain::secret::Secret;
use jiff::Timestamp;
use knockx::config::{Database, Durability, PostgresServer};
use std::time::{Duration, Instant};
use store::{self, Entry};

/// Rows of so many users meet in the rollup.
const USERS: usize = 50;
const BATCHES: [usize; 4] = [1, 32, 500, 2_000];
const TIME: Duration = Duration::from_secs(3);

#[tokio::main]
async fn main() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("knockx.db");
    measure("sqlite", &Database::Sqlite { path, durability: Durability::Process }).await;
    if let Ok(url) = std::env::var("KNOCKX_TEST_POSTGRES") {
        let server = PostgresServer {
            url: Secret::new(&url),
            place: String::new(),
            pooled: false,
            connections: 4,
        };
        measure("postgres", &Database::Postgres(server)).await;
    }
}

async fn measure(name: &str, database: &Database) {
    let store = store::open(database).await.expect("the store opens");
    store.acquire_instance_lock().await.expect("nobody else uses it");
    let users: Vec<UserId> = (0..USERS).map(|_| UserId::new()).collect();
    for size in BATCHES {
        let (mut rows, mut spent) = (0, Duration::ZERO);
        while spent < TIME {
            let batch: Vec<Entry> = (0..size).map(|n| charge(users[(rows + n) % USERS])).collect();
            let began = Instant::now();
            store.write_batch(&batch, None).await.expect("the batch is written");
            spent += began.elapsed();
            rows += size;
        }
        println!("{name}: batches of {size}: {:.0} rows/s", rows as f64 / spent.as_secs_f64());
    }
    store.close().await;
}

fn charge(user: UserId) -> Entry {
    let day = "2026-01-02".parse().expect("a day");
    let lease = domain::testing::lease(user, "0aB1cD2eF3gH", day, Timestamp::UNIX_EPOCH);
    let tokens = TokenCount { prompt: 900, cached: 100, completion: 90, reasoning: 10 };
    Entry::Settle(domain::testing::charge(&lease, tokens))
}

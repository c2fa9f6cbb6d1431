//! Prunes the ledger in small batches, so that writers are never blocked for long.

use super::SqliteStore;
use crate::account::day::Day;
use crate::account::id::RequestId;
use crate::store::StoreError;
use jiff::Timestamp;
use std::collections::HashSet;
use std::time::Duration;
use tokio::time::sleep;

/// Rows deleted in one transaction.
const BATCH: i64 = 1_000;
/// Between two of them other processes have their turn.
const PAUSE: Duration = Duration::from_millis(5);

pub(super) async fn prune(
    store: &SqliteStore,
    before: Day,
    now: Timestamp,
) -> Result<u64, StoreError> {
    // First, so that a day of which some rows are gone is known to be incomplete.
    sqlx::query(
        "insert into ledger_prune (first_day, at)
         values (?1, ?2)
         on conflict (first_day) do nothing",
    )
    .bind(before.to_string())
    .bind(now.as_millisecond())
    .execute(&mut *store.writer.turn().await?)
    .await?;
    let mut rows = 0;
    loop {
        let deleted = sqlx::query(
            "delete from usage_event
             where request in (select request from usage_event where day < ?1 limit ?2)",
        )
        .bind(before.to_string())
        .bind(BATCH)
        .execute(&mut *store.writer.turn().await?)
        .await?
        .rows_affected();
        if deleted == 0 {
            return Ok(rows);
        }
        rows += deleted;
        sleep(PAUSE).await;
    }
}

pub(super) async fn is_pruned(store: &SqliteStore, day: Day) -> Result<bool, StoreError> {
    let pruned =
        sqlx::query_scalar("select exists (select 1 from ledger_prune where first_day > ?1)")
            .bind(day.to_string())
            .fetch_one(&store.readers)
            .await?;
    Ok(pruned)
}

pub(super) async fn recorded(
    store: &SqliteStore,
    charges: &[(RequestId, Day)],
) -> Result<HashSet<RequestId>, StoreError> {
    let mut found = HashSet::new();
    for (request, _) in charges {
        let exists: bool =
            sqlx::query_scalar("select exists (select 1 from usage_event where request = ?1)")
                .bind(request.0.as_bytes().as_slice())
                .fetch_one(&store.readers)
                .await?;
        if exists {
            found.insert(*request);
        }
    }
    Ok(found)
}

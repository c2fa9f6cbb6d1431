//! The ledger's partitions: one for each day, dropped when the day is pruned.

use super::PostgresStore;
use crate::StoreError;
use crate::encode::DayColumn;
use domain::day::Day;
use sqlx::AssertSqlSafe;
use sqlx::error::DatabaseError;
use std::time::Duration;
use tokio::time::sleep;

/// Days from the given one on that get a partition.
const DAYS_AHEAD: i32 = 9;
/// Dropping a partition waits for those who read the ledger, and writers wait behind it. So each attempt gives up
/// soon, and is repeated.
const LOCK_TRIES: u32 = 30;
const LOCK_INTERVAL: Duration = Duration::from_millis(500);
const LOCK_NOT_AVAILABLE: &str = "55P03";

pub(super) async fn create_partitions(store: &PostgresStore, from: Day) -> Result<(), StoreError> {
    sqlx::query("select prepare_usage_event($1, $2)")
        .bind(DayColumn(from))
        .bind(DAYS_AHEAD)
        .execute(&store.pool)
        .await?;
    Ok(())
}

/// Drops the partitions of the days before `before`, and returns the number of their rows.
pub(super) async fn drop_partitions(store: &PostgresStore, before: Day) -> Result<u64, StoreError> {
    let mut rows = 0;
    for partition in partitions(store, before).await? {
        rows += drop_partition(store, &partition).await?;
    }
    Ok(rows)
}

/// The names of the partitions of the days before `before`, the oldest first.
async fn partitions(store: &PostgresStore, before: Day) -> Result<Vec<String>, StoreError> {
    let names = sqlx::query_scalar(
        "select child.relname::text
         from pg_inherits
         join pg_class child on child.oid = inhrelid
         where inhparent = 'usage_event'::regclass
           and child.relname ~ '^usage_event_[0-9]{8}$'
           and right(child.relname, 8) < to_char($1, 'YYYYMMDD')
         order by child.relname",
    )
    .bind(DayColumn(before))
    .fetch_all(&store.pool)
    .await?;
    Ok(names)
}

async fn drop_partition(store: &PostgresStore, name: &str) -> Result<u64, StoreError> {
    let mut tries = 1;
    loop {
        match try_to_drop(store, name).await {
            Err(e) if is_locked(&e) && tries < LOCK_TRIES => tries += 1,
            Err(e) if is_locked(&e) => {
                return Err(StoreError::Unavailable(format!(
                    "{name} is locked by a long-running query; retry when reports and backups have finished"
                )));
            }
            dropped => return Ok(dropped?),
        }
        sleep(LOCK_INTERVAL).await;
    }
}

async fn try_to_drop(store: &PostgresStore, name: &str) -> Result<u64, sqlx::Error> {
    let mut tx = store.pool.begin().await?;
    sqlx::query("set local lock_timeout = '500ms'").execute(&mut *tx).await?;
    // The name has the form of our own partitions, which `partitions` has checked.
    let count = AssertSqlSafe(format!("select count(*) from {name}"));
    let rows: i64 = sqlx::query_scalar(count).fetch_one(&mut *tx).await?;
    sqlx::query(AssertSqlSafe(format!("drop table {name}"))).execute(&mut *tx).await?;
    tx.commit().await?;
    Ok(u64::try_from(rows).unwrap_or_default())
}

fn is_locked(error: &sqlx::Error) -> bool {
    let code = error.as_database_error().and_then(DatabaseError::code);
    code.is_some_and(|code| code == LOCK_NOT_AVAILABLE)
}

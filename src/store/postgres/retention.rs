//! Prunes the ledger by dropping the partitions of old days.

use super::PostgresStore;
use crate::account::day::Day;
use crate::account::id::RequestId;
use crate::store::StoreError;
use jiff::Timestamp;
use sqlx::AssertSqlSafe;
use sqlx::error::DatabaseError;
use std::collections::HashSet;
use std::time::Duration;
use tokio::time::sleep;
use uuid::Uuid;

/// Rows deleted in one transaction where a day has no partition.
const BATCH: i64 = 1_000;
/// Dropping waits for whoever reads the ledger, and those who write wait behind it: so it gives up soon, and
/// comes again.
const LOCK_TRIES: u32 = 30;
const LOCK_PAUSE: Duration = Duration::from_millis(500);
const LOCK_NOT_AVAILABLE: &str = "55P03";

pub(super) async fn prune(
    store: &PostgresStore,
    before: Day,
    now: Timestamp,
) -> Result<u64, StoreError> {
    // First, so that a day of which some rows are gone is known to be incomplete.
    sqlx::query(
        "insert into ledger_prune (first_day, at)
         values ($1::date, $2)
         on conflict (first_day) do nothing",
    )
    .bind(before.to_string())
    .bind(now.as_millisecond())
    .execute(&store.pool)
    .await?;
    let mut rows = 0;
    for partition in partitions(store, before).await? {
        rows += drop_partition(store, &partition).await?;
    }
    loop {
        let deleted = sqlx::query(
            "delete from usage_event_default
             where (request, day) in (
                 select request, day from usage_event_default where day < $1::date limit $2
             )",
        )
        .bind(before.to_string())
        .bind(BATCH)
        .execute(&store.pool)
        .await?
        .rows_affected();
        if deleted == 0 {
            return Ok(rows);
        }
        rows += deleted;
    }
}

/// The partitions of the days before `before`, the oldest first.
async fn partitions(store: &PostgresStore, before: Day) -> Result<Vec<String>, StoreError> {
    let names = sqlx::query_scalar(
        "select child.relname::text
         from pg_inherits
         join pg_class child on child.oid = inhrelid
         where inhparent = 'usage_event'::regclass
           and child.relname ~ '^usage_event_[0-9]{8}$'
           and right(child.relname, 8) < to_char($1::date, 'YYYYMMDD')
         order by child.relname",
    )
    .bind(before.to_string())
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
        sleep(LOCK_PAUSE).await;
    }
}

async fn try_to_drop(store: &PostgresStore, name: &str) -> Result<u64, sqlx::Error> {
    let mut tx = store.pool.begin().await?;
    sqlx::query("set local lock_timeout = '500ms'").execute(&mut *tx).await?;
    // The name has the form of our own partitions, which `partitions` has made sure of.
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

/// Also true of a day whose partition somebody has dropped: nothing else takes one away.
pub(super) async fn is_pruned(store: &PostgresStore, day: Day) -> Result<bool, StoreError> {
    let pruned = sqlx::query_scalar(
        "select exists (select from ledger_prune where first_day > $1::date)
             or to_regclass('usage_event_' || to_char($1::date, 'YYYYMMDD')) is null
                and not exists (select from usage_event_default where day = $1::date)",
    )
    .bind(day.to_string())
    .fetch_one(&store.pool)
    .await?;
    Ok(pruned)
}

pub(super) async fn recorded(
    store: &PostgresStore,
    charges: &[(RequestId, Day)],
) -> Result<HashSet<RequestId>, StoreError> {
    let requests: Vec<Uuid> = charges.iter().map(|(request, _)| request.0).collect();
    let days: Vec<String> = charges.iter().map(|(_, day)| day.to_string()).collect();
    let found: Vec<Uuid> = sqlx::query_scalar(
        "select request
         from usage_event
         where request = any ($1) and day = any ($2::text[]::date[])",
    )
    .bind(requests)
    .bind(days)
    .fetch_all(&store.pool)
    .await?;
    Ok(found.into_iter().map(RequestId).collect())
}

//! Deletes expired rows; see [`crate::store::Store::prune`].

use super::PostgresStore;
use crate::account::day::Day;
use crate::store::reports::QUARTERS_KEPT;
use crate::store::{KEYS_KEPT_DAYS, PRUNED_AT_ONCE, StoreError};
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use sqlx::PgConnection;

pub(super) async fn all(store: &PostgresStore, now: Timestamp) -> Result<u64, StoreError> {
    let kept = days_before(now, KEYS_KEPT_DAYS).as_millisecond();
    let mut tx = store.pool.begin().await?;
    let pruned = old_keys(&mut tx, kept).await?
        + replaced_upgrades(&mut tx, kept).await?
        + expired_sessions(&mut tx, now).await?
        + past_quarters(&mut tx, now).await?;
    tx.commit().await?;
    Ok(pruned)
}

fn days_before(now: Timestamp, days: i64) -> Timestamp {
    now.checked_sub(SignedDuration::from_hours(24 * days)).unwrap_or(Timestamp::MIN)
}

async fn old_keys(tx: &mut PgConnection, before: i64) -> Result<u64, StoreError> {
    let done = sqlx::query(
        "delete from api_key
         where id in (
             select id
             from api_key
             where revoked_at < $1 or expires_at < $1
             limit $2
         )",
    )
    .bind(before)
    .bind(i64::from(PRUNED_AT_ONCE))
    .execute(tx)
    .await?;
    Ok(done.rows_affected())
}

/// Requests that were approved or rejected stay: an admin made each of them.
async fn replaced_upgrades(tx: &mut PgConnection, before: i64) -> Result<u64, StoreError> {
    let done = sqlx::query(
        "delete from upgrade
         where id in (
             select id
             from upgrade
             where status = 'superseded' and asked_at < $1
             limit $2
         )",
    )
    .bind(before)
    .bind(i64::from(PRUNED_AT_ONCE))
    .execute(tx)
    .await?;
    Ok(done.rows_affected())
}

async fn expired_sessions(tx: &mut PgConnection, now: Timestamp) -> Result<u64, StoreError> {
    let done = sqlx::query(
        "delete from session
         where id in (select id from session where expires_at <= $1 limit $2)",
    )
    .bind(now.as_millisecond())
    .bind(i64::from(PRUNED_AT_ONCE))
    .execute(tx)
    .await?;
    Ok(done.rows_affected())
}

async fn past_quarters(tx: &mut PgConnection, now: Timestamp) -> Result<u64, StoreError> {
    let first = Day::at(days_before(now, QUARTERS_KEPT), &TimeZone::UTC);
    let done = sqlx::query(
        "delete from usage_quarter_hourly
         where (user_id, day, quarter, model) in (
             select user_id, day, quarter, model
             from usage_quarter_hourly
             where day < $1::date
             limit $2
         )",
    )
    .bind(first.to_string())
    .bind(i64::from(PRUNED_AT_ONCE))
    .execute(tx)
    .await?;
    Ok(done.rows_affected())
}

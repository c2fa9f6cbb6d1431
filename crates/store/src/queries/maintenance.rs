//! Pruning, and what concerns the store itself.

use super::dialect::{self, Backend, Connection, unpartitioned};
use super::{erasure, external_identities, one_time_links, released_addresses};
use crate::StoreError;
use crate::encode::{self, DayColumn};
use crate::maintenance::{Connections, KEYS_KEPT_DAYS, Maintenance, PRUNE_BATCH, Reach};
use crate::reports::QUARTERS_KEPT;
use async_trait::async_trait;
use domain::day::Day;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use std::time::Duration;
use telemetry::labels::StoreOp;
use tokio::time::sleep;

/// Ledger rows deleted in one transaction.
const LEDGER_BATCH: i64 = 1_000;
/// Pause between two of them, in which other writers have their turn.
const LEDGER_BATCH_INTERVAL: Duration = Duration::from_millis(5);

#[async_trait]
impl Maintenance for Backend {
    async fn acquire_instance_lock(&self) -> Result<(), StoreError> {
        self.handle.run(StoreOp::Journal, self, dialect::acquire_instance_lock(self)).await
    }

    async fn release_instance_lock(&self) -> Result<(), StoreError> {
        self.handle.run(StoreOp::Journal, self, dialect::release_instance_lock(self)).await
    }

    async fn prune(&self, now: Timestamp) -> Result<u64, StoreError> {
        let end = days_before(now, KEYS_KEPT_DAYS).as_millisecond();
        self.transaction(StoreOp::Accounts, async |tx| {
            Ok(old_keys(tx, end).await?
                + superseded_upgrades(tx, end).await?
                + expired_sessions(tx, now).await?
                + one_time_links::prune(tx, now.as_millisecond(), PRUNE_BATCH).await?
                + released_addresses::prune(tx, now.as_millisecond(), PRUNE_BATCH).await?
                + external_identities::prune(tx, now.as_millisecond(), PRUNE_BATCH).await?
                + past_quarters(tx, now).await?
                + erasure::visit_due(tx, now).await?)
        })
        .await
    }

    async fn create_partitions(&self, from: Day) -> Result<(), StoreError> {
        self.handle.run(StoreOp::Ledger, self, dialect::create_partitions(self, from)).await
    }

    async fn prune_ledger(&self, before: Day, now: Timestamp) -> Result<u64, StoreError> {
        self.handle.run(StoreOp::Ledger, self, prune_ledger(self, before, now)).await
    }

    async fn count_dead_letters(&self) -> Result<u64, StoreError> {
        self.read(StoreOp::Ledger, async {
            let count =
                sqlx::query_scalar("select count(*) from usage_dead").fetch_one(&self.pool).await?;
            encode::count(count)
        })
        .await
    }

    async fn ping(&self) -> Result<(), StoreError> {
        Box::pin(self.read(StoreOp::Ping, dialect::ping(self))).await
    }

    async fn reach(&self) -> Reach {
        dialect::reach(self).await
    }

    fn connections(&self) -> Connections {
        let (writing, open) = self.writer.connections();
        let idle = u32::try_from(self.pool.num_idle()).unwrap_or(u32::MAX);
        Connections {
            in_use: writing + self.pool.size().saturating_sub(idle),
            open: open + self.pool.size(),
            max: 1 + self.pool.options().get_max_connections(),
        }
    }

    async fn close(&self) {
        dialect::close(self).await;
    }
}

/// Drops the partitions of the days, and deletes the rows of days that have none in small batches, so that
/// writers are never blocked for long.
async fn prune_ledger(store: &Backend, before: Day, now: Timestamp) -> Result<u64, StoreError> {
    // First, so that a day of which some rows are gone is known to be incomplete.
    sqlx::query(
        "insert into ledger_prune (first_day, at)
         values ($1, $2)
         on conflict (first_day) do nothing",
    )
    .bind(DayColumn(before))
    .bind(now.as_millisecond())
    .execute(&mut *store.turn().await?)
    .await?;
    let mut rows = dialect::drop_partitions(store, before).await?;
    loop {
        let deleted = sqlx::query(concat!(
            "delete from ",
            unpartitioned!(),
            " where (request, day) in (
                 select request, day from ",
            unpartitioned!(),
            "    where day < $1 limit $2
             )"
        ))
        .bind(DayColumn(before))
        .bind(LEDGER_BATCH)
        .execute(&mut *store.turn().await?)
        .await?
        .rows_affected();
        if deleted == 0 {
            return Ok(rows);
        }
        rows += deleted;
        sleep(LEDGER_BATCH_INTERVAL).await;
    }
}

fn days_before(now: Timestamp, days: i64) -> Timestamp {
    now.checked_sub(SignedDuration::from_hours(24 * days)).unwrap_or(Timestamp::MIN)
}

async fn old_keys(tx: &mut Connection, before: i64) -> Result<u64, StoreError> {
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
    .bind(i64::from(PRUNE_BATCH))
    .execute(tx)
    .await?;
    Ok(done.rows_affected())
}

/// Requests that were approved or rejected stay: an admin decided each of them.
async fn superseded_upgrades(tx: &mut Connection, before: i64) -> Result<u64, StoreError> {
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
    .bind(i64::from(PRUNE_BATCH))
    .execute(tx)
    .await?;
    Ok(done.rows_affected())
}

async fn expired_sessions(tx: &mut Connection, now: Timestamp) -> Result<u64, StoreError> {
    let done = sqlx::query(
        "delete from session
         where id in (select id from session where expires_at <= $1 limit $2)",
    )
    .bind(now.as_millisecond())
    .bind(i64::from(PRUNE_BATCH))
    .execute(tx)
    .await?;
    Ok(done.rows_affected())
}

async fn past_quarters(tx: &mut Connection, now: Timestamp) -> Result<u64, StoreError> {
    let first = Day::at(days_before(now, QUARTERS_KEPT), &TimeZone::UTC);
    let done = sqlx::query(
        "delete from usage_quarter_hourly
         where (user_id, day, quarter, model) in (
             select user_id, day, quarter, model
             from usage_quarter_hourly
             where day < $1
             limit $2
         )",
    )
    .bind(DayColumn(first))
    .bind(i64::from(PRUNE_BATCH))
    .execute(tx)
    .await?;
    Ok(done.rows_affected())
}

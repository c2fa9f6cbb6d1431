//! What the shared queries need to know of Postgres: fragments of SQL, and small functions. `sqlite/dialect.rs` has
//! the same items.

use super::connect;
use crate::StoreError;
use crate::callers::CommitStamp;
use crate::encode::DayColumn;
use crate::maintenance::Reach;
use domain::day::Day;
use domain::id::RequestId;
use jiff::Timestamp;
use sqlx::pool::PoolConnection;
use sqlx::{Connection as _, PgPool, QueryBuilder, Transaction};
use uuid::Uuid;

pub(super) use super::PostgresStore as Backend;
pub(super) use super::instance::{acquire_instance_lock, release_instance_lock};
pub(super) use super::instance::{confirm_changes, is_change_confirmed};
pub(super) use super::partitions::{create_partitions, drop_partitions};
pub(super) use sqlx::{PgConnection as Connection, Postgres as Driver};

/// Begins a statement that changes users, with the next number of the change sequence as `number.last`; see
/// `change_number` in the migrations.
macro_rules! next_change {
    () => {
        "with number as (update change_number set last = last + 1 returning last) "
    };
}

macro_rules! for_update {
    () => {
        " for update"
    };
}

macro_rules! for_no_key_update {
    () => {
        " for no key update"
    };
}

macro_rules! skip_locked {
    () => {
        " for update skip locked"
    };
}

/// True for the ids in [`ids`], bound to `$parameter`.
macro_rules! id_in {
    ($parameter:literal) => {
        concat!("= any(", $parameter, ")")
    };
}

/// True for the days in [`days`], bound to `$parameter`.
macro_rules! day_in {
    ($parameter:literal) => {
        concat!("= any(", $parameter, "::text[]::date[])")
    };
}

/// The days in [`days`], bound to `$parameter`, as rows of `days` with the column `value`.
macro_rules! each_day {
    ($parameter:literal) => {
        concat!("unnest(", $parameter, "::text[]::date[]) as days (value)")
    };
}

/// The daily rollup of the days in [`days`] (`$1`), of users above `$2` up to `$last_user`: day by day, each by the key, and
/// only the columns that reports need. The `offset` keeps the planner from reading all days of all these users in one
/// go.
macro_rules! usage_of_days {
    ($last_user:literal) => {
        concat!(
            " from unnest($1::text[]::date[]) as days (value)
             cross join lateral (
                 select user_id, model, requests, calls, failed, prompt, cached, completion, reasoning,
                        cost_micro_dollars
                 from usage_daily
                 where day = days.value and user_id > $2 and user_id <= ",
            $last_user,
            " offset 0
             ) as usage_daily"
        )
    };
}

/// A limit of the user's own from the column with the overrides of `users`; null if the plan's applies.
macro_rules! override_of {
    ($field:literal) => {
        concat!("(users.overrides::json ->> '", $field, "')::bigint")
    };
}

macro_rules! page_start {
    () => {
        "true"
    };
}

macro_rules! page_end {
    () => {
        ""
    };
}

/// The table that has the ledger rows of days without a partition.
macro_rules! unpartitioned {
    () => {
        "usage_event_default"
    };
}

/// True if rows of the day `$1` were pruned, or an operator has dropped its partition.
macro_rules! is_pruned {
    () => {
        "select exists (select 1 from ledger_prune where first_day > $1)
             or to_regclass('usage_event_' || to_char($1, 'YYYYMMDD')) is null
                and not exists (select 1 from usage_event_default where day = $1)"
    };
}

pub(super) use {
    day_in, each_day, for_no_key_update, for_update, id_in, is_pruned, next_change, override_of,
    page_end, page_start, skip_locked, unpartitioned, usage_of_days,
};

/// Encodes the parameter of [`id_in`].
pub(super) fn ids(ids: Vec<Uuid>) -> Vec<Uuid> {
    ids
}

/// Encodes the parameter of [`day_in`].
pub(super) fn days(days: Vec<String>) -> Vec<String> {
    days
}

/// Adds the condition that a user's names match a pattern.
pub(super) fn push_search(query: &mut QueryBuilder<Driver>, pattern: &str) {
    // A plain pattern and no function: the planner can estimate the number of rows, and reads all users in one
    // go where that is cheaper.
    query.push(" and (email like ").push_bind(pattern.to_owned());
    query.push(" or lower(username collate \"C\") like ").push_bind(pattern.to_owned()).push(")");
}

/// Adds the condition that ledger rows are of the days from `oldest` to `newest` and were admitted before
/// `before`.
pub(super) fn push_days(
    query: &mut QueryBuilder<Driver>,
    (oldest, newest): (Day, Day),
    before: Option<(Timestamp, RequestId)>,
) {
    // A parameter of type date, not a text that is cast: the planner leaves out all other partitions.
    query.push(" and day between ").push_bind(DayColumn(oldest));
    query.push(" and ").push_bind(DayColumn(newest));
    if let Some((at, request)) = before {
        query.push(" and (admitted_at, request) < (").push_bind(at.as_millisecond());
        query.push(", ").push_bind(request.0).push(")");
    }
}

pub(super) async fn begin(
    turn: &mut PoolConnection<Driver>,
) -> Result<Transaction<'_, Driver>, sqlx::Error> {
    turn.begin().await
}

/// Begins a transaction that reads a report.
pub(super) async fn begin_report(
    store: &Backend,
) -> Result<Transaction<'static, Driver>, StoreError> {
    // A range of users may look dear enough to compile code for, which takes many times as long as reading it.
    Ok(store.pool.begin_with("begin; set local jit = off").await?)
}

/// Makes later changes to users wait until the transaction ends, before any other row is locked.
pub(super) async fn lock_change_sequence(tx: &mut Connection) -> Result<(), StoreError> {
    sqlx::query("select last from change_number for update").execute(tx).await?;
    Ok(())
}

pub(super) fn change_pool(store: &Backend) -> &PgPool {
    &store.pool
}

pub(super) fn commit_stamp(_store: &Backend) -> CommitStamp {
    CommitStamp::Remote
}

pub(super) async fn ping(store: &Backend) -> Result<(), StoreError> {
    connect::check_writable(&mut *store.pool.acquire().await?).await
}

pub(super) async fn reach(store: &Backend) -> Reach {
    connect::reach(&store.options).await
}

pub(super) async fn close(store: &Backend) {
    store.pool.close().await;
    store.writer.close().await;
}

//! What the shared queries need to know of SQLite: fragments of SQL, and small functions. `postgres/dialect.rs` has
//! the same items.

use super::writer::WriteTurn;
use crate::callers::CommitStamp;
use crate::maintenance::Reach;
use crate::reports::{admitted_from, admitted_until};
use crate::{StoreError, encode};
use domain::day::Day;
use domain::id::{RequestId, UserId};
use encode::DayColumn;
use jiff::Timestamp;
use sqlx::{QueryBuilder, SqlitePool, Transaction};
use std::future::{Ready, ready};
use uuid::Uuid;

pub(super) use super::SqliteStore as Backend;
pub(super) use sqlx::{Sqlite as Driver, SqliteConnection as Connection};

/// Begins a statement that changes users, with the next number of the change sequence as `number.last`. Users are
/// never deleted and there is one writer at a time, so the largest number plus one always rises.
macro_rules! next_change {
    () => {
        "with number as (select coalesce(max(change_seq), 0) + 1 as last from users) "
    };
}

/// Rows need no locks: a transaction holds the write lock of the file.
macro_rules! for_update {
    () => {
        ""
    };
}

macro_rules! for_no_key_update {
    () => {
        ""
    };
}

macro_rules! skip_locked {
    () => {
        ""
    };
}

/// True for the ids in [`ids`], bound to `$parameter`.
macro_rules! id_in {
    ($parameter:literal) => {
        concat!("in (select unhex(value) from json_each(", $parameter, "))")
    };
}

/// True for the days in [`days`], bound to `$parameter`.
macro_rules! day_in {
    ($parameter:literal) => {
        concat!("in (select value from json_each(", $parameter, "))")
    };
}

/// The days in [`days`], bound to `$parameter`, as rows of `days` with the column `value`.
macro_rules! each_day {
    ($parameter:literal) => {
        concat!("json_each(", $parameter, ") as days")
    };
}

/// The daily rollup of the days in [`days`] (`$1`), of users above `$2` up to `$last_user`: day by day, each by the key.
macro_rules! usage_of_days {
    ($last_user:literal) => {
        concat!(
            " from json_each($1) as days
             cross join usage_daily
                 on usage_daily.day = days.value
                and usage_daily.user_id > $2
                and usage_daily.user_id <= ",
            $last_user
        )
    };
}

/// A limit of the user's own from the column with the overrides of `users`; null if the plan's applies.
macro_rules! override_of {
    ($field:literal) => {
        concat!("json_extract(users.overrides, '$.", $field, "')")
    };
}

/// A page of users is found in the index of names alone, and only then are its rows read.
macro_rules! page_start {
    () => {
        "id in (select id from users where true"
    };
}

macro_rules! page_end {
    () => {
        ") order by id"
    };
}

/// The table that has the ledger rows of days without a partition.
macro_rules! unpartitioned {
    () => {
        "usage_event"
    };
}

/// True if rows of the day `$1` were pruned.
macro_rules! is_pruned {
    () => {
        "select exists (select 1 from ledger_prune where first_day > $1)"
    };
}

pub(super) use {
    day_in, each_day, for_no_key_update, for_update, id_in, is_pruned, next_change, override_of,
    page_end, page_start, skip_locked, unpartitioned, usage_of_days,
};

/// Encodes the parameter of [`id_in`].
#[expect(clippy::needless_pass_by_value, reason = "Postgres takes the list itself")]
pub(super) fn ids(ids: Vec<Uuid>) -> String {
    let ids: Vec<String> = ids.iter().map(|id| id.simple().to_string()).collect();
    serde_json::json!(ids).to_string()
}

/// Encodes the parameter of [`day_in`].
#[expect(clippy::needless_pass_by_value, reason = "Postgres takes the list itself")]
pub(super) fn days(days: Vec<String>) -> String {
    serde_json::json!(days).to_string()
}

/// Adds the condition that a user's names match a pattern.
pub(super) fn push_search(query: &mut QueryBuilder<Driver>, pattern: &str) {
    // `like` ignores the case of A to Z, so no lower-case copy of each name is needed.
    query.push(" and (email like ").push_bind(pattern.to_owned()).push(" escape '\\'");
    query.push(" or username like ").push_bind(pattern.to_owned()).push(" escape '\\')");
}

/// Adds the condition that ledger rows are of the days from `oldest` to `newest` and were admitted before
/// `before`.
pub(super) fn push_days(
    query: &mut QueryBuilder<Driver>,
    (oldest, newest): (Day, Day),
    before: Option<(Timestamp, RequestId)>,
) {
    // The index has the time of admission, which limits the days closely enough.
    let page_end = before.map(|(at, request)| (at.as_millisecond(), request.0));
    let days_end = (admitted_until(newest), Uuid::nil());
    let end = page_end.map_or(days_end, |end| end.min(days_end));
    query.push(" and admitted_at >= ").push_bind(admitted_from(oldest));
    query.push(" and (admitted_at, request) < (").push_bind(end.0);
    query.push(", ").push_bind(end.1).push(")");
    // The plus excludes the index on days, which has no users.
    query.push(" and +day between ").push_bind(DayColumn(oldest));
    query.push(" and ").push_bind(DayColumn(newest));
}

/// Begins a transaction that holds the file's write lock from its start.
pub(super) async fn begin<'a>(
    turn: &'a mut WriteTurn<'_>,
) -> Result<Transaction<'a, Driver>, sqlx::Error> {
    turn.begin().await
}

/// Begins a transaction that reads a report, as of one moment.
pub(super) async fn begin_report(
    store: &Backend,
) -> Result<Transaction<'static, Driver>, StoreError> {
    Ok(store.pool.begin().await?)
}

/// Does nothing: a transaction holds the write lock from its start.
pub(super) fn lock_change_sequence(_tx: &mut Connection) -> Ready<Result<(), StoreError>> {
    ready(Ok(()))
}

/// The connection for reading changes. Calls wait for it, so no long report may occupy it.
pub(super) fn change_pool(store: &Backend) -> &SqlitePool {
    &store.watcher
}

pub(super) fn commit_stamp(store: &Backend) -> CommitStamp {
    store.commits.stamp()
}

/// Does nothing: every process sees the commits of all others.
pub(super) fn confirm_changes(_store: &Backend, _upto: u64) -> Ready<Result<(), StoreError>> {
    ready(Ok(()))
}

pub(super) fn is_change_confirmed(
    _store: &Backend,
    _user: Option<UserId>,
) -> Ready<Result<bool, StoreError>> {
    ready(Ok(true))
}

/// Does nothing: the lock on the data directory is the instance lock.
pub(super) fn acquire_instance_lock(_store: &Backend) -> Ready<Result<(), StoreError>> {
    ready(Ok(()))
}

/// Does nothing: whoever opened the folder releases its lock.
pub(super) fn release_instance_lock(_store: &Backend) -> Ready<Result<(), StoreError>> {
    ready(Ok(()))
}

/// Does nothing: one table holds all days.
pub(super) fn create_partitions(_store: &Backend, _from: Day) -> Ready<Result<(), StoreError>> {
    ready(Ok(()))
}

pub(super) fn drop_partitions(_store: &Backend, _before: Day) -> Ready<Result<u64, StoreError>> {
    ready(Ok(0))
}

pub(super) async fn ping(store: &Backend) -> Result<(), StoreError> {
    sqlx::query("select 1").execute(&store.pool).await?;
    Ok(())
}

pub(super) fn reach(_store: &Backend) -> Ready<Reach> {
    ready(Reach::Open)
}

pub(super) async fn close(store: &Backend) {
    store.pool.close().await;
    store.watcher.close().await;
    store.commits.close().await;
    store.writer.close().await;
}

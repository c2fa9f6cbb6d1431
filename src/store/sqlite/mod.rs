//! The embedded store: one `SQLite` file, all of its SQL.
//!
//! Every write goes through one connection, so writers of this process queue fairly instead of
//! finding the file busy; reads have a pool of their own and never wait for a writer (WAL).
//! A write takes the write lock when it begins, never half way, so that two processes (a running
//! gateway and a command) wait for each other and neither fails.

mod accounts;
mod sessions;
mod secret;
mod upgrades;
mod stored_responses;
mod audit;
mod keys;
mod callers;
mod checks;
mod commits;
mod dead;
mod history;
mod journal;
mod plans;
mod prune;
mod reports;
mod retention;
mod writer;

use super::trouble;
use super::{
    Changes, CommitStamp, Drift, Entry, KeyChange, KeyFilter, Mark, NewKey, NewUser, PlanChange,
    Store, StoreError,
};
use super::{Used, UserChange, UserError, UserFilter};
use crate::account::by::By;
use crate::account::caller::Caller;
use crate::account::charge::Charge;
use crate::account::day::Day;
use crate::account::id::{KeyId, PlanId, RequestId, UserId};
use crate::account::key::Key;
use crate::account::plan::Plan;
use crate::account::user::User;
use crate::config::Durability;
use crate::private_files;
use async_trait::async_trait;
use commits::Commits;
use jiff::Timestamp;
use sqlx::SqlitePool;
use sqlx::error::DatabaseError;
use sqlx::migrate::{MigrateError, Migrator};
use sqlx::sqlite::{SqliteConnectOptions, SqliteError, SqliteJournalMode};
use sqlx::sqlite::{SqlitePoolOptions, SqliteSynchronous};
use std::collections::HashSet;
use std::fs::OpenOptions;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::Duration;
use uuid::Uuid;
use writer::Writer;

static MIGRATIONS: Migrator = sqlx::migrate!("migrations/sqlite");

/// How long a statement waits for another process that holds the write lock.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a caller waits for a connection.
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(10);
const READERS: u32 = 4;

/// The store in one `SQLite` file.
#[derive(Debug)]
pub struct SqliteStore {
    writer: Writer,
    readers: SqlitePool,
    /// For looking who changed, which calls wait for: no long report holds it.
    watcher: SqlitePool,
    commits: Commits,
}

impl SqliteStore {
    /// Opens the file, making it and its folder when they are not there, and brings its tables up
    /// to date.
    ///
    /// # Errors
    /// When the file cannot be used, or was written by a newer version.
    pub async fn open(path: &Path, durability: Durability) -> Result<Self, StoreError> {
        create_private(path)?;
        let options = connect_options(path, durability);
        let pool = |connections| {
            SqlitePoolOptions::new()
                .max_connections(connections)
                .acquire_timeout(ACQUIRE_TIMEOUT)
                .idle_timeout(None)
                .max_lifetime(None)
                // A file does not go away; asking each time would double the round trips.
                .test_before_acquire(false)
                .connect_lazy_with(options.clone())
        };
        let (readers, watcher) = (pool(READERS), pool(1));
        let writer = Writer::open(options.clone()).await.map_err(|e| cannot_open(path, &e))?;
        let store = Self { writer, readers, watcher, commits: Commits::of(path) };
        store.migrate().await?;
        Ok(store)
    }

    /// All or nothing, and under the write lock, so that two processes may start at once.
    async fn migrate(&self) -> Result<(), StoreError> {
        let mut turn = self.writer.turn().await?;
        let mut tx = turn.begin().await?;
        MIGRATIONS.run(&mut *tx).await.map_err(|e| match e {
            MigrateError::VersionMissing(_) => {
                StoreError::Corrupt("the database was written by a newer version of knockx".into())
            }
            MigrateError::Execute(e) | MigrateError::ExecuteMigration(e, _) => e.into(),
            other => StoreError::Corrupt(other.to_string()),
        })?;
        tx.commit().await?;
        Ok(())
    }
}

#[async_trait]
impl Store for SqliteStore {
    async fn journal(&self, batch: &[Entry], mark: Option<Mark>) -> Result<(), StoreError> {
        journal::write(self, batch, mark).await
    }

    async fn mark(&self, log: Uuid) -> Result<Option<u64>, StoreError> {
        journal::mark(self, log).await
    }

    async fn latest_mark(&self) -> Result<Option<Mark>, StoreError> {
        journal::latest_mark(self).await
    }

    async fn claim(&self) -> Result<(), StoreError> {
        // The lock on the folder is the claim.
        Ok(())
    }

    async fn release_claim(&self) -> Result<(), StoreError> {
        // Whoever opened the folder gives up its lock.
        Ok(())
    }

    async fn prepare_days(&self, _from: Day) -> Result<(), StoreError> {
        // One table holds all days.
        Ok(())
    }

    async fn prune(&self, now: Timestamp) -> Result<u64, StoreError> {
        prune::all(self, now).await
    }

    async fn bury(&self, entry: &str, why: &str, now: Timestamp) -> Result<(), StoreError> {
        dead::bury(self, entry, why, now).await
    }

    async fn used_since(&self, from: Day) -> Result<Vec<Used>, StoreError> {
        checks::used_since(self, from).await
    }

    async fn caller(&self, key: &KeyId) -> Result<Option<Caller>, StoreError> {
        callers::caller(self, key).await
    }

    async fn user_version(&self, user: UserId) -> Result<Option<u64>, StoreError> {
        callers::user_version(self, user).await
    }

    async fn changes(&self, since: u64) -> Result<Changes, StoreError> {
        callers::changes(self, since).await
    }

    async fn last_change(&self) -> Result<u64, StoreError> {
        callers::last_change(self).await
    }

    fn commit_stamp(&self) -> CommitStamp {
        self.commits.stamp()
    }

    async fn confirm_changes(&self, _upto: u64) -> Result<(), StoreError> {
        // Every process sees the commits of all others.
        Ok(())
    }

    async fn is_change_confirmed(&self, _user: Option<UserId>) -> Result<bool, StoreError> {
        Ok(true)
    }

    async fn add_user(&self, user: &NewUser, by: &By) -> Result<User, UserError> {
        accounts::add(self, user, by).await
    }

    async fn user(&self, id: UserId) -> Result<Option<User>, StoreError> {
        accounts::by_id(self, id).await
    }

    async fn user_by_email(&self, email: &str) -> Result<Option<User>, StoreError> {
        accounts::by_email(self, email).await
    }

    async fn users(
        &self,
        filter: &UserFilter,
        after: Option<UserId>,
        limit: u32,
    ) -> Result<Vec<User>, StoreError> {
        accounts::page(self, filter, after, limit).await
    }

    async fn change_user(
        &self,
        id: UserId,
        change: &UserChange,
        by: &By,
    ) -> Result<Option<User>, UserError> {
        accounts::change(self, id, change, by).await
    }

    async fn add_key(&self, user: UserId, key: &NewKey, by: &By) -> Result<Key, StoreError> {
        keys::add(self, user, key, by).await
    }

    async fn change_key(
        &self,
        user: UserId,
        key: &KeyId,
        change: &KeyChange,
        by: &By,
    ) -> Result<Option<Key>, StoreError> {
        keys::change(self, user, key, change, by).await
    }

    async fn replace_key(&self, user: UserId, key: &NewKey, by: &By) -> Result<Key, StoreError> {
        keys::replace(self, user, key, by).await
    }

    async fn keys(
        &self,
        user: UserId,
        filter: &KeyFilter,
        limit: u32,
    ) -> Result<Vec<Key>, StoreError> {
        keys::of_user(self, user, filter, limit).await
    }

    async fn key(&self, user: UserId, key: &KeyId) -> Result<Option<Key>, StoreError> {
        keys::one_of_user(self, user, key).await
    }

    async fn revoke_key(&self, key: &KeyId, by: &By) -> Result<Option<Key>, StoreError> {
        keys::revoke(self, key, by).await
    }

    async fn plans(&self) -> Result<Vec<Plan>, StoreError> {
        plans::all(self).await
    }

    async fn plan(&self, id: &PlanId) -> Result<Option<Plan>, StoreError> {
        plans::by_id(self, id).await
    }

    async fn put_plans(&self, plans: &[Plan], by: &By) -> Result<Vec<PlanId>, StoreError> {
        plans::put(self, plans, by).await
    }

    async fn add_plan(&self, plan: &Plan, by: &By) -> Result<bool, StoreError> {
        plans::add(self, plan, by).await
    }

    async fn change_plan(
        &self,
        id: &PlanId,
        change: &PlanChange,
        by: &By,
    ) -> Result<Option<Plan>, StoreError> {
        plans::change(self, id, change, by).await
    }

    async fn rollup_drift(&self, day: Day) -> Result<Vec<Drift>, StoreError> {
        checks::rollup_drift(self, day).await
    }

    async fn ledger_totals(&self, day: Day) -> Result<Vec<Used>, StoreError> {
        checks::ledger_totals(self, day).await
    }

    async fn charge(&self, request: RequestId) -> Result<Option<Charge>, StoreError> {
        checks::charge(self, request).await
    }

    async fn charges(&self, day: Day) -> Result<Vec<Charge>, StoreError> {
        checks::charges(self, day).await
    }

    async fn recorded(
        &self,
        charges: &[(RequestId, Day)],
    ) -> Result<HashSet<RequestId>, StoreError> {
        retention::recorded(self, charges).await
    }

    async fn prune_ledger(&self, before: Day, now: Timestamp) -> Result<u64, StoreError> {
        retention::prune(self, before, now).await
    }

    async fn is_ledger_pruned(&self, day: Day) -> Result<bool, StoreError> {
        retention::is_pruned(self, day).await
    }

    async fn buried(&self) -> Result<u64, StoreError> {
        dead::buried(self).await
    }

    async fn ping(&self) -> Result<(), StoreError> {
        sqlx::query("select 1").execute(&self.readers).await?;
        Ok(())
    }

    async fn close(&self) {
        self.readers.close().await;
        self.watcher.close().await;
        self.writer.close().await;
    }
}

/// Whether the entry or row itself is to blame. A damaged or full file is the store's own trouble.
pub(super) fn blames_the_data(error: &SqliteError) -> bool {
    matches!(primary_code(error), Some(TOO_BIG | CONSTRAINT | MISMATCH))
}

/// Whether another process was in the way.
fn is_busy(error: &sqlx::Error) -> bool {
    let error = error.as_database_error().and_then(|e| e.try_downcast_ref::<SqliteError>());
    error.and_then(primary_code) == Some(BUSY)
}

const BUSY: i32 = 5;
const TOO_BIG: i32 = 18;
const CONSTRAINT: i32 = 19;
const MISMATCH: i32 = 20;

/// `SQLite`'s error code without the detail in its upper bytes.
fn primary_code(error: &SqliteError) -> Option<i32> {
    error.code()?.parse::<i32>().ok().map(|code| code & 0xff)
}

fn connect_options(path: &Path, durability: Durability) -> SqliteConnectOptions {
    SqliteConnectOptions::new()
        .filename(path)
        .create_if_missing(true)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(match durability {
            Durability::Process => SqliteSynchronous::Normal,
            Durability::Power => SqliteSynchronous::Full,
        })
        .foreign_keys(true)
        .busy_timeout(BUSY_TIMEOUT)
        // A burst may make the log large; give the space back afterwards.
        .pragma("journal_size_limit", "67108864")
        .thread_name(|at| format!("sqlite-{at}"))
}

/// Makes the file and its folder for the owner alone: the ledger says who talked, and when.
fn create_private(path: &Path) -> Result<(), StoreError> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    folder
        .map_or(Ok(()), private_files::create_folder)
        .and_then(|()| private_files::check_database(path))
        .and_then(|()| {
            // SQLite gives its other files the same rights.
            OpenOptions::new().append(true).create(true).mode(0o600).open(path)
        })
        .map(drop)
        .map_err(|e| {
            StoreError::Unavailable(format!(
                "{} cannot be made or written ({e}); check that it and its folder belong to this account, and \
                 may be written",
                path.display()
            ))
        })
}

fn cannot_open(path: &Path, error: &sqlx::Error) -> StoreError {
    let sentence = trouble::sentence(error);
    StoreError::Unavailable(format!("{} cannot be opened: {sentence}", path.display()))
}

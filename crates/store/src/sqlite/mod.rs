//! The store in one SQLite file.
//!
//! Every write goes through one connection, so writers of this process queue fairly instead of finding the file
//! busy; reads have a pool of their own and never wait for a writer (WAL). A transaction takes the write lock when
//! it begins, never half way, so two processes (a running gateway and a command) wait for each other and
//! neither fails.

mod commits;
mod dialect;
mod ledger_batch;
#[path = "../queries/mod.rs"]
#[allow(clippy::duplicate_mod, reason = "the queries are compiled for each driver")]
mod queries;
mod writer;

use super::StoreError;
use super::error;
use super::handle::Handle;
use crate::location::Durability;
use commits::Commits;
use sqlx::SqlitePool;
use sqlx::error::DatabaseError;
use sqlx::migrate::{MigrateError, Migrator};
use sqlx::sqlite::{SqliteConnectOptions, SqliteError, SqliteJournalMode};
use sqlx::sqlite::{SqlitePoolOptions, SqliteSynchronous};
use std::fs::OpenOptions;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use system::private_files;
use writer::{WriteTurn, Writer};

static MIGRATIONS: Migrator = sqlx_macros::migrate!("../../migrations/sqlite");

/// Limit for a statement to get the write lock from another process.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);
/// Limit for a caller to get a connection.
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(10);
const READERS: u32 = 4;

/// The store in one `SQLite` file.
#[derive(Clone)]
pub struct SqliteStore {
    handle: Handle,
    writer: Arc<Writer>,
    /// Connections for reads, which never wait for the writer.
    pool: SqlitePool,
    /// For reading which users changed. Calls wait for it, so no long report may occupy it.
    watcher: SqlitePool,
    commits: Arc<Commits>,
}

impl SqliteStore {
    /// Opens the file, creating it and its folder if they do not exist, and migrates its tables.
    ///
    /// # Errors
    /// If the file cannot be used, or was written by a newer version.
    pub async fn open(path: &Path, durability: Durability) -> Result<Self, StoreError> {
        create_private(path)?;
        let options = connect_options(path, durability);
        let pool = |connections| {
            SqlitePoolOptions::new()
                .max_connections(connections)
                .acquire_timeout(ACQUIRE_TIMEOUT)
                .idle_timeout(None)
                .max_lifetime(None)
                // A file does not go away; testing each time would double the round trips.
                .test_before_acquire(false)
                .connect_lazy_with(options.clone())
        };
        let writer = Writer::open(options.clone()).await.map_err(|e| cannot_open(path, &e))?;
        let commits = Commits::of(path, &options).await?;
        let store = Self {
            handle: Handle::default(),
            writer: Arc::new(writer),
            pool: pool(READERS),
            watcher: pool(1),
            commits: Arc::new(commits),
        };
        store.migrate().await?;
        Ok(store)
    }

    /// Migrates in one transaction under the write lock, so that two processes may start at once.
    async fn migrate(&self) -> Result<(), StoreError> {
        let mut turn = self.turn().await?;
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

    /// The writing connection, when it is this writer's turn.
    async fn turn(&self) -> Result<WriteTurn<'_>, StoreError> {
        self.writer.turn().await
    }
}

/// True for errors of the entry or row itself, not of a damaged or full file.
pub(super) fn blames_the_data(error: &SqliteError) -> bool {
    matches!(primary_code(error), Some(TOO_BIG | CONSTRAINT | MISMATCH))
}

/// True if another process holds a lock.
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
        // A burst may make the log large; return the space afterwards.
        .pragma("journal_size_limit", "67108864")
        // Start-up reads hundreds of thousands of rows, and waits for the connection's thread after so many.
        .row_buffer_size(1024)
        .thread_name(|at| format!("sqlite-{at}"))
}

/// Creates the file and its folder, readable for the owner alone: the ledger has who called, and when.
fn create_private(path: &Path) -> Result<(), StoreError> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    folder
        .map_or(Ok(()), private_files::create_folder)
        .and_then(|()| private_files::check_database(path))
        .and_then(|()| {
            // SQLite gives its other files the same mode.
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
    let sentence = error::message(error);
    StoreError::Unavailable(format!("{} cannot be opened: {sentence}", path.display()))
}

//! The one connection that writes, and the queue for it.

use super::{ACQUIRE_TIMEOUT, BUSY_TIMEOUT, is_busy};
use crate::StoreError;
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{ConnectOptions, Connection, Executor, Sqlite, SqliteConnection, Transaction};
use std::ops::{Deref, DerefMut};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use system::clock;
use tokio::sync::{Mutex, MutexGuard};

const BUSY_INTERVAL: Duration = Duration::from_millis(10);
/// Instructions of SQLite's virtual machine between two yields of the writing thread.
const INSTRUCTIONS: i32 = 1_000;

/// Writers of this process wait here in order of arrival, so none finds the file busy because of another. It is
/// not a pool, which would test the connection before and after each use: that costs more than a small batch.
#[derive(Debug)]
pub(super) struct Writer {
    options: SqliteConnectOptions,
    yields: Arc<AtomicBool>,
    /// `None` while a [`WriteTurn::once`] runs, and after one that failed.
    connection: Mutex<Option<SqliteConnection>>,
}

/// The writing connection, for as long as this lives.
pub(super) struct WriteTurn<'a> {
    connection: MutexGuard<'a, Option<SqliteConnection>>,
    yields: &'a AtomicBool,
}

impl Writer {
    pub(super) async fn open(options: SqliteConnectOptions) -> Result<Self, sqlx::Error> {
        let mut connection = connect_in_turn(&options).await?;
        let yields = Arc::default();
        yield_often(&mut connection, &yields).await?;
        Ok(Self { options, yields, connection: Mutex::new(Some(connection)) })
    }

    pub(super) async fn turn(&self) -> Result<WriteTurn<'_>, StoreError> {
        let turn = tokio::time::timeout(ACQUIRE_TIMEOUT, self.connection.lock()).await;
        let mut turn = turn
            .map_err(|_| StoreError::Unavailable("timed out waiting for another write".into()))?;
        if turn.is_none() {
            let mut connection = self.options.connect().await?;
            yield_often(&mut connection, &self.yields).await?;
            *turn = Some(connection);
        }
        self.yields.store(true, Ordering::Relaxed);
        Ok(WriteTurn { connection: turn, yields: &self.yields })
    }

    /// Number of connections in use, and in all.
    pub(super) fn connections(&self) -> (u32, u32) {
        self.connection.try_lock().map_or((1, 1), |idle| (0, u32::from(idle.is_some())))
    }

    pub(super) async fn close(&self) {
        if let Some(mut connection) = self.connection.lock().await.take() {
            // The file is complete together with its log. The checkpoint moves the log into the file, so that
            // it may be copied alone; it neither waits for other processes nor blocks them.
            let _ = connection.execute("pragma wal_checkpoint(passive)").await;
            let _ = connection.close().await;
        }
    }
}

/// Yields the processor during long statements. The scheduler leaves a thread that computes alone for about
/// 3 ms, and a batch of the ledger takes longer: on a busy machine calls would wait for it.
async fn yield_often(
    connection: &mut SqliteConnection,
    yields: &Arc<AtomicBool>,
) -> Result<(), sqlx::Error> {
    let yields = Arc::clone(yields);
    connection.lock_handle().await?.set_progress_handler(INSTRUCTIONS, move || {
        if yields.load(Ordering::Relaxed) {
            std::thread::yield_now();
        }
        true
    });
    Ok(())
}

/// SQLite's busy timeout does not apply to the change of a new file to WAL, which two processes that start at
/// once both attempt.
async fn connect_in_turn(options: &SqliteConnectOptions) -> Result<SqliteConnection, sqlx::Error> {
    let began = clock::instant();
    loop {
        match options.connect().await {
            Err(e) if is_busy(&e) && clock::instant().duration_since(began) < BUSY_TIMEOUT => {
                tokio::time::sleep(BUSY_INTERVAL).await;
            }
            connected => return connected,
        }
    }
}

impl WriteTurn<'_> {
    /// Begins a transaction that holds the file's write lock from its start.
    pub(super) async fn begin(&mut self) -> Result<Transaction<'_, Sqlite>, sqlx::Error> {
        self.begin_with("begin immediate").await
    }

    /// Stops yielding for this turn: on a saturated machine a thread that yields makes almost no progress.
    pub(super) fn stop_yielding(&self) {
        self.yields.store(false, Ordering::Relaxed);
    }

    /// Runs SQL that begins and commits by itself. If it fails half way, or its future is dropped, the
    /// connection is closed, and SQLite rolls back.
    pub(super) async fn once<T>(
        mut self,
        run: impl AsyncFnOnce(&mut SqliteConnection) -> Result<T, sqlx::Error>,
    ) -> Result<T, StoreError> {
        let mut connection = self.connection.take().expect("a turn has a connection");
        let done = run(&mut connection).await?;
        *self.connection = Some(connection);
        Ok(done)
    }
}

impl Deref for WriteTurn<'_> {
    type Target = SqliteConnection;

    fn deref(&self) -> &SqliteConnection {
        self.connection.as_ref().expect("a turn has a connection")
    }
}

impl DerefMut for WriteTurn<'_> {
    fn deref_mut(&mut self) -> &mut SqliteConnection {
        self.connection.as_mut().expect("a turn has a connection")
    }
}

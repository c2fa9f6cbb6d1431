//! The one connection that writes the ledger's batches, and the instance lock.
//!
//! It is not part of the pool, which would test the connection before each batch and so double the round trips. A
//! dead connection is noticed by using it (Neon closes idle ones), and the batch is sent again on a new one, since
//! repeating a batch changes nothing.
//!
//! The instance lock has two parts. A session's advisory lock on this connection refuses other instances for as
//! long as the process lives. The epoch of the table `instance` goes with every batch. The advisory lock may be
//! lost with its connection and is acquired again; an instance that acquired it in between has incremented the
//! epoch, and then this one writes nothing more.

use super::ledger_batch::Arrays;
use super::{READ_ONLY, is_server_failure, unavailable};
use crate::StoreError;
use futures_util::future::join_all;
use sqlx::error::DatabaseError;
use sqlx::postgres::PgConnectOptions;
use sqlx::{ConnectOptions, Connection, Executor, PgConnection, PgPool};
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;
use tokio::sync::Mutex;
use tokio::time::{sleep, timeout};

/// Limit of a batch, and of connecting.
const WRITE_TIMEOUT: Duration = Duration::from_secs(10);
/// A server takes a moment to notice that an instance has died.
const LOCK_TRIES: u32 = 10;
const LOCK_INTERVAL: Duration = Duration::from_millis(200);
/// Number of queries that check which server process serves the session.
const SESSION_QUERIES: usize = 8;

/// "knockx" in ASCII; advisory locks are numbers, each database has its own.
pub(super) const INSTANCE_LOCK: i64 = 0x6b_6e6f_636b_7801;

const NEEDS_A_SESSION: &str = "without Redis one instance holds a lock on the database, which needs \
    a direct connection: DATABASE_URL leads through a connection pooler; name the host without \
    `-pooler`";

pub(super) struct Writer {
    options: PgConnectOptions,
    pooled: bool,
    state: Mutex<State>,
    /// The epoch of the instance lock, for those who do not write; 0 = not acquired.
    epoch: AtomicI64,
}

#[derive(Default)]
struct State {
    /// `None` before the first use, while a batch is under way, and after one that failed.
    connection: Option<PgConnection>,
    lock: Option<InstanceLock>,
}

#[derive(Clone, Copy)]
struct InstanceLock {
    epoch: i64,
    /// True if `State::connection` holds the advisory lock.
    is_held: bool,
}

impl Writer {
    pub(super) fn new(options: PgConnectOptions, pooled: bool) -> Self {
        Self { options, pooled, state: Mutex::default(), epoch: AtomicI64::new(0) }
    }

    /// The epoch of the instance lock; `None` if it was not acquired.
    pub(super) fn epoch(&self) -> Option<i64> {
        Some(self.epoch.load(Ordering::Relaxed)).filter(|epoch| *epoch != 0)
    }

    /// Acquires the instance lock. An instance that lost its lock is superseded by this.
    pub(super) async fn acquire_instance_lock(&self, pool: &PgPool) -> Result<(), StoreError> {
        let refused = |why: &str| StoreError::Unavailable(why.to_owned());
        let mut connection = self.connect().await?;
        require_session(self.pooled, &mut connection, pool).await?;
        let mut tries = 1;
        while !try_advisory_lock(&mut connection).await? {
            if tries == LOCK_TRIES {
                return Err(refused("another knockx is using this database; stop it first"));
            }
            tries += 1;
            sleep(LOCK_INTERVAL).await;
        }
        // Waits for a batch that the previous holder is still writing.
        let epoch = sqlx::query_scalar("update instance set epoch = epoch + 1 returning epoch")
            .fetch_one(&mut connection)
            .await?;
        let mut state = self.state.lock().await;
        self.epoch.store(epoch, Ordering::Relaxed);
        state.lock = Some(InstanceLock { epoch, is_held: true });
        state.connection = Some(connection);
        Ok(())
    }

    /// Releases the lock by closing the connection that holds it. The epoch stays: a later write acquires the lock
    /// again, and fails if another instance has acquired it meanwhile.
    pub(super) async fn release_instance_lock(&self) -> Result<(), StoreError> {
        let mut state = self.state.lock().await;
        if let Some(lock) = &mut state.lock {
            lock.is_held = false;
        }
        match state.connection.take() {
            Some(connection) => Ok(connection.close().await?),
            None => Ok(()),
        }
    }

    /// Writes a batch, and retries it once on a new connection.
    pub(super) async fn write(&self, batch: &Arrays<'_>) -> Result<(), StoreError> {
        let mut state = timeout(WRITE_TIMEOUT, self.state.lock())
            .await
            .map_err(|_| StoreError::Unavailable("timed out waiting for another write".into()))?;
        let was_open = state.connection.is_some();
        match self.try_to_write(&mut state, batch).await {
            // Written or not, a batch may be repeated. Or the server has become a standby since the
            // connection was opened, and the primary is another one now.
            Err(Failure::Stale(_)) if was_open => {}
            done => return done.map_err(Failure::into_error),
        }
        self.try_to_write(&mut state, batch).await.map_err(Failure::into_error)
    }

    async fn try_to_write(&self, state: &mut State, batch: &Arrays<'_>) -> Result<(), Failure> {
        let mut connection = self.ready_connection(state).await.map_err(Failure::Lasting)?;
        let epoch = state.lock.map(|lock| lock.epoch);
        match timeout(WRITE_TIMEOUT, batch.write(epoch, &mut connection)).await {
            Ok(Ok(())) => {
                state.connection = Some(connection);
                Ok(())
            }
            Ok(Err(e)) if is_refusal(&e) && !is_read_only(&e) => {
                state.connection = Some(connection);
                Err(Failure::Lasting(e.into()))
            }
            Ok(Err(e)) => Err(Failure::Stale(e.into())),
            // Another attempt would take as long again.
            Err(_) => Err(Failure::Lasting(unavailable("no response in time"))),
        }
    }

    /// Takes the connection; connects and acquires the lock again if needed.
    async fn ready_connection(&self, state: &mut State) -> Result<PgConnection, StoreError> {
        let (mut connection, is_new) = match state.connection.take() {
            Some(connection) => (connection, false),
            None => (self.connect().await?, true),
        };
        if let Some(lock) = &mut state.lock
            && (is_new || !lock.is_held)
        {
            // The server may consider the lost connection alive and keep its lock for a while. The epoch
            // still shows whether another instance has acquired it.
            lock.is_held = try_advisory_lock(&mut connection).await?;
        }
        Ok(connection)
    }

    async fn connect(&self) -> Result<PgConnection, StoreError> {
        match timeout(WRITE_TIMEOUT, self.options.connect()).await {
            Ok(connected) => Ok(connected?),
            Err(_) => Err(unavailable("no connection in time")),
        }
    }

    /// Number of connections in use, and in all.
    pub(super) fn connections(&self) -> (u32, u32) {
        self.state.try_lock().map_or((1, 1), |idle| (0, u32::from(idle.connection.is_some())))
    }

    pub(super) async fn close(&self) {
        if let Some(connection) = self.state.lock().await.connection.take() {
            // What was committed is safe either way.
            let _ = connection.close().await;
        }
    }
}

/// The reason for which a batch may not have been written.
enum Failure {
    /// The connection is unusable; the batch may be written on another one.
    Stale(StoreError),
    /// Another connection would fail too.
    Lasting(StoreError),
}

impl Failure {
    fn into_error(self) -> StoreError {
        match self {
            Self::Stale(error) | Self::Lasting(error) => error,
        }
    }
}

/// True for an error after which the connection is usable and nothing was written.
fn is_refusal(error: &sqlx::Error) -> bool {
    match error.as_database_error() {
        Some(error) => !error.code().is_some_and(|code| is_server_failure(&code)),
        None => false,
    }
}

fn is_read_only(error: &sqlx::Error) -> bool {
    let code = error.as_database_error().and_then(DatabaseError::code);
    code.is_some_and(|code| code == READ_ONLY)
}

async fn try_advisory_lock(connection: &mut PgConnection) -> Result<bool, StoreError> {
    // A machine that vanishes must not hold the lock for the two hours that are the default.
    connection
        .execute("set tcp_keepalives_idle = 20; set tcp_keepalives_interval = 10; set tcp_keepalives_count = 3")
        .await?;
    let taken = sqlx::query_scalar("select pg_try_advisory_lock($1)")
        .bind(INSTANCE_LOCK)
        .fetch_one(connection)
        .await?;
    Ok(taken)
}

/// # Errors
/// If sessions do not last on the way to the server, by its name or by a test, so that no lock can be held.
pub(super) async fn require_session(
    is_pooled: bool,
    connection: &mut PgConnection,
    pool: &PgPool,
) -> Result<(), StoreError> {
    if is_pooled || !is_one_session(connection, pool).await? {
        return Err(StoreError::Unavailable(NEEDS_A_SESSION.to_owned()));
    }
    Ok(())
}

/// True if one server process serves the connection throughout. A pooler in transaction mode assigns another
/// one whenever others are busy, and a lock would stay behind with the first.
async fn is_one_session(connection: &mut PgConnection, pool: &PgPool) -> Result<bool, StoreError> {
    let mut served_by: Option<i32> = None;
    for _ in 0..SESSION_QUERIES {
        let others = (0..pool.options().get_max_connections())
            .map(|_| sqlx::query_scalar::<_, i32>("select pg_backend_pid()").fetch_one(pool));
        let query = sqlx::query_scalar::<_, i32>("select pg_backend_pid()");
        let (pid, others) = tokio::join!(query.fetch_one(&mut *connection), join_all(others));
        let pid = pid?;
        let shared = others.into_iter().flatten().any(|other| other == pid);
        if shared || served_by.is_some_and(|first| first != pid) {
            return Ok(false);
        }
        served_by = Some(pid);
    }
    Ok(true)
}

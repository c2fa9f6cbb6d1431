//! The one connection that writes the journal, and the claim that goes with it.
//!
//! Not one of the pool: that would ask before each batch whether the connection still lives, which
//! doubles the round trips. This one is found dead by using it (Neon closes what is idle), and the
//! batch is sent again on a new one, since repeating a batch changes nothing.
//!
//! A claimed store holds two things. A session's advisory lock on this connection, which refuses
//! other instances for as long as the process lives; and the epoch of the table `instance`, which
//! goes with every batch. The lock may be lost with its connection and is taken again; whoever took
//! it in between has raised the epoch, and then nothing more is written here.

use super::journal::Arrays;
use super::{READ_ONLY, is_in_the_way, trouble};
use crate::store::StoreError;
use futures_util::future::join_all;
use sqlx::error::DatabaseError;
use sqlx::postgres::PgConnectOptions;
use sqlx::{ConnectOptions, Connection, Executor, PgConnection, PgPool};
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;
use tokio::sync::Mutex;
use tokio::time::{sleep, timeout};

/// A batch or a connection that takes longer is given up.
const PATIENCE: Duration = Duration::from_secs(10);
/// A server needs a moment to notice that an instance has died.
const LOCK_TRIES: u32 = 10;
const LOCK_PAUSE: Duration = Duration::from_millis(200);
/// How often the session is asked who serves it.
const SESSION_LOOKS: usize = 8;

/// "knockx" in ASCII; advisory locks are numbers, each database has its own.
pub(super) const INSTANCE_LOCK: i64 = 0x6b_6e6f_636b_7801;

const NEEDS_A_SESSION: &str = "without Redis one instance holds a lock on the database, which needs \
    a direct connection: DATABASE_URL leads through a connection pooler; name the host without \
    `-pooler`";

pub(super) struct Writer {
    options: PgConnectOptions,
    pooled: bool,
    state: Mutex<State>,
    /// The claimed epoch, for those who do not write; 0 = not claimed.
    epoch: AtomicI64,
}

#[derive(Default)]
struct State {
    /// `None` before the first use, while a batch is under way, and after one that failed.
    connection: Option<PgConnection>,
    claim: Option<Claim>,
}

#[derive(Clone, Copy)]
struct Claim {
    epoch: i64,
    /// Whether `State::connection` holds the lock.
    locked: bool,
}

impl Writer {
    pub(super) fn new(options: PgConnectOptions, pooled: bool) -> Self {
        Self { options, pooled, state: Mutex::default(), epoch: AtomicI64::new(0) }
    }

    /// The claimed epoch; `None` when the store is not claimed.
    pub(super) fn epoch(&self) -> Option<i64> {
        Some(self.epoch.load(Ordering::Relaxed)).filter(|epoch| *epoch != 0)
    }

    /// Becomes the one instance that writes. An instance that lost its lock is superseded by this.
    pub(super) async fn claim(&self, pool: &PgPool) -> Result<(), StoreError> {
        let refused = |why: &str| StoreError::Unavailable(why.to_owned());
        let mut connection = self.connect().await?;
        needs_a_session(self.pooled, &mut connection, pool).await?;
        let mut tries = 1;
        while !take_lock(&mut connection).await? {
            if tries == LOCK_TRIES {
                return Err(refused("another knockx is using this database; stop it first"));
            }
            tries += 1;
            sleep(LOCK_PAUSE).await;
        }
        // Waits for a batch that a predecessor still has under way.
        let epoch = sqlx::query_scalar("update instance set epoch = epoch + 1 returning epoch")
            .fetch_one(&mut connection)
            .await?;
        let mut state = self.state.lock().await;
        self.epoch.store(epoch, Ordering::Relaxed);
        state.claim = Some(Claim { epoch, locked: true });
        state.connection = Some(connection);
        Ok(())
    }

    /// Gives up the lock by closing the connection that holds it. The epoch stays: a later write takes the lock
    /// again, and fails if another instance has claimed the store meanwhile.
    pub(super) async fn release_claim(&self) -> Result<(), StoreError> {
        let mut state = self.state.lock().await;
        if let Some(claim) = &mut state.claim {
            claim.locked = false;
        }
        match state.connection.take() {
            Some(connection) => Ok(connection.close().await?),
            None => Ok(()),
        }
    }

    /// Writes a batch.
    pub(super) async fn write(&self, batch: &Arrays<'_>) -> Result<(), StoreError> {
        let mut state = timeout(PATIENCE, self.state.lock())
            .await
            .map_err(|_| StoreError::Unavailable("timed out waiting for another write".into()))?;
        let was_open = state.connection.is_some();
        match self.try_to_write(&mut state, batch).await {
            // Written or not: a batch may be repeated. Or since the connection was opened the server has
            // become a standby, and the primary may be elsewhere now.
            Err(Failure::Stale(_)) if was_open => {}
            done => return done.map_err(Failure::into_error),
        }
        self.try_to_write(&mut state, batch).await.map_err(Failure::into_error)
    }

    async fn try_to_write(&self, state: &mut State, batch: &Arrays<'_>) -> Result<(), Failure> {
        let mut connection = self.ready_connection(state).await.map_err(Failure::Lasting)?;
        let claimed = state.claim.map(|claim| claim.epoch);
        match timeout(PATIENCE, batch.write(claimed, &mut connection)).await {
            Ok(Ok(())) => {
                state.connection = Some(connection);
                Ok(())
            }
            Ok(Err(e)) if is_refusal(&e) && !is_read_only(&e) => {
                state.connection = Some(connection);
                Err(Failure::Lasting(e.into()))
            }
            Ok(Err(e)) => Err(Failure::Stale(e.into())),
            // Another try would take as long again.
            Err(_) => Err(Failure::Lasting(trouble("no response in time"))),
        }
    }

    /// Takes the connection, made and locked again where it has to be.
    async fn ready_connection(&self, state: &mut State) -> Result<PgConnection, StoreError> {
        let (mut connection, is_new) = match state.connection.take() {
            Some(connection) => (connection, false),
            None => (self.connect().await?, true),
        };
        if let Some(claim) = &mut state.claim
            && (is_new || !claim.locked)
        {
            // A server may take the lost connection for alive and keep its lock for a while. The
            // epoch says all the same whether anybody has followed.
            claim.locked = take_lock(&mut connection).await?;
        }
        Ok(connection)
    }

    async fn connect(&self) -> Result<PgConnection, StoreError> {
        match timeout(PATIENCE, self.options.connect()).await {
            Ok(connected) => Ok(connected?),
            Err(_) => Err(trouble("no connection in time")),
        }
    }

    /// How many connections are in use, and how many there are.
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

/// Why a batch was not written, as far as we know.
enum Failure {
    /// The connection is of no use any more; on another one the batch may be written.
    Stale(StoreError),
    /// Another connection would change nothing.
    Lasting(StoreError),
}

impl Failure {
    fn into_error(self) -> StoreError {
        match self {
            Self::Stale(error) | Self::Lasting(error) => error,
        }
    }
}

/// An answer of the server after which the connection lives and nothing was written.
fn is_refusal(error: &sqlx::Error) -> bool {
    match error.as_database_error() {
        Some(error) => !error.code().is_some_and(|code| is_in_the_way(&code)),
        None => false,
    }
}

fn is_read_only(error: &sqlx::Error) -> bool {
    let code = error.as_database_error().and_then(DatabaseError::code);
    code.is_some_and(|code| code == READ_ONLY)
}

async fn take_lock(connection: &mut PgConnection) -> Result<bool, StoreError> {
    // A machine that vanishes must not hold the lock for the two hours that are usual.
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
/// Sessions do not last on the way to the server, by its name or by a test, so that no lock can be held.
pub(super) async fn needs_a_session(
    is_pooled: bool,
    connection: &mut PgConnection,
    pool: &PgPool,
) -> Result<(), StoreError> {
    if is_pooled || !is_one_session(connection, pool).await? {
        return Err(StoreError::Unavailable(NEEDS_A_SESSION.to_owned()));
    }
    Ok(())
}

/// Whether one server process serves the connection throughout. A pooler in transaction mode
/// gives it another one whenever others are busy, and a lock would stay behind with the first.
async fn is_one_session(connection: &mut PgConnection, pool: &PgPool) -> Result<bool, StoreError> {
    let mut served_by: Option<i32> = None;
    for _ in 0..SESSION_LOOKS {
        let others = (0..pool.options().get_max_connections())
            .map(|_| sqlx::query_scalar::<_, i32>("select pg_backend_pid()").fetch_one(pool));
        let asked = sqlx::query_scalar::<_, i32>("select pg_backend_pid()");
        let (pid, others) = tokio::join!(asked.fetch_one(&mut *connection), join_all(others));
        let pid = pid?;
        let shared = others.into_iter().flatten().any(|other| other == pid);
        if shared || served_by.is_some_and(|first| first != pid) {
            return Ok(false);
        }
        served_by = Some(pid);
    }
    Ok(true)
}

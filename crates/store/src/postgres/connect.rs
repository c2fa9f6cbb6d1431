//! Connections to the server: their options, the wait for a server that starts, and the self-test of a pool.

use super::session_tests::SessionTests;
use super::{is_waking, unavailable};
use crate::error::IS_READ_ONLY;
use crate::{Reach, StoreError};
use futures_util::future::join_all;
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use sqlx::{AssertSqlSafe, ConnectOptions, Connection, Executor, PgConnection, PgPool, Row};
use std::sync::Arc;
use std::time::Duration;
use system::clock;
use tokio::time::{sleep, timeout};

const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(10);
/// Below the five minutes after which Neon suspends a database and cuts its connections.
const IDLE_TIMEOUT: Duration = Duration::from_secs(4 * 60);
const MAX_LIFETIME: Duration = Duration::from_secs(15 * 60);
/// Limit of one probe whether the server can be reached.
const REACH_TIMEOUT: Duration = Duration::from_millis(700);
/// Limit for a database to start or wake up.
const WAKE_TIMEOUT: Duration = Duration::from_secs(30);
const RETRY_MIN_INTERVAL: Duration = Duration::from_millis(100);
const RETRY_MAX_INTERVAL: Duration = Duration::from_secs(5);
/// Rounds of the self-test, and different queries that each connection sends in them.
const SELF_TEST_ROUNDS: i32 = 12;
const SELF_TEST_QUERIES: i32 = 4;

const MIXED_UP: &str = "the pooler in front of Postgres mixes up prepared statements: use the \
    direct host, or set max_prepared_statements = 1000 (PgBouncer 1.21 or later)";

/// The connection options of a database URL.
pub(super) fn options(url: &str) -> Result<PgConnectOptions, StoreError> {
    let options: PgConnectOptions =
        url.parse().map_err(|_| unavailable("DATABASE_URL is not a Postgres address"))?;
    // In a URL an IPv6 address stands in brackets, which the resolver does not know.
    let host = options.get_host();
    let options = match host.strip_prefix('[').and_then(|host| host.strip_suffix(']')) {
        Some(address) => {
            let address = address.to_owned();
            options.host(&address)
        }
        None => options,
    };
    // Poolers reject unknown settings at the start of a session, and the store reads no floats.
    Ok(options.application_name("knockx").extra_float_digits(None))
}

/// Prepared statements stay on: without them sqlx queries in two steps that a pooler may send to two
/// servers, and gets the result of another query.
pub(super) fn pool(options: PgConnectOptions, connections: u32) -> PgPool {
    let tests = Arc::new(SessionTests::default());
    PgPoolOptions::new()
        .max_connections(connections)
        .min_connections(0)
        .acquire_timeout(ACQUIRE_TIMEOUT)
        .idle_timeout(IDLE_TIMEOUT)
        .max_lifetime(MAX_LIFETIME)
        // In place of the driver's own test, which costs as much: it also finds connections that were opened
        // before a switchover and are to a standby now, which would refuse every write.
        .test_before_acquire(false)
        .before_acquire(move |connection, used| {
            let (tests, idle) = (Arc::clone(&tests), used.idle_for);
            Box::pin(async move {
                if !tests.is_due(idle, clock::instant()) {
                    return Ok(true);
                }
                let result = is_writable(connection).await;
                tests.record(matches!(result, Ok(true)), clock::instant());
                result
            })
        })
        .connect_lazy_with(options)
}

/// True on the primary, where writes were not turned off.
async fn is_writable(connection: &mut PgConnection) -> Result<bool, sqlx::Error> {
    let row = connection.fetch_one("show transaction_read_only").await?;
    Ok(row.try_get::<&str, _>(0)? == "off")
}

/// # Errors
/// The server does not answer, or takes no writes.
pub(super) async fn check_writable(connection: &mut PgConnection) -> Result<(), StoreError> {
    if is_writable(connection).await? {
        return Ok(());
    }
    Err(StoreError::Unavailable(IS_READ_ONLY.to_owned()))
}

/// Tries to connect. A server that is up and has no free connection counts as reachable.
pub(super) async fn reach(options: &PgConnectOptions) -> Reach {
    match timeout(REACH_TIMEOUT, options.connect()).await {
        Ok(Ok(connection)) => {
            let _ = connection.close().await;
            Reach::Open
        }
        Ok(Err(e)) if is_away(&e) => Reach::Refused(StoreError::from(e).to_string()),
        Ok(Err(_)) => Reach::Open,
        Err(_) => Reach::Silent,
    }
}

fn is_away(error: &sqlx::Error) -> bool {
    match error {
        sqlx::Error::Io(_) => true,
        sqlx::Error::Database(e) => e.code().is_some_and(|code| code.starts_with("57P")),
        _ => false,
    }
}

/// Connects once, to report a failure early.
pub(super) async fn once(options: &PgConnectOptions) -> Result<(), StoreError> {
    match timeout(ACQUIRE_TIMEOUT, options.connect()).await {
        Ok(connected) => {
            let _ = connected?.close().await;
            Ok(())
        }
        Err(_) => Err(unavailable("no connection in time")),
    }
}

/// Connects once, and again while the server seems to be waking up.
pub(super) async fn wake(options: &PgConnectOptions) -> Result<(), StoreError> {
    let began = clock::instant();
    let mut pause = RETRY_MIN_INTERVAL;
    loop {
        let failed = match timeout(WAKE_TIMEOUT, options.connect()).await {
            Ok(Ok(connection)) => {
                // Only the attempt mattered.
                let _ = connection.close().await;
                return Ok(());
            }
            Ok(Err(e)) => e,
            Err(_) => return Err(unavailable("no connection in time")),
        };
        if !is_waking(&failed) || clock::instant().duration_since(began) + pause > WAKE_TIMEOUT {
            return Err(failed.into());
        }
        // Many instances that wait for one server must not retry in step.
        sleep(jittered(pause)?).await;
        pause = (pause * 2).min(RETRY_MAX_INTERVAL);
    }
}

/// Sends different queries over all connections at once: a pooler that mixes up prepared statements answers one
/// with the result of another, and would do so with users and quotas.
pub(super) async fn self_test(pool: &PgPool) -> Result<(), StoreError> {
    let connections = i32::try_from(pool.options().get_max_connections()).unwrap_or(i32::MAX);
    let results = join_all((0..connections).map(|sender| send_queries(pool, sender))).await;
    results.into_iter().collect()
}

async fn send_queries(pool: &PgPool, sender: i32) -> Result<(), StoreError> {
    let mut connection = pool.acquire().await?;
    for round in 0..SELF_TEST_ROUNDS {
        let expected = sender * SELF_TEST_QUERIES + round % SELF_TEST_QUERIES;
        let query = AssertSqlSafe(format!("select {expected}"));
        let answer = sqlx::query_scalar::<_, i32>(query).fetch_one(&mut *connection).await;
        match answer {
            Ok(answer) if answer == expected => {}
            // Other errors are about a prepared statement: unknown, known already, or of another shape.
            Err(sqlx::Error::Database(e)) if !is_about_statements(e.code().as_deref()) => {
                return Err(sqlx::Error::Database(e).into());
            }
            Err(e @ (sqlx::Error::Io(_) | sqlx::Error::Tls(_))) => return Err(e.into()),
            Ok(_) | Err(_) => return Err(StoreError::Unavailable(MIXED_UP.into())),
        }
    }
    Ok(())
}

fn is_about_statements(code: Option<&str>) -> bool {
    // Unknown and duplicate statement, a plan of another shape, a message for another statement.
    matches!(code, Some("26000" | "42P05" | "0A000" | "08P01"))
}

/// A random part of `pause`.
fn jittered(pause: Duration) -> Result<Duration, StoreError> {
    let random = getrandom::u32().map_err(|e| unavailable(&e.to_string()))?;
    Ok(pause.mul_f64(f64::from(random) / f64::from(u32::MAX)))
}

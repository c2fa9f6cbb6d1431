//! The store on a Postgres server.
//!
//! Batches of the ledger go through one connection of their own, so they arrive in order; everything else uses a
//! pool. Nothing relies on a session except the instance lock, so a pooler in transaction mode may be in between
//! for commands, and for instances that share their counters in Redis.

mod connect;
mod dialect;
mod instance;
mod ledger_batch;
mod partitions;
#[path = "../queries/mod.rs"]
#[allow(clippy::duplicate_mod, reason = "the queries are compiled for each driver")]
mod queries;
mod session_tests;
mod writer;

use super::handle::Handle;
use super::{Startup, StoreError};
use crate::location::PostgresServer;
use sqlx::migrate::MigrateError;
use sqlx::pool::PoolConnection;
use sqlx::postgres::PgConnectOptions;
use sqlx::{ConnectOptions, PgPool, Postgres};
use std::sync::Arc;
use system::clock;
use writer::Writer;

/// Advisory lock that is held during migrations; `writer` has the other one.
const MIGRATION_LOCK: i64 = 0x6b_6e6f_636b_7802;

/// The store on a Postgres server.
#[derive(Clone)]
pub struct PostgresStore {
    handle: Handle,
    writer: Arc<Writer>,
    pool: PgPool,
    /// For probing whether the server can be reached.
    options: PgConnectOptions,
}

impl PostgresStore {
    /// Connects to the server and migrates its tables.
    ///
    /// # Errors
    /// If it cannot be used, or its tables are those of a newer version.
    pub(super) async fn open(
        server: &PostgresServer,
        startup: Startup,
    ) -> Result<Self, StoreError> {
        let options = connect::options(server.url.expose())?;
        match startup {
            Startup::Wait => connect::wake(&options).await?,
            Startup::FailFast => connect::once(&options).await?,
        }
        let pool = connect::pool(options.clone(), server.connections);
        connect::self_test(&pool).await?;
        let writer = Arc::new(Writer::new(options.clone(), server.pooled));
        let store = Self { handle: Handle::default(), writer, pool, options };
        store.migrate().await?;
        Ok(store)
    }

    /// Migrates in one transaction. The lock belongs to the transaction, since a pooler loses one of a session;
    /// with it any number of instances may start at once.
    async fn migrate(&self) -> Result<(), StoreError> {
        let mut migrations = sqlx_macros::migrate!("../../migrations/postgres");
        migrations.set_locking(false);
        let mut tx = self.pool.begin().await?;
        sqlx::query("select pg_advisory_xact_lock($1)")
            .bind(MIGRATION_LOCK)
            .execute(&mut *tx)
            .await?;
        migrations.run(&mut *tx).await.map_err(|e| match e {
            MigrateError::VersionMissing(_) => {
                StoreError::Corrupt("the database was written by a newer version of knockx".into())
            }
            MigrateError::Execute(e) | MigrateError::ExecuteMigration(e, _) => e.into(),
            other => StoreError::Corrupt(other.to_string()),
        })?;
        tx.commit().await?;
        Ok(())
    }

    /// A connection that may write.
    async fn turn(&self) -> Result<PoolConnection<Postgres>, StoreError> {
        Ok(self.pool.acquire().await?)
    }
}

/// Connects, checks what `serve` relies on, and returns the server's version and response time. `alone` if no
/// Redis is shared: then `serve` holds a lock, which needs a session.
///
/// # Errors
/// If it cannot be reached, or `serve` would refuse it.
pub(super) async fn check(server: &PostgresServer, alone: bool) -> Result<String, StoreError> {
    let options = connect::options(server.url.expose())?;
    let mut connection = options.connect().await?;
    connect::check_writable(&mut connection).await?;
    let pool = connect::pool(options, server.connections);
    connect::self_test(&pool).await?;
    if alone {
        writer::require_session(server.pooled, &mut connection, &pool).await?;
    }
    pool.close().await;
    let version: String =
        sqlx::query_scalar("show server_version").fetch_one(&mut connection).await?;
    let began = clock::instant();
    sqlx::query("select 1").execute(&mut connection).await?;
    let took = clock::instant().duration_since(began);
    let version = version.split(' ').next().unwrap_or_default();
    Ok(format!("Postgres {version} answers in {:.1} ms", took.as_secs_f64() * 1000.0))
}

/// SQLSTATE of a write to a standby, or to a server that is configured to be read-only.
pub(super) const READ_ONLY: &str = "25006";

/// SQLSTATE of the function `hold_fence` for an instance whose lock another instance has acquired.
pub(super) const SUPERSEDED: &str = "KX001";

/// True for errors of the entry itself: a value that does not fit, or violates a constraint.
pub(super) fn blames_the_data(code: &str) -> bool {
    code.starts_with("22") || code.starts_with("23")
}

/// True for errors of a server that cannot work now and may have closed the connection: connection, resources,
/// operator intervention, system.
fn is_server_failure(code: &str) -> bool {
    ["08", "53", "57", "58"].iter().any(|class| code.starts_with(class))
}

/// True if a connection failed as it does while a server starts or wakes up.
fn is_waking(error: &sqlx::Error) -> bool {
    match error {
        sqlx::Error::Io(_) => true,
        sqlx::Error::Database(e) => e.code().is_some_and(|code| is_server_failure(&code)),
        _ => false,
    }
}

fn unavailable(why: &str) -> StoreError {
    StoreError::Unavailable(format!("Postgres: {why}"))
}

//! The store on a Postgres server: all of its SQL.
//!
//! The journal goes through one connection of its own, so its batches arrive in order; everything
//! else has a pool. Nothing relies on a session but the claim, so a pooler in transaction mode may be
//! in between for the commands, and for instances once they share their counters.

mod accounts;
mod sessions;
mod secret;
mod upgrades;
mod stored_responses;
mod audit;
mod keys;
mod callers;
mod checks;
mod connect;
mod dead;
mod history;
mod journal;
mod plans;
mod prune;
mod reports;
mod retention;
mod writer;

use super::{
    Changes, CommitStamp, Drift, Entry, KeyChange, KeyFilter, Mark, NewKey, NewUser, Patience,
    PlanChange, Reach, Store, StoreError,
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
use crate::clock;
use crate::config::PostgresServer;
use async_trait::async_trait;
use jiff::Timestamp;
use sqlx::migrate::MigrateError;
use sqlx::postgres::PgConnectOptions;
use sqlx::{ConnectOptions, PgPool};
use std::collections::HashSet;
use uuid::Uuid;
use writer::Writer;

/// Days from the given one on that have a partition, its predecessor's evening hours included.
const DAYS_AHEAD: i32 = 9;
/// Held while migrations run; see `writer` for the other one.
const MIGRATION_LOCK: i64 = 0x6b_6e6f_636b_7802;

/// The store on a Postgres server.
pub struct PostgresStore {
    writer: Writer,
    pool: PgPool,
    /// For trying whether the server can be reached.
    options: PgConnectOptions,
}

impl PostgresStore {
    /// Reaches the server, waiting for one that sleeps, and brings its tables up to date.
    ///
    /// # Errors
    /// When it cannot be used, or its tables are those of a newer version.
    pub(super) async fn open(
        server: &PostgresServer,
        patience: Patience,
    ) -> Result<Self, StoreError> {
        let options = connect::options(server.url.expose())?;
        match patience {
            Patience::UntilItIsUp => connect::wake(&options).await?,
            Patience::None => connect::once(&options).await?,
        }
        let pool = connect::pool(options.clone(), server.connections);
        connect::self_test(&pool).await?;
        let writer = Writer::new(options.clone(), server.pooled);
        let store = Self { writer, pool, options };
        store.migrate().await?;
        Ok(store)
    }

    /// All or nothing. The lock is the transaction's, since a session's own is lost in a pooler; with
    /// it any number of instances may start at once.
    async fn migrate(&self) -> Result<(), StoreError> {
        let mut migrations = sqlx::migrate!("migrations/postgres");
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
}

/// Connects, tries what `serve` relies on, and tells the server's version and how long it takes to answer.
/// `alone` where no Redis is shared: then `serve` holds a lock, which needs a session.
///
/// # Errors
/// When it cannot be reached, or `serve` would refuse it.
pub(super) async fn look(server: &PostgresServer, alone: bool) -> Result<String, StoreError> {
    let options = connect::options(server.url.expose())?;
    let mut connection = options.connect().await?;
    connect::takes_writes(&mut connection).await?;
    let pool = connect::pool(options, server.connections);
    connect::self_test(&pool).await?;
    if alone {
        writer::needs_a_session(server.pooled, &mut connection, &pool).await?;
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

#[async_trait]
impl Store for PostgresStore {
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
        self.writer.claim(&self.pool).await
    }

    async fn release_claim(&self) -> Result<(), StoreError> {
        self.writer.release_claim().await
    }

    async fn prepare_days(&self, from: Day) -> Result<(), StoreError> {
        sqlx::query("select prepare_usage_event($1::date, $2)")
            .bind(from.to_string())
            .bind(DAYS_AHEAD)
            .execute(&self.pool)
            .await?;
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
        CommitStamp::Remote
    }

    async fn confirm_changes(&self, upto: u64) -> Result<(), StoreError> {
        match self.writer.epoch() {
            Some(epoch) => callers::confirm_changes(self, epoch, upto).await,
            None => Ok(()),
        }
    }

    async fn is_change_confirmed(&self, user: Option<UserId>) -> Result<bool, StoreError> {
        callers::is_change_confirmed(self, user).await
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
        connect::takes_writes(&mut *self.pool.acquire().await?).await
    }

    async fn reach(&self) -> Reach {
        connect::reach(&self.options).await
    }

    async fn close(&self) {
        self.pool.close().await;
        self.writer.close().await;
    }
}

/// What a server says to a write that is a standby, or was told to take none.
pub(super) const READ_ONLY: &str = "25006";

/// What the function `hold_fence` says to an instance whose claim is another's now.
pub(super) const SUPERSEDED: &str = "KX001";

/// Whether the entry itself is to blame: a value that does not fit, or breaks a constraint.
pub(super) fn blames_the_data(code: &str) -> bool {
    code.starts_with("22") || code.starts_with("23")
}

/// Classes of errors of a server that cannot work now, and may have cut the connection: its
/// connection, its resources, an operator's intervention, its system.
fn is_in_the_way(code: &str) -> bool {
    ["08", "53", "57", "58"].iter().any(|class| code.starts_with(class))
}

/// Whether a connection failed in a way that a server has while it starts or wakes up.
fn is_waking(error: &sqlx::Error) -> bool {
    match error {
        sqlx::Error::Io(_) => true,
        sqlx::Error::Database(e) => e.code().is_some_and(|code| is_in_the_way(&code)),
        _ => false,
    }
}

fn trouble(why: &str) -> StoreError {
    StoreError::Unavailable(format!("Postgres: {why}"))
}

//! Users, plans, keys and the ledger, on SQLite or Postgres.
//!
//! Each noun has a file here with its verbs, as a trait, and its plain data. The SQL of all verbs is in `queries`,
//! written once and compiled for both drivers: `sqlite` and `postgres` each include that folder and differ in
//! `dialect`, the connections, and the statement that writes a batch of the ledger. Each verb is one
//! transaction, and every write is idempotent, so a caller that lost the answer may repeat it.
//!
//! Every verb goes through [`Handle`](handle::Handle), which measures it, fails at once while the store is
//! unavailable, and publishes changes to caches. Consumers take the trait they need, such as
//! `Arc<dyn Ledger>`, or the whole [`Store`]. Errors are [`StoreError`]; an absent row is `Ok(None)`.

pub mod ledger;
pub mod callers;
pub mod users;
pub mod keys;
pub mod plans;
pub mod sessions;
pub mod one_time_links;
pub mod second_factors;
pub mod external_identities;
pub mod erasure;
pub mod upgrades;
pub mod audit;
pub mod announcements;
pub mod stored_responses;
pub mod reports;
pub mod reconciliation;
pub mod maintenance;
pub mod change_notifier;
pub mod error;
pub mod location;
pub mod sqlite;
pub mod postgres;
mod handle;
mod breaker;
mod encode;
mod rows;
#[cfg(feature = "fake")]
pub mod fake;

pub use announcements::Announcements;
pub use audit::Audit;
pub use callers::{Callers, ChangeFeed, Changed, Changes, CommitStamp};
pub use erasure::{Erased, Erasure};
pub use error::StoreError;
pub use external_identities::ExternalIdentities;
pub use keys::{KeyChange, KeyFilter, Keys, LIVE_KEYS, NewKey, REVOKED_KEYS};
pub use keys::{all_keys, key_position};
pub use ledger::{Entry, JournalPosition, Ledger};
pub use maintenance::{KEYS_KEPT_DAYS, Maintenance, PRUNE_BATCH, Reach};
pub use one_time_links::OneTimeLinks;
pub use plans::{PlanChange, Plans};
pub use reconciliation::{Drift, Reconciliation, Used};
pub use reports::Reports;
pub use second_factors::SecondFactors;
pub use sessions::Sessions;
pub use stored_responses::StoredResponses;
pub use upgrades::Upgrades;
pub use users::{NewUser, UserChange, UserError, UserFilter, Users};

use crate::location::Database;
use change_notifier::ChangeNotifier;
use std::sync::Arc;
use telemetry::metrics::Metrics;

/// All verbs of the store; consumers should take the smaller trait that they need.
pub trait Store:
    Ledger
    + Callers
    + ChangeFeed
    + Users
    + Keys
    + Plans
    + Sessions
    + OneTimeLinks
    + SecondFactors
    + ExternalIdentities
    + Erasure
    + Upgrades
    + Audit
    + Announcements
    + StoredResponses
    + Reports
    + Reconciliation
    + Maintenance
{
    /// This store with its verbs recorded in `knockx_store_seconds`, which fail at once while the store is
    /// unavailable.
    fn measured(&self, metrics: Arc<Metrics>) -> Arc<dyn Store>;

    /// This store with every change to users, keys and plans published before its verb returns.
    fn publishing(&self, notifier: Arc<dyn ChangeNotifier>) -> Arc<dyn Store>;
}

/// Opens the configured store and migrates its tables. Waits for a server that starts or wakes up.
///
/// # Errors
/// If it cannot be reached or used.
pub async fn open(database: &Database) -> Result<Arc<dyn Store>, StoreError> {
    open_with(database, Startup::Wait).await
}

/// Opens the store for a command: a server that refuses connections is an error at once.
///
/// # Errors
/// When it cannot be reached or used.
pub async fn open_at_once(database: &Database) -> Result<Arc<dyn Store>, StoreError> {
    open_with(database, Startup::FailFast).await
}

async fn open_with(database: &Database, startup: Startup) -> Result<Arc<dyn Store>, StoreError> {
    match database {
        Database::Sqlite { path, durability } => {
            Ok(Arc::new(sqlite::SqliteStore::open(path, *durability).await?))
        }
        Database::Postgres(server) => {
            Ok(Arc::new(postgres::PostgresStore::open(server, startup).await?))
        }
    }
}

/// Reaction to a server that refuses connections at startup.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Startup {
    Wait,
    FailFast,
}

/// Connects to the configured store, checks what `serve` relies on, and returns a short description. Changes
/// nothing. `alone` if one gateway runs without Redis: then it needs a direct connection to a server.
///
/// # Errors
/// If it cannot be reached, or `serve` would refuse it.
pub async fn check(database: &Database, alone: bool) -> Result<String, StoreError> {
    match database {
        Database::Sqlite { .. } => {
            let store = open(database).await?;
            store.ping().await?;
            store.close().await;
            Ok("answers".to_owned())
        }
        Database::Postgres(server) => postgres::check(server, alone).await,
    }
}

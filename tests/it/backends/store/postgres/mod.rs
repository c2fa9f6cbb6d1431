//! The suite over Postgres, and what only a server can do.

mod older_databases;
mod connections;
mod concurrency;
mod pooler;

use super::adjustments::adjustment;
use super::journal::used;
use super::older_schemas::{
    KEPT_USERNAMES, a_kept_reply_is_a_stored_response, kept_reply, migrations_before,
    shared_usernames, usernames,
};
use super::random_ledger::{migrations_until, older_ledger};
use super::reports::sums_match_the_older_ledger;
use super::{Any, add_user, by, charge, day, lease, new_user, suite};
use crate::support::journal;
use crate::support::pgbouncer::PgBouncer;
use crate::support::postgres::{Fresh, Server, database, fresh as fresh_database, migrated};
use crate::support::{SOON, soon};
use ::journal::Journal;
use domain::charge::{Charge, Lease, Status};
use domain::user::User;
use knockx::config::Database;
use quota::user_versions::UserVersions;
use sqlx::migrate::Migrator;
use sqlx::{AssertSqlSafe, Connection, Executor, PgConnection};
use std::sync::Arc;
use store::change_notifier::Confirmation;
use store::{self, Entry, JournalPosition, StoreError};
use system::supervisor::Supervisor;
use telemetry::metrics::Metrics;
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

suite!(fresh);

async fn fresh() -> (Any, Fresh) {
    let fresh = migrated().await;
    (open(&fresh).await, fresh)
}

pub async fn open(fresh: &Fresh) -> Any {
    store::open(&fresh.database()).await.unwrap()
}

/// A journal over a store, ended in good order by `end`.
struct Writing {
    journal: Journal,
    tasks: Supervisor,
    charges: TaskTracker,
    stop: CancellationToken,
    _folder: TempDir,
}

impl Writing {
    async fn to(store: &Any) -> Self {
        let (tasks, stop) = (Supervisor::default(), CancellationToken::new());
        let folder = tempfile::tempdir().unwrap();
        let journal = journal::start(store, &folder.path().join("journal"), &tasks, &stop).await;
        Self { journal, tasks, charges: TaskTracker::new(), stop, _folder: folder }
    }

    /// Settles in the background; the task ends when the charge is durable.
    fn settle(&self, charge: Charge) {
        let journal = self.journal.clone();
        self.charges.spawn(async move { journal.settle(charge).await });
    }

    async fn end(self) -> u64 {
        self.charges.close();
        tokio::time::timeout(SOON, self.charges.wait()).await.expect("all is answered");
        tokio::time::timeout(SOON, self.journal.wait_projected()).await.expect("the ledger has it");
        self.stop.cancel();
        tokio::time::timeout(SOON, self.tasks.wait()).await.expect("all is written");
        self.journal.dead_letters()
    }
}

fn settled(user: &User, key: &str) -> Charge {
    charge(&lease(user, key, 10), 3, 4)
}

fn said(refused: Result<impl Sized, StoreError>) -> String {
    match refused {
        Err(StoreError::Unavailable(why)) => why,
        Err(other) => panic!("{other:?}"),
        Ok(_) => panic!("it was taken"),
    }
}

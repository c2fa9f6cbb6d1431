//! The SQL of all verbs, compiled once for SQLite and once for Postgres; see [`crate`].
//!
//! The parent module is the driver's: its `dialect` has the SQL in which the two drivers differ.

mod announcements;
mod audit;
mod callers;
mod erasure;
mod external_identities;
mod history;
mod keys;
mod key_rows;
mod ledger;
mod maintenance;
mod near_limits;
mod one_time_links;
mod plans;
mod reconciliation;
mod registrant;
mod released_addresses;
mod reports;
mod second_factors;
mod secret;
mod sessions;
mod stored_responses;
mod upgrades;
mod usage_pages;
mod users;

use super::dialect::{self, Backend, Connection};
use super::ledger_batch;
use crate::breaker::StoreFailure;
use crate::change_notifier::ChangeNotifier;
use crate::{Store, StoreError};
use std::sync::Arc;
use telemetry::labels::StoreOp;
use telemetry::metrics::Metrics;

impl Store for Backend {
    fn measured(&self, metrics: Arc<Metrics>) -> Arc<dyn Store> {
        Arc::new(Self { handle: self.handle.measured(metrics), ..self.clone() })
    }

    fn publishing(&self, notifier: Arc<dyn ChangeNotifier>) -> Arc<dyn Store> {
        Arc::new(Self { handle: self.handle.publishing(notifier), ..self.clone() })
    }
}

impl Backend {
    /// Runs a query that needs no transaction.
    async fn read<T>(
        &self,
        op: StoreOp,
        query: impl Future<Output = Result<T, StoreError>>,
    ) -> Result<T, StoreError> {
        self.handle.run(op, self, query).await
    }

    /// Runs statements on a connection that may write; each commits by itself.
    async fn write<T>(
        &self,
        op: StoreOp,
        statements: impl AsyncFnOnce(&mut Connection) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let verb = async { statements(&mut *self.turn().await?).await };
        self.handle.run(op, self, verb).await
    }

    /// Runs statements in a transaction, which is committed unless they fail.
    async fn transaction<T, E: StoreFailure>(
        &self,
        op: StoreOp,
        statements: impl AsyncFnOnce(&mut Connection) -> Result<T, E>,
    ) -> Result<T, E> {
        let verb = async {
            let mut turn = self.turn().await?;
            let mut tx = dialect::begin(&mut turn).await.map_err(StoreError::from)?;
            let done = statements(&mut tx).await?;
            tx.commit().await.map_err(StoreError::from)?;
            Ok(done)
        };
        self.handle.run(op, self, verb).await
    }
}

//! The one way that every verb of a store goes.

use super::breaker::{Breaker, StoreFailure};
use super::change_notifier::ChangeNotifier;
use super::error::StoreError;
use super::maintenance::Maintenance;
use domain::id::UserId;
use std::sync::Arc;
use system::clock;
use telemetry::labels::StoreOp;
use telemetry::metrics::Metrics;

/// Measures verbs, fails them at once while the store is unavailable, and publishes changes. A store that was
/// just opened does none of these; see [`Store::measured`](super::Store::measured) and
/// [`Store::publishing`](super::Store::publishing).
#[derive(Clone, Default)]
pub(super) struct Handle {
    measured: Option<Arc<Measured>>,
    notifier: Option<Arc<dyn ChangeNotifier>>,
}

struct Measured {
    metrics: Arc<Metrics>,
    breaker: Breaker,
}

impl Handle {
    pub(super) fn measured(&self, metrics: Arc<Metrics>) -> Self {
        let measured = Measured { metrics, breaker: Breaker::default() };
        Self { measured: Some(Arc::new(measured)), ..self.clone() }
    }

    pub(super) fn publishing(&self, notifier: Arc<dyn ChangeNotifier>) -> Self {
        Self { notifier: Some(notifier), ..self.clone() }
    }

    /// Runs a verb of `store`.
    pub(super) async fn run<T, E: StoreFailure>(
        &self,
        op: StoreOp,
        store: &impl Maintenance,
        verb: impl Future<Output = Result<T, E>>,
    ) -> Result<T, E> {
        let Some(Measured { metrics, breaker }) = self.measured.as_deref() else {
            return verb.await;
        };
        let began = clock::instant();
        let done = match op {
            // The journal retries by itself, and has to know the result of each batch.
            StoreOp::Journal => verb.await,
            _ => breaker.run(store, verb).await,
        };
        metrics.store_seconds(op).record(clock::instant().duration_since(began));
        done
    }

    /// Publishes the change of a user (`None` = of any users).
    pub(super) async fn publish(&self, user: Option<UserId>) -> Result<(), StoreError> {
        match &self.notifier {
            Some(notifier) => notifier.notify(user).await,
            None => Ok(()),
        }
    }

    /// Publishes that a user has a new key. A failure is only logged: the key is shown once, and must not be
    /// lost. No call is admitted while publishing fails, and the change is published when it works again.
    pub(super) async fn publish_new_key(&self, user: UserId) {
        if let Err(error) = self.publish(Some(user)).await {
            tracing::warn!(%user, %error, "failed to announce a new key to other gateways, retrying later");
        }
    }
}

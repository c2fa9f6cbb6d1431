//! Publishes changes in the store to all gateways through Redis.

use super::client::CommandError;
use super::{Partition, RedisQuota, keys};
use async_trait::async_trait;
use domain::id::UserId;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use store::change_notifier::ChangeNotifier;
use store::{Callers, StoreError};
use telemetry::labels::RedisOp;

/// Publishes changes to users, keys and plans: Redis rejects the next reservation with an older record, and each
/// gateway checks for changes within a fraction of a second.
pub struct RedisChangeNotifier {
    quota: Arc<RedisQuota>,
    store: Arc<dyn Callers>,
}

impl RedisQuota {
    /// Creates a publisher of changes in `store`.
    #[must_use]
    pub fn change_notifier(self: &Arc<Self>, store: Arc<dyn Callers>) -> RedisChangeNotifier {
        RedisChangeNotifier { quota: Arc::clone(self), store }
    }
}

const NOT_PUBLISHED: &str = "the change is saved, but Redis does not respond; gateways may apply it only \
    once Redis is back. Try again";

#[async_trait]
impl ChangeNotifier for RedisChangeNotifier {
    async fn notify(&self, user: Option<UserId>) -> Result<(), StoreError> {
        self.publish(user)
            .await
            .inspect_err(|_| self.quota.has_unpublished.store(true, Ordering::Relaxed))
    }
}

impl RedisChangeNotifier {
    async fn publish(&self, user: Option<UserId>) -> Result<(), StoreError> {
        let client = &self.quota.client;
        let not_published = |_| StoreError::Unavailable(NOT_PUBLISHED.to_owned());
        if let Some(user) = user
            && let Some(version) = self.store.user_version(user).await?
        {
            let keys = [Partition::of(user).version(user)];
            let script = &client.scripts.publish_user_version;
            let arguments = [version.to_string()];
            let published = client.run(RedisOp::Publish, script, &keys, &arguments);
            published.await.map_err(not_published)?;
        }
        self.quota.publish_change().await.map_err(not_published)
    }
}

impl RedisQuota {
    /// Publishes again a change that could not be published.
    pub(super) async fn publish_pending(&self) -> Result<(), CommandError> {
        if !self.has_unpublished.swap(false, Ordering::Relaxed) {
            return Ok(());
        }
        let published = self.publish_change().await;
        published.inspect_err(|_| self.has_unpublished.store(true, Ordering::Relaxed))
    }

    /// Increments the change counter that every gateway polls.
    async fn publish_change(&self) -> Result<(), CommandError> {
        let mut raise = redis::cmd("INCR");
        let _: u64 = self.client.query(raise.arg(keys::CHANGES)).await?;
        Ok(())
    }
}

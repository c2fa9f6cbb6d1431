//! Tells all gateways at once what changed in the store.

use super::link::Unanswered;
use super::{Partition, RedisCounters, keys};
use crate::account::id::UserId;
use crate::store::invalidation::Invalidate;
use crate::store::{Callers, StoreError};
use crate::telemetry::labels::RedisOp;
use async_trait::async_trait;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// Announces through Redis: the next reservation with an older record is refused, and each gateway
/// looks for changes within a fraction of a second.
pub struct Herald {
    counters: Arc<RedisCounters>,
    store: Arc<dyn Callers>,
}

impl RedisCounters {
    /// A herald of changes in `store`.
    #[must_use]
    pub fn herald(self: &Arc<Self>, store: Arc<dyn Callers>) -> Herald {
        Herald { counters: Arc::clone(self), store }
    }
}

const UNTOLD: &str = "the change is saved, but Redis does not respond; gateways may apply it only \
    once Redis is back. Try again";

#[async_trait]
impl Invalidate for Herald {
    async fn invalidate(&self, user: Option<UserId>) -> Result<(), StoreError> {
        self.tell(user)
            .await
            .inspect_err(|_| self.counters.is_untold.store(true, Ordering::Relaxed))
    }
}

impl Herald {
    async fn tell(&self, user: Option<UserId>) -> Result<(), StoreError> {
        let link = &self.counters.link;
        let untold = |_| StoreError::Unavailable(UNTOLD.to_owned());
        if let Some(user) = user
            && let Some(version) = self.store.user_version(user).await?
        {
            let keys = [Partition::of(user).version(user)];
            let script = &link.scripts.version;
            let arguments = [version.to_string()];
            let told = link.run(RedisOp::Announce, script, &keys, &arguments);
            told.await.map_err(untold)?;
        }
        self.counters.announce_any().await.map_err(untold)
    }
}

impl RedisCounters {
    /// Announces again what could not be announced.
    pub(super) async fn announce_untold(&self) -> Result<(), Unanswered> {
        if !self.is_untold.swap(false, Ordering::Relaxed) {
            return Ok(());
        }
        let told = self.announce_any().await;
        told.inspect_err(|_| self.is_untold.store(true, Ordering::Relaxed))
    }

    /// Lets every gateway look for changes.
    async fn announce_any(&self) -> Result<(), Unanswered> {
        let mut raise = redis::cmd("INCR");
        let _: u64 = self.link.ask(raise.arg(keys::CHANGES)).await?;
        Ok(())
    }
}

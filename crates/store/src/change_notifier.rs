//! Publishing changes to those who cache users, keys and plans.

use super::callers::ChangeFeed;
use super::error::StoreError;
use async_trait::async_trait;
use domain::id::UserId;
use std::sync::Arc;
use std::time::Duration;
use system::clock;

/// Time after which a command gives up waiting. A gateway polls for changes four times a second; this also
/// allows for a slow database.
const CONFIRM_TIMEOUT: Duration = Duration::from_secs(5);
const CONFIRM_INTERVAL: Duration = Duration::from_millis(50);

const UNCONFIRMED: &str = "saved, but the running gateway did not confirm the change within 5 seconds; it takes effect \
    once the gateway reaches the database";

/// Publishes changes of users, keys and plans to caches.
#[async_trait]
pub trait ChangeNotifier: Send + Sync + 'static {
    /// Returns once every gateway acts on the change of a user (`None` = of any users).
    async fn notify(&self, user: Option<UserId>) -> Result<(), StoreError>;
}

/// For commands of another process: waits until the instance with the lock has confirmed a change, if one
/// runs.
pub struct Confirmation {
    changes: Arc<dyn ChangeFeed>,
}

impl Confirmation {
    /// Waits for confirmations in `changes`.
    #[must_use]
    pub fn new(changes: Arc<dyn ChangeFeed>) -> Self {
        Self { changes }
    }
}

#[async_trait]
impl ChangeNotifier for Confirmation {
    async fn notify(&self, user: Option<UserId>) -> Result<(), StoreError> {
        let began = clock::instant();
        while !self.changes.is_change_confirmed(user).await? {
            if clock::instant().duration_since(began) > CONFIRM_TIMEOUT {
                return Err(StoreError::Unavailable(UNCONFIRMED.to_owned()));
            }
            tokio::time::sleep(CONFIRM_INTERVAL).await;
        }
        Ok(())
    }
}

//! For commands of another process: a change returns once the running gateway acts on it.

use super::announced::Announcer;
use super::{Store, StoreError};
use crate::account::id::UserId;
use crate::clock;
use async_trait::async_trait;
use std::sync::Arc;
use std::time::Duration;

/// A gateway looks for changes four times a second; this also bears a slow database.
const TIMEOUT: Duration = Duration::from_secs(5);
const POLL: Duration = Duration::from_millis(50);

const UNCONFIRMED: &str = "saved, but the running gateway did not confirm the change within 5 seconds; it takes effect \
    once the gateway reaches the database";

/// Waits until the instance with the claim has confirmed a change, if one runs.
pub struct Confirmed {
    store: Arc<dyn Store>,
}

impl Confirmed {
    /// Confirmations that are read from `store`.
    #[must_use]
    pub fn new(store: Arc<dyn Store>) -> Self {
        Self { store }
    }
}

#[async_trait]
impl Announcer for Confirmed {
    async fn announce(&self, user: Option<UserId>) -> Result<(), StoreError> {
        let began = clock::instant();
        while !self.store.is_change_confirmed(user).await? {
            if clock::instant().duration_since(began) > TIMEOUT {
                return Err(StoreError::Unavailable(UNCONFIRMED.to_owned()));
            }
            tokio::time::sleep(POLL).await;
        }
        Ok(())
    }
}

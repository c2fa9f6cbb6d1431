//! The owners of responses that upstreams store.
//!
//! All callers share the operator's account at an upstream, so whoever knows an id could read the response.
//! Each id is tied to the user who made it. The owner is recorded in the store before the caller sees the
//! id, so it holds on every gateway and over restarts. A response of another user is treated as absent, and so
//! is one whose owner could not be recorded, or whose id the upstream gave to two users.

use domain::charge::Charge;
use domain::id::{RequestId, UserId};
use domain::stored_response::StoredResponse;
use jiff::{SignedDuration, Timestamp};
use std::sync::Arc;
use std::time::Duration;
use store::{Store, StoreError};

/// Time that upstreams store a response, by xAI's documentation, and so the time its owner is known.
pub const RESPONSE_LIFETIME: SignedDuration = SignedDuration::from_hours(30 * 24);
/// Time that xAI stores a deferred completion that is not fetched, by its documentation.
pub const DEFERRED_LIFETIME: SignedDuration = SignedDuration::from_hours(24);
/// Time that a call waits for the store.
const STORE_TIMEOUT: Duration = Duration::from_secs(2);

/// Records and looks up the owners of stored responses.
#[derive(Clone)]
pub struct ResponseOwners {
    store: Arc<dyn Store>,
}

/// The store did not answer.
#[derive(Debug, thiserror::Error)]
#[error("cannot look up the owner of a stored response: {0}")]
pub struct Unknown(String);

impl ResponseOwners {
    /// Owners that are recorded in `store`.
    #[must_use]
    pub fn new(store: Arc<dyn Store>) -> Self {
        Self { store }
    }

    /// Records the owner of a response and the call whose charge is still an estimate; recorded again, it
    /// only raises its tokens. False when the upstream has given the id to another user as well: then
    /// neither can read the response.
    ///
    /// # Errors
    /// When it could not be recorded: then no user can read the response.
    pub async fn record(&self, response: &StoredResponse, now: Timestamp) -> Result<bool, Unknown> {
        within(self.store.record_response(response, now)).await
    }

    /// The ledger row of the call that made a response, if it is there yet.
    ///
    /// # Errors
    /// When the store does not answer.
    pub async fn charge(&self, call: RequestId) -> Result<Option<Charge>, Unknown> {
        within(self.store.charge(call)).await
    }

    /// The user's response with this id; `None` too when it is another user's.
    ///
    /// # Errors
    /// When the store does not answer.
    pub async fn owned_by(
        &self,
        id: &str,
        user: UserId,
        now: Timestamp,
    ) -> Result<Option<StoredResponse>, Unknown> {
        let found = within(self.store.stored_response(id, now)).await?;
        Ok(found.filter(|response| response.user == user))
    }

    /// Reserves a response that can be fetched only once, until `until`. False when another fetch has
    /// reserved it.
    ///
    /// # Errors
    /// When the store does not answer.
    pub async fn claim(&self, id: &str, now: Timestamp, until: Timestamp) -> Result<bool, Unknown> {
        within(self.store.claim_response(id, now, until)).await
    }

    /// Ends a reservation early. If the store does not answer, the reservation ends with its time.
    pub async fn release(&self, id: &str) {
        let _ = within(self.store.release_response(id)).await;
    }

    /// Deletes a response that the upstream no longer stores. If the store does not answer, the row ends with
    /// its time.
    pub async fn delete(&self, id: &str) {
        let _ = within(self.store.delete_response(id)).await;
    }
}

async fn within<T>(query: impl Future<Output = Result<T, StoreError>>) -> Result<T, Unknown> {
    match tokio::time::timeout(STORE_TIMEOUT, query).await {
        Ok(result) => result.map_err(|e| Unknown(e.to_string())),
        Err(_) => Err(Unknown("the store did not respond in time".to_owned())),
    }
}

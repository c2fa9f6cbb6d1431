//! Responses that upstreams store, and the users who own them. All callers share the operator's account at
//! an upstream, so the gateway has to keep one user's responses from another.

use super::StoreError;
use async_trait::async_trait;
use domain::stored_response::StoredResponse;
use jiff::Timestamp;

/// Expired rows that one new row may delete: more than one, so that they never pile up.
pub(super) const EXPIRED_BATCH: u32 = 16;

/// The owners of stored responses. An expired row is treated as absent.
#[async_trait]
pub trait StoredResponses: Send + Sync + 'static {
    /// Records the owner of a response and the call whose charge is still an estimate. Recording it again
    /// raises `tokens` and replaces `unsettled`. False when the id belongs to another user or another
    /// upstream as well: then no user can read the response from now on.
    async fn record_response(
        &self,
        response: &StoredResponse,
        now: Timestamp,
    ) -> Result<bool, StoreError>;

    /// The response with this id, of whichever user. `None` too for an id that two users or upstreams have.
    async fn stored_response(
        &self,
        id: &str,
        now: Timestamp,
    ) -> Result<Option<StoredResponse>, StoreError>;

    /// Reserves a response that can be fetched only once, until `until`. False when another fetch has
    /// reserved it, or there is no such response.
    async fn claim_response(
        &self,
        id: &str,
        now: Timestamp,
        until: Timestamp,
    ) -> Result<bool, StoreError>;

    /// Releases a reserved response id before it expires.
    async fn release_response(&self, id: &str) -> Result<(), StoreError>;

    /// Deletes the row of a response that the upstream no longer stores.
    async fn delete_response(&self, id: &str) -> Result<(), StoreError>;
}

//! A response that outlives its call: `/v1/responses` with `store`, or a deferred completion.

use super::cached_tokens::CachedTokenFraction;
use super::id::{RequestId, UserId};
use jiff::Timestamp;

/// A response that an upstream stores.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredResponse {
    /// The upstream's name for it.
    pub id: String,
    pub user: UserId,
    /// The upstream that stores it.
    pub upstream: String,
    /// The model's id in this gateway.
    pub model: String,
    /// All tokens so far, which a call with this `previous_response_id` reads again.
    pub tokens: u64,
    /// The call that made it, as long as its charge is an estimate: the first reader of the response
    /// corrects the charge.
    pub unsettled: Option<RequestId>,
    /// That of the plan at the admission of the call, for the correction of its charge.
    pub cached_token_fraction: CachedTokenFraction,
    pub expires_at: Timestamp,
}

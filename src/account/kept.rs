//! A reply that outlives its call.

use super::id::UserId;
use jiff::Timestamp;

/// A reply that an upstream keeps.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeptReply {
    /// The upstream's name for it.
    pub id: String,
    pub user: UserId,
    /// The upstream that has it.
    pub upstream: String,
    /// The model's id here.
    pub model: String,
    /// For a response: all tokens so far, which a call that goes on from it reads again. For one
    /// that is yet to be fetched: what to reserve for it.
    pub tokens: u64,
    pub expires_at: Timestamp,
}

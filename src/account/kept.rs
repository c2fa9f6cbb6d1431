//! A reply that outlives its call.

use super::id::{RequestId, UserId};
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
    /// All tokens so far, which a call that goes on from it reads again.
    pub tokens: u64,
    /// The call that made it, for as long as its charge is an estimate: the first reader of the reply
    /// has that charge set right.
    pub unsettled: Option<RequestId>,
    pub expires_at: Timestamp,
}

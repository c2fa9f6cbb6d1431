//! Replies that upstreams keep, and whose they are. All callers share the operator's account at an
//! upstream, so it is here that one user's replies are kept from another.

use super::StoreError;
use crate::account::kept::KeptReply;
use async_trait::async_trait;
use jiff::Timestamp;

/// Expired rows that one new row may take away: more than one, so that they never pile up.
pub(super) const SWEPT_AT_ONCE: u32 = 16;

/// The owners of kept replies. A row whose time is over is as good as none.
#[async_trait]
pub trait KeptReplies {
    /// Notes whose a reply is, and what it still owes. Noting it again raises `tokens` and replaces
    /// `unsettled`. False when the id is another user's, or another upstream's, as well: then nobody
    /// has the reply from now on.
    async fn keep_reply(&self, reply: &KeptReply, now: Timestamp) -> Result<bool, StoreError>;

    /// The reply, whoever's it is; `None` also for an id that two of them have.
    async fn kept_reply(&self, id: &str, now: Timestamp) -> Result<Option<KeptReply>, StoreError>;

    /// Makes the asker the only one who fetches a reply that can be fetched once, until `until`.
    /// False when somebody else does, or there is no such reply.
    async fn claim_reply(
        &self,
        id: &str,
        now: Timestamp,
        until: Timestamp,
    ) -> Result<bool, StoreError>;

    /// Lets the reply be claimed again.
    async fn release_reply(&self, id: &str) -> Result<(), StoreError>;

    /// The upstream keeps it no more.
    async fn forget_reply(&self, id: &str) -> Result<(), StoreError>;
}

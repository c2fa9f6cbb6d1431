//! Replies that outlive their call at an upstream, and whose they are.
//!
//! All callers share the operator's account there, so whoever knows an id could read what is behind
//! it: here each id is tied to the user who made it. It is noted before the caller sees it, in the
//! store, so that it holds on every instance and over restarts. Another's reply is as good as none, and so
//! is one that could not be noted, or whose id two users were given: its caller has the answer all the same.

use crate::account::charge::Charge;
use crate::account::id::{RequestId, UserId};
use crate::account::kept::KeptReply;
use crate::store::{Store, StoreError};
use jiff::{SignedDuration, Timestamp};
use std::sync::Arc;
use std::time::Duration;

/// How long upstreams keep replies, by xAI's documentation, and so how long their owners are known.
pub const KEPT_FOR: SignedDuration = SignedDuration::from_hours(30 * 24);
/// How long xAI keeps a deferred completion that nobody fetches, by its documentation.
pub const DEFERRED_FOR: SignedDuration = SignedDuration::from_hours(24);
/// How long a call waits for the store.
const PATIENCE: Duration = Duration::from_secs(2);

/// Knows whose replies are.
#[derive(Clone)]
pub struct Keeper {
    store: Arc<dyn Store>,
}

/// The store did not say.
#[derive(Debug, thiserror::Error)]
#[error("the owners of kept replies are not known: {0}")]
pub struct Unknown(String);

impl Keeper {
    /// A keeper that notes in `store`.
    #[must_use]
    pub fn new(store: Arc<dyn Store>) -> Self {
        Self { store }
    }

    /// Notes whose a reply is, and what it still owes; noted again, it only raises its tokens. False when
    /// the upstream has given the id to another user as well: then neither can read what is behind it.
    ///
    /// # Errors
    /// When it could not be noted: then nobody can read it.
    pub async fn keep(&self, reply: &KeptReply, now: Timestamp) -> Result<bool, Unknown> {
        within(self.store.keep_reply(reply, now)).await
    }

    /// The ledger row of the call that made a reply, if it is there yet.
    ///
    /// # Errors
    /// When the store does not answer.
    pub async fn charge(&self, call: RequestId) -> Result<Option<Charge>, Unknown> {
        within(self.store.charge(call)).await
    }

    /// The user's reply of this id; `None` too when it is another user's.
    ///
    /// # Errors
    /// When the store does not answer.
    pub async fn find(
        &self,
        id: &str,
        user: UserId,
        now: Timestamp,
    ) -> Result<Option<KeptReply>, Unknown> {
        let found = within(self.store.kept_reply(id, now)).await?;
        Ok(found.filter(|reply| reply.user == user))
    }

    /// Makes the asker the only one who fetches the reply, until `until`.
    ///
    /// # Errors
    /// When the store does not answer.
    pub async fn claim(&self, id: &str, now: Timestamp, until: Timestamp) -> Result<bool, Unknown> {
        within(self.store.claim_reply(id, now, until)).await
    }

    /// Lets the reply be fetched by somebody else. What cannot be told now ends with its time.
    pub async fn release(&self, id: &str) {
        let _ = within(self.store.release_reply(id)).await;
    }

    /// The upstream keeps the reply no more. What cannot be told now ends with its time.
    pub async fn forget(&self, id: &str) {
        let _ = within(self.store.forget_reply(id)).await;
    }
}

async fn within<T>(asked: impl Future<Output = Result<T, StoreError>>) -> Result<T, Unknown> {
    match tokio::time::timeout(PATIENCE, asked).await {
        Ok(answered) => answered.map_err(|e| Unknown(e.to_string())),
        Err(_) => Err(Unknown("the store did not answer in time".to_owned())),
    }
}

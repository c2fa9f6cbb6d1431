//! Deletes the person behind a user. The user's id stays, with the usage that was charged to it, for the books.

use super::StoreError;
use async_trait::async_trait;
use domain::actor::AuditContext;
use domain::id::UserId;
use domain::server_secret::ServerSecret;

/// Ledger rows that one step may visit: few, so that it does not block other writes for long.
pub(super) const VISIT_BATCH: u32 = 1000;
/// Time after which the ledger rows of a deleted user are visited again. Longer than any call may take.
pub(super) const SECOND_VISIT_DAYS: i64 = 7;

/// Deleting users.
#[async_trait]
pub trait Erasure: Send + Sync + 'static {
    /// Deletes a user for good, in one transaction: the user can never log in, call or be resumed, the e-mail
    /// address (after 25 hours, see [`UserError::AddressReserved`]) and the username are free again, and what names
    /// the person is gone. Keys are revoked, and the user's sessions, second factor, identities at sign-in
    /// providers and stored responses are deleted. Audit entries keep ids alone. Of ledger
    /// rows the request ids that callers chose are deleted, those of a long history by [`prune`] within a day.
    ///
    /// [`prune`]: crate::Maintenance::prune
    /// [`UserError::AddressReserved`]: crate::UserError::AddressReserved
    async fn erase_user(
        &self,
        user: UserId,
        secret: &ServerSecret,
        by: &AuditContext,
    ) -> Result<Erased, StoreError>;
}

/// Outcome of [`Erasure::erase_user`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Erased {
    Done,
    /// There is no such user, or it was deleted before.
    Absent,
    /// No other active admin would be left.
    LastAdmin,
}

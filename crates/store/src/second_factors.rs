//! Second factors: the secret of a user's authenticator app, and recovery codes.
//!
//! A set-up begins with a secret and is enabled by a first correct code; until then log-ins ask for none. The
//! store compares and counts, but cannot read a secret or make a code.

use super::StoreError;
use async_trait::async_trait;
use domain::actor::AuditContext;
use domain::id::{SessionId, UserId};
use domain::second_factor::{CodeDigest, SealedSecret};
use jiff::Timestamp;

/// Setting up second factors, and accepting codes. What enables, uses or removes one is audited.
#[async_trait]
pub trait SecondFactors: Send + Sync + 'static {
    /// The second factor of a user, enabled or being set up.
    async fn second_factor(&self, user: UserId) -> Result<Option<SecondFactor>, StoreError>;

    /// Begins a set-up in place of one that was not finished. False if the second factor is enabled already.
    ///
    /// # Errors
    /// [`StoreError::Missing`] unless the user exists and is active.
    async fn begin_second_factor(
        &self,
        user: UserId,
        secret: &SealedSecret,
        now: Timestamp,
    ) -> Result<bool, StoreError>;

    /// Enables the second factor that is being set up, and ends the user's other sessions, which began without
    /// a code. False if another set-up has begun since, or it is enabled already.
    async fn enable_second_factor(
        &self,
        enabling: &Enabling,
        by: &AuditContext,
    ) -> Result<bool, StoreError>;

    /// Accepts the code of a time step. False if that step or a later one was accepted before, so of two
    /// calls with the same code one fails.
    async fn accept_totp(&self, user: UserId, step: i64) -> Result<bool, StoreError>;

    /// Accepts a recovery code. False if there is no such code of this user, or it was used.
    async fn accept_recovery_code(
        &self,
        user: UserId,
        code: &CodeDigest,
        by: &AuditContext,
    ) -> Result<bool, StoreError>;

    /// Replaces all recovery codes, used or not. False unless the second factor is enabled.
    async fn replace_recovery_codes(
        &self,
        user: UserId,
        codes: &[CodeDigest],
        by: &AuditContext,
    ) -> Result<bool, StoreError>;

    /// Removes the second factor with its recovery codes. False if it was not enabled; a set-up that was not
    /// finished is removed too.
    async fn remove_second_factor(
        &self,
        user: UserId,
        by: &AuditContext,
    ) -> Result<bool, StoreError>;
}

/// The second factor of a user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SecondFactor {
    pub secret: SealedSecret,
    /// `None` while it is being set up.
    pub enabled_at: Option<Timestamp>,
    /// Recovery codes that were not used.
    pub recovery_codes: u32,
}

/// Values with which a second factor is enabled.
#[derive(Debug, Clone)]
pub struct Enabling {
    pub user: UserId,
    /// The secret that the first code was checked against.
    pub secret: SealedSecret,
    /// The time step of the first code.
    pub step: i64,
    pub recovery_codes: Vec<CodeDigest>,
    /// The session that goes on.
    pub session: SessionId,
}

//! Identities at sign-in providers (OpenID Connect), and the users whom they belong to.
//!
//! An identity is an issuer and its subject: the pair belongs to one user. E-mail addresses of providers only
//! help to find that user once; afterwards they are for display. Each verb checks its conditions again in
//! its own transaction, because minutes may pass between a provider's reply and the sign-in.

use super::sessions::Credentials;
use super::{NewUser, StoreError, UserError};
use async_trait::async_trait;
use domain::actor::AuditContext;
use domain::id::UserId;
use domain::server_secret::ServerSecret;
use domain::user::User;
use jiff::Timestamp;
use uuid::Uuid;

/// Finding, linking and unlinking identities. What links, unlinks or uses one is audited.
#[async_trait]
pub trait ExternalIdentities: Send + Sync + 'static {
    /// The user of an identity, whatever the user's status.
    async fn identity_user(
        &self,
        issuer: &str,
        subject: &str,
    ) -> Result<Option<Credentials>, StoreError>;

    /// The identities of a user, the oldest first.
    async fn identities_of(&self, user: UserId) -> Result<Vec<ExternalIdentity>, StoreError>;

    /// Links an identity to an active user, if `basis` still holds. Linking again changes nothing.
    async fn link_identity(
        &self,
        user: UserId,
        identity: &NewIdentity,
        basis: LinkBasis<'_>,
        by: &AuditContext,
    ) -> Result<Linking, StoreError>;

    /// Adds a user with an identity, both or neither.
    ///
    /// # Errors
    /// [`UserError::AddressReserved`] as [`Users::register_user`](crate::Users::register_user);
    /// [`UserError::EmailTaken`] also if the identity was linked meanwhile.
    async fn register_with_identity(
        &self,
        user: &NewUser,
        identity: &NewIdentity,
        secret: &ServerSecret,
        by: &AuditContext,
    ) -> Result<User, UserError>;

    /// Removes an identity of a user, unless the user has no password and needs it to sign in at `issuer`, which is
    /// the configured one.
    async fn unlink_identity(
        &self,
        user: UserId,
        id: Uuid,
        issuer: Option<&str>,
        by: &AuditContext,
    ) -> Result<Unlinking, StoreError>;

    /// Records a sign-in.
    async fn record_identity_use(
        &self,
        issuer: &str,
        subject: &str,
        by: &AuditContext,
    ) -> Result<(), StoreError>;

    /// Uses a token that is good once until `expires_at`. False if it was used before; of two calls at the same
    /// time one returns true.
    async fn use_token(&self, digest: &[u8; 32], expires_at: Timestamp)
    -> Result<bool, StoreError>;
}

/// An identity to be linked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewIdentity {
    pub issuer: String,
    pub subject: String,
    /// The e-mail address that the provider reports, for display.
    pub email: Option<String>,
}

/// An identity that is linked to a user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExternalIdentity {
    pub id: Uuid,
    pub issuer: String,
    pub subject: String,
    /// The e-mail address that the provider reported when the identity was linked.
    pub email: Option<String>,
    pub linked_at: Timestamp,
    /// The last sign-in; `None` = none yet.
    pub used_at: Option<Timestamp>,
}

/// The reason for which an identity may be linked to a user.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LinkBasis<'a> {
    /// The user is logged in.
    Session,
    /// The provider has verified this address, and so has the gateway.
    VerifiedEmail(&'a str),
    /// The provider has verified this address, the gateway has not: another person may have registered with it.
    /// That person's password, second factor, keys, sessions, links and identities are removed. Admins are
    /// excluded: their role was not given to the owner of the address.
    UnverifiedEmail(&'a str),
}

/// Outcome of [`ExternalIdentities::link_identity`].
#[derive(Debug, Clone)]
#[expect(clippy::large_enum_variant, reason = "one a sign-in, and never kept")]
pub enum Linking {
    /// The identity is linked; true if it was not before.
    Linked(Credentials, bool),
    /// It belongs to another user.
    Taken,
    /// The user has another identity of this issuer.
    HasAnother,
    /// The user is not active, or the basis does not hold any more.
    Outdated,
}

/// Outcome of [`ExternalIdentities::unlink_identity`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unlinking {
    Done,
    /// The user has no such identity.
    Absent,
    /// The user has no password, and could not sign in any more.
    OnlyWayIn,
}

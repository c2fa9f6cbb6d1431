//! One-time links: e-mail verification, password reset, invitation, and the first admin.
//!
//! A row lasts as long as its link can be used. It ends when it is used, in the same transaction; when a newer
//! one of the same user and purpose is added; and with a new password, a suspension or another e-mail address.

use super::{NewUser, StoreError, UserChange, UserError};
use async_trait::async_trait;
use domain::actor::AuditContext;
use domain::id::{LinkId, UserId};
use domain::one_time_link::{LinkDigest, LinkPurpose};
use domain::user::User;
use jiff::Timestamp;

/// Adding and using one-time links.
#[async_trait]
pub trait OneTimeLinks: Send + Sync + 'static {
    /// Adds a link of a user. The user's earlier link of the same purpose ends. An invitation is audited.
    ///
    /// # Errors
    /// [`StoreError::Missing`] unless the user exists and still has the e-mail address of the link.
    async fn add_link(
        &self,
        user: UserId,
        link: &NewLink,
        by: &AuditContext,
    ) -> Result<(), StoreError>;

    /// The user of a link that could be used at `now`; the link is not used. `None` for any other.
    async fn link_user(
        &self,
        link: &PresentedLink,
        now: Timestamp,
    ) -> Result<Option<User>, StoreError>;

    /// Uses a link of an active user: applies the change to the user, in the user's own name, and ends the
    /// link, both or neither. `None` if the link cannot be used; of two at the same time, one can.
    ///
    /// # Errors
    /// [`UserError`] of the change; the link can be used again then.
    async fn redeem_link(
        &self,
        link: &PresentedLink,
        change: &UserChange,
        by: &AuditContext,
    ) -> Result<Option<User>, UserError>;

    /// Replaces the link that creates the first admin, which the last gateway to start has. False, and no link
    /// is left, if an admin exists.
    async fn replace_setup_link(&self, link: &NewLink) -> Result<bool, StoreError>;

    /// Compares a presented link with the one that creates the first admin.
    async fn setup_state(&self, link: &PresentedLink) -> Result<SetupState, StoreError>;

    /// Uses that link: adds `user`, an admin, and ends the link, both or neither. Of two at the same time, one
    /// succeeds.
    ///
    /// # Errors
    /// [`UserError`] if the user cannot be added; the link can be used again then.
    async fn create_first_admin(
        &self,
        link: &PresentedLink,
        user: &NewUser,
        by: &AuditContext,
    ) -> Result<FirstAdmin, UserError>;
}

/// Values of a new link.
#[derive(Debug, Clone)]
pub struct NewLink {
    pub id: LinkId,
    pub purpose: LinkPurpose,
    pub digest: LinkDigest,
    /// The address that the link is for; `None` for the first admin.
    pub email: Option<String>,
    pub created_at: Timestamp,
    /// `None` = no end.
    pub expires_at: Option<Timestamp>,
}

/// A link as its holder presents it.
#[derive(Debug, Clone)]
pub struct PresentedLink {
    pub id: LinkId,
    pub purpose: LinkPurpose,
    pub digest: LinkDigest,
}

/// Outcome of [`OneTimeLinks::setup_state`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SetupState {
    /// The link is the current one, and there is no admin.
    Open,
    /// The link is the current one, but an admin exists.
    AdminExists,
    InvalidLink,
}

/// Outcome of [`OneTimeLinks::create_first_admin`].
#[derive(Debug, Clone)]
#[expect(clippy::large_enum_variant, reason = "once in the life of a store")]
pub enum FirstAdmin {
    Created(User),
    /// An admin exists; nothing has changed.
    AdminExists,
    InvalidLink,
}

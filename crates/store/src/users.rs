//! Users: the people who own keys, with their plan and role.

use super::StoreError;
use async_trait::async_trait;
use domain::actor::AuditContext;
use domain::id::{PlanId, UserId};
use domain::server_secret::ServerSecret;
use domain::user::{LimitOverrides, Role, User, UserStatus};
use jiff::Timestamp;

/// Time for which an e-mail address that an account gave up cannot be registered with again, in hours: a new
/// account would come with a fresh day's quota. No day of any time zone is longer.
pub(super) const ADDRESS_RESERVED_HOURS: i64 = 25;

/// Reading and changing users. Every change is audited in its own transaction.
#[async_trait]
pub trait Users: Send + Sync + 'static {
    /// Adds a user with the status active.
    async fn add_user(&self, user: &NewUser, by: &AuditContext) -> Result<User, UserError>;

    /// Adds a user who registers, with the status active.
    ///
    /// # Errors
    /// [`UserError::AddressReserved`] if another account gave the address up too recently.
    async fn register_user(
        &self,
        user: &NewUser,
        secret: &ServerSecret,
        by: &AuditContext,
    ) -> Result<User, UserError>;

    /// The user with this id.
    async fn user(&self, id: UserId) -> Result<Option<User>, StoreError>;

    /// The user with this normalised e-mail.
    async fn user_by_email(&self, email: &str) -> Result<Option<User>, StoreError>;

    /// Those of these users that exist, in no order.
    async fn users_by_ids(&self, ids: &[UserId]) -> Result<Vec<User>, StoreError>;

    /// At most `limit` users after `after`, in the order of their ids.
    async fn users(
        &self,
        filter: &UserFilter,
        after: Option<UserId>,
        limit: u32,
    ) -> Result<Vec<User>, StoreError>;

    /// Applies the change and increments the user's version. A new password or a suspension ends the
    /// user's sessions and one-time links. `None` when there is no such user, or it was deleted.
    ///
    /// # Errors
    /// [`UserError::LastAdmin`] if a user suspends or demotes the last active admin; the operator may.
    async fn change_user(
        &self,
        id: UserId,
        change: &UserChange,
        by: &AuditContext,
    ) -> Result<Option<User>, UserError>;
}

/// Values of a new user.
#[derive(Debug, Clone)]
pub struct NewUser {
    pub email: String,
    pub username: Option<String>,
    /// A PHC string (argon2id); `None` for a user who cannot log in.
    pub password_hash: Option<String>,
    /// True if the address needs no verification, because an admin or the operator has entered it.
    pub email_verified: bool,
    pub role: Role,
    pub plan: PlanId,
    pub created_at: Timestamp,
}

/// A filter for users; `None` = any.
#[derive(Debug, Clone, Default)]
pub struct UserFilter {
    /// A part of the e-mail or the username, in whatever case; of one or two letters, its beginning.
    pub search: Option<String>,
    pub plan: Option<PlanId>,
    pub status: Option<UserStatus>,
    pub role: Option<Role>,
}

/// Changes to a user; `None` leaves a field as it is.
#[derive(Debug, Clone, Default)]
pub struct UserChange {
    /// The e-mail, normalised. Another one than before is not verified, and ends the user's one-time links.
    pub email: Option<String>,
    /// Time at which the e-mail address, after this change, was verified; an earlier time is kept.
    pub email_verified_at: Option<Timestamp>,
    /// `Some(None)` removes the username.
    pub username: Option<Option<String>>,
    /// Replaces all overrides: a limit that is left out is the plan's again.
    pub overrides: Option<LimitOverrides>,
    /// The hash as a PHC string (argon2id).
    pub password_hash: Option<String>,
    pub plan: Option<PlanId>,
    pub role: Option<Role>,
    pub status: Option<UserStatus>,
    /// Hashes the former e-mail address, so that no other account takes it within the day. Users themselves cannot
    /// take an address that another account gave up. Without it, neither is checked.
    pub secret: Option<ServerSecret>,
}

impl UserChange {
    /// The user afterwards, except for the version, which the store increments.
    pub(super) fn applied_to(&self, user: User) -> User {
        let email = self.email.clone().unwrap_or_else(|| user.email.clone());
        let verified_before = user.email_verified_at.filter(|_| email == user.email);
        User {
            email_verified_at: verified_before.or(self.email_verified_at),
            email,
            username: self.username.clone().unwrap_or(user.username),
            overrides: LimitOverrides {
                // Not part of a request: it follows from changes of the plan.
                time_zone: user.overrides.time_zone.clone(),
                ..self.overrides.clone().unwrap_or(user.overrides)
            },
            plan: self.plan.clone().unwrap_or(user.plan),
            role: self.role.unwrap_or(user.role),
            status: self.status.unwrap_or(user.status),
            ..user
        }
    }

    /// True if the one-time links of `user` end with this change.
    pub(super) fn ends_links(&self, user: &User) -> bool {
        self.ends_sessions() || self.email.as_ref().is_some_and(|email| *email != user.email)
    }

    /// True if the user's sessions end with this change.
    pub(super) fn ends_sessions(&self) -> bool {
        self.password_hash.is_some() || self.status == Some(UserStatus::Suspended)
    }
}

/// The reason for which a user was not added or changed.
#[derive(Debug, thiserror::Error)]
pub enum UserError {
    #[error("a user with this e-mail exists")]
    EmailTaken,
    #[error("a user with this username exists")]
    UsernameTaken,
    #[error("there is no plan `{0}`")]
    NoSuchPlan(PlanId),
    #[error("another account had this e-mail; it can be used again from {0}")]
    AddressReserved(Timestamp),
    #[error("no other active admin would be left")]
    LastAdmin,
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl UserError {
    /// The error of a change that keeps the names of the user and whose plan is known to exist.
    pub(super) fn into_store_error(self) -> StoreError {
        match self {
            Self::Store(error) => error,
            Self::NoSuchPlan(_) => StoreError::Missing("plan"),
            Self::EmailTaken | Self::UsernameTaken | Self::AddressReserved(_) | Self::LastAdmin => {
                StoreError::Corrupt(self.to_string())
            }
        }
    }
}

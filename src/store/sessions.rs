//! Log-ins: what a password is checked against, and the sessions that follow.
//!
//! A session is one log-in. It lives while its refresh token is exchanged for the next one in time,
//! and ends by log-out, a changed password, a suspended user, or a refresh token used twice.

use super::StoreError;
use crate::account::id::{SessionId, UserId};
use crate::account::server_secret::{Fingerprint, ServerSecret};
use crate::account::user::{User, UserStatus};
use async_trait::async_trait;
use jiff::Timestamp;

/// Sessions of one user that live at once; a further log-in ends the oldest.
pub(super) const MOST_SESSIONS: u32 = 100;

/// Keyed hash of a session's refresh token ([`ServerSecret::refresh_digest`]).
pub type TokenDigest = [u8; 32];

/// Log-ins and their sessions.
#[async_trait]
pub trait Sessions {
    /// The user with this normalised e-mail, with the hash of its password.
    async fn credentials(&self, email: &str) -> Result<Option<Credentials>, StoreError>;

    /// The same by id.
    async fn credentials_of(&self, user: UserId) -> Result<Option<Credentials>, StoreError>;

    /// Keeps the same password under another hash, unless it was changed meanwhile. No session ends
    /// and nothing is audited: to the user nothing has changed.
    async fn rehash(&self, user: UserId, old: &str, new: &str) -> Result<(), StoreError>;

    /// Begins a session. Of the user's sessions only the newest hundred stay, and none that has
    /// expired.
    ///
    /// # Errors
    /// [`StoreError::Missing`] unless the user is there, is active, and still has the password that
    /// was checked.
    async fn open_session(&self, session: &NewSession) -> Result<(), StoreError>;

    /// The user of a session that lives at `now`, whatever the user's status.
    async fn session_user(
        &self,
        session: SessionId,
        now: Timestamp,
    ) -> Result<Option<User>, StoreError>;

    /// Takes the current refresh token for the next. Any other token of the session ends it: the
    /// token was used before, by its owner or by a thief. Only the very same rotation, with the same
    /// next token, may be repeated by a caller that lost the answer.
    async fn rotate_session(&self, rotation: &Rotation) -> Result<Rotated, StoreError>;

    /// Ends a session. Ending it twice changes nothing.
    async fn end_session(&self, session: SessionId) -> Result<(), StoreError>;

    /// Makes `secret` the one that this store is used with, for a gateway that starts. Another one than
    /// before ends all sessions. The first one that is recorded takes over the sessions of versions that
    /// recorded none.
    async fn adopt_secret(
        &self,
        secret: &ServerSecret,
        now: Timestamp,
    ) -> Result<Adopted, StoreError>;

    /// The secret that this store is used with, for a command that makes keys. In a store without keys
    /// `mine` is recorded first. `None` = none is recorded.
    async fn secret_in_use(
        &self,
        mine: Option<Fingerprint>,
        now: Timestamp,
    ) -> Result<Option<Fingerprint>, StoreError>;
}

/// Result of [`Sessions::adopt_secret`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Adopted {
    /// None was recorded before.
    First,
    /// The one that was recorded.
    Same,
    /// Another one was recorded before.
    Changed {
        /// Keys, neither revoked nor expired, whose hashes the new secret cannot verify.
        live_keys: u64,
        /// Sessions that have ended.
        sessions: u64,
    },
}

/// A user with what its password is checked against.
#[derive(Debug, Clone)]
pub struct Credentials {
    pub user: User,
    /// A PHC string (argon2id) or a bcrypt hash; `None` = cannot log in.
    pub password_hash: Option<String>,
}

/// A session to begin.
#[derive(Debug, Clone)]
pub struct NewSession {
    pub id: SessionId,
    pub user: UserId,
    pub digest: TokenDigest,
    /// What the password was checked against: one that has been changed since begins nothing.
    pub password_hash: Option<String>,
    pub created_at: Timestamp,
    pub expires_at: Timestamp,
}

impl NewSession {
    /// Whether it may begin, as the user stands now.
    #[must_use]
    pub fn is_for(&self, found: &Credentials) -> bool {
        found.user.status == UserStatus::Active && found.password_hash == self.password_hash
    }
}

/// The exchange of a refresh token.
#[derive(Debug, Clone)]
pub struct Rotation {
    pub session: SessionId,
    pub presented: TokenDigest,
    pub next: TokenDigest,
    pub now: Timestamp,
    /// The new end of the session.
    pub expires_at: Timestamp,
}

/// What became of a [`Rotation`].
#[derive(Debug, Clone)]
pub enum Rotated {
    /// The token was the current one.
    Done(User),
    /// It was not; the session has ended.
    Reused(UserId),
    /// There is no such session, or it has ended or expired.
    Unknown,
}

//! Credentials, and the sessions of users who logged in.
//!
//! A session is one log-in. It lasts while its refresh token is exchanged for the next one in time, and ends by
//! log-out, a changed password, a suspended user, or a refresh token that is used twice.

use super::StoreError;
use async_trait::async_trait;
use domain::id::{SessionId, UserId};
use domain::server_secret::{Fingerprint, ServerSecret};
use domain::user::{User, UserStatus};
use jiff::Timestamp;

/// Sessions that a user may have at once; a further log-in ends the oldest.
pub(super) const SESSIONS_PER_USER: u32 = 100;

/// Keyed hash of a session's refresh token ([`ServerSecret::refresh_digest`]).
pub type TokenDigest = [u8; 32];

/// Reading credentials, and beginning and ending sessions.
#[async_trait]
pub trait Sessions: Send + Sync + 'static {
    /// The user with this normalised e-mail, with the hash of its password.
    async fn credentials(&self, email: &str) -> Result<Option<Credentials>, StoreError>;

    /// The user with this id, with the hash of its password.
    async fn credentials_of(&self, user: UserId) -> Result<Option<Credentials>, StoreError>;

    /// Replaces the hash of the same password, unless the password was changed meanwhile. No session ends and
    /// nothing is audited: nothing has changed for the user.
    async fn rehash(&self, user: UserId, old: &str, new: &str) -> Result<(), StoreError>;

    /// Begins a session. Ends the user's expired sessions, and the oldest beyond a hundred.
    ///
    /// # Errors
    /// [`StoreError::Missing`] unless the user exists, is active, still has the password that was checked, and
    /// has no second factor that was not.
    async fn open_session(&self, session: &NewSession) -> Result<(), StoreError>;

    /// The user of a session that has not expired at `now`, whatever the user's status.
    async fn session_user(
        &self,
        session: SessionId,
        now: Timestamp,
    ) -> Result<Option<User>, StoreError>;

    /// The console session with this id and token digest, unless it has expired at `now`. The user may be
    /// suspended.
    async fn console_session(
        &self,
        session: SessionId,
        digest: TokenDigest,
        now: Timestamp,
    ) -> Result<Option<ConsoleSession>, StoreError>;

    /// Records that a session was used at `now`, and lets it last until `expires_at`.
    async fn extend_session(
        &self,
        session: SessionId,
        now: Timestamp,
        expires_at: Timestamp,
    ) -> Result<(), StoreError>;

    /// Records that the owner of a session proved at `now` by password or second factor who it is.
    async fn confirm_session(&self, session: SessionId, now: Timestamp) -> Result<(), StoreError>;

    /// Exchanges the current refresh token for the next. Any other token ends the session: it was used before,
    /// by its owner or by a thief. The same rotation, with the same next token, may be repeated by a caller
    /// that lost the answer. Console sessions have no refresh token.
    async fn rotate_session(&self, rotation: &Rotation) -> Result<Rotated, StoreError>;

    /// The sessions of a user that have not expired at `now`, the newest first.
    async fn sessions_of(
        &self,
        user: UserId,
        now: Timestamp,
    ) -> Result<Vec<SessionInfo>, StoreError>;

    /// Ends a session of a user; false if the user has no such session.
    async fn end_session_of(&self, user: UserId, session: SessionId) -> Result<bool, StoreError>;

    /// Ends all sessions of a user but one. Returns the number of sessions that have ended.
    async fn end_other_sessions(&self, user: UserId, kept: SessionId) -> Result<u64, StoreError>;

    /// Ends a session. Ending it twice changes nothing.
    async fn end_session(&self, session: SessionId) -> Result<(), StoreError>;

    /// Records `secret` as the one that this store is used with, when a gateway starts. A different secret ends
    /// all sessions. The first one recorded takes over the sessions of versions that recorded none.
    async fn adopt_secret(
        &self,
        secret: &ServerSecret,
        now: Timestamp,
    ) -> Result<SecretAdoption, StoreError>;

    /// The secret that this store is used with, for a command that creates keys; `None` if none is recorded. In
    /// a store without keys `mine` is recorded first.
    async fn secret_in_use(
        &self,
        mine: Option<Fingerprint>,
        now: Timestamp,
    ) -> Result<Option<Fingerprint>, StoreError>;
}

/// Outcome of [`Sessions::adopt_secret`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SecretAdoption {
    /// No secret was recorded before.
    First,
    /// The one that was recorded.
    Same,
    /// Another one was recorded before.
    Changed {
        /// Keys, neither revoked nor expired, whose hashes the new secret cannot verify.
        live_keys: u64,
        /// Number of sessions that have ended.
        sessions: u64,
        /// Second factors that the new secret cannot check.
        second_factors: u64,
    },
}

/// A user and the hash of the password.
#[derive(Debug, Clone)]
pub struct Credentials {
    pub user: User,
    /// A PHC string (argon2id) or a bcrypt hash; `None` = cannot log in.
    pub password_hash: Option<String>,
}

/// Values of a new session.
#[derive(Debug, Clone)]
pub struct NewSession {
    pub id: SessionId,
    pub user: UserId,
    pub digest: TokenDigest,
    /// The hash that the password was checked against; if it has changed since, no session begins.
    pub password_hash: Option<String>,
    /// True if the log-in passed the user's second factor. If it did not, and one is enabled by now, no session
    /// begins.
    pub has_passed_factor: bool,
    pub kind: SessionKind,
    pub client: SessionClient,
    pub created_at: Timestamp,
    pub expires_at: Timestamp,
}

/// How a session proves itself.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum SessionKind {
    /// By access tokens, renewed with refresh tokens that are good once.
    #[default]
    Api,
    /// By the cookie of a browser, which stays the same.
    Console,
}

impl SessionKind {
    /// Every kind.
    pub const ALL: [Self; 2] = [Self::Api, Self::Console];

    /// The word stored and shown.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Api => "api",
            Self::Console => "console",
        }
    }
}

/// The client that began a session, as its owner may recognise it. Both texts come from the client.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SessionClient {
    pub address: Option<String>,
    pub user_agent: Option<String>,
}

/// A session, as its user may see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SessionInfo {
    pub id: SessionId,
    pub kind: SessionKind,
    pub created_at: Timestamp,
    /// The last recorded use.
    pub seen_at: Timestamp,
    pub expires_at: Timestamp,
    /// The client that last began or refreshed it.
    pub client: SessionClient,
}

/// A session of the console, with its user.
#[derive(Debug, Clone)]
pub struct ConsoleSession {
    pub user: User,
    /// The last recorded use.
    pub seen_at: Timestamp,
    /// When the owner last proved who it is.
    pub confirmed_at: Timestamp,
}

impl NewSession {
    /// True if the session may begin, by the current state of the user.
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
    /// The client that refreshes: what is not known stays as it was.
    pub client: SessionClient,
    pub now: Timestamp,
    /// The new end of the session.
    pub expires_at: Timestamp,
}

/// Outcome of [`Sessions::rotate_session`].
#[derive(Debug, Clone)]
#[expect(clippy::large_enum_variant, reason = "one a request, and never kept")]
pub enum Rotated {
    /// The token was the current one.
    Done(User),
    /// It was not; the session has ended.
    Reused(UserId),
    /// There is no such session, or it has ended or expired.
    Unknown,
}

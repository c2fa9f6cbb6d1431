//! Sessions of the console: a browser proves itself by one cookie, which lasts as long as the session.

use super::identity::Identity;
use super::verified_user::VerifiedUser;
use crate::control::api_error::ApiError;
use domain::id::SessionId;
use domain::refresh_token::RefreshToken;
use jiff::{SignedDuration, Timestamp};
use store::Sessions;
use store::StoreError;
use store::sessions::{ConsoleSession, NewSession, SessionClient, SessionKind};

/// The use of a session is recorded at most this often.
const RECORD_USE_EVERY: SignedDuration = SignedDuration::from_mins(1);

impl Identity {
    /// Begins a console session of a user whose password was verified or set. Returns the value of its cookie.
    ///
    /// # Errors
    /// [`ApiError::InvalidCredentials`] if the password was changed or a second factor enabled meanwhile.
    pub async fn begin_console(
        &self,
        store: &dyn Sessions,
        verified: VerifiedUser,
        client: SessionClient,
        now: Timestamp,
    ) -> Result<RefreshToken, ApiError> {
        let VerifiedUser { credentials, has_passed_factor } = verified;
        let session = SessionId::new();
        let token = RefreshToken::generate(session).map_err(|_| ApiError::Internal)?;
        let new = NewSession {
            id: session,
            user: credentials.user.id,
            digest: token.digest(&self.secret),
            password_hash: credentials.password_hash,
            has_passed_factor,
            kind: SessionKind::Console,
            client,
            created_at: now,
            expires_at: self.session_end(now),
        };
        store.open_session(&new).await.map_err(|e| match e {
            StoreError::Missing(_) => ApiError::InvalidCredentials,
            error => error.into(),
        })?;
        Ok(token)
    }

    /// The session of a cookie, and its user, who is active. Each use lets the session last longer.
    ///
    /// # Errors
    /// [`ApiError::Suspended`].
    pub async fn console_session(
        &self,
        store: &dyn Sessions,
        cookie: &str,
        now: Timestamp,
    ) -> Result<Option<(SessionId, ConsoleSession)>, ApiError> {
        let Ok(token) = RefreshToken::parse(cookie) else { return Ok(None) };
        let (id, digest) = (token.session(), token.digest(&self.secret));
        let Some(found) = store.console_session(id, digest, now).await? else { return Ok(None) };
        found.user.status.check()?;
        if now.duration_since(found.seen_at) >= RECORD_USE_EVERY {
            store.extend_session(id, now, self.session_end(now)).await?;
        }
        Ok(Some((id, found)))
    }
}

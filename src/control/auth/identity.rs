//! Log-ins: passwords checked, sessions begun, tokens handed out.

use super::access_token::{AccessTokens, Bearer};
use super::login_throttle::{Guess, LoginThrottle};
use super::passwords::{PasswordHasher, Turn};
use super::throttle::Throttle;
use crate::account::id::{SessionId, UserId};
use crate::account::key::Pepper;
use crate::account::password::Verified;
use crate::account::refresh::RefreshToken;
use crate::account::server_secret::ServerSecret;
use crate::account::user::User;
use crate::config::{Accounts, Billing};
use crate::control::api_error::ApiError;
use crate::http::client_ip;
use crate::store::sessions::{Credentials, NewSession, Rotated, Rotation};
use crate::store::{Store, StoreError};
use jiff::{SignedDuration, Timestamp};
use serde::Serialize;
use std::net::IpAddr;
use std::time::Instant;
use utoipa::ToSchema;

/// What log-ins work with.
pub struct Identity {
    pub tokens: AccessTokens,
    pub passwords: PasswordHasher,
    /// Keys the hashes of refresh tokens.
    secret: ServerSecret,
    pub accounts: Accounts,
    pub billing: Billing,
    guesses: LoginThrottle,
    /// Of those who are logged in, by their session: neither guesses at the door nor another session keeps them from
    /// their own account.
    confirmations: Throttle<SessionId>,
    registrations: Throttle<IpAddr>,
    /// Each change leaves rows behind, which nobody may make without bounds.
    changes: Throttle<UserId>,
}

/// The tokens of a session.
#[derive(Debug, Serialize, ToSchema)]
pub struct TokenPair {
    /// Sent as `Authorization: Bearer`.
    pub access_token: String,
    /// Exchanged for the next pair, once.
    pub refresh_token: String,
    #[schema(example = "bearer")]
    pub token_type: &'static str,
    /// Seconds that the access token holds.
    #[schema(example = 900)]
    pub expires_in: i64,
}

impl Identity {
    /// Log-ins as configured.
    #[must_use]
    pub fn new(pepper: &Pepper, accounts: Accounts, billing: Billing) -> Self {
        Self {
            tokens: AccessTokens::new(&pepper.derived(b"access tokens"), accounts.access_token),
            passwords: PasswordHasher::new(),
            secret: ServerSecret::of(pepper),
            guesses: LoginThrottle::new(accounts.account_tries, accounts.address_tries),
            confirmations: Throttle::new(accounts.account_tries),
            registrations: Throttle::new(accounts.address_registrations),
            changes: Throttle::new(accounts.account_changes),
            accounts,
            billing,
        }
    }

    /// Counts a registration from `address`.
    ///
    /// # Errors
    /// [`ApiError::TooManyAttempts`].
    pub fn may_register(&self, address: IpAddr, now: Instant) -> Result<(), ApiError> {
        let attempt = self.registrations.attempt(&client_ip::host(address), now);
        attempt.map_err(ApiError::TooManyAttempts)
    }

    /// Counts a change that a user makes to their own keys, profile or plan.
    ///
    /// # Errors
    /// [`ApiError::TooManyAttempts`].
    pub fn may_change(&self, user: UserId, now: Instant) -> Result<(), ApiError> {
        self.changes.attempt(&user, now).map_err(ApiError::TooManyAttempts)
    }

    /// The user with this e-mail and password, active. Whether the e-mail or the password was wrong
    /// shows neither in the answer nor in the time it takes.
    ///
    /// # Errors
    /// [`ApiError::InvalidCredentials`], [`ApiError::TooManyAttempts`], [`ApiError::Suspended`].
    pub async fn check(
        &self,
        store: &dyn Store,
        email: &str,
        password: &str,
        (address, now): (IpAddr, Instant),
    ) -> Result<Credentials, ApiError> {
        let guess = self.guesses.begin(email, address, now).map_err(ApiError::TooManyAttempts)?;
        let checked = self.verify(store, email, password, &guess).await;
        let (found, verified) = checked.inspect_err(|_| self.guesses.not_made(&guess))?;
        let (Some(mut found), Verified::Yes | Verified::YesRehash) = (found, verified) else {
            return Err(ApiError::InvalidCredentials);
        };
        self.guesses.succeeded(guess);
        found.user.status.check()?;
        if verified == Verified::YesRehash {
            found = self.rehashed(store, found, password).await?;
        }
        Ok(found)
    }

    /// The account of this e-mail, and whether the password is its.
    async fn verify(
        &self,
        store: &dyn Store,
        email: &str,
        password: &str,
        guess: &Guess,
    ) -> Result<(Option<Credentials>, Verified), ApiError> {
        let found = store.credentials(email).await?;
        let stored = found.as_ref().and_then(|found| found.password_hash.as_deref());
        let turn = if guess.is_known { Turn::AtOnce } else { Turn::OfItsAccount };
        let verified = self.passwords.verify(email, password, stored, turn).await?;
        Ok((found, verified))
    }

    /// The same password under a hash of today. Where another log-in was quicker, under its hash; where
    /// too many hashes wait, under the old one for now.
    async fn rehashed(
        &self,
        store: &dyn Store,
        found: Credentials,
        password: &str,
    ) -> Result<Credentials, ApiError> {
        let Some(old) = &found.password_hash else { return Ok(found) };
        let Ok(new) = self.passwords.hash(password).await else { return Ok(found) };
        store.rehash(found.user.id, old, &new).await?;
        let Some(now) = store.credentials_of(found.user.id).await? else { return Ok(found) };
        let Some(stored) = &now.password_hash else { return Ok(found) };
        if *stored == new {
            return Ok(now);
        }
        match self.passwords.verify(&now.user.email, password, Some(stored), Turn::AtOnce).await? {
            Verified::No => Err(ApiError::InvalidCredentials),
            Verified::Yes | Verified::YesRehash => Ok(now),
        }
    }

    /// Checks the password of somebody logged in.
    ///
    /// # Errors
    /// [`ApiError::WrongPassword`], [`ApiError::TooManyAttempts`].
    pub async fn confirm(
        &self,
        store: &dyn Store,
        (user, session): (&User, SessionId),
        password: &str,
        now: Instant,
    ) -> Result<(), ApiError> {
        self.confirmations.attempt(&session, now).map_err(ApiError::TooManyAttempts)?;
        let found = store.credentials_of(user.id).await?;
        let stored = found.as_ref().and_then(|found| found.password_hash.as_deref());
        match self.passwords.verify(&user.email, password, stored, Turn::AtOnce).await? {
            Verified::No => Err(ApiError::WrongPassword),
            Verified::Yes | Verified::YesRehash => {
                self.confirmations.forgive(&session);
                Ok(())
            }
        }
    }

    /// Begins a session of a user whose password has been checked or set.
    ///
    /// # Errors
    /// [`ApiError::InvalidCredentials`] when it was changed meanwhile.
    pub async fn begin(
        &self,
        store: &dyn Store,
        checked: Credentials,
        now: Timestamp,
    ) -> Result<TokenPair, ApiError> {
        let user = checked.user.id;
        let session = SessionId::new();
        let refresh = RefreshToken::generate(session).map_err(|_| ApiError::Internal)?;
        let new = NewSession {
            id: session,
            user,
            digest: refresh.digest(&self.secret),
            password_hash: checked.password_hash,
            created_at: now,
            expires_at: self.session_end(now),
        };
        store.open_session(&new).await.map_err(|e| match e {
            StoreError::Missing(_) => ApiError::InvalidCredentials,
            error => error.into(),
        })?;
        self.pair(Bearer { user, session }, &refresh, now)
    }

    /// Exchanges a refresh token for the next pair.
    ///
    /// # Errors
    /// [`ApiError::InvalidRefreshToken`]; when the token was used before, its session has ended.
    pub async fn refresh(
        &self,
        store: &dyn Store,
        token: &str,
        now: Timestamp,
    ) -> Result<TokenPair, ApiError> {
        let presented = RefreshToken::parse(token).map_err(|_| ApiError::InvalidRefreshToken)?;
        let session = presented.session();
        let next = RefreshToken::generate(session).map_err(|_| ApiError::Internal)?;
        let rotation = Rotation {
            session,
            presented: presented.digest(&self.secret),
            next: next.digest(&self.secret),
            now,
            expires_at: self.session_end(now),
        };
        match store.rotate_session(&rotation).await? {
            Rotated::Done(user) => {
                user.status.check()?;
                self.pair(Bearer { user: user.id, session }, &next, now)
            }
            Rotated::Reused(user) => {
                tracing::warn!(%user, "a refresh token was used twice; its session has ended");
                Err(ApiError::InvalidRefreshToken)
            }
            Rotated::Unknown => Err(ApiError::InvalidRefreshToken),
        }
    }

    fn session_end(&self, now: Timestamp) -> Timestamp {
        let lifetime =
            SignedDuration::try_from(self.accounts.refresh_token).unwrap_or(SignedDuration::MAX);
        now.checked_add(lifetime).unwrap_or(Timestamp::MAX)
    }

    fn pair(
        &self,
        bearer: Bearer,
        refresh: &RefreshToken,
        now: Timestamp,
    ) -> Result<TokenPair, ApiError> {
        Ok(TokenPair {
            access_token: self.tokens.issue(bearer, now).map_err(|_| ApiError::Internal)?,
            refresh_token: refresh.reveal().to_owned(),
            token_type: "bearer",
            expires_in: self.tokens.lifetime_seconds(),
        })
    }
}

//! Log-ins: passwords checked, sessions begun, tokens handed out.

use super::api_error::ApiError;
use super::client;
use super::passwords::Passwords;
use super::throttle::Throttle;
use super::token::{Bearer, Tokens};
use crate::account::id::{SessionId, UserId};
use crate::account::key::Pepper;
use crate::account::password::Verified;
use crate::account::refresh::RefreshToken;
use crate::account::server_secret::ServerSecret;
use crate::account::user::{User, UserStatus};
use crate::config::{Accounts, Billing};
use crate::store::sessions::{Credentials, NewSession, Rotated, Rotation};
use crate::store::{Store, StoreError};
use jiff::{SignedDuration, Timestamp};
use serde::Serialize;
use std::net::IpAddr;
use std::time::Instant;
use utoipa::ToSchema;

/// What log-ins work with.
pub struct Identity {
    pub tokens: Tokens,
    pub passwords: Passwords,
    /// Keys the hashes of refresh tokens.
    secret: ServerSecret,
    pub accounts: Accounts,
    pub billing: Billing,
    /// Wrong passwords by account, known or not.
    by_account: Throttle<String>,
    by_address: Throttle<IpAddr>,
    /// Of those who are logged in: guesses at the door must not keep them from their own account.
    confirmations: Throttle<UserId>,
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
            tokens: Tokens::new(&pepper.derived(b"access tokens"), accounts.access_token),
            passwords: Passwords::new(),
            secret: ServerSecret::of(pepper),
            by_account: Throttle::new(accounts.account_tries),
            by_address: Throttle::new(accounts.address_tries),
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
    /// [`ApiError::TooManyTries`].
    pub fn may_register(&self, address: IpAddr, now: Instant) -> Result<(), ApiError> {
        let attempt = self.registrations.attempt(&client::network(address), now);
        attempt.map_err(ApiError::TooManyTries)
    }

    /// Counts a change that a user makes to their own keys, profile or plan.
    ///
    /// # Errors
    /// [`ApiError::TooManyTries`].
    pub fn may_change(&self, user: UserId, now: Instant) -> Result<(), ApiError> {
        self.changes.attempt(&user, now).map_err(ApiError::TooManyTries)
    }

    /// The user with this e-mail and password, active. Whether the e-mail or the password was wrong
    /// shows neither in the answer nor in the time it takes.
    ///
    /// # Errors
    /// [`ApiError::WrongCredentials`], [`ApiError::TooManyTries`], [`ApiError::Suspended`].
    pub async fn check(
        &self,
        store: &dyn Store,
        email: &str,
        password: &str,
        (address, now): (IpAddr, Instant),
    ) -> Result<Credentials, ApiError> {
        let network = client::network(address);
        self.by_address.attempt(&network, now).map_err(ApiError::TooManyTries)?;
        let account = email.to_owned();
        if let Err(wait) = self.by_account.attempt(&account, now) {
            return Err(ApiError::TooManyTries(wait));
        }
        let found = store.credentials(email).await?;
        let stored = found.as_ref().and_then(|found| found.password_hash.as_deref());
        let verified = self.passwords.verify(email, password, stored).await?;
        let (Some(mut found), Verified::Yes | Verified::YesRehash) = (found, verified) else {
            return Err(ApiError::WrongCredentials);
        };
        self.by_account.forgive(&account);
        self.by_address.take_back(&network);
        if found.user.status == UserStatus::Suspended {
            return Err(ApiError::Suspended);
        }
        if verified == Verified::YesRehash {
            found = self.rehashed(store, found, password).await?;
        }
        Ok(found)
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
        match self.passwords.verify(&now.user.email, password, Some(stored)).await? {
            Verified::No => Err(ApiError::WrongCredentials),
            Verified::Yes | Verified::YesRehash => Ok(now),
        }
    }

    /// Checks the password of somebody logged in.
    ///
    /// # Errors
    /// [`ApiError::WrongPassword`], [`ApiError::TooManyTries`].
    pub async fn confirm(
        &self,
        store: &dyn Store,
        user: &User,
        password: &str,
        now: Instant,
    ) -> Result<(), ApiError> {
        self.confirmations.attempt(&user.id, now).map_err(ApiError::TooManyTries)?;
        let found = store.credentials_of(user.id).await?;
        let stored = found.as_ref().and_then(|found| found.password_hash.as_deref());
        match self.passwords.verify(&user.email, password, stored).await? {
            Verified::No => Err(ApiError::WrongPassword),
            Verified::Yes | Verified::YesRehash => {
                self.confirmations.forgive(&user.id);
                Ok(())
            }
        }
    }

    /// Begins a session of a user whose password has been checked or set.
    ///
    /// # Errors
    /// [`ApiError::WrongCredentials`] when it was changed meanwhile.
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
            StoreError::Missing(_) => ApiError::WrongCredentials,
            error => error.into(),
        })?;
        self.pair(Bearer { user, session }, &refresh, now)
    }

    /// Exchanges a refresh token for the next pair.
    ///
    /// # Errors
    /// [`ApiError::BadRefreshToken`]; when the token was used before, its session has ended.
    pub async fn refresh(
        &self,
        store: &dyn Store,
        token: &str,
        now: Timestamp,
    ) -> Result<TokenPair, ApiError> {
        let presented = RefreshToken::parse(token).map_err(|_| ApiError::BadRefreshToken)?;
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
            Rotated::Done(user) if user.status == UserStatus::Active => {
                self.pair(Bearer { user: user.id, session }, &next, now)
            }
            Rotated::Done(_) => Err(ApiError::Suspended),
            Rotated::Reused(user) => {
                tracing::warn!(%user, "a refresh token was used twice; its session has ended");
                Err(ApiError::BadRefreshToken)
            }
            Rotated::Unknown => Err(ApiError::BadRefreshToken),
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

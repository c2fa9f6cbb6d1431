//! Login: verifies passwords, begins sessions, issues tokens.

mod limits;

use super::AttemptTime;
use super::access_token::{AccessTokens, TokenSubject};
use super::login_throttle::{LoginAttempt, LoginThrottle};
use super::passwords::{PasswordHasher, Scheduling};
use super::second_factor::SecondFactorCheck;
use super::throttle::{Backoff, Throttle};
use super::verified_user::VerifiedUser;
use crate::config::{Accounts, Billing};
use crate::control::api_error::ApiError;
use domain::id::{SessionId, UserId};
use domain::key::Pepper;
use domain::password::Verified;
use domain::refresh_token::RefreshToken;
use domain::second_factor::PresentedCode;
use domain::second_factor::totp::TotpSecret;
use domain::server_secret::ServerSecret;
use domain::user::User;
use jiff::{SignedDuration, Timestamp};
use serde::Serialize;
use std::net::IpAddr;
use std::time::{Duration, Instant};
use store::sessions::{Credentials, NewSession, Rotated, Rotation, SessionClient, SessionKind};
use store::{Sessions, Store, StoreError};
use utoipa::ToSchema;

/// Three exports without a wait, then one in 15 minutes.
const EXPORTS: Backoff = Backoff {
    free: 3,
    shortest: Duration::from_mins(15),
    longest: Duration::from_mins(15),
    memory: Duration::from_hours(1),
};

/// Password and session logic of log-in, registration and refresh.
pub struct Identity {
    pub tokens: AccessTokens,
    pub passwords: PasswordHasher,
    pub second_factor: SecondFactorCheck,
    /// Keys the hashes of refresh tokens.
    pub(super) secret: ServerSecret,
    pub accounts: Accounts,
    pub billing: Billing,
    logins: LoginThrottle,
    /// Password confirmations of logged-in users, per session: neither failed logins nor other sessions can
    /// block them.
    confirmations: Throttle<SessionId>,
    /// Codes that logged-in users enter, per session.
    code_confirmations: Throttle<SessionId>,
    registrations: Throttle<IpAddr>,
    /// Sign-ins at a provider that did not succeed.
    sign_ins: Throttle<IpAddr>,
    /// Exports, each of which reads all calls of a user.
    exports: Throttle<UserId>,
    /// Changes by users, which add rows to the store.
    changes: Throttle<UserId>,
    /// Requested mails by the address that they go to, whether or not it has an account.
    mails_to: Throttle<String>,
    mails_from: Throttle<IpAddr>,
}

/// What a person presents to log in.
#[derive(Clone, Copy)]
pub struct LogInProof<'a> {
    /// The e-mail address, normalised.
    pub email: &'a str,
    pub password: &'a str,
    /// A code of the authenticator app, or a recovery code.
    pub code: Option<&'a str>,
}

/// Mails that may be requested for one e-mail address without a wait.
const FREE_MAILS: u32 = 3;

/// The tokens of a session.
#[derive(Debug, Serialize, ToSchema)]
pub struct TokenPair {
    /// Send it as `Authorization: Bearer ...`.
    pub access_token: String,
    /// Exchange it once for the next pair of tokens at `POST /api/v1/users/refresh`.
    pub refresh_token: String,
    #[schema(example = "bearer")]
    pub token_type: &'static str,
    /// Lifetime of the access token in seconds.
    #[schema(example = 900)]
    pub expires_in: i64,
}

impl Identity {
    /// Login with the configured accounts and billing.
    #[must_use]
    pub fn new(pepper: &Pepper, accounts: Accounts, billing: Billing) -> Self {
        Self {
            tokens: AccessTokens::new(&pepper.derived(b"access tokens"), accounts.access_token),
            passwords: PasswordHasher::on_half_the_cores(),
            second_factor: SecondFactorCheck::new(pepper, accounts.account_tries),
            secret: ServerSecret::of(pepper),
            logins: LoginThrottle::new(accounts.account_tries, accounts.address_tries),
            confirmations: Throttle::new(accounts.account_tries),
            code_confirmations: Throttle::new(accounts.account_tries),
            registrations: Throttle::new(accounts.address_registrations),
            sign_ins: Throttle::new(accounts.address_tries),
            exports: Throttle::with_backoff(EXPORTS),
            changes: Throttle::new(accounts.account_changes),
            mails_to: Throttle::with_backoff(Backoff {
                shortest: Duration::from_mins(1),
                ..Backoff::standard(FREE_MAILS)
            }),
            mails_from: Throttle::new(accounts.address_tries),
            accounts,
            billing,
        }
    }

    /// The secret that keys the hashes of what the store keeps.
    #[must_use]
    pub fn secret(&self) -> &ServerSecret {
        &self.secret
    }

    /// The active user with this e-mail address, password and, if the user has a second factor, code. Neither
    /// the error nor the time reveals whether the address or the password was wrong, nor whether there is a
    /// second factor before the password is right.
    ///
    /// # Errors
    /// [`ApiError::InvalidCredentials`], [`ApiError::TooManyAttempts`], [`ApiError::Suspended`], and those of
    /// [`SecondFactorCheck::check_login`].
    pub async fn check(
        &self,
        store: &dyn Store,
        presented: LogInProof<'_>,
        (address, at): (IpAddr, AttemptTime),
    ) -> Result<VerifiedUser, ApiError> {
        let LogInProof { email, password, code } = presented;
        let attempt =
            self.logins.begin(email, address, at.instant).map_err(ApiError::TooManyAttempts)?;
        let checked = self.verify(store, email, password, &attempt).await;
        let (found, verified) = checked.inspect_err(|_| self.logins.cancelled(&attempt))?;
        let (Some(mut found), Verified::Yes | Verified::YesRehash) = (found, verified) else {
            return Err(ApiError::InvalidCredentials);
        };
        let checked = self.may_log_in(store, &found.user, code, (&attempt, at)).await;
        let has_passed_factor = checked.inspect_err(|error| {
            // Of those who know the password, only a wrong code is a guess.
            if !matches!(error, ApiError::InvalidCode) {
                self.logins.cancelled(&attempt);
            }
        })?;
        self.logins.succeeded(attempt);
        if verified == Verified::YesRehash {
            found = self.rehashed(store, found, password).await?;
        }
        Ok(VerifiedUser { credentials: found, has_passed_factor })
    }

    /// Checks the status and the code of a user who has entered the right password. Returns true if there is a
    /// second factor.
    async fn may_log_in(
        &self,
        store: &dyn Store,
        user: &User,
        code: Option<&str>,
        (attempt, at): (&LoginAttempt, AttemptTime),
    ) -> Result<bool, ApiError> {
        user.status.check()?;
        self.second_factor.check_login(store, user, code, (attempt.is_known_host, at)).await
    }

    /// The account of this e-mail address, and whether the password matches.
    async fn verify(
        &self,
        store: &dyn Sessions,
        email: &str,
        password: &str,
        attempt: &LoginAttempt,
    ) -> Result<(Option<Credentials>, Verified), ApiError> {
        let found = store.credentials(email).await?;
        let stored = found.as_ref().and_then(|found| found.password_hash.as_deref());
        let scheduling =
            if attempt.is_known_host { Scheduling::Immediate } else { Scheduling::PerAccount };
        let verified = self.passwords.verify(email, password, stored, scheduling).await?;
        Ok((found, verified))
    }

    /// Replaces an outdated hash of the password. If a concurrent login did so first, returns that hash; if
    /// the queue of the hasher is full, keeps the old one for now.
    async fn rehashed(
        &self,
        store: &dyn Sessions,
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
        match self
            .passwords
            .verify(&now.user.email, password, Some(stored), Scheduling::Immediate)
            .await?
        {
            Verified::No => Err(ApiError::InvalidCredentials),
            Verified::Yes | Verified::YesRehash => Ok(now),
        }
    }

    /// Verifies the password of a logged-in user, and the code if the user has a second factor: then it returns
    /// true.
    ///
    /// # Errors
    /// [`ApiError::WrongPassword`], [`ApiError::NoPassword`], [`ApiError::TooManyAttempts`], and those of
    /// [`SecondFactorCheck::check_in_session`].
    pub async fn confirm(
        &self,
        store: &dyn Store,
        (user, session): (&User, SessionId),
        (password, code): (&str, Option<&str>),
        at: AttemptTime,
    ) -> Result<bool, ApiError> {
        self.confirm_password(store, (user, session), password, at.instant).await?;
        self.confirm_code(store, (user, session), code, at).await
    }

    /// Verifies the password of a logged-in user or, without a password, the code.
    ///
    /// # Errors
    /// As [`Identity::confirm`], and [`ApiError::InvalidValue`] if neither could be checked.
    pub async fn confirm_either(
        &self,
        store: &dyn Store,
        (user, session): (&User, SessionId),
        (password, code): (Option<&str>, Option<&str>),
        at: AttemptTime,
    ) -> Result<(), ApiError> {
        if let Some(password) = password {
            return self.confirm_password(store, (user, session), password, at.instant).await;
        }
        let factor = store.second_factor(user.id).await?;
        let has_factor = factor.is_some_and(|factor| factor.enabled_at.is_some());
        if code.is_none() || !has_factor {
            return Err(ApiError::password_required());
        }
        self.confirm_code(store, (user, session), code, at).await.map(drop)
    }

    async fn confirm_password(
        &self,
        store: &dyn Store,
        (user, session): (&User, SessionId),
        password: &str,
        now: Instant,
    ) -> Result<(), ApiError> {
        self.confirmations.attempt(&session, now).map_err(ApiError::TooManyAttempts)?;
        let found = store.credentials_of(user.id).await?;
        let stored = found.and_then(|found| found.password_hash).ok_or(ApiError::NoPassword)?;
        match self
            .passwords
            .verify(&user.email, password, Some(&stored), Scheduling::Immediate)
            .await?
        {
            Verified::No => Err(ApiError::WrongPassword),
            Verified::Yes | Verified::YesRehash => {
                self.confirmations.reset(&session);
                Ok(())
            }
        }
    }

    /// Checks the code of a logged-in user who has a second factor: then it returns true.
    pub(in crate::control) async fn confirm_code(
        &self,
        store: &dyn Store,
        (user, session): (&User, SessionId),
        code: Option<&str>,
        at: AttemptTime,
    ) -> Result<bool, ApiError> {
        if code.is_some() {
            let attempt = self.code_confirmations.attempt(&session, at.instant);
            attempt.map_err(ApiError::TooManyAttempts)?;
        }
        let has_factor = self.second_factor.check_in_session(store, user, code, at).await?;
        self.code_confirmations.reset(&session);
        Ok(has_factor)
    }

    /// Checks the first code of a second factor that is being set up. Returns its time step.
    ///
    /// # Errors
    /// [`ApiError::WrongCode`], [`ApiError::TooManyAttempts`].
    pub fn check_first_code(
        &self,
        session: SessionId,
        secret: &TotpSecret,
        code: &str,
        at: AttemptTime,
    ) -> Result<i64, ApiError> {
        let attempt = self.code_confirmations.attempt(&session, at.instant);
        attempt.map_err(ApiError::TooManyAttempts)?;
        let Ok(PresentedCode::Totp(code)) = PresentedCode::parse(code) else {
            return Err(ApiError::WrongCode);
        };
        let step = secret.matching_step(&code, at.time).ok_or(ApiError::WrongCode)?;
        self.code_confirmations.reset(&session);
        Ok(step)
    }

    /// Begins a session of a user whose password was verified or set.
    ///
    /// # Errors
    /// [`ApiError::InvalidCredentials`] if the password was changed or a second factor enabled meanwhile.
    pub async fn begin(
        &self,
        store: &dyn Sessions,
        verified: VerifiedUser,
        client: SessionClient,
        now: Timestamp,
    ) -> Result<TokenPair, ApiError> {
        let VerifiedUser { credentials, has_passed_factor } = verified;
        let user = credentials.user.id;
        let session = SessionId::new();
        let refresh = RefreshToken::generate(session).map_err(|_| ApiError::Internal)?;
        let new = NewSession {
            id: session,
            user,
            digest: refresh.digest(&self.secret),
            password_hash: credentials.password_hash,
            has_passed_factor,
            kind: SessionKind::Api,
            client,
            created_at: now,
            expires_at: self.session_end(now),
        };
        store.open_session(&new).await.map_err(|e| match e {
            StoreError::Missing(_) => ApiError::InvalidCredentials,
            error => error.into(),
        })?;
        self.pair(TokenSubject { user, session }, &refresh, now)
    }

    /// Exchanges a refresh token for the next pair.
    ///
    /// # Errors
    /// [`ApiError::InvalidRefreshToken`]. If the token was already used, its session is ended.
    pub async fn refresh(
        &self,
        store: &dyn Sessions,
        token: &str,
        client: SessionClient,
        now: Timestamp,
    ) -> Result<TokenPair, ApiError> {
        let presented = RefreshToken::parse(token).map_err(|_| ApiError::InvalidRefreshToken)?;
        let session = presented.session();
        let next = RefreshToken::generate(session).map_err(|_| ApiError::Internal)?;
        let rotation = Rotation {
            session,
            presented: presented.digest(&self.secret),
            next: next.digest(&self.secret),
            client,
            now,
            expires_at: self.session_end(now),
        };
        match store.rotate_session(&rotation).await? {
            Rotated::Done(user) => {
                user.status.check()?;
                self.pair(TokenSubject { user: user.id, session }, &next, now)
            }
            Rotated::Reused(user) => {
                tracing::warn!(%user, "refresh token reused, session ended");
                Err(ApiError::InvalidRefreshToken)
            }
            Rotated::Unknown => Err(ApiError::InvalidRefreshToken),
        }
    }

    pub(super) fn session_end(&self, now: Timestamp) -> Timestamp {
        let lifetime =
            SignedDuration::try_from(self.accounts.refresh_token).unwrap_or(SignedDuration::MAX);
        now.checked_add(lifetime).unwrap_or(Timestamp::MAX)
    }

    fn pair(
        &self,
        subject: TokenSubject,
        refresh: &RefreshToken,
        now: Timestamp,
    ) -> Result<TokenPair, ApiError> {
        Ok(TokenPair {
            access_token: self.tokens.issue(subject, now).map_err(|_| ApiError::Internal)?,
            refresh_token: refresh.reveal().to_owned(),
            token_type: "bearer",
            expires_in: self.tokens.lifetime_seconds(),
        })
    }
}

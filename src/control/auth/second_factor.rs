//! Checks the code of users who have a second factor, after their password.
//!
//! Six digits can be guessed, so attempts are counted per account. Hosts that have logged in to the account
//! before are not counted there, only by themselves, and recovery codes are too long to guess: whoever knows
//! the password, but has no code, cannot lock the owner out.

use super::AttemptTime;
use super::throttle::Throttle;
use crate::control::api_error::ApiError;
use domain::actor::{Actor, AuditContext};
use domain::id::UserId;
use domain::key::Pepper;
use domain::second_factor::recovery_code::RecoveryCode;
use domain::second_factor::totp::TotpSecret;
use domain::second_factor::{CodeDigest, PresentedCode, SealedSecret, SecondFactorKeys};
use domain::user::User;
use store::SecondFactors;
use store::second_factors::SecondFactor;

/// Codes of second factors: makes, encrypts and checks them.
pub struct SecondFactorCheck {
    keys: SecondFactorKeys,
    /// Codes of the authenticator app, from hosts that have not logged in to the account before.
    login_attempts: Throttle<UserId>,
    /// Codes that a logged-in user enters, in whichever session.
    session_attempts: Throttle<UserId>,
}

/// Outcome of comparing a code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Comparison {
    Accepted,
    Wrong,
}

impl SecondFactorCheck {
    /// Accounts have `account_tries` free attempts.
    #[must_use]
    pub fn new(pepper: &Pepper, account_tries: u32) -> Self {
        Self {
            keys: SecondFactorKeys::of(pepper),
            login_attempts: Throttle::new(account_tries),
            session_attempts: Throttle::new(account_tries),
        }
    }

    /// Checks the code of a log-in whose password is right. Users without a second factor need none: then it
    /// returns false.
    ///
    /// # Errors
    /// [`ApiError::SecondFactorRequired`], [`ApiError::InvalidCode`], [`ApiError::UnreadableSecondFactor`],
    /// [`ApiError::TooManyAttempts`].
    pub async fn check_login(
        &self,
        store: &dyn SecondFactors,
        user: &User,
        code: Option<&str>,
        (is_known_host, at): (bool, AttemptTime),
    ) -> Result<bool, ApiError> {
        let Some(factor) = enabled(store, user.id).await? else { return Ok(false) };
        let code = code.ok_or(ApiError::SecondFactorRequired)?;
        let throttle = (!is_known_host).then_some(&self.login_attempts);
        match self.compare(store, user, &factor, code, (throttle, at)).await? {
            Comparison::Accepted => Ok(true),
            Comparison::Wrong => Err(ApiError::InvalidCode),
        }
    }

    /// Checks the code that a logged-in user enters. Users without a second factor need none: then it returns
    /// false.
    ///
    /// # Errors
    /// [`ApiError::CodeRequired`], [`ApiError::WrongCode`], [`ApiError::UnreadableSecondFactor`],
    /// [`ApiError::TooManyAttempts`].
    pub async fn check_in_session(
        &self,
        store: &dyn SecondFactors,
        user: &User,
        code: Option<&str>,
        at: AttemptTime,
    ) -> Result<bool, ApiError> {
        let Some(factor) = enabled(store, user.id).await? else { return Ok(false) };
        let code = code.ok_or(ApiError::CodeRequired)?;
        let throttle = Some(&self.session_attempts);
        match self.compare(store, user, &factor, code, (throttle, at)).await? {
            Comparison::Accepted => Ok(true),
            Comparison::Wrong => Err(ApiError::WrongCode),
        }
    }

    /// Compares a code, and accepts it once.
    async fn compare(
        &self,
        store: &dyn SecondFactors,
        user: &User,
        factor: &SecondFactor,
        code: &str,
        (throttle, at): (Option<&Throttle<UserId>>, AttemptTime),
    ) -> Result<Comparison, ApiError> {
        let secret = self.open(&factor.secret, user.id)?;
        let accepted = match PresentedCode::parse(code) {
            Err(_) => false,
            Ok(PresentedCode::Recovery(code)) => {
                let digest = self.keys.digest(&code, user.id);
                let actor = Actor::User(user.id);
                let by = AuditContext { actor, at: at.time, request_id: None };
                store.accept_recovery_code(user.id, &digest, &by).await?
            }
            Ok(PresentedCode::Totp(code)) => {
                let attempt = throttle.map_or(Ok(()), |tries| tries.attempt(&user.id, at.instant));
                attempt.map_err(ApiError::TooManyAttempts)?;
                let step = secret.matching_step(&code, at.time);
                let accepted = match step {
                    Some(step) => store.accept_totp(user.id, step).await?,
                    None => false,
                };
                if let (Some(tries), true) = (throttle, accepted) {
                    tries.undo(&user.id);
                }
                accepted
            }
        };
        Ok(if accepted { Comparison::Accepted } else { Comparison::Wrong })
    }

    /// A new secret of a user, encrypted.
    ///
    /// # Errors
    /// When the system gives no randomness.
    pub fn new_secret(&self, user: UserId) -> Result<SealedSecret, ApiError> {
        let secret = TotpSecret::generate().map_err(|_| ApiError::Internal)?;
        self.keys.seal(&secret, user).map_err(|_| ApiError::Internal)
    }

    /// Decrypts the secret of a user.
    ///
    /// # Errors
    /// [`ApiError::UnreadableSecondFactor`] if the server's secret has changed since.
    pub fn open(&self, secret: &SealedSecret, user: UserId) -> Result<TotpSecret, ApiError> {
        self.keys.open(secret, user).map_err(|error| {
            tracing::warn!(%user, %error, "the second factor of a user cannot be checked");
            ApiError::UnreadableSecondFactor
        })
    }

    /// New recovery codes of a user, and what is stored of them.
    ///
    /// # Errors
    /// When the system gives no randomness.
    pub fn new_recovery_codes(
        &self,
        user: UserId,
    ) -> Result<(Vec<String>, Vec<CodeDigest>), ApiError> {
        let codes = RecoveryCode::generate_set().map_err(|_| ApiError::Internal)?;
        let digests = codes.iter().map(|code| self.keys.digest(code, user)).collect();
        Ok((codes.iter().map(RecoveryCode::reveal).collect(), digests))
    }
}

/// The second factor of a user who has one, not counting a set-up that was not finished.
async fn enabled(
    store: &dyn SecondFactors,
    user: UserId,
) -> Result<Option<SecondFactor>, ApiError> {
    let factor = store.second_factor(user).await?;
    Ok(factor.filter(|factor| factor.enabled_at.is_some()))
}

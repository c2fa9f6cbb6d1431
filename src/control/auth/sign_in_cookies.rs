//! What a browser carries while it signs in at a provider: values that the gateway has signed, for a few minutes.
//!
//! A browser that brings another's response back does not have the other's cookie, so no person can be signed in to the
//! account of another (login CSRF). Nonce and PKCE verifier are derived from the state with the server's secret: they
//! are in no cookie, and a state has no others.

use crate::control::api_error::ApiError;
use crate::jwt;
use crate::oidc::AttemptSecrets;
use data_encoding::BASE64URL_NOPAD;
use domain::id::SessionId;
use domain::key::Pepper;
use hmac::{Hmac, KeyInit, Mac};
use jiff::{SignedDuration, Timestamp};
use jsonwebtoken::{DecodingKey, EncodingKey, Header, Validation};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// Time to sign in at the provider.
const ATTEMPT_LIFETIME: SignedDuration = SignedDuration::from_mins(10);
/// Time to enter a code of the second factor afterwards.
const CODE_LIFETIME: SignedDuration = SignedDuration::from_mins(5);
/// Longest cookie that is read: browsers store 4096 bytes.
const MAX_BYTES: usize = 4096;
/// Random bytes of a state.
const STATE_BYTES: usize = 24;

/// Signs and reads the cookies.
pub struct SignInCookies {
    signing: EncodingKey,
    verifying: DecodingKey,
    /// Derives the secrets of attempts.
    secrets: [u8; 32],
}

/// The goal of a sign-in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum SignInGoal {
    /// A session.
    LogIn,
    /// To link the identity to the user of this session.
    Link(SessionId),
    /// To confirm that the user of this session is still the same person.
    Confirm(SessionId),
}

/// An attempt to sign in that has begun.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attempt {
    pub state: String,
    pub goal: SignInGoal,
    /// The page of the console that follows.
    pub next: String,
    /// When it began, in Unix seconds.
    pub began_at: i64,
}

/// A person whom the provider has confirmed, and who still has to enter a code.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AwaitedCode {
    /// Tells two of the same person apart.
    pub id: String,
    pub subject: String,
    /// The verified e-mail address that the gateway accepts.
    pub email: Option<String>,
    pub next: String,
}

/// A cookie that was read: valid, and not expired.
pub struct ReadCookie<T> {
    pub value: T,
    /// By which the store knows that it was used.
    pub digest: [u8; 32],
    pub expires_at: Timestamp,
}

/// The claims of a cookie.
#[derive(Serialize, Deserialize)]
struct Claims<T> {
    aud: String,
    exp: i64,
    #[serde(flatten)]
    value: T,
}

/// A kind of cookie. One of a kind is never read as one of another.
pub trait Kind: Serialize + DeserializeOwned {
    const AUDIENCE: &'static str;
    const LIFETIME: SignedDuration;
}

impl Kind for Attempt {
    const AUDIENCE: &'static str = "sign-in attempt";
    const LIFETIME: SignedDuration = ATTEMPT_LIFETIME;
}

impl Kind for AwaitedCode {
    const AUDIENCE: &'static str = "sign-in code";
    const LIFETIME: SignedDuration = CODE_LIFETIME;
}

impl SignInCookies {
    /// Cookies that are signed with a key of the server's secret.
    #[must_use]
    pub fn new(pepper: &Pepper) -> Self {
        jwt::install();
        let key = pepper.derived(b"sign-in cookies");
        Self {
            signing: EncodingKey::from_secret(&key),
            verifying: DecodingKey::from_secret(&key),
            secrets: pepper.derived(b"sign-in secrets"),
        }
    }

    /// Random text that no one can guess.
    ///
    /// # Errors
    /// When the system gives no randomness.
    pub fn random() -> Result<String, ApiError> {
        let mut bytes = [0; STATE_BYTES];
        getrandom::fill(&mut bytes).map_err(|_| ApiError::Internal)?;
        Ok(BASE64URL_NOPAD.encode(&bytes))
    }

    /// The secrets of an attempt, by its state.
    #[must_use]
    pub fn secrets(&self, state: &str) -> AttemptSecrets {
        let derived = |purpose: &str| {
            let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(&self.secrets) else {
                return String::new();
            };
            mac.update(purpose.as_bytes());
            mac.update(b"\0");
            mac.update(state.as_bytes());
            BASE64URL_NOPAD.encode(&mac.finalize().into_bytes())
        };
        AttemptSecrets {
            state: state.to_owned(),
            nonce: derived("nonce"),
            verifier: derived("verifier"),
        }
    }

    /// Signs a value from `now` on.
    ///
    /// # Errors
    /// Signing failed, which HMAC never does.
    pub fn seal<T: Kind>(&self, value: T, now: Timestamp) -> Result<String, ApiError> {
        let exp = now.as_second().saturating_add(T::LIFETIME.as_secs());
        let claims = Claims { aud: T::AUDIENCE.to_owned(), exp, value };
        let header = Header::new(jwt::OWN_ALGORITHM);
        jsonwebtoken::encode(&header, &claims, &self.signing).map_err(|_| ApiError::Internal)
    }

    /// Reads a cookie; `None` if it was not signed here, is of another kind, or has expired at `now`.
    #[must_use]
    pub fn open<T: Kind>(&self, cookie: &str, now: Timestamp) -> Option<ReadCookie<T>> {
        if cookie.len() > MAX_BYTES {
            return None;
        }
        let mut rules = Validation::new(jwt::OWN_ALGORITHM);
        rules.set_audience(&[T::AUDIENCE]);
        rules.set_required_spec_claims(&["exp", "aud"]);
        rules.validate_exp = false;
        let data = jsonwebtoken::decode::<Claims<T>>(cookie, &self.verifying, &rules).ok()?;
        let Claims { exp, value, .. } = data.claims;
        let expires_at = Timestamp::from_second(exp).ok()?;
        let digest = Sha256::digest(cookie.as_bytes()).into();
        (expires_at > now).then_some(ReadCookie { value, digest, expires_at })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cookies(secret: &[u8]) -> SignInCookies {
        SignInCookies::new(&Pepper::new(secret))
    }

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn attempt() -> Attempt {
        let goal = SignInGoal::Link(SessionId::new());
        Attempt { state: "s".to_owned(), goal, next: "/console".to_owned(), began_at: 0 }
    }

    #[test]
    fn a_cookie_is_read_by_who_signed_it_until_it_expires() {
        let (cookies, value) = (cookies(b"secret"), attempt());
        let sealed = cookies.seal(value.clone(), at(1000)).unwrap();
        let read = cookies.open::<Attempt>(&sealed, at(1599)).unwrap();
        assert_eq!((read.value, read.expires_at), (value, at(1600)));
        assert!(cookies.open::<Attempt>(&sealed, at(1600)).is_none(), "expired");
        assert!(cookies.open::<AwaitedCode>(&sealed, at(1000)).is_none(), "another kind");
        assert!(super::tests::cookies(b"other").open::<Attempt>(&sealed, at(1000)).is_none());
        let (head, _) = sealed.rsplit_once('.').unwrap();
        for forged in [head.to_owned(), format!("{head}."), format!("{sealed}x"), "a".repeat(9999)]
        {
            assert!(cookies.open::<Attempt>(&forged, at(1000)).is_none(), "{forged}");
        }
    }

    #[test]
    fn each_state_has_its_own_secrets() {
        let (one, other) = (cookies(b"secret"), cookies(b"other"));
        let secrets = one.secrets("s");
        assert_eq!(secrets.verifier, one.secrets("s").verifier);
        assert_eq!(secrets.verifier.len(), 43, "the length that RFC 7636 recommends");
        assert_ne!(secrets.verifier, secrets.nonce);
        assert_ne!(secrets.verifier, one.secrets("t").verifier);
        assert_ne!(secrets.verifier, other.secrets("s").verifier);
        assert_ne!(SignInCookies::random().unwrap(), SignInCookies::random().unwrap());
    }
}

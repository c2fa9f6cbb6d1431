//! Checks of ID tokens (OpenID Connect Core 1.0, section 3.1.3.7). `jsonwebtoken` verifies the signature, issuer and
//! audience; times are checked here, because time is an argument.

use super::{ProviderError, SignedIn};
use jiff::Timestamp;
use jsonwebtoken::{Algorithm, DecodingKey, Header, Validation};
use serde::Deserialize;
use subtle::ConstantTimeEq;

/// How far the clocks of the provider and of the gateway may differ, in seconds.
const CLOCK_SKEW: i64 = 60;
/// Longest subject, by the specification.
const MAX_SUBJECT_BYTES: usize = 255;

/// What a token must say.
#[derive(Debug, Clone, Copy)]
pub(super) struct Expected<'a> {
    pub issuer: &'a str,
    pub client_id: &'a str,
    pub nonce: &'a str,
    pub now: Timestamp,
}

/// The claims that are used.
#[derive(Debug, Deserialize)]
struct Claims {
    sub: String,
    aud: Audience,
    #[serde(default)]
    azp: Option<String>,
    exp: i64,
    iat: i64,
    #[serde(default)]
    nbf: Option<i64>,
    #[serde(default)]
    nonce: Option<String>,
    #[serde(default)]
    auth_time: Option<i64>,
    #[serde(flatten)]
    address: EmailClaims,
}

/// The claims about the e-mail address, which are in the token or at the userinfo endpoint.
#[derive(Debug, Clone, Default, Deserialize)]
pub(super) struct EmailClaims {
    #[serde(default)]
    pub email: Option<String>,
    #[serde(default)]
    pub email_verified: Option<Flag>,
}

/// A boolean; some providers write it as text.
#[derive(Debug, Clone, Deserialize)]
#[serde(untagged)]
pub(super) enum Flag {
    Bool(bool),
    Text(String),
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Audience {
    One(String),
    Many(Vec<String>),
}

impl EmailClaims {
    /// True only if the provider says so.
    pub fn is_verified(&self) -> bool {
        match &self.email_verified {
            Some(Flag::Bool(flag)) => *flag,
            Some(Flag::Text(text)) => text == "true",
            None => false,
        }
    }
}

/// The header of a token, of which nothing is verified yet.
pub(super) fn header(token: &str) -> Result<Header, ProviderError> {
    jsonwebtoken::decode_header(token).map_err(|_| rejected("the token has no valid header"))
}

/// Verifies a token with the key that its header names.
pub(super) fn verify(
    token: &str,
    algorithm: Algorithm,
    key: &DecodingKey,
    expected: Expected<'_>,
) -> Result<(SignedIn, EmailClaims), ProviderError> {
    let mut rules = Validation::new(algorithm);
    rules.set_issuer(&[expected.issuer]);
    rules.set_audience(&[expected.client_id]);
    rules.set_required_spec_claims(&["exp", "iss", "aud", "sub"]);
    rules.validate_exp = false;
    let data = jsonwebtoken::decode::<Claims>(token, key, &rules)
        .map_err(|error| rejected(format!("the token is not valid: {error}")))?;
    let claims = data.claims;
    check(&claims, expected)?;
    let auth_time = claims.auth_time.and_then(|second| Timestamp::from_second(second).ok());
    let signed_in = SignedIn {
        subject: claims.sub,
        email: claims.address.email.clone(),
        is_email_verified: claims.address.is_verified(),
        auth_time,
    };
    Ok((signed_in, claims.address))
}

fn check(claims: &Claims, expected: Expected<'_>) -> Result<(), ProviderError> {
    let now = expected.now.as_second();
    if claims.exp.saturating_add(CLOCK_SKEW) <= now {
        return Err(rejected("the token has expired"));
    }
    let earliest = claims.nbf.unwrap_or(claims.iat).max(claims.iat);
    if earliest > now.saturating_add(CLOCK_SKEW) {
        return Err(rejected("the token is from the future"));
    }
    let is_of_several = matches!(&claims.aud, Audience::Many(names) if names.len() > 1);
    let authorized = claims.azp.as_deref();
    if (is_of_several && authorized.is_none())
        || authorized.is_some_and(|party| party != expected.client_id)
    {
        return Err(rejected("the token was issued to another client"));
    }
    if let Audience::One(name) = &claims.aud
        && name != expected.client_id
    {
        return Err(rejected("the token is for another client"));
    }
    let nonce = claims.nonce.as_deref().unwrap_or_default();
    if !bool::from(nonce.as_bytes().ct_eq(expected.nonce.as_bytes())) {
        return Err(rejected("the token is of another sign-in"));
    }
    if claims.sub.is_empty() || claims.sub.len() > MAX_SUBJECT_BYTES {
        return Err(rejected("the token has no valid subject"));
    }
    Ok(())
}

fn rejected(reason: impl Into<String>) -> ProviderError {
    ProviderError::Rejected(reason.into())
}

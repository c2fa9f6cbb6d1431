//! Access tokens: JWT (RFC 7519) signed with HMAC-SHA256, and with nothing else.
//!
//! A token names its session. Whether that session is alive, and what its user may do, is always checked
//! against the store, so ending a session ends its tokens immediately.

use crate::jwt;
use data_encoding::HEXLOWER;
use domain::id::{SessionId, UserId};
use hmac::{Hmac, KeyInit, Mac};
use jiff::{SignedDuration, Timestamp};
use jsonwebtoken::{DecodingKey, EncodingKey, Header, Validation};
use serde::{Deserialize, Serialize};
use sha2::Sha256;
use std::time::Duration;

const ISSUER: &str = "knockx";
const AUDIENCE: &str = "knockx-control";
/// Maximum length of a token; longer ones are rejected without parsing.
const MAX_LENGTH: usize = 2048;

/// Issues and verifies access tokens.
pub struct AccessTokens {
    signing: EncodingKey,
    verifying: DecodingKey,
    /// Identifies the signing key, so that tokens of another key are rejected by it.
    key_id: String,
    rules: Validation,
    lifetime: SignedDuration,
}

/// The claims of a token.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Claims {
    iss: String,
    aud: String,
    sub: UserId,
    sid: SessionId,
    iat: i64,
    exp: i64,
}

/// The user and session of a valid token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TokenSubject {
    pub user: UserId,
    pub session: SessionId,
}

/// Why a token was rejected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TokenError {
    /// Not issued by this gateway, or modified.
    Invalid,
    Expired,
}

impl AccessTokens {
    /// Tokens signed with `key`.
    #[must_use]
    pub fn new(key: &[u8], lifetime: Duration) -> Self {
        jwt::install();
        let name = name(key);
        let mut rules = Validation::new(jwt::OWN_ALGORITHM);
        rules.set_issuer(&[ISSUER]);
        rules.set_audience(&[AUDIENCE]);
        rules.set_required_spec_claims(&["exp", "iss", "aud", "sub"]);
        // `read` checks the expiry, because time is an argument.
        rules.validate_exp = false;
        Self {
            signing: EncodingKey::from_secret(key),
            verifying: DecodingKey::from_secret(key),
            key_id: name,
            rules,
            lifetime: SignedDuration::try_from(lifetime).unwrap_or(SignedDuration::MAX),
        }
    }

    /// Lifetime of a token in seconds.
    #[must_use]
    pub fn lifetime_seconds(&self) -> i64 {
        self.lifetime.as_secs()
    }

    /// Issues a token for a session, valid from `now` on.
    ///
    /// # Errors
    /// Signing failed, which HMAC never does.
    pub fn issue(
        &self,
        subject: TokenSubject,
        now: Timestamp,
    ) -> Result<String, jsonwebtoken::errors::Error> {
        let issued = now.as_second();
        let claims = Claims {
            iss: ISSUER.to_owned(),
            aud: AUDIENCE.to_owned(),
            sub: subject.user,
            sid: subject.session,
            iat: issued,
            exp: issued.saturating_add(self.lifetime.as_secs()),
        };
        let header = Header { kid: Some(self.key_id.clone()), ..Header::new(jwt::OWN_ALGORITHM) };
        jsonwebtoken::encode(&header, &claims, &self.signing)
    }

    /// Verifies a token at `now`.
    ///
    /// # Errors
    /// [`TokenError`].
    pub fn read(&self, token: &str, now: Timestamp) -> Result<TokenSubject, TokenError> {
        if token.len() > MAX_LENGTH {
            return Err(TokenError::Invalid);
        }
        let data = jsonwebtoken::decode::<Claims>(token, &self.verifying, &self.rules)
            .map_err(|_| TokenError::Invalid)?;
        if data.header.kid.as_ref() != Some(&self.key_id) {
            return Err(TokenError::Invalid);
        }
        if data.claims.exp <= now.as_second() {
            return Err(TokenError::Expired);
        }
        Ok(TokenSubject { user: data.claims.sub, session: data.claims.sid })
    }
}

fn mac(key: &[u8]) -> Hmac<Sha256> {
    Hmac::<Sha256>::new_from_slice(key).expect("HMAC takes a key of any length")
}

/// Eight hex digits that identify a key without revealing it.
fn name(key: &[u8]) -> String {
    let mut mac = mac(key);
    mac.update(b"name");
    HEXLOWER.encode(&mac.finalize().into_bytes()[..4])
}

#[cfg(test)]
mod tests {
    use super::*;
    use base64::Engine;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;
    use serde_json::{Value, json};

    const KEY: &[u8] = b"an obviously fake key for tests";

    fn tokens() -> AccessTokens {
        AccessTokens::new(KEY, Duration::from_secs(900))
    }

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn subject() -> TokenSubject {
        TokenSubject { user: UserId::new(), session: SessionId::new() }
    }

    /// A token with its parts changed, signed with `key` as HS256 (an empty key: no signature).
    fn forged(token: &str, key: &[u8], change: impl FnOnce(&mut Value, &mut Value)) -> String {
        let part = |at: usize| -> Value {
            let text = token.split('.').nth(at).unwrap();
            serde_json::from_slice(&URL_SAFE_NO_PAD.decode(text).unwrap()).unwrap()
        };
        let (mut header, mut claims) = (part(0), part(1));
        change(&mut header, &mut claims);
        let encode = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let message = format!("{}.{}", encode(&header), encode(&claims));
        if key.is_empty() {
            return format!("{message}.");
        }
        let mut mac = mac(key);
        mac.update(message.as_bytes());
        format!("{message}.{}", URL_SAFE_NO_PAD.encode(mac.finalize().into_bytes()))
    }

    #[test]
    fn a_token_gives_its_subject_until_it_expires() {
        let (tokens, subject) = (tokens(), subject());
        let token = tokens.issue(subject, at(1_000)).unwrap();
        assert_eq!(tokens.read(&token, at(1_000)), Ok(subject));
        assert_eq!(tokens.read(&token, at(1_899)), Ok(subject));
        assert_eq!(tokens.read(&token, at(1_900)), Err(TokenError::Expired));
        let other = AccessTokens::new(b"another secret", Duration::from_secs(900));
        assert_eq!(other.read(&token, at(1_000)), Err(TokenError::Invalid));
    }

    #[test]
    fn what_is_forged_is_refused() {
        let tokens = tokens();
        let token = tokens.issue(subject(), at(1_000)).unwrap();
        let same = forged(&token, KEY, |_, _| {});
        assert!(tokens.read(&same, at(1_000)).is_ok(), "the forger's craft is sound");

        let refused = |what: &str, token: &str| {
            assert_eq!(tokens.read(token, at(1_000)), Err(TokenError::Invalid), "{what}");
        };
        for alg in ["none", "None", "HS384", "HS512", "RS256", "ES256", "EdDSA"] {
            refused(alg, &forged(&token, KEY, |header, _| header["alg"] = json!(alg)));
            refused(alg, &forged(&token, b"", |header, _| header["alg"] = json!(alg)));
        }
        refused("no signature", &forged(&token, b"", |_, _| {}));
        refused("another key", &forged(&token, b"guess", |_, _| {}));
        refused("kid", &forged(&token, KEY, |header, _| header["kid"] = json!("00000000")));
        refused("no kid", &forged(&token, KEY, |header, _| header["kid"] = Value::Null));
        refused("audience", &forged(&token, KEY, |_, claims| claims["aud"] = json!("elsewhere")));
        refused("issuer", &forged(&token, KEY, |_, claims| claims["iss"] = json!("elsewhere")));
        refused("no exp", &forged(&token, KEY, |_, claims| claims["exp"] = Value::Null));
        refused("more", &forged(&token, KEY, |_, claims| claims["role"] = json!("admin")));
        refused("empty", "");
        refused("dots", "..");
        refused("long", &"a".repeat(MAX_LENGTH + 1));
        let (head, _) = token.rsplit_once('.').unwrap();
        refused("cut", head);
    }
}

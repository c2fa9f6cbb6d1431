//! Refresh tokens: `rt-kx-<session>_<secret>`, good for one exchange.
//!
//! The session (32 hex digits) finds the record, the secret (43 base62 characters, 256 bits) proves
//! the holder. Only a hash keyed with the server's secret is stored, so that a new `SECRET_KEY` ends
//! every refresh token.

use super::id::SessionId;
use super::key::{NoRandomness, push_random_base62};
use super::server_secret::ServerSecret;
use sha2::{Digest, Sha256};
use std::fmt;
use uuid::Uuid;

const PREFIX: &str = "rt-kx-";
const ID_LEN: usize = 32;
const SECRET_LEN: usize = 43;

/// A token as its holder presents it. Prints only its session.
#[derive(Clone)]
pub struct RefreshToken {
    session: SessionId,
    text: String,
}

/// A text that is not a valid refresh token.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("malformed refresh token")]
pub struct MalformedToken;

impl RefreshToken {
    /// A new token of a session.
    ///
    /// # Errors
    /// When the system gives no randomness.
    pub fn generate(session: SessionId) -> Result<Self, NoRandomness> {
        Ok(Self { session, text: generate(PREFIX, session.0)? })
    }

    /// Reads a presented token.
    ///
    /// # Errors
    /// [`MalformedToken`] for anything that [`RefreshToken::generate`] cannot have made.
    pub fn parse(text: &str) -> Result<Self, MalformedToken> {
        let session = id_of(PREFIX, text).ok_or(MalformedToken)?;
        Ok(Self { session: SessionId(session), text: text.to_owned() })
    }

    /// The session to look the token up by.
    #[must_use]
    pub fn session(&self) -> SessionId {
        self.session
    }

    /// The keyed hash to store or compare.
    #[must_use]
    pub fn digest(&self, secret: &ServerSecret) -> [u8; 32] {
        secret.refresh_digest(&Sha256::digest(&self.text))
    }

    /// The token itself, to hand to its holder once.
    #[must_use]
    pub fn reveal(&self) -> &str {
        &self.text
    }
}

/// A new token: the prefix, the id as hex digits, and 256 random bits.
pub(super) fn generate(prefix: &str, id: Uuid) -> Result<String, NoRandomness> {
    let mut text = format!("{prefix}{}_", id.simple());
    push_random_base62(&mut text, SECRET_LEN)?;
    Ok(text)
}

/// The id of a token that [`generate`] can have made with this prefix; `None` for any other text.
pub(super) fn id_of(prefix: &str, text: &str) -> Option<Uuid> {
    let (id, secret) = text.strip_prefix(prefix)?.split_once('_')?;
    let is_lower_hex = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b);
    let well_formed = id.len() == ID_LEN
        && id.bytes().all(is_lower_hex)
        && secret.len() == SECRET_LEN
        && secret.bytes().all(|b| b.is_ascii_alphanumeric());
    Uuid::try_parse(id).ok().filter(|_| well_formed)
}

impl fmt::Debug for RefreshToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RefreshToken({}…)", self.session.0.simple())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::key::Pepper;

    #[test]
    fn a_token_is_read_back_and_nothing_else_is() {
        let session = SessionId::new();
        let token = RefreshToken::generate(session).unwrap();
        let read = RefreshToken::parse(token.reveal()).unwrap();
        let secret = ServerSecret::of(&Pepper::new(b"secret"));
        let digest = token.digest(&secret);
        assert_eq!((read.session(), read.digest(&secret)), (session, digest));
        assert_ne!(RefreshToken::generate(session).unwrap().digest(&secret), digest);
        assert_ne!(token.digest(&ServerSecret::of(&Pepper::new(b"another"))), digest);
        assert!(!format!("{token:?}").contains(&token.reveal()[40..]));

        let text = token.reveal();
        let upper = text.to_uppercase().replace("RT-KX-", PREFIX);
        for bad in ["", "rt-kx-", &text[1..], &text[..text.len() - 1], &format!("{text}a"), &upper]
        {
            assert_eq!(RefreshToken::parse(bad).unwrap_err(), MalformedToken, "{bad}");
        }
    }
}

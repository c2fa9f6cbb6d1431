//! The second factor of a log-in: codes of an authenticator app, and recovery codes for when it is lost.
//!
//! The store has neither the app's secret nor a recovery code in plain text: [`SecondFactorKeys`] encrypts
//! the one and hashes the other with keys derived from the server's secret. With another `SECRET_KEY` they
//! cannot be used any more.

pub mod totp;
pub mod recovery_code;
#[cfg(test)]
mod tests;

use super::id::UserId;
use super::key::{NoRandomness, Pepper, random_bytes};
use hmac::Mac;
use recovery_code::RecoveryCode;
use ring::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use std::fmt;
use totp::{SECRET_BYTES, TotpSecret};

const TAG_BYTES: usize = 16;
/// Bytes of a [`SealedSecret`]: the nonce, the encrypted secret, the tag.
pub const SEALED_BYTES: usize = NONCE_LEN + SECRET_BYTES + TAG_BYTES;

/// The encrypted secret of an authenticator app, as it is stored.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct SealedSecret(pub [u8; SEALED_BYTES]);

/// The keyed hash of a recovery code, as it is stored.
pub type CodeDigest = [u8; 32];

/// Keys derived from the server's secret for second factors.
#[derive(Clone)]
pub struct SecondFactorKeys {
    cipher: LessSafeKey,
    recovery_codes: Pepper,
}

/// The secret was encrypted with another key, or for another user.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("the secret of a second factor was encrypted with another key")]
pub struct UnreadableSecret;

/// A code that a user enters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PresentedCode {
    /// The six digits that an authenticator app shows.
    Totp(String),
    Recovery(RecoveryCode),
}

/// A text that is neither six digits nor a recovery code.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("malformed code")]
pub struct MalformedCode;

impl SecondFactorKeys {
    /// Derives the keys from the server's secret.
    #[must_use]
    pub fn of(pepper: &Pepper) -> Self {
        let cipher = UnboundKey::new(&CHACHA20_POLY1305, &pepper.derived(b"second factors"));
        let cipher = cipher.expect("a key of 32 bytes");
        Self {
            cipher: LessSafeKey::new(cipher),
            recovery_codes: Pepper::new(&pepper.derived(b"recovery codes")),
        }
    }

    /// Encrypts the secret of a user. It can be decrypted for this user only.
    ///
    /// # Errors
    /// When the system gives no randomness.
    pub fn seal(&self, secret: &TotpSecret, user: UserId) -> Result<SealedSecret, NoRandomness> {
        // Drawn at random: a few secrets per user are far from the number at which two may be the same.
        let nonce = random_bytes::<NONCE_LEN>()?;
        let mut sealed = [0; SEALED_BYTES];
        let (start, tag) = sealed.split_at_mut(NONCE_LEN + SECRET_BYTES);
        start[..NONCE_LEN].copy_from_slice(&nonce);
        let message = &mut start[NONCE_LEN..];
        message.copy_from_slice(secret.bytes());
        let made = self.cipher.seal_in_place_separate_tag(
            Nonce::assume_unique_for_key(nonce),
            Aad::from(user.0.as_bytes()),
            message,
        );
        tag.copy_from_slice(made.expect("twenty bytes are not too long to encrypt").as_ref());
        Ok(SealedSecret(sealed))
    }

    /// Decrypts the secret of a user.
    ///
    /// # Errors
    /// [`UnreadableSecret`] unless it was encrypted with this key for this user.
    pub fn open(
        &self,
        sealed: &SealedSecret,
        user: UserId,
    ) -> Result<TotpSecret, UnreadableSecret> {
        let mut sealed = sealed.0;
        let (nonce, message) = sealed.split_at_mut(NONCE_LEN);
        let nonce = Nonce::try_assume_unique_for_key(nonce).map_err(|_| UnreadableSecret)?;
        let aad = Aad::from(user.0.as_bytes());
        let secret =
            self.cipher.open_in_place(nonce, aad, message).map_err(|_| UnreadableSecret)?;
        <[u8; SECRET_BYTES]>::try_from(&*secret)
            .map(TotpSecret::from_bytes)
            .map_err(|_| UnreadableSecret)
    }

    /// The keyed hash of a user's recovery code. Two users with the same code have different hashes.
    #[must_use]
    pub fn digest(&self, code: &RecoveryCode, user: UserId) -> CodeDigest {
        let mut mac = self.recovery_codes.mac();
        mac.update(user.0.as_bytes());
        mac.update(code.plain().as_bytes());
        mac.finalize().into_bytes().into()
    }
}

impl PresentedCode {
    /// Reads a code as people type it: spaces and hyphens do not matter, nor does the case of letters.
    ///
    /// # Errors
    /// [`MalformedCode`].
    pub fn parse(text: &str) -> Result<Self, MalformedCode> {
        let is_separator = |character: &char| character.is_whitespace() || *character == '-';
        let text: String = text.chars().filter(|character| !is_separator(character)).collect();
        let is_totp = text.len() == totp::DIGITS && text.bytes().all(|byte| byte.is_ascii_digit());
        if is_totp {
            return Ok(Self::Totp(text));
        }
        RecoveryCode::parse(&text).map(Self::Recovery).ok_or(MalformedCode)
    }
}

impl fmt::Debug for SealedSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SealedSecret(…)")
    }
}

impl fmt::Debug for SecondFactorKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecondFactorKeys(…)")
    }
}

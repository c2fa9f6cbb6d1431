//! The server's secret (`SECRET_KEY`) as far as a store may know it.
//!
//! A store records a fingerprint of the secret that its hashes were made with, so that a command or a
//! gateway with another secret is noticed. Neither the fingerprint nor a hash leads back to the secret.

use super::key::Pepper;
use hmac::Mac;
use std::fmt;

/// Identifies a secret without revealing it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Fingerprint(pub [u8; 16]);

/// Keys derived from the server's secret for use with a store.
#[derive(Debug, Clone)]
pub struct ServerSecret {
    fingerprint: Fingerprint,
    refresh_tokens: Pepper,
    one_time_links: Pepper,
    addresses: Pepper,
}

impl ServerSecret {
    /// Derives fingerprint and hashing key from the secret.
    #[must_use]
    pub fn of(pepper: &Pepper) -> Self {
        let mut fingerprint = [0; 16];
        fingerprint.copy_from_slice(&pepper.derived(b"fingerprint")[..16]);
        Self {
            fingerprint: Fingerprint(fingerprint),
            refresh_tokens: Pepper::new(&pepper.derived(b"refresh tokens")),
            one_time_links: Pepper::new(&pepper.derived(b"one-time links")),
            addresses: Pepper::new(&pepper.derived(b"addresses")),
        }
    }

    /// A fingerprint by which stored data recognises the secret without revealing it.
    #[must_use]
    pub fn fingerprint(&self) -> Fingerprint {
        self.fingerprint
    }

    /// The keyed hash that is stored for a refresh token, from the token's plain SHA-256. It is made
    /// from the plain hash so that hashes of versions that stored that one can be converted.
    #[must_use]
    pub fn refresh_digest(&self, sha256: &[u8]) -> [u8; 32] {
        let mut mac = self.refresh_tokens.mac();
        mac.update(sha256);
        mac.finalize().into_bytes().into()
    }

    /// The keyed hash that is stored for the token of a one-time link. The purpose is part of it, so that a
    /// token is good for its purpose only.
    #[must_use]
    pub fn link_digest(&self, purpose: &str, token: &str) -> [u8; 32] {
        let mut mac = self.one_time_links.mac();
        mac.update(purpose.as_bytes());
        mac.update(b"\0");
        mac.update(token.as_bytes());
        mac.finalize().into_bytes().into()
    }

    /// The keyed hash that is stored for a normalised e-mail address that an account gave up.
    #[must_use]
    pub fn address_digest(&self, email: &str) -> [u8; 32] {
        let mut mac = self.addresses.mac();
        mac.update(email.as_bytes());
        mac.finalize().into_bytes().into()
    }
}

impl fmt::Display for Fingerprint {
    /// The first eight hex digits: enough to compare by eye.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0[..4].iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Fingerprint({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_secret_has_its_own_fingerprint_and_hashes() {
        let secret = |text: &[u8]| ServerSecret::of(&Pepper::new(text));
        let (one, other) = (secret(b"one"), secret(b"other"));
        assert_eq!(one.fingerprint(), secret(b"one").fingerprint());
        assert_ne!(one.fingerprint(), other.fingerprint());
        assert_eq!(one.refresh_digest(&[7; 32]), secret(b"one").refresh_digest(&[7; 32]));
        assert_ne!(one.refresh_digest(&[7; 32]), other.refresh_digest(&[7; 32]));
        assert_ne!(one.refresh_digest(&[7; 32]), one.refresh_digest(&[8; 32]));
        assert_eq!(one.fingerprint().to_string().len(), 8);
    }
}

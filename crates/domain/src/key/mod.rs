//! API keys: `sk-kx-<public id>_<secret><checksum>`.
//!
//! The public id (12 base62 characters) finds the record, the secret (43 base62 characters, 256
//! bits) proves the holder, the checksum (6 base62 characters of a CRC-32 over all before it)
//! refuses a mistyped key before any look-up. Only a keyed hash of the whole key is ever stored.

use super::id::KeyId;
use hmac::{Hmac, KeyInit, Mac};
use jiff::Timestamp;
use sha2::Sha256;
use std::fmt;
use std::sync::Arc;
use subtle::ConstantTimeEq;

const ID_LEN: usize = 12;
const SECRET_LEN: usize = 43;
const CHECKSUM_LEN: usize = 6;
const BASE62: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

/// A key as its holder presents it. Prints only its public id.
#[derive(Clone)]
pub struct PlainKey {
    text: String,
}

/// The keyed hash of a key: what is stored and compared.
#[derive(Clone, Copy)]
pub struct KeyDigest(pub [u8; 32]);

/// The server's secret that keys the hashes, so that reading the store does not let one make keys.
#[derive(Clone)]
pub struct Pepper(Arc<Hmac<Sha256>>);

/// A key as the operator sees it.
#[derive(Debug, Clone, PartialEq)]
pub struct Key {
    pub id: KeyId,
    pub name: String,
    /// The last four characters, to recognise it by.
    pub last_four: String,
    pub created_at: Timestamp,
    pub expires_at: Option<Timestamp>,
    pub revoked_at: Option<Timestamp>,
    pub limits: KeyLimits,
}

/// A key's own limits, each at most the plan's. `None` leaves the plan's in force.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct KeyLimits {
    pub tokens_per_day: Option<u64>,
    pub requests_per_day: Option<u64>,
    pub models: Option<Arc<[Arc<str>]>>,
}

/// True if a key with this expiry no longer works at `now`.
#[must_use]
pub fn has_expired(expires_at: Option<Timestamp>, now: Timestamp) -> bool {
    expires_at.is_some_and(|end| end <= now)
}

/// The reason a presented key cannot have been issued by this gateway.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("malformed API key")]
pub struct MalformedKey;

/// The system's source of randomness failed.
#[derive(Debug, thiserror::Error)]
#[error("failed to get random bytes from the operating system: {0}")]
pub struct NoRandomness(getrandom::Error);

impl PlainKey {
    /// The prefix of every key, and of no other credential.
    pub const PREFIX: &str = "sk-kx-";

    /// A new key from the system's randomness.
    ///
    /// # Errors
    /// When the system gives no randomness.
    pub fn generate() -> Result<Self, NoRandomness> {
        let mut body =
            String::with_capacity(Self::PREFIX.len() + ID_LEN + 1 + SECRET_LEN + CHECKSUM_LEN);
        body.push_str(Self::PREFIX);
        push_random_base62(&mut body, ID_LEN)?;
        body.push('_');
        push_random_base62(&mut body, SECRET_LEN)?;
        let checksum = checksum(body.as_bytes());
        body.extend(checksum.map(char::from));
        Ok(Self { text: body })
    }

    /// Reads a presented key; shape and checksum must be right.
    ///
    /// # Errors
    /// [`MalformedKey`] for anything that [`PlainKey::generate`] cannot have made.
    pub fn parse(text: &str) -> Result<Self, MalformedKey> {
        let body = text.strip_prefix(Self::PREFIX).ok_or(MalformedKey)?.as_bytes();
        if body.len() != ID_LEN + 1 + SECRET_LEN + CHECKSUM_LEN || body[ID_LEN] != b'_' {
            return Err(MalformedKey);
        }
        let is_base62 = |(at, byte): (usize, &u8)| at == ID_LEN || byte.is_ascii_alphanumeric();
        if !body.iter().enumerate().all(is_base62) {
            return Err(MalformedKey);
        }
        let (signed, sum) = text.split_at(text.len() - CHECKSUM_LEN);
        if checksum(signed.as_bytes()) != sum.as_bytes() {
            return Err(MalformedKey);
        }
        Ok(Self { text: text.to_owned() })
    }

    /// The part to look the record up by.
    #[must_use]
    pub fn id(&self) -> KeyId {
        KeyId::from(&self.text[Self::PREFIX.len()..Self::PREFIX.len() + ID_LEN])
    }

    /// The last four characters, shown so that a user can recognise the key.
    #[must_use]
    pub fn last_four(&self) -> &str {
        &self.text[self.text.len() - 4..]
    }

    /// The keyed hash to store or compare.
    #[must_use]
    pub fn digest(&self, pepper: &Pepper) -> KeyDigest {
        let mut mac = pepper.mac();
        mac.update(self.text.as_bytes());
        KeyDigest(mac.finalize().into_bytes().into())
    }

    /// The key itself, to show its holder once.
    #[must_use]
    pub fn reveal(&self) -> &str {
        &self.text
    }
}

impl fmt::Debug for PlainKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PlainKey({}…)", self.id())
    }
}

impl PartialEq for KeyDigest {
    /// Takes the same time wherever the first difference is.
    fn eq(&self, other: &Self) -> bool {
        self.0.ct_eq(&other.0).into()
    }
}

impl Eq for KeyDigest {}

impl fmt::Debug for KeyDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("KeyDigest(…)")
    }
}

impl Pepper {
    /// Takes the server's secret (`SECRET_KEY`).
    #[must_use]
    pub fn new(secret: &[u8]) -> Self {
        let mac = Hmac::new_from_slice(secret).expect("HMAC takes a key of any length");
        Self(Arc::new(mac))
    }

    /// A secret for another purpose, from which this one cannot be derived.
    #[must_use]
    pub fn derived(&self, purpose: &[u8]) -> [u8; 32] {
        let mut mac = self.mac();
        mac.update(b"knockx, derived: ");
        mac.update(purpose);
        mac.finalize().into_bytes().into()
    }

    pub(super) fn mac(&self) -> Hmac<Sha256> {
        Hmac::clone(&self.0)
    }
}

impl fmt::Debug for Pepper {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Pepper(…)")
    }
}

/// Bytes from the system's randomness.
pub(super) fn random_bytes<const N: usize>() -> Result<[u8; N], NoRandomness> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).map_err(NoRandomness)?;
    Ok(bytes)
}

/// Appends `len` characters, each uniform: bytes of 248 and above would favour the first ones.
pub(super) fn push_random_base62(out: &mut String, len: usize) -> Result<(), NoRandomness> {
    let mut wanted = len;
    while wanted > 0 {
        let mut bytes = [0_u8; 64];
        getrandom::fill(&mut bytes).map_err(NoRandomness)?;
        for byte in bytes.into_iter().filter(|b| *b < 248).take(wanted) {
            out.push(char::from(BASE62[usize::from(byte % 62)]));
            wanted -= 1;
        }
    }
    Ok(())
}

fn checksum(text: &[u8]) -> [u8; CHECKSUM_LEN] {
    let mut rest = crc32fast::hash(text);
    let mut digits = [b'0'; CHECKSUM_LEN];
    for digit in digits.iter_mut().rev() {
        *digit = BASE62[(rest % 62) as usize];
        rest /= 62;
    }
    digits
}

#[cfg(test)]
mod tests;

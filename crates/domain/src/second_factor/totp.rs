//! Time-based one-time passwords (RFC 6238): HMAC-SHA-1, six digits, steps of thirty seconds. These are the
//! parameters that every authenticator app supports.

use crate::key::{NoRandomness, random_bytes};
use data_encoding::BASE32_NOPAD;
use hmac::{Hmac, KeyInit, Mac};
use jiff::Timestamp;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use sha1::Sha1;
use std::fmt;
use std::ops::RangeInclusive;
use subtle::ConstantTimeEq;

/// Digits of a code.
pub const DIGITS: usize = 6;
/// Bytes of a secret: RFC 4226 recommends as many as the hash has.
pub const SECRET_BYTES: usize = 20;
const STEP_SECONDS: i64 = 30;
/// Steps that the clock of the app may be ahead or behind.
const DRIFT: RangeInclusive<i64> = -1..=1;
/// The name of the service that an app shows.
const ISSUER: &str = "KnockXPrime";
/// What RFC 3986 lets stand in a path and a query as it is.
const ESCAPED: &AsciiSet =
    &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~').remove(b'@');

/// The secret that the server and an authenticator app share.
#[derive(Clone, PartialEq, Eq)]
pub struct TotpSecret([u8; SECRET_BYTES]);

impl TotpSecret {
    /// A new secret from the system's randomness.
    ///
    /// # Errors
    /// When the system gives no randomness.
    pub fn generate() -> Result<Self, NoRandomness> {
        random_bytes().map(Self)
    }

    pub(crate) fn from_bytes(bytes: [u8; SECRET_BYTES]) -> Self {
        Self(bytes)
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.0
    }

    /// The secret in base32, for apps into which it is typed.
    #[must_use]
    pub fn base32(&self) -> String {
        BASE32_NOPAD.encode(&self.0)
    }

    /// The `otpauth://` address that an app reads from a QR code.
    #[must_use]
    pub fn uri(&self, account: &str) -> String {
        let account = utf8_percent_encode(account, ESCAPED);
        format!(
            "otpauth://totp/{ISSUER}:{account}?secret={}&issuer={ISSUER}&algorithm=SHA1&digits={DIGITS}&period={STEP_SECONDS}",
            self.base32(),
        )
    }

    /// Finds the valid step at `now` that has this code. Takes the same time for every code.
    #[must_use]
    pub fn matching_step(&self, code: &str, now: Timestamp) -> Option<i64> {
        let now = step(now);
        let mut matching = None;
        for step in DRIFT.map(|drift| now.saturating_add(drift)) {
            let is_same: bool = self.code(step).as_bytes().ct_eq(code.as_bytes()).into();
            matching = if is_same { Some(step) } else { matching };
        }
        matching
    }

    /// The code that an app shows at `now`.
    #[must_use]
    pub fn code_at(&self, now: Timestamp) -> String {
        self.code(step(now))
    }

    /// The code of a step (RFC 4226, section 5.3).
    fn code(&self, step: i64) -> String {
        hotp(&self.0, step, DIGITS)
    }
}

impl fmt::Debug for TotpSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TotpSecret(…)")
    }
}

/// The number of whole steps since 1970.
fn step(at: Timestamp) -> i64 {
    at.as_second().div_euclid(STEP_SECONDS)
}

fn hotp(secret: &[u8], counter: i64, digits: usize) -> String {
    let mut mac = Hmac::<Sha1>::new_from_slice(secret).expect("HMAC takes a key of any length");
    mac.update(&counter.to_be_bytes());
    let hash: [u8; 20] = mac.finalize().into_bytes().into();
    let offset = usize::from(hash[19] & 0xf);
    let [a, b, c, d] = [hash[offset], hash[offset + 1], hash[offset + 2], hash[offset + 3]];
    let number = u32::from_be_bytes([a & 0x7f, b, c, d]);
    let shown = u64::from(number) % 10_u64.pow(u32::try_from(digits).unwrap_or(9));
    format!("{shown:0digits$}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const RFC_SECRET: &[u8; 20] = b"12345678901234567890";

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    #[test]
    fn codes_are_those_of_rfc_6238() {
        // Appendix B, the rows of SHA-1, which have eight digits.
        for (second, code) in [
            (59, "94287082"),
            (1_111_111_109, "07081804"),
            (1_111_111_111, "14050471"),
            (1_234_567_890, "89005924"),
            (2_000_000_000, "69279037"),
            (20_000_000_000, "65353130"),
        ] {
            assert_eq!(hotp(RFC_SECRET, step(at(second)), 8), code, "{second}");
            assert_eq!(TotpSecret(*RFC_SECRET).code_at(at(second)), code[2..], "{second}");
        }
        // RFC 4226, appendix D.
        for (counter, code) in [(0, "755224"), (1, "287082"), (5, "254676"), (9, "520489")] {
            assert_eq!(TotpSecret(*RFC_SECRET).code(counter), code, "{counter}");
        }
    }

    #[test]
    fn an_app_reads_the_address() {
        let uri = TotpSecret(*RFC_SECRET).uri("ada+x&secret=A@b.c");
        assert_eq!(
            uri,
            "otpauth://totp/KnockXPrime:ada%2Bx%26secret%3DA@b.c?secret=GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ\
             &issuer=KnockXPrime&algorithm=SHA1&digits=6&period=30"
        );
    }

    #[test]
    fn a_secret_prints_nothing() {
        assert_eq!(format!("{:?}", TotpSecret::generate().unwrap()), "TotpSecret(…)");
    }

    proptest! {
        #[test]
        fn a_code_is_good_for_its_step_and_the_ones_beside_it(
            secret: [u8; SECRET_BYTES], second in 0_i64..10_000_000_000, away in -10_i64..=10,
        ) {
            let secret = TotpSecret(secret);
            let code = secret.code_at(at(second));
            prop_assert_eq!(code.len(), DIGITS);
            let now = at(second.saturating_add(away * STEP_SECONDS).max(0));
            let found = secret.matching_step(&code, now);
            if (-1..=1).contains(&(step(now) - step(at(second)))) {
                prop_assert!(found.is_some());
            }
            if let Some(found) = found {
                prop_assert_eq!(secret.code(found), code);
                prop_assert!((found - step(now)).abs() <= 1);
            }
        }

        #[test]
        fn no_other_text_is_a_code(secret: [u8; SECRET_BYTES], text in "\\PC{0,8}") {
            let secret = TotpSecret(secret);
            let found = secret.matching_step(&text, at(1_000_000_000));
            prop_assert!(found.is_none_or(|step| secret.code(step) == text));
        }
    }
}

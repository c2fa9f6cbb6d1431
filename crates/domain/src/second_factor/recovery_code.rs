//! Recovery codes: sixty random bits each, good for one log-in when the authenticator app is lost.

use crate::key::{NoRandomness, random_bytes};
use std::fmt;

/// Codes that a user gets.
pub const COUNT: usize = 10;
const CHARACTERS: usize = 12;
const GROUP: usize = 4;
/// Crockford's base32: without letters that look like digits.
const ALPHABET: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";

/// A code that stands in for the authenticator app once.
#[derive(Clone, PartialEq, Eq)]
pub struct RecoveryCode(String);

impl RecoveryCode {
    /// A new set of codes.
    ///
    /// # Errors
    /// When the system gives no randomness.
    pub fn generate_set() -> Result<[Self; COUNT], NoRandomness> {
        let random: [[u8; CHARACTERS]; COUNT] = {
            let mut all = [[0; CHARACTERS]; COUNT];
            for one in &mut all {
                *one = random_bytes()?;
            }
            all
        };
        let character = |byte: u8| char::from(ALPHABET[usize::from(byte % 32)]);
        Ok(random.map(|bytes| Self(bytes.map(character).iter().collect())))
    }

    /// Reads a code without separators; letters that look like digits are taken for them.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let read = |character: char| match character.to_ascii_lowercase() {
            'o' => Some('0'),
            'i' | 'l' => Some('1'),
            other => ALPHABET.iter().map(|byte| char::from(*byte)).find(|known| *known == other),
        };
        let code: String = text.chars().map(read).collect::<Option<_>>()?;
        (code.len() == CHARACTERS).then_some(Self(code))
    }

    /// The code to show its user, once: three groups of four.
    #[must_use]
    pub fn reveal(&self) -> String {
        let groups: Vec<&str> =
            (0..CHARACTERS / GROUP).map(|at| &self.0[at * GROUP..(at + 1) * GROUP]).collect();
        groups.join("-")
    }

    pub(super) fn plain(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for RecoveryCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RecoveryCode(…)")
    }
}

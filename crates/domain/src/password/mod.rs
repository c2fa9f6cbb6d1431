//! Passwords: argon2id at OWASP's cost, as PHC strings. Hashes that the earlier service made
//! (bcrypt), or we at another cost, are read too, and should be replaced once the password is known.

use argon2::password_hash::phc::PasswordHash;
use argon2::password_hash::{PasswordHasher, PasswordVerifier};
use argon2::{ARGON2ID_IDENT, Algorithm, Argon2, Params, Version};

/// Minimum length of a new password, in characters.
pub const MIN_CHARACTERS: usize = 8;
/// Maximum length of a new password, in characters.
pub const MAX_CHARACTERS: usize = 128;

/// Bytes of the longest password that is hashed: the time it takes grows with them.
pub const LONGEST: usize = 1024;
/// Memory in KiB, passes and lanes: OWASP's password storage cheat sheet.
const COST: (u32, u32, u32) = (19 * 1024, 2, 1);
/// A hash at that cost that stands in for accounts that are not there. Its bytes were drawn, not made from a
/// password, so none matches; made at start it would cost each gateway its memory.
pub const NOBODYS: &str = "$argon2id$v=19$m=19456,t=2,p=1$t5JtXxNK+qj+QVc8rG5Yeg$9rnwo0iRZchESonymrDdVZjtN+wP4wFbAjQceo52LvQ";
/// bcrypt reads no further; passlib, which the earlier service used, cut passwords there.
const LONGEST_FOR_BCRYPT: usize = 72;
/// Each step doubles the time: 14 takes about a second of one core.
const DEAREST_BCRYPT: u32 = 14;

/// The password could not be hashed.
#[derive(Debug, thiserror::Error)]
#[error("failed to hash the password: {0}")]
pub struct HashError(String);

/// The result of checking a password.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verified {
    No,
    Yes,
    /// It is, and should be rehashed: the stored hash has other parameters than [`hash`] uses today.
    YesRehash,
}

/// The PHC string to store. Takes some tens of milliseconds of one core.
///
/// # Errors
/// When the password is longer than [`LONGEST`], or the system gives no randomness.
pub fn hash(password: &str) -> Result<String, HashError> {
    if password.len() > LONGEST {
        return Err(HashError(format!("it is longer than {LONGEST} bytes")));
    }
    let (memory, passes, lanes) = COST;
    let params = Params::new(memory, passes, lanes, None).map_err(|e| HashError(e.to_string()))?;
    let argon = Argon2::new(Algorithm::Argon2id, Version::V0x13, params);
    let hash = argon.hash_password(password.as_bytes()).map_err(|e| HashError(e.to_string()))?;
    Ok(hash.to_string())
}

/// Compares a password with what is stored, which may be a PHC string (argon2id, of any cost) or a
/// bcrypt hash; nothing matches any other text. Takes as long as making the hash did.
#[must_use]
pub fn verify(password: &str, stored: &str) -> Verified {
    if password.len() > LONGEST {
        return Verified::No;
    }
    if stored.starts_with("$2") {
        return verify_bcrypt(password, stored);
    }
    match PasswordHash::new(stored) {
        Ok(phc) if phc.algorithm == ARGON2ID_IDENT => verify_argon(password, &phc),
        _ => Verified::No,
    }
}

fn verify_argon(password: &str, stored: &PasswordHash) -> Verified {
    // Algorithm, version and cost are the stored ones.
    if Argon2::default().verify_password(password.as_bytes(), stored).is_err() {
        return Verified::No;
    }
    let cost = |params: Params| (params.m_cost(), params.t_cost(), params.p_cost());
    let is_of_today = Params::try_from(stored).is_ok_and(|params| cost(params) == COST)
        && stored.version == Some(Version::V0x13.into());
    if is_of_today { Verified::Yes } else { Verified::YesRehash }
}

fn verify_bcrypt(password: &str, stored: &str) -> Verified {
    let is_affordable =
        stored.parse::<bcrypt::HashParts>().is_ok_and(|parts| parts.get_cost() <= DEAREST_BCRYPT);
    let password = &password.as_bytes()[..password.len().min(LONGEST_FOR_BCRYPT)];
    let is_right = is_affordable && bcrypt::verify(password, stored).unwrap_or(false);
    if is_right { Verified::YesRehash } else { Verified::No }
}

#[cfg(test)]
mod tests;

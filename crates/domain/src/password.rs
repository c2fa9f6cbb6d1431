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

/// Whether a password is the right one.
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
mod tests {
    use super::*;

    /// `hash` at a cost that takes no time.
    fn cheap(password: &str, algorithm: Algorithm, version: Version) -> String {
        let params = Params::new(16, 1, 1, None).unwrap();
        let argon = Argon2::new(algorithm, version, params);
        argon.hash_password(password.as_bytes()).unwrap().to_string()
    }

    #[test]
    fn nobodys_hash_takes_the_time_of_one_of_today() {
        let phc = PasswordHash::new(NOBODYS).unwrap();
        let today = hash("any").unwrap();
        let today = PasswordHash::new(&today).unwrap();
        assert_eq!(
            (phc.algorithm, phc.version, &phc.params),
            (today.algorithm, today.version, &today.params)
        );
        let lengths = |phc: &PasswordHash| (phc.salt.unwrap().len(), phc.hash.unwrap().len());
        assert_eq!(lengths(&phc), lengths(&today));
        assert_eq!(verify("", NOBODYS), Verified::No);
    }

    #[test]
    fn what_was_hashed_today_needs_no_new_hash() {
        let stored = hash("correct horse").unwrap();
        assert!(stored.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"), "{stored}");
        assert_eq!(verify("correct horse", &stored), Verified::Yes);
        assert_eq!(verify("correct horsE", &stored), Verified::No);
        assert_eq!(verify("", &stored), Verified::No);
    }

    #[test]
    fn argon2id_of_another_cost_or_version_is_hashed_anew() {
        // Of the argon2 reference implementation's own tests.
        let reference = "$argon2id$v=19$m=256,t=2,p=1$c29tZXNhbHQ\
            $nf65EOgLrQMR/uIPnA4rEsF5h7TKyQwu9U1bMCHGi/4";
        assert_eq!(verify("password", reference), Verified::YesRehash);
        assert_eq!(verify("Password", reference), Verified::No);
        let old = cheap("password", Algorithm::Argon2id, Version::V0x10);
        assert_eq!(verify("password", &old), Verified::YesRehash);
    }

    #[test]
    fn bcrypt_is_read_and_hashed_anew() {
        let long = "ß".repeat(40);
        let known = [
            // Of jBCrypt's and crypt_blowfish's tests.
            ("", "$2a$06$DCq7YPn5Rq63x1Lad4cll.TV4S6ytwfsfvkgY8jIucDrjc8deX1s."),
            ("abc", "$2a$06$If6bvum7DFjUnE9p2uDeDu0YHzrHM6tf.iqN8.yx.jNN1ILEf7h0i"),
            ("U*U", "$2a$05$CCCCCCCCCCCCCCCCCCCCC.E5YPO9kmyuRGyh0XouQYb4YMJKvyOeW"),
            ("U*U*", "$2x$05$CCCCCCCCCCCCCCCCCCCCC.VGOzA784oUp/Z0DY336zx7pLYAy0lwK"),
            ("U*U*U", "$2y$05$XXXXXXXXXXXXXXXXXXXXXOAcXxm9kjPGEMsLznoKqmqw7tc8WCx4a"),
            // Made by libxcrypt.
            ("Grüße, 世界", "$2b$05$abcdefghijklmnopqrstuuw621nqt0M3heyb5.FuH7McQmBa.kSAO"),
            (&long, "$2y$04$abcdefghijklmnopqrstuudQXAIBeTsF8nz3HQKlkz6wP2.U98nQ2"),
        ];
        for (password, stored) in known {
            assert_eq!(verify(password, stored), Verified::YesRehash, "{password:?} {stored}");
            assert_eq!(verify(&format!("x{password}"), stored), Verified::No, "{password:?}");
        }
    }

    #[test]
    fn bcrypt_reads_72_bytes() {
        let stored = "$2y$04$abcdefghijklmnopqrstuudQXAIBeTsF8nz3HQKlkz6wP2.U98nQ2";
        let to = |letters, more| "ß".repeat(letters) + more;
        for (password, verified) in [
            (to(36, ""), Verified::YesRehash),
            (to(36, "a"), Verified::YesRehash),
            (to(512, ""), Verified::YesRehash),
            (to(35, "a"), Verified::No),
            // Cut within a letter.
            (format!("a{}", to(36, "")), Verified::No),
        ] {
            assert_eq!(verify(&password, stored), verified, "{password}");
        }
    }

    #[test]
    fn other_texts_match_nothing() {
        let salt_and_hash = "CCCCCCCCCCCCCCCCCCCCC.E5YPO9kmyuRGyh0XouQYb4YMJKvyOeW";
        let bcrypt = |start| format!("{start}{salt_and_hash}");
        for stored in [
            String::new(),
            "U*U".to_owned(),
            "$2".to_owned(),
            "$2b$05$".to_owned(),
            bcrypt("$2b$15$"),
            bcrypt("$2b$31$"),
            bcrypt("$2b$99$"),
            bcrypt("$2c$05$"),
            bcrypt("$2$05$"),
            bcrypt("$1$"),
            bcrypt("$2b$05$") + "x",
            "$argon2id$v=19$m=256,t=2,p=1$c29tZXNhbHQ".to_owned(),
            "$argon2id$v=19$m=256,t=2,p=1$c29tZXNhbHQ$".to_owned(),
            cheap("U*U", Algorithm::Argon2i, Version::V0x13),
            cheap("U*U", Algorithm::Argon2d, Version::V0x13),
        ] {
            assert_eq!(verify("U*U", &stored), Verified::No, "{stored}");
        }
    }

    #[test]
    fn the_longest_password_is_hashed_and_no_longer_one() {
        let longest = "a".repeat(LONGEST);
        let stored = hash(&longest).unwrap();
        assert_eq!(verify(&longest, &stored), Verified::Yes);
        let longer = longest + "a";
        assert!(hash(&longer).unwrap_err().to_string().contains("longer than 1024 bytes"));
        let stored = cheap(&longer, Algorithm::Argon2id, Version::V0x13);
        assert_eq!(verify(&longer, &stored), Verified::No);
        let bcrypt = bcrypt::hash(&longer[..72], 4).unwrap();
        assert_eq!(verify(&longer, &bcrypt), Verified::No);
    }
}

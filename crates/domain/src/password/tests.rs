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

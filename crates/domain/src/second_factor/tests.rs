use super::*;
use proptest::prelude::*;
use std::collections::BTreeSet;

fn keys(secret: &[u8]) -> SecondFactorKeys {
    SecondFactorKeys::of(&Pepper::new(secret))
}

#[test]
fn a_secret_is_read_with_its_key_for_its_user_only() {
    let (secret, user) = (TotpSecret::generate().unwrap(), UserId::new());
    let keys = keys(b"one");
    let sealed = keys.seal(&secret, user).unwrap();
    assert_eq!(keys.open(&sealed, user), Ok(secret.clone()));
    assert_eq!(keys.open(&sealed, UserId::new()), Err(UnreadableSecret));
    assert_eq!(self::keys(b"other").open(&sealed, user), Err(UnreadableSecret));
    assert_ne!(keys.seal(&secret, user).unwrap(), sealed, "each time with another nonce");
    for at in 0..SEALED_BYTES {
        let mut changed = sealed;
        changed.0[at] ^= 1;
        assert_eq!(keys.open(&changed, user), Err(UnreadableSecret), "byte {at}");
    }
    let stored = sealed.0.windows(SECRET_BYTES).any(|bytes| bytes == secret.bytes());
    assert!(!stored, "the secret is not in it");
}

#[test]
fn recovery_codes_are_many_and_keyed() {
    let codes: Vec<RecoveryCode> =
        (0..50).flat_map(|_| RecoveryCode::generate_set().unwrap()).collect();
    let shown: BTreeSet<String> = codes.iter().map(RecoveryCode::reveal).collect();
    assert_eq!(shown.len(), 500);
    assert!(shown.iter().all(|code| code.len() == 14 && code.matches('-').count() == 2));
    let (one, user) = (&codes[0], UserId::new());
    let digest = keys(b"one").digest(one, user);
    assert_eq!(digest, keys(b"one").digest(one, user));
    assert_ne!(digest, keys(b"other").digest(one, user));
    assert_ne!(digest, keys(b"one").digest(one, UserId::new()));
    assert_ne!(digest, keys(b"one").digest(&codes[1], user));
    assert_eq!(format!("{one:?}"), "RecoveryCode(…)");
}

#[test]
fn codes_are_read_as_people_type_them() {
    let totp = |digits: &str| Ok(PresentedCode::Totp(digits.to_owned()));
    for text in ["123456", " 123 456\n", "123-456"] {
        assert_eq!(PresentedCode::parse(text), totp("123456"), "{text:?}");
    }
    let code = PresentedCode::parse("01ab-cdef-ghjk").unwrap();
    for text in ["01abcdefghjk", "O1AB CDEF GHJK", "ol-ab cd ef gh jk"] {
        assert_eq!(PresentedCode::parse(text), Ok(code.clone()), "{text:?}");
    }
    for text in ["", "12345", "1234567", "١٢٣٤٥٦", "01ab-cdef-ghj", "01ab-cdef-ghju", "\0"] {
        assert_eq!(PresentedCode::parse(text), Err(MalformedCode), "{text:?}");
    }
}

proptest! {
    #[test]
    fn a_recovery_code_is_read_back(upper: bool) {
        for code in RecoveryCode::generate_set().unwrap() {
            let shown = code.reveal();
            let typed = if upper { shown.to_uppercase() } else { shown };
            prop_assert_eq!(PresentedCode::parse(&typed), Ok(PresentedCode::Recovery(code)));
        }
    }

    #[test]
    fn any_text_is_read_or_refused(text in "\\PC{0,64}") {
        if let Ok(PresentedCode::Recovery(code)) = PresentedCode::parse(&text) {
            prop_assert_eq!(PresentedCode::parse(&code.reveal()), Ok(PresentedCode::Recovery(code)));
        }
    }
}

//! Keys: made and read back, mistyped, hostile.

use super::{KeyDigest, MalformedKey, Pepper, PlainKey};
use proptest::prelude::*;

fn key() -> String {
    PlainKey::generate().unwrap().reveal().to_owned()
}

#[test]
fn a_made_key_reads_back() {
    for _ in 0..1_000 {
        let made = PlainKey::generate().unwrap();
        let read = PlainKey::parse(made.reveal()).unwrap();
        assert_eq!(read.reveal(), made.reveal());
        assert_eq!(read.id(), made.id());
        assert_eq!(read.id().as_str(), &made.reveal()[6..18]);
        assert!(made.reveal().ends_with(read.last_four()));
    }
}

#[test]
fn every_change_of_one_character_is_refused() {
    let key = key();
    for at in 0..key.len() {
        for byte in 0..=127_u8 {
            let mut bytes = key.clone().into_bytes();
            if bytes[at] == byte {
                continue;
            }
            bytes[at] = byte;
            let typed = String::from_utf8(bytes).unwrap();
            assert_eq!(PlainKey::parse(&typed).err(), Some(MalformedKey), "{typed}");
        }
    }
}

#[test]
fn every_lost_doubled_or_swapped_character_is_refused() {
    let key = key();
    let bytes = key.as_bytes();
    for at in 0..bytes.len() {
        let lost = [&bytes[..at], &bytes[at + 1..]].concat();
        let doubled = [&bytes[..=at], &bytes[at..]].concat();
        let mut typed = vec![lost, doubled];
        if at + 1 < bytes.len() && bytes[at] != bytes[at + 1] {
            let mut swapped = bytes.to_vec();
            swapped.swap(at, at + 1);
            typed.push(swapped);
        }
        for bytes in typed {
            let text = String::from_utf8(bytes).unwrap();
            assert_eq!(PlainKey::parse(&text).err(), Some(MalformedKey), "{text}");
        }
    }
}

#[test]
fn nothing_but_the_id_is_printed() {
    let key = PlainKey::generate().unwrap();
    let pepper = Pepper::new(b"pepper");
    assert_eq!(format!("{key:?}"), format!("PlainKey({}…)", key.id()));
    assert_eq!(format!("{:?}", key.digest(&pepper)), "KeyDigest(…)");
    assert_eq!(format!("{pepper:?}"), "Pepper(…)");
}

#[test]
fn a_digest_depends_on_key_and_pepper() {
    let (one, two) = (PlainKey::generate().unwrap(), PlainKey::generate().unwrap());
    let (salt, pepper) = (Pepper::new(b"salt"), Pepper::new(b"pepper"));
    assert_eq!(one.digest(&pepper), one.clone().digest(&pepper));
    assert_ne!(one.digest(&pepper), two.digest(&pepper));
    assert_ne!(one.digest(&pepper), one.digest(&salt));
    assert_ne!(one.digest(&pepper), KeyDigest([0; 32]));
}

proptest! {
    #[test]
    fn hostile_text_is_refused_and_never_panics(text in any::<String>(), at in any::<prop::sample::Index>()) {
        prop_assert!(PlainKey::parse(&text).is_err());
        prop_assert!(PlainKey::parse(&["sk-kx-", &text].concat()).is_err());
        let mut inside = key();
        inside.insert_str(at.index(inside.len() + 1), &text);
        prop_assert_eq!(PlainKey::parse(&inside).is_ok(), text.is_empty());
    }

    #[test]
    fn text_of_a_keys_length_is_refused(text in "\\PC{68}", body in "[0-9A-Za-z]{12}_[0-9A-Za-z]{49}") {
        prop_assert!(PlainKey::parse(&text).is_err());
        // One in 2^32 such texts has the right checksum.
        prop_assert!(PlainKey::parse(&["sk-kx-", &body].concat()).is_err());
    }
}

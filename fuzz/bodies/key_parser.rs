//! The reader of presented keys: never panics, and takes only what it would write.

use domain::key::PlainKey;

pub fn run(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else { return };
    let Ok(key) = PlainKey::parse(text) else { return };
    assert_eq!(key.reveal(), text);
    assert!(text.ends_with(key.last_four()));
    assert!(text.contains(key.id().as_str()));
    let secret = text.split_once('_').map_or("", |(_, secret)| secret);
    assert!(!secret.is_empty() && !format!("{key:?}").contains(secret));
}

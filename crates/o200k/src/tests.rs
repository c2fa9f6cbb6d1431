use super::*;
use proptest::prelude::*;

fn ranks(text: &str) -> Vec<u32> {
    encode(text).into_iter().map(|(rank, _)| rank).collect()
}

#[test]
fn known_encodings() {
    let check = |text: &str, expected: &[u32]| assert_eq!(ranks(text), expected, "{text:?}");
    check("", &[]);
    check("Hello world", &[13225, 2375]);
    check("tiktoken is great!", &[83, 8251, 2488, 382, 2212, 0]);
    check("antidisestablishmentarianism", &[493, 129_901, 376, 160_388, 21203, 2367]);
    check("2 + 2 = 4", &[17, 659, 220, 17, 314, 220, 19]);
}

#[test]
fn splits_as_the_pattern_says() {
    let check = |text: &str, expected: &[&str]| {
        assert_eq!(split::words(text).collect::<Vec<_>>(), expected, "{text:?}");
    };
    check("don't STOP", &["don't", " STOP"]);
    check("a  b", &["a", " ", " b"]);
    check("a   \n\n b ", &["a", "   \n\n", " b", " "]);
    check("12345", &["123", "45"]);
    check("foo();\n//x", &["foo", "();\n//", "x"]);
    check("Ärger日本語", &["Ärger日本語"]);
}

#[test]
fn every_token_is_its_own_encoding() {
    // Tokens that are whole words of valid UTF-8 encode to themselves.
    for rank in (0..199_998).step_by(97) {
        let Ok(text) = std::str::from_utf8(vocabulary::token(rank)) else { continue };
        if split::words(text).count() == 1 {
            assert_eq!(ranks(text), [rank], "{text:?}");
        }
    }
}

#[test]
fn long_words_take_time_in_proportion() {
    let words = ["a".repeat(1 << 20), "\u{301}".repeat(1 << 18), " ".repeat(1 << 20)];
    for word in &words {
        assert!(count(word) >= word.len() / 128);
    }
}

proptest! {
    #[test]
    fn tokens_together_are_the_text(text in "\\PC{0,200}|[ \\n\\ta-zA-Z0-9'./]{0,200}") {
        let bytes: Vec<u8> = encode(&text).into_iter().flat_map(|(_, token)| token.to_vec()).collect();
        prop_assert_eq!(bytes, text.as_bytes());
        prop_assert_eq!(encode(&text).len(), count(&text));
        prop_assert!(encode(&text).iter().all(|(rank, token)| vocabulary::token(*rank) == *token));
    }

    #[test]
    fn scanning_and_the_heap_agree(word in "[a-zA-Zäöü]{2,96}") {
        let word = &word.as_bytes()[..word.len().min(96)];
        let mut linked = Vec::new();
        merge::link(word, &mut |token| linked.push(token));
        let mut scanned = Vec::new();
        merge::scan(word, &mut |token| scanned.push(token));
        prop_assert_eq!(linked, scanned);
    }
}

#[test]
fn a_bounded_count_is_the_count_or_none() {
    let long = "\n".repeat(40_000) + &"word ".repeat(3_000) + &"a".repeat(20_000);
    for text in ["", "a", "Hello world", " \n\n x", &long] {
        let all = count(text);
        assert_eq!(count_within(text, all), Some(all));
        assert_eq!(count_within(text, usize::MAX), Some(all));
        if let Some(fewer) = all.checked_sub(1) {
            assert_eq!(count_within(text, fewer), None);
        }
    }
}

//! Taking out of an upstream's message what is the operator's business: keys, ids and addresses.
//!
//! Works word by word and errs towards taking out too much. Invariant: what comes out has no more
//! than [`MAX_CHARS`] characters, none of them a control character.

/// Characters a message keeps.
pub const MAX_CHARS: usize = 1000;

/// Beginnings of words that name an account, a key or a project.
const PREFIXES: [&str; 8] = ["xai-", "sk-", "pk-", "org-", "proj-", "proj_", "team-", "team_"];

/// The message with everything secret replaced by a word in brackets.
pub fn redact(message: &str) -> String {
    let clean: String =
        message.chars().map(|c| if c.is_control() { ' ' } else { c }).take(MAX_CHARS).collect();
    let mut out = String::with_capacity(clean.len());
    for word in clean.split_inclusive(is_between_words) {
        let bare = word.trim_end_matches(is_between_words);
        out.push_str(replacement(bare).unwrap_or(bare));
        out.push_str(&word[bare.len()..]);
    }
    out
}

fn is_between_words(c: char) -> bool {
    c.is_whitespace() || "\"'`()[]{}<>,;=|".contains(c)
}

fn replacement(word: &str) -> Option<&'static str> {
    let word = word.to_ascii_lowercase();
    let core = word.trim_matches(|c: char| !c.is_ascii_alphanumeric() && c != '*');
    if core.contains("://") || core.starts_with("www.") {
        return Some("[link]");
    }
    if core.contains("***") || core.contains("...") || core.contains('…') {
        return Some("[key]");
    }
    if PREFIXES.iter().any(|prefix| has_secret(core, prefix)) {
        return Some("[key]");
    }
    (has_uuid(core) || is_long_hex(core)).then_some("[id]")
}

/// Whether `prefix` is in the word with something long enough behind it to be a secret's part.
fn has_secret(word: &str, prefix: &str) -> bool {
    let starts_there = |at: usize| !word[..at].ends_with(|c: char| c.is_ascii_alphanumeric());
    word.match_indices(prefix).any(|(at, _)| {
        let tail = &word[at + prefix.len()..];
        starts_there(at) && tail.len() >= 4 && !is_plain_word(tail)
    }) || (word.starts_with(prefix) && word.len() > prefix.len() + 16)
}

/// Only letters and few of them: "team-wide" is a word, not an id.
fn is_plain_word(tail: &str) -> bool {
    tail.len() <= 12 && tail.bytes().all(|b| b.is_ascii_lowercase() || b == b'-')
}

fn has_uuid(word: &str) -> bool {
    word.as_bytes().windows(36).any(|window| {
        window.iter().enumerate().all(|(at, byte)| match at {
            8 | 13 | 18 | 23 => *byte == b'-',
            _ => byte.is_ascii_hexdigit(),
        })
    })
}

fn is_long_hex(word: &str) -> bool {
    word.as_bytes()
        .chunk_by(|a, b| a.is_ascii_hexdigit() && b.is_ascii_hexdigit())
        .any(|run| run.len() >= 24 && run[0].is_ascii_hexdigit())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn takes_out_keys_ids_and_addresses() {
        for (message, expected) in [
            ("bad key xai-Zz81kQ", "bad key [key]"),
            ("bad key: xa***9f.", "bad key: [key]"),
            ("key sk-proj-AbC123def_45, sorry", "key [key], sorry"),
            ("key=\"sk-live...Xy9\"", "key=\"[key]\""),
            ("team 0b0e2f5c-1111-4222-8333-abcdefabcdef is out", "team [id] is out"),
            ("see https://console.x.ai/team/7 now", "see [link] now"),
            ("team/0b0e2f5c-1111-4222-8333-abcdefabcdef", "[id]"),
            ("org-Qw12Er34Ty56", "[key]"),
            ("trace 0123456789abcdef01234567", "trace [id]"),
            ("line\nbreak\u{0}", "line break "),
        ] {
            assert_eq!(redact(message), expected);
        }
    }

    #[test]
    fn leaves_plain_sentences_alone() {
        for message in [
            "Invalid value for 'temperature': 3 is above 2.",
            "The maximum prompt length is 131072 but the request contains 131099 tokens.",
            "this is a team-wide, org-wide rule for grok-4.3",
            "model grok-4-fast-non-reasoning does not take stop",
        ] {
            assert_eq!(redact(message), message);
        }
    }

    #[test]
    fn bounds_the_length() {
        assert_eq!(redact(&"é ".repeat(5000)).chars().count(), MAX_CHARS);
    }
}

//! Splits a text into the words that are merged one by one.

use regex_automata::meta::Regex;
use regex_automata::{Anchored, Input};
use std::sync::LazyLock;

/// The pattern that OpenAI publishes for o200k, but for its last alternative, `\s+(?!\S)|\s+`:
/// these regular expressions have no look-ahead. [`TRAILING_SPACE`] takes one character too
/// many, which [`Words`] gives back.
const WORDS: &str = concat!(
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?",
    r"|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?",
    r"|\p{N}{1,3}",
    r"| ?[^\s\p{L}\p{N}]+[\r\n/]*",
    r"|\s*[\r\n]+",
    r"|\s+$",
);
/// White space before a word: all but its last character is a word of its own.
const TRAILING_SPACE: &str = r"\s+\s";
/// A single character of white space.
const SPACE: &str = r"\s+";

static SPLITTER: LazyLock<Option<Regex>> =
    LazyLock::new(|| Regex::new_many(&[WORDS, TRAILING_SPACE, SPACE]).ok());

/// Builds the splitter now.
pub fn prepare() {
    LazyLock::force(&SPLITTER);
}

/// The words of `text`, which together are all of it.
pub fn words(text: &str) -> Words<'_> {
    Words { splitter: SPLITTER.as_ref(), rest: text }
}

/// Iterator over words.
pub struct Words<'a> {
    /// Always there: the patterns are constant, and tested.
    splitter: Option<&'static Regex>,
    rest: &'a str,
}

impl<'a> Iterator for Words<'a> {
    type Item = &'a str;

    fn next(&mut self) -> Option<&'a str> {
        let found = self.splitter?.find(Input::new(self.rest).anchored(Anchored::Yes))?;
        let mut end = found.end();
        if found.pattern().as_usize() == 1 {
            end -= self.rest[..end].chars().next_back().map_or(0, char::len_utf8);
        }
        let (word, rest) = self.rest.split_at(end);
        self.rest = rest;
        Some(word)
    }
}

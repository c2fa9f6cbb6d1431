//! OpenAI's `o200k_base` tokenizer: the part of the crate `bpe-openai` that this program uses.
//!
//! That crate builds the tables of three tokenizers, one small write at a time, which is a tenth
//! of our whole build. This one takes its place (see `[patch.crates-io]` in the main manifest)
//! with the same name and counts.

use bpe::byte_pair_encoding::BytePairEncoding;
use regex_automata::meta::Regex;
use regex_automata::{Anchored, Input};
use std::sync::LazyLock;

/// How o200k splits a text before pairing bytes. The regular expressions know no look-ahead:
/// `WHITESPACE_BEFORE` matches one character too many, and [`Splits`] hands it back.
const WORDS: &str = concat!(
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?",
    r"|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?",
    r"|\p{N}{1,3}",
    r"| ?[^\s\p{L}\p{N}]+[\r\n/]*",
    r"|\s*[\r\n]+",
    r"|\s+$",
);
const WHITESPACE_BEFORE: &str = r"\s+\s";
const WHITESPACE: &str = r"\s+";

static O200K_BASE: LazyLock<Tokenizer> = LazyLock::new(|| {
    let tables = include_bytes!(concat!(env!("OUT_DIR"), "/o200k_base.dict"));
    Tokenizer {
        bpe: rmp_serde::from_slice(tables).expect("written by the build script"),
        split: Regex::new_many(&[WORDS, WHITESPACE_BEFORE, WHITESPACE]).expect("constant patterns"),
    }
});

/// The tokenizer of GPT-4o and later; loaded (60 MB) when first asked for.
pub fn o200k_base() -> &'static Tokenizer {
    &O200K_BASE
}

/// Splits a text into words and each word into tokens.
pub struct Tokenizer {
    bpe: BytePairEncoding,
    split: Regex,
}

impl Tokenizer {
    /// How many tokens `text` has, in time proportional to its length whatever it holds.
    pub fn count(&self, text: &str) -> usize {
        let words = Splits { split: &self.split, text, at: 0 };
        words.map(|word| self.bpe.count(word.as_bytes())).sum()
    }

    /// The tokens of `text`, each with the bytes it stands for.
    pub fn encode(&self, text: &str) -> Vec<(u32, Vec<u8>)> {
        let words = Splits { split: &self.split, text, at: 0 };
        let tokens = words.flat_map(|word| self.bpe.encode_via_backtracking(word.as_bytes()));
        tokens.map(|token| (token, self.bpe.decode_tokens(&[token]))).collect()
    }
}

/// The words of a text.
struct Splits<'a> {
    split: &'a Regex,
    text: &'a str,
    at: usize,
}

impl<'a> Iterator for Splits<'a> {
    type Item = &'a str;

    fn next(&mut self) -> Option<&'a str> {
        let rest = &self.text[self.at..];
        let found = self.split.find(Input::new(rest).anchored(Anchored::Yes))?;
        let mut word = &rest[..found.end()];
        if found.pattern().as_usize() == 1 {
            let next = word.chars().next_back().map_or(0, char::len_utf8);
            word = &word[..word.len() - next];
        }
        self.at += word.len();
        Some(word)
    }
}

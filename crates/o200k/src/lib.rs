//! OpenAI's `o200k_base` tokenizer: counts and encodes text.
//!
//! The tables (about 4 MiB) are used where they lie in the binary, so that they cost no heap, no
//! time to load, and only the pages that are touched. A text is split into words by the
//! vocabulary's published pattern ([`split`]), and each word is merged byte pair by byte pair
//! ([`merge`]). Work is at most `n log n` in the length of the text, whatever it holds.
//!
//! A run of letters, spaces or marks of more than 8 KiB is merged in parts of that size, which
//! bounds memory and time, and may add a few tokens for each part. All other counts are exact.

mod merge;
mod split;
mod vocabulary;

/// The number of tokens in `text`.
#[must_use]
pub fn count(text: &str) -> usize {
    let mut tokens = 0;
    each_token(text, &mut |_| tokens += 1);
    tokens
}

/// The number of tokens in `text`, or `None` once it is known to be above `most`: work is bounded by
/// `most` as well as by the text.
#[must_use]
pub fn count_within(text: &str, most: usize) -> Option<usize> {
    let mut tokens = 0;
    for word in split::words(text) {
        for part in merge::parts(word.as_bytes()) {
            if tokens > most {
                return None;
            }
            merge::each_token(part, &mut |_| tokens += 1);
        }
    }
    (tokens <= most).then_some(tokens)
}

/// The tokens of `text`, in order: each rank with the bytes it stands for.
#[must_use]
pub fn encode(text: &str) -> Vec<(u32, &[u8])> {
    let mut tokens = Vec::new();
    each_token(text, &mut |token| tokens.push((vocabulary::rank(token).unwrap_or(0), token)));
    tokens
}

/// Builds the splitter, which the first count otherwise does (some milliseconds).
pub fn prepare() {
    split::prepare();
}

fn each_token<'a>(text: &'a str, token: &mut impl FnMut(&'a [u8])) {
    for word in split::words(text) {
        merge::each_token(word.as_bytes(), token);
    }
}

#[cfg(test)]
mod tests;

//! Keys masked in what is written, whoever wrote it.

use domain::key::PlainKey;
use std::borrow::Cow;
use std::cmp::Reverse;
use std::io::{self, Write};

/// Prefixes of secrets, and the number of further characters that make a word one.
const SECRETS: [(&str, usize); 8] = [
    (PlainKey::PREFIX, 4),
    ("rt-kx-", 4),
    ("lt-kx-", 4),
    ("sk-ant-", 8),
    ("sk-", 16),
    ("xai-", 24),
    ("eyJ", 24),
    ("Bearer ", 8),
];

/// A writer of lines in which secrets are masked. Each line has to come in one piece, as `tracing` writes them.
pub struct Masked<W>(pub W);

impl<W: Write> Write for Masked<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let text = String::from_utf8_lossy(bytes);
        self.0.write_all(masked(&text).as_bytes())?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

/// A text with `***` in place of what follows the beginning of a secret.
#[must_use]
pub fn masked(text: &str) -> Cow<'_, str> {
    let mut out = String::new();
    let mut rest = text;
    while let Some((begin, end)) = next_secret(rest) {
        out.push_str(&rest[..begin]);
        out.push_str("***");
        rest = &rest[end..];
    }
    if out.is_empty() {
        return Cow::Borrowed(text);
    }
    out.push_str(rest);
    Cow::Owned(out)
}

/// Range of the secret part of the first secret in `text`.
fn next_secret(text: &str) -> Option<(usize, usize)> {
    let found = SECRETS.iter().filter_map(|(start, least)| {
        let (at, begin, end) = secret(text, start, *least)?;
        Some((at, Reverse(begin), end))
    });
    found.min().map(|(_, Reverse(begin), end)| (begin, end))
}

/// Position of a secret that begins with `start`: its beginning, its secret part, its end.
fn secret(text: &str, start: &str, least: usize) -> Option<(usize, usize, usize)> {
    let is_part = |b: u8| b.is_ascii_alphanumeric() || b"-_.".contains(&b);
    text.match_indices(start).find_map(|(at, _)| {
        let begin = at + start.len();
        let is_word = at == 0 || !text.as_bytes()[at - 1].is_ascii_alphanumeric();
        let length = text[begin..].bytes().take_while(|b| is_part(*b)).count();
        (is_word && length >= least).then_some((at, begin, begin + length))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_masked_and_other_words_are_not() {
        let check = |text: &str, expected: &str| assert_eq!(masked(text), expected);
        check("GET /v1/sk-kx-abcd1234_x?y", "GET /v1/sk-kx-***?y");
        check("a sk-kx-1111_a, b sk-kx-2222_b.", "a sk-kx-***, b sk-kx-***");
        check("rt-kx-0011_secret", "rt-kx-***");
        check("http://h/x?token=lt-kx-0011_secret", "http://h/x?token=lt-kx-***");
        check("key xai-ABCDEFGHIJKLMNOPQRSTUVWXYZ0123", "key xai-***");
        check("key=\"sk-proj-ABCDEFGHIJKLMNOP\"", "key=\"sk-***\"");
        check("Authorization: Bearer abcdefgh.ijkl", "Authorization: Bearer ***");
        check("token eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.sig", "token eyJ***");
        for text in [
            "upstream xai-eu",
            "a task-list-of-many-things-here",
            "sk-kx-",
            "Bearer of news",
            "gr\u{fc}n",
        ] {
            check(text, text);
        }
    }
}

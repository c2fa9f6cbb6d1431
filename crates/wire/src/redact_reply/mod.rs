//! Cleans replies that are not errors as a whole: of the operator's key anywhere, and of the operator's
//! business in errors within. The model's output is not changed.
//!
//! An ordinary reply is searched for two words, and otherwise neither read nor copied.

use super::cursor::Cursor;
use super::json;
use super::redact::{Redactor, WINDOW};
use super::sse::Event;
use bytes::{Bytes, BytesMut};
use memchr::memmem::Finder;
use std::sync::OnceLock;

/// The text that replaces a key.
const MASK: &[u8] = b"[key]";
/// Members that are the model's or the caller's own words.
const OPAQUE: [&str; 9] = [
    "input",
    "arguments",
    "args",
    "parameters",
    "parsed",
    "logprobs",
    "tools",
    "metadata",
    "instructions",
];

/// Cleans the replies of one upstream.
pub struct ReplyRedactor {
    /// The forms of the key in JSON; empty if there is none, or it is too short to search for.
    keys: Vec<Finder<'static>>,
    error: Finder<'static>,
    /// The same within a name that is written in camel case.
    capital_error: Finder<'static>,
    /// The beginning of a letter that is written as an escape.
    escape: Finder<'static>,
    key: Option<String>,
    host: String,
    redactor: OnceLock<Redactor>,
}

impl ReplyRedactor {
    /// For an upstream with this key at this host.
    #[must_use]
    pub fn new(key: Option<&str>, host: &str) -> Self {
        let long = key.filter(|key| key.len() >= WINDOW);
        let mut forms: Vec<String> = long.map(str::to_owned).into_iter().collect();
        forms.extend(long.filter(|key| key.contains('/')).map(|key| key.replace('/', "\\/")));
        let finder = |form: &String| Finder::new(form.as_bytes()).into_owned();
        Self {
            keys: forms.iter().map(finder).collect(),
            error: Finder::new(b"error"),
            capital_error: Finder::new(b"Error"),
            escape: Finder::new(b"\\u00"),
            key: key.map(str::to_owned),
            host: host.to_owned(),
            redactor: OnceLock::new(),
        }
    }

    /// The body of a whole reply, cleaned.
    #[must_use]
    pub fn body(&self, body: Bytes) -> Bytes {
        let body = self.without_key(&body).unwrap_or(body);
        match self.without_errors(&body) {
            Some(clean) => clean.into(),
            None => body,
        }
    }

    /// The event as it goes out; `None` where that is as it came.
    #[must_use]
    pub fn event(&self, event: &Event) -> Option<Bytes> {
        let Some(data) = event.data.as_deref().and_then(|data| self.without_errors(data)) else {
            return self.without_key(&event.raw);
        };
        let mut out = BytesMut::with_capacity(event.raw.len());
        for line in event.raw.split(|byte| matches!(byte, b'\n' | b'\r')) {
            if !line.is_empty() && !line.starts_with(b"data") {
                out.extend_from_slice(line);
                out.extend_from_slice(b"\n");
            }
        }
        for line in data.split(['\n', '\r']) {
            out.extend_from_slice(format!("data: {line}\n").as_bytes());
        }
        out.extend_from_slice(b"\n");
        let out = out.freeze();
        Some(self.without_key(&out).unwrap_or(out))
    }

    /// The bytes without the key, if it is in them.
    #[must_use]
    pub fn without_key(&self, bytes: &[u8]) -> Option<Bytes> {
        let mut clean: Option<Vec<u8>> = None;
        for key in &self.keys {
            let text = clean.as_deref().unwrap_or(bytes);
            if key.find(text).is_some() {
                let mut out = Vec::with_capacity(text.len());
                let mut done = 0;
                for at in key.find_iter(text) {
                    out.extend_from_slice(&text[done..at]);
                    out.extend_from_slice(MASK);
                    done = at + key.needle().len();
                }
                out.extend_from_slice(&text[done..]);
                clean = Some(out);
            }
        }
        clean.map(Bytes::from)
    }

    /// The object in `body` with its errors redacted; `None` where there is nothing to redact.
    fn without_errors(&self, body: &[u8]) -> Option<String> {
        if !self.may_have_error(body) {
            return None;
        }
        let text = json::object_text(body)?;
        let mut errors: Vec<&str> = Vec::new();
        find_errors(&mut Cursor::new(text), &mut errors, json::MAX_DEPTH);
        let redactor = self.redactor();
        let (mut redacted, mut from) = (String::new(), 0);
        for error in errors {
            let clean = redactor.redact_json(error);
            if clean != error {
                let at = error.as_ptr().addr() - text.as_ptr().addr();
                redacted.push_str(&text[from..at]);
                redacted.push_str(&clean);
                from = at + error.len();
            }
        }
        if from == 0 {
            return None;
        }
        redacted.push_str(&text[from..]);
        Some(redacted)
    }

    /// True if a member whose name has `error` in it may have a value that is a text. Most replies have the
    /// word nowhere, or only in `"error":null`.
    fn may_have_error(&self, body: &[u8]) -> bool {
        let is_member = |at: usize| {
            let rest = &body[at..];
            let end = rest.iter().position(|byte| !byte.is_ascii_alphanumeric() && *byte != b'_');
            let Some(rest) = end.and_then(|end| rest[end..].strip_prefix(b"\"")) else {
                return false;
            };
            let value = rest.trim_ascii_start().strip_prefix(b":").map(<[u8]>::trim_ascii_start);
            value.is_some_and(|value| {
                value.starts_with(b"\"") || value.starts_with(b"{") || value.starts_with(b"[")
            })
        };
        // Letters that are written as escapes, as no serializer writes them.
        let is_escaped = |at: usize| matches!(body.get(at + 4), Some(b'4' | b'5' | b'6' | b'7'));
        self.error.find_iter(body).any(is_member)
            || self.capital_error.find_iter(body).any(is_member)
            || self.escape.find_iter(body).any(is_escaped)
    }

    fn redactor(&self) -> &Redactor {
        self.redactor.get_or_init(|| Redactor::new(self.key.as_deref(), &self.host))
    }
}

/// Collects the values of members that report an error. A value nested below `levels` counts as one.
fn find_errors<'a>(cursor: &mut Cursor<'a>, errors: &mut Vec<&'a str>, levels: usize) {
    let Some(below) = levels.checked_sub(1) else {
        errors.push(cursor.skip());
        return;
    };
    if cursor.enter(b'[') {
        while cursor.next_element() {
            find_errors(cursor, errors, below);
        }
    } else if cursor.enter(b'{') {
        while let Some(name) = cursor.next_member() {
            if OPAQUE.contains(&&*name) {
                cursor.skip();
            } else if is_error(&name) {
                let json = cursor.skip();
                errors.extend(json.starts_with(['"', '{', '[']).then_some(json));
            } else {
                find_errors(cursor, errors, below);
            }
        }
    } else {
        cursor.skip();
    }
}

fn is_error(name: &str) -> bool {
    const WORD: &[u8] = b"error";
    name.as_bytes().windows(WORD.len()).any(|window| window.eq_ignore_ascii_case(WORD))
}

#[cfg(test)]
mod tests;

//! Putting new values into a request body in place of the caller's.
//!
//! Owns the arithmetic of positions; never re-encodes. Every byte outside the replaced values
//! and the inserted members is the caller's.

use super::request::{Changes, LimitField, Request, Written};
use bytes::Bytes;
use serde_json::value::RawValue;
use std::ops::Range;

/// One replaced stretch of the body; an empty range inserts.
struct Edit {
    range: Range<usize>,
    text: String,
}

/// The body of `request` with `changes` made.
pub(super) fn splice(request: &Request<'_>, changes: Changes<'_>) -> Bytes {
    let mut edits = Edits { body: request.body, list: Vec::new() };
    let written = &request.written;
    if let (Some(model), Some(old)) = (changes.model, written.model) {
        edits.replace(old, serde_json::Value::from(model).to_string());
    }
    if let Some(read) = request.limit_name(changes.limit_field) {
        // The upstream must not read a limit that is higher than the one reserved for.
        let misread = written.limit_is_overlooked(read) || written.limits_differ();
        if let Some(limit) = changes.max_output.or(request.max_output.filter(|_| misread)) {
            edits.limit(written, limit, read);
        }
    }
    if changes.include_usage && !request.include_usage {
        edits.include_usage(written);
    }
    edits.apply()
}

struct Edits<'a> {
    body: &'a [u8],
    list: Vec<Edit>,
}

impl Edits<'_> {
    fn replace(&mut self, old: &RawValue, text: String) {
        self.list.push(Edit { range: position(self.body, old), text });
    }

    /// Adds a member at the front of the body's object, which is never empty.
    fn insert(&mut self, member: &str) {
        let brace = self.body.iter().position(|b| *b == b'{').map_or(0, |at| at + 1);
        self.list.push(Edit { range: brace..brace, text: format!("{member},") });
    }

    /// Every limit that the caller set takes the new value, so that no reader finds a higher one,
    /// and the upstream finds it under the name `read`.
    fn limit(&mut self, written: &Written<'_>, limit: u64, read: &str) {
        let mut is_given = false;
        for old in written.given_limits() {
            is_given = true;
            self.replace(old, limit.to_string());
        }
        if is_given && !written.limit_is_overlooked(read) {
            return;
        }
        match written.limits.iter().find(|(name, _)| *name == read) {
            Some((_, null)) => self.replace(null, limit.to_string()),
            None => self.insert(&format!("\"{read}\":{limit}")),
        }
    }

    fn include_usage(&mut self, written: &Written<'_>) {
        const MEMBER: &str = "\"include_usage\":true";
        let Some(options) = written.stream_options else {
            return self.insert(&format!("\"stream_options\":{{{MEMBER}}}"));
        };
        if let Some(old) = written.include_usage {
            return self.replace(old, "true".to_owned());
        }
        let Some(members) = options.get().strip_prefix('{') else {
            return self.replace(options, format!("{{{MEMBER}}}"));
        };
        let is_empty = members.trim_ascii_start() == "}";
        let comma = if is_empty { "" } else { "," };
        let inside = position(self.body, options).start + 1;
        self.list.push(Edit { range: inside..inside, text: format!("{MEMBER}{comma}") });
    }

    fn apply(mut self) -> Bytes {
        self.list.sort_by_key(|edit| edit.range.start);
        let added: usize = self.list.iter().map(|edit| edit.text.len()).sum();
        let mut out = Vec::with_capacity(self.body.len() + added);
        let mut done = 0;
        for edit in &self.list {
            out.extend_from_slice(&self.body[done..edit.range.start]);
            out.extend_from_slice(edit.text.as_bytes());
            done = edit.range.end;
        }
        out.extend_from_slice(&self.body[done..]);
        out.into()
    }
}

impl<'a> Written<'a> {
    fn given_limits(&self) -> impl Iterator<Item = &'a RawValue> {
        self.limits.iter().map(|(_, raw)| *raw).filter(|raw| raw.get() != "null")
    }

    /// Whether the caller's limit stands only under chat's newer name, and the upstream reads only
    /// the older one. (Upstreams that read the newer name read the older one too.)
    fn limit_is_overlooked(&self, read: &str) -> bool {
        let is_read = |(name, raw): &(&str, &RawValue)| *name == read && raw.get() != "null";
        read == LimitField::MaxTokens.as_str()
            && self.given_limits().next().is_some()
            && !self.limits.iter().any(is_read)
    }

    /// Whether several limits are given, with values that are not written alike.
    fn limits_differ(&self) -> bool {
        let mut given = self.given_limits().map(RawValue::get);
        let first = given.next();
        given.any(|other| Some(other) != first)
    }
}

/// Where in `body` the value stands: it was borrowed from there, so its address says it.
fn position(body: &[u8], value: &RawValue) -> Range<usize> {
    let start = value.get().as_ptr().addr() - body.as_ptr().addr();
    start..start + value.get().len()
}

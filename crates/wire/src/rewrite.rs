//! Replaces values in a request body by the gateway's.
//!
//! Edits byte ranges and never re-encodes: every byte outside the replaced values and the inserted
//! members is the caller's.

use super::cursor::cut_members;
use super::json;
use super::output_limits::{NESTED, OutputLimits};
use super::request::{OriginalFields, Request, Rewrite};
use super::surface::Surface;
use bytes::Bytes;
use serde_json::value::RawValue;
use std::ops::Range;

/// One replaced stretch of the body; an empty range inserts.
struct Edit {
    range: Range<usize>,
    text: String,
}

/// Returns the body of `request` with the changes of `rewrite`.
pub(super) fn rewrite(request: &Request<'_>, rewrite: Rewrite<'_>) -> Bytes {
    let mut edits = Edits { body: request.body, list: Vec::new() };
    let original = &request.original;
    if let (Some(model), Some(old)) = (rewrite.model, original.model) {
        edits.replace(old, serde_json::Value::from(model).to_string());
    }
    let limit = edits.set_output_limit(request, &rewrite);
    if let Some(limit) = limit.or(request.max_output) {
        edits.lower_budgets(&original.limits, limit, request.surface);
    }
    let drops_options = rewrite.drop_stream_options && original.stream_options.is_some();
    if rewrite.include_usage && !request.include_usage && !drops_options {
        edits.set_include_usage(original);
    }
    if let Some(policy) = rewrite.policy {
        let text = std::str::from_utf8(request.body).unwrap_or_default();
        for range in request.paid_features.cuts(text, policy) {
            edits.list.push(Edit { range, text: String::new() });
        }
        for calls in request.paid_features.too_many_calls(policy) {
            edits.replace_text(calls, policy.max_tool_calls.to_string());
        }
        if !policy.account_references {
            edits.cut_ids(text, &request.inspection.unsealed);
        }
    }
    let body = edits.apply();
    if drops_options { without_member(body, "stream_options") } else { body }
}

/// Removes a member that occurs once, among others. If its name is written with escapes, the member
/// stays and its value becomes `null`.
fn without_member(body: Bytes, name: &str) -> Bytes {
    let Some([Some(value)]) = json::members(&body, [name]) else { return body };
    let mut range = position(&body, value.get());
    let name = format!("\"{name}\"");
    let before = &body[..range.start];
    let named = memchr::memmem::rfind(before, name.as_bytes());
    let Some(named) = named.filter(|at| before[at + name.len()..].trim_ascii() == b":") else {
        return [&body[..range.start], b"null", &body[range.end..]].concat().into();
    };
    range.start = named;
    let behind = body[range.end..].iter().position(|byte| !byte.is_ascii_whitespace());
    match behind.map(|at| range.end + at).filter(|at| body[*at] == b',') {
        Some(comma) => range.end = comma + 1,
        None => {
            let comma = body[..named].iter().rposition(|byte| *byte == b',');
            range.start = comma.unwrap_or(named);
        }
    }
    [&body[..range.start], &body[range.end..]].concat().into()
}

struct Edits<'a> {
    body: &'a [u8],
    list: Vec<Edit>,
}

impl Edits<'_> {
    fn replace(&mut self, old: &RawValue, text: String) {
        self.replace_text(old.get(), text);
    }

    fn replace_text(&mut self, old: &str, text: String) {
        self.list.push(Edit { range: position(self.body, old), text });
    }

    /// Writes the limit under the name that the upstream reads. Returns the limit if that is a change.
    fn set_output_limit(&mut self, request: &Request<'_>, rewrite: &Rewrite<'_>) -> Option<u64> {
        let limits = &request.original.limits;
        let read = request.limit_name(rewrite.limit_field)?;
        let names = names_read_with(request.surface, read);
        // The upstream must not read a limit above the one that tokens were reserved for.
        let misread = limits.upstream_would_miss_limit(names) || limits.differ();
        let limit = rewrite.max_output.or(request.max_output.filter(|_| misread))?;
        self.set_limit(limits, limit, read, names);
        Some(limit)
    }

    /// Lowers minimum output and thinking budgets to the limit.
    fn lower_budgets(&mut self, limits: &OutputLimits<'_>, limit: u64, surface: Surface) {
        /// Anthropic accepts no smaller budget, and none that is not below the limit.
        const MIN_BUDGET: u64 = 1024;
        let thinking = limits.thinking.filter(|_| surface == Surface::Messages);
        let within = thinking.map(|raw| position(self.body, raw.get())).unwrap_or_default();
        if let Some(thinking) = thinking.filter(|_| limit <= MIN_BUDGET) {
            self.replace(thinking, r#"{"type":"disabled"}"#.to_owned());
        }
        for (budget, raw) in &limits.budgets {
            let is_within = within.contains(&position(self.body, raw.get()).start);
            let most = limit - u64::from(is_within && limit > 0);
            if *budget > most && !(is_within && limit <= MIN_BUDGET) {
                self.replace(raw, most.to_string());
            }
        }
    }

    /// Removes the ids of items that the upstream could look up by id.
    fn cut_ids(&mut self, body: &str, items: &[Range<usize>]) {
        for item in items {
            let at = item.start;
            let cuts = cut_members(&body[item.clone()], |name| name == "id");
            let cuts = cuts.into_iter().map(|cut| cut.start + at..cut.end + at);
            self.list.extend(cuts.map(|range| Edit { range, text: String::new() }));
        }
    }

    /// Adds a member at the front of the body's object, which is never empty.
    fn insert(&mut self, member: &str) {
        let brace = self.body.iter().position(|b| *b == b'{').map_or(0, |at| at + 1);
        self.list.push(Edit { range: brace..brace, text: format!("{member},") });
    }

    /// Sets every limit that the caller gave to `limit`, so that no server finds a higher one, and adds
    /// it under the name `read` if the upstream would miss it.
    fn set_limit(&mut self, limits: &OutputLimits<'_>, limit: u64, read: &str, names: &[&str]) {
        let mut is_given = false;
        for old in limits.given() {
            is_given = true;
            self.replace(old, limit.to_string());
        }
        if is_given && !limits.upstream_would_miss_limit(names) {
            return;
        }
        match limits.limits.iter().find(|(name, _)| *name == read) {
            Some((_, null)) => self.replace(null, limit.to_string()),
            None => self.insert(&format!("\"{read}\":{limit}")),
        }
    }

    fn set_include_usage(&mut self, original: &OriginalFields<'_>) {
        const MEMBER: &str = "\"include_usage\":true";
        let Some(options) = original.stream_options else {
            return self.insert(&format!("\"stream_options\":{{{MEMBER}}}"));
        };
        if let Some(old) = original.include_usage {
            return self.replace(old, "true".to_owned());
        }
        let Some(members) = options.get().strip_prefix('{') else {
            return self.replace(options, format!("{{{MEMBER}}}"));
        };
        let is_empty = members.trim_ascii_start() == "}";
        let comma = if is_empty { "" } else { "," };
        let inside = position(self.body, options.get()).start + 1;
        self.list.push(Edit { range: inside..inside, text: format!("{MEMBER}{comma}") });
    }

    fn apply(mut self) -> Bytes {
        // An insertion comes before a replacement at the same position.
        self.list.sort_by_key(|edit| (edit.range.start, edit.range.end));
        let added: usize = self.list.iter().map(|edit| edit.text.len()).sum();
        let mut out = Vec::with_capacity(self.body.len() + added);
        let mut done = 0;
        for edit in &self.list {
            // Within a range that was replaced already.
            if edit.range.start < done {
                continue;
            }
            out.extend_from_slice(&self.body[done..edit.range.start]);
            out.extend_from_slice(edit.text.as_bytes());
            done = edit.range.end;
        }
        out.extend_from_slice(&self.body[done..]);
        out.into()
    }
}

impl<'a> OutputLimits<'a> {
    /// The limits whose value is not `null`.
    fn given(&self) -> impl Iterator<Item = &'a RawValue> {
        self.limits.iter().map(|(_, raw)| *raw).filter(|raw| raw.get() != "null")
    }

    /// True if the caller gave the limit only under names that the upstream may not read.
    fn upstream_would_miss_limit(&self, names: &[&str]) -> bool {
        let is_read = |(name, raw): &(&str, &RawValue)| {
            *name != NESTED && names.contains(name) && raw.get() != "null"
        };
        self.given().next().is_some() && !self.limits.iter().any(is_read)
    }

    /// True if several limits are given and their values are not written alike.
    fn differ(&self) -> bool {
        let mut given = self.given().map(RawValue::get);
        let first = given.next();
        given.any(|other| Some(other) != first)
    }
}

/// The limit's names that an upstream reads if it reads `read`: one that reads chat's newer name reads
/// the older one too.
fn names_read_with(surface: Surface, read: &'static str) -> &'static [&'static str] {
    let names = surface.limits();
    let at = names.iter().position(|name| *name == read).unwrap_or(0);
    &names[at..]
}

/// The range of `text` in `body`, from which it was borrowed.
fn position(body: &[u8], text: &str) -> Range<usize> {
    let start = text.as_ptr().addr() - body.as_ptr().addr();
    start..start + text.len()
}

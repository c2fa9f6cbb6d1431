//! Forwards headers by allow list in both directions, and adds the gateway's own.
//!
//! Names and values are checked; `docs/headers.md` has the table. Headers that `Connection` names are not
//! forwarded (RFC 9110 section 7.6.1), and trailers never are.

use crate::gateway::call::reservation::Reservation;
use crate::gateway::listener::session::ResponseHead;
use crate::upstream::catalog::Upstream;
use crate::upstream::client::Exchange;
use domain::key::PlainKey;
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use memchr::memmem;
use std::net::IpAddr;
use wire::request::Request;
use wire::surface::Surface;

/// Caller headers forwarded upstream: API versions and the conversation id. All others are dropped, so that
/// a caller cannot set a key, an account, an address or another path.
const REQUEST_ALLOWED: [&str; 4] =
    ["anthropic-beta", "anthropic-version", "openai-beta", "x-grok-conv-id"];

/// Prefix of the headers that control the simulator; forwarded only to an upstream on this machine.
const SIMULATOR_PREFIX: &str = "x-sim-";

/// Maximum length of a forwarded caller header value, in bytes.
const MAX_REQUEST_VALUE: usize = 1024;

/// Maximum number of forwarded fields per name; further ones are dropped.
const MAX_REQUEST_FIELDS: usize = 8;

/// Prefix of this gateway's keys; a header whose value contains it is dropped, whatever its name.
const OUR_KEYS: &[u8] = PlainKey::PREFIX.as_bytes();

/// Numeric upstream headers forwarded to the caller: its timings.
const REPLY_NUMBERS: [&str; 4] =
    ["openai-processing-ms", "x-metrics-e2e-ms", "x-metrics-mean-itl-ms", "x-metrics-ttft-ms"];

/// Single-word upstream headers forwarded to the caller.
const REPLY_WORDS: [&str; 1] = ["openai-version"];

/// Headers in which upstreams send their request id.
const UPSTREAM_IDS: [&str; 2] = ["x-request-id", "request-id"];

/// Content types that a data-plane reply may have.
const REPLY_TYPES: [&str; 2] = ["application/json", "text/event-stream"];

/// Maximum length of a forwarded upstream header value, in bytes.
const MAX_REPLY_VALUE: usize = 128;

/// Headers that browsers' scripts may read on replies of the data plane.
const EXPOSED: &str = "x-request-id, x-upstream-request-id, x-process-time, retry-after, retry-after-ms, \
    x-should-retry, x-kx-clamped, x-kx-stripped, x-kx-translated, x-kx-tokens-needed, x-kx-quota-day-tokens-remaining, x-kx-quota-day-requests-remaining, \
    x-ratelimit-limit-requests, x-ratelimit-limit-tokens, x-ratelimit-remaining-requests, \
    x-ratelimit-remaining-tokens, x-ratelimit-reset-requests, x-ratelimit-reset-tokens";

/// Returns the caller's headers that are allowed in a request to `upstream`. The gateway's own are added when it is
/// sent.
#[must_use]
pub fn forwarded(from: &HeaderMap, upstream: &Upstream) -> HeaderMap {
    let nominated = nominated(from);
    let mut out = HeaderMap::new();
    for (name, value) in from {
        let text = name.as_str();
        let is_allowed = REQUEST_ALLOWED.contains(&text)
            || (text.starts_with(SIMULATOR_PREFIX) && is_loopback(&upstream.host));
        if !is_allowed {
            continue;
        }
        let is_harmless = value.len() <= MAX_REQUEST_VALUE
            && value.to_str().is_ok()
            && !contains_gateway_key(value.as_bytes());
        let is_nominated = nominated.iter().any(|other| other == text);
        let is_bounded = out.get_all(name).iter().count() < MAX_REQUEST_FIELDS;
        if is_harmless && !is_nominated && is_bounded {
            out.append(name.clone(), value.clone());
        }
    }
    out
}

/// Adds the upstream's headers that are allowed to `to`.
pub fn add_upstream_reply(to: &mut ResponseHead, exchange: &Exchange) {
    let nominated = nominated(exchange.headers());
    let allowed = exchange.headers().iter().filter(|(name, value)| is_reply_allowed(name, value));
    for (name, value) in allowed.filter(|(name, _)| !nominated.iter().any(|n| name.as_str() == n)) {
        to.set(name.clone(), value.clone());
    }
    let ids = UPSTREAM_IDS.into_iter().filter_map(|name| exchange.header(name));
    if let Some(id) = ids.into_iter().find(|id| is_word(id)) {
        to.set("x-upstream-request-id", id);
    }
}

/// True where a header of an upstream's reply may reach the caller. The value is checked as well as the name:
/// no upstream can put text of its choice there.
fn is_reply_allowed(name: &HeaderName, value: &HeaderValue) -> bool {
    let name = name.as_str();
    let is_known =
        name == "content-type" || REPLY_NUMBERS.contains(&name) || REPLY_WORDS.contains(&name);
    if !is_known {
        return false;
    }
    let Ok(value) = value.to_str() else { return false };
    let is_number = |text: &str| text.bytes().all(|b| b.is_ascii_digit() || b == b'.');
    match name {
        "content-type" => {
            let essence = value.split(';').next().unwrap_or_default().trim();
            value.len() <= MAX_REPLY_VALUE
                && REPLY_TYPES.iter().any(|kind| essence.eq_ignore_ascii_case(kind))
        }
        name if REPLY_NUMBERS.contains(&name) => value.len() <= 20 && is_number(value),
        name if REPLY_WORDS.contains(&name) => value.len() <= 32 && is_word(value),
        _ => false,
    }
}

/// A word that names nothing but itself: an id or a version.
fn is_word(text: &str) -> bool {
    let is_word_byte = |b: u8| b.is_ascii_alphanumeric() || b"._-".contains(&b);
    (1..=MAX_REPLY_VALUE).contains(&text.len()) && text.bytes().all(is_word_byte)
}

fn is_loopback(host: &str) -> bool {
    let host = host.trim_start_matches('[').trim_end_matches(']');
    host == "localhost" || host.parse().is_ok_and(|ip: IpAddr| ip.is_loopback())
}

/// Makes `head` the head of an event stream.
pub(crate) fn make_stream_head(head: &mut ResponseHead) {
    head.set(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    head.set("x-accel-buffering", HeaderValue::from_static("no"));
    if !head.headers.contains_key(header::CONTENT_TYPE) {
        head.set(header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    }
}

/// Says that the upstream served the call on another surface than the caller's.
pub fn add_translated(head: &mut ResponseHead, from: Surface, to: Surface) {
    let name = |surface: Surface| surface.path().trim_start_matches('/');
    head.set("x-kx-translated", format!("{}->{}", name(from), name(to)));
}

/// Adds the output limit that was sent upstream, if it is below the one requested.
pub(crate) fn add_clamped(head: &mut ResponseHead, reservation: &Reservation) {
    if let Some(limit) = reservation.output_limit.filter(|_| reservation.clamped) {
        head.set("x-kx-clamped", limit);
    }
}

/// Adds the names of what was removed from the request because the plan does not include it.
pub(crate) fn add_stripped(
    head: &mut ResponseHead,
    request: &Request<'_>,
    reservation: &Reservation,
) {
    let names = request.stripped_names(&reservation.caller.plan_limits.policy);
    if let Some(list) = plain_list(&names) {
        head.set("x-kx-stripped", list);
    }
}

/// Adds what keeps browsers and caches from making more of a reply than it is. A reply that may be kept says so
/// afterwards.
pub fn add_protection(to: &mut ResponseHead) {
    to.set(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    to.set(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
}

/// Adds what lets a browser's script read a reply of the data plane. `allowed` are the origins
/// that may; `None` is any, safe because `/v1` takes bearer keys and never cookies.
pub fn add_cors(to: &mut ResponseHead, origin: Option<&HeaderValue>, allowed: Option<&[String]>) {
    let Some(origin) = origin else { return };
    let granted = match allowed {
        None => HeaderValue::from_static("*"),
        Some(list) if list.iter().any(|o| o.as_bytes() == origin.as_bytes()) => origin.clone(),
        Some(_) => return,
    };
    to.set(header::ACCESS_CONTROL_ALLOW_ORIGIN, granted);
    to.set(header::ACCESS_CONTROL_EXPOSE_HEADERS, EXPOSED);
    to.add(header::VARY, "origin");
}

/// Adds the answer to a preflight. Asked-for headers are granted by name: `*` would not cover
/// `authorization` (Fetch standard), and SDKs keep adding new ones.
pub fn add_preflight(to: &mut ResponseHead, requested: Option<&HeaderValue>) {
    to.set(header::ACCESS_CONTROL_ALLOW_METHODS, "GET, POST, DELETE, OPTIONS");
    to.set(header::ACCESS_CONTROL_MAX_AGE, "86400");
    to.add(header::VARY, "access-control-request-headers");
    if let Some(requested) = requested {
        to.set(header::ACCESS_CONTROL_ALLOW_HEADERS, requested.clone());
    }
}

fn nominated(headers: &HeaderMap) -> Vec<String> {
    headers
        .get_all(header::CONNECTION)
        .iter()
        .filter_map(|v| v.to_str().ok())
        .flat_map(names)
        .collect()
}

fn names(list: &str) -> Vec<String> {
    list.split(',').map(|name| name.trim().to_ascii_lowercase()).collect()
}

/// True if a value contains what looks like a key of this gateway.
#[must_use]
pub fn contains_gateway_key(value: &[u8]) -> bool {
    memmem::find(value, OUR_KEYS).is_some()
}

/// Names as a header may carry them; `None` when there are none.
pub fn plain_list(names: &[String]) -> Option<String> {
    let is_plain = |c: &char| c.is_ascii_alphanumeric() || "_-.:".contains(*c);
    let plain = |name: &String| match name.chars().filter(is_plain).take(64).collect::<String>() {
        name if name.is_empty() => "tool".to_owned(),
        name => name,
    };
    let list: Vec<String> = names.iter().take(16).map(plain).collect();
    (!list.is_empty()).then(|| list.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_stripped_is_named_in_every_case() {
        for (names, expected) in [
            (&[][..], None),
            (&["web_search", "x y"], Some("web_search, xy")),
            (&["", "\u{641c}"], Some("tool, tool")),
        ] {
            let names: Vec<String> = names.iter().map(ToString::to_string).collect();
            assert_eq!(plain_list(&names).as_deref(), expected);
        }
    }

    #[test]
    fn reply_headers_pass_by_name_and_value() {
        let check = |name: &'static str, value: &str, expected: bool| {
            let name = HeaderName::from_static(name);
            let value = HeaderValue::from_str(value).unwrap();
            assert_eq!(is_reply_allowed(&name, &value), expected, "{name}: {value:?}");
        };
        check("content-type", "application/json; charset=utf-8", true);
        check("content-type", "text/event-stream", true);
        check("content-type", "text/html", false);
        check("openai-processing-ms", "1234", true);
        check("openai-processing-ms", "xai-operators-key", false);
        check("openai-version", "2020-10-01", true);
        check("openai-version", "a b", false);
        for name in
            ["openai-organization", "authorization", "set-cookie", "x-accel-redirect", "server"]
        {
            check(name, "1", false);
        }
        for name in
            ["retry-after", "x-litellm-key-spend", "cache-control", "content-encoding", "link"]
        {
            check(name, "1", false);
        }
    }

    #[test]
    fn only_hosts_of_this_machine_are_steered() {
        for host in ["localhost", "127.0.0.1", "127.9.9.9", "::1", "[::1]"] {
            assert!(is_loopback(host), "{host}");
        }
        for host in ["api.x.ai", "10.0.0.1", "localhost.example", "127.0.0.1.example"] {
            assert!(!is_loopback(host), "{host}");
        }
    }
}

//! Which headers cross the gateway, and the ones it adds.
//!
//! Hop-by-hop headers, and those that `Connection` names, never cross (RFC 9110 section 7.6.1);
//! neither do credentials, cookies, or anything that tells of the other side's infrastructure.

use crate::account::id::RequestId;
use crate::upstream::connect::Exchange;
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use memchr::memmem;
use pingora_http::ResponseHeader;

const HOP_BY_HOP: [&str; 10] = [
    "connection",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authorization",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "http2-settings",
];

/// A caller's headers that stop here: credentials, what the gateway writes itself, and what only
/// says where the caller is.
const STOPPED_UP: [&str; 19] = [
    "authorization",
    "x-api-key",
    "api-key",
    "cookie",
    "host",
    "content-length",
    "content-type",
    "content-encoding",
    "expect",
    "accept-encoding",
    "origin",
    "referer",
    "forwarded",
    "via",
    "x-real-ip",
    "x-request-id",
    "openai-organization",
    "openai-project",
    "cdn-loop",
];

/// How keys of this gateway begin; a header that has one stops here, whatever its name.
const OUR_KEYS: &[u8] = b"sk-kx-";

/// An upstream's headers that stop here. Its rate limits are the operator's, not the caller's.
const STOPPED_DOWN: [&str; 12] = [
    "content-length",
    "set-cookie",
    "server",
    "via",
    "alt-svc",
    "strict-transport-security",
    "x-request-id",
    "x-process-time",
    "nel",
    "report-to",
    "retry-after",
    "date",
];

/// Headers that browsers' scripts may read on replies of the data plane.
const EXPOSED: &str = "x-request-id, x-upstream-request-id, x-process-time, retry-after, retry-after-ms, \
    x-should-retry, x-kx-clamped, x-kx-quota-day-tokens-remaining, x-kx-quota-day-requests-remaining, \
    x-ratelimit-limit-requests, x-ratelimit-limit-tokens, x-ratelimit-remaining-requests, \
    x-ratelimit-remaining-tokens, x-ratelimit-reset-requests, x-ratelimit-reset-tokens";

/// The caller's headers as they go upstream; authority, length and credentials come later.
#[must_use]
pub fn upstream_request(from: &HeaderMap, id: RequestId) -> HeaderMap {
    let nominated = nominated(from);
    let mut out = HeaderMap::with_capacity(from.len() + 3);
    for (name, value) in from {
        let text = name.as_str();
        let stops = STOPPED_UP.contains(&text)
            || text.starts_with("x-kx-")
            || text.starts_with("x-forwarded-")
            || text.starts_with("sec-")
            || memmem::find(value.as_bytes(), OUR_KEYS).is_some();
        if !stops && crosses(text, &nominated) {
            out.append(name.clone(), value.clone());
        }
    }
    out.insert(header::ACCEPT_ENCODING, HeaderValue::from_static("identity"));
    // What was read as JSON is read as JSON: no other charset or encoding may make it mean more.
    out.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    // Without our `req_`: servers built on starlette-context answer 400 to what is no UUID.
    if let Ok(id) = HeaderValue::from_str(&id.0.hyphenated().to_string()) {
        out.insert(HeaderName::from_static("x-request-id"), id);
    }
    out
}

/// Adds the upstream's headers that cross to `to`.
pub fn add_upstream_reply(to: &mut ResponseHeader, exchange: &Exchange) {
    let connection = exchange.headers().filter(|(name, _)| *name == header::CONNECTION);
    let nominated: Vec<String> =
        connection.filter_map(|(_, value)| value.to_str().ok()).flat_map(names).collect();
    for (name, value) in exchange.headers() {
        let text = name.as_str();
        let stops = STOPPED_DOWN.contains(&text)
            || text.starts_with("x-ratelimit-")
            || text.starts_with("x-kx-")
            || text.starts_with("cf-")
            || text.starts_with("access-control-");
        if !stops && crosses(text, &nominated) {
            let _ = to.append_header(name.clone(), value.clone());
        }
    }
    if let Some(id) = exchange.header("x-request-id") {
        let _ = to.insert_header("x-upstream-request-id", id);
    }
}

/// Adds what lets a browser's script read a reply of the data plane. `allowed` are the origins
/// that may; `None` is any, safe because `/v1` takes bearer keys and never cookies.
pub fn add_cors(to: &mut ResponseHeader, origin: Option<&HeaderValue>, allowed: Option<&[String]>) {
    let Some(origin) = origin else { return };
    let granted = match allowed {
        None => HeaderValue::from_static("*"),
        Some(list) if list.iter().any(|o| o.as_bytes() == origin.as_bytes()) => origin.clone(),
        Some(_) => return,
    };
    let _ = to.insert_header(header::ACCESS_CONTROL_ALLOW_ORIGIN, granted);
    let _ = to.insert_header(header::ACCESS_CONTROL_EXPOSE_HEADERS, EXPOSED);
    let _ = to.append_header(header::VARY, "origin");
}

/// Adds the answer to a preflight. Asked-for headers are granted by name: `*` would not cover
/// `authorization` (Fetch standard), and SDKs keep adding new ones.
pub fn add_preflight(to: &mut ResponseHeader, asked: Option<&HeaderValue>) {
    let _ = to.insert_header(header::ACCESS_CONTROL_ALLOW_METHODS, "GET, POST, DELETE, OPTIONS");
    let _ = to.insert_header(header::ACCESS_CONTROL_MAX_AGE, "86400");
    let _ = to.append_header(header::VARY, "access-control-request-headers");
    if let Some(asked) = asked {
        let _ = to.insert_header(header::ACCESS_CONTROL_ALLOW_HEADERS, asked.clone());
    }
}

fn crosses(name: &str, nominated: &[String]) -> bool {
    !HOP_BY_HOP.contains(&name) && !nominated.iter().any(|n| n == name)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_hops_and_nominated_headers_stay_here() {
        let mut from = HeaderMap::new();
        for (name, value) in [
            ("authorization", "Bearer sk-kx-fake"),
            ("cookie", "a=b"),
            ("connection", "close, X-Secret"),
            ("x-secret", "1"),
            ("x-kx-anything", "1"),
            ("x-forwarded-for", "10.0.0.1"),
            ("te", "trailers"),
            ("upgrade", "websocket"),
            ("x-grok-conv-id", "conversation"),
            ("x-note", "my key is sk-kx-fake"),
            ("content-type", "application/json; charset=utf-7"),
            ("content-encoding", "gzip"),
        ] {
            from.append(name, HeaderValue::from_static(value));
        }
        let id = RequestId::new();
        let out = upstream_request(&from, id);
        let mut names: Vec<_> = out.keys().map(HeaderName::as_str).collect();
        names.sort_unstable();
        assert_eq!(names, ["accept-encoding", "content-type", "x-grok-conv-id", "x-request-id"]);
        assert_eq!(out["accept-encoding"], "identity");
        assert_eq!(out["x-request-id"].to_str().unwrap().parse(), Ok(id.0), "a UUID and no more");
        assert_eq!(out["content-type"], "application/json");
    }
}

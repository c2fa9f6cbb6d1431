//! The request head: which endpoint it is for, and whether its framing can be trusted.
//!
//! pingora parses HTTP/1.1 and settles most ambiguities by dropping one reading. Here an
//! ambiguous head is refused instead, and the connection closed (RFC 9112 section 11.2).

use super::refusal::Refusal;
use crate::account::id::RequestId;
use http::{HeaderMap, HeaderValue, Method};
use jiff::Timestamp;
use pingora_core::protocols::http::ServerSession;
use pingora_core::protocols::http::v1::server::HttpSession;
use pingora_http::RequestHeader;
use std::time::Instant;

/// What a request is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Endpoint {
    ChatCompletions,
    Models,
    /// One model, by its id as written in the path.
    Model(String),
    /// A browser asks what it may send to `/v1`.
    Preflight,
    /// A path of the data plane that exists, asked with another method.
    WrongMethod {
        allow: &'static str,
    },
    /// A path of the data plane that does not exist.
    Unknown,
    /// Everything outside the data plane.
    Control,
}

/// One request, before its body.
#[derive(Debug)]
pub struct Head {
    pub id: RequestId,
    pub endpoint: Endpoint,
    /// The page a browser sends the request for.
    pub origin: Option<HeaderValue>,
    pub admitted_at: Timestamp,
    pub started: Instant,
}

impl Endpoint {
    /// Reads method and path. Only exact paths count: nothing is decoded or normalised, so what
    /// is authorised is what was asked for.
    #[must_use]
    pub fn of(method: &Method, path: &str) -> Self {
        let path = path.split('?').next().unwrap_or_default();
        let path = path.strip_suffix('/').filter(|p| !p.is_empty()).unwrap_or(path);
        let is_chat = path == "/v1/chat/completions" || path == "/api/v1/chat/completions";
        let in_data_plane = is_chat || path == "/v1" || path.starts_with("/v1/");
        if !in_data_plane {
            return Self::Control;
        }
        if method == Method::OPTIONS {
            return Self::Preflight;
        }
        let found = match path {
            _ if is_chat => (Self::ChatCompletions, "POST"),
            "/v1/models" => (Self::Models, "GET"),
            _ => match path.strip_prefix("/v1/models/") {
                Some(id) if !id.is_empty() => (Self::Model(id.to_owned()), "GET"),
                _ => return Self::Unknown,
            },
        };
        if method.as_str() == found.1 { found.0 } else { Self::WrongMethod { allow: found.1 } }
    }
}

impl Head {
    /// Reads the head that `session` has received.
    #[must_use]
    pub fn read(session: &ServerSession, now: Timestamp, started: Instant) -> Self {
        let header = session.req_header();
        let path = std::str::from_utf8(header.raw_path()).unwrap_or("/v1/not-utf-8");
        Self {
            id: RequestId::new(),
            endpoint: Endpoint::of(&header.method, path),
            origin: header.headers.get(http::header::ORIGIN).cloned(),
            admitted_at: now,
            started,
        }
    }
}

/// Refuses a head that is too large or whose framing two servers could read differently.
///
/// # Errors
/// The refusal; the connection must be closed after it.
pub fn check(session: &ServerSession, header_bytes: usize) -> Result<(), Refusal> {
    let raw = session.as_http1().map(HttpSession::get_headers_raw_bytes).unwrap_or_default();
    if raw.len() > header_bytes {
        return Err(Refusal::HeadersTooLarge);
    }
    let header = session.req_header();
    let framing = Framing::of(&raw);
    if framing.lengths > 1 {
        return Err(Refusal::BadHead("more than one Content-Length"));
    }
    if framing.lengths > 0 && framing.encodings > 0 {
        return Err(Refusal::BadHead("both Content-Length and Transfer-Encoding"));
    }
    if framing.encodings > 1 {
        return Err(Refusal::BadHead("more than one Transfer-Encoding"));
    }
    check_target(header)
}

fn check_target(header: &RequestHeader) -> Result<(), Refusal> {
    let target = header.raw_path();
    let is_asterisk = target == b"*" && header.method == Method::OPTIONS;
    if !target.starts_with(b"/") && !is_asterisk {
        return Err(Refusal::BadHead("the request target is not a path"));
    }
    if header.uri.authority().is_some() || header.uri.scheme().is_some() {
        return Err(Refusal::BadHead("the request target is not a path"));
    }
    if count(&header.headers, http::header::HOST.as_str()) > 1 {
        return Err(Refusal::BadHead("more than one Host"));
    }
    Ok(())
}

fn count(headers: &HeaderMap, name: &str) -> usize {
    headers.get_all(name).iter().count()
}

/// How often each framing header stands in the head as it was sent (pingora has already dropped
/// what it decided against).
struct Framing {
    lengths: usize,
    encodings: usize,
}

impl Framing {
    fn of(raw: &[u8]) -> Self {
        let named = |name: &[u8]| {
            let is_named = |line: &&[u8]| {
                line.len() > name.len()
                    && line[name.len()] == b':'
                    && line[..name.len()].eq_ignore_ascii_case(name)
            };
            raw.split(|b| *b == b'\n').filter(is_named).count()
        };
        Self { lengths: named(b"content-length"), encodings: named(b"transfer-encoding") }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_and_methods_name_endpoints() {
        let of = |method: &str, path: &str| Endpoint::of(&method.parse().unwrap(), path);
        assert_eq!(of("POST", "/v1/chat/completions"), Endpoint::ChatCompletions);
        assert_eq!(of("POST", "/v1/chat/completions/"), Endpoint::ChatCompletions);
        assert_eq!(of("POST", "/v1/chat/completions?x=1"), Endpoint::ChatCompletions);
        assert_eq!(of("POST", "/api/v1/chat/completions"), Endpoint::ChatCompletions);
        assert_eq!(of("GET", "/v1/chat/completions"), Endpoint::WrongMethod { allow: "POST" });
        assert_eq!(of("GET", "/v1/models"), Endpoint::Models);
        assert_eq!(of("GET", "/v1/models/grok-4.3"), Endpoint::Model("grok-4.3".into()));
        assert_eq!(of("OPTIONS", "/v1/anything"), Endpoint::Preflight);
        assert_eq!(of("POST", "/v1/../health"), Endpoint::Unknown);
        assert_eq!(of("POST", "/v1"), Endpoint::Unknown);
        assert_eq!(of("GET", "/api/v1/chat/usage"), Endpoint::Control);
        assert_eq!(of("GET", "/"), Endpoint::Control);
        assert_eq!(of("POST", "/v1x/chat/completions"), Endpoint::Control);
        assert_eq!(of("POST", "/%761/chat/completions"), Endpoint::Control);
    }

    #[test]
    fn framing_headers_are_counted_as_sent() {
        let framing = Framing::of(
            b"POST / HTTP/1.1\r\nContent-Length: 3\r\ncontent-length: 3\r\nTE: x\r\n\r\n",
        );
        assert_eq!((framing.lengths, framing.encodings), (2, 0));
    }
}

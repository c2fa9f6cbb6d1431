//! The request head: which endpoint it is for.

use crate::account::id::RequestId;
use http::{HeaderValue, Method};
use jiff::Timestamp;
use percent_encoding::percent_decode_str;
use pingora_core::protocols::http::ServerSession;
use std::time::Instant;

/// Bytes a model's id may have.
const MAX_MODEL_LEN: usize = 256;

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
    /// Reads method and path. Only exact paths count: but for a model's name nothing is decoded or
    /// normalised, so what is authorised is what was asked for.
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
                Some(id) if (1..=MAX_MODEL_LEN).contains(&id.len()) => {
                    // SDKs write a `/` of the id as `%2F`.
                    let id = percent_decode_str(id).decode_utf8_lossy();
                    (Self::Model(id.into_owned()), "GET")
                }
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
        assert_eq!(of("GET", "/v1/models/xai%2Fgrok"), Endpoint::Model("xai/grok".into()));
        assert_eq!(of("OPTIONS", "/v1/anything"), Endpoint::Preflight);
        assert_eq!(of("POST", "/v1/../health"), Endpoint::Unknown);
        assert_eq!(of("POST", "/v1"), Endpoint::Unknown);
        assert_eq!(of("GET", "/api/v1/chat/usage"), Endpoint::Control);
        assert_eq!(of("GET", "/"), Endpoint::Control);
        assert_eq!(of("POST", "/v1x/chat/completions"), Endpoint::Control);
        assert_eq!(of("POST", "/%761/chat/completions"), Endpoint::Control);
    }
}

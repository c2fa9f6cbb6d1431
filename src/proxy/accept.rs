//! The request head: which endpoint it is for.

use crate::account::id::RequestId;
use crate::openai::error::ErrorBody;
use crate::openai::surface::Surface;
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
    /// A metered call.
    Call(Surface),
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
        // The earlier service had chat here, and clients still ask there.
        let path = if path == "/api/v1/chat/completions" { "/v1/chat/completions" } else { path };
        let Some(below) = path.strip_prefix("/v1").filter(|p| p.is_empty() || p.starts_with('/'))
        else {
            return Self::Control;
        };
        if method == Method::OPTIONS {
            return Self::Preflight;
        }
        let surface = Surface::ALL.into_iter().find(|surface| surface.path() == below);
        let found = match (surface, below) {
            (Some(surface), _) => (Self::Call(surface), "POST"),
            (None, "/models") => (Self::Models, "GET"),
            _ => match below.strip_prefix("/models/") {
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

impl Endpoint {
    /// An error in the words of what was asked for.
    #[must_use]
    pub fn error(&self, status: u16, error: &ErrorBody) -> String {
        match self {
            Self::Call(surface) => surface.error(status, error),
            _ => error.to_json(),
        }
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
        let chat = Endpoint::Call(Surface::ChatCompletions);
        assert_eq!(of("POST", "/v1/chat/completions"), chat);
        assert_eq!(of("POST", "/v1/chat/completions/"), chat);
        assert_eq!(of("POST", "/v1/chat/completions?x=1"), chat);
        assert_eq!(of("POST", "/api/v1/chat/completions"), chat);
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

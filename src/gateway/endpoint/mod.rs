//! The request head: which endpoint it is for.

use crate::gateway::headers::contains_gateway_key;
use crate::gateway::listener::session::Session;
use crate::http::client_ip;
use domain::id::RequestId;
use http::{HeaderMap, HeaderValue, Method};
use ipnet::IpNet;
use jiff::Timestamp;
use percent_encoding::percent_decode_str;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Instant;
use wire::error::ErrorBody;
use wire::surface::Surface;

/// Bytes a model's id may have.
const MAX_MODEL_LEN: usize = 256;
/// Bytes a reply's id may have.
const MAX_ID_LEN: usize = 128;
/// Bytes a caller's own request id may have.
const MAX_CLIENT_ID_LEN: usize = 128;
/// Path of deferred completions.
const DEFERRED: &str = "/chat/deferred-completion/";

/// The target of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Endpoint {
    /// A metered call.
    Call(Surface),
    /// The number of tokens of a response's input.
    InputTokens,
    /// A stored response.
    StoredResponse(StoredResponseRequest),
    /// A deferred chat completion, by its id.
    Deferred(String),
    /// All models, or one by its id.
    Models(Option<String>, ModelListFormat),
    /// A browser's CORS preflight below `/v1`.
    Preflight,
    /// An existing path of the data plane with another method.
    WrongMethod { allow: &'static str },
    /// A WebSocket handshake below `/v1`. Codex falls back to HTTP at once when it is answered with 426.
    WebSocket,
    /// A path of the data plane that does not exist.
    Unknown,
    /// Everything outside the data plane.
    Control,
}

/// The format of a list of models.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ModelListFormat {
    OpenAi,
    /// xAI's language models, with their prices.
    Xai,
    /// Anthropic's, which the client names by the header `anthropic-version`.
    Anthropic,
}

/// A request for a stored response.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredResponseRequest {
    pub id: String,
    pub action: StoredResponseAction,
}

/// The operation on a stored response.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StoredResponseAction {
    Read,
    Delete,
    Cancel,
    ListInput,
}

/// One request, before its body.
#[derive(Debug)]
pub struct RequestHead {
    pub id: RequestId,
    /// The caller's own `x-request-id`: recorded for it, and never used as the gateway's.
    pub client_request_id: Option<Arc<str>>,
    pub endpoint: Endpoint,
    /// The page a browser sends the request for.
    pub origin: Option<HeaderValue>,
    /// The client's address, as a trusted proxy names it or as the connection has it.
    pub address: IpAddr,
    /// The address is one that a trusted proxy named.
    pub forwarded: bool,
    pub admitted_at: Timestamp,
    pub started: Instant,
}

impl Endpoint {
    /// Reads method and path. Only exact paths count: but for a model's name nothing is decoded or
    /// normalised, so what is authorised is what was requested.
    #[must_use]
    pub fn of(method: &Method, path: &str) -> Self {
        let path = path.split('?').next().unwrap_or_default();
        let path = path.strip_suffix('/').filter(|p| !p.is_empty()).unwrap_or(path);
        // Path of the earlier service, which clients still use.
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
            (None, "/models") => (Self::Models(None, ModelListFormat::OpenAi), "GET"),
            (None, "/language-models") => (Self::Models(None, ModelListFormat::Xai), "GET"),
            (None, "/responses/input_tokens") => (Self::InputTokens, "POST"),
            _ if below.starts_with("/responses/") => {
                return Self::of_stored_response(method, below);
            }
            _ => match Self::by_id(below) {
                Some(found) => (found, "GET"),
                None => return Self::Unknown,
            },
        };
        if method.as_str() == found.1 { found.0 } else { Self::WrongMethod { allow: found.1 } }
    }
}

impl Endpoint {
    /// As [`Endpoint::of`], for a request with these headers.
    fn with_headers(method: &Method, path: &str, headers: &HeaderMap) -> Self {
        let upgrades = headers.get_all(http::header::UPGRADE).iter();
        let is_web_socket = upgrades
            .flat_map(|value| value.as_bytes().split(|byte| *byte == b','))
            .any(|protocol| protocol.trim_ascii().eq_ignore_ascii_case(b"websocket"));
        match Self::of(method, path) {
            Self::Control => Self::Control,
            // A handshake is a GET (RFC 6455 section 4.1); with other methods the header is ignored.
            _ if is_web_socket && method == Method::GET => Self::WebSocket,
            Self::Models(id, ModelListFormat::OpenAi)
                if headers.contains_key("anthropic-version") =>
            {
                Self::Models(id, ModelListFormat::Anthropic)
            }
            found => found,
        }
    }

    /// The resource that is read by the id at the end of its path.
    fn by_id(below: &str) -> Option<Self> {
        if let Some(id) = below.strip_prefix(DEFERRED) {
            return is_id(id).then(|| Self::Deferred(id.to_owned()));
        }
        let of_xai = below.strip_prefix("/language-models/").map(|id| (id, ModelListFormat::Xai));
        let (id, shape) =
            of_xai.or(below.strip_prefix("/models/").map(|id| (id, ModelListFormat::OpenAi)))?;
        // SDKs write a `/` of the id as `%2F`.
        let name = percent_decode_str(id).decode_utf8_lossy();
        let is_short = (1..=MAX_MODEL_LEN).contains(&id.len());
        is_short.then(|| Self::Models(Some(name.into_owned()), shape))
    }

    /// Paths below `/responses`.
    fn of_stored_response(method: &Method, below: &str) -> Self {
        let mut parts = below.split('/').skip(2);
        let (id, rest, more) = (parts.next().unwrap_or_default(), parts.next(), parts.next());
        // Routes of OpenAI's, not ids.
        if !is_id(id) || matches!(id, "compact" | "input_tokens") || more.is_some() {
            return Self::Unknown;
        }
        let (action, allow) = match (method.as_str(), rest) {
            ("GET", None) => (Some(StoredResponseAction::Read), ""),
            ("DELETE", None) => (Some(StoredResponseAction::Delete), ""),
            (_, None) => (None, "GET, DELETE"),
            ("POST", Some("cancel")) => (Some(StoredResponseAction::Cancel), ""),
            (_, Some("cancel")) => (None, "POST"),
            ("GET", Some("input_items")) => (Some(StoredResponseAction::ListInput), ""),
            (_, Some("input_items")) => (None, "GET"),
            _ => return Self::Unknown,
        };
        match action {
            Some(action) => {
                Self::StoredResponse(StoredResponseRequest { id: id.to_owned(), action })
            }
            None => Self::WrongMethod { allow },
        }
    }

    /// True if the key may be sent in `x-api-key`, as Anthropic's clients do.
    #[must_use]
    pub fn takes_api_key(&self) -> bool {
        let is_call = matches!(self, Self::Call(Surface::Messages | Surface::CountTokens));
        is_call || matches!(self, Self::Models(_, ModelListFormat::Anthropic))
    }

    /// An error in the format of the requested endpoint.
    #[must_use]
    pub fn error(&self, status: u16, error: &ErrorBody) -> String {
        match self {
            Self::Call(surface) => surface.error(status, error),
            Self::Models(_, ModelListFormat::Anthropic) => Surface::Messages.error(status, error),
            _ => error.to_json(),
        }
    }
}

fn is_id(id: &str) -> bool {
    let is_id_byte = |b: u8| b.is_ascii_alphanumeric() || b"-_".contains(&b);
    (1..=MAX_ID_LEN).contains(&id.len()) && id.bytes().all(is_id_byte)
}

/// The caller's own id of the request, if it is short, of visible ASCII characters only, and contains no key.
fn client_request_id(headers: &HeaderMap) -> Option<Arc<str>> {
    let id = headers.get("x-request-id")?.to_str().ok()?;
    let is_valid = (1..=MAX_CLIENT_ID_LEN).contains(&id.len());
    let is_valid = is_valid && id.bytes().all(|byte| byte.is_ascii_graphic());
    // It is logged, and keys are not.
    (is_valid && !contains_gateway_key(id.as_bytes())).then(|| id.into())
}

impl RequestHead {
    /// Reads the head that `session` has received; `trusted` are the proxies whose forwarded address is used.
    #[must_use]
    pub fn read(session: &Session, trusted: &[IpNet], now: Timestamp, started: Instant) -> Self {
        let headers = session.headers();
        let peer = session.peer().ip();
        let address = client_ip::address(peer, headers, trusted);
        Self {
            id: RequestId::new(),
            client_request_id: client_request_id(headers),
            endpoint: Endpoint::with_headers(session.method(), session.target(), headers),
            address,
            forwarded: address != peer.to_canonical(),
            origin: headers.get(http::header::ORIGIN).cloned(),
            admitted_at: now,
            started,
        }
    }
}

#[cfg(test)]
mod tests;

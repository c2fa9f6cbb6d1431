//! Replies: their headers, their bodies, and the formats of each surface.

pub mod chat;
pub mod completions;
pub mod messages;
pub mod responses;
pub mod non_text;
mod gzip;

use crate::pacing::ConnectionCut;
use crate::refusal::Refusal;
use crate::request_log::OpenEntry;
use bytes::Bytes;
use futures_util::Stream;
use http::header::{CACHE_CONTROL, CONTENT_ENCODING, CONTENT_TYPE, RETRY_AFTER, SET_COOKIE};
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode};
use hyper::body::{Body, Frame, SizeHint};
use std::pin::Pin;
use std::task::{Context, Poll};

/// A complete body, or one that is streamed.
pub enum Content {
    Whole { bytes: Option<Bytes>, open_entry: Option<Box<(OpenEntry, u64)>> },
    Streamed(Pin<Box<dyn Stream<Item = Result<Frame<Bytes>, ConnectionCut>> + Send>>),
}

impl Content {
    /// A body whose tokens are recorded as sent once the connection takes it.
    pub fn recorded(bytes: impl Into<Bytes>, open_entry: OpenEntry, tokens: u64) -> Self {
        Self::Whole { bytes: Some(bytes.into()), open_entry: Some(Box::new((open_entry, tokens))) }
    }

    pub fn streamed(
        frames: impl Stream<Item = Result<Frame<Bytes>, ConnectionCut>> + Send + 'static,
    ) -> Self {
        Self::Streamed(Box::pin(frames))
    }
}

impl<T: Into<Bytes>> From<T> for Content {
    fn from(bytes: T) -> Self {
        Self::Whole { bytes: Some(bytes.into()), open_entry: None }
    }
}

impl Body for Content {
    type Data = Bytes;
    type Error = ConnectionCut;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, ConnectionCut>>> {
        match self.get_mut() {
            Self::Streamed(frames) => frames.as_mut().poll_next(cx),
            Self::Whole { bytes, open_entry } => {
                if let Some(open_entry) = open_entry.take() {
                    let (mut open_entry, tokens) = *open_entry;
                    open_entry.record_sent(tokens);
                    open_entry.finish();
                }
                Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes))))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        matches!(self, Self::Whole { bytes, .. } if bytes.as_ref().is_none_or(Bytes::is_empty))
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Whole { bytes, .. } => {
                SizeHint::with_exact(bytes.as_ref().map_or(0, |b| b.len() as u64))
            }
            Self::Streamed(_) => SizeHint::default(),
        }
    }
}

/// The headers of every reply: xAI's own, and those of the CDN in front of it.
pub fn common_headers() -> HeaderMap {
    let pairs = [
        ("x-ratelimit-limit-requests", "480"),
        ("x-ratelimit-remaining-requests", "479"),
        ("x-ratelimit-limit-tokens", "4000000"),
        ("x-ratelimit-remaining-tokens", "3999000"),
        ("x-metrics-ttft-ms", "1"),
        ("x-metrics-e2e-ms", "1"),
        ("x-zero-data-retention", "false"),
        ("access-control-allow-origin", "*"),
        ("cf-cache-status", "DYNAMIC"),
        ("cf-ray", "8f00000000000000-FRA"),
        ("server", "cloudflare"),
    ];
    let mut headers = HeaderMap::with_capacity(16);
    for (name, value) in pairs {
        headers.insert(HeaderName::from_static(name), HeaderValue::from_static(value));
    }
    headers.insert(
        SET_COOKIE,
        HeaderValue::from_static("__cf_bm=simulated; path=/; HttpOnly; Secure"),
    );
    headers
}

/// A reply with a JSON body.
pub fn json(headers: &HeaderMap, id: &str, content: impl Into<Content>) -> Response<Content> {
    with_type(headers, id, "application/json", content.into())
}

/// A reply of server-sent events.
pub fn events(headers: &HeaderMap, id: &str, content: Content) -> Response<Content> {
    let mut reply = with_type(headers, id, "text/event-stream", content);
    reply.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    reply
}

/// Adds headers of other gateways and servers that no caller may see.
pub fn leak(reply: &mut Response<Content>) {
    let pairs = [
        ("openai-organization", "org-of-the-operator"),
        ("openai-project", "proj_of_the_operator"),
        ("x-litellm-key-spend", "17.5"),
        ("x-litellm-model-api-base", "https://10.1.2.3/v1"),
        ("x-accel-redirect", "/internal/file"),
        ("authorization", "Bearer sk-of-the-operator"),
        ("x-api-key", "sk-of-the-operator"),
        ("x-envoy-upstream-service-time", "4"),
        ("via", "1.1 gpu-7.internal.example"),
        ("x-served-by", "cache-7.internal.example"),
    ];
    for (name, value) in pairs {
        reply.headers_mut().insert(HeaderName::from_static(name), HeaderValue::from_static(value));
    }
}

/// Compresses the body and sets `content-encoding`.
pub fn gzipped(reply: Response<Content>) -> Response<Content> {
    let (mut head, body) = reply.into_parts();
    head.headers.insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
    let frames = gzip::frames(http_body_util::BodyStream::new(body));
    Response::from_parts(head, Content::streamed(frames))
}

/// A page, as a CDN shows it when nothing answers behind it.
pub fn bad_gateway_page() -> Response<Content> {
    let page = "<!DOCTYPE html><html><head><title>502 Bad gateway</title></head><body><h1>Bad gateway</h1></body></html>";
    let mut reply = Response::new(Content::from(page));
    *reply.status_mut() = StatusCode::BAD_GATEWAY;
    reply.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/html"));
    reply
}

/// Plain text, for the simulator's own routes.
pub fn text(content: impl Into<Content>) -> Response<Content> {
    let mut reply = Response::new(content.into());
    reply.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    reply
}

/// A JPEG, for links in replies.
pub fn image(jpeg: &'static [u8]) -> Response<Content> {
    let mut reply = Response::new(Content::from(jpeg));
    reply.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("image/jpeg"));
    reply
}

pub fn refusal(headers: &HeaderMap, id: &str, refusal: &Refusal) -> Response<Content> {
    let mut reply = json(headers, id, refusal.json());
    *reply.status_mut() = refusal.status();
    match refusal {
        Refusal::TooMany { retry_after } if *retry_after > 0 => {
            reply.headers_mut().insert(RETRY_AFTER, HeaderValue::from(*retry_after));
        }
        // A wrong key is refused before a request gets its id.
        Refusal::WrongKey { .. } => {
            reply.headers_mut().remove("x-request-id");
        }
        _ => {}
    }
    reply
}

fn with_type(
    headers: &HeaderMap,
    id: &str,
    kind: &'static str,
    content: Content,
) -> Response<Content> {
    let mut reply = Response::new(content);
    *reply.headers_mut() = headers.clone();
    reply.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    if let Ok(id) = HeaderValue::from_str(id) {
        reply.headers_mut().insert("x-request-id", id);
    }
    reply
}

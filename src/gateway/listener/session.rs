//! One request and its reply, independent of the HTTP version.

use crate::gateway::listener::http2::Written;
use crate::gateway::listener::pipe::Pipe;
use bytes::{Bytes, BytesMut};
use h2::server::SendResponse;
use h2::{Reason, RecvStream, SendStream};
use http::header::{self, AsHeaderName, IntoHeaderName};
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Uri};
use http_body::Body as _;
use hyper::body::Incoming;
use jiff::fmt::rfc2822::DateTimePrinter;
use std::fmt::{Display, Write};
use std::future::poll_fn;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;
use system::clock;

/// The time in which bytes that were sent before a cut must be written.
const FINAL_WRITE_TIMEOUT: Duration = Duration::from_secs(1);
/// Bytes of the values that are written into a head of the data plane.
const VALUE_BYTES: usize = 192;

/// A request whose head has been read, and the channel for its response.
pub struct Session {
    head: Parts,
    peer: SocketAddr,
    exchange: Exchange,
    /// The time for which the caller may read nothing.
    patience: Duration,
    /// Nothing of the request's body is left.
    is_body_read: bool,
    /// The connection ends with this request.
    is_last: bool,
    has_begun: bool,
    /// Bytes of the reply's body that are still to come, where that is known.
    left: Option<u64>,
}

/// The two ways of a request's body, and of its reply.
enum Exchange {
    Http1 { body: Incoming, pipe: Arc<Pipe> },
    Http2(Box<Streams>),
}

impl Exchange {
    /// True if the request's body is known to have no more bytes.
    fn is_body_over(&self) -> bool {
        match self {
            Self::Http1 { body, .. } => body.is_end_stream(),
            Self::Http2(streams) => streams.body.is_end_stream(),
        }
    }
}

struct Streams {
    body: RecvStream,
    respond: SendResponse<Bytes>,
    reply: Option<SendStream<Bytes>>,
    written: Arc<Written>,
}

/// The head of a reply.
#[derive(Debug, Clone)]
pub struct ResponseHead {
    pub status: StatusCode,
    pub headers: HeaderMap,
    /// The buffer of all values, so that they share one allocation.
    values: BytesMut,
}

/// The caller has gone, or read nothing for too long; the connection ends with this request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the caller disconnected")]
pub struct Gone;

/// The body is broken off or malformed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the request body is truncated or malformed")]
pub struct BodyError;

impl ResponseHead {
    /// A head without headers. A status that is none is a 500.
    #[must_use]
    pub fn new(status: u16) -> Self {
        let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let (headers, values) =
            (HeaderMap::with_capacity(24), BytesMut::with_capacity(VALUE_BYTES));
        Self { status, headers, values }
    }

    /// A head that another has made.
    #[must_use]
    pub fn of(status: StatusCode, headers: HeaderMap) -> Self {
        Self { status, headers, values: BytesMut::new() }
    }

    /// Formats `value` into the shared buffer and sets the header.
    pub fn write(&mut self, name: impl IntoHeaderName, value: impl Display) {
        match write!(self.values, "{value}") {
            Ok(()) => self.set_written(name),
            Err(_) => self.values.clear(),
        }
    }

    /// Sets a header to a number, written into the shared buffer.
    pub fn set_number(&mut self, name: impl IntoHeaderName, number: u64) {
        self.values.extend_from_slice(itoa::Buffer::new().format(number).as_bytes());
        self.set_written(name);
    }

    /// Sets a header to the bytes written since the last one.
    fn set_written(&mut self, name: impl IntoHeaderName) {
        if let Ok(value) = HeaderValue::from_maybe_shared(self.values.split().freeze()) {
            self.headers.insert(name, value);
        }
    }

    /// Sets a header; a value that cannot stand in one is left out.
    pub fn set(&mut self, name: impl IntoHeaderName, value: impl TryInto<HeaderValue>) {
        if let Ok(value) = value.try_into() {
            self.headers.insert(name, value);
        }
    }

    /// Adds a header beside those of its name.
    pub fn add(&mut self, name: impl IntoHeaderName, value: impl TryInto<HeaderValue>) {
        if let Ok(value) = value.try_into() {
            self.headers.append(name, value);
        }
    }

    /// True if a response of this status has no body (RFC 9110 section 6.4.1).
    #[must_use]
    pub fn is_bodiless(&self) -> bool {
        matches!(self.status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED)
    }
}

impl Session {
    /// An HTTP/1.1 request whose response goes into `pipe`. `patience` is the time for which the caller may read
    /// nothing.
    pub(crate) fn http1(
        request: Request<Incoming>,
        pipe: Arc<Pipe>,
        peer: SocketAddr,
        patience: Duration,
    ) -> Self {
        let (head, body) = request.into_parts();
        Self::new(head, peer, Exchange::Http1 { body, pipe }, patience)
    }

    /// A request of HTTP/2, answered by `respond`.
    pub(crate) fn http2(
        request: Request<RecvStream>,
        respond: SendResponse<Bytes>,
        written: Arc<Written>,
        peer: SocketAddr,
        patience: Duration,
    ) -> Self {
        let (head, body) = request.into_parts();
        let streams = Streams { body, respond, reply: None, written };
        Self::new(head, peer, Exchange::Http2(Box::new(streams)), patience)
    }

    fn new(head: Parts, peer: SocketAddr, exchange: Exchange, patience: Duration) -> Self {
        Self {
            head,
            peer,
            is_body_read: exchange.is_body_over(),
            exchange,
            patience,
            is_last: false,
            has_begun: false,
            left: None,
        }
    }

    /// The request's method.
    #[must_use]
    pub fn method(&self) -> &Method {
        &self.head.method
    }

    /// The request's target.
    #[must_use]
    pub fn uri(&self) -> &Uri {
        &self.head.uri
    }

    /// Path and query as they were sent.
    #[must_use]
    pub fn target(&self) -> &str {
        self.head.uri.path_and_query().map_or("/", |target| target.as_str())
    }

    /// The host and port in the request's target: `:authority` of HTTP/2.
    #[must_use]
    pub fn authority(&self) -> Option<&str> {
        self.head.uri.authority().map(http::uri::Authority::as_str)
    }

    /// The request's headers.
    #[must_use]
    pub fn headers(&self) -> &HeaderMap {
        &self.head.headers
    }

    /// Takes the request's headers, and drops its target, so that the read buffer they point into can be freed.
    pub fn take_headers(&mut self) -> HeaderMap {
        self.head.uri = Uri::default();
        std::mem::take(&mut self.head.headers)
    }

    /// One of the request's headers.
    #[must_use]
    pub fn header(&self, name: impl AsHeaderName) -> Option<&HeaderValue> {
        self.headers().get(name)
    }

    /// The other end of the connection.
    #[must_use]
    pub fn peer(&self) -> SocketAddr {
        self.peer
    }

    /// True if the request has no body, or all of it has been read.
    #[must_use]
    pub fn is_body_empty(&self) -> bool {
        self.is_body_read
    }

    /// The next bytes of the body, `None` at its end. A caller that expects `100 Continue` is sent it.
    ///
    /// # Errors
    /// [`BodyError`]; the connection cannot be used again.
    pub async fn read_body(&mut self) -> Result<Option<Bytes>, BodyError> {
        let read = match &mut self.exchange {
            Exchange::Http1 { body, .. } => next_of(body).await,
            Exchange::Http2(streams) => match streams.body.data().await {
                Some(Ok(bytes)) => {
                    let _ = streams.body.flow_control().release_capacity(bytes.len());
                    Ok(Some(bytes))
                }
                Some(Err(_)) => Err(BodyError),
                None => Ok(None),
            },
        };
        self.is_body_read = matches!(read, Ok(None)) || self.exchange.is_body_over();
        read
    }

    /// Sends a reply in one piece.
    ///
    /// # Errors
    /// [`Gone`].
    pub async fn reply(&mut self, mut head: ResponseHead, body: Bytes) -> Result<(), Gone> {
        let has_body = !head.is_bodiless();
        if has_body {
            head.set_number(header::CONTENT_LENGTH, body.len() as u64);
        }
        let body = if has_body && self.head.method != Method::HEAD { body } else { Bytes::new() };
        self.prepare(&mut head);
        match &mut self.exchange {
            Exchange::Http1 { pipe, .. } => {
                pipe.send_whole(head, body);
                poll_fn(|cx| pipe.poll_whole(cx)).await
            }
            Exchange::Http2(streams) => {
                streams.begin(head, body.is_empty())?;
                if body.is_empty() {
                    return Ok(());
                }
                self.send(body, true).await
            }
        }
    }

    /// Sends a head, whose body follows by [`Session::send`].
    ///
    /// # Errors
    /// [`Gone`].
    #[expect(clippy::unused_async, reason = "like the other writes")]
    pub async fn send_head(&mut self, mut head: ResponseHead) -> Result<(), Gone> {
        self.prepare(&mut head);
        // Nothing follows a head that says so.
        let is_whole = self.head.method == Method::HEAD || self.left == Some(0);
        match &mut self.exchange {
            Exchange::Http1 { pipe, .. } if is_whole => pipe.send_whole(head, Bytes::new()),
            Exchange::Http1 { pipe, .. } => pipe.send_head(head)?,
            Exchange::Http2(streams) => streams.begin(head, is_whole)?,
        }
        Ok(())
    }

    fn prepare(&mut self, head: &mut ResponseHead) {
        self.has_begun = true;
        let length = head.headers.get(header::CONTENT_LENGTH);
        self.left = length.and_then(|length| length.to_str().ok()?.parse().ok());
        // The unread part of a body is not the next request.
        let is_last = self.is_last || !self.is_body_read;
        if is_last && matches!(self.exchange, Exchange::Http1 { .. }) {
            head.set(header::CONNECTION, HeaderValue::from_static("close"));
        }
    }

    /// Sends a piece of a body, and its end with the last one.
    ///
    /// # Errors
    /// [`Gone`].
    pub async fn send(&mut self, bytes: Bytes, is_last: bool) -> Result<(), Gone> {
        if self.head.method == Method::HEAD || self.left == Some(0) {
            return Ok(());
        }
        self.left = self.left.map(|left| left.saturating_sub(bytes.len() as u64));
        let is_last = is_last || self.left == Some(0);
        let patience = self.patience;
        match &mut self.exchange {
            Exchange::Http1 { pipe, .. } => {
                let mut part = Some(bytes);
                poll_fn(|cx| pipe.poll_send(cx, &mut part, is_last)).await?;
                if is_last { poll_fn(|cx| pipe.poll_whole(cx)).await } else { Ok(()) }
            }
            Exchange::Http2(streams) => {
                let sent = streams.send(bytes, is_last, patience).await;
                if sent.is_err() {
                    streams.reset();
                }
                sent
            }
        }
    }

    /// Ends the connection once the reply is sent.
    pub fn close_after_reply(&mut self) {
        self.is_last = true;
        if let (true, Exchange::Http1 { pipe, .. }) = (self.has_begun, &self.exchange) {
            pipe.be_last();
        }
    }

    /// Ends the connection, or over HTTP/2 the stream, now. What was given up half way cannot be followed by
    /// anything: not by another reply, and not by a last chunk.
    pub fn abort(&mut self) {
        match &mut self.exchange {
            Exchange::Http1 { pipe, .. } => pipe.abort(),
            Exchange::Http2(streams) => streams.reset(),
        }
    }

    /// Ends a reply that has been cut in a way that looks cut: HTTP/1.1 leaves out the last chunk, and HTTP/2
    /// resets the stream. What was sent before arrives, if the caller reads it.
    pub async fn cut_off(&mut self) {
        match &mut self.exchange {
            Exchange::Http1 { pipe, .. } => pipe.cut(),
            Exchange::Http2(streams) => {
                let _ = tokio::time::timeout(FINAL_WRITE_TIMEOUT, streams.written.all()).await;
                streams.reset();
            }
        }
    }

    /// Resolves when the caller's connection has ended. Bytes of a next request are buffered.
    pub async fn caller_gone(&mut self) {
        match &mut self.exchange {
            Exchange::Http1 { pipe, .. } => poll_fn(|cx| pipe.poll_gone(cx)).await,
            Exchange::Http2(streams) => {
                let _ = poll_fn(|cx| match &mut streams.reply {
                    Some(reply) => reply.poll_reset(cx),
                    None => streams.respond.poll_reset(cx),
                })
                .await;
            }
        }
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        if let Exchange::Http1 { pipe, .. } = &self.exchange {
            pipe.close();
        }
    }
}

/// The next data of a body; trailers are dropped.
async fn next_of(body: &mut Incoming) -> Result<Option<Bytes>, BodyError> {
    loop {
        let frame = poll_fn(|cx| Pin::new(&mut *body).poll_frame(cx)).await;
        let Some(frame) = frame else { return Ok(None) };
        if let Ok(bytes) = frame.map_err(|_| BodyError)?.into_data() {
            return Ok(Some(bytes));
        }
    }
}

impl Streams {
    fn begin(&mut self, head: ResponseHead, is_whole: bool) -> Result<(), Gone> {
        let mut response = Response::new(());
        *response.status_mut() = head.status;
        *response.headers_mut() = head.headers;
        let date = DateTimePrinter::new().timestamp_to_rfc9110_string(&clock::now());
        if let Some(date) = date.ok().and_then(|date| HeaderValue::try_from(date).ok()) {
            response.headers_mut().insert(header::DATE, date);
        }
        self.reply = Some(self.respond.send_response(response, is_whole).map_err(|_| Gone)?);
        Ok(())
    }

    /// Sends bytes as the caller's window has room for them, for which each part may wait for `patience`.
    async fn send(
        &mut self,
        mut bytes: Bytes,
        is_last: bool,
        patience: Duration,
    ) -> Result<(), Gone> {
        let reply = self.reply.as_mut().ok_or(Gone)?;
        while !bytes.is_empty() {
            reply.reserve_capacity(bytes.len());
            let room = tokio::time::timeout(patience, poll_fn(|cx| reply.poll_capacity(cx))).await;
            let Ok(Some(Ok(room))) = room else { return Err(Gone) };
            let part = bytes.split_to(room.min(bytes.len()));
            let is_end = is_last && bytes.is_empty();
            if !part.is_empty() {
                reply.send_data(part, is_end).map_err(|_| Gone)?;
            }
            if is_end {
                return Ok(());
            }
        }
        if is_last { reply.send_data(bytes, true).map_err(|_| Gone) } else { Ok(()) }
    }

    fn reset(&mut self) {
        match &mut self.reply {
            Some(reply) => reply.send_reset(Reason::CANCEL),
            None => self.respond.send_reset(Reason::CANCEL),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_in_the_shared_buffer_do_not_mix() {
        let mut head = ResponseHead::new(200);
        head.write("x-first", "a b");
        head.set_number("x-second", u64::MAX);
        head.set("x-third", HeaderValue::from_static("c"));
        let long = "d".repeat(2 * VALUE_BYTES);
        head.write("x-fourth", &long);
        head.write("x-refused", "line\nbreak");
        head.set_number("x-fifth", 0);
        let value = |name: &str| head.headers.get(name).map(|value| value.to_str().unwrap());
        assert_eq!(value("x-first"), Some("a b"));
        assert_eq!(value("x-second"), Some("18446744073709551615"));
        assert_eq!(value("x-third"), Some("c"));
        assert_eq!(value("x-fourth"), Some(long.as_str()));
        assert_eq!(value("x-refused"), None);
        assert_eq!(value("x-fifth"), Some("0"));
    }
}

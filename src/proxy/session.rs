//! One request and its reply, as the data plane sees them: the codec behind it is nobody else's business.

use bytes::Bytes;
use http::header::{self, AsHeaderName, IntoHeaderName};
use http::{HeaderMap, HeaderValue, Method, StatusCode, Uri, Version};
use pingora_core::protocols::http::ServerSession;
use pingora_core::{Error, ErrorType, Result as PingoraResult};
use pingora_http::ResponseHeader;
use std::net::SocketAddr;
use std::time::Duration;

/// Bytes of a body that are written at once.
const PART: usize = 64 * 1024;
/// Time for the connection to write what is queued for a stream that is about to be reset.
const RESET_DELAY: Duration = Duration::from_millis(50);
/// How long closing a connection may take.
const ABORT: Duration = Duration::from_secs(1);

/// A request whose head has been read, and the way its reply goes.
pub struct Session {
    inner: ServerSession,
    /// How long the caller may read nothing.
    patience: Duration,
    /// Whether the caller has been told to send its body, where it waits for that.
    is_body_asked_for: bool,
}

/// The head of a reply.
#[derive(Debug, Clone)]
pub struct ReplyHead {
    pub status: StatusCode,
    pub headers: HeaderMap,
}

/// The caller has gone, or read nothing for too long; the connection ends with this request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the caller is gone")]
pub struct Gone;

/// Why a request's body does not come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BodyError {
    #[error("the body came too slowly")]
    Slow,
    #[error("the body is broken off or malformed")]
    Cut,
}

impl ReplyHead {
    /// A head without headers. A status that is none is a 500.
    #[must_use]
    pub fn new(status: u16) -> Self {
        let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        Self { status, headers: HeaderMap::with_capacity(24) }
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

    /// Whether a reply of this status has no body (RFC 9110 section 6.4.1).
    #[must_use]
    pub fn is_bodiless(&self) -> bool {
        matches!(self.status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED)
    }
}

impl Session {
    /// The request that `inner` has read the head of.
    pub(super) fn new(inner: ServerSession, patience: Duration) -> Self {
        Self { inner, patience, is_body_asked_for: false }
    }

    /// What the connection goes on with.
    pub(super) fn into_inner(self) -> ServerSession {
        self.inner
    }

    /// The request's method.
    #[must_use]
    pub fn method(&self) -> &Method {
        &self.inner.req_header().method
    }

    /// The request's target.
    #[must_use]
    pub fn uri(&self) -> &Uri {
        &self.inner.req_header().uri
    }

    /// Path and query as they were sent.
    #[must_use]
    pub fn target(&self) -> &str {
        std::str::from_utf8(self.inner.req_header().raw_path()).unwrap_or("/v1/not-utf-8")
    }

    /// The protocol's version.
    #[must_use]
    pub fn version(&self) -> Version {
        self.inner.req_header().version
    }

    /// The request's headers.
    #[must_use]
    pub fn headers(&self) -> &HeaderMap {
        &self.inner.req_header().headers
    }

    /// One of the request's headers.
    #[must_use]
    pub fn header(&self, name: impl AsHeaderName) -> Option<&HeaderValue> {
        self.headers().get(name)
    }

    /// The other end of the connection.
    #[must_use]
    pub fn peer(&self) -> Option<SocketAddr> {
        self.inner.client_addr().and_then(|peer| peer.as_inet()).copied()
    }

    /// Whether the request has no body.
    #[must_use]
    pub fn is_body_empty(&mut self) -> bool {
        self.inner.is_body_empty()
    }

    /// The next bytes of the body, `None` at its end. A caller that waits to be asked for it is asked.
    ///
    /// # Errors
    /// [`BodyError`]; the connection cannot be used again.
    pub async fn read_body(&mut self) -> Result<Option<Bytes>, BodyError> {
        if !self.is_body_asked_for {
            self.is_body_asked_for = true;
            if self.expects_continue() {
                let asked = self.inner.write_continue_response().await;
                asked.map_err(|_| BodyError::Cut)?;
            }
        }
        self.inner.read_request_body().await.map_err(|e| match e.etype() {
            ErrorType::ReadTimedout => BodyError::Slow,
            _ => BodyError::Cut,
        })
    }

    /// RFC 9110 section 10.1.1: a client may wait for this before it sends the body. One that speaks
    /// HTTP/1.0 would take it for the answer.
    fn expects_continue(&self) -> bool {
        if self.version() == Version::HTTP_10 {
            return false;
        }
        let expect = self.header(header::EXPECT);
        expect.is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"100-continue"))
    }

    /// Sends a reply in one piece.
    ///
    /// # Errors
    /// [`Gone`].
    pub async fn reply(&mut self, mut head: ReplyHead, body: Bytes) -> Result<(), Gone> {
        if head.is_bodiless() {
            return self.send_head(head).await;
        }
        head.set(header::CONTENT_LENGTH, body.len());
        self.send_head(head).await?;
        self.send(body, true).await
    }

    /// Sends a head, whose body follows by [`Session::send`].
    ///
    /// # Errors
    /// [`Gone`].
    pub async fn send_head(&mut self, head: ReplyHead) -> Result<(), Gone> {
        let is_undelimited =
            !head.is_bodiless() && !head.headers.contains_key(header::CONTENT_LENGTH);
        let mut written =
            ResponseHeader::build(head.status, Some(head.headers.len() + 1)).map_err(|_| Gone)?;
        for (name, value) in &head.headers {
            let _ = written.append_header(name.clone(), value.clone());
        }
        if is_undelimited && self.version() == Version::HTTP_11 {
            let _ = written.insert_header(header::TRANSFER_ENCODING, "chunked");
        }
        let sent = within(self.patience, self.inner.write_response_header(Box::new(written))).await;
        self.unless_failed(sent).await
    }

    /// Sends a piece of a body, and its end with the last one. A long one goes in parts, so that a caller
    /// that reads slowly is told from one that reads nothing.
    ///
    /// # Errors
    /// [`Gone`].
    pub async fn send(&mut self, mut bytes: Bytes, is_last: bool) -> Result<(), Gone> {
        loop {
            let part = bytes.split_to(bytes.len().min(PART));
            let is_end = bytes.is_empty();
            let write = self.inner.write_response_body(part, is_last && is_end);
            let sent = within(self.patience, write).await;
            self.unless_failed(sent).await?;
            if is_end {
                return Ok(());
            }
        }
    }

    async fn unless_failed(&mut self, sent: PingoraResult<()>) -> Result<(), Gone> {
        if sent.is_ok() {
            return Ok(());
        }
        self.abort().await;
        Err(Gone)
    }

    /// Ends the connection once the reply is sent.
    pub fn close_after_reply(&mut self) {
        self.inner.set_keepalive(None);
    }

    /// Ends the connection, or over HTTP/2 the stream, now. What was given up half way cannot be followed by
    /// anything: not by another reply, and not by a last chunk.
    pub async fn abort(&mut self) {
        self.close_after_reply();
        let _ = tokio::time::timeout(ABORT, self.inner.shutdown()).await;
    }

    /// Ends a reply that has been cut in a way that looks cut: HTTP/1.1 leaves out the last chunk, and HTTP/2
    /// resets the stream. What was sent before arrives, if the caller reads it.
    pub async fn cut_off(&mut self) {
        if let ServerSession::H2(_) = self.inner {
            // h2 discards data that is still queued when a stream is reset, and does not report when it is written.
            tokio::time::sleep(RESET_DELAY).await;
        }
        self.abort().await;
    }

    /// Resolves when the caller's connection has ended. Bytes of a next request are kept for it.
    pub async fn caller_gone(&mut self) {
        while self.inner.read_body_or_idle(true).await.is_ok() {}
    }
}

/// pingora would wait for ever for a caller that reads nothing.
async fn within(
    patience: Duration,
    write: impl Future<Output = PingoraResult<()>>,
) -> PingoraResult<()> {
    let written = tokio::time::timeout(patience, write).await;
    written
        .unwrap_or_else(|_| Error::e_explain(ErrorType::WriteTimedout, "the caller reads nothing"))
}

//! One request and its reply on an HTTP/1.1 connection. hyper reads and writes; time limits and the
//! classification of errors are here.
//!
//! A connection has no task: whoever waits for its reply drives it. So an [`Exchange`] that is dropped
//! closes its connection, and a caller who reads slowly slows the upstream.

use super::concurrency::Permit;
use super::tap::{Tap, Traffic};
use bytes::Bytes;
use futures_util::FutureExt;
use http::{HeaderMap, Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::{Body, Incoming};
use hyper::client::conn::http1::{self, Builder, SendRequest};
use hyper_util::rt::TokioIo;
use pingora_core::protocols::Stream;
use std::collections::VecDeque;
use std::future::poll_fn;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};
use system::clock;

/// Read buffer of a reply, and the largest head. Buffers begin with 8 KiB.
const MAX_BUFFER_BYTES: usize = 64 * 1024;
/// Large enough for a slow link and a 32 MiB body; a stuck upstream is found by the other waits.
const WRITE_TIMEOUT: Duration = Duration::from_secs(60);
/// Interim replies (1xx) before the reply; servers send one or two.
const MAX_INTERIM_REPLIES: u32 = 16;
/// Reads one after the other that bring no body, and how long they may take.
const MAX_FRAMING_READS: u32 = 64;
const FRAMING_TIMEOUT: Duration = Duration::from_secs(5);

/// Reason why no response head arrived.
#[derive(Debug, thiserror::Error)]
pub enum SendError {
    #[error("the concurrency limit of the upstream is reached")]
    Busy,
    #[error("failed to connect: {0}")]
    Connect(String),
    #[error("connecting timed out")]
    ConnectTimeout,
    #[error("sending the request timed out")]
    WriteTimeout,
    #[error("no response in time")]
    FirstByteTimeout,
    #[error("the connection was closed before a response: {0}")]
    Closed(&'static str),
    #[error("the response is not valid HTTP: {0}")]
    NotHttp(&'static str),
}

impl SendError {
    /// The word for it in the list of an upstream's failures.
    #[must_use]
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Busy => "busy",
            Self::Connect(_) => "connect",
            Self::ConnectTimeout => "connect_timeout",
            Self::WriteTimeout => "write_timeout",
            Self::FirstByteTimeout => "first_byte_timeout",
            Self::Closed(_) => "closed",
            Self::NotHttp(_) => "not_http",
        }
    }
}

/// Reason why a response body ended before it was complete.
#[derive(Debug, thiserror::Error)]
pub enum BodyError {
    #[error("the upstream stopped sending")]
    Idle,
    #[error("the connection to the upstream failed: {0}")]
    Broken(&'static str),
}

/// What [`Exchange::read_ahead`] found.
pub enum ReadAhead {
    Bytes(Bytes),
    /// The body is complete, or broken off.
    End,
    /// The upstream stopped sending.
    Idle,
}

/// A connection to an upstream.
pub(super) struct Connection {
    pub address: SocketAddr,
    sender: SendRequest<Full<Bytes>>,
    driver: Driver,
    traffic: Arc<Traffic>,
}

/// hyper's half of a connection; empty once that has ended. Boxed, because exchanges are moved about.
struct Driver(Option<Box<http1::Connection<TokioIo<Tap>, Full<Bytes>>>>);

impl Driver {
    /// Polls `work`, and the connection that it waits for.
    fn poll<T>(
        &mut self,
        cx: &mut Context<'_>,
        mut work: impl FnMut(&mut Context<'_>) -> Poll<T>,
    ) -> Poll<T> {
        if let Poll::Ready(done) = work(cx) {
            return Poll::Ready(done);
        }
        if let Some(connection) = &mut self.0
            && Pin::new(&mut **connection).poll(cx).is_ready()
        {
            self.0 = None;
        }
        work(cx)
    }
}

impl Connection {
    /// Starts HTTP/1.1 on `stream`.
    pub async fn over(stream: Stream, address: SocketAddr) -> Result<Self, SendError> {
        let traffic = Arc::new(Traffic::default());
        let io = TokioIo::new(Tap::new(stream, Arc::clone(&traffic)));
        let shaken = Builder::new().max_buf_size(MAX_BUFFER_BYTES).handshake(io).await;
        let (sender, connection) = shaken.map_err(|e| send_error(&e))?;
        Ok(Self { address, sender, driver: Driver(Some(Box::new(connection))), traffic })
    }

    /// True if a request can be sent: since the last reply the connection was neither closed nor sent an
    /// unrequested reply.
    pub fn is_reusable(&mut self) -> bool {
        let driver = &mut self.driver;
        let polled = poll_fn(|cx| driver.poll(cx, |_| Poll::<()>::Pending));
        let _ = tokio::task::unconstrained(polled).now_or_never();
        self.driver.0.is_some() && self.sender.is_ready()
    }

    /// True if a byte of the latest reply has arrived.
    pub fn has_replied(&self) -> bool {
        self.traffic.has_received()
    }

    /// Sends a request, and waits for the head of its reply for at most `first_byte` once it is sent. `sent` is set
    /// when all of it has been written.
    pub async fn send(
        &mut self,
        mut request: Request<Full<Bytes>>,
        sent: &AtomicBool,
        first_byte: Duration,
    ) -> Result<Response<Incoming>, SendError> {
        self.traffic.begin();
        let counted = Arc::clone(&self.traffic);
        hyper::ext::on_informational(&mut request, move |_| counted.count_interim());
        let Self { sender, driver, traffic, .. } = self;
        let mut answer = pin!(sender.send_request(request));
        let mut driven = |cx: &mut Context<'_>| {
            let answered = driver.poll(cx, |cx| answer.as_mut().poll(cx));
            if traffic.interim() > MAX_INTERIM_REPLIES {
                return Poll::Ready(Err(SendError::NotHttp("too many interim responses (1xx)")));
            }
            answered.map(|answered| match answered {
                // The request did not ask for another protocol.
                Ok(reply) if reply.status().is_informational() => {
                    Err(SendError::NotHttp("unrequested protocol switch (101)"))
                }
                answered => answered.map_err(|e| send_error(&e)),
            })
        };
        let writing = poll_fn(|cx| match driven(cx) {
            Poll::Ready(answered) => Poll::Ready(Some(answered)),
            Poll::Pending if traffic.is_sent() => Poll::Ready(None),
            Poll::Pending => Poll::Pending,
        });
        let written = tokio::time::timeout(WRITE_TIMEOUT, writing).await;
        sent.fetch_or(written.is_ok(), Ordering::Relaxed);
        match written {
            Ok(Some(answered)) => answered,
            Ok(None) => {
                let answered = tokio::time::timeout(first_byte, poll_fn(driven)).await;
                answered.map_err(|_| SendError::FirstByteTimeout)?
            }
            Err(_) => Err(SendError::WriteTimeout),
        }
    }
}

/// A request whose response head has arrived.
pub struct Exchange {
    connection: Connection,
    status: StatusCode,
    headers: HeaderMap,
    body: Incoming,
    idle: Duration,
    /// Part of the body that was read together with the head.
    ahead: VecDeque<Result<Option<Bytes>, BodyError>>,
    framing: Framing,
    _permit: Permit,
}

impl Exchange {
    pub(super) fn new(
        connection: Connection,
        reply: Response<Incoming>,
        idle: Duration,
        permit: Permit,
    ) -> Self {
        let (head, body) = reply.into_parts();
        Self {
            connection,
            status: head.status,
            headers: head.headers,
            body,
            idle,
            ahead: VecDeque::new(),
            framing: Framing::default(),
            _permit: permit,
        }
    }

    /// The connection, without the concurrency permit.
    pub(super) fn into_connection(self) -> Connection {
        self.connection
    }

    #[must_use]
    pub fn status(&self) -> StatusCode {
        self.status
    }

    #[must_use]
    pub fn headers(&self) -> &HeaderMap {
        &self.headers
    }

    /// Drops the headers, so that the read buffer they point into can be freed.
    pub fn drop_headers(&mut self) {
        self.headers = HeaderMap::new();
    }

    /// A header of the reply; `None` if absent or not text.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// Idle timeout of this upstream's replies. A caller that drops [`Exchange::next`] before
    /// it is ready, to look at other things, has to keep this time itself.
    #[must_use]
    pub fn idle(&self) -> Duration {
        self.idle
    }

    /// The next bytes of the body, `None` at its end. Safe to drop before it is ready.
    ///
    /// # Errors
    /// [`BodyError`]: the body ended early, or nothing came for the upstream's idle time.
    pub async fn next(&mut self) -> Result<Option<Bytes>, BodyError> {
        match self.ahead.pop_front() {
            Some(read) => read,
            None => self.read().await,
        }
    }

    /// As [`Exchange::next`] without the idle timeout, for callers that measure the silence themselves.
    ///
    /// # Errors
    /// [`BodyError`]: the body ended early.
    pub async fn next_untimed(&mut self) -> Result<Option<Bytes>, BodyError> {
        match self.ahead.pop_front() {
            Some(read) => read,
            None => poll_fn(|cx| self.poll_read(cx)).await,
        }
    }

    /// Reads on and returns what came, which [`Exchange::next`] will return in its turn. Safe to drop before it is
    /// ready.
    pub async fn read_ahead(&mut self) -> ReadAhead {
        let read = self.read().await;
        let ahead = match &read {
            Ok(Some(bytes)) => ReadAhead::Bytes(bytes.clone()),
            Err(BodyError::Idle) => ReadAhead::Idle,
            Ok(None) | Err(BodyError::Broken(_)) => ReadAhead::End,
        };
        self.ahead.push_back(read);
        ahead
    }

    async fn read(&mut self) -> Result<Option<Bytes>, BodyError> {
        let idle = self.idle;
        let read = tokio::time::timeout(idle, poll_fn(|cx| self.poll_read(cx))).await;
        read.unwrap_or(Err(BodyError::Idle))
    }

    fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Bytes>, BodyError>> {
        let Self { connection, body, framing, .. } = self;
        loop {
            let frame = connection.driver.poll(cx, |cx| Pin::new(&mut *body).poll_frame(cx));
            let Poll::Ready(frame) = frame else {
                framing.count(connection.traffic.take_reads(), clock::instant())?;
                return Poll::Pending;
            };
            match frame {
                None => return Poll::Ready(Ok(None)),
                Some(Err(e)) => return Poll::Ready(Err(BodyError::Broken(kind(&e)))),
                Some(Ok(frame)) => {
                    // Trailers are dropped.
                    if let Ok(bytes) = frame.into_data() {
                        connection.traffic.take_reads();
                        *framing = Framing::default();
                        return Poll::Ready(Ok(Some(bytes)));
                    }
                }
            }
        }
    }
}

/// Reads that brought no body: parts of chunk lines, and trailers, which are dropped.
#[derive(Debug, Default)]
struct Framing {
    reads: u32,
    since: Option<Instant>,
}

impl Framing {
    /// # Errors
    /// Too many such reads, or too long, one after the other.
    fn count(&mut self, reads: u32, now: Instant) -> Result<(), BodyError> {
        if reads == 0 {
            return Ok(());
        }
        self.reads += reads;
        let since = *self.since.get_or_insert(now);
        if self.reads > MAX_FRAMING_READS || now.duration_since(since) > FRAMING_TIMEOUT {
            return Err(BodyError::Broken("endless trailers or chunk lines"));
        }
        Ok(())
    }
}

fn send_error(error: &hyper::Error) -> SendError {
    if error.is_parse() || error.is_user() {
        SendError::NotHttp(kind(error))
    } else {
        SendError::Closed(kind(error))
    }
}

/// The kind of an error alone: its text may have bytes that could not be read, and those may be a key, a
/// prompt or an answer.
fn kind(error: &hyper::Error) -> &'static str {
    if error.is_parse_too_large() {
        "response headers too large"
    } else if error.is_parse() {
        "malformed response headers"
    } else if error.is_incomplete_message() {
        "truncated message"
    } else if error.is_canceled() || error.is_closed() {
        "closed by the upstream"
    } else if error.is_user() {
        "the request cannot be written"
    } else {
        "connection error"
    }
}

//! One request and its reply on a connection of HTTP/1.1. hyper reads and writes; what it reads through,
//! how long it may take and what is worth sending again is decided here.
//!
//! A connection has no task: whoever waits for its reply drives it. So an [`Exchange`] that is dropped
//! closes its connection, and a caller who reads slowly slows the upstream.

use super::places::Place;
use super::tap::{Seen, Tap};
use bytes::Bytes;
use futures_util::FutureExt;
use http::{HeaderMap, Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::{Body, Incoming};
use hyper::client::conn::http1::{Builder, Connection, SendRequest};
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

/// Most that is buffered of a reply, which its head has to fit in. Buffers begin with 8 KiB.
const BUFFER: usize = 64 * 1024;
/// Large enough for a slow link and a 32 MiB body; a stuck upstream is found by the other waits.
const WRITE_TIMEOUT: Duration = Duration::from_secs(60);
/// Interim replies (1xx) before the reply; servers send one or two.
const MAX_INTERIM_REPLIES: u32 = 16;
/// Reads one after the other that bring no body, and how long they may take.
const MAX_FRAMING_READS: u32 = 64;
const FRAMING_TIMEOUT: Duration = Duration::from_secs(5);

/// Why no reply's head came.
#[derive(Debug, thiserror::Error)]
pub enum SendError {
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

/// A reply's body ended before it was complete.
#[derive(Debug, thiserror::Error)]
pub enum Cut {
    #[error("the upstream stopped sending")]
    Idle,
    #[error("the connection to the upstream failed: {0}")]
    Broken(&'static str),
}

/// A connection to an upstream.
pub(super) struct Wire {
    pub address: SocketAddr,
    sender: SendRequest<Full<Bytes>>,
    driver: Driver,
    seen: Arc<Seen>,
}

/// hyper's half of a connection; empty once that has ended. Boxed, because exchanges are moved about.
struct Driver(Option<Box<Connection<TokioIo<Tap>, Full<Bytes>>>>);

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

impl Wire {
    /// Speaks HTTP/1.1 over `stream`.
    pub async fn over(stream: Stream, address: SocketAddr) -> Result<Self, SendError> {
        let seen = Arc::new(Seen::default());
        let io = TokioIo::new(Tap::new(stream, Arc::clone(&seen)));
        let shaken = Builder::new().max_buf_size(BUFFER).handshake(io).await;
        let (sender, connection) = shaken.map_err(|e| send_error(&e))?;
        Ok(Self { address, sender, driver: Driver(Some(Box::new(connection))), seen })
    }

    /// Whether a request can be sent: nothing came since the last reply, neither the connection's end nor an
    /// unrequested reply.
    pub fn is_quiet(&mut self) -> bool {
        let driver = &mut self.driver;
        let looked = poll_fn(|cx| driver.poll(cx, |_| Poll::<()>::Pending));
        let _ = tokio::task::unconstrained(looked).now_or_never();
        self.driver.0.is_some() && self.sender.is_ready()
    }

    /// Whether a byte of the latest reply has come.
    pub fn has_replied(&self) -> bool {
        self.seen.has_received()
    }

    /// Sends a request, and waits for the head of its reply for at most `first_byte` once it is sent. `sent` is set
    /// when all of it has been written.
    pub async fn send(
        &mut self,
        mut request: Request<Full<Bytes>>,
        sent: &AtomicBool,
        first_byte: Duration,
    ) -> Result<Response<Incoming>, SendError> {
        self.seen.begin();
        let counted = Arc::clone(&self.seen);
        hyper::ext::on_informational(&mut request, move |_| counted.count_interim());
        let Self { sender, driver, seen, .. } = self;
        let mut answer = pin!(sender.send_request(request));
        let mut driven = |cx: &mut Context<'_>| {
            let answered = driver.poll(cx, |cx| answer.as_mut().poll(cx));
            if seen.interim() > MAX_INTERIM_REPLIES {
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
            Poll::Pending if seen.is_sent() => Poll::Ready(None),
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

/// One request under way.
pub struct Exchange {
    wire: Wire,
    status: StatusCode,
    headers: HeaderMap,
    body: Incoming,
    idle: Duration,
    /// Part of the body that was read together with the head.
    ahead: VecDeque<Result<Option<Bytes>, Cut>>,
    framing: Framing,
    _place: Place,
}

impl Exchange {
    pub(super) fn new(wire: Wire, reply: Response<Incoming>, idle: Duration, place: Place) -> Self {
        let (head, body) = reply.into_parts();
        Self {
            wire,
            status: head.status,
            headers: head.headers,
            body,
            idle,
            ahead: VecDeque::new(),
            framing: Framing::default(),
            _place: place,
        }
    }

    /// The connection, without the place.
    pub(super) fn into_wire(self) -> Wire {
        self.wire
    }

    /// The reply's status.
    #[must_use]
    pub fn status(&self) -> StatusCode {
        self.status
    }

    /// The reply's headers.
    #[must_use]
    pub fn headers(&self) -> &HeaderMap {
        &self.headers
    }

    /// Drops the headers, so that the read buffer they point into can be freed.
    pub fn drop_headers(&mut self) {
        self.headers = HeaderMap::new();
    }

    /// One header of the reply, where it is text.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// How long a silence of this upstream may last. A caller that drops [`Exchange::next`] before
    /// it is ready, to look at other things, has to keep this time itself.
    #[must_use]
    pub fn idle(&self) -> Duration {
        self.idle
    }

    /// The next bytes of the body, `None` at its end. Safe to drop before it is ready.
    ///
    /// # Errors
    /// [`Cut`]: the body ended early, or nothing came for the upstream's idle time.
    pub async fn next(&mut self) -> Result<Option<Bytes>, Cut> {
        match self.ahead.pop_front() {
            Some(read) => read,
            None => self.read().await,
        }
    }

    /// As [`Exchange::next`], however long the upstream is silent: for who keeps that time anyway.
    ///
    /// # Errors
    /// [`Cut`]: the body ended early.
    pub async fn next_whenever(&mut self) -> Result<Option<Bytes>, Cut> {
        match self.ahead.pop_front() {
            Some(read) => read,
            None => poll_fn(|cx| self.poll_read(cx)).await,
        }
    }

    /// Reads on and returns what came, which [`Exchange::next`] will return in its turn; `None` at
    /// the end, whatever its kind. Safe to drop before it is ready.
    pub async fn read_ahead(&mut self) -> Option<Bytes> {
        let read = self.read().await;
        let bytes = read.as_ref().ok().cloned().flatten();
        self.ahead.push_back(read);
        bytes
    }

    async fn read(&mut self) -> Result<Option<Bytes>, Cut> {
        let idle = self.idle;
        let read = tokio::time::timeout(idle, poll_fn(|cx| self.poll_read(cx))).await;
        read.unwrap_or(Err(Cut::Idle))
    }

    fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Bytes>, Cut>> {
        let Self { wire, body, framing, .. } = self;
        loop {
            let frame = wire.driver.poll(cx, |cx| Pin::new(&mut *body).poll_frame(cx));
            let Poll::Ready(frame) = frame else {
                framing.note(wire.seen.take_reads(), clock::instant())?;
                return Poll::Pending;
            };
            match frame {
                None => return Poll::Ready(Ok(None)),
                Some(Err(e)) => return Poll::Ready(Err(Cut::Broken(kind(&e)))),
                Some(Ok(frame)) => {
                    // Trailers are dropped.
                    if let Ok(bytes) = frame.into_data() {
                        wire.seen.take_reads();
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
    fn note(&mut self, reads: u32, now: Instant) -> Result<(), Cut> {
        if reads == 0 {
            return Ok(());
        }
        self.reads += reads;
        let since = *self.since.get_or_insert(now);
        if self.reads > MAX_FRAMING_READS || now.duration_since(since) > FRAMING_TIMEOUT {
            return Err(Cut::Broken("endless trailers or chunk lines"));
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

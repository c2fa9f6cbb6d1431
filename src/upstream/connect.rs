//! Connections to upstreams: pooled, verified, every wait bounded.
//!
//! The only file that knows pingora's client side. One [`Connections`] serves one upstream, so
//! its pool and its certificate authority are its own. An [`Exchange`] that is dropped closes its
//! connection (that is how a call is cancelled); one that was read to its end may be released.

use super::breaker::Breaker;
use super::catalog::{Secret, Upstream};
use super::idle::Idle;
use super::places::{Place, Places};
use super::rests::Rests;
use crate::clock;
use crate::openai::redact::Redactor;
use bytes::{Buf, Bytes};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use pingora_core::connectors::{ConnectorOptions, TransportConnector};
use pingora_core::protocols::Stream;
use pingora_core::protocols::http::v1::client::{HttpSession, http_req_header_to_wire};
use pingora_core::upstreams::peer::HttpPeer;
use pingora_core::{Error as PingoraError, ErrorType};
use pingora_http::RequestHeader;
use std::borrow::Cow;
use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::io::AsyncWriteExt;

/// pingora's own pool stays empty; see [`Idle`].
const NO_POOL: usize = 1;
/// How long looked-up addresses are used again.
const ADDRESSES_KEPT: Duration = Duration::from_secs(30);
/// Large enough for a slow link and a 32 MiB body; a stuck upstream is found by the other waits.
const WRITE_TIMEOUT: Duration = Duration::from_secs(60);

/// Interim replies (1xx) before the reply; servers send one or two.
const MAX_INTERIM_REPLIES: usize = 16;
/// Reads one after the other that bring no body, and how long they may take. A read takes up to 64 KiB.
const MAX_FRAMING_READS: u32 = 64;
const FRAMING_TIMEOUT: Duration = Duration::from_secs(5);

/// Connections to one upstream.
pub struct Connections {
    upstream: Arc<Upstream>,
    connector: TransportConnector,
    idle: Idle,
    /// Whether it is worth asking.
    pub breaker: Arc<Breaker>,
    /// Which models it wants to be left alone with.
    pub rests: Rests,
    /// Who may ask it now.
    pub places: Arc<Places>,
    /// It refused a call because of the operator's key or account, and none was answered since.
    pub refuses_account: AtomicBool,
    /// It refused a call because of its `stream_options`: they are left out from then on.
    pub refuses_stream_options: AtomicBool,
    addresses: Mutex<Option<(Instant, Arc<[SocketAddr]>)>>,
}

/// A request as it goes out, authority and credentials already in the headers.
pub struct Outgoing {
    pub method: Method,
    /// Below the upstream's base path, such as `/chat/completions`.
    pub path: Cow<'static, str>,
    pub headers: HeaderMap,
    pub body: Bytes,
    /// Set once a byte of it may have reached the upstream.
    pub begun: AtomicBool,
}

/// One request under way.
pub struct Exchange {
    /// Boxed, because exchanges are moved about and it is large.
    session: Box<HttpSession>,
    address: SocketAddr,
    idle: Duration,
    status: StatusCode,
    /// What was read of the body before anybody wanted it.
    ahead: VecDeque<Result<Option<Bytes>, Cut>>,
    framing: Framing,
    _place: Place,
}

/// Why no reply's head came.
#[derive(Debug, thiserror::Error)]
pub enum SendError {
    #[error("connecting failed: {0}")]
    Connect(String),
    #[error("connecting took too long")]
    ConnectTimeout,
    #[error("no reply came in time")]
    FirstByteTimeout,
    #[error("the connection ended before a reply came: {0}")]
    Closed(String),
    #[error("the reply was not HTTP: {0}")]
    NotHttp(String),
}

/// A reply's body ended before it was complete.
#[derive(Debug, thiserror::Error)]
pub enum Cut {
    #[error("the upstream fell silent")]
    Idle,
    #[error("the upstream's connection broke: {0}")]
    Broken(String),
}

impl Connections {
    /// A pool for `upstream`; nothing is connected yet.
    #[must_use]
    pub fn new(upstream: Arc<Upstream>) -> Self {
        let mut options = ConnectorOptions::new(NO_POOL);
        options.ca_file.clone_from(&upstream.ca_file);
        let places = Places::new(upstream.max_in_flight, upstream.queue_length as usize);
        Self {
            upstream,
            connector: TransportConnector::new(Some(options)),
            idle: Idle::default(),
            breaker: Arc::default(),
            rests: Rests::default(),
            places,
            refuses_account: AtomicBool::new(false),
            refuses_stream_options: AtomicBool::new(false),
            addresses: Mutex::new(None),
        }
    }

    /// Whom it connects to.
    #[must_use]
    pub fn upstream(&self) -> &Upstream {
        &self.upstream
    }

    /// Sends a request, in its `place`, and waits for the reply's head. A pooled connection that turns out dead
    /// before a byte of the reply is replaced by a new one, once.
    ///
    /// # Errors
    /// [`SendError`]: nothing of a reply was seen.
    pub async fn send(&self, place: Place, outgoing: &Outgoing) -> Result<Exchange, SendError> {
        let (stream, address, reused) = self.connect().await?;
        match self.head(stream, outgoing).await {
            Ok(session) => Ok(self.exchange(session, address, place)),
            Err(SendError::Closed(_)) if reused => {
                let stream = self.connect_anew(address).await?;
                let session = self.head(stream, outgoing).await?;
                Ok(self.exchange(session, address, place))
            }
            Err(e) => Err(e),
        }
    }

    /// As [`Connections::send`], over a new connection and so never twice.
    ///
    /// # Errors
    /// [`SendError`]: nothing of a reply was seen.
    pub async fn send_once(
        &self,
        place: Place,
        outgoing: &Outgoing,
    ) -> Result<Exchange, SendError> {
        let mut last = SendError::Connect("the name has no address".to_owned());
        for address in self.look_up().await?.iter() {
            match self.connect_anew(*address).await {
                Ok(stream) => {
                    let session = self.head(stream, outgoing).await?;
                    return Ok(self.exchange(session, *address, place));
                }
                Err(e) => last = e,
            }
        }
        Err(last)
    }

    /// Gives a connection whose reply was read to its end back to the pool.
    pub async fn release(&self, exchange: Exchange) {
        let Exchange { mut session, address, .. } = exchange;
        session.respect_keepalive();
        if let Some(stream) = session.reuse().await {
            self.idle.put(stream, address, clock::instant());
        }
    }

    /// A connection to the first address that takes one, and whether it was idle before.
    async fn connect(&self) -> Result<(Stream, SocketAddr, bool), SendError> {
        let mut last = SendError::Connect("the name has no address".to_owned());
        let addresses = self.look_up().await?;
        // Before any is connected to: the first may be one that never answers.
        for address in addresses.iter() {
            if let Some(stream) = self.idle.take(*address, clock::instant()) {
                return Ok((stream, *address, true));
            }
        }
        for (place, address) in addresses.iter().enumerate() {
            match self.connect_anew(*address).await {
                Ok(stream) => {
                    self.prefer(&addresses, place);
                    return Ok((stream, *address, false));
                }
                Err(e) => last = e,
            }
        }
        self.addresses.lock().unwrap_or_else(PoisonError::into_inner).take();
        Err(last)
    }

    /// Puts the address that answered before those that did not, for as long as they are kept.
    fn prefer(&self, addresses: &Arc<[SocketAddr]>, place: usize) {
        if place == 0 {
            return;
        }
        let mut kept = self.addresses.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, found)) = &mut *kept
            && found == addresses
        {
            let mut reordered = addresses.to_vec();
            reordered[..=place].rotate_right(1);
            *found = reordered.into();
        }
    }

    async fn connect_anew(&self, address: SocketAddr) -> Result<Stream, SendError> {
        // Boxed: every call would carry room for a handshake that few need.
        let peer = self.peer(address);
        let connected = Box::pin(self.connector.new_stream(&peer)).await;
        connected.map_err(|e| connect_error(&e))
    }

    /// Sends the request and reads the reply's head.
    async fn head(
        &self,
        mut stream: Stream,
        outgoing: &Outgoing,
    ) -> Result<HttpSession, SendError> {
        let header = self.request_header(outgoing).map_err(|e| SendError::NotHttp(kind(&e)))?;
        let header = http_req_header_to_wire(&header)
            .ok_or_else(|| SendError::NotHttp("the request cannot be written".to_owned()))?;
        outgoing.begun.store(true, Ordering::Relaxed);
        // Not by the session, which would write head and body one after the other.
        let mut request = header.chain(&outgoing.body[..]);
        let written = tokio::time::timeout(WRITE_TIMEOUT, async {
            stream.write_all_buf(&mut request).await?;
            stream.flush().await
        });
        let written = written.await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()));
        written.map_err(|e| SendError::Closed(e.to_string()))?;
        let mut session = HttpSession::new(stream);
        session.read_timeout = Some(self.upstream.timeouts.first_byte);
        let deadline = self.upstream.timeouts.first_byte;
        let outcome = tokio::time::timeout(deadline, final_head(&mut session)).await;
        outcome.map_err(|_| SendError::FirstByteTimeout)??;
        Ok(session)
    }

    fn exchange(&self, session: HttpSession, address: SocketAddr, place: Place) -> Exchange {
        let idle = self.upstream.timeouts.idle;
        let status = session.get_status().unwrap_or(StatusCode::BAD_GATEWAY);
        let (ahead, framing) = (VecDeque::new(), Framing::default());
        let session = Box::new(session);
        Exchange { session, address, idle, status, ahead, framing, _place: place }
    }

    fn request_header(&self, outgoing: &Outgoing) -> Result<RequestHeader, Box<PingoraError>> {
        let path = format!("{}{}", self.upstream.base_path, outgoing.path);
        let mut header = RequestHeader::build(
            outgoing.method.clone(),
            path.as_bytes(),
            Some(outgoing.headers.len() + 3),
        )?;
        for (name, value) in &outgoing.headers {
            header.append_header(name.clone(), value.clone())?;
        }
        header.insert_header(http::header::HOST, self.upstream.authority())?;
        header.insert_header(http::header::CONTENT_LENGTH, outgoing.body.len())?;
        if let Some(key) = &self.upstream.api_key {
            header
                .insert_header(http::header::AUTHORIZATION, format!("Bearer {}", key.expose()))?;
        }
        Ok(header)
    }

    fn peer(&self, address: SocketAddr) -> HttpPeer {
        let mut peer = HttpPeer::new(address, self.upstream.tls, self.upstream.host.clone());
        peer.options.connection_timeout = Some(self.upstream.timeouts.connect);
        peer.options.total_connection_timeout = Some(self.upstream.timeouts.connect);
        peer
    }

    /// The upstream's addresses. pingora's own look-up would block the thread.
    async fn look_up(&self) -> Result<Arc<[SocketAddr]>, SendError> {
        let now = clock::instant();
        let kept = self.addresses.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some((at, found)) = kept
            && now.duration_since(at) < ADDRESSES_KEPT
        {
            return Ok(found);
        }
        let asked = tokio::net::lookup_host((self.upstream.host.as_str(), self.upstream.port));
        let found = tokio::time::timeout(self.upstream.timeouts.connect, asked).await;
        let found = found.map_err(|_| SendError::ConnectTimeout)?;
        let found: Arc<[SocketAddr]> =
            found.map_err(|e| SendError::Connect(e.to_string()))?.collect();
        *self.addresses.lock().unwrap_or_else(PoisonError::into_inner) =
            Some((now, Arc::clone(&found)));
        Ok(found)
    }
}

impl Exchange {
    /// The reply's status.
    #[must_use]
    pub fn status(&self) -> StatusCode {
        self.status
    }

    /// The reply's headers.
    pub fn headers(&self) -> impl Iterator<Item = (&HeaderName, &HeaderValue)> {
        self.session.resp_header().into_iter().flat_map(|head| head.headers.iter())
    }

    /// One header of the reply, where it is text.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.session.resp_header()?.headers.get(name)?.to_str().ok()
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

    /// Reads on and returns what came, which [`Exchange::next`] will return in its turn; `None` at
    /// the end, whatever its kind. Safe to drop before it is ready.
    pub async fn read_ahead(&mut self) -> Option<Bytes> {
        let read = self.read().await;
        let bytes = read.as_ref().ok().cloned().flatten();
        self.ahead.push_back(read);
        bytes
    }

    async fn read(&mut self) -> Result<Option<Bytes>, Cut> {
        self.session.read_timeout = Some(self.idle);
        let read = self.session.read_body_bytes().await.map_err(|e| match e.etype() {
            ErrorType::ReadTimedout => Cut::Idle,
            _ => Cut::Broken(kind(&e)),
        })?;
        self.framing.read(read.as_ref().is_some_and(Bytes::is_empty), clock::instant())?;
        Ok(read)
    }
}

/// Reads that brought no body: parts of chunk lines, and trailers, which nobody waits for.
#[derive(Debug, Default)]
struct Framing {
    reads: u32,
    since: Option<Instant>,
}

impl Framing {
    /// # Errors
    /// Too many such reads, or too long, one after the other.
    fn read(&mut self, is_empty: bool, now: Instant) -> Result<(), Cut> {
        if !is_empty {
            *self = Self::default();
            return Ok(());
        }
        self.reads += 1;
        let since = *self.since.get_or_insert(now);
        if self.reads > MAX_FRAMING_READS || now.duration_since(since) > FRAMING_TIMEOUT {
            return Err(Cut::Broken("its trailers or chunk lines do not end".to_owned()));
        }
        Ok(())
    }
}

/// Reads heads up to the one that is not interim.
async fn final_head(session: &mut HttpSession) -> Result<(), SendError> {
    for _ in 0..=MAX_INTERIM_REPLIES {
        session.read_response().await.map_err(|e| head_error(&e))?;
        if !session.get_status().is_some_and(|status| status.is_informational()) {
            return Ok(());
        }
    }
    Err(SendError::NotHttp(format!("more than {MAX_INTERIM_REPLIES} interim replies")))
}

impl Upstream {
    /// Takes out of a text what is the operator's business with this upstream.
    #[must_use]
    pub fn redactor(&self) -> Redactor {
        Redactor::new(self.api_key.as_ref().map(Secret::expose), &self.host)
    }

    /// `host` or `host:port`, as the `Host` header wants it.
    #[must_use]
    pub fn authority(&self) -> String {
        let host =
            if self.host.contains(':') { format!("[{}]", self.host) } else { self.host.clone() };
        let default_port = if self.tls { 443 } else { 80 };
        if self.port == default_port { host } else { format!("{host}:{}", self.port) }
    }
}

/// Connects once, with the certificate checked, and says what came of it in one sentence.
///
/// # Errors
/// The sentence, when the upstream was not reached.
pub async fn probe(upstream: &Arc<Upstream>) -> Result<Duration, String> {
    let connections = Connections::new(Arc::clone(upstream));
    let started = clock::instant();
    connections.connect().await.map_err(|e| e.to_string())?;
    Ok(clock::instant().duration_since(started))
}

fn connect_error(error: &PingoraError) -> SendError {
    match error.etype() {
        ErrorType::ConnectTimedout | ErrorType::TLSHandshakeTimedout => SendError::ConnectTimeout,
        _ => SendError::Connect(error.to_string()),
    }
}

fn head_error(error: &PingoraError) -> SendError {
    match error.etype() {
        ErrorType::ReadTimedout => SendError::FirstByteTimeout,
        ErrorType::ConnectionClosed | ErrorType::ReadError => SendError::Closed(kind(error)),
        _ => SendError::NotHttp(kind(error)),
    }
}

/// The kind of an error alone: pingora's text has the bytes that it could not read, and those may be
/// a key, a prompt or an answer.
fn kind(error: &PingoraError) -> String {
    error.etype().as_str().to_owned()
}

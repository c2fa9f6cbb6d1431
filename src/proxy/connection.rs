//! Connections of the public port: accepted up to a bound, one request after another. Those that speak
//! HTTP/2 go on in [`super::multiplexed`].
//!
//! pingora's own waits are infinite or per read; every wait here has a deadline, so a slow or
//! silent peer costs a bounded time and a bounded buffer.

use super::Proxy;
use super::accept::Head;
use super::buffers::Held;
use super::framing;
use super::headers;
use super::multiplexed;
use super::peers::Places;
use super::refusal::Refusal;
use super::reply::Replier;
use super::session::{ReplyHead, Session};
use crate::account::id::RequestId;
use crate::client_address;
use crate::clock;
use crate::config::Listener;
use crate::telemetry::labels::{Outcome, Route};
use bytes::BytesMut;
use http::header::TRANSFER_ENCODING;
use ipnet::IpNet;
use pingora_core::protocols::http::ServerSession;
use pingora_core::protocols::l4::listener::Listener as Socket;
use pingora_core::protocols::l4::stream::Stream as Plain;
use pingora_core::protocols::{ALPN, GetSocketDigest, Ssl, Stream};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// How long accepting rests after the system refused (no file descriptors, for example).
const ACCEPT_REST: Duration = Duration::from_millis(50);
/// How long, and for how many bytes, a refused body may still arrive.
const LINGER: Duration = Duration::from_secs(1);
const LINGER_BYTES: usize = 4 * 1024 * 1024;
/// What pingora's parser refuses though its bytes looked right.
const MALFORMED: Refusal = Refusal::BadHead("it is not a well-formed HTTP/1.1 request");

/// Accepts until `stop` is cancelled; connections live on the proxy's task tracker.
pub async fn accept(proxy: Arc<Proxy>, listener: Socket, stop: CancellationToken) {
    let places = Places::new(proxy.listener.max_connections, proxy.peers.clone());
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = stop.cancelled() => return,
        };
        let Ok(mut stream) = accepted else {
            tokio::time::sleep(ACCEPT_REST).await;
            continue;
        };
        let peer = Peer::of(&stream, &proxy.listener.trusted_proxies);
        // Past the bound a connection is closed at once: its peer learns sooner than by waiting.
        let Some(place) = places.take(peer.counted()) else { continue };
        let _ = stream.set_nodelay();
        let (proxy, places, stop) = (Arc::clone(&proxy), places.clone(), stop.clone());
        let tasks = proxy.settler.tasks.clone();
        tasks.spawn(async move {
            match proxy.secured(stream).await {
                Some((stream, Spoken::Http1)) => serve(&proxy, stream, (&places, peer), stop).await,
                Some((stream, Spoken::Http2)) => {
                    multiplexed::serve(&proxy, stream, (&places, peer)).await;
                }
                None => {}
            }
            drop(place);
        });
    }
}

/// The other end of a connection.
#[derive(Debug, Clone, Copy)]
pub(super) struct Peer {
    pub address: IpAddr,
    /// A proxy whose clients are counted in its place.
    is_proxy: bool,
}

impl Peer {
    fn of(stream: &Plain, trusted: &[IpNet]) -> Self {
        let digest = stream.get_socket_digest();
        let address = digest.as_ref().and_then(|digest| digest.peer_addr()?.as_inet());
        let address = address.map_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED), SocketAddr::ip);
        Self { address, is_proxy: client_address::is_trusted(address, trusted) }
    }

    /// The address whose connections are bounded.
    pub fn counted(self) -> Option<IpAddr> {
        (!self.is_proxy).then_some(self.address)
    }
}

/// What was agreed on; without TLS nothing was, and the first bytes will tell.
enum Spoken {
    Http1,
    Http2,
}

impl Proxy {
    /// The connection as it is after the handshake, where there has to be one; `None` when that failed.
    async fn secured(&self, stream: Plain) -> Option<(Stream, Spoken)> {
        let Some(tls) = &self.tls else { return Some((Box::new(stream), Spoken::Http1)) };
        let acceptor = tls.acceptor();
        let handshake = acceptor.tls_handshake(stream);
        let stream =
            tokio::time::timeout(self.listener.header_timeout, handshake).await.ok()?.ok()?;
        let is_h2 = stream.selected_alpn_proto() == Some(ALPN::H2);
        Some((Box::new(stream), if is_h2 { Spoken::Http2 } else { Spoken::Http1 }))
    }
}

/// A connection between two requests.
struct Waiting {
    stream: Stream,
    /// Bytes that have come behind the request before.
    bytes: BytesMut,
    /// Whether a request has been served on it.
    is_reused: bool,
}

/// Serves one connection until either side ends it.
async fn serve(
    proxy: &Arc<Proxy>,
    stream: Stream,
    (places, peer): (&Places, Peer),
    stop: CancellationToken,
) {
    let mut next = Some(Waiting { stream, bytes: BytesMut::new(), is_reused: false });
    while let Some(mut waiting) = next.take() {
        let received = tokio::select! {
            received = waiting.next(proxy, peer) => received,
            () = stop.cancelled() => return,
        };
        if received.is_err() && !waiting.is_reused {
            match multiplexed::from_its_beginning(waiting.stream, &waiting.bytes) {
                Ok(stream) => {
                    return Box::pin(multiplexed::serve(proxy, stream, (places, peer))).await;
                }
                Err(stream) => waiting.stream = stream,
            }
        }
        let mut session = ServerSession::new_http1(waiting.stream);
        session.set_pipelining_enabled(true);
        match received {
            Ok(true) => session.set_pipelined_prefix(waiting.bytes),
            Ok(false) => return,
            Err(refusal) => return Box::pin(refuse_head(proxy, session, refusal)).await,
        }
        // The head is here, so this does not wait.
        if !matches!(session.read_request().await, Ok(true)) {
            return Box::pin(refuse_head(proxy, session, MALFORMED)).await;
        }
        // pingora reads chunks leniently (a line without a size ends the body, trailers may be
        // anything), so where such a body ends is a matter of opinion: nothing follows it.
        let is_chunked = session.get_header(TRANSFER_ENCODING).is_some();
        if is_chunked || proxy.leaving.is_cancelled() {
            session.set_keepalive(None);
        }
        // Boxed: a waiting connection need not hold room for a call.
        let mut session = Session::new(session, proxy.listener.write_timeout);
        Box::pin(proxy.serve(&mut session)).await;
        next = Box::pin(finish(session.into_inner(), proxy.listener.write_timeout)).await;
    }
}

impl Waiting {
    /// Waits for a head. When the gateway refuses new calls, a connection on which nothing has come since
    /// its last request is closed: no caller loses anything with it.
    async fn next(&mut self, proxy: &Proxy, peer: Peer) -> Result<bool, Refusal> {
        let held = || proxy.buffers.hold(None, peer.address);
        tokio::select! {
            biased;
            received = self.head(&proxy.listener, held()) => return received,
            () = proxy.draining.cancelled(), if self.is_reused => {}
        }
        if self.bytes.is_empty() {
            return Ok(false);
        }
        self.head(&proxy.listener, held()).await
    }

    /// Waits for a head; false when the connection is to be closed without an answer.
    async fn head(&mut self, bounds: &Listener, mut memory: Held) -> Result<bool, Refusal> {
        if self.is_reused && self.bytes.is_empty() {
            let first = framing::more(&mut self.stream, &mut self.bytes);
            let Ok(Ok(1..)) = tokio::time::timeout(bounds.keepalive, first).await else {
                return Ok(false);
            };
        }
        let head =
            framing::read(&mut self.stream, &mut self.bytes, bounds.header_bytes, &mut memory);
        let head = tokio::time::timeout(bounds.header_timeout, head).await;
        head.map_err(|_| Refusal::SlowHead)?
    }
}

/// Ends a request. The connection comes back if another may follow on it.
async fn finish(mut session: ServerSession, patience: Duration) -> Option<Waiting> {
    if session.get_keepalive().is_none() && !session.is_body_done() {
        linger(&mut session, patience).await;
    }
    let finished = tokio::time::timeout(patience, session.finish()).await;
    let Ok(Ok(Some(reusable))) = finished else { return None };
    let (stream, bytes) = reusable.into_parts();
    Some(Waiting { stream, bytes: bytes.unwrap_or_default(), is_reused: true })
}

/// Takes in, for a moment, a body that nobody wants: closing while bytes arrive resets the
/// connection, and many clients then never read the answer.
async fn linger(session: &mut ServerSession, patience: Duration) {
    let closed = async {
        let _ = session.finish_body().await;
        session.shutdown().await;
    };
    if tokio::time::timeout(patience, closed).await.is_err() {
        return;
    }
    let mut left = LINGER_BYTES;
    let unread = async {
        while let Ok(Some(bytes)) = session.read_request_body().await {
            left = left.saturating_sub(bytes.len());
            if left == 0 {
                return;
            }
        }
    };
    let _ = tokio::time::timeout(LINGER, unread).await;
}

/// Answers a head that cannot be served, and ends the connection.
async fn refuse_head(proxy: &Proxy, session: ServerSession, refusal: Refusal) {
    let mut session = Session::new(session, proxy.listener.write_timeout);
    session.close_after_reply();
    let answer = refusal.answer();
    let mut head = ReplyHead::new(answer.status);
    let body = bytes::Bytes::from(answer.body.to_json());
    head.set(http::header::CONTENT_TYPE, "application/json");
    head.set("x-request-id", RequestId::new().to_string());
    head.set("x-process-time", "0.000000");
    headers::add_protection(&mut head);
    proxy.settler.metrics.requests(Route::Other, answer.status, Outcome::Refused).increment(1);
    let _ = session.reply(head, body).await;
    session.abort().await;
}

impl Proxy {
    /// Serves one request whose head has been read.
    pub(super) async fn serve(&self, session: &mut Session) {
        let trusted = &self.listener.trusted_proxies;
        let now = self.settler.counters.now(clock::now());
        let head = Head::read(session, trusted, now, clock::instant());
        let replier = Replier {
            head: &head,
            cors: self.listener.data_cors.as_deref(),
            early: OnceLock::new(),
        };
        self.answer(session, &replier).await;
    }
}

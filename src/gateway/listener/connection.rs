//! Connections of the public port: accepted up to a bound, and served in what they speak.
//!
//! pingora accepts them and secures them. Every wait has a deadline, so a slow or silent peer costs a bounded
//! time and a bounded buffer.

use crate::gateway::Gateway;
use crate::gateway::endpoint::RequestHead;
use crate::gateway::headers;
use crate::gateway::listener::address_limit::ConnectionPermits;
use crate::gateway::listener::gate;
use crate::gateway::listener::http1;
use crate::gateway::listener::http2;
use crate::gateway::listener::session::{ResponseHead, Session};
use crate::gateway::response::refusal::Refusal;
use crate::gateway::response::writer::ResponseWriter;
use crate::http::client_ip;
use bytes::BytesMut;
use domain::id::RequestId;
use http::header;
use ipnet::IpNet;
use pingora_core::protocols::l4::listener::Listener as Socket;
use pingora_core::protocols::l4::stream::Stream as Plain;
use pingora_core::protocols::{ALPN, GetSocketDigest, Ssl, Stream};
use std::future::poll_fn;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use system::clock;
use telemetry::labels::{Outcome, Route};
use tokio_util::sync::CancellationToken;

/// Pause after the system refused to accept, for example because no file descriptors are left.
const ACCEPT_RETRY_INTERVAL: Duration = Duration::from_millis(50);

/// Accepts until `stop` is cancelled; connections live on the gateway's task tracker.
pub async fn accept(gateway: Arc<Gateway>, listener: Socket, stop: CancellationToken) {
    let permits =
        ConnectionPermits::new(gateway.listener.max_connections, gateway.address_limit.clone());
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = stop.cancelled() => return,
        };
        let Ok(mut stream) = accepted else {
            tokio::time::sleep(ACCEPT_RETRY_INTERVAL).await;
            continue;
        };
        let peer = Peer::of(&stream, &gateway.listener.trusted_proxies);
        // Past the bound a connection is closed at once: its peer learns sooner than by waiting.
        let Some(permit) = permits.take(peer.counted()) else { continue };
        let _ = stream.set_nodelay();
        let (gateway, permits, stop) = (Arc::clone(&gateway), permits.clone(), stop.clone());
        let tasks = gateway.services.tasks.clone();
        tasks.spawn(async move {
            serve_connection(&gateway, stream, (&permits, peer), &stop).await;
            drop(permit);
        });
    }
}

/// The other end of a connection.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Peer {
    socket: SocketAddr,
    /// A proxy whose clients are counted in its place.
    is_proxy: bool,
}

impl Peer {
    fn of(stream: &Plain, trusted: &[IpNet]) -> Self {
        let digest = stream.get_socket_digest();
        let socket = digest.as_ref().and_then(|digest| digest.peer_addr()?.as_inet()).copied();
        let socket = socket.unwrap_or_else(|| (IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0).into());
        Self { socket, is_proxy: client_ip::is_trusted(socket.ip(), trusted) }
    }

    /// The peer's address and port.
    pub fn socket(self) -> SocketAddr {
        self.socket
    }

    /// The peer's address.
    pub fn address(self) -> IpAddr {
        self.socket.ip()
    }

    /// The address whose connections are bounded.
    pub fn counted(self) -> Option<IpAddr> {
        (!self.is_proxy).then_some(self.address())
    }
}

/// Serves one connection until either side ends it.
async fn serve_connection(
    gateway: &Arc<Gateway>,
    stream: Plain,
    (permits, peer): (&ConnectionPermits, Peer),
    stop: &CancellationToken,
) {
    let Some((mut stream, mut is_http2)) = gateway.accept_tls(stream).await else { return };
    let since = clock::instant();
    let mut bytes = BytesMut::new();
    if !is_http2 {
        let begun = detect_http2_preface(&mut stream, &mut bytes);
        let begun = tokio::time::timeout(gateway.listener.header_timeout, begun);
        is_http2 = tokio::select! {
            begun = begun => begun.unwrap_or(false),
            () = stop.cancelled() => return,
        };
    }
    if is_http2 {
        Box::pin(http2::serve(gateway, (stream, bytes), (permits, peer))).await;
    } else {
        http1::serve(gateway, (stream, bytes), (peer, since), stop).await;
    }
}

/// Reads the first bytes, and says whether they begin HTTP/2.
async fn detect_http2_preface(stream: &mut Stream, bytes: &mut BytesMut) -> bool {
    while http2::PREFACE.starts_with(bytes) && bytes.len() < http2::PREFACE.len() {
        match poll_fn(|cx| gate::poll_receive(stream, cx, bytes)).await {
            Ok(1..) => {}
            _ => return false,
        }
    }
    bytes.starts_with(http2::PREFACE)
}

impl Gateway {
    /// The connection as it is after the handshake, where there has to be one, and whether HTTP/2 was agreed
    /// on; `None` if it failed. Without TLS the first bytes decide.
    async fn accept_tls(&self, stream: Plain) -> Option<(Stream, bool)> {
        let Some(tls) = &self.tls else { return Some((Box::new(stream), false)) };
        let acceptor = tls.acceptor();
        // Boxed: the state of a handshake is large, and the connection outlives it.
        let handshake = Box::pin(acceptor.tls_handshake(stream));
        let stream =
            tokio::time::timeout(self.listener.header_timeout, handshake).await.ok()?.ok()?;
        let is_http2 = stream.selected_alpn_proto() == Some(ALPN::H2);
        Some((Box::new(stream), is_http2))
    }

    /// Serves one request whose head has been read.
    pub(crate) async fn serve_request(&self, session: &mut Session) {
        let trusted = &self.listener.trusted_proxies;
        let now = self.services.quota.now(clock::now());
        let head = RequestHead::read(session, trusted, now, clock::instant());
        let writer = ResponseWriter {
            head: &head,
            cors: self.listener.data_cors.as_deref(),
            early: OnceLock::new(),
        };
        self.answer(session, &writer).await;
    }

    /// The answer to a head that cannot be served, as it is written on HTTP/1.1. The connection ends with it.
    pub(crate) fn refusal_of_head(&self, refusal: Refusal) -> BytesMut {
        let answer = refusal.answer();
        let body = answer.body.to_json();
        let mut head = ResponseHead::new(answer.status);
        head.set(header::CONNECTION, "close");
        head.set(header::CONTENT_TYPE, "application/json");
        head.set(header::CONTENT_LENGTH, body.len());
        head.set("x-request-id", RequestId::new().to_string());
        head.set("x-process-time", "0.000000");
        headers::add_protection(&mut head);
        self.services.metrics.requests(Route::Other, answer.status, Outcome::Refused).increment(1);
        let mut written = BytesMut::from(format!("HTTP/1.1 {}\r\n", head.status).as_bytes());
        for (name, value) in &head.headers {
            for part in [name.as_str().as_bytes(), b": ", value.as_bytes(), b"\r\n"] {
                written.extend_from_slice(part);
            }
        }
        written.extend_from_slice(b"\r\n");
        written.extend_from_slice(body.as_bytes());
        written
    }
}

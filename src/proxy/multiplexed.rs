//! HTTP/2 connections: requests side by side, each served as one on a connection of its own (RFC 9113).
//!
//! Over TLS where the client offers it, and on the plain port to clients who begin with it ("prior
//! knowledge", RFC 9113 section 3.3); the older upgrade from HTTP/1.1 is not taken.

use super::Proxy;
use super::connection::Peer;
use super::peers::{Place, Places};
use super::session::Session;
use h2::Reason;
use pingora_core::protocols::http::ServerSession;
use pingora_core::protocols::http::v2::server::{self, H2Accept, HttpSession};
use pingora_core::protocols::l4::stream::Stream as Socket;
use pingora_core::protocols::{Digest, Stream};
use std::sync::Arc;
use std::time::Duration;
use tokio_util::task::TaskTracker;

/// How such a connection begins (RFC 9113 section 3.4): to a server of HTTP/1.1 it looks like a head.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\n";
/// Malformed requests after which a connection is closed.
const MOST_MALFORMED: u32 = 32;
/// How long the peer may take to hear that nothing more is served.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// The connection from its beginning, where `bytes`, which have been read from it, begin as HTTP/2 does.
/// `None`, and the connection as it was, where they do not.
pub(super) fn from_its_beginning(stream: Stream, bytes: &[u8]) -> Result<Stream, Stream> {
    if !bytes.starts_with(PREFACE) || !stream.as_any().is::<Socket>() {
        return Err(stream);
    }
    match stream.into_any().downcast::<Socket>() {
        Ok(mut socket) => {
            socket.rewind(bytes);
            Ok(socket)
        }
        Err(_) => unreachable!("it was one just now"),
    }
}

/// Serves one connection until either side ends it. Each of its open requests takes one of the `places` for
/// connections, as one on a connection of its own would; so does its address.
pub(super) async fn serve(proxy: &Arc<Proxy>, stream: Stream, (places, peer): (&Places, Peer)) {
    let bounds = &proxy.listener;
    let socket_digest = stream.get_socket_digest();
    let digest = Arc::new(Digest { socket_digest, ..Digest::default() });
    let mut options = server::default_h2_options();
    options.max_header_list_size(u32::try_from(bounds.header_bytes).unwrap_or(u32::MAX));
    let shaken =
        tokio::time::timeout(bounds.header_timeout, server::handshake(stream, Some(options)));
    let Ok(Ok(mut connection)) = shaken.await else { return };
    let open = TaskTracker::new();
    open.close();
    let (mut malformed, mut stopping) = (0, false);
    // A connection that begins while the gateway is leaving still serves one request: told at once that
    // nothing more is taken, its client would have opened it for nothing.
    let mut owes_one = proxy.leaving.is_cancelled();
    loop {
        let patience = if stopping { LAST_WORDS } else { bounds.keepalive };
        let accepted = tokio::select! {
            accepted = HttpSession::from_h2_conn(&mut connection, Arc::clone(&digest)) => accepted,
            () = proxy.leaving.cancelled(), if !stopping && !owes_one => {
                connection.graceful_shutdown();
                stopping = true;
                continue;
            }
            () = quiet(&open, patience) => return,
        };
        match accepted {
            Ok(Some(H2Accept::Session(mut session))) => {
                owes_one = false;
                match places.take(peer.counted()) {
                    Some(place) => {
                        let call = open.track_future(one(Arc::clone(proxy), session, place));
                        proxy.settler.tasks.spawn(call);
                    }
                    // It was not looked at, so that it may be sent again (RFC 9113 section 8.7).
                    None => session.shutdown_with_reason(Reason::REFUSED_STREAM),
                }
            }
            Ok(Some(H2Accept::Rejected)) if malformed < MOST_MALFORMED => malformed += 1,
            _ => return,
        }
    }
}

/// Serves one request.
async fn one(proxy: Arc<Proxy>, session: HttpSession, _place: Place) {
    let patience = proxy.listener.write_timeout;
    let mut session = Session::new(ServerSession::new_http2(session), patience);
    // Boxed, as on connections of HTTP/1.1.
    Box::pin(proxy.serve(&mut session)).await;
    let _ = tokio::time::timeout(patience, session.into_inner().finish()).await;
}

/// Resolves when no request has been open for so long.
async fn quiet(open: &TaskTracker, patience: Duration) {
    open.wait().await;
    tokio::time::sleep(patience).await;
}

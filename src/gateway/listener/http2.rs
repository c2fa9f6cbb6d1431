//! Connections of HTTP/2: requests side by side, each served as one on a connection of its own (RFC 9113).
//!
//! Over TLS where the client offers it, and on the plain port to clients who begin with it ("prior
//! knowledge", RFC 9113 section 3.3); the older upgrade from HTTP/1.1 is not taken. h2 is what hyper speaks
//! HTTP/2 with; it is used as it is, because hyper does not say when a caller's window is full, or when what
//! was sent has been written.

use crate::gateway::Gateway;
use crate::gateway::listener::address_limit::{ConnectionPermit, ConnectionPermits};
use crate::gateway::listener::connection::Peer;
use crate::gateway::listener::session::Session;
use bytes::{Bytes, BytesMut};
use futures_util::task::AtomicWaker;
use h2::server::{Builder, Connection, SendResponse};
use h2::{Reason, RecvStream};
use http::{HeaderMap, Method, Request, Response, StatusCode, header};
use parking_lot::Mutex;
use pingora_core::protocols::Stream;
use std::future::poll_fn;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::oneshot;
use tokio_util::task::TaskTracker;

/// The preface of an HTTP/2 connection (RFC 9113 section 3.4): to an HTTP/1.1 server it looks like a head.
pub(crate) const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\n";
/// Requests of one connection at a time.
const MAX_STREAMS: u32 = 100;
/// Malformed requests after which a connection is closed.
const MAX_MALFORMED: u32 = 32;
/// The time in which the peer has to acknowledge a GOAWAY.
const GOAWAY_TIMEOUT: Duration = Duration::from_secs(1);

/// Serves one connection until either side ends it; `bytes` of it have been read. Each of its open requests takes
/// one of the `permits` for connections, as one on a connection of its own would; so does its address.
pub(crate) async fn serve(
    gateway: &Arc<Gateway>,
    (stream, bytes): (Stream, BytesMut),
    (permits, peer): (&ConnectionPermits, Peer),
) {
    let bounds = &gateway.listener;
    let written = Arc::new(Written::default());
    let socket = Socket { stream, bytes, written: Arc::clone(&written) };
    let Some(mut connection) = handshake(gateway, socket).await else { return };
    let open = TaskTracker::new();
    open.close();
    let (mut malformed, mut stopping) = (0, false);
    // A connection that begins while the gateway is leaving still serves one request: otherwise its client would
    // have opened it for nothing.
    let mut owes_one = gateway.leaving.is_cancelled();
    loop {
        let patience = if stopping { GOAWAY_TIMEOUT } else { bounds.keepalive };
        let accepted = tokio::select! {
            accepted = accept(&mut connection, &written) => accepted,
            () = gateway.leaving.cancelled(), if !stopping && !owes_one => {
                connection.graceful_shutdown();
                stopping = true;
                continue;
            }
            () = idle_for(&open, patience) => return,
        };
        let Some(Ok((request, mut respond))) = accepted else { return };
        if is_malformed(&request) {
            malformed += 1;
            if malformed > MAX_MALFORMED {
                return;
            }
            refuse(&mut respond);
            continue;
        }
        owes_one = false;
        let Some(permit) = permits.take(peer.counted()) else {
            // It was not looked at, so that it may be sent again (RFC 9113 section 8.7).
            respond.send_reset(Reason::REFUSED_STREAM);
            continue;
        };
        let (written, peer) = (Arc::clone(&written), peer.socket());
        let session = Session::http2(request, respond, written, peer, bounds.write_timeout);
        let call = open.track_future(serve_stream(Arc::clone(gateway), session, permit));
        gateway.services.tasks.spawn(call);
    }
}

/// Exchanges the settings of a connection; `None` if that fails or takes too long.
async fn handshake(gateway: &Gateway, socket: Socket) -> Option<Connection<Socket, Bytes>> {
    let bounds = &gateway.listener;
    let mut builder = Builder::new();
    builder
        .max_header_list_size(u32::try_from(bounds.header_bytes).unwrap_or(u32::MAX))
        .max_concurrent_streams(MAX_STREAMS);
    let shaken = tokio::time::timeout(bounds.header_timeout, builder.handshake(socket)).await;
    shaken.ok()?.ok()
}

type Accepted = Option<Result<(Request<RecvStream>, SendResponse<Bytes>), h2::Error>>;

/// The next request. What calls have sent is written in the meantime, and they are notified.
async fn accept(connection: &mut Connection<Socket, Bytes>, written: &Written) -> Accepted {
    poll_fn(|cx| {
        written.connection.register(cx.waker());
        let waiting = written.waiting();
        let accepted = connection.poll_accept(cx);
        if accepted.is_pending() && !written.is_blocked.load(Ordering::Acquire) {
            written.notify(waiting);
        }
        accepted
    })
    .await
}

/// Serves one request.
async fn serve_stream(gateway: Arc<Gateway>, mut session: Session, _permit: ConnectionPermit) {
    // Boxed, as on connections of HTTP/1.1.
    Box::pin(gateway.serve_request(&mut session)).await;
}

/// Resolves when no request has been open for so long.
async fn idle_for(open: &TaskTracker, patience: Duration) {
    open.wait().await;
    tokio::time::sleep(patience).await;
}

/// True if two servers could read the request differently: its target, its host, or the length of its body.
fn is_malformed(request: &Request<RecvStream>) -> bool {
    let (uri, headers) = (request.uri(), request.headers());
    let target = uri.path_and_query().map_or("", |target| target.as_str());
    let is_path =
        target.starts_with('/') || (target == "*" && *request.method() == Method::OPTIONS);
    !is_path
        || !target.bytes().all(|byte| byte.is_ascii_graphic())
        || !is_length_clear(headers)
        || !is_host_clear(uri.authority(), headers)
}

fn is_length_clear(headers: &HeaderMap) -> bool {
    let mut lengths = headers.get_all(header::CONTENT_LENGTH).iter();
    let is_number = |value: &http::HeaderValue| {
        let digits = value.as_bytes();
        (1..=19).contains(&digits.len()) && digits.iter().all(u8::is_ascii_digit)
    };
    lengths.next().is_none_or(is_number) && lengths.next().is_none()
}

fn is_host_clear(authority: Option<&http::uri::Authority>, headers: &HeaderMap) -> bool {
    let mut hosts = headers.get_all(header::HOST).iter();
    let host = hosts.next();
    if hosts.next().is_some() {
        return false;
    }
    match (authority, host) {
        (None, host) => host.is_some(),
        (Some(authority), host) => {
            let authority = authority.as_str();
            let is_same = |host: &http::HeaderValue| {
                host.as_bytes().eq_ignore_ascii_case(authority.as_bytes())
            };
            !authority.contains('@') && host.is_none_or(is_same)
        }
    }
}

fn refuse(respond: &mut SendResponse<Bytes>) {
    let mut response = Response::new(());
    *response.status_mut() = StatusCode::BAD_REQUEST;
    let _ = respond.send_response(response, true);
}

/// Tells calls when what they have sent is written: h2 discards what is queued for a stream that is reset.
#[derive(Debug, Default)]
pub(crate) struct Written {
    waiters: Mutex<Vec<oneshot::Sender<()>>>,
    connection: AtomicWaker,
    /// The socket takes nothing more at present.
    is_blocked: AtomicBool,
}

impl Written {
    /// Resolves when what has been sent is written, as far as the caller's window allows it.
    pub async fn all(&self) {
        let (notify, notified) = oneshot::channel();
        self.waiters.lock().push(notify);
        self.connection.wake();
        let _ = notified.await;
    }

    fn waiting(&self) -> usize {
        self.waiters.lock().len()
    }

    /// Notifies the first `number` waiters.
    fn notify(&self, number: usize) {
        if number == 0 {
            return;
        }
        for waiter in self.waiters.lock().drain(..number) {
            let _ = waiter.send(());
        }
    }
}

/// The socket, with what has been read of it before.
struct Socket {
    stream: Stream,
    bytes: BytesMut,
    written: Arc<Written>,
}

impl AsyncRead for Socket {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.bytes.is_empty() {
            return Pin::new(&mut self.stream).poll_read(cx, buf);
        }
        let part = self.bytes.len().min(buf.remaining());
        buf.put_slice(&self.bytes.split_to(part));
        Poll::Ready(Ok(()))
    }
}

impl Socket {
    fn record<T>(&self, written: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        self.written.is_blocked.store(written.is_pending(), Ordering::Release);
        written
    }
}

impl AsyncWrite for Socket {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.record(written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(cx, slices);
        self.record(written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.stream).poll_flush(cx);
        ready!(self.record(flushed))?;
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;

    fn headers(fields: &[(header::HeaderName, &'static str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            headers.append(name.clone(), HeaderValue::from_static(value));
        }
        headers
    }

    #[test]
    fn a_request_names_one_host() {
        let host = header::HOST;
        let is_clear = |authority: &str, hosts: &[&'static str]| {
            let authority = (!authority.is_empty()).then(|| authority.parse().unwrap());
            let fields: Vec<_> = hosts.iter().map(|value| (host.clone(), *value)).collect();
            is_host_clear(authority.as_ref(), &headers(&fields))
        };
        assert!(is_clear("a", &[]) && is_clear("", &["a"]) && is_clear("a:80", &["A:80"]));
        assert!(!is_clear("", &[]) && !is_clear("a", &["b"]) && !is_clear("a", &["a", "a"]));
        assert!(!is_clear("user@a", &[]));
    }

    #[test]
    fn a_body_has_one_length() {
        let is_clear = |lengths: &[&'static str]| {
            let fields: Vec<_> =
                lengths.iter().map(|value| (header::CONTENT_LENGTH, *value)).collect();
            is_length_clear(&headers(&fields))
        };
        assert!(is_clear(&[]) && is_clear(&["0"]) && is_clear(&["9999999999999999999"]));
        for unclear in
            [&["1", "1"][..], &["1, 1"], &["+1"], &[""], &["0x1"], &["99999999999999999999"]]
        {
            assert!(!is_clear(unclear), "{unclear:?}");
        }
    }

    #[tokio::test]
    async fn a_flush_resolves_once_what_was_sent_before_is_written() {
        let written = Written::default();
        let (mut first, mut second) = (Box::pin(written.all()), Box::pin(written.all()));
        assert!(futures_util::poll!(first.as_mut()).is_pending());
        let waiting = written.waiting();
        assert!(futures_util::poll!(second.as_mut()).is_pending());
        written.notify(waiting);
        assert!(futures_util::poll!(first).is_ready());
        assert!(futures_util::poll!(second).is_pending(), "it asked while others were written");
    }
}

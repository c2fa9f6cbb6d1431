//! Connections of the public port: accepted up to a bound, one request after another.
//!
//! pingora's own waits are infinite or per read; every wait here has a deadline, so a slow or
//! silent peer costs a bounded time and a bounded buffer.

use super::Proxy;
use super::accept::{self, Head};
use super::refusal::Refusal;
use super::reply::Replier;
use crate::clock;
use crate::telemetry::labels::{Outcome, Route};
use pingora_core::protocols::Stream;
use pingora_core::protocols::http::ServerSession;
use pingora_core::protocols::l4::listener::Listener;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

/// How long accepting rests after the system refused (no file descriptors, for example).
const ACCEPT_REST: Duration = Duration::from_millis(50);

/// Accepts until `stop` is cancelled; connections live on the proxy's task tracker.
pub async fn accept(proxy: Arc<Proxy>, listener: Listener, stop: CancellationToken) {
    let places = Arc::new(Semaphore::new(proxy.listener.max_connections));
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = stop.cancelled() => return,
        };
        let Ok(mut stream) = accepted else {
            tokio::time::sleep(ACCEPT_REST).await;
            continue;
        };
        // Past the bound a connection is closed at once: its peer learns sooner than by waiting.
        let Ok(place) = Arc::clone(&places).try_acquire_owned() else { continue };
        let _ = stream.set_nodelay();
        let (proxy, stop) = (Arc::clone(&proxy), stop.clone());
        let tasks = proxy.settler.tasks.clone();
        tasks.spawn(async move {
            serve(&proxy, Box::new(stream), stop).await;
            drop(place);
        });
    }
}

/// Serves one connection until either side ends it.
async fn serve(proxy: &Proxy, stream: Stream, stop: CancellationToken) {
    let mut next = Some((stream, None));
    let mut wait = proxy.listener.header_timeout;
    while let Some((stream, prefix)) = next.take() {
        let mut session = ServerSession::new_http1(stream);
        session.set_keepalive(Some(proxy.listener.keepalive.as_secs().max(1)));
        session.set_write_timeout(Some(proxy.listener.write_timeout));
        session.set_total_drain_timeout(Some(proxy.listener.header_timeout));
        session.set_pipelining_enabled(true);
        if let Some(prefix) = prefix {
            session.set_pipelined_prefix(prefix);
        }
        let received = tokio::select! {
            received = tokio::time::timeout(wait, session.read_request()) => received,
            () = stop.cancelled() => return,
        };
        match received {
            Ok(Ok(true)) => {}
            Ok(Ok(false)) => return,
            Ok(Err(e)) => return refuse_head(proxy, session, bad_head(&e.to_string())).await,
            Err(_) if wait == proxy.listener.keepalive => return,
            Err(_) => return refuse_head(proxy, session, Refusal::SlowHead).await,
        }
        if let Err(refusal) = accept::check(&session, proxy.listener.header_bytes) {
            return refuse_head(proxy, session, refusal).await;
        }
        if stop.is_cancelled() {
            session.set_keepalive(None);
        }
        // Boxed: a waiting connection need not hold room for a call.
        Box::pin(proxy.serve(&mut session)).await;
        next = match session.finish().await {
            Ok(Some(reusable)) => Some(reusable.into_parts()),
            _ => None,
        };
        wait = proxy.listener.keepalive;
    }
}

/// Answers a head that cannot be served, and ends the connection.
async fn refuse_head(proxy: &Proxy, mut session: ServerSession, refusal: Refusal) {
    session.set_keepalive(None);
    let answer = refusal.answer();
    let mut head = pingora_http::ResponseHeader::build(answer.status, Some(4))
        .expect("our statuses are valid");
    let body = bytes::Bytes::from(answer.body.to_json());
    let _ = head.insert_header(http::header::CONTENT_TYPE, "application/json");
    let _ = head.insert_header("x-request-id", crate::account::id::RequestId::new().to_string());
    let _ = head.set_content_length(body.len());
    proxy.settler.metrics.requests(Route::Other, answer.status, Outcome::Refused).increment(1);
    if session.write_response_header(Box::new(head)).await.is_ok() {
        let _ = session.write_response_body(body, true).await;
    }
    session.shutdown().await;
}

fn bad_head(error: &str) -> Refusal {
    if error.contains("too many headers") || error.contains("larger than") {
        return Refusal::HeadersTooLarge;
    }
    Refusal::BadHead("it is not a well-formed HTTP/1.1 request")
}

impl Proxy {
    /// Serves one request whose head has been read.
    async fn serve(&self, session: &mut ServerSession) {
        let head = Head::read(session, clock::now(), clock::instant());
        let replier = Replier { head: &head, cors: self.listener.data_cors.as_deref() };
        self.answer(session, &replier).await;
    }
}

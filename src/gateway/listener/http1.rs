//! Connections of HTTP/1.1: one request after another, read and written by hyper.
//!
//! One task polls the connection and the call on it. When the connection ends, hyper drops its side; the call
//! continues in this task until it is settled.

use crate::gateway::Gateway;
use crate::gateway::listener::connection::Peer;
use crate::gateway::listener::gate::Gate;
use crate::gateway::listener::pipe::{Answer, Link, Pipe};
use crate::gateway::listener::rounds::{Due, Rounds};
use crate::gateway::listener::session::Session;
use bytes::BytesMut;
use futures_util::future::BoxFuture;
use http::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1::{Builder, Connection};
use hyper::service::Service;
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use pingora_core::protocols::Stream;
use std::convert::Infallible;
use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Instant;
use tokio_util::sync::CancellationToken;

/// The least that hyper buffers, and what it buffers beside the largest head.
const MIN_BUFFER: usize = 8 * 1024;
const BUFFER_BEYOND_HEAD: usize = 1024;

/// The call on a connection, put there by hyper and polled by us.
type Slot = Arc<Mutex<Option<BoxFuture<'static, ()>>>>;

/// Serves one connection until either side ends it. `stream` was opened at `since`, and `bytes` have been read.
pub(crate) async fn serve(
    gateway: &Arc<Gateway>,
    (stream, bytes): (Stream, BytesMut),
    (peer, since): (Peer, Instant),
    stop: &CancellationToken,
) {
    let (link, slot) = (Arc::new(Link::default()), Slot::default());
    let gate =
        Gate::new((stream, bytes), Arc::clone(gateway), Arc::clone(&link), peer.address(), since);
    let calls = Calls {
        gateway: Arc::clone(gateway),
        link: Arc::clone(&link),
        slot: Arc::clone(&slot),
        peer,
    };
    let connection = Builder::new()
        .header_read_timeout(None)
        // The gate detects disconnects.
        .half_close(true)
        .max_buf_size(MIN_BUFFER.max(gateway.listener.header_bytes + BUFFER_BEYOND_HEAD))
        .serve_connection(TokioIo::new(gate), calls);
    let mut served = Served { connection, link, slot, call: None, is_last: false };
    let (shutting_down, stopped) =
        (pin!(gateway.shutting_down.cancelled()), pin!(stop.cancelled()));
    let ended = served.run(shutting_down, stopped).await;
    let Served { connection, mut call, slot, .. } = served;
    let mut gate = connection.into_parts().io.into_inner();
    let closed = async move {
        if ended == Ended::Well {
            gate.close().await;
        }
    };
    // Its caller has gone; what it has taken is settled.
    let call = call.take().or_else(|| take(&slot));
    let settled = async move {
        if let Some(call) = call {
            call.await;
        }
    };
    futures_util::future::join(closed, settled).await;
}

/// The way in which a connection ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ended {
    /// Everything has been written, and the peer may still read it.
    Well,
    /// It broke, or is given up.
    Broken,
}

struct Served {
    connection: Connection<TokioIo<Gate>, Calls>,
    link: Arc<Link>,
    slot: Slot,
    call: Option<BoxFuture<'static, ()>>,
    is_last: bool,
}

impl Served {
    async fn run(
        &mut self,
        mut shutting_down: Pin<&mut impl Future<Output = ()>>,
        mut stopped: Pin<&mut impl Future<Output = ()>>,
    ) -> Ended {
        let mut is_shutting_down = false;
        let rounds = Rounds::default();
        let mut round = |due| {
            if let Poll::Ready(ended) = self.poll_round(due, &rounds) {
                return Poll::Ready(ended);
            }
            if self.link.take_notification() {
                rounds.codec().wake_by_ref();
            } else if self.call.is_none() {
                let cx = &mut Context::from_waker(rounds.codec());
                if stopped.as_mut().poll(cx).is_ready() {
                    return Poll::Ready(Ended::Broken);
                }
                if !is_shutting_down && shutting_down.as_mut().poll(cx).is_ready() {
                    // The gate looks at it when it is polled.
                    is_shutting_down = true;
                    rounds.codec().wake_by_ref();
                }
            }
            Poll::Pending
        };
        poll_fn(|cx| rounds.poll(cx, &mut round)).await
    }

    /// Polls the halves that are due, the codec first.
    fn poll_round(&mut self, due: Due, rounds: &Rounds) -> Poll<Ended> {
        if due.codec {
            if let Poll::Ready(ended) = self.poll_codec(&mut Context::from_waker(rounds.codec())) {
                return Poll::Ready(ended);
            }
            self.close_if_last(rounds);
        }
        let is_new = self.call.is_none();
        if is_new {
            self.call = take(&self.slot);
        }
        if (due.call || is_new)
            && let Some(call) = &mut self.call
            && call.as_mut().poll(&mut Context::from_waker(rounds.call())).is_ready()
        {
            // The next request may be here already.
            self.call = take(&self.slot);
            rounds.call().wake_by_ref();
        }
        if self.link.is_aborted() {
            return Poll::Ready(Ended::Broken);
        }
        Poll::Pending
    }

    /// Ends the connection after the reply under way, whose head the codec has written by now. A head that is
    /// written later has `connection: close`, with which some clients (Node's) accept a truncated chunked body as
    /// complete.
    fn close_if_last(&mut self, rounds: &Rounds) {
        if self.link.is_last() && !self.is_last {
            self.is_last = true;
            Pin::new(&mut self.connection).graceful_shutdown();
            rounds.codec().wake_by_ref();
        }
    }

    fn poll_codec(&mut self, cx: &mut Context<'_>) -> Poll<Ended> {
        match Pin::new(&mut self.connection).poll(cx) {
            Poll::Ready(Ok(())) => Poll::Ready(Ended::Well),
            // A reply was cut.
            Poll::Ready(Err(e)) if e.is_user() => Poll::Ready(Ended::Well),
            Poll::Ready(Err(_)) => Poll::Ready(Ended::Broken),
            Poll::Pending if self.link.is_lost() => Poll::Ready(Ended::Broken),
            Poll::Pending => Poll::Pending,
        }
    }
}

fn take(slot: &Slot) -> Option<BoxFuture<'static, ()>> {
    slot.lock().take()
}

/// Makes a call of each request.
struct Calls {
    gateway: Arc<Gateway>,
    link: Arc<Link>,
    slot: Slot,
    peer: Peer,
}

impl Service<Request<Incoming>> for Calls {
    type Response = http::Response<crate::gateway::listener::pipe::ResponseBody>;
    type Error = Infallible;
    type Future = Answer;

    fn call(&self, request: Request<Incoming>) -> Answer {
        let pipe = Pipe::new(Arc::clone(&self.link));
        let gateway = Arc::clone(&self.gateway);
        let (peer, patience) = (self.peer, gateway.listener.write_timeout);
        let mut session = Session::http1(request, Arc::clone(&pipe), peer.socket(), patience);
        if gateway.leaving.is_cancelled() {
            session.close_after_reply();
        }
        let call = Box::pin(async move { gateway.serve_request(&mut session).await });
        *self.slot.lock() = Some(call);
        self.link.begin();
        Answer::through(pipe)
    }
}

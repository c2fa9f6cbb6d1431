//! Send a call to an upstream; try the next one only while nothing of a reply has been seen.

use super::leash::{Leash, Pulled};
use super::refusal::{Refusal, UpstreamFailure};
use super::reserve::Reservation;
use crate::clock;
use crate::openai::error::UpstreamError;
use crate::openai::request::{Changes, Request};
use crate::telemetry::metrics::Metrics;
use crate::upstream::Upstreams;
use crate::upstream::catalog::Route;
use crate::upstream::connect::{Connections, Exchange, Outgoing, SendError};
use bytes::{Bytes, BytesMut};
use http::{HeaderMap, Method};
use pingora_core::protocols::http::ServerSession;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// An error reply is read up to here: enough for any error object.
const ERROR_BYTES: usize = 64 * 1024;
const ERROR_TIME: Duration = Duration::from_secs(5);

/// An upstream is answering.
pub struct Forwarded {
    pub exchange: Exchange,
    pub pool: Arc<Connections>,
    pub upstream: Arc<str>,
    /// When the reply's head was here.
    pub head_at: Instant,
}

/// No upstream is answering.
pub enum NotForwarded {
    /// The last upstream's failure, whose name it was, and whether the call counts as a request.
    Failed { failure: UpstreamFailure, upstream: Arc<str>, counted: bool },
    /// Nobody waits any more; `asked` when a byte of the request may have reached the upstream.
    Stopped { by: Stop, upstream: Arc<str>, asked: bool },
}

/// What ended a call while it was waiting for its reply.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stop {
    CallerGone,
    Pulled(Pulled),
}

impl Stop {
    /// What the caller is told, if it is still there.
    #[must_use]
    pub fn refusal(self) -> Option<Refusal> {
        match self {
            Self::CallerGone => None,
            Self::Pulled(why) => Some(why.refusal()),
        }
    }
}

/// What stays the same whichever upstream is tried.
pub struct Forwarding<'a> {
    pub upstreams: &'a Upstreams,
    pub request: &'a Request<'a>,
    pub headers: &'a HeaderMap,
    pub reservation: &'a Reservation,
    pub metrics: &'a Metrics,
    pub leash: &'a Leash,
}

enum Tried {
    Answering(Forwarded),
    Stopped { by: Stop, asked: bool },
    Failed { failure: UpstreamFailure, counted: bool, try_next: bool },
}

impl Forwarding<'_> {
    /// Tries the model's upstreams in order of preference.
    ///
    /// # Errors
    /// [`NotForwarded`]; the caller has not been sent a byte.
    pub async fn forward(&self, session: &mut ServerSession) -> Result<Forwarded, NotForwarded> {
        let routes = &self.reservation.model.routes;
        let mut last = NotForwarded::Failed {
            failure: UpstreamFailure::Connect,
            upstream: "".into(),
            counted: false,
        };
        for (place, route) in routes.iter().enumerate() {
            let upstream = &route.upstream.name;
            let Some(pool) = self.upstreams.pool(upstream) else { continue };
            if place > 0 {
                self.metrics.retries.increment(1);
            }
            match self.try_one(session, route, pool).await {
                Tried::Answering(forwarded) => return Ok(forwarded),
                Tried::Stopped { by, asked } => {
                    let upstream = Arc::clone(upstream);
                    return Err(NotForwarded::Stopped { by, upstream, asked });
                }
                Tried::Failed { failure, counted, try_next } => {
                    last =
                        NotForwarded::Failed { failure, upstream: Arc::clone(upstream), counted };
                    if !try_next {
                        break;
                    }
                }
            }
        }
        Err(last)
    }

    async fn try_one(
        &self,
        session: &mut ServerSession,
        route: &Route,
        pool: &Arc<Connections>,
    ) -> Tried {
        let outgoing = self.outgoing(route);
        let asked_at = clock::instant();
        let sent = tokio::select! {
            sent = pool.send(&outgoing) => sent,
            by = stopped(session, self.leash) => {
                return Tried::Stopped { by, asked: outgoing.begun.load(Ordering::Relaxed) };
            }
        };
        let upstream = &route.upstream.name;
        let exchange = match sent {
            Ok(exchange) => exchange,
            Err(e) => {
                tracing::warn!(request_id = %self.reservation.request, upstream = &**upstream, error = %e, "upstream did not answer");
                // One that was too busy to be asked is neither up nor down.
                if !matches!(e, SendError::Busy) {
                    let is_up = !matches!(e, SendError::Connect(_) | SendError::ConnectTimeout);
                    self.up(upstream, is_up);
                }
                return Tried::Failed { failure: failure(&e), counted: false, try_next: true };
            }
        };
        let head_at = clock::instant();
        self.up(upstream, true);
        self.metrics.upstream_first_byte_seconds(upstream).record(head_at.duration_since(asked_at));
        if exchange.status().is_success() {
            let upstream = Arc::clone(upstream);
            return Tried::Answering(Forwarded {
                exchange,
                pool: Arc::clone(pool),
                upstream,
                head_at,
            });
        }
        self.error_reply(exchange, pool, upstream).await
    }

    /// Translates an error status. A 4xx that the caller caused counts as a request; anything the
    /// caller could not help does not, and is worth trying elsewhere.
    async fn error_reply(
        &self,
        mut exchange: Exchange,
        pool: &Connections,
        upstream: &str,
    ) -> Tried {
        let status = exchange.status().as_u16();
        let content_type = exchange.header("content-type").map(str::to_owned);
        // The other form, a date, is not worth a clock that may differ from ours.
        let retry_after = exchange.header("retry-after").and_then(|text| text.trim().parse().ok());
        let body =
            tokio::time::timeout(ERROR_TIME, read_error(&mut exchange)).await.unwrap_or_default();
        if body.is_some() {
            pool.release(exchange).await;
        }
        let error = UpstreamError::read(status, content_type.as_deref(), &body.unwrap_or_default());
        let callers_fault = !error.fault.retriable();
        // What is said of the caller's request may quote it, and prompts are never logged.
        let detail = if callers_fault { "" } else { &*error.detail };
        tracing::warn!(request_id = %self.reservation.request, upstream, upstream_status = status, detail, "upstream answered with an error");
        Tried::Failed {
            failure: UpstreamFailure::Answered {
                status: error.status,
                body: error.body,
                retry_after: retry_after.filter(|_| !callers_fault),
            },
            counted: callers_fault,
            try_next: !callers_fault,
        }
    }

    fn up(&self, upstream: &str, is_up: bool) {
        self.metrics.upstream_up(upstream).set(if is_up { 1.0 } else { 0.0 });
    }

    fn outgoing(&self, route: &Route) -> Outgoing {
        let changes = Changes {
            model: (*route.upstream_model != *self.request.model).then_some(&*route.upstream_model),
            max_output: self.reservation.output_limit,
            limit_field: route.upstream.limit_field,
            include_usage: self.request.wants_usage_asked_for(),
        };
        Outgoing {
            method: Method::POST,
            path: self.request.surface.path().into(),
            headers: super::headers::upstream_request(self.headers, self.reservation.request),
            body: self.request.splice(changes),
            begun: AtomicBool::new(false),
        }
    }
}

/// Resolves when there is nobody left to answer, or nothing left to answer with.
pub async fn stopped(session: &mut ServerSession, leash: &Leash) -> Stop {
    tokio::select! {
        biased;
        pulled = leash.pulled() => Stop::Pulled(pulled),
        () = caller_gone(session) => Stop::CallerGone,
    }
}

/// Resolves when the caller's connection has ended. Bytes of a next request are kept for it.
pub async fn caller_gone(session: &mut ServerSession) {
    while session.read_body_or_idle(true).await.is_ok() {}
}

/// The whole error body, `None` when it is too long or broken off.
async fn read_error(exchange: &mut Exchange) -> Option<Bytes> {
    let mut body = BytesMut::new();
    while let Some(bytes) = exchange.next().await.ok()? {
        body.extend_from_slice(&bytes);
        if body.len() > ERROR_BYTES {
            return None;
        }
    }
    Some(body.freeze())
}

/// What the caller is told of it.
#[must_use]
pub fn failure(error: &SendError) -> UpstreamFailure {
    match error {
        SendError::Busy => UpstreamFailure::Busy,
        SendError::Connect(_) => UpstreamFailure::Connect,
        SendError::ConnectTimeout => UpstreamFailure::ConnectTimeout,
        SendError::FirstByteTimeout => UpstreamFailure::FirstByteTimeout,
        SendError::Closed(_) => UpstreamFailure::Closed,
        SendError::NotHttp(_) => UpstreamFailure::NotHttp,
    }
}

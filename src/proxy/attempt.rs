//! One try at one upstream: sent, and its reply's head or its failure read.

use super::forward::{Forwarded, Forwarding, Pending, Stop, stopped};
use super::refusal::UpstreamFailure;
use crate::clock;
use crate::openai::error::{Fault, UpstreamError};
use crate::openai::request::Changes;
use crate::upstream::catalog::Route;
use crate::upstream::connect::{Connections, Exchange, Outgoing, SendError};
use crate::upstream::places::Place;
use bytes::{Bytes, BytesMut};
use futures_util::future::BoxFuture;
use http::Method;
use pingora_core::protocols::http::ServerSession;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// An error reply is read up to here: enough for any error object.
const ERROR_BYTES: usize = 64 * 1024;
const ERROR_TIME: Duration = Duration::from_secs(5);

/// What came of a try.
pub(super) enum Tried {
    Answering(Forwarded),
    Stopped {
        by: Stop,
        /// Set when a byte of the request may have reached the upstream.
        pending: Option<Pending>,
    },
    Failed {
        failure: UpstreamFailure,
        blame: Blame,
        /// The same upstream may be asked once more: it was not reached, or failed at once.
        again: bool,
    },
}

/// Whose failure it was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Blame {
    /// No upstream would take the request. It counts as one.
    Caller,
    /// This upstream's alone, and of this model: another may have it.
    Model,
    /// A limit is reached; the upstream may have said for how long.
    Limit {
        rest: Option<Duration>,
    },
    Upstream,
}

impl Blame {
    pub(super) fn of(fault: Fault, retry_after: Option<u32>) -> Self {
        let rest = retry_after.map(|seconds| Duration::from_secs(seconds.into()));
        match fault {
            Fault::Rate => Self::Limit { rest },
            Fault::Model => Self::Model,
            fault if fault.retriable() => Self::Upstream,
            _ => Self::Caller,
        }
    }
}

impl Forwarding<'_> {
    pub(super) async fn try_one(
        &self,
        session: &mut ServerSession,
        route: &Route,
        pool: &Arc<Connections>,
        place: Place,
    ) -> Tried {
        let outgoing = Arc::new(self.outgoing(route));
        let asked_at = clock::instant();
        // It owns what it needs, so that it can go on when nobody waits here any more.
        let mut sending: BoxFuture<'static, _> = {
            let (pool, outgoing) = (Arc::clone(pool), Arc::clone(&outgoing));
            Box::pin(async move { pool.send(place, &outgoing).await })
        };
        let sent = tokio::select! {
            sent = &mut sending => sent,
            by = stopped(session, self.leash) => {
                let begun = outgoing.begun.load(Ordering::Relaxed);
                let pool = Arc::clone(pool);
                return Tried::Stopped { by, pending: begun.then_some(Pending { sending, pool }) };
            }
        };
        let upstream = &route.upstream.name;
        let exchange = match sent {
            Ok(exchange) => exchange,
            Err(e) => {
                tracing::warn!(request_id = %self.reservation.request, upstream = &**upstream, error = %e, "upstream did not answer");
                let unsent = matches!(e, SendError::Connect(_) | SendError::ConnectTimeout);
                self.up(upstream, !unsent);
                return Tried::Failed {
                    failure: failure(&e),
                    blame: Blame::Upstream,
                    again: unsent,
                };
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
        let blame = Blame::of(error.fault, retry_after);
        let callers_fault = blame == Blame::Caller;
        // What is said of the caller's request may quote it, and prompts are never logged.
        let detail = if callers_fault { "" } else { &*error.detail };
        tracing::warn!(request_id = %self.reservation.request, upstream, upstream_status = status, detail, "upstream answered with an error");
        Tried::Failed {
            failure: UpstreamFailure::Answered {
                status: error.status,
                body: error.body,
                retry_after: retry_after.filter(|_| !callers_fault),
            },
            blame,
            again: matches!(error.fault, Fault::Unavailable | Fault::Broken),
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
            policy: Some(&self.reservation.caller.plan_limits.policy),
        };
        Outgoing {
            method: Method::POST,
            path: self.request.surface.path().into(),
            headers: super::headers::upstream_request(
                self.headers,
                self.reservation.request,
                &route.upstream,
            ),
            body: self.request.splice(changes),
            begun: AtomicBool::new(false),
        }
    }
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
pub(super) fn failure(error: &SendError) -> UpstreamFailure {
    match error {
        SendError::Connect(_) => UpstreamFailure::Connect,
        SendError::ConnectTimeout => UpstreamFailure::ConnectTimeout,
        SendError::FirstByteTimeout => UpstreamFailure::FirstByteTimeout,
        SendError::Closed(_) => UpstreamFailure::Closed,
        SendError::NotHttp(_) => UpstreamFailure::NotHttp,
    }
}

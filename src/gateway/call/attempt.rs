//! One attempt at one upstream: sends the request, and reads the head of the response or the failure.

use crate::gateway::call::end::EndReason;
use crate::gateway::call::forward::{Forwarding, UpstreamResponse};
use crate::gateway::call::response_prefix::Beginning;
use crate::gateway::listener::session::Session;
use crate::gateway::response::refusal::UpstreamFailure;
use crate::upstream::catalog::Route;
use crate::upstream::client::{
    CallError, Exchange, PendingReply, SendError, UpstreamClient, UpstreamRequest,
};
use crate::upstream::concurrency::Permit;
use crate::upstream::recent_calls::Failure;
use bytes::{Bytes, BytesMut};
use http::Method;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use system::clock;
use telemetry::labels::AccountProblem;
use telemetry::metrics::Metrics;
use wire::error::{Fault, UpstreamError};
use wire::request::Rewrite;

/// An error reply is read up to here: enough for any error object.
const MAX_ERROR_BODY: usize = 64 * 1024;
const ERROR_BODY_TIMEOUT: Duration = Duration::from_secs(5);

/// The result of one attempt.
pub(crate) enum Attempt {
    Responded(UpstreamResponse),
    Stopped {
        by: EndReason,
        /// Set once the whole request has been sent.
        pending: Option<PendingReply>,
    },
    Failed {
        failure: UpstreamFailure,
        blame: FaultOwner,
        /// What the error of the upstream was about, if it sent one.
        fault: Option<Fault>,
        /// The same upstream may be tried once more: it was not reached, or failed at once.
        may_retry: bool,
        /// It is `stream_options` that it does not take.
        refuses_stream_options: bool,
    },
}

impl Attempt {
    /// The upstream is to blame, whatever the request.
    fn upstream_failed(failure: UpstreamFailure, may_retry: bool) -> Self {
        let blame = FaultOwner::Upstream;
        Self::Failed { failure, blame, fault: None, may_retry, refuses_stream_options: false }
    }

    /// The upstream was silent too long; `is_sent` if it has the whole request.
    fn silent(client: &UpstreamClient, is_sent: bool) -> Self {
        record(client, "first_event_timeout", None);
        let failure =
            if is_sent { UpstreamFailure::FirstByteTimeout } else { UpstreamFailure::Closed };
        Self::upstream_failed(failure, false)
    }
}

/// The party responsible for a failure, which decides on retries and on the breaker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum FaultOwner {
    /// No upstream would take the request. It counts as one.
    Caller,
    /// This upstream's alone, and of this model: another may have it.
    Model,
    /// A rate limit is reached, for `rest` if the upstream sent a time.
    Limit {
        rest: Option<Duration>,
    },
    Upstream,
}

impl FaultOwner {
    pub(crate) fn of(fault: Fault, retry_after: Option<u32>) -> Self {
        let rest = retry_after.map(|seconds| Duration::from_secs(seconds.into()));
        match fault {
            Fault::Rate => Self::Limit { rest },
            Fault::Model | Fault::Sealed => Self::Model,
            fault if fault.is_retriable() => Self::Upstream,
            _ => Self::Caller,
        }
    }
}

impl Forwarding<'_> {
    /// Tries one upstream; once more without `stream_options` if it only rejects those.
    pub(crate) async fn attempt(
        &self,
        session: &mut Session,
        route: &Route,
        client: &Arc<UpstreamClient>,
        permit: Permit,
        others: &[&Route],
    ) -> Attempt {
        let attempt = self.attempt_once(session, route, client, permit, others).await;
        let Attempt::Failed { refuses_stream_options: true, .. } = &attempt else { return attempt };
        // The caller's own members may be what the upstream refuses, or that there are any without a stream:
        // other users must not lose reported usage for it.
        if !self.request.stream
            || self.request.has_other_stream_options()
            || !self.sends_stream_options(route, client)
        {
            return attempt;
        }
        let Some(permit) = client.limiter.try_acquire() else { return attempt };
        client.refuses_stream_options.store(true, Ordering::Relaxed);
        let retried = self.attempt_once(session, route, client, permit, others).await;
        if matches!(retried, Attempt::Failed { .. }) {
            // Something else is wrong with the request.
            client.refuses_stream_options.store(false, Ordering::Relaxed);
        } else {
            tracing::warn!(
                upstream = &*route.upstream.name,
                "upstream rejected stream_options: no longer sending them, estimating the usage of its streams"
            );
        }
        retried
    }

    fn sends_stream_options(&self, route: &Route, client: &UpstreamClient) -> bool {
        let is_asked = self.request.needs_include_usage() || self.request.include_usage;
        is_asked
            && route.upstream.stream_options
            && !client.refuses_stream_options.load(Ordering::Relaxed)
    }

    async fn attempt_once(
        &self,
        session: &mut Session,
        route: &Route,
        client: &Arc<UpstreamClient>,
        permit: Permit,
        others: &[&Route],
    ) -> Attempt {
        let request = self.outgoing(route, client);
        let sent_at = clock::instant();
        let silence = self.silence_limit(route, others);
        let interrupted = self.interrupted(session, silence, sent_at);
        let called = client.call(permit, request, interrupted).await;
        let upstream = &route.upstream.name;
        let mut exchange = match called {
            Ok(exchange) => exchange,
            Err(CallError::Cancelled { by: Some(by), pending }) => {
                return Attempt::Stopped { by, pending };
            }
            Err(CallError::Cancelled { by: None, pending }) => {
                return Attempt::silent(client, pending.is_some());
            }
            Err(CallError::Failed(error)) => {
                record(client, error.as_str(), None);
                return self.no_response(upstream, &error);
            }
        };
        let head_at = clock::instant();
        self.set_upstream_up(upstream, true);
        self.metrics.upstream_first_byte_seconds(upstream).record(head_at.duration_since(sent_at));
        if !exchange.status().is_success() {
            return self.error_reply(exchange, client).await;
        }
        if is_compressed(&exchange) {
            tracing::warn!(request_id = %self.reservation.request, upstream = &**upstream, "upstream sent a compressed response despite accept-encoding: identity");
            record(client, "compressed", Some(exchange.status().as_u16()));
            return Attempt::upstream_failed(UpstreamFailure::BadReply, false);
        }
        match self.beginning(session, &mut exchange, silence).await {
            Beginning::Reply => {}
            Beginning::Error(error) => return self.refused(*error, client, (200, None), false),
            Beginning::Broken => {
                record(client, "broken_response", Some(exchange.status().as_u16()));
                return Attempt::upstream_failed(UpstreamFailure::BadReply, false);
            }
            Beginning::Silent => return Attempt::silent(client, true),
        }
        client.refuses_account.store(false, Ordering::Relaxed);
        let (client, upstream) = (Arc::clone(client), Arc::clone(upstream));
        Attempt::Responded(UpstreamResponse {
            exchange: Box::new(exchange),
            client,
            upstream,
            head_at,
        })
    }

    /// The failed attempt for an upstream that sent no response head.
    fn no_response(&self, upstream: &str, error: &SendError) -> Attempt {
        tracing::warn!(request_id = %self.reservation.request, upstream, %error, "upstream request failed");
        let unsent = matches!(error, SendError::Connect(_) | SendError::ConnectTimeout);
        self.set_upstream_up(upstream, !unsent);
        Attempt::upstream_failed(failure(error), unsent)
    }

    /// Translates an error status. A 4xx that the caller caused counts as a request; anything the
    /// caller could not help does not, and is worth trying elsewhere.
    async fn error_reply(&self, mut exchange: Exchange, client: &UpstreamClient) -> Attempt {
        let status = exchange.status().as_u16();
        let content_type = exchange.header("content-type").map(str::to_owned);
        // The other form, a date, is not worth a clock that may differ from ours.
        let retry_after = exchange.header("retry-after").and_then(|text| text.trim().parse().ok());
        let body = tokio::time::timeout(ERROR_BODY_TIMEOUT, read_error(&mut exchange))
            .await
            .unwrap_or_default();
        if body.is_some() {
            client.release(exchange);
        }
        let error = UpstreamError::read(status, content_type.as_deref(), &body.unwrap_or_default());
        let may_retry = matches!(error.fault, Fault::Unavailable | Fault::Broken);
        self.refused(error, client, (status, retry_after), may_retry)
    }

    /// The failed attempt for an error that the upstream responded with, whatever its status.
    fn refused(
        &self,
        error: UpstreamError,
        client: &UpstreamClient,
        (status, retry_after): (u16, Option<u32>),
        may_retry: bool,
    ) -> Attempt {
        let upstream = client.upstream();
        let error = error.redacted(&upstream.redactor());
        let blame = FaultOwner::of(error.fault, retry_after);
        // Not in its own words: they may quote the request, and prompts are never logged.
        tracing::warn!(request_id = %self.reservation.request, upstream = &*upstream.name, upstream_status = status, fault = error.fault.as_str(), "upstream returned an error");
        alert(self.metrics, client, error.fault);
        if blame != FaultOwner::Caller {
            record(client, error.fault.as_str(), Some(status));
        }
        Attempt::Failed {
            refuses_stream_options: error.refuses_stream_options,
            failure: UpstreamFailure::ErrorResponse {
                status: error.status,
                body: error.body,
                retry_after: retry_after.filter(|_| blame != FaultOwner::Caller),
            },
            blame,
            fault: Some(error.fault),
            may_retry,
        }
    }

    fn set_upstream_up(&self, upstream: &str, is_up: bool) {
        self.metrics.upstream_up(upstream).set(if is_up { 1.0 } else { 0.0 });
    }

    fn outgoing(&self, route: &Route, client: &UpstreamClient) -> UpstreamRequest {
        let takes_options =
            route.upstream.stream_options && !client.refuses_stream_options.load(Ordering::Relaxed);
        let rewrite = Rewrite {
            model: (*route.upstream_model != *self.request.model).then_some(&*route.upstream_model),
            max_output: self.reservation.output_limit,
            limit_field: route.upstream.limit_field,
            policy: Some(&self.reservation.caller.plan_limits.policy),
            include_usage: takes_options && self.request.needs_include_usage(),
            drop_stream_options: !takes_options,
        };
        UpstreamRequest {
            method: Method::POST,
            path: self.request.surface.path().into(),
            request: Some(self.reservation.request),
            forwarded: crate::gateway::headers::forwarded(self.headers, &route.upstream),
            body: self.request.rewrite(rewrite),
            send_once: false,
        }
    }
}

/// Records a failure for operators to see.
fn record(client: &UpstreamClient, reason: &'static str, status: Option<u16>) {
    client.recent.failed(Failure { at: clock::now(), reason, status });
}

/// Counts a refusal that is about the operator's account, and says so once until a call is answered.
pub(crate) fn alert(metrics: &Metrics, client: &UpstreamClient, fault: Fault) {
    let trouble = match fault {
        Fault::OperatorKey => AccountProblem::Key,
        Fault::OperatorQuota => AccountProblem::Quota,
        _ => return,
    };
    let upstream = &client.upstream().name;
    metrics.upstream_account_refusals(upstream, trouble).increment(1);
    if !client.refuses_account.swap(true, Ordering::Relaxed) {
        tracing::error!(
            upstream = &**upstream,
            trouble = trouble.as_str(),
            "upstream rejected the operator's key or account; check its key and balance"
        );
    }
}

/// True if the body is encoded although `identity` was requested.
fn is_compressed(exchange: &Exchange) -> bool {
    let encoding = exchange.header("content-encoding").map(str::trim).unwrap_or_default();
    !encoding.is_empty() && !encoding.eq_ignore_ascii_case("identity")
}

/// The whole error body, `None` when it is too long or broken off.
async fn read_error(exchange: &mut Exchange) -> Option<Bytes> {
    let mut body = BytesMut::new();
    while let Some(bytes) = exchange.next().await.ok()? {
        body.extend_from_slice(&bytes);
        if body.len() > MAX_ERROR_BODY {
            return None;
        }
    }
    Some(body.freeze())
}

/// The failure that the client receives.
#[must_use]
pub(crate) fn failure(error: &SendError) -> UpstreamFailure {
    match error {
        SendError::Busy => UpstreamFailure::Busy,
        SendError::Connect(_) => UpstreamFailure::Connect,
        SendError::ConnectTimeout => UpstreamFailure::ConnectTimeout,
        SendError::FirstByteTimeout => UpstreamFailure::FirstByteTimeout,
        SendError::Closed(_) | SendError::WriteTimeout => UpstreamFailure::Closed,
        SendError::NotHttp(_) => UpstreamFailure::NotHttp,
    }
}

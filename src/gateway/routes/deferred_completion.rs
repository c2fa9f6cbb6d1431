//! `GET /v1/chat/deferred-completion/{id}`: the answer to a chat that was deferred, once it is there.
//!
//! The upstream gives it once, so one call at a time asks, and nothing is asked twice. The call that deferred
//! it has been charged in full; what it really used takes that charge's place when it is fetched. Fetching
//! itself costs nothing but one request of the rate limit.

use crate::gateway::call::Call;
use crate::gateway::call::attempt;
use crate::gateway::call::cancellation::Cancellation;
use crate::gateway::call::end::outcome_of_http;
use crate::gateway::call::forward::{UpstreamResponse, stopped};
use crate::gateway::call::relay_body::{self, CollectedBody};
use crate::gateway::call::settle::Settlement;
use crate::gateway::endpoint::RequestHead;
use crate::gateway::headers;
use crate::gateway::listener::session::{ResponseHead, Session};
use crate::gateway::response::refusal::{Refusal, UpstreamFailure};
use crate::gateway::response::rejection::Rejection;
use crate::gateway::response::writer::ResponseWriter;
use crate::gateway::{Gateway, Handled, RoutingSnapshot};
use crate::upstream::client::{CallError, UpstreamRequest};
use bytes::{Bytes, BytesMut};
use domain::caller::Caller;
use domain::charge::Status;
use domain::stored_response::StoredResponse;
use http::{Method, StatusCode};
use jiff::SignedDuration;
use std::sync::Arc;
use system::clock;
use telemetry::labels::Route;
use wire::error::UpstreamError;
use wire::request::Request;
use wire::surface::Surface;

/// The upstream's response to a request for a deferred completion.
enum Deferred {
    Ready(UpstreamResponse),
    NotYet,
}

/// An answer that is coming.
struct Fetching<'a> {
    forwarded: UpstreamResponse,
    current: &'a RoutingSnapshot,
    reply: &'a StoredResponse,
    cancellation: Cancellation,
}

impl Gateway {
    /// Answers a request for a deferred completion.
    pub(crate) async fn deferred(
        &self,
        session: &mut Session,
        writer: &ResponseWriter<'_>,
        id: &str,
    ) -> Result<Handled, Rejection> {
        let caller = self.authenticate(session, writer).await?;
        let now = writer.head.admitted_at;
        let found = self.owners.owned_by(id, caller.user, now).await;
        let none = || Refusal::NoSuchReply(id.to_owned());
        let reply = found.map_err(|_| Refusal::RepliesUnavailable)?.ok_or_else(none)?;
        let current = self.current();
        let longest = SignedDuration::try_from(current.limits.call_timeout);
        let until = now.saturating_add(longest.unwrap_or(SignedDuration::from_hours(1)));
        let until = until.unwrap_or(reply.expires_at);
        let claimed = self.owners.claim(id, now, until).await;
        if !claimed.map_err(|_| Refusal::RepliesUnavailable)? {
            return Err(Refusal::ReplyInUse.into());
        }
        let fetched = self.fetch(session, writer, &current, (&caller, &reply)).await;
        match &fetched {
            Ok(Handled { status: 200, .. }) => self.owners.delete(id).await,
            _ => self.owners.release(id).await,
        }
        fetched
    }

    /// Takes one request of the rate limit, asks once, and sets right what the call that deferred it was charged.
    async fn fetch(
        &self,
        session: &mut Session,
        writer: &ResponseWriter<'_>,
        current: &RoutingSnapshot,
        (caller, reply): (&Arc<Caller>, &StoredResponse),
    ) -> Result<Handled, Rejection> {
        let request = Request::for_deferred_completion(&reply.model);
        let memory = self.body_memory.acquire(Some(caller.user), writer.head.address);
        let call = Call { gateway: self, writer, current, request: &request, body_permit: memory };
        let cancellation = self.cancellation(caller, writer, current, false);
        let reservation = call.admit(session, &cancellation, caller, Some(&reply.upstream)).await?;
        let budget = reservation.budget().returned(reservation.reserved, false);
        let requested =
            self.request_deferred(session, writer.head, &cancellation, (current, reply)).await;
        let status = match &requested {
            Ok(Deferred::Ready(_)) => Status::Complete,
            Err(Rejection::CallerGone) => Status::CutByClient,
            Ok(Deferred::NotYet) | Err(Rejection::Refused { .. }) => Status::Failed,
        };
        let nothing = Settlement::failed(reply.upstream.as_str().into(), false);
        reservation.settle(Settlement { status, ..nothing }).await;
        let with_budget = |rejection: Rejection| rejection.with_budget(budget);
        let (mut head, body) = match requested.map_err(with_budget)? {
            Deferred::Ready(forwarded) => {
                let fetching = Fetching { forwarded, current, reply, cancellation };
                self.read_deferred(session, writer, fetching).await.map_err(with_budget)?
            }
            Deferred::NotYet => (writer.head(202, writer.elapsed()), Bytes::new()),
        };
        let status = head.status.as_u16();
        budget.write(&mut head);
        let _ = writer.whole(session, head, body).await;
        Ok(Handled { route: Route::DeferredCompletion, status, outcome: outcome_of_http(status) })
    }

    /// Reads a completion that the upstream delivers once. If its caller has gone it is read to its end all the
    /// same, for its usage.
    async fn read_deferred(
        &self,
        session: &mut Session,
        writer: &ResponseWriter<'_>,
        fetching: Fetching<'_>,
    ) -> Result<(ResponseHead, Bytes), Rejection> {
        let Fetching { mut forwarded, current, reply, cancellation } = fetching;
        let mut memory = self.body_memory.acquire(Some(reply.user), writer.head.address);
        let mut body = BytesMut::new();
        let most = current.limits.reply_bytes;
        let bounds = relay_body::CollectLimits {
            bytes: most,
            body_permit: &mut memory,
            cancellation: &cancellation,
        };
        let corrector = self.corrector(&current.upstreams);
        let collected =
            relay_body::collect(session, &mut forwarded.exchange, &mut body, bounds).await;
        match collected.of_json() {
            CollectedBody::Body(body) => {
                let now = writer.head.admitted_at;
                let settled = corrector.settle(reply, Surface::ChatCompletions, &body, now).await;
                if let Err(refusal) = settled {
                    // The answer cannot be had again, and it has been paid in full.
                    tracing::error!(
                        id = reply.id,
                        error = ?refusal,
                        "failed to correct the charge of a deferred completion; it stays at the full reservation"
                    );
                }
                let upstream = forwarded.pool.upstream();
                if let Some(error) = UpstreamError::in_reply(&body) {
                    let error = error.redacted(&upstream.redactor());
                    return Err(error_response(error).into());
                }
                let mut head = writer.head(200, writer.elapsed());
                headers::add_upstream_reply(&mut head, &forwarded.exchange);
                let body = forwarded.pool.reply_redactor.body(body);
                forwarded.pool.release(*forwarded.exchange);
                Ok((head, body))
            }
            CollectedBody::Broken(refusal) | CollectedBody::GivenUp(refusal) => Err(refusal.into()),
            CollectedBody::Stopped(by) => {
                let (reply, now, time) =
                    (reply.clone(), writer.head.admitted_at, current.limits.drain);
                self.settler.tasks.spawn(async move {
                    let rest =
                        relay_body::read_on(&mut forwarded.exchange, body, most, &mut memory);
                    if let Ok(Some(body)) = tokio::time::timeout(time, rest).await {
                        let surface = Surface::ChatCompletions;
                        let settled = corrector.settle(&reply, surface, &body, now).await;
                        if settled.is_ok() {
                            corrector.owners.delete(&reply.id).await;
                        }
                    }
                });
                Err(Rejection::of(by))
            }
        }
    }

    async fn request_deferred(
        &self,
        session: &mut Session,
        head: &RequestHead,
        cancellation: &Cancellation,
        (current, reply): (&RoutingSnapshot, &StoredResponse),
    ) -> Result<Deferred, Rejection> {
        let none = || Refusal::NoSuchReply(reply.id.clone());
        let pool = current.upstreams.client(&reply.upstream).ok_or_else(none)?;
        let path = format!("/chat/deferred-completion/{}", reply.id);
        let request = UpstreamRequest {
            request: Some(head.id),
            forwarded: headers::forwarded(session.headers(), pool.upstream()),
            send_once: true,
            ..UpstreamRequest::without_body(Method::GET, path)
        };
        let exchange = match pool.try_call(request, stopped(session, cancellation)).await {
            Ok(exchange) => exchange,
            Err(CallError::Cancelled { by, .. }) => return Err(Rejection::of(by)),
            Err(CallError::Failed(e)) => {
                return Err(Refusal::Upstream(attempt::failure(&e)).into());
            }
        };
        match exchange.status() {
            StatusCode::ACCEPTED => Ok(Deferred::NotYet),
            StatusCode::NOT_FOUND => Err(none().into()),
            status if status.is_success() => Ok(Deferred::Ready(UpstreamResponse {
                exchange: Box::new(exchange),
                pool: Arc::clone(pool),
                upstream: reply.upstream.as_str().into(),
                head_at: clock::instant(),
            })),
            status => Err(error_response(UpstreamError::read(status.as_u16(), None, b"")).into()),
        }
    }
}

fn error_response(error: UpstreamError) -> Refusal {
    Refusal::Upstream(UpstreamFailure::ErrorResponse {
        status: error.status,
        body: error.body,
        retry_after: None,
    })
}

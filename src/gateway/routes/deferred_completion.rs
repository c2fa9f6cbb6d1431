//! `GET /v1/chat/deferred-completion/{id}`: the answer to a chat that was deferred, once it is there.
//!
//! The upstream gives it once, so one call at a time asks, and nothing is asked twice. The call that deferred
//! it has been charged in full; what it really used takes that charge's place when it is fetched. Fetching
//! itself costs nothing but one request of the rate limit.

use crate::gateway::call::attempt;
use crate::gateway::call::cancellation::Leash;
use crate::gateway::call::forward::{Forwarded, stopped};
use crate::gateway::call::relay_body::{self, Collected};
use crate::gateway::call::settle::Ending;
use crate::gateway::call::{Call, unreserved};
use crate::gateway::endpoint::Head;
use crate::gateway::headers;
use crate::gateway::listener::session::{ReplyHead, Session};
use crate::gateway::response::refusal::{Refusal, UpstreamFailure};
use crate::gateway::response::writer::Replier;
use crate::gateway::{CALLER_GONE, Gateway, Handled, Rejection, RoutingSnapshot, outcome_of};
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

/// What came of asking the upstream.
enum Asked {
    Ready(Forwarded),
    /// It is not ready yet.
    NotYet,
    CallerGone,
    No(Refusal),
}

/// An answer that is coming.
struct Fetching<'a> {
    forwarded: Forwarded,
    current: &'a RoutingSnapshot,
    reply: &'a StoredResponse,
    leash: Leash,
}

impl Gateway {
    /// Answers a request for a deferred completion.
    pub(crate) async fn deferred(
        &self,
        session: &mut Session,
        replier: &Replier<'_>,
        id: &str,
    ) -> Result<Handled, Rejection> {
        let caller = self.authenticate(session, replier).await?;
        let now = replier.head.admitted_at;
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
        let fetched = self.fetch(session, replier, &current, (&caller, &reply)).await;
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
        replier: &Replier<'_>,
        current: &RoutingSnapshot,
        (caller, reply): (&Arc<Caller>, &StoredResponse),
    ) -> Result<Handled, Rejection> {
        let request = Request::for_deferred_completion(&reply.model);
        let memory = self.buffers.hold(Some(caller.user), replier.head.address);
        let call = Call { proxy: self, replier, current, request: &request, held: memory };
        let leash = self.leash(caller, replier, current, false);
        let reservation = match call.reserve(session, &leash, caller, Some(&reply.upstream)).await {
            Ok(reservation) => reservation,
            Err(by) => return unreserved(session, by).map_or(Ok(answered(CALLER_GONE)), Err),
        };
        let budget = reservation.budget().returned(reservation.reserved, false);
        let asked = self.ask_for_deferred(session, replier.head, &leash, (current, reply)).await;
        let status = match asked {
            Asked::Ready(_) => Status::Complete,
            Asked::CallerGone => Status::CutByClient,
            Asked::NotYet | Asked::No(_) => Status::Failed,
        };
        let nothing = Ending::failed(reply.upstream.as_str().into(), false);
        reservation.settle(Ending { status, ..nothing }).await;
        let refused = |refusal| Rejection { refusal, budget: Some(budget) };
        match asked {
            Asked::Ready(forwarded) => {
                let fetching = Fetching { forwarded, current, reply, leash };
                let fetched = self.read_deferred(session, replier, fetching).await;
                let Some((mut head, body)) = fetched.map_err(refused)? else {
                    session.close_after_reply();
                    return Ok(answered(CALLER_GONE));
                };
                budget.write(&mut head);
                let _ = replier.whole(session, head, body).await;
                Ok(answered(200))
            }
            Asked::NotYet => {
                let mut head = replier.head(202, replier.elapsed());
                budget.write(&mut head);
                let _ = replier.whole(session, head, Bytes::new()).await;
                Ok(answered(202))
            }
            Asked::CallerGone => {
                session.close_after_reply();
                Ok(answered(CALLER_GONE))
            }
            Asked::No(refusal) => Err(refused(refusal)),
        }
    }

    /// Reads an answer that the upstream gives away; `None` when its caller is gone. Then it is read on all
    /// the same, for what it used: it cannot be had again.
    async fn read_deferred(
        &self,
        session: &mut Session,
        replier: &Replier<'_>,
        fetching: Fetching<'_>,
    ) -> Result<Option<(ReplyHead, Bytes)>, Refusal> {
        let Fetching { mut forwarded, current, reply, leash } = fetching;
        let mut memory = self.buffers.hold(Some(reply.user), replier.head.address);
        let mut body = BytesMut::new();
        let most = current.limits.reply_bytes;
        let bounds = relay_body::Bounds { bytes: most, held: &mut memory, leash: &leash };
        let corrector = self.corrector(&current.upstreams);
        let collected =
            relay_body::collect(session, &mut forwarded.exchange, &mut body, bounds).await;
        match collected.of_json() {
            Collected::Body(body) => {
                let now = replier.head.admitted_at;
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
                    return Err(Refusal::Upstream(UpstreamFailure::Handled {
                        status: error.status,
                        body: error.body,
                        retry_after: None,
                    }));
                }
                let mut head = replier.head(200, replier.elapsed());
                headers::add_upstream_reply(&mut head, &forwarded.exchange);
                let body = forwarded.pool.reply_redactor.body(body);
                forwarded.pool.release(*forwarded.exchange);
                Ok(Some((head, body)))
            }
            Collected::Broken(refusal) | Collected::GivenUp(refusal) => Err(refusal),
            Collected::Stopped(by) => {
                let (reply, now, time) =
                    (reply.clone(), replier.head.admitted_at, current.limits.drain);
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
                by.refusal().map_or(Ok(None), Err)
            }
        }
    }

    async fn ask_for_deferred(
        &self,
        session: &mut Session,
        head: &Head,
        leash: &Leash,
        (current, reply): (&RoutingSnapshot, &StoredResponse),
    ) -> Asked {
        let none = || Asked::No(Refusal::NoSuchReply(reply.id.clone()));
        let Some(pool) = current.upstreams.client(&reply.upstream) else { return none() };
        let path = format!("/chat/deferred-completion/{}", reply.id);
        let request = UpstreamRequest {
            request: Some(head.id),
            forwarded: headers::forwarded(session.headers(), pool.upstream()),
            send_once: true,
            ..UpstreamRequest::without_body(Method::GET, path)
        };
        let exchange = match pool.try_call(request, stopped(session, leash)).await {
            Ok(exchange) => exchange,
            Err(CallError::Cancelled { by, .. }) => {
                return by.refusal().map_or(Asked::CallerGone, Asked::No);
            }
            Err(CallError::Failed(e)) => {
                return Asked::No(Refusal::Upstream(attempt::failure(&e)));
            }
        };
        match exchange.status() {
            StatusCode::ACCEPTED => Asked::NotYet,
            StatusCode::NOT_FOUND => none(),
            status if status.is_success() => Asked::Ready(Forwarded {
                exchange: Box::new(exchange),
                pool: Arc::clone(pool),
                upstream: reply.upstream.as_str().into(),
                head_at: clock::instant(),
            }),
            status => {
                let error = UpstreamError::read(status.as_u16(), None, b"");
                Asked::No(Refusal::Upstream(UpstreamFailure::Handled {
                    status: error.status,
                    body: error.body,
                    retry_after: None,
                }))
            }
        }
    }
}

fn answered(status: u16) -> Handled {
    Handled { route: Route::DeferredCompletion, status, outcome: outcome_of(status) }
}

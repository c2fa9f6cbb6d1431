//! `GET /v1/chat/deferred-completion/{id}`: fetches a deferred completion.
//!
//! The upstream delivers it once, so fetches are serialized and never retried. The call that deferred it has been
//! charged in full; when it is fetched, the reported usage replaces that charge, also if the client disconnects
//! meanwhile. The fetch itself counts as a request of the window and costs no tokens.

use crate::gateway::call::Call;
use crate::gateway::call::adaptation::ReplyAdapter;
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
use crate::upstream::client::{CallError, PendingReply, UpstreamRequest};
use bytes::{Bytes, BytesMut};
use domain::caller::Caller;
use domain::charge::Status;
use domain::stored_response::StoredResponse;
use http::{Method, StatusCode};
use jiff::{SignedDuration, Timestamp};
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

/// One fetch of a deferred completion.
struct Fetch<'a> {
    current: &'a RoutingSnapshot,
    reply: &'a StoredResponse,
    /// Set once a task reads the completion on: it then ends the claim.
    is_drained: &'a mut bool,
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
        let mut is_drained = false;
        let fetch = Fetch { current: &current, reply: &reply, is_drained: &mut is_drained };
        let fetched = self.fetch(session, writer, &caller, fetch).await;
        match &fetched {
            Ok(Handled { status: 200, .. }) => self.owners.delete(id).await,
            // The drain does it once it knows.
            _ if is_drained => {}
            _ => self.owners.release(id).await,
        }
        fetched
    }

    /// Takes one request of the rate limit, asks once, and sets right what the call that deferred it was charged.
    async fn fetch(
        &self,
        session: &mut Session,
        writer: &ResponseWriter<'_>,
        caller: &Arc<Caller>,
        mut fetch: Fetch<'_>,
    ) -> Result<Handled, Rejection> {
        let Fetch { current, reply, .. } = fetch;
        let request = Request::for_deferred_completion(&reply.model);
        let memory = self.body_memory.empty_permit(Some(caller.user), writer.head.address);
        let call = Call {
            gateway: self,
            writer,
            current,
            surface: Surface::ChatCompletions,
            request: &request,
            adapter: ReplyAdapter::default(),
            body_permit: memory,
        };
        let cancellation = self.cancellation(caller, writer, current, false);
        let reservation = call.admit(session, &cancellation, caller, Some(&reply.upstream)).await?;
        let budget = reservation.budget().returned(reservation.reserved, false);
        let requested =
            self.request_deferred(session, writer.head, &cancellation, &mut fetch).await;
        let status = match &requested {
            Ok(Deferred::Ready(_)) => Status::Complete,
            Err(Rejection::CallerGone) => Status::CutByClient,
            Ok(Deferred::NotYet) | Err(Rejection::Refused { .. }) => Status::Failed,
        };
        let nothing = Settlement::failed(reply.upstream.as_str().into(), false);
        reservation.settle(Settlement { status, ..nothing }).await;
        let with_budget = |rejection: Rejection| rejection.with_budget(budget);
        let (mut head, body) = match requested.map_err(with_budget)? {
            Deferred::Ready(response) => {
                let reading = (response, cancellation);
                self.read_deferred(session, writer, reading, &mut fetch)
                    .await
                    .map_err(with_budget)?
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
        (mut response, cancellation): (UpstreamResponse, Cancellation),
        fetch: &mut Fetch<'_>,
    ) -> Result<(ResponseHead, Bytes), Rejection> {
        let Fetch { current, reply, .. } = *fetch;
        let mut memory = self.body_memory.empty_permit(Some(reply.user), writer.head.address);
        let mut body = BytesMut::new();
        let most = current.limits.reply_bytes;
        let bounds = relay_body::CollectLimits {
            bytes: most,
            body_permit: &mut memory,
            cancellation: &cancellation,
        };
        let collected =
            relay_body::collect(session, &mut response.exchange, &mut body, bounds).await;
        match collected.of_json() {
            CollectedBody::Body(body) => {
                self.correct_deferred(fetch, &body, writer.head.admitted_at).await;
                deliver(writer, response, body)
            }
            CollectedBody::Broken(refusal) | CollectedBody::GivenUp(refusal) => Err(refusal.into()),
            CollectedBody::Stopped(by) => {
                self.drain_deferred(fetch, writer.head.admitted_at, async move {
                    relay_body::read_on(&mut response.exchange, body, most, &mut memory).await
                });
                Err(Rejection::of(by))
            }
        }
    }

    /// Replaces the charge of the call that deferred the completion with what `body` reports.
    async fn correct_deferred(&self, fetch: &Fetch<'_>, body: &[u8], now: Timestamp) {
        let corrector = self.corrector(&fetch.current.upstreams);
        let settled = corrector.settle(fetch.reply, Surface::ChatCompletions, body, now).await;
        if let Err(refusal) = settled {
            // The answer cannot be had again, and it has been paid in full.
            tracing::error!(
                id = fetch.reply.id,
                error = ?refusal,
                "failed to correct the charge of a deferred completion; it stays at the full reservation"
            );
        }
    }

    /// Reads a completion whose caller has gone, in a task of its own: the upstream delivers it once, and its usage
    /// corrects the charge. If it cannot be read, the claim is released.
    fn drain_deferred(
        &self,
        fetch: &mut Fetch<'_>,
        now: Timestamp,
        reading: impl Future<Output = Option<Bytes>> + Send + 'static,
    ) {
        *fetch.is_drained = true;
        let corrector = self.corrector(&fetch.current.upstreams);
        let (reply, time) = (fetch.reply.clone(), fetch.current.limits.drain);
        self.services.tasks.spawn(async move {
            if let Ok(Some(body)) = tokio::time::timeout(time, reading).await {
                let settled = corrector.settle(&reply, Surface::ChatCompletions, &body, now).await;
                if settled.is_ok() {
                    return corrector.owners.delete(&reply.id).await;
                }
            }
            corrector.owners.release(&reply.id).await;
        });
    }

    /// Reads the completion behind a request whose response head has not arrived.
    fn drain_pending(&self, fetch: &mut Fetch<'_>, head: &RequestHead, pending: PendingReply) {
        let mut memory = self.body_memory.empty_permit(Some(fetch.reply.user), head.address);
        let most = fetch.current.limits.reply_bytes;
        self.drain_deferred(fetch, head.admitted_at, async move {
            let mut exchange = pending.sending.await.ok()?;
            // Not ready yet, or unknown: then there is no usage.
            if exchange.status() != StatusCode::OK {
                return None;
            }
            relay_body::read_on(&mut exchange, BytesMut::new(), most, &mut memory).await
        });
    }

    async fn request_deferred(
        &self,
        session: &mut Session,
        head: &RequestHead,
        cancellation: &Cancellation,
        fetch: &mut Fetch<'_>,
    ) -> Result<Deferred, Rejection> {
        let (current, reply) = (fetch.current, fetch.reply);
        let none = || Refusal::NoSuchReply(reply.id.clone());
        let client = current.upstreams.client(&reply.upstream).ok_or_else(none)?;
        let path = format!("/chat/deferred-completion/{}", reply.id);
        let request = UpstreamRequest {
            request: Some(head.id),
            forwarded: headers::forwarded(session.headers(), client.upstream()),
            send_once: true,
            ..UpstreamRequest::without_body(Method::GET, path)
        };
        let exchange = match client.try_call(request, stopped(session, cancellation)).await {
            Ok(exchange) => exchange,
            Err(CallError::Cancelled { by, pending }) => {
                if let Some(pending) = pending {
                    self.drain_pending(fetch, head, pending);
                }
                return Err(Rejection::of(by));
            }
            Err(CallError::Failed(e)) => {
                return Err(Refusal::Upstream(attempt::failure(&e)).into());
            }
        };
        match exchange.status() {
            StatusCode::ACCEPTED => Ok(Deferred::NotYet),
            StatusCode::NOT_FOUND => Err(none().into()),
            status if status.is_success() => Ok(Deferred::Ready(UpstreamResponse {
                exchange: Box::new(exchange),
                client: Arc::clone(client),
                upstream: reply.upstream.as_str().into(),
                head_at: clock::instant(),
            })),
            status => Err(error_response(UpstreamError::read(status.as_u16(), None, b"")).into()),
        }
    }
}

/// The head and body to send for a completion that has arrived, or the error that it is.
#[expect(clippy::result_large_err, reason = "as of all steps of a call")]
fn deliver(
    writer: &ResponseWriter<'_>,
    response: UpstreamResponse,
    body: Bytes,
) -> Result<(ResponseHead, Bytes), Rejection> {
    if let Some(error) = UpstreamError::in_reply(&body) {
        let error = error.redacted(&response.client.upstream().redactor());
        return Err(error_response(error).into());
    }
    let mut head = writer.head(200, writer.elapsed());
    headers::add_upstream_reply(&mut head, &response.exchange);
    let body = response.client.reply_redactor.body(body);
    response.client.release(*response.exchange);
    Ok((head, body))
}

fn error_response(error: UpstreamError) -> Refusal {
    Refusal::Upstream(UpstreamFailure::ErrorResponse {
        status: error.status,
        body: error.body,
        retry_after: None,
    })
}

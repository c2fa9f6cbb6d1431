//! Retrieves, deletes and cancels stored responses. Only their owner may; requests go to the upstream that stores
//! them, and are not billed.

use crate::gateway::call::attempt;
use crate::gateway::call::end::outcome_of_http;
use crate::gateway::call::forward::stopped;
use crate::gateway::call::relay_body::{self, CollectLimits, CollectedBody};
use crate::gateway::endpoint::{StoredResponseAction, StoredResponseRequest};
use crate::gateway::headers;
use crate::gateway::listener::session::{ResponseHead, Session};
use crate::gateway::response::refusal::{Refusal, UpstreamFailure};
use crate::gateway::response::rejection::Rejection;
use crate::gateway::response::writer::ResponseWriter;
use crate::gateway::{Gateway, Handled};
use crate::upstream::catalog::Upstream;
use crate::upstream::client::{CallError, Exchange, UpstreamRequest};
use bytes::{Bytes, BytesMut};
use domain::caller::Caller;
use domain::stored_response::StoredResponse;
use http::{Method, StatusCode};
use telemetry::labels::Route;
use wire::error::UpstreamError;
use wire::redact::Redactor;
use wire::surface::Surface;

/// Bytes of a query that go along; real ones have a few words.
const QUERY_BYTES: usize = 1024;

impl Gateway {
    /// Handles a request for a stored response.
    pub(crate) async fn stored_response(
        &self,
        session: &mut Session,
        writer: &ResponseWriter<'_>,
        stored_request: &StoredResponseRequest,
    ) -> Result<Handled, Rejection> {
        let caller = self.up_to_date_caller(session, writer).await?;
        if stored_request.action == StoredResponseAction::Read
            && session.uri().query().is_some_and(asks_to_stream)
        {
            return Err(Refusal::StoredStream.into());
        }
        let now = writer.head.admitted_at;
        let found = self.owners.owned_by(&stored_request.id, caller.user, now).await;
        let none = || Refusal::NoSuchReply(stored_request.id.clone());
        let reply = found.map_err(|_| Refusal::RepliesUnavailable)?.ok_or_else(none)?;
        let budget = self.budget(&caller, now).await?;
        let refused = |rejection: Rejection| rejection.with_budget(budget);
        if stored_request.action == StoredResponseAction::Delete && reply.unsettled.is_some() {
            // What it used cannot be known later.
            self.settle_stored(session, writer, &caller, &reply).await.map_err(refused)?;
        }
        let answer = self.request_stored(session, writer, &caller, (stored_request, &reply)).await;
        let (mut head, body) = answer.map_err(refused)?;
        match stored_request.action {
            StoredResponseAction::Delete => self.owners.delete(&stored_request.id).await,
            StoredResponseAction::ListInput => {}
            StoredResponseAction::Read | StoredResponseAction::Cancel => {
                let corrector = self.corrector(&self.current().upstreams);
                let settled = corrector.settle(&reply, Surface::Responses, &body, now).await;
                settled.map_err(Rejection::from).map_err(refused)?;
            }
        }
        budget.write(&mut head);
        let _ = writer.whole(session, head, body).await;
        Ok(Handled { route: Route::StoredResponse, status: 200, outcome: outcome_of_http(200) })
    }

    /// Reads a stored response for its usage, and corrects the charge of the call that generated it.
    ///
    /// # Errors
    /// The charge cannot be corrected now, or the caller has gone. A response that the upstream does not have
    /// needs no correction.
    pub(crate) async fn settle_stored(
        &self,
        session: &mut Session,
        writer: &ResponseWriter<'_>,
        caller: &Caller,
        reply: &StoredResponse,
    ) -> Result<(), Rejection> {
        let corrector = self.corrector(&self.current().upstreams);
        let now = writer.head.admitted_at;
        if corrector.is_settled(reply, now).await {
            return Ok(());
        }
        let read =
            StoredResponseRequest { id: reply.id.clone(), action: StoredResponseAction::Read };
        match self.request_stored(session, writer, caller, (&read, reply)).await {
            Ok((_, body)) => Ok(corrector.settle(reply, Surface::Responses, &body, now).await?),
            Err(Rejection::Refused { refusal: Refusal::NoSuchReply(_), .. }) => Ok(()),
            Err(rejection) => Err(rejection),
        }
    }

    /// Sends the request to the upstream that has the response.
    async fn request_stored(
        &self,
        session: &mut Session,
        writer: &ResponseWriter<'_>,
        caller: &Caller,
        (stored_request, reply): (&StoredResponseRequest, &StoredResponse),
    ) -> Result<(ResponseHead, Bytes), Rejection> {
        let current = self.current();
        let cancellation = self.cancellation(caller, writer, &current, false);
        let none = || Refusal::NoSuchReply(stored_request.id.clone());
        let client = current.upstreams.client(&reply.upstream).ok_or_else(none)?;
        let request = stored_request.outgoing(session, writer, client.upstream());
        let mut exchange = match client.try_call(request, stopped(session, &cancellation)).await {
            Ok(exchange) => exchange,
            Err(CallError::Cancelled { by, .. }) => return Err(Rejection::of(by)),
            Err(CallError::Failed(e)) => {
                return Err(Refusal::Upstream(attempt::failure(&e)).into());
            }
        };
        let mut permit = self.body_memory.empty_permit(Some(caller.user), writer.head.address);
        let limits = CollectLimits {
            bytes: current.limits.reply_bytes,
            body_permit: &mut permit,
            cancellation: &cancellation,
        };
        let body = read_body(session, &mut exchange, limits).await?.ok_or_else(none)?;
        let redactor = client.upstream().redactor();
        refuse_errors(&exchange, &body, none, &redactor)?;
        let body = client.reply_redactor.body(body);
        let mut head = writer.head(200, writer.elapsed());
        headers::add_upstream_reply(&mut head, &exchange);
        client.release(exchange);
        Ok((head, body))
    }
}

/// Reads the body, which is JSON; `None` for a 404 with any other.
async fn read_body(
    session: &mut Session,
    exchange: &mut Exchange,
    limits: CollectLimits<'_>,
) -> Result<Option<Bytes>, Rejection> {
    let collected = relay_body::collect(session, exchange, &mut BytesMut::new(), limits).await;
    match collected.of_json() {
        CollectedBody::Body(body) => Ok(Some(body)),
        CollectedBody::Broken(_) if exchange.status() == StatusCode::NOT_FOUND => Ok(None),
        CollectedBody::Broken(refusal) | CollectedBody::GivenUp(refusal) => Err(refusal.into()),
        CollectedBody::Stopped(by) => Err(Rejection::of(by)),
    }
}

fn refuse_errors(
    exchange: &Exchange,
    body: &[u8],
    none: impl Fn() -> Refusal,
    redactor: &Redactor,
) -> Result<(), Refusal> {
    let status = exchange.status();
    if status.is_success() {
        return Ok(());
    }
    if status == StatusCode::NOT_FOUND {
        return Err(none());
    }
    let error = UpstreamError::read(status.as_u16(), exchange.header("content-type"), body);
    let error = error.redacted(redactor);
    tracing::warn!(
        upstream_status = status.as_u16(),
        fault = error.fault.as_str(),
        "stored response request failed at the upstream"
    );
    Err(Refusal::Upstream(UpstreamFailure::ErrorResponse {
        status: error.status,
        body: error.body,
        retry_after: None,
    }))
}

impl StoredResponseRequest {
    fn outgoing(
        &self,
        session: &Session,
        writer: &ResponseWriter<'_>,
        upstream: &Upstream,
    ) -> UpstreamRequest {
        let (method, below) = match self.action {
            StoredResponseAction::Read => (Method::GET, ""),
            StoredResponseAction::Delete => (Method::DELETE, ""),
            StoredResponseAction::Cancel => (Method::POST, "/cancel"),
            StoredResponseAction::ListInput => (Method::GET, "/input_items"),
        };
        let query = session.uri().query().filter(|query| is_passed(query));
        let query = query.map(|query| format!("?{query}")).unwrap_or_default();
        let path = format!("/responses/{}{below}{query}", self.id);
        UpstreamRequest {
            request: Some(writer.head.id),
            forwarded: headers::forwarded(session.headers(), upstream),
            ..UpstreamRequest::without_body(method, path)
        }
    }
}

/// True if a query asks for a stream.
fn asks_to_stream(query: &str) -> bool {
    let mut members = query.split('&').filter_map(|member| member.split_once('='));
    members.any(|(name, value)| {
        name == "stream" && (value == "1" || value.eq_ignore_ascii_case("true"))
    })
}

/// A query of plain words. What streams is not asked for: there is one reply, and it is whole.
fn is_passed(query: &str) -> bool {
    let is_plain = |b: u8| b.is_ascii_alphanumeric() || b"-_.~=&%[],".contains(&b);
    query.len() <= QUERY_BYTES && query.bytes().all(is_plain) && !query.contains("stream")
}

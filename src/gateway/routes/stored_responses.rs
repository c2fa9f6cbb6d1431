//! What an upstream keeps, asked for by its id: read, deleted, cancelled.
//!
//! It belongs to the user who made it, and is asked of the upstream that has it. Nothing is billed
//! for it.

use crate::gateway::call::attempt;
use crate::gateway::call::forward::stopped;
use crate::gateway::call::relay_body;
use crate::gateway::endpoint::{Act, Kept};
use crate::gateway::headers;
use crate::gateway::listener::session::{ReplyHead, Session};
use crate::gateway::response::refusal::{Refusal, UpstreamFailure};
use crate::gateway::response::writer::Replier;
use crate::gateway::{CALLER_GONE, Gateway, Handled, Rejection, outcome_of};
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
    /// Answers a request for something kept.
    pub(crate) async fn kept(
        &self,
        session: &mut Session,
        replier: &Replier<'_>,
        kept: &Kept,
    ) -> Result<Handled, Rejection> {
        let caller = self.up_to_date_caller(session, replier).await?;
        if kept.act == Act::Read && session.uri().query().is_some_and(asks_to_stream) {
            return Err(Refusal::StoredStream.into());
        }
        let now = replier.head.admitted_at;
        let found = self.owners.owned_by(&kept.id, caller.user, now).await;
        let none = || Refusal::NoSuchReply(kept.id.clone());
        let reply = found.map_err(|_| Refusal::RepliesUnavailable)?.ok_or_else(none)?;
        let budget = self.budget(&caller, now).await?;
        let refused = |refusal| Rejection { refusal, budget: Some(budget) };
        if kept.act == Act::Delete && reply.unsettled.is_some() {
            // What it used cannot be known later.
            let _ = self.settle_stored(session, replier, &caller, &reply).await.map_err(refused)?;
        }
        let answer = self.ask_upstream(session, replier, &caller, (kept, &reply)).await;
        let Some((mut head, body)) = answer.map_err(refused)? else {
            return Ok(Handled {
                route: Route::StoredResponse,
                status: CALLER_GONE,
                outcome: outcome_of(CALLER_GONE),
            });
        };
        match kept.act {
            Act::Delete => self.owners.delete(&kept.id).await,
            Act::ListInput => {}
            Act::Read | Act::Cancel => {
                let corrector = self.corrector(&self.current().upstreams);
                let settled = corrector.settle(&reply, Surface::Responses, &body, now).await;
                settled.map_err(refused)?;
            }
        }
        budget.write(&mut head);
        let _ = replier.whole(session, head, body).await;
        Ok(Handled { route: Route::StoredResponse, status: 200, outcome: outcome_of(200) })
    }

    /// Reads a stored response for its usage, and sets right what the call that made it was charged. False
    /// when the client has gone.
    ///
    /// # Errors
    /// It could not be set right now. A response that the upstream does not have is none.
    pub(crate) async fn settle_stored(
        &self,
        session: &mut Session,
        replier: &Replier<'_>,
        caller: &Caller,
        reply: &StoredResponse,
    ) -> Result<bool, Refusal> {
        let corrector = self.corrector(&self.current().upstreams);
        let now = replier.head.admitted_at;
        if corrector.is_settled(reply, now).await {
            return Ok(true);
        }
        let read = Kept { id: reply.id.clone(), act: Act::Read };
        match self.ask_upstream(session, replier, caller, (&read, reply)).await {
            Ok(None) => Ok(false),
            Ok(Some((_, body))) => {
                corrector.settle(reply, Surface::Responses, &body, now).await.map(|()| true)
            }
            Err(Refusal::NoSuchReply(_)) => Ok(true),
            Err(refusal) => Err(refusal),
        }
    }

    /// Asks the upstream that has it; `None` when the client has gone.
    async fn ask_upstream(
        &self,
        session: &mut Session,
        replier: &Replier<'_>,
        caller: &Caller,
        (kept, reply): (&Kept, &StoredResponse),
    ) -> Result<Option<(ReplyHead, Bytes)>, Refusal> {
        let current = self.current();
        let leash = self.leash(caller, replier, &current, false);
        let none = || Refusal::NoSuchReply(kept.id.clone());
        let pool = current.upstreams.client(&reply.upstream).ok_or_else(none)?;
        let request = kept.outgoing(session, replier, pool.upstream());
        let mut exchange = match pool.try_call(request, stopped(session, &leash)).await {
            Ok(exchange) => exchange,
            Err(CallError::Cancelled { by, .. }) => return by.refusal().map_or(Ok(None), Err),
            Err(CallError::Failed(e)) => return Err(Refusal::Upstream(attempt::failure(&e))),
        };
        let mut room = self.buffers.hold(Some(caller.user), replier.head.address);
        let bytes = current.limits.reply_bytes;
        let bounds = relay_body::Bounds { bytes, held: &mut room, leash: &leash };
        let collected =
            relay_body::collect(session, &mut exchange, &mut BytesMut::new(), bounds).await;
        let body = match collected.of_json() {
            relay_body::Collected::Body(body) => body,
            relay_body::Collected::Broken(_) if exchange.status() == StatusCode::NOT_FOUND => {
                return Err(none());
            }
            relay_body::Collected::Broken(refusal) | relay_body::Collected::GivenUp(refusal) => {
                return Err(refusal);
            }
            relay_body::Collected::Stopped(by) => return by.refusal().map_or(Ok(None), Err),
        };
        let redactor = pool.upstream().redactor();
        refuse_errors(&exchange, &body, none, &redactor)?;
        let body = pool.reply_redactor.body(body);
        let mut head = replier.head(200, replier.elapsed());
        headers::add_upstream_reply(&mut head, &exchange);
        pool.release(exchange);
        Ok(Some((head, body)))
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
    Err(Refusal::Upstream(UpstreamFailure::Handled {
        status: error.status,
        body: error.body,
        retry_after: None,
    }))
}

impl Kept {
    fn outgoing(
        &self,
        session: &Session,
        replier: &Replier<'_>,
        upstream: &Upstream,
    ) -> UpstreamRequest {
        let (method, below) = match self.act {
            Act::Read => (Method::GET, ""),
            Act::Delete => (Method::DELETE, ""),
            Act::Cancel => (Method::POST, "/cancel"),
            Act::ListInput => (Method::GET, "/input_items"),
        };
        let query = session.uri().query().filter(|query| is_passed(query));
        let query = query.map(|query| format!("?{query}")).unwrap_or_default();
        let path = format!("/responses/{}{below}{query}", self.id);
        UpstreamRequest {
            request: Some(replier.head.id),
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

//! `GET /v1/chat/deferred-completion/{id}`: the answer to a chat that was deferred, once it is there.
//!
//! The upstream gives it once, so one call at a time asks, and nothing is asked twice. What it cost is
//! charged to the call that gets it; asking too early costs nothing but a place in the window.

use super::accept::Head;
use super::attempt;
use super::call::{Call, Relay, unreserved};
use super::forward::{Forwarded, stopped};
use super::leash::Leash;
use super::refusal::{Refusal, UpstreamFailure};
use super::reply::Replier;
use super::reserve::Reservation;
use super::settle::Ending;
use super::{Answered, CALLER_GONE, Current, No, Proxy, headers, outcome_of};
use crate::account::caller::Caller;
use crate::account::kept::KeptReply;
use crate::clock;
use crate::openai::error::UpstreamError;
use crate::openai::request::Request;
use crate::telemetry::labels::Route;
use crate::upstream::connect::Outgoing;
use bytes::Bytes;
use http::{Method, StatusCode};
use jiff::SignedDuration;
use pingora_core::protocols::http::ServerSession;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

/// What came of asking the upstream.
enum Asked {
    Ready(Forwarded),
    /// It is not ready yet.
    NotYet,
    CallerGone,
    No(Refusal),
}

impl Proxy {
    /// Answers a request for a deferred completion.
    pub(super) async fn deferred(
        &self,
        session: &mut ServerSession,
        replier: &Replier<'_>,
        id: &str,
    ) -> Result<Answered, No> {
        let caller = self.authenticate(session, replier).await?;
        let now = replier.head.admitted_at;
        let found = self.keeper.find(id, caller.user, now).await;
        let none = || Refusal::NoSuchReply(id.to_owned());
        let reply = found.map_err(|_| Refusal::RepliesUnavailable)?.ok_or_else(none)?;
        let current = self.current();
        let longest = SignedDuration::try_from(current.limits.call_timeout);
        let until = now.saturating_add(longest.unwrap_or(SignedDuration::from_hours(1)));
        let until = until.unwrap_or(reply.expires_at);
        let claimed = self.keeper.claim(id, now, until).await;
        if !claimed.map_err(|_| Refusal::RepliesUnavailable)? {
            return Err(Refusal::ReplyInUse.into());
        }
        let fetched = self.fetch(session, replier, &current, (&caller, &reply)).await;
        match &fetched {
            Ok(Answered { status: 200, .. }) => self.keeper.forget(id).await,
            _ => self.keeper.release(id).await,
        }
        fetched
    }

    /// Reserves what the call that deferred it had reserved, asks once, and charges what comes.
    async fn fetch(
        &self,
        session: &mut ServerSession,
        replier: &Replier<'_>,
        current: &Current,
        (caller, reply): (&Arc<Caller>, &KeptReply),
    ) -> Result<Answered, No> {
        let request = Request::to_fetch(&reply.model, reply.tokens);
        let held = self.buffers.hold(Some(caller.user), replier.head.address);
        let mut call = Call { proxy: self, replier, current, request: &request, held };
        let leash = self.leash(caller, replier, current, false);
        let reservation = match call.reserve(session, &leash, caller, Some(&reply.upstream)).await {
            Ok(reservation) => reservation,
            Err(by) => return unreserved(session, by).map_or(Ok(answered(CALLER_GONE)), Err),
        };
        let spent = replier.elapsed().saturating_sub(reservation.waited);
        let budget = reservation.budget().returned(reservation.reserved, false);
        match self.ask_for_deferred(session, replier.head, &leash, (current, reply)).await {
            Asked::Ready(forwarded) => {
                let mut reply_head = replier.head(200, spent);
                headers::add_upstream_reply(&mut reply_head, &forwarded.exchange);
                let relay = Relay { reply_head, forwarded, reservation, leash };
                let answered = call.relay_whole(session, relay, spent).await?;
                Ok(Answered { route: Route::Deferred, ..answered })
            }
            Asked::NotYet => {
                give_back(reservation, reply).await;
                let mut head = replier.head(202, replier.elapsed());
                budget.write(&mut head);
                let _ = replier.whole(session, head, Bytes::new()).await;
                Ok(answered(202))
            }
            Asked::CallerGone => {
                give_back(reservation, reply).await;
                session.set_keepalive(None);
                Ok(answered(CALLER_GONE))
            }
            Asked::No(refusal) => {
                give_back(reservation, reply).await;
                Err(No { refusal, budget: Some(budget) })
            }
        }
    }

    async fn ask_for_deferred(
        &self,
        session: &mut ServerSession,
        head: &Head,
        leash: &Leash,
        (current, reply): (&Current, &KeptReply),
    ) -> Asked {
        let none = || Asked::No(Refusal::NoSuchReply(reply.id.clone()));
        let Some(pool) = current.upstreams.pool(&reply.upstream) else { return none() };
        let Some(place) = pool.places.take() else {
            return Asked::No(Refusal::Upstream(UpstreamFailure::Busy));
        };
        let outgoing = Outgoing {
            method: Method::GET,
            path: format!("/chat/deferred-completion/{}", reply.id).into(),
            headers: headers::upstream_request(
                &session.req_header().headers,
                head.id,
                pool.upstream(),
            ),
            body: Bytes::new(),
            begun: AtomicBool::new(false),
        };
        let sent = tokio::select! {
            sent = pool.send_once(place, &outgoing) => sent,
            by = stopped(session, leash) => return by.refusal().map_or(Asked::CallerGone, Asked::No),
        };
        let exchange = match sent {
            Ok(exchange) => exchange,
            Err(e) => return Asked::No(Refusal::Upstream(attempt::failure(&e))),
        };
        match exchange.status() {
            StatusCode::ACCEPTED => Asked::NotYet,
            StatusCode::NOT_FOUND => none(),
            status if status.is_success() => Asked::Ready(Forwarded {
                exchange,
                pool: Arc::clone(pool),
                upstream: reply.upstream.as_str().into(),
                head_at: clock::instant(),
            }),
            status => {
                let error = UpstreamError::read(status.as_u16(), None, b"");
                Asked::No(Refusal::Upstream(UpstreamFailure::Answered {
                    status: error.status,
                    body: error.body,
                    retry_after: None,
                }))
            }
        }
    }
}

/// Nothing was had, so nothing is charged.
async fn give_back(reservation: Reservation, reply: &KeptReply) {
    reservation.settle(Ending::failed(reply.upstream.as_str().into(), false)).await;
}

fn answered(status: u16) -> Answered {
    Answered { route: Route::Deferred, status, outcome: outcome_of(status) }
}

//! Send a call to an upstream, and to another only while no content of a reply has been seen.
//!
//! Upstreams with an open breaker are left out, those that cool down come last, and a full one is
//! waited for when there is no other. What is tried again is bounded for the call (each upstream once, and one
//! of them once more) and for the gateway (see [`RetryBudget`](crate::upstream::retry_budget::RetryBudget)).

use crate::gateway::call::Call;
use crate::gateway::call::attempt::{Attempt, FaultOwner};
use crate::gateway::call::attempt_state::AttemptState;
use crate::gateway::call::cancellation::Cancellation;
use crate::gateway::call::drain::UnreadResponse;
use crate::gateway::call::end::EndReason;
use crate::gateway::call::relay_body;
use crate::gateway::call::reservation::Reservation;
use crate::gateway::call::settle::Settlement;
use crate::gateway::listener::session::Session;
use crate::gateway::response::refusal::{Refusal, UpstreamFailure};
use crate::gateway::response::rejection::Rejection;
use crate::upstream::Upstreams;
use crate::upstream::breaker::{CallPermit, Phase};
use crate::upstream::catalog::Route;
use crate::upstream::client::{Exchange, PendingReply, UpstreamClient};
use crate::upstream::concurrency::Permit;
use crate::upstream::recent_calls::Failure;
use crate::upstream::rendezvous;
use domain::id::UserId;
use http::{HeaderMap, HeaderValue};
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::{Duration, Instant};
use system::clock;
use telemetry::metrics::Metrics;
use wire::error::Fault;
use wire::request::Request;

/// The time that a stream's head waits for its first event if no keep-alive comments are sent.
const FIRST_EVENT_HOLD: Duration = Duration::from_secs(15);

/// The response of an upstream whose head has arrived.
pub struct UpstreamResponse {
    /// Boxed: it moves with the call from step to step.
    pub exchange: Box<Exchange>,
    pub client: Arc<UpstreamClient>,
    pub upstream: Arc<str>,
    /// The time at which the response head arrived.
    pub head_at: Instant,
}

/// A call whose upstream is responding: the response, its reservation, and its cancellation.
pub struct RespondingCall {
    pub response: UpstreamResponse,
    pub reservation: Reservation,
    pub cancellation: Cancellation,
}

impl UpstreamResponse {
    /// Records for the breaker that a response to `caller`, which had begun, broke off.
    pub fn broke_off(&self, caller: UserId) {
        self.client.breaker.record_broken_stream(clock::instant(), clock::chance(), caller);
        let broken = Failure { at: clock::now(), reason: "broken_response", status: None };
        self.client.recent.broke_off(broken);
    }
}

/// The reason that no upstream responded.
pub enum NotForwarded {
    /// The last upstream's failure and name, and true if the call counts as a request.
    /// `unheard` is an upstream that took the request and did not respond in time: it may bill it.
    Failed {
        failure: UpstreamFailure,
        upstream: Arc<str>,
        counted: bool,
        unheard: Option<Arc<str>>,
        /// What the error of the upstream was about, if it sent one.
        fault: Option<Fault>,
    },
    /// The client has gone, or the call was cancelled; `pending` if the whole request has been sent. `unheard` as
    /// above.
    Stopped {
        by: EndReason,
        upstream: Arc<str>,
        pending: Option<PendingReply>,
        unheard: Option<Arc<str>>,
    },
}

/// The inputs that are the same for every attempt.
pub struct Forwarding<'a> {
    pub upstreams: &'a Upstreams,
    pub request: &'a Request<'a>,
    pub headers: &'a HeaderMap,
    pub reservation: &'a Reservation,
    pub metrics: &'a Metrics,
    pub cancellation: &'a Cancellation,
    /// The time that a stream's head may wait for its first event.
    pub hold: Duration,
    /// Largest event of a stream, in bytes.
    pub event_bytes: usize,
}

impl Call<'_> {
    /// Sends the call to an upstream. If none responds, or the caller has gone, the call is settled.
    pub(crate) async fn forward(
        &mut self,
        session: &mut Session,
        mut reservation: Reservation,
        cancellation: Cancellation,
    ) -> Result<RespondingCall, Rejection> {
        let headers = session.take_headers();
        let mut forwarded = self.forward_once(session, &headers, &reservation, &cancellation).await;
        if let Err(ended) = &forwarded
            && let Some(model) = self.fallback(&reservation, ended)
        {
            tracing::info!(request_id = %reservation.request, from = &*reservation.model.id, to = &*model.id, "call taken over by the fallback model");
            reservation.model = model;
            forwarded = self.forward_once(session, &headers, &reservation, &cancellation).await;
        }
        match forwarded {
            Ok(response) => Ok(RespondingCall { response, reservation, cancellation }),
            Err(NotForwarded::Stopped { by, upstream, pending, unheard }) => {
                session.close_after_reply();
                if pending.is_none()
                    && let Some(name) = unheard
                    && let Some(settlement) =
                        self.settlement_of_unheard(&mut reservation, &name).await
                {
                    reservation.settle(settlement).await;
                    return Err(Rejection::of(by));
                }
                let empty = self.empty_permit(&reservation);
                let sent = std::mem::replace(&mut self.body_permit, empty);
                let unread = pending.map(|pending| UnreadResponse::Head(pending, sent));
                self.interrupt(reservation, by, upstream, unread).await;
                Err(Rejection::of(by))
            }
            Err(NotForwarded::Failed { failure, upstream, counted, unheard, .. }) => {
                let (budget, reserved) = (reservation.budget(), reservation.reserved);
                let settlement = match unheard {
                    Some(name) => self.settlement_of_unheard(&mut reservation, &name).await,
                    None => None,
                };
                let settlement =
                    settlement.unwrap_or_else(|| Settlement::failed(upstream, counted));
                let budget = budget.returned(reserved, settlement.counted);
                let budget = budget.charged(reservation.counted_tokens(&settlement));
                reservation.settle(settlement).await;
                Err(Rejection::from(Refusal::Upstream(failure)).with_budget(budget))
            }
        }
    }

    /// Sends the call to an upstream of its model.
    async fn forward_once(
        &self,
        session: &mut Session,
        headers: &HeaderMap,
        reservation: &Reservation,
        cancellation: &Cancellation,
    ) -> Result<UpstreamResponse, NotForwarded> {
        let forwarding = Forwarding {
            upstreams: &self.current.upstreams,
            request: self.request,
            headers,
            reservation,
            metrics: &self.gateway.services.metrics,
            cancellation,
            hold: self.current.limits.keepalive_comment.unwrap_or(FIRST_EVENT_HOLD),
            event_bytes: self.current.limits.event_bytes,
        };
        forwarding.forward(session).await
    }

    /// The settlement of a call that the upstream took and did not respond to in time; `None` if the upstream is
    /// not configured any more.
    async fn settlement_of_unheard(
        &self,
        reservation: &mut Reservation,
        upstream: &str,
    ) -> Option<Settlement> {
        let client = self.current.upstreams.client(upstream)?;
        let upstream = client.upstream();
        Some(relay_body::settlement_of_unheard(reservation, self.request, upstream).await)
    }
}

type Done = ControlFlow<Result<UpstreamResponse, NotForwarded>>;

impl Forwarding<'_> {
    /// Tries the model's upstreams.
    ///
    /// # Errors
    /// [`NotForwarded`]; the caller has not been sent a byte.
    pub async fn forward(&self, session: &mut Session) -> Result<UpstreamResponse, NotForwarded> {
        self.upstreams.retry_budget.deposit();
        let order = self.order();
        let mut state = AttemptState::default();
        for (index, route) in order.iter().enumerate() {
            state.others = &order[index + 1..];
            if let Done::Break(done) = self.attempt_route(session, route, None, &mut state).await {
                return done;
            }
        }
        state.others = &[];
        if let Some(route) = state.full {
            let done = self.wait_and_attempt(session, route, &mut state).await;
            if let Done::Break(done) = done {
                return done;
            }
        } else if let Some((route, pause)) = state.second_try() {
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                by = stopped(session, self.cancellation) => return Err(state.stopped_at(route, by)),
            }
            if let Done::Break(done) = self.attempt_route(session, route, None, &mut state).await {
                return done;
            }
        }
        Err(state.outcome())
    }

    /// The model's routes; last those in a cooldown, and those that did not respond to the caller in time.
    fn order(&self) -> Vec<&Route> {
        let mut order = rendezvous::rank(&self.reservation.model.routes, self.conversation());
        if order.len() > 1 {
            let (now, caller) = (clock::instant(), self.reservation.caller.user);
            order.sort_by_cached_key(|route| {
                let client = self.upstreams.client(&route.upstream.name);
                client.is_some_and(|client| {
                    client.cooldowns.is_cooling_down(&route.upstream_model, now)
                        || client.caller_rests.is_resting(caller, now)
                })
            });
        }
        order
    }

    /// True if the upstream of the route can take a call now.
    pub(super) fn is_available(&self, route: &Route) -> bool {
        self.upstreams.client(&route.upstream.name).is_some_and(|client| {
            client.limiter.has_free() && client.breaker.phase(clock::instant()) != Phase::Open
        })
    }

    /// The key that calls with a common prompt prefix share, so that the same upstream has it in its cache.
    fn conversation(&self) -> &[u8] {
        let named = self.headers.get("x-grok-conv-id").map(HeaderValue::as_bytes);
        let named = named.or(self.request.cache_key.map(str::as_bytes));
        named.unwrap_or_else(|| self.reservation.caller.key.as_str().as_bytes())
    }

    /// Sends the call to one upstream, if its breaker and its concurrency limit admit it. Continues where another
    /// upstream may be tried.
    async fn attempt_route<'r>(
        &self,
        session: &mut Session,
        route: &'r Route,
        permit: Option<Permit>,
        state: &mut AttemptState<'r>,
    ) -> Done {
        let Some(client) = self.upstreams.client(&route.upstream.name) else {
            return Done::Continue(());
        };
        let caller = self.reservation.caller.user;
        let call_permit = match client.breaker.try_acquire(clock::instant(), Some(caller)) {
            Ok(call_permit) => call_permit,
            Err(rest) => {
                state.rest = Some(state.rest.map_or(rest, |other| other.min(rest)));
                return Done::Continue(());
            }
        };
        let Some(permit) = permit.or_else(|| client.limiter.try_acquire()) else {
            state.full.get_or_insert(route);
            return Done::Continue(());
        };
        if state.attempts > 0 {
            if !self.upstreams.retry_budget.withdraw() {
                return Done::Break(Err(state.outcome()));
            }
            self.metrics.retries.increment(1);
        }
        state.attempts += 1;
        let attempt = self.attempt(session, route, client, permit, state.others).await;
        self.report_to_breaker(call_permit, &attempt, client);
        self.next_step(attempt, route, client, state)
    }

    /// Reports the result of an attempt to the breaker.
    fn report_to_breaker(
        &self,
        call_permit: CallPermit,
        attempt: &Attempt,
        client: &UpstreamClient,
    ) {
        let now = clock::instant();
        match attempt {
            Attempt::Stopped { .. } => drop(call_permit),
            Attempt::Failed { blame: FaultOwner::Upstream, failure, .. } => {
                // It was not reached, whatever the request.
                let is_away =
                    matches!(failure, UpstreamFailure::Connect | UpstreamFailure::ConnectTimeout);
                let caller = (!is_away).then_some(self.reservation.caller.user);
                call_permit.failed(now, clock::chance(), caller);
            }
            Attempt::Responded(_) | Attempt::Failed { .. } => call_permit.succeeded(now),
        }
        if matches!(
            attempt,
            Attempt::Responded(_) | Attempt::Failed { blame: FaultOwner::Caller, .. }
        ) {
            // All others were recorded with their reasons.
            client.recent.succeeded(clock::now());
        }
        let breaker = self.metrics.upstream_breaker(&client.upstream().name);
        breaker.set(client.breaker.phase(now).number());
    }

    /// Decides whether another upstream is tried.
    fn next_step<'r>(
        &self,
        attempt: Attempt,
        route: &'r Route,
        client: &UpstreamClient,
        state: &mut AttemptState<'r>,
    ) -> Done {
        let upstream = Arc::clone(&route.upstream.name);
        match attempt {
            Attempt::Responded(response) => {
                if state.attempts > 1 {
                    self.upstreams.retry_budget.refund();
                }
                client.caller_rests.responded(self.reservation.caller.user);
                Done::Break(Ok(response))
            }
            Attempt::Stopped { by, pending } => {
                let unheard = state.unheard.take();
                Done::Break(Err(NotForwarded::Stopped { by, upstream, pending, unheard }))
            }
            Attempt::Failed { failure, blame: FaultOwner::Caller, fault, .. } => {
                let (counted, unheard) = (true, state.unheard.take());
                let failed = NotForwarded::Failed { failure, upstream, counted, unheard, fault };
                Done::Break(Err(failed))
            }
            Attempt::Failed { failure, blame, may_retry, fault, .. } => {
                let now = clock::instant();
                if let FaultOwner::Limit { rest } = blame {
                    client.cooldowns.start(&route.upstream_model, now, rest);
                    state.limited_for(route, rest);
                }
                if failure.is_timeout() {
                    client.caller_rests.timed_out(self.reservation.caller.user, now);
                }
                if matches!(failure, UpstreamFailure::FirstByteTimeout) {
                    state.unheard = Some(Arc::clone(&upstream));
                }
                let (counted, unheard) = (false, None);
                state.last =
                    Some(NotForwarded::Failed { failure, upstream, counted, unheard, fault });
                state.may_retry = may_retry.then_some(route);
                Done::Continue(())
            }
        }
    }

    /// Waits for a permit of an upstream that is at its limit, for at most its queue timeout.
    async fn wait_and_attempt<'r>(
        &self,
        session: &mut Session,
        route: &'r Route,
        state: &mut AttemptState<'r>,
    ) -> Done {
        let client = self.upstreams.client(&route.upstream.name);
        let ticket = client.and_then(|client| client.limiter.enqueue(self.reservation.caller.user));
        let Some(ticket) = ticket else { return Done::Continue(()) };
        let waited = tokio::time::timeout(route.upstream.queue_timeout, ticket.permit());
        let permit = tokio::select! {
            permit = waited => permit.ok().flatten(),
            by = stopped(session, self.cancellation) => {
                return Done::Break(Err(state.stopped_at(route, by)));
            }
        };
        match permit {
            Some(permit) => self.attempt_route(session, route, Some(permit), state).await,
            None => Done::Continue(()),
        }
    }
}

/// True if the response is a stream: some upstreams respond to `stream: true` with a JSON body.
#[must_use]
pub fn is_event_stream(exchange: &Exchange) -> bool {
    let kind = exchange.header("content-type");
    exchange.status().is_success()
        && kind.is_none_or(|kind| !kind.contains("json") && !kind.contains("html"))
}

/// Resolves when the client has gone, or no response is possible.
pub async fn stopped(session: &mut Session, cancellation: &Cancellation) -> EndReason {
    tokio::select! {
        biased;
        pulled = cancellation.cancelled() => EndReason::Cancelled(pulled),
        () = gone_or_kept_alive(session, cancellation) => EndReason::CallerGone,
    }
}

/// Resolves when the caller has gone; until then it is sent keep-alive bytes, if that is configured.
async fn gone_or_kept_alive(session: &mut Session, cancellation: &Cancellation) {
    match &cancellation.early {
        Some(early) => early.keep_alive(session).await,
        None => session.caller_gone().await,
    }
}

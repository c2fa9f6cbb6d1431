//! The data plane: one call from its first byte to its last.
//!
//! A call reads as one line: accept, authenticate, read, route, reserve, forward, relay, settle;
//! each step is a file, and takes what the step before it returned. A call works while the store
//! sleeps and the control plane is down; the one thing it waits for is its quota.

pub mod connection;
pub mod framing;
pub mod accept;
pub mod authenticate;
pub mod read;
pub mod route;
pub mod reserve;
pub mod forward;
pub mod whole;
pub mod stream;
pub mod allowance;
pub mod settle;
pub mod refusal;
pub mod reply;
pub mod headers;
pub mod models;
pub mod bridge;

use crate::account::caller::Caller;
use crate::account::charge::Status;
use crate::account::day::Day;
use crate::account::key::Pepper;
use crate::callers::cache::CallerCache;
use crate::callers::open::{OpenCall, OpenCalls};
use crate::clock;
use crate::config::{Limits, Listener};
use crate::openai::request::ChatRequest;
use crate::telemetry::labels::{Outcome, Route};
use crate::upstream::Upstreams;
use accept::Endpoint;
use forward::{Forwarded, Forwarding, NotForwarded};
use http::header;
use pingora_core::protocols::http::ServerSession;
use pingora_http::ResponseHeader;
use refusal::Refusal;
use reply::{Budget, Replier};
use reserve::{Admission, Reservation};
use settle::{Ending, Settler};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant};
use stream::Stream;
use tokio_util::sync::CancellationToken;
use whole::Whole;

/// Largest request body of the control plane, in bytes.
const CONTROL_BODY: usize = 64 * 1024;

/// Everything a call needs.
pub struct Proxy {
    pub listener: Listener,
    pub pepper: Pepper,
    pub callers: Arc<CallerCache>,
    pub open_calls: OpenCalls,
    /// What a reload replaces; a call keeps what it began with.
    pub current: RwLock<Arc<Current>>,
    pub settler: Settler,
    pub control: axum::Router,
    /// Set while the process ends: new calls are refused.
    pub draining: AtomicBool,
    /// Cancelled when open streams may not go on.
    pub hard_stop: CancellationToken,
    /// Tells the open calls of one user apart.
    pub calls: AtomicU64,
}

/// The part of the configuration that can change while the gateway runs.
pub struct Current {
    pub upstreams: Upstreams,
    pub limits: Limits,
}

/// What a relay works on: the head to be sent, the reply, what is held for it, what was asked.
struct Relay<'a> {
    reply_head: ResponseHeader,
    forwarded: Forwarded,
    reservation: Reservation,
    request: &'a ChatRequest<'a>,
    limits: &'a Limits,
}

/// What came of forwarding; a failure is a [`No`].
enum Step {
    Answering(Box<(Forwarded, Reservation)>),
    CallerGone,
}

/// How a request of the data plane was answered.
struct Answered {
    route: Route,
    status: u16,
    outcome: Outcome,
}

/// A call that was not answered, with what is known of the caller's budget.
struct No {
    refusal: Refusal,
    budget: Option<Budget>,
}

impl From<Refusal> for No {
    fn from(refusal: Refusal) -> Self {
        Self { refusal, budget: None }
    }
}

impl Proxy {
    /// Answers one request, whatever it is for.
    pub async fn answer(&self, session: &mut ServerSession, replier: &Replier<'_>) {
        let answered = match &replier.head.endpoint {
            Endpoint::Control => {
                let bounds = read::Bounds { bytes: CONTROL_BODY, time: self.listener.body_timeout };
                let status =
                    bridge::serve(session, &self.control, bounds, replier).await.unwrap_or(499);
                Answered { route: Route::Control, status, outcome: outcome_of(status) }
            }
            Endpoint::ChatCompletions => match self.chat(session, replier).await {
                Ok(answered) => answered,
                Err(no) => self.refuse(session, replier, Route::ChatCompletions, no).await,
            },
            Endpoint::Models | Endpoint::Model(_) => match self.models(session, replier).await {
                Ok(answered) => answered,
                Err(no) => self.refuse(session, replier, Route::Models, no).await,
            },
            Endpoint::Preflight => self.preflight(session, replier).await,
            Endpoint::WrongMethod { allow } => {
                let refusal = Refusal::WrongMethod { allow };
                self.refuse(session, replier, Route::Other, refusal.into()).await
            }
            Endpoint::Unknown => {
                let head = session.req_header();
                let path = String::from_utf8_lossy(head.raw_path());
                // Some clients put a key behind the question mark; it is not said back.
                let path = path.split('?').next().unwrap_or_default();
                let path: String = path.chars().take(200).collect();
                let route = format!("{} {path}", head.method);
                self.refuse(session, replier, Route::Other, Refusal::NoSuchRoute(route).into())
                    .await
            }
        };
        self.settler
            .metrics
            .requests(answered.route, answered.status, answered.outcome)
            .increment(1);
    }

    /// One chat completion.
    async fn chat(
        &self,
        session: &mut ServerSession,
        replier: &Replier<'_>,
    ) -> Result<Answered, No> {
        let head = replier.head;
        if self.draining.load(Ordering::Acquire) {
            return Err(Refusal::Draining.into());
        }
        let caller = self.authenticate(session, replier).await?;
        let current = self.current();
        let upstreams = &current.upstreams;
        let bounds =
            read::Bounds { bytes: current.limits.body_bytes, time: self.listener.body_timeout };
        let body = read::read(session, bounds).await?;
        let request = ChatRequest::parse(&body).map_err(Refusal::BadBody)?;
        let model = route::route(&upstreams.catalog, &caller, &request.model)?;
        let number = self.calls.fetch_add(1, Ordering::Relaxed);
        let open = self.open_calls.open(caller.user, caller.key.clone(), number);
        let admission = Admission {
            request: head.id,
            body: &request,
            model: &model,
            slice_tokens: current.limits.slice_tokens,
            now: head.admitted_at,
            started: head.started,
        };
        let reservation = self.reserve(&admission, &caller).await?;
        let spent = replier.elapsed();
        self.settler.metrics.request_overhead_seconds.record(spent);
        let (forwarded, reservation) =
            match self.forward(session, upstreams, &request, reservation).await? {
                Step::Answering(answering) => *answering,
                Step::CallerGone => return Ok(answered(499, Status::CutByClient)),
            };
        let mut reply_head = replier.head(200, spent);
        headers::add_upstream_reply(&mut reply_head, &forwarded.exchange);
        add_clamped(&mut reply_head, &reservation);
        let is_stream = request.stream && is_event_stream(&forwarded);
        let relay = Relay {
            reply_head,
            forwarded,
            reservation,
            request: &request,
            limits: &current.limits,
        };
        if is_stream {
            Ok(self.relay_stream(session, replier, relay, open).await)
        } else {
            self.relay_whole(session, replier, relay, spent).await
        }
    }

    /// Sends the call upstream, or settles it when nobody answers or nobody waits any more.
    async fn forward(
        &self,
        session: &mut ServerSession,
        upstreams: &Upstreams,
        request: &ChatRequest<'_>,
        reservation: Reservation,
    ) -> Result<Step, No> {
        let headers = session.req_header().headers.clone();
        let metrics = &self.settler.metrics;
        let forwarding = Forwarding {
            upstreams,
            request,
            headers: &headers,
            reservation: &reservation,
            metrics,
        };
        match forwarding.forward(session).await {
            Ok(forwarded) => Ok(Step::Answering(Box::new((forwarded, reservation)))),
            Err(NotForwarded::CallerGone { upstream }) => {
                whole::hung_up(reservation, request, upstream).await;
                session.set_keepalive(None);
                Ok(Step::CallerGone)
            }
            Err(NotForwarded::Failed { failure, upstream, counted }) => {
                let budget = reservation.budget();
                reservation.settle(Ending::failed(upstream, counted)).await;
                Err(No { refusal: Refusal::Upstream(failure), budget: Some(budget) })
            }
        }
    }

    async fn relay_stream(
        &self,
        session: &mut ServerSession,
        replier: &Replier<'_>,
        relay: Relay<'_>,
        open: OpenCall,
    ) -> Answered {
        let Relay { mut reply_head, forwarded, reservation, request, limits } = relay;
        reservation.budget().write(&mut reply_head);
        make_stream_head(&mut reply_head, session.req_header().version);
        if reply::send_head(session, reply_head, replier.patience).await.is_err() {
            whole::hung_up(reservation, request, forwarded.upstream).await;
            return answered(200, Status::CutByClient);
        }
        let metrics = &self.settler.metrics;
        metrics.streams_open.increment(1.0);
        let bounds = self.stream_bounds(limits, replier.head.started);
        let slice = limits.slice_tokens;
        let stream = Stream::new(session, forwarded, request, reservation, open, bounds, slice);
        let status = stream.run().await;
        metrics.streams_open.decrement(1.0);
        metrics.stream_duration_seconds.record(replier.elapsed());
        answered(200, status)
    }

    /// `spent` is the gateway's own time so far.
    async fn relay_whole(
        &self,
        session: &mut ServerSession,
        replier: &Replier<'_>,
        relay: Relay<'_>,
        spent: Duration,
    ) -> Result<Answered, No> {
        let Relay { mut reply_head, mut forwarded, reservation, request, limits } = relay;
        let (mut budget, reserved) = (reservation.budget(), reservation.reserved);
        match whole::relay(session, &mut forwarded, reservation, request, limits.reply_bytes).await
        {
            Whole::Complete { body, at, charged } => {
                forwarded.pool.release(forwarded.exchange).await;
                budget.tokens_left =
                    budget.tokens_left.saturating_add(reserved).saturating_sub(charged);
                budget.write(&mut reply_head);
                let own = spent + clock::instant().duration_since(at);
                let _ = reply_head.insert_header("x-process-time", reply::seconds(own));
                let written = replier.whole(session, reply_head, body).await;
                Ok(answered(
                    200,
                    if written.is_ok() { Status::Complete } else { Status::CutByClient },
                ))
            }
            Whole::Failed(failure) => {
                Err(No { refusal: Refusal::Upstream(failure), budget: Some(budget) })
            }
            Whole::CallerGone => {
                session.set_keepalive(None);
                Ok(answered(499, Status::CutByClient))
            }
        }
    }

    async fn models(
        &self,
        session: &mut ServerSession,
        replier: &Replier<'_>,
    ) -> Result<Answered, No> {
        let mut caller = self.authenticate(session, replier).await?;
        if !self.callers.is_current(&caller).await.map_err(|_| Refusal::CallersUnavailable)? {
            self.callers.forget(caller.user);
            caller = self.authenticate(session, replier).await?;
        }
        let day = Day::at(replier.head.admitted_at, &caller.plan_limits.time_zone);
        let standing = self
            .settler
            .counters
            .standing(caller.user, Some(&caller.key), day, replier.head.admitted_at)
            .await;
        let standing = standing.map_err(|_| Refusal::QuotaUnavailable)?;
        let current = self.current();
        let body = match &replier.head.endpoint {
            Endpoint::Model(id) => models::one(&current.upstreams.catalog, &caller, id)?,
            _ => models::list(&current.upstreams.catalog, &caller),
        };
        let mut head = replier.head(200, replier.elapsed());
        Budget::of(&caller, standing, day, replier.head.admitted_at).write(&mut head);
        let _ = replier.json(session, head, body).await;
        Ok(Answered { route: Route::Models, status: 200, outcome: Outcome::Ok })
    }

    async fn preflight(&self, session: &mut ServerSession, replier: &Replier<'_>) -> Answered {
        let mut head = replier.head(204, replier.elapsed());
        let asked = session.get_header(header::ACCESS_CONTROL_REQUEST_HEADERS).cloned();
        headers::add_preflight(&mut head, asked.as_ref());
        let _ = reply::send_head(session, head, replier.patience).await;
        Answered { route: Route::Other, status: 204, outcome: Outcome::Ok }
    }

    async fn authenticate(
        &self,
        session: &ServerSession,
        replier: &Replier<'_>,
    ) -> Result<Arc<Caller>, Refusal> {
        let headers = &session.req_header().headers;
        let (now, instant) = (replier.head.admitted_at, replier.head.started);
        authenticate::authenticate(headers, &self.callers, &self.pepper, now, instant).await
    }

    async fn reserve(
        &self,
        admission: &Admission<'_>,
        caller: &Arc<Caller>,
    ) -> Result<Reservation, No> {
        let counters = &*self.settler.counters;
        let settler = self.settler.clone();
        let reserved =
            reserve::reserve(admission, Arc::clone(caller), &self.callers, counters, settler).await;
        match reserved {
            Ok(reservation) => {
                self.settler.metrics.reservations_open.set(counters.open_leases() as f64);
                Ok(reservation)
            }
            Err(refusal) => {
                let day = Day::at(admission.now, &caller.plan_limits.time_zone);
                let standing = counters
                    .standing(caller.user, Some(&caller.key), day, admission.now)
                    .await
                    .ok();
                let budget =
                    standing.map(|standing| Budget::of(caller, standing, day, admission.now));
                Err(No { refusal, budget })
            }
        }
    }

    async fn refuse(
        &self,
        session: &mut ServerSession,
        replier: &Replier<'_>,
        route: Route,
        no: No,
    ) -> Answered {
        if let Refusal::Limited(limited) = &no.refusal {
            self.settler.metrics.quota_refusals(limited.limit).increment(1);
        }
        tracing::debug!(request_id = %replier.head.id, refusal = ?no.refusal, "request refused");
        let status = replier.refuse(session, no.refusal, no.budget).await.unwrap_or(499);
        Answered { route, status, outcome: outcome_of(status) }
    }

    fn stream_bounds(&self, limits: &Limits, started: Instant) -> stream::Bounds {
        stream::Bounds {
            event_bytes: limits.event_bytes,
            keepalive: limits.keepalive_comment,
            deadline: (started + limits.call_timeout).into(),
            hard_stop: self.hard_stop.clone(),
            patience: self.listener.write_timeout,
        }
    }

    fn current(&self) -> Arc<Current> {
        Arc::clone(&self.current.read().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Reservation {
    fn budget(&self) -> Budget {
        Budget::of(&self.caller, self.standing, self.day, self.admitted_at)
    }
}

/// Whether the upstream really streams: some answer `stream: true` with a JSON body.
fn is_event_stream(forwarded: &Forwarded) -> bool {
    forwarded
        .exchange
        .header("content-type")
        .is_none_or(|kind| !kind.contains("json") && !kind.contains("html"))
}

fn make_stream_head(head: &mut ResponseHeader, version: http::Version) {
    let _ = head.insert_header(header::CACHE_CONTROL, "no-cache");
    let _ = head.insert_header("x-accel-buffering", "no");
    if !head.headers.contains_key(header::CONTENT_TYPE) {
        let _ = head.insert_header(header::CONTENT_TYPE, "text/event-stream");
    }
    if version == http::Version::HTTP_11 {
        let _ = head.insert_header(header::TRANSFER_ENCODING, "chunked");
    }
}

/// Tells the caller the output limit that was sent in place of a larger one, or of none.
fn add_clamped(head: &mut ResponseHeader, reservation: &Reservation) {
    if let Some(limit) = reservation.output_limit.filter(|_| reservation.clamped) {
        let _ = head.insert_header("x-kx-clamped", limit);
    }
}

fn answered(status: u16, ending: Status) -> Answered {
    Answered { route: Route::ChatCompletions, status, outcome: outcome_of_ending(ending) }
}

fn outcome_of(status: u16) -> Outcome {
    match status {
        499 => Outcome::CutByClient,
        500.. => Outcome::Failed,
        400..500 => Outcome::Refused,
        _ => Outcome::Ok,
    }
}

fn outcome_of_ending(ending: Status) -> Outcome {
    match ending {
        Status::Complete => Outcome::Ok,
        Status::CutByClient => Outcome::CutByClient,
        Status::CutByUpstream => Outcome::CutByUpstream,
        Status::CutByQuota => Outcome::CutByQuota,
        Status::Failed | Status::Abandoned => Outcome::Failed,
    }
}

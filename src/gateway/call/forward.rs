//! Send a call to an upstream, and to another only while nothing of a reply has been seen.
//!
//! Upstreams that keep failing are left out, those that asked for a rest come last, and a full one is
//! waited for when there is no other. What is tried again is bounded for the call (each upstream once, a
//! lone one twice) and for the gateway (see [`RetryBudget`](crate::upstream::retry_budget::RetryBudget)).

use crate::gateway::call::admit::Reservation;
use crate::gateway::call::attempt::{Blame, Tried};
use crate::gateway::call::cancellation::{Leash, Pulled};
use crate::gateway::listener::session::Session;
use crate::gateway::response::refusal::{Refusal, UpstreamFailure};
use crate::upstream::Upstreams;
use crate::upstream::breaker::CallPermit;
use crate::upstream::catalog::Route;
use crate::upstream::client::{Exchange, PendingReply, UpstreamClient};
use crate::upstream::concurrency::Permit;
use crate::upstream::rendezvous;
use domain::charge::Status;
use domain::id::UserId;
use http::{HeaderMap, HeaderValue};
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::{Duration, Instant};
use system::clock;
use telemetry::metrics::Metrics;
use wire::request::Request;

/// About how long a lone upstream is left before it is asked once more.
const AGAIN_AFTER: Duration = Duration::from_millis(100);

/// An upstream is answering.
pub struct Forwarded {
    /// Boxed: it moves with the call from step to step.
    pub exchange: Box<Exchange>,
    pub pool: Arc<UpstreamClient>,
    pub upstream: Arc<str>,
    /// When the reply's head was here.
    pub head_at: Instant,
}

/// A call whose upstream is answering: the reply, what is reserved for it, and what may end it.
pub struct Answering {
    pub forwarded: Forwarded,
    pub reservation: Reservation,
    pub leash: Leash,
}

impl Forwarded {
    /// Notes that a reply to `caller` which had begun well came to nothing.
    pub fn broke_off(&self, caller: UserId) {
        self.pool.breaker.record_broken_stream(clock::instant(), clock::chance(), caller);
    }
}

/// No upstream is answering.
pub enum NotForwarded {
    /// The last upstream's failure, whose name it was, and whether the call counts as a request.
    /// `unheard` is an upstream that took the request and was not heard of in time: it may bill it.
    Failed {
        failure: UpstreamFailure,
        upstream: Arc<str>,
        counted: bool,
        unheard: Option<Arc<str>>,
    },
    /// The client has gone; `pending` when the whole request has been sent.
    Stopped { by: Stop, upstream: Arc<str>, pending: Option<PendingReply> },
}

/// What ended a call while it was waiting for its reply.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stop {
    CallerGone,
    Pulled(Pulled),
}

impl Stop {
    /// How the call is recorded.
    #[must_use]
    pub fn status(self) -> Status {
        match self {
            Self::CallerGone => Status::CutByClient,
            Self::Pulled(why) => why.status(),
        }
    }

    /// What the client receives, if it is still connected.
    #[must_use]
    pub fn refusal(self) -> Option<Refusal> {
        match self {
            Self::CallerGone => None,
            Self::Pulled(why) => Some(why.refusal()),
        }
    }
}

/// What stays the same whichever upstream is tried.
pub struct Forwarding<'a> {
    pub upstreams: &'a Upstreams,
    pub request: &'a Request<'a>,
    pub headers: &'a HeaderMap,
    pub reservation: &'a Reservation,
    pub metrics: &'a Metrics,
    pub leash: &'a Leash,
    /// How long a stream's head may wait for its first event.
    pub hold: Duration,
    /// Largest event of a stream, in bytes.
    pub event_bytes: usize,
}

/// How far a call has come with its upstreams.
#[derive(Default)]
struct Visits<'a> {
    asked: usize,
    last: Option<NotForwarded>,
    /// Failed in a way that a second try may help, without having cost anything.
    again: Option<&'a Route>,
    /// Had no permit free.
    full: Option<&'a Route>,
    /// The shortest time after which one may be worth asking.
    rest: Option<Duration>,
    /// Took the request, and did not answer in time.
    unheard: Option<Arc<str>>,
}

type Done = ControlFlow<Result<Forwarded, NotForwarded>>;

impl Forwarding<'_> {
    /// Tries the model's upstreams.
    ///
    /// # Errors
    /// [`NotForwarded`]; the caller has not been sent a byte.
    pub async fn forward(&self, session: &mut Session) -> Result<Forwarded, NotForwarded> {
        self.upstreams.retry_budget.deposit();
        let mut visits = Visits::default();
        for route in self.order() {
            if let Done::Break(done) = self.visit(session, route, None, &mut visits).await {
                return done;
            }
        }
        if let Some(route) = visits.full {
            let done = self.wait_and_visit(session, route, &mut visits).await;
            if let Done::Break(done) = done {
                return done;
            }
        } else if let (1, Some(route)) = (visits.asked, visits.again) {
            let pause = AGAIN_AFTER.mul_f64(0.5 + clock::chance());
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                by = stopped(session, self.leash) => return Err(stopped_at(route, by)),
            }
            if let Done::Break(done) = self.visit(session, route, None, &mut visits).await {
                return done;
            }
        }
        Err(visits.outcome())
    }

    /// The model's routes, those that asked for a rest last.
    fn order(&self) -> Vec<&Route> {
        let mut order = rendezvous::rank(&self.reservation.model.routes, self.conversation());
        if order.len() > 1 {
            let now = clock::instant();
            order.sort_by_cached_key(|route| {
                let pool = self.upstreams.client(&route.upstream.name);
                pool.is_some_and(|pool| pool.cooldowns.is_cooling_down(&route.upstream_model, now))
            });
        }
        order
    }

    /// What calls have in common whose prompts begin alike.
    fn conversation(&self) -> &[u8] {
        let named = self.headers.get("x-grok-conv-id").map(HeaderValue::as_bytes);
        let named = named.or(self.request.cache_key.map(str::as_bytes));
        named.unwrap_or_else(|| self.reservation.caller.key.as_str().as_bytes())
    }

    /// Asks one upstream, if it is worth asking and there is a permit. Continues where another may be
    /// tried.
    async fn visit<'r>(
        &self,
        session: &mut Session,
        route: &'r Route,
        permit: Option<Permit>,
        visits: &mut Visits<'r>,
    ) -> Done {
        let Some(pool) = self.upstreams.client(&route.upstream.name) else {
            return Done::Continue(());
        };
        let caller = self.reservation.caller.user;
        let call_permit = match pool.breaker.try_acquire(clock::instant(), Some(caller)) {
            Ok(call_permit) => call_permit,
            Err(rest) => {
                visits.rest = Some(visits.rest.map_or(rest, |other| other.min(rest)));
                return Done::Continue(());
            }
        };
        let Some(permit) = permit.or_else(|| pool.limiter.try_acquire()) else {
            visits.full.get_or_insert(route);
            return Done::Continue(());
        };
        if visits.asked > 0 {
            if !self.upstreams.retry_budget.withdraw() {
                return Done::Break(Err(visits.outcome()));
            }
            self.metrics.retries.increment(1);
        }
        visits.asked += 1;
        let tried = self.try_one(session, route, pool, permit).await;
        self.tell(call_permit, &tried, pool);
        self.follow(tried, route, pool, visits)
    }

    /// Tells the breaker what a try has shown.
    fn tell(&self, call_permit: CallPermit, tried: &Tried, pool: &UpstreamClient) {
        let now = clock::instant();
        match tried {
            Tried::Stopped { .. } => drop(call_permit),
            Tried::Failed { blame: Blame::Upstream, failure, .. } => {
                // Whatever was asked, it was not reached.
                let is_away =
                    matches!(failure, UpstreamFailure::Connect | UpstreamFailure::ConnectTimeout);
                let caller = (!is_away).then_some(self.reservation.caller.user);
                call_permit.failed(now, clock::chance(), caller);
            }
            Tried::Answering(_) | Tried::Failed { .. } => call_permit.succeeded(now),
        }
        let breaker = self.metrics.upstream_breaker(&pool.upstream().name);
        breaker.set(pool.breaker.phase(now).number());
    }

    /// Whether a try was the last.
    fn follow<'r>(
        &self,
        tried: Tried,
        route: &'r Route,
        pool: &UpstreamClient,
        visits: &mut Visits<'r>,
    ) -> Done {
        let upstream = Arc::clone(&route.upstream.name);
        match tried {
            Tried::Answering(forwarded) => {
                if visits.asked > 1 {
                    self.upstreams.retry_budget.refund();
                }
                Done::Break(Ok(forwarded))
            }
            Tried::Stopped { by, pending } => {
                Done::Break(Err(NotForwarded::Stopped { by, upstream, pending }))
            }
            Tried::Failed { failure, blame: Blame::Caller, .. } => {
                let unheard = visits.unheard.take();
                Done::Break(Err(NotForwarded::Failed { failure, upstream, counted: true, unheard }))
            }
            Tried::Failed { failure, blame, again, .. } => {
                if let Blame::Limit { rest } = blame {
                    pool.cooldowns.start(&route.upstream_model, clock::instant(), rest);
                }
                if matches!(failure, UpstreamFailure::FirstByteTimeout) {
                    visits.unheard = Some(Arc::clone(&upstream));
                }
                let unheard = None;
                visits.last =
                    Some(NotForwarded::Failed { failure, upstream, counted: false, unheard });
                visits.again = again.then_some(route);
                Done::Continue(())
            }
        }
    }

    /// Waits for a permit at an upstream that is full, as long as it lets calls wait.
    async fn wait_and_visit<'r>(
        &self,
        session: &mut Session,
        route: &'r Route,
        visits: &mut Visits<'r>,
    ) -> Done {
        let pool = self.upstreams.client(&route.upstream.name);
        let queued = pool.and_then(|pool| pool.limiter.enqueue(self.reservation.caller.user));
        let Some(queued) = queued else { return Done::Continue(()) };
        let waited = tokio::time::timeout(route.upstream.queue_timeout, queued.permit());
        let permit = tokio::select! {
            permit = waited => permit.ok().flatten(),
            by = stopped(session, self.leash) => return Done::Break(Err(stopped_at(route, by))),
        };
        match permit {
            Some(permit) => self.visit(session, route, Some(permit), visits).await,
            None => Done::Continue(()),
        }
    }
}

impl Visits<'_> {
    /// What came of it when no upstream answers.
    fn outcome(&mut self) -> NotForwarded {
        let failure = match (self.full, self.rest) {
            (Some(_), _) => UpstreamFailure::Busy,
            (None, Some(rest)) => UpstreamFailure::Resting(rest),
            (None, None) => UpstreamFailure::Connect,
        };
        let unasked =
            NotForwarded::Failed { failure, upstream: "".into(), counted: false, unheard: None };
        let mut outcome = self.last.take().unwrap_or(unasked);
        if let NotForwarded::Failed { unheard, .. } = &mut outcome {
            *unheard = self.unheard.take();
        }
        outcome
    }
}

/// The client of a call that was not sent has gone.
fn stopped_at(route: &Route, by: Stop) -> NotForwarded {
    NotForwarded::Stopped { by, upstream: Arc::clone(&route.upstream.name), pending: None }
}

/// Whether the upstream really streams: some answer `stream: true` with a JSON body.
#[must_use]
pub fn is_event_stream(exchange: &Exchange) -> bool {
    let kind = exchange.header("content-type");
    exchange.status().is_success()
        && kind.is_none_or(|kind| !kind.contains("json") && !kind.contains("html"))
}

/// Resolves when the client has gone, or no response is possible.
pub async fn stopped(session: &mut Session, leash: &Leash) -> Stop {
    tokio::select! {
        biased;
        pulled = leash.pulled() => Stop::Pulled(pulled),
        () = gone_or_kept_alive(session, leash) => Stop::CallerGone,
    }
}

/// Resolves when the caller has gone; until then it is sent what keeps its connection alive, if that is set.
async fn gone_or_kept_alive(session: &mut Session, leash: &Leash) {
    match &leash.early {
        Some(early) => early.keep_alive(session).await,
        None => session.caller_gone().await,
    }
}

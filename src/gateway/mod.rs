//! The data plane: one call from its first byte to its last.
//!
//! A call reads as one line: accept, authenticate, read, route, reserve, forward, relay, settle;
//! each step is a file, and takes what the step before it returned. A call works while the store
//! sleeps and the control plane is down; the one thing it waits for is its quota.

pub mod listener;
pub mod endpoint;
pub mod call;
pub mod response;
pub mod routes;
pub mod headers;

use crate::callers::cache::CallerCache;
use crate::callers::open::OpenCalls;
use crate::config::{Limits, Listener};
use crate::response_owners::ResponseOwners;
use crate::upstream::Upstreams;
use crate::upstream::concurrency::FairLimiter;
use arc_swap::ArcSwap;
use bytes::Bytes;
use call::body_memory::Buffers;
use call::exhausted_users::Exhausted;
use call::settle::Settler;
use domain::caller::Caller;
use domain::charge::Status;
use domain::day::Day;
use domain::key::Pepper;
use endpoint::{Endpoint, Shape};
use http::header;
use jiff::Timestamp;
use listener::peers::Peers;
use listener::session::Session;
use response::refusal::Refusal;
use response::writer::{Budget, Replier};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use telemetry::labels::{Outcome, Route};
use tokio_util::sync::CancellationToken;

/// Largest request body of the control plane, in bytes.
const CONTROL_BODY: usize = 64 * 1024;

/// What metrics show for a caller that left before its answer, as nginx does.
const CALLER_GONE: u16 = 499;

/// Everything a call needs.
pub struct Gateway {
    pub listener: Listener,
    /// `None` where the public port is plain.
    pub tls: Option<listener::tls::Tls>,
    pub pepper: Pepper,
    pub callers: Arc<CallerCache>,
    /// Whose the replies are that upstreams keep.
    pub owners: ResponseOwners,
    pub open_calls: OpenCalls,
    /// What a reload replaces; a call keeps what it began with.
    pub current: ArcSwap<RoutingSnapshot>,
    pub settler: Arc<Settler>,
    pub control: axum::Router,
    /// Cancelled when the process is to end soon: connections are closed after the answer under way.
    pub leaving: CancellationToken,
    /// Cancelled when new calls are refused, and idle connections closed.
    pub draining: CancellationToken,
    /// Cancelled when open streams may not go on.
    pub hard_stop: CancellationToken,
    /// The memory that bodies may take together.
    pub buffers: Buffers,
    /// The connections of each address.
    pub peers: Peers,
    /// Users who have no quota left, as far as it was seen.
    pub exhausted: Exhausted,
    /// Tells the open calls of one user apart.
    pub calls: AtomicU64,
    /// Turns for counting long prompts, which takes a processor for as long as a second.
    pub counting: Arc<FairLimiter>,
}

/// The part of the configuration that can change while the gateway runs.
pub struct RoutingSnapshot {
    pub upstreams: Arc<Upstreams>,
    pub limits: Limits,
}

/// How a request of the data plane was answered.
pub(crate) struct Handled {
    pub route: Route,
    pub status: u16,
    pub outcome: Outcome,
}

/// A call that was not answered, with what is known of the caller's budget.
pub(crate) struct Rejection {
    pub refusal: Refusal,
    pub budget: Option<Budget>,
}

impl From<Refusal> for Rejection {
    fn from(refusal: Refusal) -> Self {
        Self { refusal, budget: None }
    }
}

impl Gateway {
    /// Answers one request, whatever it is for.
    pub async fn answer(&self, session: &mut Session, replier: &Replier<'_>) {
        // The connections of a proxy are not bounded, but the open requests of each of its clients are.
        let peer = replier.head.forwarded.then(|| self.peers.connect(replier.head.address));
        let answered = match &replier.head.endpoint {
            _ if matches!(peer, Some(None)) => {
                let refusal = Refusal::TooManyConnections { most: self.peers.most() };
                self.refuse(session, replier, Route::Other, refusal.into()).await
            }
            Endpoint::Control => {
                let bounds = self.body_bounds(CONTROL_BODY);
                let served = routes::control_plane::serve(
                    session,
                    &self.control,
                    bounds,
                    &self.buffers,
                    replier,
                );
                let status = Box::pin(served).await.unwrap_or(CALLER_GONE);
                Handled { route: Route::Control, status, outcome: outcome_of(status) }
            }
            // Boxed, so that a connection takes the memory of a call only while it has one.
            Endpoint::Call(surface) => {
                match Box::pin(self.call(*surface, session, replier)).await {
                    Ok(answered) => answered,
                    Err(no) => self.refuse(session, replier, Route::Call(*surface), no).await,
                }
            }
            Endpoint::Kept(kept) => match Box::pin(self.kept(session, replier, kept)).await {
                Ok(answered) => answered,
                Err(no) => self.refuse(session, replier, Route::StoredResponse, no).await,
            },
            Endpoint::Deferred(id) => match Box::pin(self.deferred(session, replier, id)).await {
                Ok(answered) => answered,
                Err(no) => self.refuse(session, replier, Route::DeferredCompletion, no).await,
            },
            Endpoint::Models(id, shape) => {
                let models = self.models(session, replier, id.as_deref(), *shape);
                match Box::pin(models).await {
                    Ok(answered) => answered,
                    Err(no) => self.refuse(session, replier, Route::Models, no).await,
                }
            }
            Endpoint::Preflight => self.preflight(session, replier).await,
            Endpoint::WrongMethod { allow } => {
                let refusal = Refusal::WrongMethod { allow };
                self.refuse(session, replier, Route::Other, refusal.into()).await
            }
            Endpoint::WebSocket => {
                self.refuse(session, replier, Route::Other, Refusal::WebSocket.into()).await
            }
            Endpoint::Unknown => {
                // Some clients put a key behind the question mark; it is not said back.
                let path = session.target().split('?').next().unwrap_or_default();
                let path: String = path.chars().take(200).collect();
                let route = format!("{} {path}", session.method());
                self.refuse(session, replier, Route::Other, Refusal::NoSuchRoute(route).into())
                    .await
            }
        };
        self.settler
            .metrics
            .requests(answered.route, answered.status, answered.outcome)
            .increment(1);
    }

    async fn models(
        &self,
        session: &mut Session,
        replier: &Replier<'_>,
        id: Option<&str>,
        shape: Shape,
    ) -> Result<Handled, Rejection> {
        let caller = self.up_to_date_caller(session, replier).await?;
        let budget = self.budget(&caller, replier.head.admitted_at).await?;
        let current = self.current();
        let catalog = &current.upstreams.catalog;
        let body = match id {
            Some(id) => routes::models::one(catalog, &caller, id, shape)?,
            None => routes::models::list(catalog, &caller, shape),
        };
        let etag = routes::models::etag(&body);
        let is_known = session
            .header(header::IF_NONE_MATCH)
            .is_some_and(|known| known.as_bytes() == etag.as_bytes());
        let status = if is_known { 304 } else { 200 };
        let mut head = replier.head(status, replier.elapsed());
        budget.write(&mut head);
        head.set(header::ETAG, etag);
        // Plan and key may change with the next request, so what is kept has to be asked about.
        head.set(header::CACHE_CONTROL, "private, no-cache");
        head.add(header::VARY, "anthropic-version");
        let _ = if is_known {
            session.reply(head, Bytes::new()).await
        } else {
            replier.json(session, head, body).await
        };
        Ok(Handled { route: Route::Models, status, outcome: Outcome::Ok })
    }

    /// The caller, whose record no admission will look at again.
    async fn up_to_date_caller(
        &self,
        session: &Session,
        replier: &Replier<'_>,
    ) -> Result<Arc<Caller>, Refusal> {
        let caller = self.authenticate(session, replier).await?;
        if self.callers.is_current_as_known(&caller).await {
            return Ok(caller);
        }
        self.callers.forget(caller.user);
        self.authenticate(session, replier).await
    }

    async fn preflight(&self, session: &mut Session, replier: &Replier<'_>) -> Handled {
        let mut head = replier.head(204, replier.elapsed());
        let asked = session.header(header::ACCESS_CONTROL_REQUEST_HEADERS).cloned();
        headers::add_preflight(&mut head, asked.as_ref());
        let _ = session.reply(head, Bytes::new()).await;
        Handled { route: Route::Other, status: 204, outcome: Outcome::Ok }
    }

    async fn authenticate(
        &self,
        session: &Session,
        replier: &Replier<'_>,
    ) -> Result<Arc<Caller>, Refusal> {
        let takes_api_key = replier.head.endpoint.takes_api_key();
        let presented = call::authenticate::presented(session.headers(), takes_api_key);
        let (now, instant) = (replier.head.admitted_at, replier.head.started);
        call::authenticate::authenticate(presented, &self.callers, &self.pepper, now, instant).await
    }

    /// What is left for a caller now.
    async fn budget(&self, caller: &Caller, now: Timestamp) -> Result<Budget, Refusal> {
        let day = Day::at(now, &caller.plan_limits.time_zone);
        let quota = &self.settler.quota;
        let standing = quota.standing(caller.user, Some(&caller.key), day, now).await;
        let standing = standing.map_err(|_| Refusal::QuotaUnavailable)?;
        Ok(Budget::of(caller, standing, day, now))
    }

    async fn refuse(
        &self,
        session: &mut Session,
        replier: &Replier<'_>,
        route: Route,
        no: Rejection,
    ) -> Handled {
        if let Refusal::Limited(limited) = &no.refusal {
            self.settler.metrics.quota_refusals(limited.limit).increment(1);
        }
        let refused = Box::pin(replier.refuse(session, no.refusal, no.budget)).await;
        let status = refused.unwrap_or(CALLER_GONE);
        // Not the refusal itself: it may quote the request, or what an upstream said of it.
        tracing::debug!(request_id = %replier.head.id, status, "request rejected");
        Handled { route, status, outcome: outcome_of(status) }
    }

    fn body_bounds(&self, bytes: usize) -> call::read_body::Bounds {
        let Listener { body_timeout, body_rate, .. } = self.listener;
        call::read_body::Bounds { bytes, time: body_timeout, rate: body_rate }
    }

    fn current(&self) -> Arc<RoutingSnapshot> {
        self.current.load_full()
    }
}

fn outcome_of(status: u16) -> Outcome {
    match status {
        CALLER_GONE => Outcome::CutByClient,
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

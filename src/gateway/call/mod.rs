//! One metered call, whatever its surface, as one line: authenticate, read, route, reserve, forward, relay, settle.

pub mod authenticate;
pub mod read_body;
pub mod body_memory;
pub mod exhausted_users;
pub mod route;
pub mod prompt_count;
pub mod admission;
pub mod admission_queue;
pub mod admit;
pub mod length_estimate;
pub mod reasoning_estimate;
pub mod hidden_tokens;
pub mod histogram;
pub mod cancellation;
pub mod early_keepalive;
pub mod forward;
pub mod attempt;
pub mod beginning;
pub mod relay_body;
pub mod relay_stream;
pub mod stream_quota;
pub mod stream_charge;
pub mod stream_end;
pub mod stream_finish;
pub mod settle;
pub mod drain;
pub mod correction;
pub mod reread;

use crate::config::Limits;
use crate::gateway::headers;
use crate::gateway::listener::session::{ReplyHead, Session};
use crate::gateway::response::refusal::Refusal;
use crate::gateway::response::writer::{self, Budget, Replier};
use crate::gateway::{
    CALLER_GONE, Gateway, Handled, Rejection, RoutingSnapshot, outcome_of_ending,
};
use admission::{Asking, Patience, Unreserved};
use admit::{Admission, Reservation};
use body_memory::Held;
use cancellation::Leash;
use domain::caller::Caller;
use domain::charge::Status;
use domain::stored_response::StoredResponse;
use drain::{Asked, Drain, Unread};
use early_keepalive::{Early, Sent};
use forward::{Answering, Forwarded, Forwarding, NotForwarded, Stop, is_event_stream};
use reasoning_estimate::Kinds;
use relay_body::Whole;
use relay_stream::Stream;
use reread::Rereader;
use route::Wanted;
use settle::{Ending, Settler};
use std::sync::atomic::Ordering;
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use system::clock;
use telemetry::labels::Route;
use wire::request::Request;
use wire::surface::Surface;

/// How long a stream's head waits for its first event where no keep-alive comments are sent.
const HOLD: Duration = Duration::from_secs(15);

/// One call on its way: what every step of it needs.
pub(crate) struct Call<'a> {
    pub proxy: &'a Gateway,
    pub replier: &'a Replier<'a>,
    pub current: &'a RoutingSnapshot,
    pub request: &'a Request<'a>,
    /// The memory its bodies take.
    pub held: Held,
}

impl Gateway {
    /// Answers one call.
    pub(crate) async fn call(
        &self,
        surface: Surface,
        session: &mut Session,
        replier: &Replier<'_>,
    ) -> Result<Handled, Rejection> {
        if self.draining.is_cancelled() {
            return Err(Refusal::Draining.into());
        }
        let caller = self.authenticate(session, replier).await?;
        let answered = self.call_of(surface, &caller, session, replier).await;
        if let Err(no) = &answered {
            self.exhausted.note(caller.user, no);
        }
        match answered {
            Err(Rejection { refusal, budget: None }) => {
                let budget = match refusal {
                    Refusal::QuotaUnavailable => None,
                    _ => self.budget(&caller, replier.head.admitted_at).await.ok(),
                };
                Err(Rejection { refusal, budget })
            }
            answered => answered,
        }
    }

    async fn call_of(
        &self,
        surface: Surface,
        caller: &Arc<Caller>,
        session: &mut Session,
        replier: &Replier<'_>,
    ) -> Result<Handled, Rejection> {
        let current = self.current();
        let now = replier.head.admitted_at;
        self.refuse_exhausted(caller, surface, now).await?;
        let mut held = self.buffers.hold(Some(caller.user), replier.head.address);
        let bounds = self.body_bounds(current.limits.body_bytes);
        let admit = self.refuse_without_quota(caller, surface, now);
        let body = read_body::read(session, bounds, &mut held, admit).await?;
        let mut request = Request::parse(surface, &body).map_err(Refusal::BadBody)?;
        let earlier = self.earlier(caller, &mut request, session, replier).await?;
        let mut call = Call { proxy: self, replier, current: &current, request: &request, held };
        let mut leash = self.leash(caller, replier, &current, request.stream);
        leash.early = early(replier, &current.limits, &request);
        let upstream = earlier.as_ref().map(|reply| &*reply.upstream);
        // Boxed, like the next steps: each takes memory only while it runs.
        let reserving = Box::pin(call.reserve(session, &leash, caller, upstream));
        let reservation = match reserving.await {
            Ok(reservation) => reservation,
            Err(by) => {
                let gone = answered(surface, CALLER_GONE, Status::CutByClient);
                return unreserved(session, by).map_or(Ok(gone), Err);
            }
        };
        let spent = replier.elapsed().saturating_sub(reservation.waited);
        self.settler.metrics.request_overhead_seconds.record(spent);
        let forwarding = Box::pin(call.forward(session, reservation, &leash));
        let (forwarded, reservation) = match forwarding.await? {
            Step::Answering(answering) => *answering,
            Step::CallerGone => return Ok(answered(surface, CALLER_GONE, Status::CutByClient)),
        };
        let mut reply_head = replier.head(200, spent);
        headers::add_upstream_reply(&mut reply_head, &forwarded.exchange);
        headers::add_clamped(&mut reply_head, &reservation);
        headers::add_stripped(&mut reply_head, &request, &reservation);
        let answering = Answering { forwarded, reservation, leash };
        if request.stream && is_event_stream(&answering.forwarded.exchange) {
            Ok(Box::pin(call.relay_stream(session, reply_head, Box::new(answering))).await)
        } else {
            Box::pin(call.relay_whole(session, reply_head, answering, spent)).await
        }
    }

    /// The kept reply that a call goes on from. The upstream reads all of it again.
    async fn earlier(
        &self,
        caller: &Caller,
        request: &mut Request<'_>,
        session: &mut Session,
        replier: &Replier<'_>,
    ) -> Result<Option<StoredResponse>, Refusal> {
        let Some(id) = &request.dependencies.previous_response else { return Ok(None) };
        let found = self.owners.owned_by(id, caller.user, replier.head.admitted_at).await;
        let found = found.map_err(|_| Refusal::RepliesUnavailable)?;
        let mut reply = found.ok_or_else(|| Refusal::NoSuchPrevious(id.clone()))?;
        if reply.unsettled.is_some() {
            // To go on from it is to read it.
            Box::pin(self.settle_stored(session, replier, caller, &reply)).await?;
            let now = replier.head.admitted_at;
            let found = self.owners.owned_by(id, caller.user, now).await;
            reply = found.map_err(|_| Refusal::RepliesUnavailable)?.unwrap_or(reply);
        }
        request.prompt.size.previous_response_tokens = reply.tokens;
        Ok(Some(reply))
    }

    /// What may end a call of this caller from outside.
    pub(crate) fn leash(
        &self,
        caller: &Caller,
        replier: &Replier<'_>,
        current: &RoutingSnapshot,
        is_stream: bool,
    ) -> Leash {
        let number = self.calls.fetch_add(1, Ordering::Relaxed);
        Leash {
            open: self.open_calls.open(caller.user, caller.key.clone(), number),
            ends_with_right: is_stream,
            hard_stop: self.hard_stop.clone(),
            deadline: (replier.head.started + current.limits.call_timeout).into(),
            early: None,
        }
    }
}

/// What came of forwarding; a failure is a [`No`].
enum Step {
    Answering(Box<(Forwarded, Reservation)>),
    CallerGone,
}

impl Call<'_> {
    /// `upstream` is the only one that will do, if there is such.
    pub(crate) async fn reserve(
        &self,
        session: &mut Session,
        leash: &Leash,
        caller: &Arc<Caller>,
        upstream: Option<&str>,
    ) -> Result<Reservation, Unreserved> {
        let (proxy, head) = (self.proxy, self.replier.head);
        let Request { model, surface, .. } = self.request;
        let wanted = Wanted { model, surface: *surface, upstream };
        let model = route::route(&self.current.upstreams.catalog, caller, wanted)?;
        let Settler { reasoning, lengths, quota, metrics, .. } = &*proxy.settler;
        let limits = &self.current.limits;
        let default = limits.expected_output_tokens;
        let likely = match self.request.max_output {
            Some(limit) => limit,
            None => lengths.likely(caller.user, &model.id, default),
        };
        let kinds = Kinds {
            reasoning: model.hidden_reasoning,
            tools: self.request.runs_server_tools(&caller.plan_limits.policy),
        };
        let hidden = reasoning.allowance(&model.id, kinds, limits.expected_hidden_tokens);
        if kinds == (Kinds { reasoning: true, tools: false }) {
            metrics.reasoning_allowance_tokens(&model.id).set(hidden as f64);
        }
        let admission = Admission {
            request: head.id,
            client_request_id: head.client_request_id.clone(),
            body: self.request,
            model: &model,
            kinds,
            hidden,
            likely,
            slice_tokens: limits.slice_tokens,
            now: head.admitted_at,
            started: head.started,
            exact: OnceLock::new(),
            counting: &proxy.counting,
        };
        let caller = Arc::clone(caller);
        let asking = Asking { caller, callers: &proxy.callers, settler: &proxy.settler };
        let patience =
            Patience { leash, draining: &proxy.draining, longest: limits.admission_wait };
        let reserved = admission::reserve(session, admission, asking, &patience).await?;
        metrics.reservations_open.set(quota.open_leases() as f64);
        Ok(reserved)
    }

    /// Sends the call upstream, or settles it if no upstream responds or the client has gone.
    async fn forward(
        &mut self,
        session: &mut Session,
        mut reservation: Reservation,
        leash: &Leash,
    ) -> Result<Step, Rejection> {
        let headers = session.take_headers();
        let forwarding = Forwarding {
            upstreams: &self.current.upstreams,
            request: self.request,
            headers: &headers,
            reservation: &reservation,
            metrics: &self.proxy.settler.metrics,
            leash,
            hold: self.current.limits.keepalive_comment.unwrap_or(HOLD),
            event_bytes: self.current.limits.event_bytes,
        };
        match forwarding.forward(session).await {
            Ok(forwarded) => Ok(Step::Answering(Box::new((forwarded, reservation)))),
            Err(NotForwarded::Stopped { by, upstream, pending }) => {
                let empty = self.no_room(&reservation);
                let sent = std::mem::replace(&mut self.held, empty);
                let unread = pending.map(|pending| Unread::Head(pending, sent));
                self.stop(reservation, by, upstream, unread).await;
                match stopped(session, by) {
                    Some(refusal) => Err(refusal.into()),
                    None => Ok(Step::CallerGone),
                }
            }
            Err(NotForwarded::Failed { failure, upstream, counted, unheard }) => {
                let (budget, reserved) = (reservation.budget(), reservation.reserved);
                let unheard = unheard.and_then(|name| self.current.upstreams.client(&name));
                let ending = match unheard {
                    Some(pool) => {
                        let upstream = pool.upstream();
                        relay_body::ending_of_unheard(&mut reservation, self.request, upstream)
                            .await
                    }
                    None => Ending::failed(upstream, counted),
                };
                let budget = budget.returned(reserved, ending.counted);
                let budget = budget.charged(ending.tokens.total());
                reservation.settle(ending).await;
                Err(Rejection { refusal: Refusal::Upstream(failure), budget: Some(budget) })
            }
        }
    }

    /// Ends a call after its client has gone. Its upstream is read on where only the rest of the
    /// reply says what the call costs; otherwise the call is settled.
    async fn stop(
        &self,
        reservation: Reservation,
        by: Stop,
        upstream: Arc<str>,
        unread: Option<Unread>,
    ) {
        let asked = Asked::of(self.request, &reservation.caller.plan_limits.policy);
        match unread {
            Some(unread) if asked.is_read_on(&reservation.model, unread.upstream(), by) => {
                let (status, bounds) = (by.status(), self.drain_bounds());
                Drain { asked, status, upstream, bounds }.spawn(reservation, unread);
            }
            unread => {
                let sent = unread.is_some().then_some(self.request);
                // The upstream is cancelled before anyone is waited for.
                drop(unread);
                relay_body::settle_stopped(reservation, sent, upstream, by).await;
            }
        }
    }

    async fn relay_stream(
        &self,
        session: &mut Session,
        mut reply_head: ReplyHead,
        mut answering: Box<Answering>,
    ) -> Handled {
        answering.forwarded.exchange.drop_headers();
        answering.reservation.budget().write(&mut reply_head);
        headers::make_stream_head(&mut reply_head);
        let metrics = &self.proxy.settler.metrics;
        metrics.streams_open.increment(1.0);
        let sent = match self.replier.sent() {
            Sent::Nothing => session.send_head(reply_head).await.is_ok(),
            Sent::Head => true,
            Sent::Torn => false,
        };
        let bounds = self.stream_bounds();
        let rereader = self.request.dependencies.is_stored.then(|| self.rereader());
        let stream = Stream::new(session, *answering, self.request, bounds, rereader);
        let status = if sent { stream.run().await } else { stream.hang_up().await };
        metrics.streams_open.decrement(1.0);
        metrics.stream_duration_seconds.record(self.replier.elapsed());
        self.answered(200, status)
    }

    /// `spent` is the gateway's own time so far.
    pub(crate) async fn relay_whole(
        &mut self,
        session: &mut Session,
        mut reply_head: ReplyHead,
        answering: Answering,
        spent: Duration,
    ) -> Result<Handled, Rejection> {
        let Answering { mut forwarded, reservation, leash } = answering;
        let (budget, reserved) = (reservation.budget(), reservation.reserved);
        let bytes = self.current.limits.reply_bytes;
        let bounds = relay_body::Bounds { bytes, held: &mut self.held, leash: &leash };
        let owners = &self.proxy.owners;
        let relayed =
            relay_body::relay(session, &mut forwarded, reservation, self.request, bounds, owners)
                .await;
        match relayed {
            Whole::Complete { body, at, charged } => {
                forwarded.pool.release(*forwarded.exchange);
                let budget = budget.returned(reserved, !self.request.surface.is_free());
                budget.charged(charged).write(&mut reply_head);
                let own = spent + clock::instant().duration_since(at);
                reply_head.write(&writer::PROCESS_TIME, writer::Seconds(own));
                let written = self.replier.whole(session, reply_head, body).await;
                let ending = if written.is_ok() { Status::Complete } else { Status::CutByClient };
                Ok(self.answered(200, ending))
            }
            Whole::Failed { refusal, charged } => {
                let budget = budget.returned(reserved, charged > 0).charged(charged);
                Err(Rejection { refusal, budget: Some(budget) })
            }
            Whole::Stopped { by, reservation, body } => {
                let upstream = Arc::clone(&forwarded.upstream);
                let room = self.room_of(&body, &reservation);
                let unread = Unread::Body(Box::new(forwarded), body, room);
                self.stop(*reservation, by, upstream, Some(unread)).await;
                match stopped(session, by) {
                    Some(refusal) => Err(refusal.into()),
                    None => Ok(self.answered(CALLER_GONE, Status::CutByClient)),
                }
            }
        }
    }

    /// A share of memory with nothing in it yet.
    fn no_room(&self, reservation: &Reservation) -> Held {
        self.proxy.buffers.hold(Some(reservation.caller.user), self.replier.head.address)
    }

    /// The memory that a part of a reply takes, without that of the request.
    fn room_of(&mut self, body: &[u8], reservation: &Reservation) -> Held {
        let mut room = self.no_room(reservation);
        match room.grow(body.len()) {
            Ok(()) => room,
            Err(_) => std::mem::replace(&mut self.held, room),
        }
    }

    fn drain_bounds(&self) -> drain::Bounds {
        let limits = &self.current.limits;
        drain::Bounds {
            time: limits.drain,
            hard_stop: self.proxy.hard_stop.clone(),
            event_bytes: limits.event_bytes,
            reply_bytes: limits.reply_bytes,
            slice_tokens: limits.slice_tokens,
            buffers: self.proxy.buffers.clone(),
            address: self.replier.head.address,
        }
    }

    fn rereader(&self) -> Rereader {
        Rereader {
            corrector: self.proxy.corrector(&self.current.upstreams),
            buffers: self.proxy.buffers.clone(),
            reply_bytes: self.current.limits.reply_bytes,
            address: self.replier.head.address,
            drain: self.current.limits.drain,
            stop: self.proxy.draining.clone(),
        }
    }

    fn answered(&self, status: u16, ending: Status) -> Handled {
        answered(self.request.surface, status, ending)
    }

    fn stream_bounds(&self) -> relay_stream::Bounds {
        relay_stream::Bounds {
            event_bytes: self.current.limits.event_bytes,
            keepalive: self.current.limits.keepalive_comment,
            slice_tokens: self.current.limits.slice_tokens,
            drain: self.drain_bounds(),
        }
    }
}

impl Reservation {
    pub(crate) fn budget(&self) -> Budget {
        Budget::of(&self.caller, self.standing, self.day, self.admitted_at)
    }
}

/// A call that was stopped before a byte of its reply was sent: what its client receives, if it is
/// still there.
fn stopped(session: &mut Session, by: Stop) -> Option<Refusal> {
    session.close_after_reply();
    by.refusal()
}

/// The response to a call without a reservation; `None` if the client has gone.
pub(crate) fn unreserved(session: &mut Session, by: Unreserved) -> Option<Rejection> {
    match by {
        Unreserved::Refused(refusal) => Some(refusal.into()),
        Unreserved::Stopped(by) => stopped(session, by).map(Rejection::from),
    }
}

/// What begins the reply to a stream while its upstream has not, where that is set. It takes effect once it is
/// in the call's leash, and `replier` knows of it.
fn early(replier: &Replier<'_>, limits: &Limits, request: &Request<'_>) -> Option<Arc<Early>> {
    let after = limits.early_keepalive.filter(|_| request.stream)?;
    let mut head = replier.head(200, replier.elapsed());
    headers::make_stream_head(&mut head);
    let due = clock::instant() + after;
    let early = Early::new(head, due.into(), limits.keepalive_comment);
    Some(Arc::clone(replier.early.get_or_init(|| Arc::new(early))))
}

fn answered(surface: Surface, status: u16, ending: Status) -> Handled {
    Handled { route: Route::Call(surface), status, outcome: outcome_of_ending(ending) }
}

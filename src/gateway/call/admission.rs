//! Admits calls, and queues a call whose tokens are reserved by calls in flight.
//!
//! The call waits before anything is sent upstream, for at most `limits.admission_wait`, behind earlier calls
//! of its user ([`crate::gateway::call::admission_queue`]). A disconnect, revoked access, the call's deadline and a
//! shutdown end the wait at once, and nothing is charged.

use crate::callers::cache::CallerCache;
use crate::gateway::call::Call;
use crate::gateway::call::admission_queue::QueuePosition;
use crate::gateway::call::cancellation::Cancellation;
use crate::gateway::call::end::EndReason;
use crate::gateway::call::forward::stopped;
use crate::gateway::call::reasoning_estimate::HiddenKinds;
use crate::gateway::call::reservation::Reservation;
use crate::gateway::call::reserve::{self, NotAdmitted, ReservationRequest};
use crate::gateway::call::route::{self, Wanted};
use crate::gateway::call::services::CallServices;
use crate::gateway::listener::session::Session;
use crate::gateway::response::refusal::{Limited, Refusal};
use crate::gateway::response::rejection::Rejection;
use crate::upstream::catalog::Model;
use domain::caller::Caller;
use domain::limit::LimitKind;
use jiff::SignedDuration;
use quota::backend::QuotaBackend;
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use system::clock;
use telemetry::labels::WaitOutcome;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use wire::request::Request;

/// The queue and time limit of a waiting call.
pub struct QueueLimit<'a> {
    pub cancellation: &'a Cancellation,
    /// Cancelled once no new call is admitted.
    pub shutting_down: &'a CancellationToken,
    /// The longest wait; zero = none.
    pub longest: Duration,
}

/// The reason that a call was not admitted.
pub enum AdmissionError {
    Refused(Refusal),
    /// The client has gone.
    Stopped(EndReason),
}

impl From<Refusal> for AdmissionError {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

/// Who asks, and of whom.
pub struct CallerContext<'a> {
    pub caller: Arc<Caller>,
    pub callers: &'a CallerCache,
    pub services: &'a Arc<CallServices>,
}

impl Call<'_> {
    /// Reserves the call's quota. With `upstream` only that upstream may serve it.
    pub(crate) async fn admit(
        &self,
        session: &mut Session,
        cancellation: &Cancellation,
        caller: &Arc<Caller>,
        upstream: Option<&str>,
    ) -> Result<Reservation, Rejection> {
        let gateway = self.gateway;
        let Request { model, surface, .. } = self.request;
        let wanted = Wanted { model, surface: *surface, upstream };
        let model = route::route(&self.current.upstreams.catalog, caller, wanted)?;
        let admission = self.reservation_request(caller, &model);
        let caller = Arc::clone(caller);
        let context =
            CallerContext { caller, callers: &gateway.callers, services: &gateway.services };
        let queue_limit = QueueLimit {
            cancellation,
            shutting_down: &gateway.shutting_down,
            longest: self.current.limits.admission_wait,
        };
        let reserved = match reserve_or_wait(session, admission, context, &queue_limit).await {
            Ok(reserved) => reserved,
            Err(AdmissionError::Refused(refusal)) => return Err(refusal.into()),
            Err(AdmissionError::Stopped(by)) => {
                session.close_after_reply();
                return Err(Rejection::of(by));
            }
        };
        let CallServices { quota, metrics, .. } = &*gateway.services;
        metrics.reservations_open.set(quota.open_leases() as f64);
        Ok(reserved)
    }

    /// The inputs of the reservation, with the estimates of what the model is likely to generate.
    fn reservation_request<'a>(
        &'a self,
        caller: &Caller,
        model: &'a Arc<Model>,
    ) -> ReservationRequest<'a> {
        let (head, limits) = (self.writer.head, &self.current.limits);
        let CallServices { reasoning, lengths, metrics, .. } = &*self.gateway.services;
        let likely = self.request.max_output.unwrap_or_else(|| {
            lengths.likely(caller.user, &model.id, limits.expected_output_tokens)
        });
        let kinds = HiddenKinds {
            reasoning: model.hidden_reasoning,
            tools: self.request.runs_server_tools(&caller.plan_limits.policy),
        };
        let hidden = reasoning.allowance(&model.id, kinds, limits.expected_hidden_tokens);
        if kinds == (HiddenKinds { reasoning: true, tools: false }) {
            metrics.reasoning_allowance_tokens(&model.id).set(hidden as f64);
        }
        ReservationRequest {
            request: head.id,
            client_request_id: head.client_request_id.clone(),
            body: self.request,
            model,
            kinds,
            hidden,
            likely,
            slice_tokens: limits.slice_tokens,
            now: head.admitted_at,
            started: head.started,
            exact: OnceLock::new(),
            counting: &self.gateway.counting,
        }
    }
}

/// Takes the quota of one call, as soon as running calls of its user leave room for it.
///
/// # Errors
/// A refusal, or that the client has gone; nothing was taken.
async fn reserve_or_wait(
    session: &mut Session,
    admission: ReservationRequest<'_>,
    context: CallerContext<'_>,
    queue_limit: &QueueLimit<'_>,
) -> Result<Reservation, AdmissionError> {
    let CallerContext { caller, callers, services } = context;
    let quota: &dyn QuotaBackend = &*services.quota;
    let behind = services.admission_queue.queue(caller.user, &caller.key);
    if behind.is_none() {
        let first = reserve::reserve(&admission, Arc::clone(&caller), callers, quota, services);
        match first.await {
            Ok(reservation) => return Ok(reservation),
            Err(NotAdmitted::Refused(refusal)) => return Err(refusal.into()),
            Err(NotAdmitted::ByRunningCalls { refusal, .. }) if queue_limit.longest.is_zero() => {
                services.metrics.admission_waits(WaitOutcome::Refused).increment(1);
                return Err(refusal.into());
            }
            Err(NotAdmitted::ByRunningCalls { scope, .. }) => {
                let position = services.admission_queue.join(scope);
                let waiter = QueuedCall { admission, caller, callers, services, queue_limit };
                return waiter.wait(session, position).await;
            }
        }
    }
    let position = behind.and_then(|scope| services.admission_queue.join(scope));
    QueuedCall { admission, caller, callers, services, queue_limit }.wait(session, position).await
}

/// A call in the admission queue.
struct QueuedCall<'a> {
    admission: ReservationRequest<'a>,
    caller: Arc<Caller>,
    callers: &'a CallerCache,
    services: &'a Arc<CallServices>,
    queue_limit: &'a QueueLimit<'a>,
}

impl QueuedCall<'_> {
    /// Waits in line, and counts what comes of it; without a `position` the line is too long.
    async fn wait(
        self,
        session: &mut Session,
        position: Option<QueuePosition>,
    ) -> Result<Reservation, AdmissionError> {
        let (services, waiting) = (self.services, &self.services.admission_queue);
        services.metrics.admission_waiting.set(waiting.count() as f64);
        let admitted = match position {
            Some(position) => self.wait_in_queue(session, position).await,
            None => Err(by_running_calls().into()),
        };
        let waited = match &admitted {
            Ok(_) => WaitOutcome::Admitted,
            Err(AdmissionError::Refused(Refusal::Limited(_))) => WaitOutcome::Refused,
            Err(_) => WaitOutcome::Gone,
        };
        services.metrics.admission_waits(waited).increment(1);
        services.metrics.admission_waiting.set(waiting.count() as f64);
        admitted
    }

    async fn wait_in_queue(
        mut self,
        session: &mut Session,
        mut position: QueuePosition,
    ) -> Result<Reservation, AdmissionError> {
        let began = Instant::from(clock::instant());
        let deadline = began + self.queue_limit.longest;
        let first_now = self.admission.now;
        loop {
            self.turn(session, &position, deadline).await?;
            let waited = SignedDuration::try_from(began.elapsed()).unwrap_or_default();
            self.admission.now = first_now.saturating_add(waited).unwrap_or(first_now);
            // Plan and key may have changed, and the call may wait no more.
            let caller =
                reserve::find_current_caller(&self.caller, self.callers, &self.admission).await?;
            self.caller = Arc::clone(&caller);
            let services = self.services;
            let tried =
                reserve::reserve(&self.admission, caller, self.callers, &*services.quota, services);
            match tried.await {
                Ok(mut reservation) => {
                    reservation.waited = began.elapsed();
                    return Ok(reservation);
                }
                Err(NotAdmitted::Refused(refusal)) => return Err(refusal.into()),
                Err(NotAdmitted::ByRunningCalls { refusal, scope })
                    if scope != *position.scope() =>
                {
                    position = self.services.admission_queue.join(scope).ok_or(refusal)?;
                }
                Err(NotAdmitted::ByRunningCalls { .. }) => {}
            }
        }
    }

    /// Resolves when the call may try, or fails when it has to stop waiting.
    async fn turn(
        &self,
        session: &mut Session,
        position: &QueuePosition,
        deadline: Instant,
    ) -> Result<(), AdmissionError> {
        tokio::select! {
            biased;
            by = stopped(session, self.queue_limit.cancellation) => Err(AdmissionError::Stopped(by)),
            () = self.queue_limit.shutting_down.cancelled() => Err(Refusal::ShuttingDown.into()),
            () = tokio::time::sleep_until(deadline) => Err(by_running_calls().into()),
            () = position.turn() => Ok(()),
        }
    }
}

/// Refused because calls in flight have reserved, or are expected to use, the remaining tokens.
fn by_running_calls() -> Refusal {
    let limit = LimitKind::TokensPerDay;
    Refusal::Limited(Limited { limit, by_open_calls: true, retry_after_ms: 0, numbers: None })
}

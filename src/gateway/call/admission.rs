//! Admits calls, and queues a call whose tokens are reserved by calls in flight.
//!
//! The call waits before anything is sent upstream, for at most `limits.admission_wait`, behind earlier calls
//! of its user ([`crate::gateway::call::admission_queue`]). A disconnect, revoked access, the call's deadline and a shutdown end the
//! wait at once, and nothing is charged.

use crate::callers::cache::CallerCache;
use crate::gateway::call::admission_queue::Place;
use crate::gateway::call::admit::{self, Admission, NotAdmitted, Reservation};
use crate::gateway::call::cancellation::Leash;
use crate::gateway::call::forward::{Stop, stopped};
use crate::gateway::call::settle::Settler;
use crate::gateway::listener::session::Session;
use crate::gateway::response::refusal::{Limited, Refusal};
use domain::caller::Caller;
use domain::limit::LimitKind;
use jiff::SignedDuration;
use quota::backend::QuotaBackend;
use std::sync::Arc;
use std::time::Duration;
use system::clock;
use telemetry::labels::WaitOutcome;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// The queue and time limit of a waiting call.
pub struct Patience<'a> {
    pub leash: &'a Leash,
    /// Cancelled once no new call is taken.
    pub draining: &'a CancellationToken,
    /// Zero = not at all.
    pub longest: Duration,
}

/// The reason that a call was not admitted.
pub enum Unreserved {
    Refused(Refusal),
    /// The client has gone.
    Stopped(Stop),
}

impl From<Refusal> for Unreserved {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

/// Who asks, and of whom.
pub struct Asking<'a> {
    pub caller: Arc<Caller>,
    pub callers: &'a CallerCache,
    pub settler: &'a Arc<Settler>,
}

/// Takes the quota of one call, as soon as running calls of its user leave room for it.
///
/// # Errors
/// A refusal, or that the client has gone; nothing was taken.
pub async fn reserve(
    session: &mut Session,
    admission: Admission<'_>,
    asking: Asking<'_>,
    patience: &Patience<'_>,
) -> Result<Reservation, Unreserved> {
    let Asking { caller, callers, settler } = asking;
    let quota: &dyn QuotaBackend = &*settler.quota;
    let behind = settler.waiting.line(caller.user, &caller.key);
    if behind.is_none() {
        let first = admit::reserve(&admission, Arc::clone(&caller), callers, quota, settler);
        match first.await {
            Ok(reservation) => return Ok(reservation),
            Err(NotAdmitted::Refused(refusal)) => return Err(refusal.into()),
            Err(NotAdmitted::ByRunningCalls { refusal, .. }) if patience.longest.is_zero() => {
                settler.metrics.admission_waits(WaitOutcome::Refused).increment(1);
                return Err(refusal.into());
            }
            Err(NotAdmitted::ByRunningCalls { scope, .. }) => {
                let place = settler.waiting.join(scope);
                let waiter = Waiter { admission, caller, callers, settler, patience };
                return waiter.wait(session, place).await;
            }
        }
    }
    let place = behind.and_then(|scope| settler.waiting.join(scope));
    Waiter { admission, caller, callers, settler, patience }.wait(session, place).await
}

/// A call that waits.
struct Waiter<'a> {
    admission: Admission<'a>,
    caller: Arc<Caller>,
    callers: &'a CallerCache,
    settler: &'a Arc<Settler>,
    patience: &'a Patience<'a>,
}

impl Waiter<'_> {
    /// Waits in line, and counts what comes of it; without a `place` the line is too long.
    async fn wait(
        self,
        session: &mut Session,
        place: Option<Place>,
    ) -> Result<Reservation, Unreserved> {
        let (settler, waiting) = (self.settler, &self.settler.waiting);
        settler.metrics.admission_waiting.set(waiting.count() as f64);
        let came_of_it = match place {
            Some(place) => self.wait_in_line(session, place).await,
            None => Err(by_running_calls().into()),
        };
        let waited = match &came_of_it {
            Ok(_) => WaitOutcome::Admitted,
            Err(Unreserved::Refused(Refusal::Limited(_))) => WaitOutcome::Refused,
            Err(_) => WaitOutcome::Gone,
        };
        settler.metrics.admission_waits(waited).increment(1);
        settler.metrics.admission_waiting.set(waiting.count() as f64);
        came_of_it
    }

    async fn wait_in_line(
        mut self,
        session: &mut Session,
        mut place: Place,
    ) -> Result<Reservation, Unreserved> {
        let began = Instant::from(clock::instant());
        let deadline = began + self.patience.longest;
        let first_now = self.admission.now;
        loop {
            self.turn(session, &place, deadline).await?;
            let waited = SignedDuration::try_from(began.elapsed()).unwrap_or_default();
            self.admission.now = first_now.saturating_add(waited).unwrap_or(first_now);
            // Plan and key may have changed, and the call may wait no more.
            let caller = admit::look_again(&self.caller, self.callers, &self.admission).await?;
            self.caller = Arc::clone(&caller);
            let settler = self.settler;
            let tried =
                admit::reserve(&self.admission, caller, self.callers, &*settler.quota, settler);
            match tried.await {
                Ok(mut reservation) => {
                    reservation.waited = began.elapsed();
                    return Ok(reservation);
                }
                Err(NotAdmitted::Refused(refusal)) => return Err(refusal.into()),
                Err(NotAdmitted::ByRunningCalls { refusal, scope }) if scope != *place.scope() => {
                    place = self.settler.waiting.join(scope).ok_or(refusal)?;
                }
                Err(NotAdmitted::ByRunningCalls { .. }) => {}
            }
        }
    }

    /// Resolves when the call may try, or fails when it has to stop waiting.
    async fn turn(
        &self,
        session: &mut Session,
        place: &Place,
        deadline: Instant,
    ) -> Result<(), Unreserved> {
        tokio::select! {
            biased;
            by = stopped(session, self.patience.leash) => Err(Unreserved::Stopped(by)),
            () = self.patience.draining.cancelled() => Err(Refusal::Draining.into()),
            () = tokio::time::sleep_until(deadline) => Err(by_running_calls().into()),
            () = place.turn() => Ok(()),
        }
    }
}

/// Refused because calls in flight have reserved, or are expected to use, the remaining tokens.
fn by_running_calls() -> Refusal {
    let limit = LimitKind::TokensPerDay;
    Refusal::Limited(Limited { limit, by_open_calls: true, retry_after_ms: 0, numbers: None })
}

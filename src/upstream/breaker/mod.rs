//! Circuit breaker of one upstream. Closed while the upstream responds; open for a while once it keeps
//! failing; then half-open: one call at a time probes it. Pure: time and randomness are arguments.
//!
//! A request may be the cause of its own failure. So failures of a single user never open the breaker, and
//! while it is open only because of a few users, other users may still call: no user can take an upstream
//! from the others.

use domain::id::UserId;
use parking_lot::Mutex;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Consecutive failures that open the breaker.
const FAILURE_THRESHOLD: u32 = 10;
/// Calls of a window from which on a failure ratio of one half opens the breaker.
const MIN_WINDOW_CALLS: u32 = 30;
const WINDOW: Duration = Duration::from_secs(10);
/// Initial open time; doubles after each failed probe.
const MIN_OPEN: Duration = Duration::from_secs(1);
const MAX_OPEN: Duration = Duration::from_secs(60);
/// Failing users from which on the failures count as an outage for everyone.
const OUTAGE_USERS: usize = 16;

/// Failure state of one upstream.
#[derive(Debug, Default)]
pub struct Breaker(Mutex<State>);

/// State of a breaker as callers see it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    Closed,
    /// One call probes the upstream, or the next one will.
    HalfOpen,
    Open,
}

#[derive(Debug, Default)]
struct State {
    consecutive_failures: u32,
    failing: FailureSource,
    window: Option<Window>,
    open: Option<Open>,
}

#[derive(Debug, Clone)]
struct Window {
    started: Instant,
    calls: u32,
    failed: u32,
    failing: FailureSource,
}

/// The users whose calls have failed.
#[derive(Debug, Clone, PartialEq, Eq)]
enum FailureSource {
    /// Fewer than [`OUTAGE_USERS`].
    Users(Vec<UserId>),
    /// More, or a failure that no request can cause.
    Upstream,
}

#[derive(Debug)]
struct Open {
    until: Instant,
    failing: FailureSource,
    /// Failed probes since the breaker opened.
    failed_probes: u32,
    is_probed: bool,
}

/// Permission to send one request. Dropping it without reporting leaves the breaker unchanged.
#[derive(Debug)]
pub struct CallPermit {
    breaker: Arc<Breaker>,
    reported: bool,
}

impl Phase {
    /// Value of the metric: 0 closed, 1 half-open, 2 open.
    #[must_use]
    pub fn number(self) -> f64 {
        match self {
            Self::Closed => 0.0,
            Self::HalfOpen => 1.0,
            Self::Open => 2.0,
        }
    }
}

impl Breaker {
    /// Permits one request to the upstream.
    ///
    /// # Errors
    /// The time after which to try again.
    pub fn try_acquire(
        self: &Arc<Self>,
        now: Instant,
        user: Option<UserId>,
    ) -> Result<CallPermit, Duration> {
        let mut state = self.0.lock();
        if let Some(open) = state.open.as_mut().filter(|open| !open.failing.spares(user)) {
            let remaining = open.until.saturating_duration_since(now);
            if !remaining.is_zero() {
                return Err(remaining);
            }
            if open.is_probed {
                return Err(MIN_OPEN);
            }
            open.is_probed = true;
        }
        Ok(CallPermit { breaker: Arc::clone(self), reported: false })
    }

    /// The phase at `now`.
    #[must_use]
    pub fn phase(&self, now: Instant) -> Phase {
        let state = self.0.lock();
        match &state.open {
            Some(open) if open.until > now => Phase::Open,
            Some(_) => Phase::HalfOpen,
            None => Phase::Closed,
        }
    }

    /// Number of consecutive failures.
    #[must_use]
    pub fn failures(&self) -> u32 {
        self.0.lock().consecutive_failures
    }

    /// Records that a reply to `user` broke off after it had begun. `chance` is from 0 to 1.
    pub fn record_broken_stream(&self, now: Instant, chance: f64, user: UserId) {
        self.0.lock().fail(now, chance, Some(user));
    }
}

impl CallPermit {
    /// Reports that the upstream responded: closes the breaker.
    pub fn succeeded(mut self, now: Instant) {
        self.reported = true;
        let mut state = self.breaker.0.lock();
        state.consecutive_failures = 0;
        state.failing = FailureSource::default();
        state.open = None;
        state.window(now).calls += 1;
    }

    /// Reports a failure. `chance`, from 0 to 1, spreads the retries of several gateways; `user` is the one
    /// whose request may have caused the failure, `None` where no request can have.
    pub fn failed(mut self, now: Instant, chance: f64, user: Option<UserId>) {
        self.reported = true;
        let mut state = self.breaker.0.lock();
        state.window(now).calls += 1;
        state.fail(now, chance, user);
    }
}

impl Drop for CallPermit {
    fn drop(&mut self) {
        if !self.reported
            && let Some(open) = &mut self.breaker.0.lock().open
        {
            open.is_probed = false;
        }
    }
}

impl Default for FailureSource {
    fn default() -> Self {
        Self::Users(Vec::new())
    }
}

impl FailureSource {
    fn add(&mut self, user: Option<UserId>) {
        match (&mut *self, user) {
            (Self::Users(users), Some(user)) if users.contains(&user) => {}
            (Self::Users(users), Some(user)) if users.len() < OUTAGE_USERS => users.push(user),
            _ => *self = Self::Upstream,
        }
    }

    fn is_single_user(&self) -> bool {
        matches!(self, Self::Users(users) if users.len() < 2)
    }

    /// True if only other users have failed.
    fn spares(&self, user: Option<UserId>) -> bool {
        matches!((self, user), (Self::Users(users), Some(user)) if !users.contains(&user))
    }
}

impl State {
    fn window(&mut self, now: Instant) -> &mut Window {
        let new = Window { started: now, calls: 0, failed: 0, failing: FailureSource::default() };
        let is_over = |window: &Window| now.saturating_duration_since(window.started) >= WINDOW;
        if self.window.as_ref().is_none_or(is_over) {
            self.window = None;
        }
        self.window.get_or_insert(new)
    }

    fn fail(&mut self, now: Instant, chance: f64, user: Option<UserId>) {
        self.consecutive_failures = self.consecutive_failures.saturating_add(1);
        self.failing.add(user);
        let in_a_row =
            self.consecutive_failures >= FAILURE_THRESHOLD && !self.failing.is_single_user();
        let window = self.window(now);
        window.failed += 1;
        window.failing.add(user);
        let is_judged = window.calls >= MIN_WINDOW_CALLS && !window.failing.is_single_user();
        let half = is_judged && window.failed * 2 >= window.calls;
        let window_failing = window.failing.clone();
        let (failed_probes, failing) = match &mut self.open {
            // Calls that were in flight when it opened only show whose calls fail.
            Some(open) if !open.is_probed => return open.failing.add(user),
            Some(open) => {
                open.failing.add(user);
                (open.failed_probes + 1, std::mem::take(&mut open.failing))
            }
            None if in_a_row => (0, self.failing.clone()),
            None if half => (0, window_failing),
            None => return,
        };
        let time = MIN_OPEN.saturating_mul(1 << failed_probes.min(10)).min(MAX_OPEN);
        let until = now + time.mul_f64(0.75 + chance.clamp(0.0, 1.0) / 2.0);
        self.open = Some(Open { until, failing, failed_probes, is_probed: false });
        self.window = None;
    }
}

#[cfg(test)]
mod tests;

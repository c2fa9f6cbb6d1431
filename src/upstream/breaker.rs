//! Whether an upstream is worth asking. Closed while it answers; open for a while once it keeps failing;
//! then one call at a time tries whether it is back. Pure: time and chance are arguments.
//!
//! A request may be what an upstream fails at. So failures of one caller alone never open it, and while it is
//! open only for failures of a few callers, others may still use it: no user can take an upstream from the others.

use domain::id::UserId;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Failures one after the other that open it.
const IN_A_ROW: u32 = 10;
/// Or half of the calls of a window, once there were this many.
const ENOUGH: u32 = 30;
const WINDOW: Duration = Duration::from_secs(10);
/// How long it stays open at first; twice as long after each try in vain.
const SHORTEST: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_secs(60);
/// As many callers whose calls fail are an outage.
const OUTAGE: usize = 16;

/// What is known of one upstream.
#[derive(Debug, Default)]
pub struct Breaker(Mutex<State>);

/// What it comes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    Closed,
    /// One call is trying it, or may.
    HalfOpen,
    Open,
}

#[derive(Debug, Default)]
struct State {
    in_a_row: u32,
    behind: Behind,
    window: Option<Window>,
    open: Option<Open>,
}

#[derive(Debug, Clone)]
struct Window {
    began: Instant,
    asked: u32,
    failed: u32,
    behind: Behind,
}

/// Whose calls have failed.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Behind {
    /// Fewer than [`OUTAGE`].
    Few(Vec<UserId>),
    /// More, or something that no request can cause.
    Many,
}

#[derive(Debug)]
struct Open {
    until: Instant,
    behind: Behind,
    /// Tries in vain since it opened.
    tries: u32,
    is_tried: bool,
}

/// A call that may ask. Dropped without a word it has shown nothing.
#[derive(Debug)]
pub struct Trial {
    breaker: Arc<Breaker>,
    is_told: bool,
}

impl Phase {
    /// As metrics show it.
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
    /// Lets a call ask.
    ///
    /// # Errors
    /// For how long the upstream is not to be asked.
    pub fn admit(
        self: &Arc<Self>,
        now: Instant,
        caller: Option<UserId>,
    ) -> Result<Trial, Duration> {
        let mut state = self.state();
        if let Some(open) = state.open.as_mut().filter(|open| !open.behind.spares(caller)) {
            let rest = open.until.saturating_duration_since(now);
            if !rest.is_zero() {
                return Err(rest);
            }
            if open.is_tried {
                return Err(SHORTEST);
            }
            open.is_tried = true;
        }
        Ok(Trial { breaker: Arc::clone(self), is_told: false })
    }

    /// What calls find now.
    #[must_use]
    pub fn phase(&self, now: Instant) -> Phase {
        let state = self.state();
        match &state.open {
            Some(open) if open.until > now => Phase::Open,
            Some(_) => Phase::HalfOpen,
            None => Phase::Closed,
        }
    }

    /// Failures one after the other, up to now.
    #[must_use]
    pub fn failures(&self) -> u32 {
        self.state().in_a_row
    }

    /// A reply to `caller` that had begun well was cut off. `chance` is from 0 to 1.
    pub fn cut(&self, now: Instant, chance: f64, caller: UserId) {
        self.state().fail(now, chance, Some(caller));
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Trial {
    /// The upstream did its part.
    pub fn succeeded(mut self, now: Instant) {
        self.is_told = true;
        let mut state = self.breaker.state();
        state.in_a_row = 0;
        state.behind = Behind::default();
        state.open = None;
        state.window(now).asked += 1;
    }

    /// It did not. `chance`, from 0 to 1, keeps gateways from coming back all at once; `caller` is whose
    /// request may have been the cause, `None` where none can have been.
    pub fn failed(mut self, now: Instant, chance: f64, caller: Option<UserId>) {
        self.is_told = true;
        let mut state = self.breaker.state();
        state.window(now).asked += 1;
        state.fail(now, chance, caller);
    }
}

impl Drop for Trial {
    fn drop(&mut self) {
        if !self.is_told
            && let Some(open) = &mut self.breaker.state().open
        {
            open.is_tried = false;
        }
    }
}

impl Default for Behind {
    fn default() -> Self {
        Self::Few(Vec::new())
    }
}

impl Behind {
    fn add(&mut self, caller: Option<UserId>) {
        match (&mut *self, caller) {
            (Self::Few(callers), Some(caller)) if callers.contains(&caller) => {}
            (Self::Few(callers), Some(caller)) if callers.len() < OUTAGE => callers.push(caller),
            _ => *self = Self::Many,
        }
    }

    /// Whether it is more than one caller.
    fn is_several(&self) -> bool {
        !matches!(self, Self::Few(callers) if callers.len() < 2)
    }

    /// Whether a caller has no part in it, though others may.
    fn spares(&self, caller: Option<UserId>) -> bool {
        matches!((self, caller), (Self::Few(callers), Some(caller)) if !callers.contains(&caller))
    }
}

impl State {
    fn window(&mut self, now: Instant) -> &mut Window {
        let fresh = Window { began: now, asked: 0, failed: 0, behind: Behind::default() };
        let is_over = |window: &Window| now.saturating_duration_since(window.began) >= WINDOW;
        if self.window.as_ref().is_none_or(is_over) {
            self.window = None;
        }
        self.window.get_or_insert(fresh)
    }

    fn fail(&mut self, now: Instant, chance: f64, caller: Option<UserId>) {
        self.in_a_row = self.in_a_row.saturating_add(1);
        self.behind.add(caller);
        let row = self.in_a_row >= IN_A_ROW && self.behind.is_several();
        let window = self.window(now);
        window.failed += 1;
        window.behind.add(caller);
        let many = window.asked >= ENOUGH && window.behind.is_several();
        let half = many && window.failed * 2 >= window.asked;
        let blamed = if row { self.behind.clone() } else { window.behind.clone() };
        let (tries, behind) = match &mut self.open {
            // Calls that were under way when it opened say nothing new, but for who fails.
            Some(open) if !open.is_tried => return open.behind.add(caller),
            Some(open) => {
                open.behind.add(caller);
                (open.tries + 1, std::mem::take(&mut open.behind))
            }
            None if row || half => (0, blamed),
            None => return,
        };
        let time = SHORTEST.saturating_mul(1 << tries.min(10)).min(LONGEST);
        let until = now + time.mul_f64(0.75 + chance.clamp(0.0, 1.0) / 2.0);
        self.open = Some(Open { until, behind, tries, is_tried: false });
        self.window = None;
    }
}

#[cfg(test)]
#[path = "tests/breaker.rs"]
mod tests;

//! Whether this instance takes requests, and what its parts say.

use super::state::ControlState;
use crate::clock;
use serde::Serialize;
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::{Duration, Instant};
use tokio::sync::Mutex;
use utoipa::ToSchema;

/// A part that has not answered by then counts as down.
const CHECK_TIMEOUT: Duration = Duration::from_secs(2);
/// The same where waking a sleeping database is the point.
const WAKE_TIMEOUT: Duration = Duration::from_secs(20);

/// Charges that wait for longer, though gateways write several times a second, mean that something is wrong.
const MAX_LEDGER_LAG: Duration = Duration::from_secs(10);

/// How old an answer may be.
const MAX_AGE: Duration = Duration::from_secs(1);

/// Whether this instance takes requests; clones share it.
#[derive(Debug, Clone, Default)]
pub struct Readiness(Arc<AtomicU8>);

/// A phase in the life of an instance.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Phase {
    Starting,
    Ready,
    Draining,
}

/// This instance and its parts.
#[derive(Serialize, ToSchema)]
pub struct Health {
    status: Status,
    phase: Phase,
    serving: Serving,
    version: &'static str,
    uptime_seconds: u64,
    components: Components,
}

/// What works at this moment.
#[derive(Serialize, ToSchema)]
struct Serving {
    /// Calls of callers whose keys this instance has seen.
    known_callers: bool,
    /// Calls with keys that it has to look up.
    new_callers: bool,
    /// Log-ins, keys, plans and reports.
    control_plane: bool,
}

/// Its parts.
#[derive(Clone, Copy, Serialize, ToSchema)]
pub struct Components {
    pub store: Component,
    counters: Component,
    ledger: Ledger,
}

/// Charges on their way into the ledger.
#[derive(Clone, Copy, Serialize, ToSchema)]
struct Ledger {
    /// `degraded` when charges wait and none has been written for a while. None is lost by that.
    status: Status,
    waiting: u64,
    /// For how long they have waited without any being written.
    lag_ms: u64,
}

/// A part.
#[derive(Clone, Copy, Serialize, ToSchema)]
pub struct Component {
    status: Status,
    latency_ms: f64,
}

/// Whether it works.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    Ok,
    /// Calls of known callers are served, and something needs a look: `serving` and the components say what.
    Degraded,
    Unavailable,
}

impl Readiness {
    /// Of an instance in [`Phase::Starting`].
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Enters a phase.
    pub fn set(&self, phase: Phase) {
        self.0.store(phase as u8, Ordering::Release);
    }

    /// The phase now.
    #[must_use]
    pub fn phase(&self) -> Phase {
        let phases = [Phase::Starting, Phase::Ready, Phase::Draining];
        let now = self.0.load(Ordering::Acquire);
        phases.into_iter().find(|phase| *phase as u8 == now).unwrap_or(Phase::Starting)
    }
}

/// How everything is at this moment.
pub async fn now(state: &ControlState) -> Health {
    let components = state.instance.checks.quick(state).await;
    let phase = state.instance.readiness.phase();
    let calls = phase == Phase::Ready && components.counters.is_ok();
    let store = components.store.is_ok();
    let serving =
        Serving { known_callers: calls, new_callers: calls && store, control_plane: store };
    let uptime = clock::instant().saturating_duration_since(state.instance.started_at);
    Health {
        status: match serving.status() {
            Status::Ok => components.ledger.status,
            other => other,
        },
        phase,
        serving,
        version: env!("CARGO_PKG_VERSION"),
        uptime_seconds: uptime.as_secs(),
        components,
    }
}

/// How the parts last were. They are asked at most once a second, however many want to know: those who come
/// while they are being asked wait for that answer.
#[derive(Default)]
pub struct Checks {
    quick: Mutex<Option<Checked>>,
    waking: Mutex<Option<Checked>>,
}

/// The parts at a moment.
struct Checked {
    at: Instant,
    components: Components,
}

impl Checks {
    /// As they were at most a second ago.
    pub async fn quick(&self, state: &ControlState) -> Components {
        cached_or_checked(&self.quick, state, CHECK_TIMEOUT).await
    }

    /// With the patience that a database needs to wake up.
    pub async fn waking(&self, state: &ControlState) -> Components {
        cached_or_checked(&self.waking, state, WAKE_TIMEOUT).await
    }
}

async fn cached_or_checked(
    last: &Mutex<Option<Checked>>,
    state: &ControlState,
    timeout: Duration,
) -> Components {
    let mut last = last.lock().await;
    let is_fresh =
        |checked: &&Checked| clock::instant().saturating_duration_since(checked.at) < MAX_AGE;
    if let Some(checked) = last.as_ref().filter(is_fresh) {
        return checked.components;
    }
    let components = check_all(state, timeout).await;
    *last = Some(Checked { at: clock::instant(), components });
    components
}

async fn check_all(state: &ControlState, timeout: Duration) -> Components {
    let (store, counters) =
        tokio::join!(check(state.store.ping(), timeout), check(state.counters.ping(), timeout));
    Components { store, counters, ledger: Ledger::now(state) }
}

impl Ledger {
    fn now(state: &ControlState) -> Self {
        let backlog = state.instance.metrics.usage_backlog.look(clock::instant());
        Self {
            status: if backlog.lag < MAX_LEDGER_LAG { Status::Ok } else { Status::Degraded },
            waiting: backlog.entries,
            lag_ms: u64::try_from(backlog.lag.as_millis()).unwrap_or(u64::MAX),
        }
    }
}

async fn check<T, E>(answer: impl Future<Output = Result<T, E>>, timeout: Duration) -> Component {
    let started_at = clock::instant();
    let answered = tokio::time::timeout(timeout, answer).await;
    let latency = clock::instant().saturating_duration_since(started_at);
    let latency_ms = (latency.as_secs_f64() * 1e6).round() / 1e3;
    Component { status: Status::of(matches!(answered, Ok(Ok(_)))), latency_ms }
}

impl Health {
    /// True while calls of known callers are served.
    #[must_use]
    pub fn is_serving(&self) -> bool {
        self.status != Status::Unavailable
    }
}

impl Component {
    /// True if it answered in time.
    #[must_use]
    pub fn is_ok(&self) -> bool {
        self.status == Status::Ok
    }
}

impl Components {
    /// True if the store and the counters answered in time.
    #[must_use]
    pub fn are_ok(&self) -> bool {
        self.store.is_ok() && self.counters.is_ok()
    }
}

impl Serving {
    fn status(&self) -> Status {
        match (self.known_callers, self.new_callers && self.control_plane) {
            (true, true) => Status::Ok,
            (true, false) => Status::Degraded,
            (false, _) => Status::Unavailable,
        }
    }
}

impl Status {
    fn of(ok: bool) -> Self {
        if ok { Self::Ok } else { Self::Unavailable }
    }
}

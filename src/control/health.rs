//! The phase of this instance and the health of its components.

use super::state::ControlState;
use serde::Serialize;
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::{Duration, Instant};
use system::clock;
use tokio::sync::Mutex;
use utoipa::ToSchema;

/// A component that does not respond within this time counts as unavailable.
const CHECK_TIMEOUT: Duration = Duration::from_secs(2);
/// The same when the request is meant to wake a sleeping database.
const WAKE_TIMEOUT: Duration = Duration::from_secs(20);

/// The ledger counts as degraded when charges have waited longer than this. Normally they are written
/// several times per second.
const MAX_LEDGER_LAG: Duration = Duration::from_secs(10);

/// Maximum age of a cached check.
const MAX_AGE: Duration = Duration::from_secs(1);

/// The phase of this instance, shared by clones.
#[derive(Debug, Clone, Default)]
pub struct Readiness(Arc<AtomicU8>);

/// The phase of an instance.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Phase {
    Starting,
    Ready,
    #[serde(rename = "draining")]
    ShuttingDown,
}

/// The health of this instance.
#[derive(Serialize, ToSchema)]
pub struct Health {
    pub status: Status,
    pub phase: Phase,
    pub serving: Serving,
    pub version: &'static str,
    pub uptime_seconds: u64,
    pub components: Components,
}

/// State of each dependency.
#[derive(Serialize, ToSchema)]
pub struct Serving {
    /// Model calls with keys that are cached in this instance.
    pub known_callers: bool,
    /// Model calls with keys that must be looked up in the store.
    pub new_callers: bool,
    /// Login, keys, plans and reports.
    pub control_plane: bool,
}

/// The components of this instance.
#[derive(Clone, Copy, Serialize, ToSchema)]
pub struct Components {
    pub store: Component,
    pub counters: Component,
    pub ledger: Ledger,
}

/// Charges that are not yet written to the ledger.
#[derive(Clone, Copy, Serialize, ToSchema)]
pub struct Ledger {
    /// `degraded` if charges wait and none was written for 10 seconds. They are not lost.
    pub status: Status,
    /// Number of waiting charges.
    pub waiting: u64,
    /// Milliseconds since the last write while charges wait.
    pub lag_ms: u64,
}

/// The health of one component.
#[derive(Clone, Copy, Serialize, ToSchema)]
pub struct Component {
    pub status: Status,
    pub latency_ms: f64,
}

/// The health status.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    Ok,
    /// Calls of known callers are served, but something else fails; see `serving` and the components.
    Degraded,
    Unavailable,
}

impl Readiness {
    /// An instance in [`Phase::Starting`].
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    pub fn set(&self, phase: Phase) {
        self.0.store(phase as u8, Ordering::Release);
    }

    #[must_use]
    pub fn phase(&self) -> Phase {
        let phases = [Phase::Starting, Phase::Ready, Phase::ShuttingDown];
        let now = self.0.load(Ordering::Acquire);
        phases.into_iter().find(|phase| *phase as u8 == now).unwrap_or(Phase::Starting)
    }
}

/// The current health of this instance.
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

/// The latest results of the checks. The components are checked at most once per second; concurrent
/// requests wait for the running check.
#[derive(Default)]
pub struct Checks {
    quick: Mutex<Option<Checked>>,
    waking: Mutex<Option<Checked>>,
}

/// The result of a check.
struct Checked {
    at: Instant,
    components: Components,
}

impl Checks {
    /// As they were at most a second ago.
    pub async fn quick(&self, state: &ControlState) -> Components {
        cached_or_checked(&self.quick, state, CHECK_TIMEOUT).await
    }

    /// The same, waiting as long as a sleeping database needs to wake up.
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
        tokio::join!(check(state.store.ping(), timeout), check(state.quota.ping(), timeout));
    Components { store, counters, ledger: Ledger::now(state) }
}

impl Ledger {
    fn now(state: &ControlState) -> Self {
        let backlog = state.instance.metrics.usage_backlog.snapshot(clock::instant());
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

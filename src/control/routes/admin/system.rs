//! `GET /api/v1/admin/system/health`: the components of this gateway in detail.

use crate::control::api_error::ApiError;
use crate::control::auth::AdminReader;
use crate::control::health::{Health, now};
use crate::control::openapi::errors::{AdminReaderRequired, Unavailable};
use crate::control::state::ControlState;
use crate::upstream::UpstreamStatus;
use crate::upstream::breaker::Phase;
use axum::Json;
use axum::extract::State;
use serde::Serialize;
use store::maintenance::Connections;
use system::clock;
use utoipa::ToSchema;

/// The health of this gateway in detail.
#[derive(Serialize, ToSchema)]
pub struct SystemHealth {
    #[serde(flatten)]
    pub health: Health,
    pub store_connections: ConnectionsView,
    pub usage: Pipeline,
    pub counters: CountersView,
    pub calls: CallsView,
    pub build: BuildView,
    pub upstreams: Vec<UpstreamView>,
    /// Running calls of this gateway.
    pub open_calls: u64,
    /// Entries that could not be written to the ledger and were set aside.
    pub dead_entries: u64,
}

/// Counters and their repairs, since the start of this gateway.
#[derive(Serialize, ToSchema)]
pub struct CountersView {
    /// Accounts whose counters were repaired because they differed from the ledger.
    pub drift_repaired: u64,
    /// Charges that Redis acknowledged and then lost; they were resent.
    pub lost_writes: u64,
}

/// Calls of this gateway since its start.
#[derive(Serialize, ToSchema)]
pub struct CallsView {
    pub admitted: u64,
    /// Streams that are open now.
    pub streams_open: u64,
    /// Calls that wait now for tokens reserved by calls in flight.
    pub waiting_for_tokens: u64,
    /// Calls that were retried before their first byte.
    pub retries: u64,
}

/// The program.
#[derive(Serialize, ToSchema)]
pub struct BuildView {
    pub version: &'static str,
    /// `release` or `debug`.
    pub profile: &'static str,
}

/// Database connections of this gateway.
#[derive(Serialize, ToSchema)]
pub struct ConnectionsView {
    pub in_use: u32,
    pub open: u32,
    pub max: u32,
}

/// The state of an upstream.
#[derive(Serialize, ToSchema)]
pub struct UpstreamView {
    #[schema(example = "xai")]
    pub name: String,
    pub state: UpstreamState,
    /// Consecutive failures.
    pub failures: u32,
    pub in_flight: u32,
    /// Calls that wait for a free slot.
    pub queued: usize,
}

/// `asked`: in use. `tried`: single calls probe if it has recovered. `left_alone`: not used after repeated failures.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
pub enum UpstreamState {
    #[serde(rename = "asked")]
    Closed,
    #[serde(rename = "tried")]
    HalfOpen,
    #[serde(rename = "left_alone")]
    Open,
}

impl From<UpstreamStatus> for UpstreamView {
    fn from(status: UpstreamStatus) -> Self {
        let state = match status.phase {
            Phase::Closed => UpstreamState::Closed,
            Phase::HalfOpen => UpstreamState::HalfOpen,
            Phase::Open => UpstreamState::Open,
        };
        let UpstreamStatus { name, failures, in_flight, queued, .. } = status;
        Self { name: name.to_string(), state, failures, in_flight, queued }
    }
}

/// Charges that are not yet written to the ledger.
#[derive(Serialize, ToSchema)]
pub struct Pipeline {
    /// Number of waiting charges.
    pub queue_depth: u64,
    /// Milliseconds since the last write while charges wait; 0 if none wait.
    pub flush_lag_ms: u64,
    /// Rows written to the ledger since the start of this gateway.
    pub written: u64,
    /// Bytes of the journal that are not yet written to the ledger; 0 with Redis, where charges wait.
    pub journal_behind_bytes: u64,
    /// Failed writes to the journal since the start; each is retried.
    pub journal_failures: u64,
}

const PROFILE: &str = if cfg!(debug_assertions) { "debug" } else { "release" };

/// Get the health of the system
#[utoipa::path(get, path = "/api/v1/admin/system/health", tag = "Admin",
    security(("token" = [])),
    responses((status = 200, body = SystemHealth), AdminReaderRequired, Unavailable))]
pub async fn health(
    State(state): State<ControlState>,
    _reader: AdminReader,
) -> Result<Json<SystemHealth>, ApiError> {
    of_system(&state).await.map(Json)
}

/// The health of this gateway.
///
/// # Errors
/// The store does not answer.
pub async fn of_system(state: &ControlState) -> Result<SystemHealth, ApiError> {
    let Connections { in_use, open, max } = state.store.connections();
    let backlog = state.instance.metrics.usage_backlog.snapshot(clock::instant());
    let upstreams = state.instance.upstreams.load().statuses(clock::instant());
    let totals = state.instance.metrics.totals();
    Ok(SystemHealth {
        health: now(state).await,
        store_connections: ConnectionsView { in_use, open, max },
        usage: Pipeline {
            queue_depth: backlog.entries,
            flush_lag_ms: u64::try_from(backlog.lag.as_millis()).unwrap_or(u64::MAX),
            written: totals.written,
            journal_behind_bytes: totals.journal_behind_bytes,
            journal_failures: totals.journal_failures,
        },
        counters: CountersView {
            drift_repaired: totals.drift_repaired,
            lost_writes: totals.lost_writes,
        },
        calls: CallsView {
            admitted: totals.admitted,
            streams_open: totals.streams_open,
            waiting_for_tokens: totals.waiting,
            retries: totals.retries,
        },
        build: BuildView { version: env!("CARGO_PKG_VERSION"), profile: PROFILE },
        upstreams: upstreams.into_iter().map(UpstreamView::from).collect(),
        open_calls: state.quota.open_leases(),
        dead_entries: state.store.count_dead_letters().await?,
    })
}

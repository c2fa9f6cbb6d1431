//! `GET /api/v1/admin/system/health`: the components of this gateway in detail.

use crate::control::api_error::ApiError;
use crate::control::auth::Admin;
use crate::control::health::{Health, now};
use crate::control::openapi::errors::{AdminRequired, Unavailable};
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
    health: Health,
    store_connections: ConnectionsView,
    usage: Pipeline,
    upstreams: Vec<UpstreamView>,
    /// Running calls of this gateway.
    open_calls: u64,
    /// Entries that could not be written to the ledger and were set aside.
    dead_entries: u64,
}

/// Database connections of this gateway.
#[derive(Serialize, ToSchema)]
pub struct ConnectionsView {
    in_use: u32,
    open: u32,
    max: u32,
}

/// The state of an upstream.
#[derive(Serialize, ToSchema)]
pub struct UpstreamView {
    #[schema(example = "xai")]
    name: String,
    state: UpstreamState,
    /// Consecutive failures.
    failures: u32,
    in_flight: u32,
    /// Calls that wait for a free slot.
    queued: usize,
}

/// `asked`: in use. `tried`: single calls probe if it has recovered. `left_alone`: not used after repeated failures.
#[derive(Serialize, ToSchema)]
enum UpstreamState {
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
    queue_depth: u64,
    /// Milliseconds since the last write while charges wait; 0 if none wait.
    flush_lag_ms: u64,
}

/// Get the health of the system
#[utoipa::path(get, path = "/api/v1/admin/system/health", tag = "Admin",
    security(("token" = [])),
    responses((status = 200, body = SystemHealth), AdminRequired, Unavailable))]
pub async fn health(
    State(state): State<ControlState>,
    _admin: Admin,
) -> Result<Json<SystemHealth>, ApiError> {
    let Connections { in_use, open, max } = state.store.connections();
    let backlog = state.instance.metrics.usage_backlog.snapshot(clock::instant());
    let upstreams = state.instance.upstreams.load().statuses(clock::instant());
    Ok(Json(SystemHealth {
        health: now(&state).await,
        store_connections: ConnectionsView { in_use, open, max },
        usage: Pipeline {
            queue_depth: backlog.entries,
            flush_lag_ms: u64::try_from(backlog.lag.as_millis()).unwrap_or(u64::MAX),
        },
        upstreams: upstreams.into_iter().map(UpstreamView::from).collect(),
        open_calls: state.quota.open_leases(),
        dead_entries: state.store.count_dead_letters().await?,
    }))
}

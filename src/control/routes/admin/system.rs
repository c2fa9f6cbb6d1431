//! `GET /api/v1/admin/system/health`: the parts of this gateway, with what an operator asks of them.

use crate::clock;
use crate::control::api_error::ApiError;
use crate::control::auth::Admin;
use crate::control::health::{Health, now};
use crate::control::openapi::errors::{AdminRequired, Unavailable};
use crate::control::state::ControlState;
use crate::store::reports::Connections;
use crate::upstream::Condition;
use crate::upstream::breaker::Phase;
use axum::Json;
use axum::extract::State;
use serde::Serialize;
use utoipa::ToSchema;

/// This gateway in full.
#[derive(Serialize, ToSchema)]
pub struct SystemHealth {
    #[serde(flatten)]
    health: Health,
    store_connections: ConnectionsView,
    usage: Pipeline,
    upstreams: Vec<UpstreamView>,
    /// Calls that run on this gateway.
    open_calls: u64,
    /// Entries that no ledger can take, kept for a person to look at.
    dead_entries: u64,
}

/// Connections to the store.
#[derive(Serialize, ToSchema)]
pub struct ConnectionsView {
    in_use: u32,
    open: u32,
    max: u32,
}

/// A server that runs models.
#[derive(Serialize, ToSchema)]
pub struct UpstreamView {
    #[schema(example = "xai")]
    name: String,
    state: UpstreamState,
    /// Failures one after the other, up to now.
    failures: u32,
    in_flight: u32,
    /// Calls that wait for a place.
    queued: usize,
}

/// Whether it is asked.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
enum UpstreamState {
    Asked,
    /// Single calls try whether it is back.
    Tried,
    /// It kept failing.
    LeftAlone,
}

impl From<Condition> for UpstreamView {
    fn from(condition: Condition) -> Self {
        let state = match condition.phase {
            Phase::Closed => UpstreamState::Asked,
            Phase::HalfOpen => UpstreamState::Tried,
            Phase::Open => UpstreamState::LeftAlone,
        };
        let Condition { name, failures, in_flight, queued, .. } = condition;
        Self { name: name.to_string(), state, failures, in_flight, queued }
    }
}

/// Charges on their way to the ledger.
#[derive(Serialize, ToSchema)]
pub struct Pipeline {
    /// Charges that wait.
    queue_depth: u64,
    /// For how long some have waited without any being written, in milliseconds; 0 = none wait.
    flush_lag_ms: u64,
}

/// Health of the system
#[utoipa::path(get, path = "/api/v1/admin/system/health", tag = "Admin",
    security(("token" = [])),
    responses((status = 200, body = SystemHealth), AdminRequired, Unavailable))]
pub async fn health(
    State(state): State<ControlState>,
    _admin: Admin,
) -> Result<Json<SystemHealth>, ApiError> {
    let Connections { in_use, open, max } = state.store.connections();
    let backlog = state.instance.metrics.usage_backlog.look(clock::instant());
    let upstreams = state.instance.upstreams.get().conditions(clock::instant());
    Ok(Json(SystemHealth {
        health: now(&state).await,
        store_connections: ConnectionsView { in_use, open, max },
        usage: Pipeline {
            queue_depth: backlog.entries,
            flush_lag_ms: u64::try_from(backlog.lag.as_millis()).unwrap_or(u64::MAX),
        },
        upstreams: upstreams.into_iter().map(UpstreamView::from).collect(),
        open_calls: state.counters.open_leases(),
        dead_entries: state.store.buried().await?,
    }))
}

//! Health: whether this instance is alive, ready, and what its parts say.

use crate::control::health::{self, Component, Components, Health, Phase, Readiness, Status};
use crate::control::state::ControlState;
use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use utoipa::ToSchema;

/// It is alive.
#[derive(Serialize, ToSchema)]
pub struct Alive {
    status: Status,
}

/// In which phase it is.
#[derive(Serialize, ToSchema)]
pub struct Ready {
    status: Phase,
}

/// Alive
#[utoipa::path(get, path = "/health/ping", tag = "Health",
    responses((status = 200, body = Alive)))]
pub async fn ping() -> Json<Alive> {
    Json(Alive { status: Status::Ok })
}

/// Ready
///
/// 503 while starting and while ending.
#[utoipa::path(get, path = "/health/ready", tag = "Health",
    responses((status = 200, body = Ready), (status = 503, body = Ready)))]
pub async fn ready(State(state): State<ControlState>) -> Response {
    readiness(&state.instance.readiness)
}

/// Whether requests should be sent here.
pub fn readiness(readiness: &Readiness) -> Response {
    let phase = readiness.phase();
    (ok_or_503(phase == Phase::Ready), Json(Ready { status: phase })).into_response()
}

/// Health
///
/// 200 while calls of known callers are served: `ok`, or `degraded` when something else does not work. 503 when they
/// are not. Answers are at most a second old.
#[utoipa::path(get, path = "/health", tag = "Health",
    responses((status = 200, body = Health), (status = 503, body = Health)))]
pub async fn full(State(state): State<ControlState>) -> Response {
    let health = health::now(&state).await;
    (ok_or_503(health.is_serving()), Json(health)).into_response()
}

/// The database
#[utoipa::path(get, path = "/health/database", tag = "Health",
    responses((status = 200, body = Component), (status = 503, body = Component)))]
pub async fn database(State(state): State<ControlState>) -> Response {
    let store = state.instance.checks.quick(&state).await.store;
    (ok_or_503(store.is_ok()), Json(store)).into_response()
}

/// Keep alive
///
/// Wakes the database and the counters, and tells how long that took.
#[utoipa::path(get, path = "/health/keep-alive", tag = "Health",
    responses((status = 200, body = Components), (status = 503, body = Components)))]
pub async fn keep_alive(State(state): State<ControlState>) -> Response {
    let components = state.instance.checks.waking(&state).await;
    (ok_or_503(components.are_ok()), Json(components)).into_response()
}

fn ok_or_503(ok: bool) -> StatusCode {
    if ok { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE }
}

//! The health routes: liveness, readiness and components.

use crate::control::health::{self, Component, Components, Health, Phase, Readiness, Status};
use crate::control::state::ControlState;
use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use utoipa::ToSchema;

/// The process is alive.
#[derive(Serialize, ToSchema)]
pub struct Alive {
    status: Status,
}

/// The phase of the instance.
#[derive(Serialize, ToSchema)]
pub struct Ready {
    status: Phase,
}

/// Check liveness
///
/// Returns 200 while the process runs.
#[utoipa::path(get, path = "/health/ping", tag = "Health",
    responses((status = 200, body = Alive)))]
pub async fn ping() -> Json<Alive> {
    Json(Alive { status: Status::Ok })
}

/// Check readiness
///
/// Returns 503 while the instance is starting or draining.
#[utoipa::path(get, path = "/health/ready", tag = "Health",
    responses((status = 200, body = Ready), (status = 503, body = Ready)))]
pub async fn ready(State(state): State<ControlState>) -> Response {
    readiness(&state.instance.readiness)
}

/// 200 if requests should be sent to this instance, otherwise 503.
pub fn readiness(readiness: &Readiness) -> Response {
    let phase = readiness.phase();
    (ok_or_503(phase == Phase::Ready), Json(Ready { status: phase })).into_response()
}

/// Check health
///
/// Returns 200 while calls of known callers are served: `ok`, or `degraded` if something else fails. Returns 503
/// otherwise. Results are at most one second old.
#[utoipa::path(get, path = "/health", tag = "Health",
    responses((status = 200, body = Health), (status = 503, body = Health)))]
pub async fn full(State(state): State<ControlState>) -> Response {
    let health = health::now(&state).await;
    (ok_or_503(health.is_serving()), Json(health)).into_response()
}

/// Check the database
#[utoipa::path(get, path = "/health/database", tag = "Health",
    responses((status = 200, body = Component), (status = 503, body = Component)))]
pub async fn database(State(state): State<ControlState>) -> Response {
    let store = state.instance.checks.quick(&state).await.store;
    (ok_or_503(store.is_ok()), Json(store)).into_response()
}

/// Wake the database and the quota store
///
/// Returns how long each took to answer.
#[utoipa::path(get, path = "/health/keep-alive", tag = "Health",
    responses((status = 200, body = Components), (status = 503, body = Components)))]
pub async fn keep_alive(State(state): State<ControlState>) -> Response {
    let components = state.instance.checks.waking(&state).await;
    (ok_or_503(components.are_ok()), Json(components)).into_response()
}

fn ok_or_503(ok: bool) -> StatusCode {
    if ok { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE }
}

//! The admin port: metrics and the counters as they stand. It asks for no key and is never public.

use super::api_error::ApiError;
use super::body::Params;
use super::usage::period;
use super::{Readiness, health, refusing_the_rest};
use crate::account::day::Day;
use crate::clock;
use crate::quota::counters::Counters;
use crate::store::Used;
use crate::telemetry::metrics::Metrics;
use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use jiff::tz::TimeZone;
use serde::Deserialize;
use std::sync::Arc;

/// What the routes work with.
#[derive(Clone)]
pub struct AdminState {
    pub metrics: Arc<Metrics>,
    pub counters: Arc<dyn Counters>,
    pub readiness: Readiness,
}

#[derive(Deserialize)]
struct DayQuery {
    /// `YYYY-MM-DD`; today in UTC when it is left out.
    day: Option<String>,
}

/// The routes of the admin port.
pub fn router(state: AdminState) -> Router {
    let router = Router::new()
        .route("/health/ping", get(health::ping))
        .route("/health/ready", get(ready).with_state(state.readiness))
        .route("/metrics", get(scrape).with_state(state.metrics))
        .route("/debug/quota", get(used).with_state(state.counters));
    refusing_the_rest(router)
}

async fn ready(State(readiness): State<Readiness>) -> Response {
    health::readiness(&readiness)
}

async fn scrape(State(metrics): State<Arc<Metrics>>) -> impl IntoResponse {
    ([(CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], metrics.render())
}

async fn used(
    State(counters): State<Arc<dyn Counters>>,
    Params(query): Params<DayQuery>,
) -> Result<Json<Vec<Used>>, ApiError> {
    let day = period::day("day", query.day.as_deref())?;
    let day = day.unwrap_or_else(|| Day::at(clock::now(), &TimeZone::UTC));
    Ok(Json(counters.used_on(day).await?))
}

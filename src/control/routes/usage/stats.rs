//! `GET /api/v1/usage/stats`: totals of a period by model and day, with latency and errors.

use super::live;
use crate::control::api_error::ApiError;
use crate::control::auth::AnyCredential;
use crate::control::http::extract::Query;
use crate::control::openapi::errors::{InvalidQuery, Unauthenticated, Unavailable};
use crate::control::state::ControlState;
use crate::control::views::period::Period;
use crate::control::views::usage::{DaySums, ModelSums, SumsView, day_sums, model_sums};
use axum::Json;
use axum::extract::State;
use domain::day::Day;
use serde::{Deserialize, Serialize};
use store::reports::Sums;
use system::clock;
use utoipa::{IntoParams, ToSchema};

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct PeriodQuery {
    /// First day; default: 29 days before `to`.
    #[param(format = Date, example = "2026-09-01")]
    pub from: Option<String>,
    /// Last day; default: today. The period may have at most 366 days.
    #[param(format = Date, example = "2026-09-30")]
    pub to: Option<String>,
}

/// Statistics of a period.
#[derive(Serialize, ToSchema)]
pub struct Stats {
    #[schema(value_type = String, format = Date)]
    from: Day,
    #[schema(value_type = String, format = Date)]
    to: Day,
    total: SumsView,
    /// Share of calls that the upstream failed or cut off, from 0 to 1.
    error_share: f64,
    latency: LatencyView,
    by_model: Vec<ModelSums>,
    by_day: Vec<DaySums>,
}

/// Time from admission to the end of a call; `null` without calls.
#[derive(Serialize, ToSchema)]
pub struct LatencyView {
    #[schema(required)]
    p50_ms: Option<u32>,
    #[schema(required)]
    p95_ms: Option<u32>,
}

/// Get statistics of a period
#[utoipa::path(get, path = "/api/v1/usage/stats", tag = "Usage",
    security(("token" = []), ("key" = [])), params(PeriodQuery),
    responses((status = 200, body = Stats), InvalidQuery, Unauthenticated, Unavailable))]
pub async fn stats(
    State(state): State<ControlState>,
    credential: AnyCredential,
    Query(query): Query<PeriodQuery>,
) -> Result<Json<Stats>, ApiError> {
    let today = live::today(&state, &credential, clock::now()).await?;
    let period = Period::asked(query.from.as_deref(), query.to.as_deref(), today)?;
    let (user, Period { from, to }) = (credential.user_id(), period);
    let days = state.store.usage_by_day(user, from, to).await?;
    let models = state.store.usage_by_model(user, from, to).await?;
    let latency = state.store.latency(user, from, to).await?;
    let total: Sums = days.iter().map(|(_, sums)| sums).sum();
    Ok(Json(Stats {
        from,
        to,
        total: total.into(),
        error_share: if total.calls == 0 { 0.0 } else { total.failed as f64 / total.calls as f64 },
        latency: LatencyView { p50_ms: latency.quantile(0.5), p95_ms: latency.quantile(0.95) },
        by_model: model_sums(models),
        by_day: day_sums(period, days),
    }))
}

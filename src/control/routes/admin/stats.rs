//! `GET /api/v1/admin/stats/daily`: what all users used, by day.
//!
//! The store sums up all days of the period, which takes a second for millions of rows. Results are
//! therefore cached: see [`StaleWhileRevalidate`].

use crate::control::api_error::ApiError;
use crate::control::auth::AdminReader;
use crate::control::http::extract::Query;
use crate::control::http::stale_cache::StaleWhileRevalidate;
use crate::control::openapi::errors::{AdminReaderRequired, InvalidQuery, Unavailable};
use crate::control::routes::usage::stats::PeriodQuery;
use crate::control::state::ControlState;
use crate::control::views::period::Period;
use crate::control::views::usage::{DaySums, SumsView, day_sums};
use axum::Json;
use axum::extract::State;
use domain::day::Day;
use jiff::tz::TimeZone;
use serde::Serialize;
use std::sync::Arc;
use std::time::Duration;
use store::reports::{DayTotals, Latency, Sums};
use system::clock;
use utoipa::ToSchema;

/// Cached totals by period.
pub type DailyTotals = StaleWhileRevalidate<(Day, Day), Vec<DayTotals>>;

/// A cache for minutes, as the totals cover days.
#[must_use]
pub fn daily_totals() -> DailyTotals {
    StaleWhileRevalidate::new(Duration::from_secs(60), Duration::from_secs(15 * 60))
}

/// What all users used in a period. Days are those of the users' plans.
#[derive(Serialize, ToSchema)]
pub struct DailyStats {
    #[schema(value_type = String, format = Date)]
    from: Day,
    #[schema(value_type = String, format = Date)]
    to: Day,
    total: SumsView,
    /// Share of calls that the upstream failed or cut off, from 0 to 1.
    error_share: f64,
    latency: LatencyShares,
    by_day: Vec<DaySums>,
}

/// Time from admission to the end of a call; `null` without calls.
#[derive(Serialize, ToSchema)]
#[expect(clippy::struct_field_names, reason = "the names of the JSON fields")]
pub struct LatencyShares {
    #[schema(required)]
    p50_ms: Option<u32>,
    #[schema(required)]
    p95_ms: Option<u32>,
    #[schema(required)]
    p99_ms: Option<u32>,
}

/// Get daily totals
///
/// What all users used. Cached: at most one minute old if requested regularly, otherwise up to 15 minutes.
#[utoipa::path(get, path = "/api/v1/admin/stats/daily", tag = "Admin",
    security(("token" = [])), params(PeriodQuery),
    responses((status = 200, body = DailyStats), InvalidQuery, AdminReaderRequired, Unavailable))]
pub async fn daily(
    State(state): State<ControlState>,
    _reader: AdminReader,
    Query(query): Query<PeriodQuery>,
) -> Result<Json<DailyStats>, ApiError> {
    let today = Day::at(clock::now(), &TimeZone::UTC);
    let period = Period::asked(query.from.as_deref(), query.to.as_deref(), today)?;
    let days = of_period(&state, period).await?;
    let total: Sums = days.iter().map(|day| &day.sums).sum();
    let latency: Latency = days.iter().map(|day| &day.latency).sum();
    Ok(Json(DailyStats {
        from: period.from,
        to: period.to,
        total: total.into(),
        error_share: error_share(&total),
        latency: LatencyShares {
            p50_ms: latency.quantile(0.5),
            p95_ms: latency.quantile(0.95),
            p99_ms: latency.quantile(0.99),
        },
        by_day: day_sums(period, days.iter().map(|day| (day.day, day.sums)).collect()),
    }))
}

/// What all users used on each day of a period that had a call.
pub async fn of_period(
    state: &ControlState,
    Period { from, to }: Period,
) -> Result<Arc<Vec<DayTotals>>, ApiError> {
    let store = Arc::clone(&state.store);
    let query = async move { store.totals_by_day(from, to).await };
    Ok(state.daily_totals.get((from, to), clock::instant(), query).await?)
}

/// The share of calls that the upstream failed or cut off, from 0 to 1.
#[must_use]
pub fn error_share(sums: &Sums) -> f64 {
    if sums.calls == 0 { 0.0 } else { sums.failed as f64 / sums.calls as f64 }
}

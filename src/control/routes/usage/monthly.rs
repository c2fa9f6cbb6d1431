//! `GET /api/v1/usage/monthly`: usage of a month by day.

use super::live;
use crate::control::api_error::ApiError;
use crate::control::auth::AnyCredential;
use crate::control::http::extract::Query;
use crate::control::openapi::errors::{InvalidQuery, Unauthenticated, Unavailable};
use crate::control::state::ControlState;
use crate::control::views::period::Period;
use crate::control::views::usage::{DaySums, SumsView, day_sums};
use axum::Json;
use axum::extract::State;
use serde::{Deserialize, Serialize};
use store::reports::Sums;
use system::clock;
use utoipa::{IntoParams, ToSchema};

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct MonthQuery {
    /// Default: the current month.
    #[param(pattern = "^[0-9]{4}-(0[1-9]|1[0-2])$", example = "2026-09")]
    month: Option<String>,
}

/// Usage of a month by day, including days without calls.
#[derive(Serialize, ToSchema)]
pub struct MonthlyUsage {
    #[schema(example = "2026-09")]
    month: String,
    total: SumsView,
    days: Vec<DaySums>,
}

/// Get a month's usage by day
#[utoipa::path(get, path = "/api/v1/usage/monthly", tag = "Usage",
    security(("token" = []), ("key" = [])), params(MonthQuery),
    responses((status = 200, body = MonthlyUsage), InvalidQuery, Unauthenticated, Unavailable))]
pub async fn monthly(
    State(state): State<ControlState>,
    credential: AnyCredential,
    Query(query): Query<MonthQuery>,
) -> Result<Json<MonthlyUsage>, ApiError> {
    let today = live::today(&state, &credential, clock::now()).await?;
    let period = Period::month(query.month.as_deref(), today)?;
    let days = state.store.usage_by_day(credential.user_id(), period.from, period.to).await?;
    let total: Sums = days.iter().map(|(_, sums)| sums).sum();
    Ok(Json(MonthlyUsage {
        month: period.from.0.strftime("%Y-%m").to_string(),
        total: total.into(),
        days: day_sums(period, days),
    }))
}

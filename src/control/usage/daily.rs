//! `GET /api/v1/usage/daily`: today by hour and model.

use super::sums::SumsView;
use crate::account::day::Day;
use crate::clock;
use crate::control::ControlState;
use crate::control::api_error::ApiError;
use crate::control::auth::Reader;
use crate::control::openapi::{Away, NotReader};
use crate::control::usage::live;
use crate::store::reports::Sums;
use axum::Json;
use axum::extract::State;
use jiff::{Timestamp, ToSpan};
use serde::Serialize;
use utoipa::ToSchema;

/// A day by its hours.
#[derive(Serialize, ToSchema)]
pub struct DailyUsage {
    #[schema(value_type = String, format = Date)]
    day: Day,
    total: SumsView,
    hours: Vec<Hour>,
}

/// An hour; one without calls has no models.
#[derive(Serialize, ToSchema)]
pub struct Hour {
    starts_at: Timestamp,
    total: SumsView,
    models: Vec<ModelSums>,
}

/// A model and what was used of it.
#[derive(Serialize, ToSchema)]
pub struct ModelSums {
    #[schema(example = "grok-4.3")]
    pub model: String,
    #[serde(flatten)]
    pub sums: SumsView,
}

/// Today by hour and model
#[utoipa::path(get, path = "/api/v1/usage/daily", tag = "Usage",
    security(("token" = []), ("key" = [])),
    responses((status = 200, body = DailyUsage), NotReader, Away))]
pub async fn daily(
    State(state): State<ControlState>,
    reader: Reader,
) -> Result<Json<DailyUsage>, ApiError> {
    let now = clock::now();
    let zone = live::limits(&state, &reader).await?.time_zone;
    let day = Day::at(now, &zone);
    let (begins, ends) = (day.starts_at(&zone), day.ends_at(&zone));
    let rows = state.store.usage_by_hour(reader.id(), begins, ends).await?;
    let hours = hours(begins, now, &rows);
    let total: Sums =
        state.store.usage_by_day(reader.id(), day, day).await?.iter().map(|(_, sums)| sums).sum();
    Ok(Json(DailyUsage { day, total: total.into(), hours }))
}

/// Every hour of the clock that has begun. Where the day begins between two, the first of them has calls
/// of the day before in it, and the total has not.
fn hours(begins: Timestamp, now: Timestamp, rows: &[(Timestamp, String, Sums)]) -> Vec<Hour> {
    let since_hour = begins.as_second().rem_euclid(3600).seconds();
    let first = begins.checked_sub(since_hour).unwrap_or(begins);
    let starts = std::iter::successors(Some(first), |hour| hour.checked_add(1.hour()).ok());
    starts.take_while(|start| *start <= now).map(|start| hour(start, rows)).collect()
}

fn hour(starts_at: Timestamp, rows: &[(Timestamp, String, Sums)]) -> Hour {
    let ends_at = starts_at.checked_add(1.hour()).unwrap_or(Timestamp::MAX);
    let inside = |row: &&(Timestamp, String, Sums)| row.0 >= starts_at && row.0 < ends_at;
    let rows: Vec<_> = rows.iter().filter(inside).collect();
    let total: Sums = rows.iter().map(|(_, _, sums)| sums).sum();
    let models = rows
        .iter()
        .map(|(_, model, sums)| ModelSums { model: model.clone(), sums: (*sums).into() })
        .collect();
    Hour { starts_at, total: total.into(), models }
}
